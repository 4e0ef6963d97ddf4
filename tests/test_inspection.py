"""Layer table, receptive fields and graph, against the networks themselves."""

import copy
import re
import shutil

import pytest
import torch
from helpers import refusal, same
from torch import nn

from mnist_adder.inspection import (
    autograd_graph,
    layer_table,
    receptive_field_table,
    receptive_fields,
    save_graph,
    show_source,
)
from mnist_adder.models import AdderMLP, AdderNet, NumberLineNet, QuickNet, parameter_count

NETWORKS = [AdderNet, QuickNet, NumberLineNet]


def test_source_is_shown_without_docstrings():
    code = show_source(AdderMLP, AdderNet.features).data
    for line in ("class AdderMLP(nn.Module):", "digit = probs + (sharp - probs).detach()"):
        assert line in code
    assert "\n\ndef features(self, image: Tensor) -> Tensor:\n    return F.log_softmax" in code
    assert '"""' not in code


@pytest.mark.parametrize("network", NETWORKS)
def test_the_layer_table_counts_every_parameter(network, capsys):
    model = network()
    table = layer_table(model)
    assert f"Total params: {parameter_count(model.cnn):,}" in table
    assert f"adder, {parameter_count(model.adder):,} parameters" in table
    assert f"all parameters: {parameter_count(model):,}" in table
    rows = re.findall(r"^\s+\w+-\d+\s+\[-1, [\d, ]+\]\s+([\d,]+)$", table, re.MULTILINE)
    assert sum(int(count.replace(",", "")) for count in rows) == parameter_count(model.cnn)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
def test_looking_changes_nothing(precision):
    model = AdderNet().to(precision)
    model.cnn[1].eval()
    before = copy.deepcopy(model)
    random = torch.random.get_rng_state()
    layer_table(model)
    autograd_graph(model)
    receptive_fields(model.cnn)
    training = [module for module in model.modules() if not module.training]
    assert training == [model.cnn[1]]
    assert torch.equal(torch.random.get_rng_state(), random)
    assert same(model, before)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_network_without_a_cnn_is_printed():
    table = layer_table(nn.ModuleDict({"digit": nn.Linear(784, 10)}))
    assert "digit, 7,850 parameters" in table and "Linear(in_features=784" in table


def seen(layers: list[nn.Module]) -> tuple[int, int]:
    """Return by autograd what one output sees of a large image, and the side of MNIST's output.

    All weights are positive, so that no path from a pixel to an output cancels another.
    """
    image = torch.ones(1, 1, 150, 150, requires_grad=True)
    out = image
    side = torch.ones(1, 1, 28, 28)
    for layer in layers:
        kernel = layer.kernel_size
        dilation = layer.dilation if isinstance(layer, nn.Conv2d) else 1
        size = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        ones = torch.ones(1, 1, *size)
        settings = {"stride": layer.stride, "dilation": dilation}
        out = nn.functional.conv2d(out, ones, **settings)
        side = nn.functional.conv2d(side, ones, padding=layer.padding, **settings)
    (gradient,) = torch.autograd.grad(out[0, 0, 0, 0], image)
    return min(int(gradient.nonzero().max()) + 1, 28), side.shape[-1]


STACKS = {
    "adder": [layer for layer in AdderNet().cnn if hasattr(layer, "kernel_size")],
    "speedrun": [layer for layer in QuickNet().cnn if hasattr(layer, "kernel_size")],
    "own": [
        nn.Conv2d(1, 1, 5, 2, 1),
        nn.AvgPool2d(3, 1),
        nn.Conv2d(1, 1, 2, dilation=2),
        nn.MaxPool2d(2, 3),
        nn.Conv2d(1, 1, 2, padding=1),
    ],
}


@pytest.mark.parametrize("stack", STACKS)
def test_receptive_fields_against_autograd(stack):
    layers = STACKS[stack]
    rows = receptive_fields(nn.Sequential(*layers))
    assert [row.layer for row in rows] == [type(layer).__name__ for layer in layers]
    for end, row in enumerate(rows, 1):
        assert (row.field, row.output) == seen(layers[:end]), row


def test_the_receptive_field_table_has_a_line_for_each_layer():
    cnn = AdderNet().cnn
    lines = receptive_field_table(cnn).splitlines()
    assert lines[0].split() == ["layer", "kernel", "stride", "padding", "output", "jump", "field"]
    assert [line.split() for line in lines[1:]] == [
        [str(value) for value in row] for row in receptive_fields(cnn)
    ]


@pytest.mark.parametrize("layer", [nn.Conv2d(1, 1, (3, 5)), nn.AdaptiveAvgPool2d(1)])
def test_layers_without_one_receptive_field_are_refused(layer):
    assert type(layer).__name__ in refusal(receptive_fields, nn.Sequential(layer))


def test_the_graph_names_the_parameters_and_both_outputs():
    model = NumberLineNet()
    source = autograd_graph(model).source
    blue = re.findall(r'label="([\w.]+)\n [^"]*" fillcolor=lightblue', source)
    assert set(blue) == {name for name, _ in model.named_parameters()}
    assert source.count("fillcolor=darkolivegreen1") == 2


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs the program dot (graphviz)")
def test_save_graph_draws(tmp_path):
    picture = save_graph(AdderNet(), tmp_path / "graph.gv")
    assert picture == tmp_path / "graph.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "graph.gv").read_text().startswith("digraph")


def test_save_graph_without_dot(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    written = save_graph(AdderNet(), tmp_path / "graph")
    assert written == tmp_path / "graph.gv"
    assert written.read_text().startswith("digraph")
    assert [path.name for path in tmp_path.iterdir()] == ["graph.gv"]
    assert "dot is not installed" in capsys.readouterr().out
