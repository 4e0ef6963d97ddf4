"""Exhaustive evaluation: every image with all ten numbers, without sampling noise."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .checks import unwrapped
from .data import Data, Pairs, normalise, pair_table, with_channel
from .errors import InputError
from .losses import total_loss
from .models import TwoInputNet


class Mistake(NamedTuple):
    """One (image, number) pair with at least one output wrong."""

    index: int  # of the image in its split
    number: int
    digit: int
    sum: int
    predicted_digit: int
    predicted_sum: int


@dataclass(frozen=True, eq=False)  # tensors have no single answer to ==
class Evaluation:
    """Truth and predictions for every pair; every figure is derived from them."""

    digits: Tensor  # int64 [N], the truth
    sums: Tensor  # int64 [N, 10], the truth; a column for each number
    predicted_digits: Tensor  # int64 [N, 10]; a row has one value, unless the number changes it
    predicted_sums: Tensor  # int64 [N, 10]
    digit_loss: float  # mean over the 10 N pairs, in nats
    sum_loss: float
    digit_classes: int
    others: tuple[Tensor, ...] = ()  # the outputs beyond the first two, each [N, 10, …]

    @cached_property
    def digit_right(self) -> Tensor:
        """Whether each digit is right, bool [N, 10]."""
        return self.predicted_digits == self.digits[:, None]

    @cached_property
    def sum_right(self) -> Tensor:
        """Whether each sum is right, bool [N, 10]."""
        return self.predicted_sums == self.sums

    @cached_property
    def both_right(self) -> Tensor:
        """Whether both outputs are right, bool [N, 10]."""
        return self.digit_right & self.sum_right

    @property
    def metrics(self) -> dict[str, float]:
        """Losses in nats, and the accuracies over all pairs as fractions."""
        all_pairs = torch.ones(self.digit_classes, self.sums.shape[1], dtype=torch.bool)
        accuracies = self.accuracies(all_pairs)
        return {"digit_loss": self.digit_loss, "sum_loss": self.sum_loss, **accuracies}

    def accuracies(self, pairs: Tensor) -> dict[str, float]:
        """Return accuracies over some (digit, number) pairs, bool [10, 10], as fractions."""
        # [N, 10]: is the image's digit with this number one of the pairs?
        chosen = pairs[self.digits]
        digit = self.digit_right[chosen].double().mean().item()
        sum = self.sum_right[chosen].double().mean().item()
        joint = self.both_right[chosen].double().mean().item()
        return {"digit_accuracy": digit, "sum_accuracy": sum, "joint_accuracy": joint}

    def measure(self, withheld: Pairs) -> dict[str, float]:
        """Return the metrics; where pairs were withheld, also those on them and on the others."""
        metrics = self.metrics
        withheld = list(withheld)
        if withheld:
            table = pair_table(withheld, self.digit_classes, self.sums.shape[1])
            for name, pairs in (("withheld", table), ("shown", ~table)):
                accuracies = self.accuracies(pairs)
                metrics.update({f"{name}_{key}": value for key, value in accuracies.items()})
        return metrics

    @property
    def confusion(self) -> Tensor:
        """How many pairs of each digit (row) were read as each digit (column), int64 [10, 10]."""
        classes = self.digit_classes
        # The cells of the table have the numbers 0…99; count how often each is met.
        cells = self.digits[:, None] * classes + self.predicted_digits
        return cells.flatten().bincount(minlength=classes**2).view(classes, classes)

    @property
    def truth_table(self) -> Tensor:
        """The share of right sums for each digit (row) and number (column), float64 [10, 10]."""
        right = torch.zeros(self.digit_classes, self.sums.shape[1], dtype=torch.float64)
        right.index_add_(0, self.digits, self.sum_right.double())
        return right / self.digits.bincount(minlength=self.digit_classes)[:, None]

    @property
    def mistakes(self) -> list[Mistake]:
        """Every pair with an output wrong, in the order of the images."""
        found = []
        for index, number in (~self.both_right).nonzero().tolist():
            mistake = Mistake(
                index=index,
                number=number,
                digit=int(self.digits[index]),
                sum=int(self.sums[index, number]),
                predicted_digit=int(self.predicted_digits[index, number]),
                predicted_sum=int(self.predicted_sums[index, number]),
            )
            found.append(mistake)
        return found


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode; afterwards, each module has its own mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.inference_mode()
def evaluate(model: nn.Module, data: Data, *, batch_size: int = 125) -> Evaluation:
    """Evaluate a network on every image of ``data.test`` with all ten numbers.

    The CNN of a `TwoInputNet` runs once per image; another network runs on all ten pairs of it.
    Outputs beyond the first two must be tensors [B, …], and are kept as they are. The network may
    be on any device and of any precision.

    Args:
        model: takes images and one-hot numbers, returns log_probs and logits.
        data: gives the images, and the operation that makes the right answers.
        batch_size: images at a time, each with all numbers; a CPU is fastest with few.
    """
    model = unwrapped(model)
    weight = next(model.parameters(), torch.zeros(0))  # has the device and the precision
    device = weight.device
    images = with_channel(data.test.images).to(device)  # [N, 1, 28, 28]
    digits = data.test.digits.long().to(device)  # [N]
    sums = data.sums.to(device)[digits]  # [N, 10]
    numbers = torch.eye(data.number_classes, dtype=weight.dtype, device=device)  # one-hot rows
    outputs: list[tuple[Tensor, ...]] = []  # of each batch: its log_probs, its logits, …
    with evaluation_mode(model):
        for batch in images.split(batch_size):
            image = normalise(batch).to(weight.dtype)
            outputs.append(_all_pairs(model, image, numbers))
    parts = [torch.cat(part) for part in zip(*outputs, strict=True)]  # all log_probs, all logits, …
    log_probs = parts[0].float()  # [10 N, 10]
    logits = parts[1].float()  # [10 N, 19]
    found = (log_probs.shape[1], logits.shape[1])
    if found != (data.digit_classes, data.sum_classes):
        raise InputError(
            f"the data has {data.digit_classes} digits and {data.sum_classes} sums, the network's"
            f" outputs have {found[0]} and {found[1]}: they must fit"
        )
    digit = digits.repeat_interleave(data.number_classes)  # [10 N]
    losses = total_loss(log_probs, digit, logits, sums.flatten())
    return Evaluation(
        digits=digits.cpu(),
        sums=sums.cpu(),
        predicted_digits=log_probs.argmax(1).view(sums.shape).cpu(),
        predicted_sums=logits.argmax(1).view(sums.shape).cpu(),
        digit_loss=losses.digit.item(),
        sum_loss=losses.sum.item(),
        digit_classes=data.digit_classes,
        others=tuple(part.unflatten(0, sums.shape).cpu() for part in parts[2:]),
    )


def _all_pairs(model: nn.Module, image: Tensor, numbers: Tensor) -> tuple[Tensor, ...]:
    """Return the outputs for images [B, …] with each of the one-hot numbers [10, 10]."""
    repeated = numbers.repeat(len(image), 1)  # [10 B, 10]
    # A subclass with a `forward` of its own may not be these two parts.
    if isinstance(model, TwoInputNet) and type(model).forward is TwoInputNet.forward:
        features = model.features(image)  # [B, F]
        return model.combine(features.repeat_interleave(len(numbers), 0), repeated)
    return model(image.repeat_interleave(len(numbers), 0), repeated)
