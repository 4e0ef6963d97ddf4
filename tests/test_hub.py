"""The network through `torch.hub`, from a clone."""

from pathlib import Path

import torch

from mnist_adder import load_pretrained

ROOT = Path(__file__).parents[1]


def test_the_networks_come_from_a_clone():
    pretrained = torch.hub.load(str(ROOT), "adder", pretrained=True, source="local")
    image = torch.randn(3, 1, 28, 28)
    number = torch.eye(10)[:3]
    torch.testing.assert_close(pretrained(image, number), load_pretrained()(image, number))
    fresh = torch.hub.load(str(ROOT), "adder", source="local")
    assert fresh.training
    assert not torch.equal(fresh.cnn[0].weight, pretrained.cnn[0].weight)
