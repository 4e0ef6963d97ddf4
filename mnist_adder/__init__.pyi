"""The public names, for type checkers; ``__init__.py`` reads the same list."""

from .checks import InputError as InputError
from .data import AdderDataset as AdderDataset
from .data import Data as Data
from .data import Loader as Loader
from .data import Sample as Sample
from .data import Split as Split
from .devices import gpu_check as gpu_check
from .evaluation import Evaluation as Evaluation
from .evaluation import evaluate as evaluate
from .inspection import autograd_graph as autograd_graph
from .inspection import layer_table as layer_table
from .inspection import receptive_field_table as receptive_field_table
from .inspection import save_graph as save_graph
from .losses import total_loss as total_loss
from .models import AdderMLP as AdderMLP
from .models import AdderNet as AdderNet
from .models import DigitCNN as DigitCNN
from .models import ExactAdder as ExactAdder
from .models import ExactAdderNet as ExactAdderNet
from .models import NumberLine as NumberLine
from .models import TwoInputNet as TwoInputNet
from .models import build as build
from .models import parameter_count as parameter_count
from .prediction import Prediction as Prediction
from .prediction import predict as predict
from .prediction import read_image as read_image
from .prediction import to_mnist as to_mnist
from .published.comparison import compare as compare
from .published.recipes import RECIPES as RECIPES
from .range_test import lr_range as lr_range
from .recipes import Recipe as Recipe
from .runs.folder import load_pretrained as load_pretrained
from .runs.folder import read_run as read_run
from .runs.folder import save_run as save_run
from .runs.folder import train_run as train_run
from .sources import load_data as load_data
from .training import Fitted as Fitted
from .training import fit as fit
from .withhold import pairs_to_withhold as pairs_to_withhold

__version__: str
