"""What several tests use: small data of real digits, networks, comparisons, refusals."""

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from torch import nn

from mnist_adder import Data, InputError, Split, load_data
from mnist_adder.sources import MNIST_SHA256

MNIST_DIR = Path(os.environ.get("MNIST_ADDER_DATA") or "data").absolute()
# A download that failed leaves an empty folder.
HAS_MNIST = all((MNIST_DIR / "MNIST" / "raw" / name).is_file() for name in MNIST_SHA256)

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


CHECKED = ("config.json", "history.csv", "metrics.json", "model.safetensors")  # of a run


class PlainNet(nn.Module):
    """A network that knows nothing of this package, for images and counts of any size."""

    def __init__(self, *, pixels: int = 784, digits: int = 10, numbers: int = 10, sums: int = 19):
        super().__init__()
        self.digit = nn.Linear(pixels, digits)
        self.sum = nn.Linear(digits + numbers, sums)

    def forward(self, image, number):
        log_probs = self.digit(image.flatten(1)).log_softmax(1)
        return log_probs, self.sum(torch.cat([log_probs.exp(), number], 1))


class TiedNet(PlainNet):
    """Two names for one parameter."""

    def __init__(self):
        super().__init__()
        self.again = self.digit


def first(data: Data, train: int, test: int) -> Data:
    """Return a data set's first training and test images."""
    train_images, train_digits = data.train
    test_images, test_digits = data.test
    return replace(
        data,
        train=Split(train_images[:train], train_digits[:train]),
        test=Split(test_images[:test], test_digits[:test]),
    )


def few_images(train: int, test: int) -> Data:
    """Return some bundled digits, under another name, for which recipes keep their epochs."""
    return replace(first(load_data("digits"), train, test), source="few")


def forkserver():
    """Return the kind of process whose imports are done once, whatever a process needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mnist_adder", "sklearn.datasets", "torch._dynamo"])
    return context


def marked(count: int) -> Split:
    """Return images that can be told apart: every pixel of image i is i."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None].repeat(1, 28, 28)
    return Split(images, torch.arange(count) % 10)


def same(first: nn.Module, second: nn.Module) -> bool:
    """Return whether two networks have the same weights and buffers, bit for bit."""
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one.cpu(), other.cpu()) for one, other in pairs)


def sign(folder: Path) -> None:
    """Make a run's checksums right again."""
    lines = [f"{sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in CHECKED]
    (folder / "SHA256SUMS").write_text("".join(lines))


def refusal(function: Callable, *arguments, **settings) -> str:
    """Return the one line with which something is refused."""
    with pytest.raises(InputError) as refused:
        function(*arguments, **settings)
    message = str(refused.value)
    assert "\n" not in message
    assert "\x1b" not in message
    return message
