"""Recipes side by side over several seeds, beside what was published."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import torch

from . import plots, runs
from .data import Data, InputError
from .recipes import RECIPES, Recipe


class Published(NamedTuple):
    """A public solution's own figures, from its author's write-up; accuracies in %."""

    system: str
    recipe: str  # ours that reproduces it
    parameters: str
    epochs: int
    digit: tuple[float, ...]  # the figure, or the lowest and the highest epoch's
    sum: tuple[float, ...]
    product: tuple[float, ...]
    measured: str


_A = (
    "MNIST's 10,000 test images, one number each: the last epoch, which is the best of the last seven; about 9 s "
    "an epoch on a GeForce GTX 960M"
)
_A_MEAN = "the same images: the mean of the last seven epochs"
_B = "its own 60,000 training images, a number each: lowest and highest epoch of a training that is stuck"
_C = "9,984 of MNIST's test images, one number each; the product is a mean over batches of 128; on a GPU"
PUBLISHED = (
    Published("A", "cascade", "21,843", 25, (99.32,), (99.16,), (), _A),
    Published("A", "cascade", "21,843", 25, (99.22,), (99.06,), (), _A_MEAN),
    Published("B", "stuck", "35,357", 10, (10.05, 10.29), (10.72, 11.04), (), _B),
    Published("C", "shared-trunk", "17.3 K", 20, (99.32,), (99.22,), (98.55,), _C),
)
ACCURACIES = ("digit", "sum", "joint", "product")
COLUMNS = (
    *("recipe", "seed", "dataset", "split", "epochs", "parameters", "train_seconds"),
    *(f"{name}_accuracy" for name in ACCURACIES),
    *("digit_loss", "sum_loss", "hardware", "device", "threads", "torch"),
)


def compare(
    recipes: Iterable[Recipe],
    data: Data,
    *,
    seeds: Iterable[int],
    device: torch.device,
    out: Path,
    validate: int | None = None,
    bar: bool = True,
) -> list[dict[str, Any]]:
    """Train each recipe with each seed, as a run in ``<out>/<recipe>-<seed>``, and compare them.

    After each run, ``comparison.md``, ``.csv`` and ``.png`` in `out` are written anew. A run that `out`
    holds already is read back instead of trained again, and one that was interrupted goes on; runs of other
    recipes or seeds that it holds, on the same data, are in the table too.

    Args:
        recipes, data, device, bar: see `training.fit`.
        seeds: all recipes are trained with the first one, then with the next.
        out: made if it is not there.
        validate: the fold that `data` was loaded with.

    Returns:
        What each run's ``metrics.json`` holds, also of those found in `out`.

    Raises:
        InputError: a run in `out` that was made with other settings.
    """
    recipes = list(recipes)
    wanted = {out / f"{recipe.name}-{seed}": (recipe, seed) for seed in seeds for recipe in recipes}
    rows = {
        folder: _read_back(folder, recipe, data, seed, validate)
        for folder, (recipe, seed) in wanted.items()
        if (folder / runs.CONFIG).exists()
    }
    for config in out.glob(f"*/{runs.CONFIG}"):
        if config.parent not in wanted:
            found = _checked(runs.read_run(config.parent))
            if (found["dataset"], found["split"]) == (data.source, data.split):
                rows[config.parent] = found
    for place, (folder, (recipe, seed)) in enumerate(wanted.items(), 1):
        done = folder in rows
        print(f"\n{folder} ({place} of {len(wanted)}){': done before' if done else ''}", flush=True)
        if not done:
            resume = (folder / runs.STATE).exists()
            runs.make_folder(folder, recipe.name, force=resume)
            rows[folder] = runs.train_run(
                folder, recipe, data, device=device, seed=seed, resume=resume, validate=validate, bar=bar
            )
        _write(out, _in_order(rows.values()))
    return _in_order(rows.values())


def _in_order(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (list(RECIPES).index(row["recipe"]), row["seed"]))


def _read_back(folder: Path, recipe: Recipe, data: Data, seed: int, validate: int | None) -> dict[str, Any]:
    """The metrics of a finished run, if it is the one that would be trained now."""
    run = runs.read_run(folder)
    wanted = runs.settings_of(recipe) | {"epochs": recipe.length(data.source), "recipe": recipe.name}
    wanted |= {"seed": seed, "dataset": data.source, "validate": validate, "withheld": []}
    found = run.config["settings"] | run.config
    for name in sorted(wanted.keys() - {"about", "digits_epochs"}):  # which change no result
        if found.get(name) != wanted[name]:
            raise InputError(
                f"{folder} holds a run with {name} {found.get(name)}, not {wanted[name]}: "
                "choose another --out, or delete that folder"
            )
    return _checked(run)


def _checked(run: runs.Run) -> dict[str, Any]:
    if lacking := [name for name in COLUMNS if name not in run.metrics]:
        raise InputError(f"{run.folder / runs.METRICS} lacks {', '.join(lacking)}: delete that folder")
    return run.metrics


def _write(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    runs.write(out / "comparison.md", markdown(rows))
    table = io.StringIO()
    lines = csv.DictWriter(table, COLUMNS, extrasaction="ignore", lineterminator="\n")
    lines.writeheader()
    lines.writerows(rows)
    runs.write(out / "comparison.csv", table.getvalue())
    shares = {
        name: {part: [row[f"{part}_accuracy"] for row in group] for part in plots.COLOURS}
        for name, group in _by_recipe(rows).items()
    }
    source, published = f"{rows[0]['dataset']}, {rows[0]['split']}", {}
    if rows[0]["dataset"] == "mnist":
        # Of system A the first row, its own figure.
        published = {p.recipe: {"digit": p.digit, "sum": p.sum} for p in reversed(PUBLISHED)}
    runs.write_figures(out, {"comparison": plots.comparison(shares, published, source)})


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table: a row for each recipe, then one for each published system.

    Args:
        rows: what the runs' ``metrics.json`` hold, all of one data source and split.
    """
    source = f"{rows[0]['dataset']}, {rows[0]['split']} split"
    head = ("recipe", "parameters", "epochs", "seeds", "seconds", *(f"{name} %" for name in ACCURACIES))
    lines = [(*head, "measured on"), ("---", *["---:"] * (len(head) - 1), "---")]
    for name, group in _by_recipe(rows).items():
        one = group[0]
        seeds = _ranges([row["seed"] for row in group])
        seconds = _spread([row["train_seconds"] for row in group], 1)
        shares = [_spread([100 * row[f"{part}_accuracy"] for row in group], 2) for part in ACCURACIES]
        counts = (f"{one['parameters']:,}", one["epochs"], seeds, seconds)
        lines.append((f"`{name}`", *counts, *shares, f"{source}, all ten numbers"))
    for p in PUBLISHED:
        shares = ["–".join(f"{value:.2f}" for value in of) or "—" for of in (p.digit, p.sum, (), p.product)]
        lines.append((f"published {p.system}", p.parameters, p.epochs, "one", "—", *shares, p.measured))
    table = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
    machines = "; ".join(sorted({f"{row['hardware']}, torch {row['torch']}" for row in rows}))
    return (
        f"{table}\n\nRecipes: {source}; the last epoch; mean ± standard deviation over the seeds; trained on "
        f"{machines}. joint: both outputs right; product: digit × sum, for comparison only. Published figures "
        "are those of one training, as its author measured them.\n"
    )


def _ranges(seeds: Sequence[int]) -> str:
    """Sorted numbers as text: the first and the last where none between is missing."""
    whole = len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1
    return f"{seeds[0]}–{seeds[-1]}" if whole else ", ".join(map(str, seeds))


def _by_recipe(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["recipe"], []).append(row)
    return groups


def _spread(values: Sequence[float], places: int) -> str:
    spread = f" ± {stdev(values):.{places}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{places}f}{spread}"
