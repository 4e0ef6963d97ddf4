"""Compares candidate recipes on folds of the training set; the test set is never opened.

    python benchmarks/search.py --candidate base --candidate swa averaging=swa averaged_share=0.1

The candidates are changes of one recipe. All are trained on the same folds with the same seeds (seed = fold), and
compared in pairs with the first of them. Results are kept in ``results.jsonl``, a line for each training, and
trainings that are there are not done again. ``results.md`` is the table.
"""

import argparse
import ast
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean, stdev

import torch

from mnist_adder.checks import InputError
from mnist_adder.devices import device_name, gpu_check
from mnist_adder.published.recipes import RECIPES
from mnist_adder.recipes import Recipe
from mnist_adder.runs import files
from mnist_adder.sources import FOLDS, load_data
from mnist_adder.training import fit

ACCURACIES = ("joint", "digit")


def candidate(recipe: Recipe, name: str, *changes: str) -> Recipe:
    """A recipe with changes ``setting=value``, where the value is a Python literal or else a text."""
    values = {"name": name}
    for change in changes:
        setting, equals, text = change.partition("=")
        if not equals or setting not in asdict(recipe):
            raise InputError(f"{change!r} is no change of a recipe: write setting=value, such as lr=0.2")
        try:
            values[setting] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[setting] = text
    return replace(recipe, **values)


def train(recipe: Recipe, source: str, fold: int, device: torch.device) -> dict[str, float]:
    """Train on all folds but one; the accuracies on that one, and the seconds."""
    fitted = fit(recipe, load_data(source, validate=fold), device=device, seed=fold, quiet=True)
    accuracies = {part: fitted.history[-1][f"test_{part}_accuracy"] for part in ACCURACIES}
    return accuracies | {"seconds": fitted.train_seconds}


def markdown(results: dict[str, list[dict]], head: str) -> str:
    """A row for each candidate; `results` has the trainings of each, in the same order of folds."""
    columns = [title for part in ACCURACIES for title in (f"{part} accuracy, %", "difference, points")]
    lines = [["candidate", *columns, "seconds"], ["---"] + ["---:"] * (len(columns) + 1)]
    reference, *_ = results.values()
    for name, trainings in results.items():
        cells = [name]
        for part in ACCURACIES:
            pairs = zip(trainings, reference, strict=True)
            differences = [100 * (training[part] - other[part]) for training, other in pairs]
            error = f"{stdev(differences) / len(differences) ** 0.5:.3f}" if len(differences) > 1 else "?"
            difference = "" if trainings is reference else f"{fmean(differences):+.3f} ± {error}"
            cells += [f"{100 * fmean(training[part] for training in trainings):.3f}", difference]
        lines.append([*cells, f"{fmean(training['seconds'] for training in trainings):.1f}"])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    note = "Means over the folds; ± is the standard error of the mean difference to the first candidate."
    return f"{head}\n\n{table}\n\n{note}\n"


def main() -> None:
    """Train what is not trained yet, and write the table anew after each fold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=RECIPES, default="adder", help="what the candidates change")
    parser.add_argument("--candidate", nargs="+", action="append", required=True, metavar=("NAME", "SETTING=VALUE"))
    parser.add_argument("--folds", type=int, choices=range(1, FOLDS + 1), default=6, metavar="N", help="1–12 (6)")
    parser.add_argument("--data", choices=("mnist", "digits"), default="mnist")
    parser.add_argument("--out", type=Path, default=Path("runs/search"), metavar="DIR")
    options = parser.parse_args()

    candidates = [candidate(RECIPES[options.recipe], *words) for words in options.candidate]
    device = gpu_check()
    machine = f"{device_name(device)}, torch {torch.__version__}"
    path = options.out / "results.jsonl"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    results = {recipe.name: [] for recipe in candidates}
    if len(results) < len(candidates):
        raise InputError("two candidates have the same name: give each its own")
    for fold in range(options.folds):
        for recipe in candidates:
            settings = {name: value for name, value in asdict(recipe).items() if name not in ("name", "about")}
            key = {"settings": settings, "data": options.data, "fold": fold, "machine": machine}
            training = next((row for row in done if row.items() >= key.items()), None)
            if training is None:
                training = {"candidate": recipe.name, **key, **train(recipe, options.data, fold, device)}
                done.append(training)
                files.write(path, "".join(f"{json.dumps(row)}\n" for row in done))
            results[recipe.name].append(training)
            print(f"fold {fold}  {recipe.name:30} joint {training['joint']:.3%}", flush=True)
        head = f"`{options.recipe}` on {options.data}, folds 0–{fold}, {machine}"
        files.write(options.out / "results.md", markdown(results, head))
    print((options.out / "results.md").read_text())


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"search: error: {error}", file=sys.stderr)
        sys.exit(2)
