"""What a training leaves: its folder, its checkpoint while it lasts, and how both are read back."""

from .folder import Run, load_pretrained, read_run, save_run, train_run

__all__ = ["Run", "load_pretrained", "read_run", "save_run", "train_run"]
