"""Layer table and graph, against the networks themselves."""

import copy
import re
import shutil

import pytest
import torch
from helpers import same
from torch import nn

from mnist_adder.inspection import (
    autograd_graph,
    layer_table,
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
    training = [module for module in model.modules() if not module.training]
    assert training == [model.cnn[1]]
    assert torch.equal(torch.random.get_rng_state(), random)
    assert same(model, before)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_network_without_a_cnn_is_printed():
    table = layer_table(nn.ModuleDict({"digit": nn.Linear(784, 10)}))
    assert "digit, 7,850 parameters" in table and "Linear(in_features=784" in table


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
