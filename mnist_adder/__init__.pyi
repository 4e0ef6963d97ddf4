"""The public names, for type checkers; ``__init__.py`` reads the same list."""
# fmt: off
# isort: skip_file

from .checks import InputError as InputError
from .data import AdderDataset as AdderDataset, Data as Data, Loader as Loader, Sample as Sample, Split as Split
from .devices import gpu_check as gpu_check
from .evaluation import Evaluation as Evaluation, evaluate as evaluate
from .inspection import (
    autograd_graph as autograd_graph, layer_table as layer_table, receptive_field_table as receptive_field_table,
    save_graph as save_graph,
)
from .losses import total_loss as total_loss
from .models import (
    AdderMLP as AdderMLP, AdderNet as AdderNet, DigitCNN as DigitCNN, ExactAdder as ExactAdder,
    ExactAdderNet as ExactAdderNet, NumberLine as NumberLine, TwoInputNet as TwoInputNet, build as build,
    parameter_count as parameter_count,
)
from .prediction import Prediction as Prediction, predict as predict, read_image as read_image, to_mnist as to_mnist
from .published.comparison import compare as compare
from .published.recipes import RECIPES as RECIPES
from .range_test import lr_range as lr_range
from .recipes import Recipe as Recipe
from .runs.folder import (
    load_pretrained as load_pretrained, read_run as read_run, save_run as save_run, train_run as train_run,
)
from .sources import load_data as load_data
from .training import Fitted as Fitted, fit as fit
from .withhold import pairs_to_withhold as pairs_to_withhold

__version__: str
