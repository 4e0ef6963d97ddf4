"""Compare recipes on folds of the training set; the test set is never opened.

    python benchmarks/search.py my_candidates.py

The Python file holds a list of recipes with different names, and the first is the reference:

    from dataclasses import replace
    from mnist_adder import RECIPES

    speedrun = RECIPES["speedrun"]
    CANDIDATES = [speedrun, replace(speedrun, name="batch 192", batch_size=192)]

All are trained on the same folds, with the fold as the seed, and are compared in pairs with the
first. A training that has its line in ``runs/search/my_candidates.csv`` is not done again: delete
this file after a change of a network's layers.
"""

import argparse
import runpy
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

import torch

from mnist_adder import Recipe, fit, gpu_check, load_data
from mnist_adder.devices import device_name
from mnist_adder.errors import InputError
from mnist_adder.files import describe
from mnist_adder.sources import FOLDS
from store import Row, read_table, run_program, write_table

COLUMNS = ("candidate", "settings", "dataset", "fold", "machine", "joint", "seconds")


def comparison(candidates: Sequence[Sequence[Row]]) -> list[Row]:
    """Return a row for each candidate, given as its trainings on the folds: means in per cent.

    The difference is that to the first candidate, in points, with its standard error.
    """
    reference = candidates[0]
    rows = []
    for trainings in candidates:
        pairs = zip(trainings, reference, strict=True)
        differences = [100 * (own["joint"] - other["joint"]) for own, other in pairs]
        count = len(differences)
        row = {
            "candidate": trainings[0]["candidate"],
            "joint": 100 * fmean(training["joint"] for training in trainings),
            "difference": fmean(differences),
            "error": stdev(differences) / count**0.5 if count > 1 else float("nan"),
            "seconds": fmean(training["seconds"] for training in trainings),
        }
        rows.append(row)
    return rows


def read_candidates(path: Path) -> list[Recipe]:
    """Return the recipes of a Python file."""
    candidates = runpy.run_path(str(path))["CANDIDATES"]
    if len({recipe.name for recipe in candidates}) < len(candidates):
        raise InputError("two candidates have the same name: give each its own")
    return candidates


def main() -> None:
    """Train what is not trained yet, and print the table after each fold."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("file", type=Path)
    parser.add_argument("--folds", type=int, choices=range(1, FOLDS + 1), default=6, metavar="N")
    parser.add_argument("--data", choices=("mnist", "digits"), default="mnist")
    parser.add_argument("--out", type=Path, default=Path("runs/search"), metavar="DIR")
    options = parser.parse_args()

    candidates = read_candidates(options.file)
    device = gpu_check()
    path = options.out / f"{options.file.stem}.csv"
    results = {recipe.name: [] for recipe in candidates}
    for fold in range(options.folds):
        data = load_data(options.data, validate=fold)
        for recipe in candidates:
            key = {
                "candidate": recipe.name,
                "settings": str({**recipe.settings(), "model": describe(recipe.model)}),
                "dataset": options.data,
                "fold": fold,
                "machine": f"{device_name(device)}, torch {torch.__version__}",
            }
            done = read_table(path)
            row = next((row for row in done if key.items() <= row.items()), None)
            if row is None:
                history = fit(recipe, data, device=device, seed=fold, quiet=True).history
                row = {**key, "seconds": sum(epoch["seconds"] for epoch in history)}
                row["joint"] = history[-1]["test_joint_accuracy"]
                write_table(path, [*done, row], COLUMNS)
            results[recipe.name].append(row)
        print(f"\nfolds 0–{fold}: joint accuracy, difference ± error in points, seconds")
        for row in comparison(list(results.values())):
            difference = f"{row['difference']:+.3f} ± {row['error']:.3f}"
            print(f"{row['joint']:8.3f} % {difference}{row['seconds']:8.1f} s  {row['candidate']}")


if __name__ == "__main__":
    run_program(main)
