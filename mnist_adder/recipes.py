"""The recipes: named, complete experiments."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import nn

from .augment import RandomAffine, RandomElastic
from .checks import check_whole, plain
from .data import Augment
from .errors import InputError
from .files import describe
from .models import AdderNet, ExactAdderNet, NumberLineNet, QuickNet, WideNet


@dataclass(frozen=True)
class Epochs:
    """How many epochs a recipe has, where that depends on the data."""

    mnist: int  # on MNIST, and on data of your own
    digits: int  # on the bundled digits, a set 42 times smaller


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a training needs besides data, device and seed.

    Args:
        name: stands in reports and in the name of the run's folder.
        about: one line for the command line's help.
        model: what makes the network when it is called: a class, or a function without arguments.
        epochs: an int, or `Epochs` where the bundled digits have their own number of them.
        batch_size: images in a step.
        optimizer: the name of a class in `torch.optim`.
        optimizer_options: its arguments besides the rate, as a dict; kept as a tuple of pairs.
        lr: the learning rate; with the schedule "one-cycle", its highest value.
        schedule: "constant", or "one-cycle": from lr / 25 up to `lr`, then down to nearly 0.
        pct_start: the share of the steps in which the rate of a one-cycle schedule rises.
        digit_weight: the factor of the digit's loss in the total.
        sum_weight: the factor of the sum's loss in the total.
        label_smoothing: how much the digits' labels are smoothed, see `total_loss`. It is for
            training only, and makes the training's loss larger than the test's.
        fixed_numbers: draw one number for each image once, instead of afresh in each epoch.
        augment: a function of training images, see `AdderDataset`.
    """

    name: str
    about: str = ""
    model: Callable[[], nn.Module]
    epochs: int | Epochs
    batch_size: int = 128
    optimizer: str = "SGD"
    optimizer_options: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()
    lr: float
    schedule: str = "constant"
    pct_start: float = 0.3
    digit_weight: float = 1.0
    sum_weight: float = 1.0
    label_smoothing: float = 0.0
    fixed_numbers: bool = False
    augment: Augment | None = None

    def __post_init__(self) -> None:
        pairs = dict(self.optimizer_options).items()
        # `self.lr = …` is refused, because the class is frozen; this is the way round it.
        object.__setattr__(self, "optimizer_options", tuple(pairs))
        for field in fields(self):
            object.__setattr__(self, field.name, plain(getattr(self, field.name)))
        check_whole("epochs", self.epochs_on("mnist"), 1)
        check_whole("epochs", self.epochs_on("digits"), 1)
        check_whole("batch_size", self.batch_size, 2)  # BatchNorm cannot train on one image
        if not (isinstance(self.lr, int | float) and 0 < self.lr < math.inf):
            raise InputError(f"lr, the learning rate, must be above 0, not {self.lr!r}")
        if not (isinstance(self.pct_start, int | float) and 0 <= self.pct_start < 1):
            raise InputError(f"pct_start must be from 0 to below 1, not {self.pct_start!r}")
        if self.schedule not in ("constant", "one-cycle"):
            raise InputError(f"schedule must be constant or one-cycle, not {self.schedule!r}")

    def epochs_on(self, source: str) -> int:
        """Return the number of epochs on a data source."""
        if not isinstance(self.epochs, Epochs):
            return self.epochs
        return self.epochs.digits if source == "digits" else self.epochs.mnist

    def settings(self) -> dict[str, Any]:
        """Return all but name, about and model as plain data, as a run's config has it."""
        others = ("name", "about", "model")
        names = [field.name for field in fields(self) if field.name not in others]
        settings = {name: describe(getattr(self, name)) for name in names}
        settings["optimizer_options"] = {k: describe(v) for k, v in self.optimizer_options}
        return settings


# `fused` makes a step one operation: faster, with the same result.
SGD_OPTIONS = {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "fused": True}

ADDER = Recipe(
    name="adder",
    about="ours: a small CNN, a learned adder, one-cycle SGD, affine augmentation",
    model=AdderNet,
    epochs=Epochs(mnist=55, digits=80),
    optimizer_options=SGD_OPTIONS,
    lr=0.1,
    schedule="one-cycle",
    pct_start=0.2,
    sum_weight=0.1,  # the sum's gradient reaches the CNN, where it is noisier than the digit's
    augment=RandomAffine(degrees=12, translate=0.07, scale=0.12, shear=7),
)
LARGE = replace(
    ADDER,
    name="large",
    about="ours for the fewest mistakes: more channels, elastic augmentation",
    model=WideNet,
    epochs=Epochs(mnist=60, digits=80),
    augment=RandomElastic(degrees=12, translate=0.07, scale=0.12, shear=7, distortion=0.6),
)
NUMBER_LINE = replace(
    ADDER,
    name="number-line",
    about="ours with an adder of 21 parameters that learns to add: places on a line",
    model=NumberLineNet,
    sum_weight=1.0,
)
EXACT_ADDER = replace(
    ADDER,
    name="exact-adder",
    about="ours with an adder that has no parameters: it is given how to add",
    model=ExactAdderNet,
    sum_weight=1.0,
)
SUMS_ONLY = replace(
    EXACT_ADDER,
    name="sums-only",
    about="the exact adder, trained on the sum's loss alone, without a digit label",
    digit_weight=0.0,
)
SPEEDRUN = Recipe(
    name="speedrun",
    about="above the published accuracies in two epochs: a quicker CNN, no augmentation",
    model=QuickNet,
    epochs=Epochs(mnist=2, digits=30),
    batch_size=256,
    optimizer_options=SGD_OPTIONS,
    lr=0.5,
    schedule="one-cycle",
    sum_weight=0.1,
    label_smoothing=0.1,
)
ALL = (ADDER, LARGE, NUMBER_LINE, EXACT_ADDER, SUMS_ONLY, SPEEDRUN)
RECIPES = {recipe.name: recipe for recipe in ALL}
# The networks that a run's file may name. Nothing else is made from a name in a file.
MODELS = {describe(recipe.model): recipe.model for recipe in ALL}
