"""Train what the tables of accuracy need; a line for each training in ``results/trainings.csv``.

    python benchmarks/trainings.py comparison  # every recipe
    python benchmarks/trainings.py withheld    # 81 of the 100 pairs withheld

A training that has a line of this version is not done again. An interrupted one goes on. To repeat
one, delete its line and its folder in runs/trainings.
"""

import argparse
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from mnist_adder import RECIPES, Recipe, __version__, load_data, pairs_to_withhold
from store import RESULTS, Row, read_table, run_program, write_table

import published  # isort: skip  (store makes it found)

PUBLISHED_RECIPES = {recipe.name: recipe for recipe in published.PUBLISHED_RECIPES}
ALL_RECIPES = RECIPES | PUBLISHED_RECIPES
FIRST_SEED = 10
SEEDS = {  # how many; three of all others
    "adder": 5,
    "large": 5,
    "number-line": 5,
    "speedrun": 10,  # the headline
    "stuck": 10,  # to show that none of its trainings learns
}
KEY = ("version", "recipe", "epochs", "withheld", "seed", "dataset")
METRICS = {  # column: the metric's name in a run
    "hardware": "hardware",
    "torch": "torch",
    "parameters": "parameters",
    "digit": "digit_accuracy",
    "sum": "sum_accuracy",
    "joint": "joint_accuracy",
    "shown_sum": "shown_sum_accuracy",
    "withheld_sum": "withheld_sum_accuracy",
}
PLACES = ("in_order", "step_error")  # of the number line
COLUMNS = (*KEY, *METRICS, *PLACES)


class Task(NamedTuple):
    """A training to be done."""

    recipe: Recipe
    withheld: int  # pairs
    seed: int


def comparison() -> Iterator[Task]:
    """Every recipe with its seeds."""
    for name, recipe in ALL_RECIPES.items():
        for seed in seeds(SEEDS.get(name, 3)):
            yield Task(recipe, 0, seed)


def withheld() -> Iterator[Task]:
    """The number line with three seeds; the MLP and the exact adder, the two bounds, with one."""
    for seed in seeds(3):
        yield Task(RECIPES["number-line"], 81, seed)
    yield Task(RECIPES["adder"], 81, FIRST_SEED)
    yield Task(RECIPES["exact-adder"], 81, FIRST_SEED)


def seeds(count: int) -> range:
    """Return the first seeds."""
    return range(FIRST_SEED, FIRST_SEED + count)


def key_of(task: Task, dataset: str) -> Row:
    """Return what tells the line of a training from all others."""
    return {
        "version": __version__,
        "recipe": task.recipe.name,
        "epochs": task.recipe.epochs_on(dataset),
        "withheld": task.withheld,
        "seed": task.seed,
        "dataset": dataset,
    }


def train(task: Task, folder: Path, dataset: str) -> Row:
    """Train, go on with a training, or read a finished one; return its measures."""
    pairs = []
    if task.withheld > 0:
        pairs = pairs_to_withhold(task.withheld, task.seed, keep_sums=False)
    training_class = published.training_class(task.recipe)
    data = load_data(dataset)
    training = training_class(task.recipe, data, seed=task.seed, withheld=pairs)
    run = published.finished_run(folder, training, quiet=False)
    row = {column: run.metrics.get(name) for column, name in METRICS.items()}
    if task.recipe.name == "number-line":
        row.update(measure_places(run.model))
    return row


def measure_places(model: nn.Module) -> Row:
    """Return whether a number line is in order, and the largest error of a step, which adds as 1.

    The places of digits and of numbers rise by 1 from each to the next if the line adds exactly.
    """
    digit_places, number_places = model.adder.places()
    steps = torch.cat([digit_places.diff(), number_places.diff()]).detach()  # [18]
    errors = (steps - 1).abs()
    return {"in_order": int((steps > 0).all()), "step_error": float(errors.max())}


def main() -> None:
    """Train what is missing, and write each line as soon as its training is done."""
    tables = {"comparison": comparison, "withheld": withheld}
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("table", choices=tables)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="these only (all)")
    parser.add_argument("--data", choices=("mnist", "digits"), default="mnist")
    parser.add_argument("--out", type=Path, default=RESULTS / "trainings.csv", metavar="FILE")
    options = parser.parse_args()
    for task in tables[options.table]():
        if options.recipes and task.recipe.name not in options.recipes:
            continue
        key = key_of(task, options.data)
        done = read_table(options.out)
        if any(key.items() <= row.items() for row in done):
            continue
        name = "-".join(str(value) for value in key.values())
        folder = Path("runs/trainings", name)
        row = {**key, **train(task, folder, options.data)}
        add_line(options.out, row)


def add_line(path: Path, row: Row) -> None:
    """Write a line of results in the place of an older version's."""
    same = itemgetter("recipe", "withheld", "seed", "dataset")
    others = [old for old in read_table(path) if same(old) != same(row)]
    order = list(ALL_RECIPES)
    lines = [*others, row]
    lines.sort(key=lambda line: (order.index(line["recipe"]), line["withheld"], line["seed"]))
    write_table(path, lines, COLUMNS)


if __name__ == "__main__":
    run_program(main)
