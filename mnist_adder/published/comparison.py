"""Recipes side by side over several seeds, beside the published figures."""

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from matplotlib.figure import Figure

from .. import plots
from ..checks import InputError
from ..data import Data
from ..recipes import Recipe
from ..runs import files, folder
from ..withhold import pairs_to_withhold

PARTS = ("digit", "sum", "joint", "product", "withheld_sum")  # the last where pairs were withheld
# The public solutions' figures on MNIST, as their authors report them: the system, our recipe for it, parameters,
# epochs, digit, sum and product accuracy in % (of a range, the lowest and the highest epoch), and how they were measured.
PUBLISHED = (
    ("A", "cascade", "21,843", 25, "99.32", "99.16", "—", "MNIST's 10,000 test images, one number each: the last epoch, "
     "which is the best of the last seven; about 9 s an epoch on a GeForce GTX 960M"),
    ("A", "cascade", "21,843", 25, "99.22", "99.06", "—", "the same images: the mean of the last seven epochs"),
    ("B", "stuck", "35,357", 10, "10.05–10.29", "10.72–11.04", "—", "its own 60,000 training images, a number each: "
     "lowest and highest epoch of a training that is stuck"),
    ("C", "shared-trunk", "17.3 K", 20, "99.32", "99.22", "98.55", "9,984 of MNIST's test images, one number each; the "
     "product is a mean over batches of 128; on a GPU"),
)  # fmt: skip


def compare(
    recipes: Iterable[Recipe], data: Data, *, seeds: Iterable[int], device: torch.device | str = "cpu",
    out: str | Path = "runs/comparison", withhold: int | None = None, keep_sums: bool = True, quiet: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train each recipe with each seed, as a run in ``<out>/<recipe>-<seed>``; return the metrics of these runs.

    ``comparison.md``, ``.csv`` and ``.png`` in `out` are written anew after each run. A finished run in `out` is not
    trained again, and an interrupted one goes on. `withhold` pairs are drawn from each run's seed, see
    `pairs_to_withhold`. `InputError` for a run there with other settings.
    """
    out, recipes, rows, wanted = Path(out), list(recipes), {}, {}
    for seed in seeds:
        withheld = pairs_to_withhold(withhold, seed, keep_sums=keep_sums) if withhold is not None else []
        settings = {"device": device, "seed": seed, "withheld": withheld}
        wanted |= {out / f"{recipe.name}-{seed}": (recipe, settings) for recipe in recipes}
    for path, (recipe, settings) in wanted.items():
        if (path / files.SUMS).exists():
            contents = files.read_checked(path)
            config, rows[path] = (json.loads(contents[part]) for part in (files.CONFIG, files.METRICS))
            for change in files.differences(config, folder.run_config(recipe, data, **settings)):
                raise InputError(f"{path} is a run with another {change}: choose another --out, or delete it")
    order = [recipe.name for recipe in recipes]
    for place, (path, (recipe, settings)) in enumerate(wanted.items(), 1):
        print(f"\n{path} ({place} of {len(wanted)}){': done before' if path in rows else ''}", flush=True)
        if path not in rows:
            resume = (path / files.CHECKPOINT).exists()
            rows[path] = folder.train_run(path, recipe, data, resume=resume, quiet=quiet, **settings).metrics
        table = sorted(rows.values(), key=lambda row: (order.index(row["recipe"]), row["seed"]))
        files.write(out / "comparison.md", markdown(table))
        files.write_csv(out / "comparison.csv", table)
        files.write_figures(out, {"comparison": figure(table)})
    return table


def _by_recipe(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {name: list(runs) for name, runs in groupby(rows, lambda run: run["recipe"])}


def figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """The accuracies of runs with one data source and split, a row for each recipe."""
    parts = [part for part in PARTS if f"{part}_accuracy" in rows[0]]
    by_recipe = _by_recipe(rows).items()
    accuracies = {name: {p: [run[f"{p}_accuracy"] for run in runs] for p in parts} for name, runs in by_recipe}
    published = {  # system A has two lines, and its author's own is the first of them
        recipe: {part: [float(value) for value in cell.split("–")] for part, cell in (("digit", digit), ("sum", sum))}
        for _, recipe, _, _, digit, sum, *_ in (reversed(PUBLISHED) if rows[0]["dataset"] == "mnist" else ())
    }
    return plots.comparison(accuracies, published, f"{rows[0]['dataset']}, {rows[0]['split']}")


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table of runs with one data source and split: a row for each recipe and, for MNIST, published system."""
    source = f"{rows[0]['dataset']}, {rows[0]['split']} split"
    parts = [part for part in PARTS if f"{part}_accuracy" in rows[0]]
    titles = [f"{part.replace('_', ' ')} %" for part in parts]
    lines = [("recipe", "parameters", "epochs", "seeds", "seconds", *titles, "measured on")]
    lines.append(("---", *["---:"] * (len(titles) + 4), "---"))
    for name, runs in _by_recipe(rows).items():
        seeds = [run["seed"] for run in runs]
        count = f"{len(seeds)}: {min(seeds)}–{max(seeds)}" if len(seeds) > 1 else seeds[0]
        columns = [[run["train_seconds"] for run in runs]]
        columns += [[100 * run[f"{part}_accuracy"] for run in runs] for part in parts]
        values = [f"{fmean(column):.2f}" + (f" ± {stdev(column):.2f}" if len(runs) > 1 else "") for column in columns]
        first = f"`{name}`", f"{runs[0]['parameters']:,}", runs[0]["epochs"], count
        lines.append((*first, *values, f"{source}, all ten numbers"))
    hardware = "; ".join(sorted({f"{run['hardware']}, torch {run['torch']}" for run in rows}))
    note = f"Recipes: {source}; the last epoch; mean ± standard deviation over the seeds; trained on {hardware}. "
    note += "joint: both outputs right; product: digit × sum, for comparison only."
    if rows[0]["dataset"] == "mnist":
        note += " Published figures are those of one training, as its author measured them."
        for system, _, parameters, epochs, digit, sum, product, measured in PUBLISHED:
            values = digit, sum, "—", product, *["—"] * (len(parts) - 4)
            lines.append((f"published {system}", parameters, epochs, "1", "—", *values, measured))
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + f"\n\n{note}\n"
