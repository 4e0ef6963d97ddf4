"""Looking inside a network: its layers, what one output sees of the image, and its autograd graph."""

import contextlib
import io
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .data import NUMBERS, InputError
from .models import TwoInputNet

SIDE = 28  # pixels


class OneInput(nn.Module):
    """A single-input view of a two-input network: ``[B, 794]``, the image's pixels and then the number.

    torchsummary 1.5.1 multiplies out the shapes of all inputs and of every child's outputs, and fails where
    they differ. So the view takes one tensor, and the network's layers, not the network, are its children.
    """

    def __init__(self, model: TwoInputNet) -> None:
        super().__init__()
        self._forward = model.forward  # a method, not a module: no child of this one
        for name, child in model.named_children():
            self.add_module(name, child)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        image, number = x.split([SIDE**2, NUMBERS], 1)
        return self._forward(image.view(-1, 1, SIDE, SIDE), number)


def layer_table(model: TwoInputNet) -> str:
    """torchsummary's table of layers, output shapes and parameters. The model is on the CPU."""
    from torchsummary import summary

    was_training = model.training
    view = OneInput(model).eval()  # the made-up batch must not reach BatchNorm's running statistics
    with contextlib.redirect_stdout(io.StringIO()) as table, torch.random.fork_rng(devices=[]):
        summary(view, (SIDE**2 + NUMBERS,), device="cpu")
    model.train(was_training)
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


def receptive_fields(cnn: nn.Sequential) -> list[Field]:
    """The receptive field after each convolution and pooling layer, computed from the modules.

    With kernel k, stride s and the jump j before the layer, the field grows by (k − 1) · j and the jump
    becomes j · s (Araujo, Norris, Sim 2019, "Computing receptive fields of convolutional neural networks",
    equations 1 and 2).
    """
    rows, side, jump, field = [], SIDE, 1, 1
    for layer in cnn:
        if not isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            continue  # sees no neighbours
        kernel, stride, padding = (
            value if isinstance(value, int) else value[0]
            for value in (layer.kernel_size, layer.stride, layer.padding)
        )
        field += (kernel - 1) * jump
        jump *= stride
        side = (side + 2 * padding - kernel) // stride + 1
        rows.append(Field(type(layer).__name__, kernel, stride, padding, side, jump, min(field, SIDE)))
    return rows


def receptive_field_table(cnn: nn.Sequential) -> str:
    """`receptive_fields` as text."""
    lines = [f"{'layer':14}" + "".join(f"{name:>9}" for name in Field._fields[1:])]
    for row in receptive_fields(cnn):
        lines.append(f"{row.layer:14}" + "".join(f"{value:9}" for value in row[1:]))
    return "\n".join(lines)


def autograd_graph(model: TwoInputNet):
    """torchviz's graph of one forward pass, as a `graphviz.Digraph`.

    Blue boxes are parameters, grey ones operations, green ones the outputs that backward starts from.
    """
    from torchviz import make_dot

    device = next(model.parameters()).device
    image = torch.zeros(2, 1, SIDE, SIDE, device=device)
    number = torch.eye(NUMBERS, device=device)[:2]
    was_training = model.training
    outputs = model.eval()(image, number)
    model.train(was_training)
    return make_dot(outputs, params=dict(model.named_parameters()))


def save_graph(model: TwoInputNet, path: str | Path) -> Path:
    """Write the autograd graph's source to `path` (``.gv``) and render a PNG beside it.

    Rendering needs the program ``dot``; without it a line says so and only the source is written.

    Returns:
        The picture, or the source where there is no ``dot``.
    """
    import graphviz

    path, graph = Path(path).with_suffix(".gv"), autograd_graph(model)
    try:
        graph.save(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    try:
        return Path(graphviz.render("dot", "png", path, outfile=path.with_suffix(".png")))
    except graphviz.ExecutableNotFound:
        print(f"{path} is not drawn: the program dot is not installed (apt-get install graphviz)")
        return path
