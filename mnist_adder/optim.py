"""The optimiser of a recipe, its learning rate, and averages of the weights."""

import copy
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR

from .errors import InputError
from .recipes import Recipe

FUSED = ("SGD", "Adam", "AdamW")  # have one kernel for all parameters


def make_optimizer(recipe: Recipe, model: nn.Module) -> Optimizer:
    """The recipe's optimiser. Its weight decay spares biases, BatchNorm and all other 1-D parameters.

    Raises:
        InputError: an option that the optimiser does not have, or a value that it refuses.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    flat = {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0}
    groups = [{"params": [p for p in parameters if p.dim() > 1]}, flat]
    fused = {"fused": True} if recipe.optimizer in FUSED else {}
    try:
        return getattr(torch.optim, recipe.optimizer)(groups, recipe.lr, **fused | dict(recipe.optimizer_options))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{recipe.optimizer} does not take {recipe.optimizer_options}: {error}") from error


def make_scheduler(recipe: Recipe, optimizer: Optimizer, steps: int) -> LRScheduler:
    """The learning rate over `steps` steps: constant; half a cosine down to 0; or one cycle up and down to 0."""
    if recipe.schedule == "constant":
        return LambdaLR(optimizer, lambda step: 1.0)
    if recipe.schedule == "cosine":
        return CosineAnnealingLR(optimizer, steps)
    # OneCycleLR divides by the number of rising steps less one, which must not be 0.
    pct_start = 1.5 / steps if recipe.pct_start * steps == 1 else float(recipe.pct_start)
    return OneCycleLR(optimizer, recipe.lr, steps, pct_start=pct_start, cycle_momentum=False)


class WeightAverage:
    """The network that a recipe is judged by: with averaged weights where the recipe asks for them.

    ``"swa"`` is the plain mean over the last steps (Izmailov et al. 2018, "Averaging weights leads to wider
    optima"), ``"ema"`` an exponential mean over all steps. BatchNorm's running statistics are averaged, too.
    Unlike PyTorch's ``AveragedModel``, it counts on the CPU, so that no step waits for the device.
    """

    def __init__(self, recipe: Recipe, model: nn.Module, steps: int) -> None:
        self._trained, self._averaged = model, copy.deepcopy(model) if recipe.averaging else None
        self._span, self._step = max(1, round(recipe.averaged_share * steps)), 0
        self._ema = recipe.averaging == "ema"
        self._first = 1 if self._ema else steps - self._span + 1  # the first step that is averaged

    @property
    def model(self) -> nn.Module:
        """The averaged network, from the step on at which averaging begins; before it, the trained one."""
        return self._trained if self._averaged is None or self._step < self._first else self._averaged

    @torch.no_grad()
    def update(self) -> None:
        """Add the weights after a step."""
        self._step += 1
        if self.model is self._trained:
            return
        count = self._step - self._first + 1
        weight = 1 / self._span if self._ema and count > 1 else 1 / count
        tensors = zip(self._averaged.state_dict().values(), self._trained.state_dict().values(), strict=True)
        averaged, trained = zip(*((a, b) for a, b in tensors if a.is_floating_point()), strict=True)
        torch._foreach_lerp_(averaged, trained, weight)

    def state_dict(self) -> dict[str, Any]:
        """The average so far, for a checkpoint."""
        return {"step": self._step, "averaged": self._averaged and self._averaged.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint of the same recipe."""
        self._step = state["step"]
        if self._averaged is not None:
            self._averaged.load_state_dict(state["averaged"])
