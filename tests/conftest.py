"""Shared by all tests: small data of real digits, networks, and no download."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from hypothesis import settings
from torch import nn

import mnist_adder
from mnist_adder import RECIPES, Data, Recipe, Split, load_data
from mnist_adder.sources import MNIST_SHA256

# The tests run in a process for each core; more threads would only wait for each other.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # in the processes that tests start, too

settings.register_profile("few", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("few")

MNIST_DIR = Path(os.environ.get("MNIST_ADDER_DATA") or "data").absolute()
# A download that failed leaves an empty folder.
HAS_MNIST = all((MNIST_DIR / "MNIST" / "raw" / name).is_file() for name in MNIST_SHA256)


class PlainNet(nn.Module):
    """A network that knows nothing of this package, for images and counts of any size."""

    def __init__(self, *, pixels: int = 784, digits: int = 10, numbers: int = 10, sums: int = 19):
        super().__init__()
        self.digit = nn.Linear(pixels, digits)
        self.sum = nn.Linear(digits + numbers, sums)

    def forward(self, image, number):
        log_probs = self.digit(image.flatten(1)).log_softmax(1)
        return log_probs, self.sum(torch.cat([log_probs.exp(), number], 1))


def marked(count: int) -> Split:
    """Return images that can be told apart: every pixel of image i is i."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None].repeat(1, 28, 28)
    return Split(images, torch.arange(count) % 10)


def same(first: nn.Module, second: nn.Module) -> bool:
    """Return whether two networks have the same weights and buffers, bit for bit."""
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one.cpu(), other.cpu()) for one, other in pairs)


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    """An unreachable network, without its time-outs."""

    def refuse(mnist):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", refuse)


@pytest.fixture(scope="session")
def digits() -> Data:
    """The 1,797 bundled digits."""
    return load_data("digits")


@pytest.fixture(scope="session")
def few(digits) -> Data:
    """240 training and 60 test images, for what need not learn."""
    train = Split(digits.train.images[:240], digits.train.digits[:240])
    test = Split(digits.test.images[:60], digits.test.digits[:60])
    return Data("digits", train, test)


@pytest.fixture(scope="session")
def quick() -> Recipe:
    """Two epochs of our recipe, four steps each on `few`."""
    return replace(RECIPES["adder"], epochs=2, batch_size=60)


@pytest.fixture(params=["adder", "number-line", "exact-adder", "speedrun"])
def network(request) -> nn.Module:
    """Each network of the recipes in turn, with fresh weights."""
    torch.manual_seed(0)
    return RECIPES[request.param].model()


@pytest.fixture
def mnist_dir() -> Path:
    """The folder of the real MNIST."""
    if not HAS_MNIST:
        pytest.skip("no real MNIST in the folder that MNIST_ADDER_DATA names, or in data/")
    return MNIST_DIR


@pytest.fixture
def run_script(tmp_path) -> Callable[..., subprocess.CompletedProcess]:
    """Return a function that runs a program's text in a process and a folder of its own."""

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess:
        script = tmp_path / "script.py"
        script.write_text(program)
        path = {"PYTHONPATH": str(Path(mnist_adder.__file__).parents[1])}
        command = [sys.executable, str(script), *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=os.environ | path, capture_output=True, text=True
        )

    return run
