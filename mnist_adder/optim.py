"""The optimiser of a recipe, its learning rate, and averages of the weights."""

import copy
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR

from .checks import InputError
from .recipes import Recipe


def make_optimizer(recipe: Recipe, model: nn.Module) -> Optimizer:
    """The recipe's optimiser; its weight decay spares 1-D parameters. `InputError` for an option that it refuses."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    flat = {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0}  # biases, BatchNorm and the like
    groups = [{"params": [p for p in parameters if p.dim() > 1]}, flat]
    fused = {"fused": True} if recipe.optimizer in ("SGD", "Adam", "AdamW") else {}  # one kernel for all parameters
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

    "swa" is the mean over the last steps (Izmailov et al. 2018, "Averaging weights leads to wider optima"), also of
    BatchNorm's running statistics. Unlike PyTorch's ``AveragedModel``, it counts on the CPU, so that no step waits.
    """

    def __init__(self, recipe: Recipe, model: nn.Module, steps: int) -> None:
        self._trained, self._averaged = model, copy.deepcopy(model) if recipe.averaging else None
        # The number of steps averaged; not positive before the averaging begins.
        self._count = max(1, round(recipe.averaged_share * steps)) - steps

    @property
    def model(self) -> nn.Module:
        """The averaged network, from the step on at which averaging begins; before it, the trained one."""
        return self._trained if self._averaged is None or self._count < 1 else self._averaged

    def update(self) -> None:
        """Add the weights after a step."""
        self._count += 1
        if self.model is self._averaged:
            tensors = zip(self._averaged.state_dict().values(), self._trained.state_dict().values(), strict=True)
            averaged, trained = zip(*((a, b) for a, b in tensors if a.is_floating_point()), strict=True)
            torch._foreach_lerp_(averaged, trained, 1 / self._count)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self._count, "averaged": self._averaged and self._averaged.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._count = state["count"]
        if self._averaged is not None:
            self._averaged.load_state_dict(state["averaged"])
