"""What a training leaves: its folder, its checkpoint while it lasts, and how both are read back."""

from .folder import Run as Run
from .folder import load_pretrained as load_pretrained
from .folder import read_run as read_run
from .folder import save_run as save_run
from .folder import train_run as train_run
