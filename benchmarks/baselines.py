"""The baselines: the input pipelines of the published systems and a training loop, written from the published facts.

Each pipeline is a function of a split and a batch size; what it returns gives, when called, the batches of
one epoch: ``(image, number, digit, sum)``. Where the facts are silent, the faster choice is taken: no worker
processes (`DataLoader`'s default, and the fastest for images in memory on two cores), and no waiting for the
loss within an epoch.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import MNIST, VisionDataset

from mnist_adder.data import MEAN, NUMBERS, STD, SUMS, Split, one_hot_number
from mnist_adder.losses import total_loss

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
Epoch = Callable[[], Iterator[Batch]]


class FixedNumbers(Dataset):
    """System A's data set: raw pixels 0…255, one number per image drawn once, number and sum one-hot."""

    def __init__(self, split: Split) -> None:
        self.images, self.digits = split
        numbers = torch.randint(NUMBERS, self.digits.shape)
        self.numbers = F.one_hot(numbers, NUMBERS).float()
        self.sums = F.one_hot(self.digits + numbers, SUMS).float()

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> Batch:
        image = self.images[index].float().unsqueeze(0)
        return image, self.numbers[index], self.digits[index], self.sums[index]


class PilImages(MNIST):
    """torchvision's `MNIST`, its `__getitem__` and all, over a split that has been read already."""

    def __init__(self, split: Split) -> None:
        normalise = transforms.Normalize((MEAN,), (STD,))
        VisionDataset.__init__(self, "", transform=transforms.Compose([transforms.ToTensor(), normalise]))
        self.data, self.targets = split


class NumberAtEachAccess(PilImages):
    """System C's data set: ``(image, number), (digit, sum)``, the number drawn when the image is read."""

    def __getitem__(self, index: int) -> tuple[tuple[Tensor, int], tuple[int, int]]:
        image, digit = super().__getitem__(index)
        number = int(torch.randint(NUMBERS, ()))
        return (image, number), (digit, digit + number)


def system_a(split: Split, batch_size: int) -> Epoch:
    """System A has a per-sample data set behind a `DataLoader`."""
    loader = DataLoader(FixedNumbers(split), batch_size, shuffle=True)
    return lambda: iter(loader)


def stock_example(split: Split, batch_size: int) -> Epoch:
    """The stock PyTorch MNIST example, with numbers drawn a batch at a time."""
    loader = DataLoader(PilImages(split), batch_size, shuffle=True)

    def batches() -> Iterator[Batch]:
        for image, digit in loader:
            number = torch.randint(NUMBERS, digit.shape)
            yield image, one_hot_number(number), digit, digit + number

    return batches


def system_c(split: Split, batch_size: int) -> Epoch:
    """System C transforms each image and draws a number at each access; the number becomes one-hot for the model."""
    loader = DataLoader(NumberAtEachAccess(split), batch_size, shuffle=True)

    def batches() -> Iterator[Batch]:
        for (image, number), (digit, sum) in loader:
            yield image, one_hot_number(number), digit, sum

    return batches


PIPELINES = {"system A": system_a, "stock example": stock_example, "system C": system_c}


def make_optimizer(model: nn.Module) -> Optimizer:
    """System A's optimiser."""
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def train_epoch(model: nn.Module, optimizer: Optimizer, batches: Iterable[Batch]) -> None:
    """The training loop that all baselines share."""
    model.train()
    device = next(model.parameters()).device
    for batch in batches:
        image, number, digit, sum = (part.to(device) for part in batch)
        optimizer.zero_grad()
        log_probs, logits = model(image, number)
        total_loss(log_probs, digit, logits, sum).total.backward()
        optimizer.step()
