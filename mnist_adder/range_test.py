"""The learning-rate range test."""

import math
from dataclasses import replace
from itertools import chain, repeat
from typing import Any, NamedTuple

from torch.optim.lr_scheduler import ExponentialLR

from .data import Data
from .errors import InputError
from .recipes import Recipe
from .training import Training

LOWEST = 1e-5
HIGHEST = 10.0


class LRRange(NamedTuple):
    """The result of a range test: a value per step, and a rate."""

    rates: list[float]
    losses: list[float]  # of the batch, before its step; the recipe's total, in nats
    smoothed: list[float]
    suggestion: float | None  # None where the loss never fell


class RangeTraining(Training):
    """A training whose rate rises exponentially from `LOWEST` to `HIGHEST` in `steps` steps."""

    def __init__(self, recipe: Recipe, data: Data, steps: int, **settings: Any) -> None:
        self.growth = (HIGHEST / LOWEST) ** (1 / (steps - 1))
        super().__init__(replace(recipe, lr=LOWEST), data, **settings)

    def make_scheduler(self) -> ExponentialLR:
        return ExponentialLR(self.optimizer, self.growth)


def lr_range(recipe: Recipe, data: Data, *, steps: int = 200, **settings: Any) -> LRRange:
    """Train while the rate rises exponentially, and find where the loss falls fastest.

    The range test of Smith 2017, "Cyclical learning rates for training neural networks", section
    3.3. The losses are smoothed exponentially, with the bias of the first values corrected (Kingma
    and Ba 2015, section 3). The suggestion is the middle of the third of a decade in which the
    smoothed loss falls most on its way to its lowest value. The test ends early when the smoothed
    loss passes four times its lowest value. `settings` are those of `Training`. Raise `InputError`
    for fewer than 20 steps, or a loss that is not finite at the start.
    """
    if steps < 20:
        raise InputError("a range test needs 20 steps or more")
    training = RangeTraining(recipe, data, steps, **settings)
    samples = chain.from_iterable(repeat(training.loader))  # one epoch after the other
    memory = 1 - 20 / steps  # the smoothing looks back over about a twentieth of the steps
    average = 0.0
    rates = []
    losses = []
    smoothed = []
    for step, sample in zip(range(steps), samples, strict=False):
        rate = training.scheduler.get_last_lr()[0]
        loss = training.train_step(sample)["loss"].item()
        if not math.isfinite(loss):
            break
        average = memory * average + (1 - memory) * loss
        rates.append(rate)
        losses.append(loss)
        smoothed.append(average / (1 - memory ** (step + 1)))
        if smoothed[-1] > 4 * min(smoothed):
            break
    return LRRange(rates, losses, smoothed, suggest(rates, smoothed, training.growth))


def suggest(rates: list[float], smoothed: list[float], growth: float) -> float | None:
    """Return the middle of the third of a decade in which the loss falls most."""
    if not rates:
        raise InputError("the loss is not finite before the first step: begin with other weights")
    span = round(math.log(10 ** (1 / 3), growth))  # steps
    best_fall = 0.0
    suggestion = None
    for start in range(smoothed.index(min(smoothed)) + 1 - span):
        fall = smoothed[start] - smoothed[start + span]
        if fall > best_fall:
            best_fall = fall
            suggestion = rates[start + span // 2]
    return suggestion
