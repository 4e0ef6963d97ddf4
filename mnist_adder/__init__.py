"""MNIST Adder: a network with two inputs, an image and a number, and two outputs, the digit and the sum.

The public names, which ``__init__.pyi`` lists, are loaded when they are first used: ``import mnist_adder`` is quick.
"""

import ast
import importlib
from pathlib import Path

__version__ = "0.2.0"

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text())
_IMPORTS = [node for node in _STUB.body if isinstance(node, ast.ImportFrom)]
_HOME = {alias.name: f".{node.module}" for node in _IMPORTS for alias in node.names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
