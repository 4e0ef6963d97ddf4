"""Layer table, receptive fields and graph against the networks themselves."""

import re
import shutil

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from mnist_adder.checks import InputError
from mnist_adder.inspection import autograd_graph, layer_table, receptive_field_table, receptive_fields, save_graph
from mnist_adder.models import AdderNet, parameter_count
from mnist_adder.published.networks import Cascade


def test_layer_table_counts_every_parameter(network, capsys):
    table = layer_table(network)
    assert f"Total params: {parameter_count(network):,}" in table
    rows = re.findall(r"^\s+(\w+)-\d+\s+\[-1, ([\d, ]+)\]\s+([\d,]+)$", table, re.MULTILINE)
    assert sum(int(count.replace(",", "")) for *_, count in rows) == parameter_count(network)
    assert rows[0][1].endswith(("28, 28", "26, 26", "24, 24", "12, 12"))  # pixels after the first convolution
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("training", [True, False])
def test_looking_changes_nothing(network, training):
    network.train(training)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random = torch.random.get_rng_state()
    layer_table(network)
    autograd_graph(network)
    assert all(module.training is training for module in network.modules())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def probe(layers: list[nn.Module], field: int) -> tuple[int, int]:
    """What the centre output of a network sees of the image, by autograd; and its number of outputs.

    A field as large as the image is cut off by its edges; then what all outputs see together.

    With all weights positive, no path from a pixel to an output can cancel another.
    """
    image = torch.ones(1, 1, 28, 28, requires_grad=True)
    out = image
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            options = {"stride": layer.stride, "padding": layer.padding}
            out = nn.functional.conv2d(out, torch.ones_like(layer.weight) / layer.weight[0].numel(), **options)
        elif isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
            out = nn.functional.avg_pool2d(out, layer.kernel_size, layer.stride, layer.padding)
    side = out.shape[-1]
    (out if field == 28 else out[0, :, side // 2, side // 2]).sum().backward()
    seen = image.grad[0, 0].abs() > 0
    return int(seen.any(0).sum()), side


def test_receptive_fields_against_autograd(network):
    layers = [layer for layer in network.cnn if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d)]
    covered, _ = probe(layers[:1], 28)  # a stride may leave out the last row and column
    for end, row in enumerate(receptive_fields(network.cnn), 1):
        assert row.layer == type(layers[end - 1]).__name__
        assert (min(row.field, covered), row.output) == probe(layers[:end], row.field), row
    assert end == len(layers)


def conv(kernel: int, stride: int, padding: int) -> nn.Conv2d:
    return nn.Conv2d(1, 1, kernel, stride, padding)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([conv, nn.MaxPool2d, nn.AvgPool2d]),
            st.integers(1, 5),  # kernel
            st.integers(1, 3),  # stride
            st.integers(0, 2),  # padding
        ),
        min_size=1,
        max_size=4,
    )
)
def test_receptive_fields_of_any_network_against_autograd(specs):
    canvas = torch.ones(1, 1, 200, 200, requires_grad=True)  # too large for an edge to cut a field off
    layers, seeing, image = [], canvas, torch.ones(1, 1, 28, 28)
    for kind, kernel, stride, padding in specs:
        padding = min(padding, kernel // 2)  # PyTorch's limit for pools
        if image.shape[-1] + 2 * padding < kernel:
            break  # nothing would come out
        layers.append(kind(kernel, stride, padding))
        image = layers[-1](image)
        seeing = nn.functional.avg_pool2d(seeing, kernel, stride)
        row = receptive_fields(nn.Sequential(*layers))[-1]
        (gradient,) = torch.autograd.grad(seeing[0, 0, 0, 0], canvas, retain_graph=True)
        assert row.field == min(int(gradient.nonzero().max()) + 1, 28)
        assert row.output == image.shape[-1]


def test_the_published_cascade_sees_the_whole_image():
    assert receptive_fields(Cascade().cnn)[-1].field == 28


def test_receptive_field_table_has_a_line_per_layer():
    cnn = Cascade().cnn
    lines = receptive_field_table(cnn).splitlines()
    assert lines[0].split() == ["layer", "kernel", "stride", "padding", "output", "jump", "field"]
    assert [line.split() for line in lines[1:]] == [[*map(str, row)] for row in receptive_fields(cnn)]


def test_graph_colours(network):
    source = autograd_graph(network).source
    blue = re.findall(r'label="([\w.]+)\n [^"]*" fillcolor=lightblue', source)
    assert set(blue) == {name for name, _ in network.named_parameters()}
    assert len(re.findall("fillcolor=darkolivegreen1", source)) == 2
    assert "style=filled" in source  # grey, unless it says otherwise


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs the program dot (graphviz)")
def test_save_graph_draws(tmp_path):
    picture = save_graph(AdderNet(), tmp_path / "graph.gv")
    assert picture == tmp_path / "graph.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "graph.gv").read_text().startswith("digraph")


def test_save_graph_without_dot(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    written = save_graph(AdderNet(), tmp_path / "graph.gv")
    assert written == tmp_path / "graph.gv"
    assert written.read_text().startswith("digraph")
    assert [path.name for path in tmp_path.iterdir()] == ["graph.gv"]
    assert "dot is not installed" in capsys.readouterr().out


def test_a_folder_is_no_place_for_a_graph(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        save_graph(AdderNet(), tmp_path)
