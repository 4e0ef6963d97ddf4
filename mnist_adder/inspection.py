"""Looking inside a network: its layers, what one output sees of the image, and its autograd graph."""

import contextlib
import copy
import io
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from .data import NUMBERS
from .errors import InputError

SIDE = 28  # pixels


def layer_table(model: nn.Module) -> str:
    """torchsummary's table of the layers of a network with the two inputs: output shapes and parameters."""
    from torchsummary import summary

    model = copy.deepcopy(model).cpu().float().eval()  # the made-up batch must not reach the original
    # torchsummary 1.5.1 multiplies out the shapes of all inputs and of every module's outputs, and fails where
    # they differ. So it gets one input, the pixels and then the number, and modules without children only.
    view = nn.Sequential(*(layer for layer in model.modules() if not list(layer.children())))
    view.forward = lambda x: model(x[:, :-NUMBERS].view(-1, 1, SIDE, SIDE), x[:, -NUMBERS:])
    with contextlib.redirect_stdout(io.StringIO()) as table, torch.random.fork_rng(devices=[]):
        summary(view, (SIDE**2 + NUMBERS,), device="cpu")
    return table.getvalue().strip("\n")


class Field(NamedTuple):
    """A row of the receptive-field table; lengths are along one side, in pixels of the input."""

    layer: str
    kernel: int
    stride: int
    padding: int
    output: int  # side of the layer's output
    jump: int  # distance between neighbouring outputs
    field: int  # side of the square one output can see; never more than the image


def receptive_fields(cnn: nn.Module) -> list[Field]:
    """The receptive field after each convolution and pooling layer, in the order of the modules.

    With kernel k, stride s and the jump j before the layer, the field grows by (k − 1) · j and the jump becomes
    j · s (Araujo, Norris, Sim 2019, "Computing receptive fields of convolutional neural networks", eq. 1 and 2).
    """
    rows, side, jump, field = [], SIDE, 1, 1
    for layer in cnn.modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            sizes = layer.kernel_size, layer.stride, layer.padding
            kernel, stride, padding = (size if isinstance(size, int) else size[0] for size in sizes)
            field += (kernel - 1) * jump
            jump *= stride
            side = (side + 2 * padding - kernel) // stride + 1
            rows.append(Field(type(layer).__name__, kernel, stride, padding, side, jump, min(field, SIDE)))
    return rows


def receptive_field_table(cnn: nn.Module) -> str:
    """`receptive_fields` as text."""
    rows = [Field._fields, *receptive_fields(cnn)]
    return "\n".join(f"{row[0]:14}" + "".join(f"{value:>9}" for value in row[1:]) for row in rows)


def autograd_graph(model: nn.Module):
    """torchviz's graph of one forward pass, as a `graphviz.Digraph`.

    Blue boxes are parameters, grey ones operations, green ones the outputs that backward starts from.
    """
    from torchviz import make_dot

    model = copy.deepcopy(model).cpu().float().eval()
    outputs = model(torch.zeros(2, 1, SIDE, SIDE), torch.eye(NUMBERS)[:2])
    return make_dot(outputs, params=dict(model.named_parameters()))


def save_graph(model: nn.Module, path: str | Path) -> Path:
    """Write the autograd graph's source to `path` (``.gv``) and render a PNG beside it.

    Returns the picture's path, or without the program ``dot`` says so and returns the source's.
    """
    from graphviz import ExecutableNotFound

    if Path(path).is_dir():
        raise InputError(f"{path} is a folder: name a file in it, such as graph.gv")
    path = Path(path).with_suffix(".gv")
    try:
        return Path(autograd_graph(model).render(path, outfile=path.with_suffix(".png")))
    except ExecutableNotFound:
        print(f"{path} is not drawn: the program dot is not installed (apt-get install graphviz)")
        return path
