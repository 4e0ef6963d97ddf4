"""MNIST Adder: a network with two inputs, an image and a number, and two outputs, the digit and the sum.

The public names below are loaded when first used, so that ``import mnist_adder`` is quick.
"""

import importlib

__version__ = "0.1.0"

_HOME = {
    "data": ("AdderDataset", "Batches", "Data", "InputError", "Sample", "Split", "load_data"),
    "models": (
        "AdderMLP",
        "AdderNet",
        "DigitCNN",
        "ExactAdder",
        "ExactAdderNet",
        "TwoInputNet",
        "parameter_count",
    ),
    "losses": ("total_loss",),
    "recipes": ("RECIPES", "Recipe"),
    "training": ("fit", "gpu_check", "lr_range"),
    "evaluation": ("Evaluation", "evaluate"),
    "inspection": ("autograd_graph", "layer_table", "receptive_field_table", "save_graph"),
    "runs": ("load_pretrained", "read_run", "save_run"),
    "comparison": ("compare",),
    "prediction": ("Prediction", "predict", "read_image", "to_mnist"),
}
__all__ = sorted(name for names in _HOME.values() for name in names)


def __getattr__(name: str):
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
