"""The recipes: named, complete experiments. This file imports no torch, so that ``--help`` is quick."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .checks import check_recipe

# Each of our networks by a short name, and where it is defined. Any "package.module:Name" does as well.
MODELS = {
    "adder": "mnist_adder.models:AdderNet",
    "quick": "mnist_adder.models:QuickNet",
    "number-line": "mnist_adder.models:NumberLineNet",
    "exact-adder": "mnist_adder.models:ExactAdderNet",
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a training needs besides data, device and seed. `InputError` for settings that `checks` does not allow."""

    name: str
    about: str = ""
    model: str | Callable[[], Any]  # a name in `MODELS`, "package.module:Name", or what makes a network
    epochs: int | Mapping[str, int]  # the same for all data, or by the name of the data source

    batch_size: int = 128
    optimizer: str = "SGD"  # a class of torch.optim
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)  # its arguments besides lr
    lr: float  # the peak, unless the schedule is "constant"
    schedule: str = "constant"
    pct_start: float = 0.3  # share of a one-cycle schedule in which the rate rises
    averaging: str | None = None
    averaged_share: float = 0.25  # the last share of the steps, over which the weights are averaged

    digit_weight: float = 1.0  # of the two parts of the loss
    sum_weight: float = 1.0
    label_smoothing: float = 0.0  # of the digit's loss

    fixed_numbers: bool = False  # one number per image, drawn once
    degrees: float = 0.0  # augmentation, see `augment.affine_maps`
    translate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0

    def __post_init__(self) -> None:
        check_recipe(self, MODELS)

    def length(self, source: str) -> int:
        """The number of epochs on a data source; another source has MNIST's, or else the longest."""
        if isinstance(self.epochs, Mapping):
            return self.epochs.get(source, self.epochs.get("mnist", max(self.epochs.values())))
        return self.epochs


ADDER = Recipe(
    name="adder",
    about="ours: a small CNN, a learned adder, one-cycle SGD, affine augmentation",
    model="adder",
    epochs={"mnist": 55, "digits": 80},
    optimizer_options={"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
    lr=0.1,
    schedule="one-cycle",
    pct_start=0.2,
    sum_weight=0.1,  # the sum's gradient reaches the CNN, where it is noisier than the digit's
    degrees=12,
    translate=0.07,
    scale=0.12,
    shear=7,
)
SPEEDRUN = Recipe(
    name="speedrun", about="the published headline in two epochs: a quicker CNN, smoothed labels, no augmentation",
    model="quick", epochs={"mnist": 2, "digits": 30}, batch_size=256, lr=0.5, schedule="one-cycle", sum_weight=0.1,
    label_smoothing=0.1, optimizer_options={"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
)  # fmt: skip
NUMBER_LINE = replace(
    ADDER, name="number-line", model="number-line", sum_weight=1.0,
    about="ours with an adder of 21 parameters that learns to add: places on a line",
)  # fmt: skip
EXACT = replace(
    ADDER, name="exact-adder", model="exact-adder", sum_weight=1.0,
    about="ours with the adder that has no parameter: the bound for every learned one",
)  # fmt: skip
SUMS_ONLY = replace(
    EXACT, name="sums-only", digit_weight=0.0,
    about="the exact adder, trained on the sum's loss alone, without a digit label",
)  # fmt: skip
RECIPES = {recipe.name: recipe for recipe in (ADDER, NUMBER_LINE, EXACT, SUMS_ONLY, SPEEDRUN)}
