"""Time our training against a published loop, in turn, on this machine: `make bench`.

The rows of a section in ``results/bench.csv`` are replaced when it is done, so that an interrupted
bench keeps what it has. README.md, beside this file, says how each section measures.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import fmean, median, stdev

import torch
import torch.nn.functional as F
from torch import nn

from baselines import Baseline
from mnist_adder import RECIPES, Data, Recipe, Split, Training, __version__, evaluate, load_data
from mnist_adder.devices import device_name, processor
from store import RESULTS, Row, read_table, run_program, write_table

import published  # isort: skip  (store makes it found)

MEASURES = ("median", "least", "greatest", "mean", "error", "repeats")  # error: of the mean
COLUMNS = ("section", "what", "unit", *MEASURES, "version", "machine")
CASCADE = published.CASCADE
SEEDS = range(10, 20)


class Untested(Training):
    """A training without tests, to be timed from the raw pixels to the final weights."""

    def test(self) -> dict[str, float]:
        return {}


def main() -> None:
    """Measure the sections asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="show that it works, measure nothing")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--out", type=Path, default=RESULTS / "bench.csv", metavar="FILE")
    options = parser.parse_args()
    data = load_data("digits" if options.quick else "mnist")
    if options.quick:
        few = Split(data.test.images[:64], data.test.digits[:64])
        data = replace(first(data, 512), test=few)
    for name in options.only:
        if name == "gpu" and not torch.cuda.is_available():
            continue
        print(f"{name} …", flush=True)
        rows = SECTIONS[name](data, options.quick)
        labels = {"section": name, "version": __version__, "machine": machine(name, data)}
        rows = [{**row, **labels} for row in rows]
        for row in rows:
            print(f"  {row['what']}: {row['median']:.4g} {row['unit']}", flush=True)
        if not options.quick:
            table = [row for row in read_table(options.out) if row["section"] != name] + rows
            table.sort(key=lambda row: list(SECTIONS).index(row["section"]))
            write_table(options.out, table, COLUMNS)


def machine(section: str, data: Data) -> str:
    """Return what the figures of a section depend on."""
    gpu = f"{device_name(torch.device('cuda'))}; " if section == "gpu" else ""
    cpu = f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return f"{gpu}{cpu}; {versions}, {platform.system()}; {data.source}"


def summarise(what: str, unit: str, values: Iterable[float]) -> Row:
    """Return a row of the table."""
    values = list(values)
    count = len(values)
    return {
        "what": what,
        "unit": unit,
        "median": median(values),
        "least": min(values),
        "greatest": max(values),
        "mean": fmean(values),
        "error": stdev(values) / count**0.5 if count > 1 else 0.0,
        "repeats": count,
    }


def seconds(action: Callable[[], object]) -> float:
    """Return how long an action takes, until a GPU has finished its work."""
    start = now()
    action()
    return now() - start


def now() -> float:
    """Return a clock's seconds when a GPU, where there is one, has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def in_turn(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each action, by turns: a busy moment of the machine meets them all."""
    taken = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            taken[name].append(seconds(action))
    return taken


def first(data: Data, count: int) -> Data:
    """Return the data with the first `count` training images only."""
    images, digits = data.train
    return replace(data, train=Split(images[:count], digits[:count]))


def warmed_up(recipe: Recipe, data: Data) -> Training:
    """Return a training whose `train_epoch` can be timed again and again."""
    training = Training(replace(recipe, schedule="constant"), data)
    for sample in islice(training.loader, 4):
        training.train_step(sample)
    return training


def overhead(data: Data, quick: bool) -> list[Row]:
    """Compare our epoch to the bare limit: forward, backward and step on batches that lie ready.

    `quick`, here and below, asks for so little that it shows only that the bench works.
    """
    data = first(data, 12_800)  # a hundred steps a turn
    recipe = RECIPES["adder"]
    plain = replace(recipe, augment=None)
    limit = warmed_up(plain, data)
    ready = [(image, number, digit, sum.argmax(1)) for image, number, digit, sum in limit.loader]

    def bare() -> None:
        for image, number, digit, sum in ready:
            limit.optimizer.zero_grad()
            log_probs, logits = limit.model(image, number)
            digit_loss = F.nll_loss(log_probs, digit)
            sum_loss = F.cross_entropy(logits, sum)
            loss = digit_loss + recipe.sum_weight * sum_loss
            loss.backward()
            limit.optimizer.step()

    actions = {
        "bare limit": bare,
        "our epoch without augmentation": warmed_up(plain, data).train_epoch,
        "our epoch": warmed_up(recipe, data).train_epoch,
    }
    taken = in_turn(actions, 1 if quick else 151)
    limits = taken.pop("bare limit")
    rows = [summarise("bare limit", "s", limits)]
    for name, values in taken.items():
        over = [100 * (own / least - 1) for own, least in zip(values, limits, strict=True)]
        rows.append(summarise(f"{name}, above the limit", "%", over))
    return rows


def headline(data: Data, quick: bool, device: str = "cpu") -> list[Row]:
    """Time ten `speedrun`s, between system A's 25 epochs."""
    recipe = replace(RECIPES["speedrun"], epochs=2)  # on the digits, too
    seeds = SEEDS[:2] if quick else SEEDS
    epochs = 2 if quick else CASCADE.epochs.mnist
    short = replace(recipe, epochs=1)
    timed_training(short, first(data, 512), device, seed=0)  # warms up
    torch.manual_seed(1)
    theirs = Baseline(CASCADE.model(), data.train, CASCADE.batch_size, device)
    ours = []
    metrics = []
    baseline = []
    for turn, seed in enumerate(seeds, 1):
        taken, model = timed_training(recipe, data, device, seed)
        ours.append(taken)
        metrics.append(evaluate(model, data).metrics)
        while len(baseline) < turn * epochs // len(seeds):
            baseline.append(seconds(theirs.train_epoch))
    rows = [
        summarise("speedrun", "s", ours),
        summarise("system A", "s", [sum(baseline)]),
        summarise("system A's time ÷ ours", "×", [sum(baseline) / median(ours)]),
    ]
    for part in ("digit", "sum"):
        values = [100 * metric[f"{part}_accuracy"] for metric in metrics]
        rows.append(summarise(f"speedrun, {part} accuracy", "%", values))
    return rows


def timed_training(recipe: Recipe, data: Data, device: str, seed: int) -> tuple[float, nn.Module]:
    """Return the seconds of a whole training without tests, and its network."""
    start = now()
    training = Untested(recipe, data, device=device, seed=seed)
    for _ in training:
        pass
    return now() - start, training.model


def gpu(data: Data, quick: bool) -> list[Row]:
    """Time the headline on the GPU, with system A's batches moved there, and the recipe `adder`."""
    rows = headline(data, quick, "cuda")
    recipe = RECIPES["adder"]
    if quick:
        recipe = replace(recipe, epochs=1)
    times = []
    joint = []
    for seed in SEEDS[:3]:
        taken, model = timed_training(recipe, data, "cuda", seed)
        metrics = evaluate(model, data).metrics
        times.append(taken)
        joint.append(100 * metrics["joint_accuracy"])
    rows.append(summarise("adder", "s", times))
    rows.append(summarise("adder, joint accuracy", "%", joint))
    return rows


SECTIONS = {
    "overhead": overhead,  # first, in a fresh process: its steps are the shortest
    "headline": headline,
    "gpu": gpu,
}


if __name__ == "__main__":
    run_program(main)
