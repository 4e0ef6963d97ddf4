"""Means of losses and accuracies over the steps of an epoch, counted on the device."""

import torch
from torch import Tensor

from .data import Sample
from .devices import sum_over_processes
from .losses import Losses

NAMES = ("digit_accuracy", "sum_accuracy", "joint_accuracy", "digit_loss", "sum_loss")


class Metrics:
    """Means over steps with batches of the same size; `update` never waits for the device, and `compute` does."""

    AT_ONCE = 256  # steps; a dozen small operations after each single one would cost 2 % of its time

    def __init__(self, device: torch.device) -> None:
        self._totals = torch.zeros(1 + len(NAMES), device=device)  # samples, then the sums for NAMES
        self._steps: list[tuple[Tensor, ...]] = []  # not counted yet

    def update(self, sample: Sample, log_probs: Tensor, logits: Tensor, losses: Losses) -> None:
        """Add a step: its batch, its outputs [B, 10] and [B, 19], and its losses."""
        outputs = (tensor.detach() for tensor in (log_probs, logits, losses.digit, losses.sum))
        self._steps.append((sample.digit, sample.sum, *outputs))
        if len(self._steps) == self.AT_ONCE:
            self._count()

    def compute(self) -> dict[str, float]:
        """The means over the steps of all processes, by name: accuracies as fractions, losses in nats."""
        self._count()
        sum_over_processes(self._totals)
        samples, *totals = self._totals.tolist()
        return {name: total / samples for name, total in zip(NAMES, totals, strict=True)}

    def _count(self) -> None:
        if not self._steps:
            return
        *batches, digit_losses, sum_losses = zip(*self._steps, strict=True)
        digit, sum, log_probs, logits = map(torch.cat, batches)  # [S B], …, [S B, 19] for S steps
        digit_right, sum_right = log_probs.argmax(1) == digit, logits.argmax(1) == sum
        right = torch.stack([torch.ones_like(digit_right), digit_right, sum_right, digit_right & sum_right])
        losses = torch.stack([torch.stack(digit_losses), torch.stack(sum_losses)]).mean(1)
        self._totals += torch.cat([right.sum(1), losses * len(digit)])
        self._steps.clear()
