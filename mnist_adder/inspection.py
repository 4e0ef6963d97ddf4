"""Looking inside a network: its source, its layers, its autograd graph."""

import contextlib
import copy
import io
import re
from collections.abc import Callable
from inspect import getsource
from pathlib import Path
from textwrap import dedent
from typing import Any

import torch
from graphviz import Digraph, ExecutableNotFound
from torch import nn
from torchsummary import summary
from torchviz import make_dot

from .data import NUMBERS
from .files import must_be_new
from .models import parameter_count

IMAGE_SHAPE = (1, 28, 28)


def show_source(*things: Callable[..., Any]) -> Any:
    """Return the source of classes and functions, without docstrings, for a notebook to show."""
    from IPython.display import Code

    source = "\n\n".join(dedent(getsource(thing)) for thing in things)
    return Code(re.sub(r'\n *r?"""[\s\S]*?"""', "", source), language="python")


def layer_table(model: nn.Module) -> str:
    """Return torchsummary's table of a network's ``cnn``, then its other parts and all parameters.

    torchsummary 1.5.1 fails on a network with two inputs, so it is given the CNN. A network without
    a part named ``cnn`` is only printed.
    """
    lines = []
    for name, part in model.named_children():
        lines.append(f"\n{name}, {parameter_count(part):,} parameters:")
        lines.append(_summary(part) if name == "cnn" else str(part))
    lines.append(f"\nall parameters: {parameter_count(model):,}")
    return "\n".join(lines).strip()


def _summary(cnn: nn.Module) -> str:
    """Return torchsummary's table of a CNN; the CNN and the random generators stay as they are."""
    cnn = copy.deepcopy(cnn).cpu().float().eval()
    table = io.StringIO()
    with contextlib.redirect_stdout(table), torch.random.fork_rng(devices=[]):
        summary(cnn, IMAGE_SHAPE, device="cpu")
    return table.getvalue().strip("\n")


def autograd_graph(model: nn.Module) -> Digraph:
    """Return torchviz's graph: parameters blue, operations grey, outputs green."""
    model = copy.deepcopy(model).cpu().float().eval()
    outputs = model(torch.zeros(2, *IMAGE_SHAPE), torch.eye(NUMBERS)[:2])
    return make_dot(outputs, params=dict(model.named_parameters()))


def save_graph(model: nn.Module, path: str | Path) -> Path:
    """Write the autograd graph to `path` (.gv), draw a PNG beside it, return the PNG's path.

    Without the program ``dot`` it says so and returns the source's path. Raise `InputError` if one
    of the two is there already.
    """
    path = Path(path)
    must_be_new(path)
    source = path.with_suffix(".gv")
    picture = path.with_suffix(".png")
    must_be_new(source)
    must_be_new(picture)
    try:
        return Path(autograd_graph(model).render(source, outfile=picture))
    except ExecutableNotFound:
        print(f"{source} is not drawn: the program dot is not installed (apt-get install graphviz)")
        return source
