"""Exhaustive evaluation: every image with all ten numbers, so the answer has no sampling noise."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from .data import DIGITS, NUMBERS, Split, normalise, one_hot_number
from .losses import total_loss
from .models import TwoInputNet


class Mistake(NamedTuple):
    """One (image, number) pair with at least one output wrong."""

    index: int  # of the image in its split
    number: int
    digit: int
    predicted_digit: int
    predicted_sum: int


@dataclass(frozen=True)
class Evaluation:
    """Both predictions for every pair; every figure is derived from them."""

    digits: Tensor  # int64 [N], the truth
    predicted_digits: Tensor  # int64 [N, 10], a column for each number
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
        return self.predicted_sums == self.digits[:, None] + torch.arange(NUMBERS)

    @property
    def metrics(self) -> dict[str, float]:
        """Losses in nats and the accuracies over all pairs."""
        everywhere = torch.ones(DIGITS, NUMBERS, dtype=torch.bool)
        losses = {"digit_loss": self.digit_loss, "sum_loss": self.sum_loss}
        return losses | self.accuracies(everywhere)

    def accuracies(self, pairs: Tensor) -> dict[str, float]:
        """Accuracies over some (digit, number) pairs, bool [10, 10], as fractions.

        `joint_accuracy` is the share of pairs with both outputs right; `product_accuracy`, the product of
        the other two, is what one published system calls "total".
        """
        there = pairs[self.digits]  # [N, 10]
        digit, sum, joint = (
            right[there].double().mean().item()
            for right in (self.digit_right, self.sum_right, self.digit_right & self.sum_right)
        )
        return {
            "digit_accuracy": digit,
            "sum_accuracy": sum,
            "joint_accuracy": joint,
            "product_accuracy": digit * sum,
        }

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
        columns = (
            rows,
            numbers,
            self.digits[rows],
            self.predicted_digits[rows, numbers],
            self.predicted_sums[rows, numbers],
        )
        return [Mistake(*row) for row in torch.stack(columns, 1).tolist()]


@torch.inference_mode()
def evaluate(model: TwoInputNet, split: Split, *, batch_size: int = 125) -> Evaluation:
    """Evaluate a model on every image of a split with all ten numbers; the CNN runs once per image.

    Args:
        model: on any device; its training mode is left as it was.
        split: uint8 [N, 28, 28] and int64 [N], on any device.
        batch_size: images at a time.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    numbers = torch.arange(NUMBERS, device=device)
    digits_out, sums_out, losses = [], [], []
    for images, digits in zip(*(part.split(batch_size) for part in split), strict=True):
        count = len(digits)
        features = model.features(normalise(images.to(device)))  # [B, F]
        digit = digits.to(device).repeat_interleave(NUMBERS)  # [10 B], a row for each pair
        number = numbers.repeat(count)
        digit_log_probabilities, sum_scores = model.combine(
            features.repeat_interleave(NUMBERS, 0), one_hot_number(number)
        )
        part = total_loss(digit_log_probabilities, digit, sum_scores, digit + number)
        losses.append(torch.stack([part.digit, part.sum]) * count)
        digits_out.append(digit_log_probabilities.argmax(1).view(count, NUMBERS))
        sums_out.append(sum_scores.argmax(1).view(count, NUMBERS))
    model.train(was_training)
    digit_loss, sum_loss = (torch.stack(losses).cpu().double().sum(0) / len(split.digits)).tolist()
    predicted = (torch.cat(out).cpu() for out in (digits_out, sums_out))
    return Evaluation(split.digits.cpu(), *predicted, digit_loss, sum_loss)
