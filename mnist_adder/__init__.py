"""MNIST Adder: a network with two inputs, image and number, and two outputs, digit and sum."""

__version__ = "0.3.0"

from .augment import RandomAffine, RandomElastic
from .data import AdderDataset, Data, Loader, Sample, Split
from .devices import gpu_check
from .errors import InputError
from .evaluation import Evaluation, evaluate
from .inspection import autograd_graph, layer_table, save_graph
from .losses import total_loss
from .models import (
    AdderMLP,
    AdderNet,
    DigitCNN,
    ExactAdder,
    ExactAdderNet,
    NumberLine,
    NumberLineNet,
    TwoInputNet,
    WideNet,
    parameter_count,
)
from .prediction import Prediction, predict, read_image, to_mnist
from .range_test import lr_range
from .recipes import RECIPES, Epochs, Recipe
from .runs import Run, load_pretrained, read_run, save_run, train_run
from .sources import load_data
from .training import Training, fit
from .withhold import pairs_to_withhold

__all__ = [
    "RECIPES",
    "AdderDataset",
    "AdderMLP",
    "AdderNet",
    "Data",
    "DigitCNN",
    "Epochs",
    "Evaluation",
    "ExactAdder",
    "ExactAdderNet",
    "InputError",
    "Loader",
    "NumberLine",
    "NumberLineNet",
    "Prediction",
    "RandomAffine",
    "RandomElastic",
    "Recipe",
    "Run",
    "Sample",
    "Split",
    "Training",
    "TwoInputNet",
    "WideNet",
    "autograd_graph",
    "evaluate",
    "fit",
    "gpu_check",
    "layer_table",
    "load_data",
    "load_pretrained",
    "lr_range",
    "pairs_to_withhold",
    "parameter_count",
    "predict",
    "read_image",
    "read_run",
    "save_graph",
    "save_run",
    "to_mnist",
    "total_loss",
    "train_run",
]
