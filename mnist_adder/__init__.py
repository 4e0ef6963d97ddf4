"""MNIST Adder: a network with two inputs, an image and a number, and two outputs, the digit and the sum.

The public names, which ``__init__.pyi`` lists, are loaded when they are first used: ``import mnist_adder`` is quick.
"""

import importlib
import re
from pathlib import Path

__version__ = "0.2.0"

_STUB = Path(__file__).with_suffix(".pyi").read_text()
_HOME = {name: module for module, name in re.findall(r"^from (\S+) import (\w+) as", _STUB, re.MULTILINE)}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
