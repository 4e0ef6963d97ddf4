"""Shared data. No test downloads anything: the bundled digits do, and real MNIST where it is on this machine."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from hypothesis import settings
from torch import nn

from mnist_adder.data import Data, Split
from mnist_adder.models import build
from mnist_adder.published.recipes import RECIPES
from mnist_adder.recipes import Recipe
from mnist_adder.sources import MNIST_SHA256, load_data

settings.register_profile("same examples each time", deadline=None, derandomize=True)
settings.load_profile("same examples each time")

MNIST_DIR = Path(os.environ.get("MNIST_ADDER_DATA") or "data").absolute()


class PlainNet(nn.Module):
    """A network that knows nothing of this package."""

    def __init__(self):
        super().__init__()
        self.digit, self.sum = nn.Linear(784, 10), nn.Linear(20, 19)

    def forward(self, image, number):
        log_probs = self.digit(image.flatten(1)).log_softmax(1)
        return log_probs, self.sum(torch.cat([log_probs.exp(), number], 1))


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    """An unreachable network, without its time-outs."""

    def refuse(mnist):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", refuse)


@pytest.fixture(scope="session")
def digits() -> Data:
    return load_data("digits")


@pytest.fixture(scope="session")
def few(digits) -> Data:
    """240 training and 60 test images, for what need not learn."""
    train, test = (Split(*(part[:n] for part in split)) for split, n in ((digits.train, 240), (digits.test, 60)))
    return Data("digits", train, test)


@pytest.fixture
def quick() -> Recipe:
    """Our recipe, for two epochs."""
    return replace(RECIPES["adder"], epochs=2, batch_size=60)


@pytest.fixture(
    params=sorted({recipe.model for recipe in RECIPES.values()}), ids=lambda model: model.rpartition(":")[2]
)
def network(request) -> nn.Module:
    """Each network of the recipes in turn, with fresh weights."""
    torch.manual_seed(0)
    return build(request.param)


@pytest.fixture
def mnist_dir() -> Path:
    """The folder of the real MNIST."""
    if not all((MNIST_DIR / "MNIST" / "raw" / name).is_file() for name in MNIST_SHA256):
        pytest.skip("no real MNIST: MNIST_ADDER_DATA names no folder with MNIST/raw, and data/ has none")
    return MNIST_DIR
