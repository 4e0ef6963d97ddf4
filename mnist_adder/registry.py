"""A network from its name, from a function that makes it, or from another network."""

import copy
import importlib
from collections.abc import Callable

from torch import nn

from .errors import InputError
from .recipes import MODELS

Network = str | nn.Module | Callable[[], nn.Module]


def build(model: Network) -> nn.Module:
    """A network from a name in `recipes.MODELS`, "package.module:Name", or any function or class that makes one.

    A network itself is copied, with its weights. `InputError` for anything that makes no network.
    """
    if isinstance(model, nn.Module):
        return copy.deepcopy(model)
    if isinstance(model, str):
        module, _, name = MODELS.get(model, model).partition(":")
        try:
            model = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise InputError(f"there is no network {module}:{name} ({error})") from error
    network = model() if callable(model) else None
    if not isinstance(network, nn.Module):
        raise InputError(f"{model!r} makes no network: it must return an nn.Module")
    return network


def name_of(model: Network) -> str:
    """A network as "package.module:Name"."""
    if isinstance(model, str):
        return MODELS.get(model, model)
    maker = type(model) if isinstance(model, nn.Module) else model
    return f"{maker.__module__}:{maker.__qualname__}"
