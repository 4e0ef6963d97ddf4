"""Recipes side by side over several seeds, beside the published figures."""

import csv
import io
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import torch

from .. import plots
from ..data import Data
from ..errors import InputError
from ..recipes import Recipe
from ..runs import files, folder
from ..runs.checkpoint import MACHINE
from ..withhold import pairs_to_withhold

PARTS = ("digit", "sum", "joint", "product", "withheld_sum")  # the last where pairs were withheld
COLUMNS = (
    *("recipe", "seed", "dataset", "split", "epochs", "parameters", "train_seconds"),
    *(f"{part}_accuracy" for part in PARTS),
    *("digit_loss", "sum_loss", "hardware", "device", "threads", "torch"),
)


class Published(NamedTuple):
    """A public solution's figures on MNIST, from its author's write-up; accuracies in %, "lowest–highest" epoch."""

    system: str
    recipe: str  # ours that reproduces it
    parameters: str
    epochs: int
    digit: str
    sum: str
    product: str
    measured: str


_A = (
    "MNIST's 10,000 test images, one number each: the last epoch, which is the best of the last seven; "
    "about 9 s an epoch on a GeForce GTX 960M"
)
_B = "its own 60,000 training images, a number each: lowest and highest epoch of a training that is stuck"
_C = "9,984 of MNIST's test images, one number each; the product is a mean over batches of 128; on a GPU"
PUBLISHED = (
    Published("A", "cascade", "21,843", 25, "99.32", "99.16", "—", _A),
    Published(
        "A", "cascade", "21,843", 25, "99.22", "99.06", "—", "the same images: the mean of the last seven epochs"
    ),
    Published("B", "stuck", "35,357", 10, "10.05–10.29", "10.72–11.04", "—", _B),
    Published("C", "shared-trunk", "17.3 K", 20, "99.32", "99.22", "98.55", _C),
)


def compare(
    recipes: Iterable[Recipe],
    data: Data,
    *,
    seeds: Iterable[int],
    device: torch.device | str = "cpu",
    out: str | Path = "runs/comparison",
    withhold: int | None = None,
    keep_sums: bool = True,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Train each recipe with each seed, as a run in ``<out>/<recipe>-<seed>``, and compare them.

    After each run, ``comparison.md``, ``.csv`` and ``.png`` in `out` are written anew. A finished run in `out` is read
    back instead of trained again, and an interrupted one goes on; runs of these recipes and settings with other seeds
    join the table. `withhold` pairs are drawn from each run's seed, see `pairs_to_withhold`. Returns the metrics of all runs in the table.
    `InputError` for a run in the place of one of these that was made with other settings.
    """
    out, recipes = Path(out), {recipe.name: recipe for recipe in recipes}

    def settings(seed: int) -> dict[str, Any]:
        withheld = pairs_to_withhold(withhold, seed, keep_sums=keep_sums) if withhold else []
        return {"device": device, "seed": seed, "withheld": withheld}

    wanted = {out / f"{name}-{seed}": (name, seed) for seed in seeds for name in recipes}
    rows: dict[Path, dict[str, Any]] = {}
    for path in sorted(file.parent for file in out.glob(f"*/{files.SUMS}")):
        name, _, seed = path.name.rpartition("-")
        if name in recipes and seed.isdecimal() and str(int(seed)) == seed:
            contents = files.read_checked(path)
            config, metrics = (json.loads(contents[part]) for part in (files.CONFIG, files.METRICS))
            difference = _difference(config, folder.run_config(recipes[name], data, **settings(int(seed))))
            if difference and path in wanted:
                raise InputError(f"{path} is a run with another {difference}: choose another --out, or delete it")
            if difference:
                print(f"left out: {path}, because its {difference} differs")
            else:
                rows[path] = metrics
    for place, (path, (name, seed)) in enumerate(wanted.items(), 1):
        print(f"\n{path} ({place} of {len(wanted)}){': done before' if path in rows else ''}", flush=True)
        if path not in rows:
            resume = (path / files.CHECKPOINT).exists()
            run = folder.train_run(path, recipes[name], data, resume=resume, quiet=quiet, **settings(seed))
            rows[path] = run.metrics
        table = sorted(rows.values(), key=lambda row: (list(recipes).index(row["recipe"]), row["seed"]))
        _write(out, table)
    return table


def _difference(config: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """The first thing in which two runs differ, besides the machine they were trained on."""
    config, wanted = config | config["settings"], wanted | wanted["settings"]
    names = [name for name in wanted if name not in (*MACHINE, "mnist_adder", "settings")]
    return next((name for name in names if config.get(name) != wanted[name]), None)


def _write(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    files.write(out / "comparison.md", markdown(rows))
    table = io.StringIO()
    lines = csv.DictWriter(table, COLUMNS, extrasaction="ignore", lineterminator="\n")
    lines.writeheader()
    lines.writerows(rows)
    files.write(out / "comparison.csv", table.getvalue())
    parts = [part for part in (*plots.COLOURS, "withheld_sum") if f"{part}_accuracy" in rows[0]]
    accuracies = {
        name: {part: [run[f"{part}_accuracy"] for run in group] for part in parts}
        for name, group in _by_recipe(rows).items()
    }
    published = {  # system A has two lines, and its author's own is the first of them
        p.recipe: {part: [float(value) for value in getattr(p, part).split("–")] for part in ("digit", "sum")}
        for p in (reversed(PUBLISHED) if rows[0]["dataset"] == "mnist" else ())
    }
    source = f"{rows[0]['dataset']}, {rows[0]['split']}"
    files.write_figures(out, {"comparison": plots.comparison(accuracies, published, source)})


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table of runs with one data source and split: a row for each recipe and, for MNIST, published system."""
    source = f"{rows[0]['dataset']}, {rows[0]['split']} split"
    parts = [part for part in PARTS if f"{part}_accuracy" in rows[0]]
    titles = [f"{part.replace('_', ' ')} %" for part in parts]
    lines = [("recipe", "parameters", "epochs", "seeds", "seconds", *titles, "measured on")]
    lines.append(("---", *["---:"] * (len(lines[0]) - 2), "---"))
    for name, group in _by_recipe(rows).items():
        seeds = [run["seed"] for run in group]
        counts = (
            f"{group[0]['parameters']:,}",
            group[0]["epochs"],
            f"{len(seeds)}: {min(seeds)}–{max(seeds)}" if len(seeds) > 1 else seeds[0],
        )
        values = [_mean([run["train_seconds"] for run in group], 1)]
        values += [_mean([100 * run[f"{part}_accuracy"] for run in group], 2) for part in parts]
        lines.append((f"`{name}`", *counts, *values, f"{source}, all ten numbers"))
    note = (
        f"Recipes: {source}; the last epoch; mean ± standard deviation over the seeds; trained on "
        f"{'; '.join(sorted({run['hardware'] + ', torch ' + run['torch'] for run in rows}))}. "
        "joint: both outputs right; product: digit × sum, for comparison only."
    )
    if rows[0]["dataset"] == "mnist":
        note += " Published figures are those of one training, as its author measured them."
        for p in PUBLISHED:
            values = p.digit, p.sum, "—", p.product, *["—"] * (len(parts) - 4)
            lines.append((f"published {p.system}", p.parameters, p.epochs, "1", "—", *values, p.measured))
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + f"\n\n{note}\n"


def _by_recipe(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {name: list(group) for name, group in itertools.groupby(rows, lambda run: run["recipe"])}


def _mean(values: Sequence[float], places: int) -> str:
    spread = f" ± {stdev(values):.{places}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{places}f}{spread}"
