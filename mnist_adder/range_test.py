"""The learning-rate range test."""

import math
from typing import NamedTuple

import torch

from .checks import InputError
from .data import Data
from .devices import place
from .models import Network, build
from .optim import make_optimizer
from .recipes import Recipe
from .training import make_loader, train_step


class LRRange(NamedTuple):
    """The result of a range test: a value per step, and a rate."""

    rates: list[float]
    losses: list[float]  # of the batch, before its step; the recipe's total, in nats
    smoothed: list[float]
    suggestion: float | None  # None where the loss never fell


def lr_range(
    recipe: Recipe, data: Data, *, model: Network | None = None, device: torch.device | str = "cpu", seed: int = 0,
    lowest: float = 1e-5, highest: float = 10.0, steps: int = 200,
) -> LRRange:  # fmt: skip
    """Train while the rate rises exponentially, and find where the loss falls fastest.

    The range test of Smith 2017, "Cyclical learning rates for training neural networks", section 3.3. The losses are
    smoothed exponentially, with the bias of the first values corrected (Kingma and Ba 2015, section 3). The suggestion
    is the middle of the third of a decade in which the smoothed loss falls most on its way to its lowest value. The
    test ends early when the smoothed loss passes four times its lowest value, or the loss is not finite. The arguments
    are those of `training.fit`. `InputError` for rates or `steps` out of range, or a loss that is not finite at the start.
    """
    if not (0 < lowest < highest < math.inf and steps >= 20):
        raise InputError("a range test needs 0 < lowest rate < highest rate and 20 steps or more")
    torch.manual_seed(seed)
    network = place(build(recipe.model if model is None else model), device).train()
    loader, optimizer = make_loader(recipe, data, device, seed=seed), make_optimizer(recipe, network)
    growth = (highest / lowest) ** (1 / (steps - 1))
    memory = 1 - 20 / steps  # the smoothing looks back over about a twentieth of the steps
    rates, losses, smoothed, average = [], [], [], 0.0
    for step in range(steps):
        if step % len(loader) == 0:
            loader.set_epoch(1 + step // len(loader))
            samples = iter(loader)
        for group in optimizer.param_groups:
            group["lr"] = lowest * growth**step
        loss = train_step(network, next(samples), recipe, optimizer)[2].total.item()
        if not math.isfinite(loss):
            break
        average = memory * average + (1 - memory) * loss
        rates.append(lowest * growth**step)
        losses.append(loss)
        smoothed.append(average / (1 - memory ** (step + 1)))
        if smoothed[-1] > 4 * min(smoothed):
            break
    if not losses:
        raise InputError("the loss is not finite before the first step: begin with other weights")
    span = round(math.log(10 ** (1 / 3), growth))  # steps
    starts = range(smoothed.index(min(smoothed)) + 1 - span)
    fall, start = max(((smoothed[i] - smoothed[i + span], i) for i in starts), default=(0, 0))
    return LRRange(rates, losses, smoothed, rates[start + span // 2] if fall > 0 else None)
