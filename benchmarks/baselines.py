"""The published systems' ways to feed a network, and the loop around them, for the bench.

A pipeline is a function of a split and a batch size, and returns batches that can be gone through
again for each epoch. Where the published facts are silent, the faster choice is taken: no worker
processes (`DataLoader`'s default), no printing, and no waiting for the loss.
"""

import copy
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import MNIST, VisionDataset

from mnist_adder import Sample, Split, total_loss
from mnist_adder.data import MEAN, NUMBERS, STD, SUMS

LAYOUTS = (torch.contiguous_format, torch.channels_last)


class FixedNumbers(Dataset):
    """System A's data set: raw pixels 0…255, a number for each image drawn once, all one-hot."""

    def __init__(self, split: Split) -> None:
        self.images, self.digits = split
        numbers = torch.randint(NUMBERS, self.digits.shape)
        self.numbers = F.one_hot(numbers, NUMBERS).float()
        self.sums = F.one_hot(self.digits + numbers, SUMS).float()

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> Sample:
        image = self.images[index].float().unsqueeze(0)  # [1, 28, 28]
        return Sample(image, self.numbers[index], self.digits[index], self.sums[index])


class PilImages(MNIST):
    """torchvision's `MNIST`, its ``__getitem__`` and all, over a split that has been read."""

    def __init__(self, split: Split) -> None:
        normalise = transforms.Normalize((MEAN,), (STD,))
        transform = transforms.Compose([transforms.ToTensor(), normalise])
        VisionDataset.__init__(self, "", transform=transform)
        self.data, self.targets = split


class NumberAtEachAccess(PilImages):
    """System C's data set: the number is drawn when the image is read."""

    def __getitem__(self, index: int) -> tuple:
        image, digit = super().__getitem__(index)
        number = int(torch.randint(NUMBERS, ()))
        return (image, number), (digit, digit + number)


class Batches:
    """The batches of a `DataLoader`, each turned into a `Sample`."""

    def __init__(self, loader: DataLoader, sample: Callable[..., Sample]) -> None:
        self.loader = loader
        self.sample = sample

    def __iter__(self) -> Iterator[Sample]:
        for batch in self.loader:
            yield self.sample(*batch)


def system_a(split: Split, batch_size: int) -> Batches:
    """Return system A's batches."""
    return Batches(DataLoader(FixedNumbers(split), batch_size, shuffle=True), Sample)


def stock_example(split: Split, batch_size: int) -> Batches:
    """Return those of PyTorch's MNIST example, with numbers drawn a batch at a time."""

    def sample(image: torch.Tensor, digit: torch.Tensor) -> Sample:
        number = torch.randint(NUMBERS, digit.shape)
        return Sample(image, F.one_hot(number, NUMBERS).float(), digit, digit + number)

    return Batches(DataLoader(PilImages(split), batch_size, shuffle=True), sample)


def system_c(split: Split, batch_size: int) -> Batches:
    """Return system C's batches; the number becomes one-hot for the network."""

    def sample(inputs: list[torch.Tensor], answers: list[torch.Tensor]) -> Sample:
        image, number = inputs
        digit, sum = answers
        return Sample(image, F.one_hot(number, NUMBERS).float(), digit, sum)

    return Batches(DataLoader(NumberAtEachAccess(split), batch_size, shuffle=True), sample)


PIPELINES = {"system A": system_a, "stock example": stock_example, "system C": system_c}


class Baseline:
    """A network in the loop that all baselines share, with system A's optimiser.

    The network gets the memory layout in which it trains four batches in less time.
    """

    def __init__(self, model: nn.Module, batches: Iterable[Sample], device: str = "cpu") -> None:
        self.batches = batches
        few = list(islice(batches, 4))
        times = {}
        for layout in LAYOUTS:
            self._begin(copy.deepcopy(model).to(device, memory_format=layout))
            self.train(few)  # warms up
            times[layout] = min(self._seconds(few) for _ in range(3))
        self._begin(model.to(device, memory_format=min(LAYOUTS, key=times.get)))

    def _begin(self, model: nn.Module) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def _seconds(self, batches: Iterable[Sample]) -> float:
        start = time.perf_counter()
        self.train(batches)
        return time.perf_counter() - start

    def train_epoch(self) -> None:
        """Train an epoch."""
        self.train(self.batches)

    def train(self, batches: Iterable[Sample]) -> None:
        """Train on each batch once."""
        self.model.train()
        for batch in batches:
            image, number, digit, sum = (part.to(self.device) for part in batch)
            self.optimizer.zero_grad()
            log_probs, logits = self.model(image, number)
            total_loss(log_probs, digit, logits, sum).total.backward()
            self.optimizer.step()
