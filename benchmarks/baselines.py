"""The published systems' ways to feed a network, and the loop around them, for the bench.

Where the published facts are silent, the faster choice is taken: no worker processes
(`DataLoader`'s default), no printing, and no waiting for the loss.
"""

import copy
import time
from collections.abc import Iterable
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import MNIST, VisionDataset

from mnist_adder import Sample, Split, total_loss
from mnist_adder.data import MEAN, NUMBERS, STD, SUMS, normalise

LAYOUTS = (torch.contiguous_format, torch.channels_last)


class FixedNumbers(Dataset):
    """System A's data set: images kept as floats, a number for each drawn once, all one-hot.

    It served raw pixels; our copy of its network makes them of normalised ones.
    """

    def __init__(self, split: Split) -> None:
        self.images = normalise(split.images[:, None])  # [N, 1, 28, 28]
        self.digits = split.digits
        numbers = torch.randint(NUMBERS, self.digits.shape)
        self.numbers = F.one_hot(numbers, NUMBERS).float()
        self.sums = F.one_hot(self.digits + numbers, SUMS).float()

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> Sample:
        return Sample(
            image=self.images[index],
            number=self.numbers[index],
            digit=self.digits[index],
            sum=self.sums[index],
        )


class NumberAtEachAccess(MNIST):
    """System C's data set: each image goes through PIL and transforms, with a number drawn then.

    It is torchvision's `MNIST`, ``__getitem__`` and all, over a split that has been read already.
    """

    def __init__(self, split: Split) -> None:
        normalised = transforms.Normalize((MEAN,), (STD,))
        steps = transforms.Compose([transforms.ToTensor(), normalised])
        VisionDataset.__init__(self, "", transform=steps)
        self.data = split.images
        self.targets = split.digits
        self.one_hot = torch.eye(NUMBERS)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int, int]:
        image, digit = super().__getitem__(index)
        number = int(torch.randint(NUMBERS, ()))
        return image, self.one_hot[number], digit, digit + number


PIPELINES = {"system A": FixedNumbers, "system C": NumberAtEachAccess}


class Baseline:
    """A network in the loop that the baselines share, with system A's optimiser.

    The network gets the memory layout in which it trains four batches in less time.
    """

    def __init__(
        self,
        pipeline: str,
        model: nn.Module,
        split: Split,
        batch_size: int,
        device: str = "cpu",
    ) -> None:
        self.device = device
        dataset = PIPELINES[pipeline](split)
        self.loader = DataLoader(dataset, batch_size, shuffle=True)
        few = list(islice(self.loader, 4))
        times = {}
        for layout in LAYOUTS:
            trial = copy.deepcopy(model)
            self.use(trial, layout)
            self.train(few)  # warms up
            times[layout] = min(self.train(few) for _ in range(3))
        fastest = min(times, key=times.get)
        self.use(model, fastest)

    def use(self, model: nn.Module, layout: torch.memory_format) -> None:
        """Begin to train a network."""
        self.model = model.to(self.device, memory_format=layout)
        self.model.train()
        parameters = self.model.parameters()
        self.optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9)

    def train(self, batches: Iterable[tuple[Tensor, ...]]) -> float:
        """Train on each batch once and return the seconds."""
        start = time.perf_counter()
        for batch in batches:
            image, number, digit, sum = (part.to(self.device) for part in batch)
            self.optimizer.zero_grad()
            log_probs, logits = self.model(image, number)
            losses = total_loss(log_probs, digit, logits, sum)
            losses.total.backward()
            self.optimizer.step()
        return time.perf_counter() - start

    def train_epoch(self) -> None:
        """Train an epoch."""
        self.train(self.loader)
