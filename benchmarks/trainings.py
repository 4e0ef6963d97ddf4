"""Trains what the tables of recipes and of withheld pairs need, and keeps a line for each training.

    python benchmarks/trainings.py comparison  # every recipe, five seeds or ten
    python benchmarks/trainings.py withheld    # 81, 60, 40 and 20 pairs withheld: who adds, and who remembers?

A training whose line is in ``results/trainings.csv`` is not done again, whatever machine it was done on: delete the line
to repeat it. A finished run in ``runs/trainings`` is read, and an interrupted one goes on. Several of these commands may
share the work, each with ``OMP_NUM_THREADS=1``; for times to report, run one of them and nothing else.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout
from torch import nn

from mnist_adder import __version__
from mnist_adder.checks import InputError
from mnist_adder.published.recipes import RECIPES
from mnist_adder.runs import files, folder
from mnist_adder.sources import load_data
from mnist_adder.withhold import pairs_to_withhold

RESULTS = Path(__file__).parent / "results/trainings.csv"
RUNS = Path("runs/trainings")
SEEDS = range(10, 15)
KEY = ("mnist_adder", "recipe", "epochs", "withheld", "seed")
METRICS = (
    "dataset", "split", "hardware", "torch", "parameters", "train_seconds", "digit_accuracy", "sum_accuracy",
    "joint_accuracy", "product_accuracy", "shown_sum_accuracy", "withheld_sum_accuracy",
)  # fmt: skip
PLACES = ("in_order", "largest_error_of_a_step")  # of the number line
Row = dict[str, object]


def comparison() -> Iterator[Row]:
    """Every recipe with five seeds; `stuck` with ten, because they end differently."""
    for name in RECIPES:
        for seed in range(10, 20) if name == "stuck" else SEEDS:
            yield training(name, 0, seed)


def withheld() -> Iterator[Row]:
    """The number line with ten seeds, and the MLP with one: it has nothing right from any."""
    for count in (81, 60, 40, 20):
        for name, seeds in (("number-line", range(10, 20)), ("adder", [10])):
            for seed in seeds:
                yield training(name, count, seed)


def training(recipe: str, count: int, seed: int) -> Row:
    """What tells a training from all others."""
    return dict(zip(KEY, (__version__, recipe, RECIPES[recipe].length("mnist"), count, seed), strict=True))


def rows() -> list[Row]:
    """The lines of results of this version of the package; a line lacks what does not apply."""
    numbers = {name: float for name in METRICS if name.endswith(("seconds", "accuracy"))} | {PLACES[1]: float}
    numbers |= dict.fromkeys(("epochs", "withheld", "seed", "parameters"), int)
    with RESULTS.open() as file:
        lines = [{name: value for name, value in line.items() if value} for line in csv.DictReader(file)]
    lines = [line for line in lines if line["mnist_adder"] == __version__]
    return [{name: numbers.get(name, str)(value) for name, value in line.items()} for line in lines]


def train(key: Row) -> Row:
    """Train, go on with a training, or read a finished one; returns its line of results."""
    name, count, seed = key["recipe"], key["withheld"], key["seed"]
    path = RUNS / f"{name}-{count}-{seed}"
    print(f"\n{path}", flush=True)
    if (path / files.SUMS).exists():
        run = folder.read_run(path)
    else:
        pairs = pairs_to_withhold(count, seed, keep_sums=False) if count else []
        resume = (path / files.CHECKPOINT).exists()
        run = folder.train_run(path, RECIPES[name], load_data("mnist"), seed=seed, withheld=pairs, resume=resume)
    line = measure(run.model) if name == "number-line" else {}
    return key | {name: run.metrics[name] for name in METRICS if name in run.metrics} | line


def measure(model: nn.Module) -> Row:
    """The order and the spacing of the places of a number line; equal steps of 1 add exactly."""
    steps = [places.detach().diff() for places in model.adder.places()]  # [9] each
    error = max((step - 1).abs().max().item() for step in steps)
    return dict(zip(PLACES, (all((step > 0).all() for step in steps), round(error, 4)), strict=True))


def main() -> None:
    """Train what is missing, and write each line as soon as its training is done."""
    tables = {"comparison": comparison, "withheld": withheld}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=tables)
    wanted = list(tables[parser.parse_args().table]())
    RUNS.mkdir(parents=True, exist_ok=True)
    order, empty = list(RECIPES), dict.fromkeys([*KEY, *METRICS, *PLACES])
    for key in wanted:
        lock = FileLock(RUNS / f"{key['recipe']}-{key['withheld']}-{key['seed']}.lock", timeout=0)
        with suppress(Timeout), lock:  # otherwise another of these commands trains it
            if any(key.items() <= row.items() for row in rows()):
                continue
            row = train(key)
            with FileLock(RUNS / "results.lock"):
                lines = [empty | line for line in (*rows(), row)]
                lines.sort(key=lambda line: (order.index(line["recipe"]), line["withheld"], line["seed"]))
                files.write_csv(RESULTS, lines)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"trainings: error: {error}", file=sys.stderr)
        sys.exit(2)
