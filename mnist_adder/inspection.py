"""Looking inside a network: its layers, what one output sees of the image, and its autograd graph."""

import contextlib
import copy
import io
from collections import namedtuple
from pathlib import Path

import torch
from graphviz import ExecutableNotFound
from torch import nn
from torchsummary import summary
from torchviz import make_dot

from .checks import InputError
from .data import NUMBERS

SIDE = 28  # pixels
# The jump is the distance of neighbouring outputs and the field is the side of what one output sees, both in pixels.
Field = namedtuple("Field", "layer kernel stride padding output jump field")


def layer_table(model: nn.Module) -> str:
    """torchsummary's table of the layers of a network with the two inputs: output shapes and parameters."""
    model = copy.deepcopy(model).cpu().float().eval()  # the made-up batch must not reach the original
    # torchsummary 1.5.1 fails where a module has several inputs or outputs. So it gets one input, the pixels and then
    # the number, and modules without children only. It counts only parameters that are called weight or bias.
    view = nn.Sequential(*(layer for layer in model.modules() if not list(layer.children())))
    view.forward = lambda x: model(x[:, :-NUMBERS].view(-1, 1, SIDE, SIDE), x[:, -NUMBERS:])
    for layer in view:
        if not hasattr(layer, "weight") and list(layer.parameters()):
            layer.weight = nn.utils.parameters_to_vector(layer.parameters())
    with contextlib.redirect_stdout(io.StringIO()) as table, torch.random.fork_rng(devices=[]):
        summary(view, (SIDE**2 + NUMBERS,), device="cpu")
    return table.getvalue().strip("\n")


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
    """The receptive field after each convolution and pooling layer, as a text with a line for each."""
    rows = [Field._fields, *receptive_fields(cnn)]
    return "\n".join(f"{row[0]:14}" + "".join(f"{value:>9}" for value in row[1:]) for row in rows)


def autograd_graph(model: nn.Module):
    """torchviz's graph of one forward pass, a `graphviz.Digraph`: parameters blue, operations grey, outputs green."""
    model = copy.deepcopy(model).cpu().float().eval()
    outputs = model(torch.zeros(2, 1, SIDE, SIDE), torch.eye(NUMBERS)[:2])
    return make_dot(outputs, params=dict(model.named_parameters()))


def save_graph(model: nn.Module, path: str | Path) -> Path:
    """Write the autograd graph's source to `path` (``.gv``), draw a PNG beside it, and return the picture's path.

    Without the program ``dot`` it says so and returns the source's path. `InputError` if `path` is a folder.
    """
    if Path(path).is_dir():
        raise InputError(f"{path} is a folder: name a file in it, such as graph.gv")
    path = Path(path).with_suffix(".gv")
    try:
        return Path(autograd_graph(model).render(path, outfile=path.with_suffix(".png")))
    except ExecutableNotFound:
        print(f"{path} is not drawn: the program dot is not installed (apt-get install graphviz)")
        return path
