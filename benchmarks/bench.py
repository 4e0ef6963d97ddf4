"""Measures what the README claims: ours against the published loops, in turn, on this machine's CPU.

``make bench`` runs all sections and writes ``results.json``, ``results.md`` and ``results.png`` after each,
so that an interrupted bench keeps what it has. README.md, beside this file, says what each section measures.
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import peers
import report
from mnist_adder import runs, training
from mnist_adder.data import Data, InputError, Split, load_data, normalise, one_hot_number
from mnist_adder.evaluation import evaluate
from mnist_adder.models import Pixels, build
from mnist_adder.recipes import RECIPES, Recipe

HEADLINE = {"digit": 0.9932, "sum": 0.9922}  # the best published figure of each
SEEDS = range(10, 15)
FASTEST = RECIPES.get("speedrun", RECIPES["adder"])
# Both nets are trained alike where pipelines are compared: no augmentation, numbers drawn once, as system A.
PLAIN = {
    "system A's net": RECIPES["cascade"],
    "our net": dataclasses.replace(RECIPES["cascade"], model="adder"),
}


@dataclass(frozen=True)
class Settings:
    """What is measured, and how often."""

    data: Data
    quick: bool
    repeats: int


def main() -> None:
    """Run the sections asked for; each is written as soon as it is finished."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few images and steps: shows that it works")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="NAME",
                        help=", ".join(SECTIONS))  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), metavar="DIR")
    options = parser.parse_args()

    data = load_data("auto" if options.quick else "mnist")
    if options.quick:
        train, test = (Split(*(part[:512] for part in split)) for split in (data.train, data.test))
        data = dataclasses.replace(data, train=train, test=test)
    settings = Settings(data, options.quick, repeats=1 if options.quick else 3)

    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "results.json"
    results = {"machine": machine(), "data": data.source, "quick": options.quick, "sections": {}}
    if file.exists():
        former = json.loads(file.read_text())
        if all(former[key] == results[key] for key in ("machine", "data", "quick")):
            results["sections"] = former["sections"]
    for name in options.only:
        print(f"{name} …", flush=True)
        section = SECTIONS[name](settings)
        results["sections"][name] = {"about": SECTIONS[name].__doc__, **section}
        runs.write_json(file, results)
        runs.write(options.out / "results.md", report.markdown(results))
        runs.write_figures(options.out, report.figures(results))
        print(report.table(results["sections"][name]), flush=True)


def machine() -> dict:
    """What the figures depend on."""
    names = [platform.processor()]
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(": ")[1] for line in lines if line.startswith("model name")] or names
    return {
        "cpu": names[0] or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def row(name: str, unit: str, values: Iterable[float], **facts) -> dict:
    """A line of a table; `facts` are for the figure."""
    values = list(values)
    spread = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {"name": name, "unit": unit, **spread, "values": values, **facts}


def seconds(action: Callable[[], object]) -> float:
    """How long it takes, on a steady clock."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def in_turn(contestants: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each contestant, by turns: a busy moment of the machine meets all of them."""
    taken = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, action in contestants.items():
            taken[name].append(seconds(action))
    return taken


def their_epoch(pipeline: str, recipe: Recipe, split: Split, batch_size: int = 128) -> Callable[[], None]:
    """An epoch of one of `peers`, warmed up."""
    model = build(recipe.model).to(memory_format=torch.contiguous_format)  # PyTorch's default, as theirs
    if pipeline == "system A" and isinstance(model.cnn[0], Pixels):
        model.cnn[0] = nn.Identity()  # its raw pixels need no bringing back to 0…255
    optimizer = peers.make_optimizer(model)
    warm = peers.PIPELINES[pipeline](Split(*(part[: 4 * batch_size] for part in split)), batch_size)
    peers.train_epoch(model, optimizer, warm())
    batches = peers.PIPELINES[pipeline](split, batch_size)
    return lambda: peers.train_epoch(model, optimizer, batches())


def our_epoch(recipe: Recipe, split: Split, batch_size: int = 128) -> Callable[[], None]:
    """An epoch of ours, warmed up: what `training.fit` runs."""
    recipe = dataclasses.replace(recipe, batch_size=batch_size, schedule="constant")
    model = build(recipe.model)
    optimizer = training.make_optimizer(recipe, model)
    scheduler = training.make_scheduler(recipe, optimizer, 1)
    average = training.Average(recipe, model, 1)

    def epoch(part: Split) -> Callable[[], None]:
        batches = training.make_batches(recipe, part, seed=0)
        return lambda: training.train_epoch(model, batches, recipe, optimizer, scheduler, average)

    epoch(Split(*(part[: 4 * batch_size] for part in split)))()
    return epoch(split)


def images_per_second(
    recipe: Recipe, split: Split, pipelines: Iterable[str], repeats: int, batch_size: int = 128
) -> dict[str, list[float]]:
    """Of one epoch of each pipeline and of ours, with one model; ours leaves out the incomplete batch."""
    epochs = {name: their_epoch(name, recipe, split, batch_size) for name in pipelines}
    epochs["ours"] = our_epoch(recipe, split, batch_size)
    count = len(split.digits)
    counts = dict.fromkeys(epochs, count) | {"ours": count // batch_size * batch_size}
    taken = in_turn(epochs, repeats)
    return {name: [counts[name] / value for value in values] for name, values in taken.items()}


def time_to_headline(settings: Settings) -> dict:
    """Training seconds to the published headline: ours, five seeds, between the epochs of system A's 25."""
    data, recipe = settings.data, FASTEST
    seeds, rounds = (SEEDS[:2], 1) if settings.quick else (SEEDS, RECIPES["cascade"].epochs // len(SEEDS))
    if settings.quick:
        recipe = dataclasses.replace(recipe, epochs=1, digits_epochs=1)
    torch.manual_seed(1)
    model = build("cascade")
    pixels, model.cnn[0] = model.cnn[0], nn.Identity()
    optimizer = peers.make_optimizer(model)
    batches = peers.system_a(data.train, 128)
    ours, theirs, metrics = [], [], []
    for seed in seeds:
        fitted = training.fit(recipe, data, seed=seed, bar=False)
        ours.append(fitted.train_seconds)
        metrics.append(evaluate(fitted.model, data.test).metrics)
        theirs += [seconds(lambda: peers.train_epoch(model, optimizer, batches())) for _ in range(rounds)]
    model.cnn[0] = pixels
    published = evaluate(model, data.test).metrics
    reached = {part: statistics.mean(m[f"{part}_accuracy"] for m in metrics) for part in (*HEADLINE, "joint")}
    holds = all(reached[part] >= wanted for part, wanted in HEADLINE.items())
    ratio = sum(theirs) / statistics.median(ours)
    epochs = recipe.length(data.source)
    rows = [
        row(f"ours: `{recipe.name}`, {epochs} epoch{'s' * (epochs > 1)}", "s", ours, contestant="ours"),
        row(f"system A: {len(theirs)} epochs, once", "s", [sum(theirs)], contestant="system A"),
        row("system A: one epoch", "s", theirs),
        *(row(f"ours: {part} accuracy, %", "%", [100 * m[f"{part}_accuracy"] for m in metrics])
          for part in reached),
    ]  # fmt: skip
    notes = [
        f"Ours takes 1/{ratio:.0f} of system A's time.",
        f"Mean of seeds {seeds[0]}–{seeds[-1]}: " + accuracies(reached)
        + f"; the headline ({accuracies(HEADLINE)}) {'is' if holds else 'is NOT'} reached.",
        "System A, as trained here: "
        + accuracies({part: published[f"{part}_accuracy"] for part in reached}) + ".",
    ]  # fmt: skip
    return {"rows": rows, "notes": notes, "ratio": ratio, "reached": holds}


def accuracies(shares: dict[str, float]) -> str:
    """In per cent, on one line."""
    return ", ".join(f"{name} {100 * share:.3f} %" for name, share in shares.items())


def pipeline(settings: Settings) -> dict:
    """Images per second of one training epoch: the same model, their input pipeline against ours."""
    split, rows, notes = settings.data.train, [], []
    loaders = {name: make(split, 128) for name, make in peers.PIPELINES.items()}
    loaders["ours"] = lambda: training.make_batches(PLAIN["our net"], split, seed=0)
    alone = {name: lambda batches=batches: deque(batches(), 0) for name, batches in loaders.items()}
    for name, taken in in_turn(alone, settings.repeats).items():
        rates = [len(split.digits) / value for value in taken]
        rows.append(row(f"no net at all, {name}", "images/s", rates, pipeline=name))
    for net, recipe in PLAIN.items():
        rates = images_per_second(recipe, split, peers.PIPELINES, settings.repeats)
        rows += [row(f"{net}, {name}", "images/s", v, net=net, pipeline=name) for name, v in rates.items()]
        middle = {name: statistics.median(values) for name, values in rates.items()}
        ratios = [f"{middle['ours'] / middle[name]:.2f}× {name}" for name in peers.PIPELINES]
        notes.append(f"On {net}, ours is {', '.join(ratios)}.")
        at_once = {r["pipeline"]: r["median"] for r in rows if "net" not in r}["system A"]
        bound = 1 / (1 - middle["system A"] / at_once)
        notes.append(f"Had system A's batches cost nothing, {net} would have trained {bound:.2f}× as fast.")
    return {"rows": rows, "notes": notes}


def scaling(settings: Settings) -> dict:
    """Images per second on system A's net as batch size, data and threads grow, system A's pipeline and ours."""
    split, rows = settings.data.train, []
    part = Split(*(tensor[:15_000] for tensor in split))

    def measure(
        what: str, value: int, split: Split, batch_size: int = 128, repeats: int = settings.repeats
    ) -> None:
        rates = images_per_second(PLAIN["system A's net"], split, ["system A"], repeats, batch_size)
        for name, values in rates.items():
            rows.append(
                row(f"{what} {value:,}, {name}", "images/s", values, grows=what, at=value, pipeline=name)
            )

    for batch_size in (32, 128) if settings.quick else (32, 64, 128, 256, 512, 1024):
        measure("batch size", batch_size, part, batch_size)
    for times in (1, 2, 4):
        more = Split(*(torch.cat([tensor] * times) for tensor in split))
        measure("images", len(more.digits), more, repeats=1)
    threads = torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        measure("threads", count, part)
    torch.set_num_threads(threads)
    return {"rows": rows, "notes": [f"Batch sizes and threads on the first {len(part.digits):,} images."]}


def overhead(settings: Settings) -> dict:
    """Our epoch of 12,800 images against the bare limit: forward, backward and step on ready batches."""
    # A hundred steps a turn, so that a slow moment of the machine meets all contestants of a round.
    recipe, split = RECIPES["adder"], Split(*(part[:12_800] for part in settings.data.train))
    plain = dataclasses.replace(recipe, rotate=0.0, shift=0.0, zoom=0.0, slant=0.0)
    model = build(recipe.model).train()
    optimizer = training.make_optimizer(recipe, model)
    ready = list(training.make_batches(plain, split, seed=0))

    def bare() -> None:
        for image, number, digit, sum in ready:
            optimizer.zero_grad(set_to_none=True)
            digit_log_probabilities, sum_scores = model(image, number)
            (F.nll_loss(digit_log_probabilities, digit) + F.cross_entropy(sum_scores, sum)).backward()
            optimizer.step()

    bare()
    contestants = {
        "the `adder` net's bare limit": bare,
        "our epoch, without augmentation": our_epoch(plain, split, recipe.batch_size),
        "our epoch, as the recipe has it": our_epoch(recipe, split, recipe.batch_size),
    }
    taken = in_turn(contestants, 10 * settings.repeats + 1)
    limit, *ours = taken.values()
    notes = []
    for name, values in zip(list(taken)[1:], ours, strict=True):
        ratio = statistics.median(value / bare for value, bare in zip(values, limit, strict=True))
        notes.append(f"{name}: {ratio - 1:+.1%} against the bare limit of its round (median of the ratios).")
    return {"rows": [row(name, "s", values) for name, values in taken.items()], "notes": notes}


# Linux hands a process's peak on to what it starts: a small process stands between, to start from little.
PEAKS = """import resource, subprocess, sys
command = [sys.executable, "-c", *sys.argv[1:]]
done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
print(done.stdout.split()[-1], resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"""
OWN = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
COMMAND = f"import sys; from mnist_adder.__main__ import main; main(sys.argv[1:]); {OWN}"


def memory(settings: Settings) -> dict:
    """Peak resident memory of a training process: the command line, one epoch, figures and all."""

    def peaks(*arguments: str) -> list[float]:
        command = [sys.executable, "-c", PEAKS, *arguments]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        unit = 1 if sys.platform == "darwin" else 1024
        return [int(peak) * unit / 1e6 for peak in done.stdout.split()]

    source = "digits" if settings.quick else settings.data.source
    measured = {"`import torch` alone": (f"import torch; {OWN}",)}
    for recipe in dict.fromkeys(("adder", FASTEST.name)):
        train = ("train", "--recipe", recipe, "--data", source, "--device", "cpu", "--epochs", "1", "--force")
        measured[f"`train --recipe {recipe}`, {source}"] = (COMMAND, *train)
    rows = []
    for name, arguments in measured.items():
        with tempfile.TemporaryDirectory() as folder:
            out = ("--out", folder) if len(arguments) > 1 else ()
            values = [peaks(*arguments, *out) for _ in range(settings.repeats)]
        before, after = zip(*values, strict=True)
        rows += [row(name, "MB", before), row(f"{name}, with Python's shut-down", "MB", after)]
    return {"rows": rows, "notes": []}


def start_up(settings: Settings) -> dict:
    """Wall seconds of ``python -m mnist_adder --help``."""

    def run(*arguments: str) -> Callable[[], object]:
        command = [sys.executable, *arguments]
        return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    contestants = {"`--help`": run("-m", "mnist_adder", "--help"), "Python alone": run("-c", "pass")}
    in_turn(contestants, 1)
    taken = in_turn(contestants, 3 * settings.repeats)
    return {"rows": [row(name, "s", values) for name, values in taken.items()], "notes": []}


def latency(settings: Settings) -> dict:
    """The exhaustive evaluation, and the forward pass of one image and number."""
    split, model = settings.data.test, build("adder").eval()
    image, number = normalise(split.images[:1]), one_hot_number(torch.tensor([5]))
    evaluate(model, split)
    test = [seconds(lambda: evaluate(model, split)) for _ in range(settings.repeats)]
    with torch.inference_mode():
        single = [seconds(lambda: model(image, number)) for _ in range(100 if settings.quick else 1100)]
    return {
        "rows": [
            row(f"exhaustive evaluation, {10 * len(split.digits):,} pairs: `adder`", "s", test),
            row("one image: `adder`", "ms", [1000 * value for value in single[len(single) // 11 :]]),
        ],
        "notes": [],
    }


SECTIONS = {
    "overhead": overhead,  # first, in a fresh process: its steps are the shortest
    "time-to-headline": time_to_headline,
    "pipeline": pipeline,
    "scaling": scaling,
    "memory": memory,
    "start-up": start_up,
    "latency": latency,
}


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"bench: error: {error}")
