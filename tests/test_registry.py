"""A network from a name, a class, a function or another network."""

import pytest
import torch
from torch import nn

from mnist_adder.errors import InputError
from mnist_adder.models import AdderNet, ExactAdderNet
from mnist_adder.recipes import MODELS
from mnist_adder.registry import build


@pytest.mark.parametrize("name", MODELS)
def test_a_short_name(name):
    assert f"{type(build(name)).__module__}:{type(build(name)).__name__}" == MODELS[name]


@pytest.mark.parametrize("model", ["mnist_adder.models:ExactAdderNet", ExactAdderNet, lambda: ExactAdderNet()])
def test_a_path_a_class_or_a_function(model):
    assert isinstance(build(model), ExactAdderNet)


def test_a_network_is_copied():
    network = AdderNet()
    copy = build(network)
    assert all(torch.equal(*pair) for pair in zip(copy.parameters(), network.parameters(), strict=True))
    nn.init.zeros_(next(copy.parameters()))
    assert next(network.parameters()).any()


@pytest.mark.parametrize(
    "model",
    ["adders", "", ":", "torch", "no.such.module:Net", "mnist_adder.models:Nothing", "torch:float32", "math:pi", int],
)
def test_what_makes_no_network_is_refused(model):
    with pytest.raises(InputError) as refusal:
        build(model)
    assert "network" in str(refusal.value)
    assert "\n" not in str(refusal.value)
