"""Exhaustive evaluation: every image with all ten numbers, so that the answer has no sampling noise."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .checks import check_split
from .data import DIGITS, NUMBERS, AdderDataset, Split, Target, add, normalise
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


@dataclass(frozen=True)
class Evaluation:
    """Truth and predictions for every pair; every figure is derived from them."""

    digits: Tensor  # int64 [N], the truth
    sums: Tensor  # int64 [N, 10], the truth; a column for each number
    predicted_digits: Tensor  # int64 [N, 10]
    predicted_sums: Tensor  # int64 [N, 10]
    digit_loss: float  # mean over the 10 N pairs, in nats
    sum_loss: float

    @cached_property
    def digit_right(self) -> Tensor:
        """bool [N, 10]."""
        return self.predicted_digits == self.digits[:, None]

    @cached_property
    def sum_right(self) -> Tensor:
        """bool [N, 10]."""
        return self.predicted_sums == self.sums

    @property
    def metrics(self) -> dict[str, float]:
        """Losses in nats and the accuracies over all pairs."""
        everywhere = torch.ones(DIGITS, NUMBERS, dtype=torch.bool)
        return {"digit_loss": self.digit_loss, "sum_loss": self.sum_loss} | self.accuracies(everywhere)

    def accuracies(self, pairs: Tensor) -> dict[str, float]:
        """Accuracies over some (digit, number) pairs, bool [10, 10], as fractions; joint is both outputs right."""
        chosen = pairs[self.digits]  # [N, 10]
        parts = self.digit_right, self.sum_right, self.digit_right & self.sum_right
        digit, sum, joint = (right[chosen].double().mean().item() for right in parts)
        accuracies = {"digit": digit, "sum": sum, "joint": joint, "product": digit * sum}  # product: system C's "total"
        return {f"{name}_accuracy": value for name, value in accuracies.items()}

    @property
    def confusion(self) -> Tensor:
        """int64 [10, 10]: how many pairs of each true digit (row) were read as each digit (column)."""
        cells = self.digits[:, None] * DIGITS + self.predicted_digits
        return cells.flatten().bincount(minlength=DIGITS**2).view(DIGITS, DIGITS)

    @property
    def truth_table(self) -> Tensor:
        """float64 [10, 10]: the share of right sums for each digit (row) and number (column)."""
        right = torch.zeros(DIGITS, NUMBERS, dtype=torch.float64)
        right.index_add_(0, self.digits, self.sum_right.double())
        return right / self.digits.bincount(minlength=DIGITS)[:, None]

    @property
    def mistakes(self) -> list[Mistake]:
        """Every pair with an output wrong, in the order of the images."""
        rows, numbers = (~(self.digit_right & self.sum_right)).nonzero(as_tuple=True)
        truth = rows, numbers, self.digits[rows], self.sums[rows, numbers]
        predicted = self.predicted_digits[rows, numbers], self.predicted_sums[rows, numbers]
        return [Mistake(*row) for row in torch.stack([*truth, *predicted], 1).tolist()]


@torch.inference_mode()
def evaluate(
    model: nn.Module, split: Split | AdderDataset, *, target: Target = add, batch_size: int | None = None
) -> Evaluation:
    """Evaluate a network on every image of a split with all ten numbers.

    The CNN of a `TwoInputNet` runs once per image; another network runs on all ten pairs of it.

    Args:
        model: on any device; its training mode is left as it was.
        split: uint8 [N, 28, 28] and int64 [N]; or an `AdderDataset`, with its own target. `InputError` for any other.
        target: the operation that the network was trained for, see `data.add`.
        batch_size: images at a time (default: 125 on the CPU, whose caches are small, and 2,500 elsewhere).
    """
    if isinstance(split, AdderDataset):
        split, target = Split(split.images, split.digits), split.target
    check_split(*split)
    weight, was_training = next(model.parameters()), model.training
    model.eval()
    images, digits = (part.to(weight.device) for part in split)
    sums = target(digits[:, None], torch.arange(NUMBERS, device=weight.device))  # [N, 10]
    batch_size = batch_size or (125 if weight.device.type == "cpu" else 2500)
    predicted_digits, predicted_sums, losses = [], [], []
    for image, digit, sum in zip(*(part.split(batch_size) for part in (images, digits, sums)), strict=True):
        count = len(digit)
        image = normalise(image).to(weight.dtype)
        number = torch.eye(NUMBERS, device=weight.device, dtype=weight.dtype).repeat(count, 1)  # [10 B, 10]
        if isinstance(model, TwoInputNet):
            features = model.features(image)  # [B, F]
            log_probs, logits = model.combine(features.repeat_interleave(NUMBERS, 0), number)
        else:
            log_probs, logits = model(image.repeat_interleave(NUMBERS, 0), number)
        part = total_loss(log_probs.float(), digit.repeat_interleave(NUMBERS), logits.float(), sum.flatten())
        losses.append(torch.stack([part.digit, part.sum]) * count)
        predicted_digits.append(log_probs.argmax(1).view(count, NUMBERS))
        predicted_sums.append(logits.argmax(1).view(count, NUMBERS))
    model.train(was_training)
    digit_loss, sum_loss = (torch.stack(losses).cpu().double().sum(0) / len(digits)).tolist()
    predictions = (torch.cat(predicted).cpu() for predicted in (predicted_digits, predicted_sums))
    return Evaluation(digits.cpu(), sums.cpu(), *predictions, digit_loss, sum_loss)
