"""The network through `torch.hub`, from a clone."""

from pathlib import Path

import torch

from mnist_adder import load_pretrained

ROOT = Path(__file__).parents[1]


def test_the_pretrained_network_comes_from_a_clone():
    network = torch.hub.load(str(ROOT), "adder", pretrained=True, source="local")
    image = torch.randn(3, 1, 28, 28)
    number = torch.eye(10)[:3]
    torch.testing.assert_close(network(image, number), load_pretrained()(image, number))


def test_a_fresh_network_has_other_weights():
    network = torch.hub.load(str(ROOT), "adder", source="local")
    assert network.training
    assert not torch.equal(network.cnn[0].weight, load_pretrained().cnn[0].weight)
