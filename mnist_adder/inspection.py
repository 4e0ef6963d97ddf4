"""Looking inside a network: layers, what one output sees of the image, autograd graph."""

import contextlib
import copy
import io
import re
from collections.abc import Callable
from inspect import getsource
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

import torch
from graphviz import Digraph, ExecutableNotFound
from torch import Tensor, nn
from torchsummary import summary
from torchviz import make_dot

from .data import NUMBERS
from .errors import InputError
from .models import parameter_count

IMAGE_SHAPE = (1, 28, 28)


class Field(NamedTuple):
    """What one output of a layer sees. Lengths are along one side of the image, in pixels."""

    layer: str
    kernel: int
    stride: int
    padding: int | str
    output: int  # the side of what the layer returns
    jump: int  # the distance of neighbouring outputs
    field: int  # the side of what one output sees


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


def receptive_fields(cnn: nn.Module, image_shape: tuple[int, ...] = IMAGE_SHAPE) -> list[Field]:
    """Return the receptive field after each convolution and pooling layer, in order of use.

    With kernel k, dilation d, stride s and the jump j before the layer, the field grows by (k − 1)
    · d · j and the jump becomes j · s (Araujo, Norris, Sim 2019, "Computing receptive fields of
    convolutional neural networks", eq. 1 and 2). Raise `InputError` for a kernel that is not square
    or adaptive pooling, which have no such single figure.
    """
    rows: list[Field] = []

    def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kernel = _side(layer, "kernel_size")
        stride = _side(layer, "stride")
        dilation = _side(layer, "dilation") if hasattr(layer, "dilation") else 1
        padding = layer.padding if isinstance(layer.padding, str) else _side(layer, "padding")
        jump = rows[-1].jump if rows else 1
        before = rows[-1].field if rows else 1
        field = before + (kernel - 1) * dilation * jump
        row = Field(
            layer=type(layer).__name__,
            kernel=kernel,
            stride=stride,
            padding=padding,
            output=output.shape[-1],
            jump=jump * stride,
            field=min(field, image_shape[-1]),
        )
        rows.append(row)

    cnn = copy.deepcopy(cnn).cpu().float().eval()
    for layer in cnn.modules():
        if isinstance(layer, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
            raise InputError(f"{type(layer).__name__} has no receptive field of one size")
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            layer.register_forward_hook(record)
    with torch.no_grad():
        cnn(torch.zeros(1, *image_shape))
    return rows


def _side(layer: nn.Module, name: str) -> int:
    """Return a layer's setting for both sides of the image; raise `InputError` if they differ."""
    value = getattr(layer, name)
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) > 1:
        raise InputError(
            f"{type(layer).__name__} has {name} {value}: its two sides see differently"
        )
    return sides.pop()


def receptive_field_table(cnn: nn.Module) -> str:
    """Return the receptive fields as a text with a line for each layer."""
    lines = []
    for row in (Field._fields, *receptive_fields(cnn)):
        values = "".join(f"{value:>9}" for value in row[1:])
        lines.append(f"{row[0]:14}{values}")
    return "\n".join(lines)


def autograd_graph(model: nn.Module) -> Digraph:
    """Return torchviz's graph: parameters blue, operations grey, outputs green."""
    model = copy.deepcopy(model).cpu().float().eval()
    outputs = model(torch.zeros(2, *IMAGE_SHAPE), torch.eye(NUMBERS)[:2])
    return make_dot(outputs, params=dict(model.named_parameters()))


def save_graph(model: nn.Module, path: str | Path) -> Path:
    """Write the autograd graph to `path` (.gv), draw a PNG beside it, return the PNG's path.

    Without the program ``dot`` it says so and returns the source's path. Raise `InputError` if
    `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file in it, such as graph.gv")
    path = path.with_suffix(".gv")
    graph = autograd_graph(model)
    try:
        return Path(graph.render(path, outfile=path.with_suffix(".png")))
    except ExecutableNotFound:
        print(f"{path} is not drawn: the program dot is not installed (apt-get install graphviz)")
        return path
