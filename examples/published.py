"""The three published systems, rebuilt, and compared with the figures that their authors report.

It shows how networks, recipes and a way of training of your own are brought to the package.

    python examples/published.py  # trains all of them with several seeds; it can be interrupted

The trainings take about 45 minutes on two CPU cores: A 9, B 2 and C 5 for each of three seeds.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_swa_avg_fn

from mnist_adder import (
    Data,
    Epochs,
    InputError,
    Recipe,
    Run,
    Training,
    TwoInputNet,
    gpu_check,
    load_data,
    plots,
    read_run,
    runs,
    train_run,
)
from mnist_adder.data import DIGITS, MEAN, NUMBERS, STD, SUMS, Sample
from mnist_adder.models import Rescale, conv_block

DROPOUT = 0.01


def dropout_block(inputs: int, outputs: int, *, kernel: int = 3) -> list[nn.Module]:
    """Return system A's block: convolution, BatchNorm, ReLU, dropout; it pads nothing."""
    return [*conv_block(inputs, outputs, kernel=kernel, padding=0), nn.Dropout(DROPOUT)]


def linear_block(inputs: int, outputs: int) -> list[nn.Module]:
    """Return a linear layer of system A's adder, with all that follows it."""
    linear = nn.Linear(inputs, outputs)
    return [linear, nn.BatchNorm1d(outputs), nn.ReLU(inplace=True), nn.Dropout(DROPOUT)]


class Cascade(TwoInputNet):
    """System A: a CNN whose ten raw scores, with the number, go into an adder MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            Rescale(255 * STD, 255 * MEAN),  # pixels as they are stored, 0…255
            *dropout_block(1, 10),  # [B, 10, 26, 26]
            *dropout_block(10, 10),  # [B, 10, 24, 24]
            *conv_block(10, 15, padding=0),  # [B, 15, 22, 22]
            nn.MaxPool2d(2),  # [B, 15, 11, 11]
            *dropout_block(15, 10, kernel=1),
            *dropout_block(10, 10),  # [B, 10, 9, 9]
            *dropout_block(10, 10),  # [B, 10, 7, 7]
            *dropout_block(10, 10),  # [B, 10, 5, 5]
            nn.Conv2d(10, DIGITS, 5, bias=False),  # [B, 10, 1, 1]
            nn.Flatten(),  # [B, 10]
        )
        self.adder = nn.Sequential(
            *linear_block(DIGITS + NUMBERS, 32),
            *linear_block(32, 64),
            *linear_block(64, 128),
            nn.Linear(128, SUMS),
        )

    def features(self, image: Tensor) -> Tensor:
        return self.cnn(image)

    def combine(self, features: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.adder(torch.cat([features, number], 1))  # [B, 20] → [B, 19]
        return F.log_softmax(features, 1), logits


class TrunkNet(TwoInputNet):
    """A CNN, then a trunk that sees its features and the number, then a head for each output.

    A subclass makes `cnn`, `trunk`, `digit_head` and `sum_head`.
    """

    def features(self, image: Tensor) -> Tensor:
        return self.cnn(image)

    def combine(self, features: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        trunk = self.trunk(torch.cat([features, number], 1))  # [B, 60]
        return F.log_softmax(self.digit_head(trunk), 1), self.sum_head(trunk)


class TwoHeads(TrunkNet):
    """System B, mended: the heads give scores."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            Rescale(STD, MEAN),  # pixels in 0…1
            nn.Conv2d(1, 6, 5),  # [B, 6, 24, 24]
            nn.ReLU(),
            nn.MaxPool2d(2),  # [B, 6, 12, 12]
            nn.Conv2d(6, 12, 5),  # [B, 12, 8, 8]
            nn.ReLU(),
            nn.MaxPool2d(2),  # [B, 12, 4, 4]
            nn.Flatten(),  # [B, 192]
        )
        self.trunk = nn.Sequential(
            nn.Linear(192 + NUMBERS, 120),
            nn.ReLU(),
            nn.Linear(120, 60),
            nn.ReLU(),
        )
        self.digit_head = nn.Linear(60, DIGITS)
        self.sum_head = nn.Linear(60, SUMS)


class TwoSoftmaxHeads(TwoHeads):
    """System B: each head ends in softmax, and the loss takes the softmax of that once more."""

    def __init__(self) -> None:
        super().__init__()
        self.digit_head = nn.Sequential(self.digit_head, nn.Softmax(1))
        self.sum_head = nn.Sequential(self.sum_head, nn.Softmax(1))


class SharedTrunk(TrunkNet):
    """System C.

    The layers of its CNN are not published. These have the published 9.9 K parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            *conv_block(1, 10),
            *conv_block(10, 16),
            nn.MaxPool2d(2),  # [B, 16, 14, 14]
            *conv_block(16, 16),
            *conv_block(16, 16),
            nn.MaxPool2d(2),  # [B, 16, 7, 7]
            *conv_block(16, 22),
            nn.AvgPool2d(7),  # [B, 22, 1, 1]
            nn.Conv2d(22, 20, 1, bias=False),
            nn.Flatten(),  # [B, 20]
        )
        self.trunk = nn.Sequential(
            nn.Linear(20 + NUMBERS, 60, bias=False),
            nn.BatchNorm1d(60),
            nn.ReLU(inplace=True),
            nn.Linear(60, 60, bias=False),
            nn.BatchNorm1d(60),
            nn.ReLU(inplace=True),
        )
        self.digit_head = nn.Linear(60, DIGITS, bias=False)
        self.sum_head = nn.Linear(60, SUMS, bias=False)


CASCADE = Recipe(
    name="cascade",
    about="published system A: raw pixels, numbers drawn once, plain SGD",
    model=Cascade,
    epochs=Epochs(mnist=25, digits=100),
    optimizer_options={"momentum": 0.9},
    lr=0.01,
    fixed_numbers=True,
)
STUCK = Recipe(
    name="stuck",
    about="published system B: softmax before cross-entropy, the sum's loss only",
    model=TwoSoftmaxHeads,
    epochs=Epochs(mnist=10, digits=100),
    batch_size=32,
    optimizer="Adam",
    lr=0.01,
    digit_weight=0.0,
)
UNSTUCK = replace(
    STUCK,
    name="unstuck",
    about="system B mended: scores to the loss, both losses, a lower rate",
    model=TwoHeads,
    lr=0.001,
    digit_weight=1.0,
)
SHARED_TRUNK = Recipe(
    name="shared-trunk",
    about="published system C: one trunk, two heads, one-cycle, averaged weights",
    model=SharedTrunk,
    epochs=Epochs(mnist=20, digits=100),
    # Nesterov's momentum and the weight decay are our choice: they are not published.
    optimizer_options={"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
    lr=0.166,  # the rate that its author's range test suggested
    schedule="one-cycle",
)
PUBLISHED_RECIPES = (CASCADE, STUCK, UNSTUCK, SHARED_TRUNK)


class AveragedTraining(Training):
    """Average the weights of all steps in the last quarter of the epochs.

    This is stochastic weight averaging (Izmailov et al. 2018, "Averaging weights leads to wider
    optima"). It also averages BatchNorm's means and variances. After each of those epochs, `model`
    is the average, which is tested; the next epoch goes on from the weights of the last step.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        # Without avg_fn, it would divide BatchNorm's whole numbers, which CUDA refuses.
        self.average = AveragedModel(self.model, avg_fn=get_swa_avg_fn(), use_buffers=True)
        self.last_step = copy.deepcopy(self.model.state_dict())

    def train_epoch(self) -> dict[str, float]:
        self.model.load_state_dict(self.last_step)
        measured = super().train_epoch()
        self.last_step = copy.deepcopy(self.model.state_dict())
        if self.average.n_averaged > 0:
            self.model.load_state_dict(self.average.module.state_dict())
        return measured

    def train_step(self, sample: Sample) -> dict[str, Tensor]:
        measured = super().train_step(sample)
        if 4 * len(self.history) >= 3 * self.epochs:
            self.average.update_parameters(self.model)
        return measured

    def state_dict(self) -> dict[str, Any]:
        own = {"average": self.average.state_dict(), "last_step": self.last_step}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.average.load_state_dict(state["average"])
        self.last_step = state["last_step"]


class Published(NamedTuple):
    """A published result on MNIST, as its author reports it; accuracies in %."""

    system: str
    recipe: str  # the name of ours for it
    parameters: str
    epochs: int
    digit: str  # of a training that is stuck: its lowest and its highest epoch
    sum: str
    product: str  # of the two accuracies
    measured_on: str


PUBLISHED = (
    Published(
        "A",
        "cascade",
        "21,843",
        25,
        "99.32",
        "99.16",
        "—",
        "test images, one number each; the last epoch, which is the best of the last seven",
    ),
    Published(
        "A",
        "cascade",
        "21,843",
        25,
        "99.22",
        "99.06",
        "—",
        "the same images; the mean of the last seven epochs",
    ),
    Published(
        "B",
        "stuck",
        "35,357",
        10,
        "10.05–10.29",
        "10.72–11.04",
        "—",
        "its own training images, fresh numbers; the lowest and the highest epoch",
    ),
    Published(
        "C",
        "shared-trunk",
        "17.3 K",
        20,
        "99.32",
        "99.22",
        "98.55",
        "9,984 test images, one number each; the product is a mean over batches",
    ),
)
PARTS = ("digit", "sum", "joint")


def compare(
    recipes: Iterable[Recipe],
    data: Data,
    *,
    seeds: Iterable[int],
    folder: str | Path,
    quiet: bool = False,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Train each recipe with each seed, as a run in ``folder/<recipe>-<seed>``; return the metrics.

    ``comparison.md`` and ``comparison.png`` in `folder` are written anew after each run. A finished
    run is read back, and an interrupted one goes on. `settings` are those of `Training`. Raise
    `InputError` for a run there with other settings.
    """
    folder = Path(folder)
    seeds = list(seeds)
    rows = []
    for recipe in recipes:
        for seed in seeds:
            training = training_class(recipe)(recipe, data, seed=seed, **settings)
            run = finished_run(folder / f"{recipe.name}-{seed}", training, quiet)
            rows.append(run.metrics)
            runs.write(folder / "comparison.md", markdown(rows).encode())
            runs.write(folder / "comparison.png", plots.png(figure(rows)))
    return rows


def training_class(recipe: Recipe) -> type[Training]:
    """Return the class of a recipe's training: system C's averages its weights."""
    return AveragedTraining if recipe.model is SharedTrunk else Training


def finished_run(folder: Path, training: Training, quiet: bool) -> Run:
    """Return the run in a folder: read back, gone on with, or trained from its beginning."""
    if not quiet:
        print(f"\n{folder}", flush=True)
    resume = (folder / runs.CHECKPOINT).exists()
    if resume or not (folder / runs.CHECKSUMS).exists():
        return train_run(folder, training, resume=resume, quiet=quiet)
    run = read_run(folder, model=training.recipe.model)
    changed = runs.differences(run.config, runs.run_config(training))
    if changed:
        advice = "choose another folder, or another name for the recipe"
        raise InputError(f"{folder} holds a run whose {changed[0]} differs: {advice}")
    return run


def by_recipe(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each recipe, which stand together."""
    return {name: list(group) for name, group in groupby(rows, lambda row: row["recipe"])}


def published_on(rows: Sequence[dict[str, Any]]) -> list[Published]:
    """Return the published results that may stand beside these: those on MNIST."""
    return list(PUBLISHED) if rows[0]["dataset"] == "mnist" else []


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table with a row for each recipe and each published result."""
    shares = [f"{part} %" for part in (*PARTS, "product")]
    titles = ["", "parameters", "epochs", "seeds", *shares, "measured on"]
    lines = [titles, ["---"] * len(titles)]
    for name, group in by_recipe(rows).items():
        first = group[0]
        seeds = ", ".join(str(row["seed"]) for row in group)
        accuracies = [mean([100 * row[f"{part}_accuracy"] for row in group]) for part in PARTS]
        products = [100 * row["digit_accuracy"] * row["sum_accuracy"] for row in group]
        accuracies.append(mean(products))
        counts = [f"{first['parameters']:,}", str(first["epochs"]), seeds]
        measured_on = f"{first['dataset']}, {first['split']}: all ten numbers"
        lines.append([f"`{name}`", *counts, *accuracies, measured_on])
    for result in published_on(rows):
        name = f"published {result.system} (`{result.recipe}`)"
        accuracies = [result.digit, result.sum, "—", result.product]
        counts = [result.parameters, str(result.epochs), "1"]
        lines.append([name, *counts, *accuracies, result.measured_on])
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    hardware = "; ".join(sorted({f"{row['hardware']}, torch {row['torch']}" for row in rows}))
    note = f"Mean ± standard deviation over the seeds; the last epoch. Trained on {hardware}."
    return f"{table}\n\n{note}\n"


def mean(values: Sequence[float]) -> str:
    """Return the mean, with the standard deviation where there are several values."""
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{fmean(values):.2f}{spread}"


def figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw the shares of wrong answers: a dot for each run, a diamond for a published result."""
    recipes = list(by_recipe(rows))
    width = 4 + 1.3 * len(recipes)
    axes = Figure(figsize=(width, 4.6), layout="constrained").subplots()
    for index, (part, colour) in enumerate(plots.COLOURS.items()):
        shift = 0.2 * (index - 1)
        places = [recipes.index(row["recipe"]) + shift for row in rows]
        # A logarithmic axis has no zero.
        wrong = [max(0.01, 100 - 100 * row[f"{part}_accuracy"]) for row in rows]
        axes.plot(places, wrong, ".", color=colour, label=part)
        for result in published_on(rows):
            if result.recipe in recipes and part != "joint":
                place = recipes.index(result.recipe) + shift
                for value in getattr(result, part).split("–"):
                    axes.plot(place, 100 - float(value), "D", color=colour, fillstyle="none")
    axes.set_title(f"Each run; diamonds: published ({rows[0]['dataset']}, {rows[0]['split']})")
    axes.set(yscale="log", ylabel="wrong answers in %")
    axes.set_xticks(range(len(recipes)), recipes)
    axes.legend()
    return axes.figure


if __name__ == "__main__":
    folder = Path("runs/published")
    data = load_data("auto")
    compare(PUBLISHED_RECIPES, data, seeds=range(10, 13), folder=folder, device=gpu_check())
    print((folder / "comparison.md").read_text())
    print(f"{folder} has this table, its figure, and a run for each recipe and seed")
