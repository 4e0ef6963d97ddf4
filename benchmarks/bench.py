"""Measures what the README claims: ours against the baselines, in turn, on this machine's CPU, and on its GPU.

``make bench`` runs all sections and writes ``results.json``, ``results.md`` and ``results.png`` after each,
so that an interrupted bench keeps what it has. README.md, beside this file, says what each section measures.
"""

import argparse
import copy
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import baselines
import report
from mnist_adder import training
from mnist_adder.checks import InputError
from mnist_adder.data import Data, Sample, Split, normalise, one_hot_number
from mnist_adder.devices import Clock, available_devices, device_name, place, processor
from mnist_adder.evaluation import evaluate
from mnist_adder.models import build
from mnist_adder.optim import WeightAverage, make_optimizer, make_scheduler
from mnist_adder.progress import Progress
from mnist_adder.published.networks import Cascade
from mnist_adder.published.recipes import RECIPES
from mnist_adder.recipes import Recipe
from mnist_adder.runs import files
from mnist_adder.sources import load_data

HEADLINE = {"digit": 0.9932, "sum": 0.9922}  # the best published figure of each
SEEDS = range(10, 20)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
# Both networks are trained alike where pipelines are compared: no augmentation, numbers drawn once, as system A.
PLAIN = {"system A's network": RECIPES["cascade"], "our network": replace(RECIPES["cascade"], model="adder")}


class RawCascade(Cascade):
    """System A's network for raw pixels, as its own pipeline gives them."""

    def features(self, image: torch.Tensor) -> torch.Tensor:
        return self.cnn(image)


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
        data = replace(first(data, 512), test=Split(*(part[:512] for part in data.test)))
    settings = Settings(data, options.quick, repeats=1 if options.quick else 3)

    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "results.json"
    results = {"quick": options.quick, "sections": {}}
    if file.exists() and (former := json.loads(file.read_text()))["quick"] == options.quick:
        results = former
    for name in options.only:
        print(f"{name} …", flush=True)
        section = SECTIONS[name](settings)
        results["sections"][name] = {"about": SECTIONS[name].__doc__, "machine": machine(data), **section}
        files.write(file, results)
        files.write(options.out / "results.md", report.markdown(results))
        files.write_figures(options.out, report.figures(results))
        print(report.table(results["sections"][name]), flush=True)


def machine(data: Data) -> str:
    """What the figures of a section depend on."""
    cpu = f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{cpu}; torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}; {data.source}"


def row(name: str, unit: str, values: Iterable[float], **labels) -> dict:
    """A line of a table; `labels` are for the figure."""
    values = list(values)
    spread = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {"name": name, "unit": unit, **spread, "values": values, **labels}


def seconds(action: Callable[[], object]) -> float:
    """How long it takes, until the GPU, where there is one, has finished its work."""
    clock = Clock(torch.device(available_devices()[0]))
    with clock:
        action()
    return clock.seconds


def in_turn(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each action, by turns: a busy moment of the machine meets all of them."""
    taken = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            taken[name].append(seconds(action))
    return taken


def first(data: Data, count: int) -> Data:
    """The data with the first `count` training images only."""
    return replace(data, train=Split(*(part[:count] for part in data.train)))


def fastest_layout(model: nn.Module, batches: list[baselines.Batch]) -> str:
    """The name of the memory layout in which a baseline trains a network in less time; the network stays as it is."""
    epochs = {}
    for name, memory_format in LAYOUTS.items():
        network = copy.deepcopy(model).to(memory_format=memory_format)
        arguments = network, baselines.make_optimizer(network), batches
        epochs[name] = lambda arguments=arguments: baselines.train_epoch(*arguments)
    in_turn(epochs, 1)
    taken = in_turn(epochs, 3)
    return min(LAYOUTS, key=lambda name: min(taken[name]))


def baseline_epoch(pipeline: str, recipe: Recipe, split: Split, batch_size: int) -> tuple[str, Callable[[], None]]:
    """The memory layout and an epoch of one of the baselines, warmed up."""
    epoch = baselines.PIPELINES[pipeline](split, batch_size)
    model = place(build(recipe.model), "cpu")
    layout = fastest_layout(model, list(islice(epoch(), 4)))
    model = model.to(memory_format=LAYOUTS[layout])
    optimizer = baselines.make_optimizer(model)
    baselines.train_epoch(model, optimizer, islice(epoch(), 4))
    return layout, lambda: baselines.train_epoch(model, optimizer, epoch())


def our_epoch(recipe: Recipe, data: Data, batch_size: int) -> tuple[str, Callable[[], None]]:
    """The memory layout and an epoch of ours, warmed up: what `training.fit` runs."""
    recipe = replace(recipe, batch_size=batch_size, schedule="constant")
    model = place(build(recipe.model), "cpu")
    layout = next(name for name, memory_format in LAYOUTS.items() if memory_format == model.memory_format)
    optimizer = make_optimizer(recipe, model)
    scheduler = make_scheduler(recipe, optimizer, 1)
    average = WeightAverage(recipe, model, 1)
    progress = Progress(1, data.split, quiet=True)

    def epoch(data: Data) -> Callable[[], None]:
        loader = training.make_loader(recipe, data)
        return lambda: training.train_epoch(model, loader, recipe, optimizer, scheduler, average, progress)

    epoch(first(data, 4 * batch_size))()
    return layout, epoch(data)


def images_per_second(
    recipe: Recipe, data: Data, pipelines: Iterable[str], repeats: int, batch_size: int = 128
) -> dict[str, tuple[str, list[float]]]:
    """The memory layout, and the images per second of an epoch, of each pipeline and of ours with one network."""
    epochs = {name: baseline_epoch(name, recipe, data.train, batch_size) for name in pipelines}
    epochs["ours"] = our_epoch(recipe, data, batch_size)
    count = len(data.train.digits)
    # Our loader leaves out the last, incomplete batch.
    counts = dict.fromkeys(epochs, count) | {"ours": count // batch_size * batch_size}
    taken = in_turn({name: epoch for name, (_, epoch) in epochs.items()}, repeats)
    return {name: (epochs[name][0], [counts[name] / value for value in values]) for name, values in taken.items()}


def time_to_headline(settings: Settings, device: str = "cpu") -> dict:
    """Training seconds to the published headline: ours, ten seeds, between the epochs of system A's 25."""
    data, recipe, cascade = settings.data, RECIPES["speedrun"], RECIPES["cascade"]
    seeds, total = (SEEDS[:2], 2) if settings.quick else (SEEDS, cascade.length(data.source))
    if settings.quick:
        recipe = replace(recipe, epochs=1)
    training.fit(replace(recipe, epochs=1), first(data, 512), device=device, quiet=True)  # warms up the process
    torch.manual_seed(1)
    model = RawCascade().to(device)
    epoch = baselines.system_a(data.train, 128)
    layout = fastest_layout(model, list(islice(epoch(), 4)))
    model = model.to(memory_format=LAYOUTS[layout])
    optimizer = baselines.make_optimizer(model)
    ours, baseline, metrics = [], [], []
    for turn, seed in enumerate(seeds, 1):
        fitted = training.fit(recipe, data, device=device, seed=seed, quiet=True)
        ours.append(fitted.train_seconds)
        metrics.append(evaluate(fitted.model, data.test).metrics)
        while len(baseline) < turn * total // len(seeds):
            baseline.append(seconds(lambda: baselines.train_epoch(model, optimizer, epoch())))
    trained = build(cascade.model)
    trained.load_state_dict(model.state_dict())
    published = evaluate(trained, data.test).metrics
    reached = {part: [m[f"{part}_accuracy"] for m in metrics] for part in (*HEADLINE, "joint")}
    means = {part: statistics.mean(shares) for part, shares in reached.items()}
    low = {part: means[part] - 2 * statistics.stdev(shares) / len(shares) ** 0.5 for part, shares in reached.items()}
    holds = all(low[part] > wanted for part, wanted in HEADLINE.items())
    ratio = sum(baseline) / statistics.median(ours)
    epochs = recipe.length(data.source)
    rows = [
        row(f"ours: `{recipe.name}`, {epochs} epoch{'s' * (epochs > 1)}", "s", ours, system="ours"),
        row(f"system A: {len(baseline)} epochs, once, {layout}", "s", [sum(baseline)], system="system A"),
        row("system A: one epoch", "s", baseline),
        *(row(f"ours: {part} accuracy, %", "%", [100 * share for share in reached[part]]) for part in reached),
    ]
    notes = [
        f"Ours takes 1/{ratio:.0f} of system A's time.",
        f"Mean of seeds {seeds[0]}–{seeds[-1]}: {accuracies(means)}.",
        f"Less two standard errors: {accuracies(low)}; "
        f"the headline ({accuracies(HEADLINE)}) {'is' if holds else 'is NOT'} passed with this room.",
        f"System A, as trained here: {accuracies({part: published[f'{part}_accuracy'] for part in reached})}.",
    ]
    return {"rows": rows, "notes": notes, "ratio": ratio, "reached": holds}


def gpu(settings: Settings) -> dict:
    """Training seconds on the GPU: as in time-to-headline, system A's batches moved there one by one; and `adder`."""
    section, data, recipe = time_to_headline(settings, "cuda"), settings.data, RECIPES["adder"]
    recipe = replace(recipe, epochs=1) if settings.quick else recipe
    runs = [training.fit(recipe, data, device="cuda", seed=seed, quiet=True) for seed in SEEDS[:3]]
    joint = [100 * evaluate(fitted.model, data.test).metrics["joint_accuracy"] for fitted in runs]
    section["rows"] += [
        row(f"ours: `{recipe.name}`, {recipe.length(data.source)} epochs", "s", [run.train_seconds for run in runs]),
        row(f"ours: `{recipe.name}`: joint accuracy, %", "%", joint),
    ]
    return {"machine": f"{device_name(torch.device('cuda'))}; {machine(data)}", **section}


def accuracies(shares: dict[str, float]) -> str:
    """In per cent, on one line."""
    return ", ".join(f"{name} {100 * share:.3f} %" for name, share in shares.items())


def pipeline(settings: Settings) -> dict:
    """Images per second of one training epoch: the same network, each baseline's input pipeline and ours."""
    split, rows, notes = settings.data.train, [], []
    loaders = {name: make(split, 128) for name, make in baselines.PIPELINES.items()}
    loaders["ours"] = lambda: training.make_loader(PLAIN["our network"], settings.data)
    alone = {name: lambda batches=batches: deque(batches(), 0) for name, batches in loaders.items()}
    for name, taken in in_turn(alone, settings.repeats).items():
        rates = [len(split.digits) / value for value in taken]
        rows.append(row(f"no network, {name}", "images/s", rates, pipeline=name))
    batches_alone = {r["pipeline"]: r["median"] for r in rows}
    for net, recipe in PLAIN.items():
        rates = images_per_second(recipe, settings.data, baselines.PIPELINES, settings.repeats)
        for name, (layout, values) in rates.items():
            rows.append(row(f"{net}, {name}, {layout}", "images/s", values, net=net, pipeline=name))
        middle = {name: statistics.median(values) for name, (_, values) in rates.items()}
        ratios = [f"{middle['ours'] / middle[name]:.2f}× {name}" for name in baselines.PIPELINES]
        notes.append(f"On {net}, ours is {', '.join(ratios)}.")
        bound = 1 / (1 - middle["system A"] / batches_alone["system A"])
        notes.append(f"Had system A's batches cost nothing, {net} would have trained {bound:.2f}× as fast.")
    return {"rows": rows, "notes": notes}


def scaling(settings: Settings) -> dict:
    """Images per second on system A's network, system A's pipeline and ours, as batch size, data and threads grow."""
    data, rows = settings.data, []
    part = first(data, 15_000)

    def measure(what: str, value: int, data: Data, batch_size: int = 128, repeats: int = settings.repeats) -> None:
        rates = images_per_second(RECIPES["cascade"], data, ["system A"], repeats, batch_size)
        for name, (layout, values) in rates.items():
            title = f"{what} {value:,}, {name}, {layout}"
            rows.append(row(title, "images/s", values, grows=what, at=value, pipeline=name))

    for batch_size in (32, 128) if settings.quick else (32, 64, 128, 256, 512, 1024):
        measure("batch size", batch_size, part, batch_size)
    for times in (1, 2, 4):
        more = replace(data, train=Split(*(torch.cat([tensor] * times) for tensor in data.train)))
        measure("images", len(more.train.digits), more, repeats=1)
    threads = torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        measure("threads", count, part)
    torch.set_num_threads(threads)
    return {"rows": rows, "notes": [f"Batch sizes and threads on the first {len(part.train.digits):,} images."]}


def overhead(settings: Settings) -> dict:
    """Our epoch of 12,800 images against the bare limit: forward, backward and step on ready batches."""
    # A hundred steps a turn, so that a slow moment of the machine meets all actions of a turn.
    recipe, data = RECIPES["adder"], first(settings.data, 12_800)
    plain = replace(recipe, degrees=0, translate=0, scale=0, shear=0)
    model = place(build(recipe.model), "cpu").train()
    optimizer = make_optimizer(recipe, model)
    ready = list(training.make_loader(plain, data))

    def bare() -> None:
        for image, number, digit, sum in ready:
            optimizer.zero_grad(set_to_none=True)
            log_probs, logits = model(image, number)
            (F.nll_loss(log_probs, digit) + recipe.sum_weight * F.cross_entropy(logits, sum)).backward()
            optimizer.step()

    bare()
    actions = {
        "the `adder` network's bare limit": bare,
        "our epoch, without augmentation": our_epoch(plain, data, recipe.batch_size)[1],
        "our epoch, as the recipe has it": our_epoch(recipe, data, recipe.batch_size)[1],
    }
    taken = in_turn(actions, 50 * settings.repeats + 1)
    bare_seconds, *ours = taken.values()
    notes = []
    for name, values in zip(list(taken)[1:], ours, strict=True):
        ratio = statistics.median(value / bare for value, bare in zip(values, bare_seconds, strict=True))
        notes.append(f"{name}: {ratio - 1:+.1%} against the bare limit of its turn (median of the ratios).")
    return {"rows": [row(name, "s", values) for name, values in taken.items()], "notes": notes}


def limit(settings: Settings) -> dict:
    """Operations a second of a training step beside the fastest float32 matrix product and convolution."""
    steps, products, convolutions = {}, {}, {}
    for name in ("adder", "speedrun"):
        steps[f"training step, `{name}`"] = ready_step(RECIPES[name], settings.data)
    for size in (512, 1024, 2048):
        matrices = torch.randn(2, size, size)
        products[f"matrix product, {size} × {size}"] = lambda matrices=matrices: torch.mm(*matrices)
    for channels in (32, 64, 128):
        weight = torch.randn(channels, channels, 3, 3)
        for layout, memory_format in LAYOUTS.items():
            arguments = (
                torch.randn(128, channels, 14, 14).to(memory_format=memory_format),
                weight.to(memory_format=memory_format),
            )
            name = f"3×3 convolution, {channels} channels, 14×14, batch 128, {layout}"
            convolutions[name] = lambda arguments=arguments: F.conv2d(*arguments, padding=1)
    actions = steps | products | convolutions
    operations = {name: operation_count(action) for name, action in actions.items()}
    # Five calls a turn, so that the first one's cold caches weigh little.
    turns = {name: lambda action=action: [action() for _ in range(5)] for name, action in actions.items()}
    in_turn(turns, 1)
    taken = in_turn(turns, 10 * settings.repeats + 1)
    rows = {
        name: row(name, "GFLOP/s", [5e-9 * operations[name] / value for value in values])
        for name, values in taken.items()
    }
    fastest = [max((rows[name] for name in group), key=lambda row: row["median"]) for group in (products, convolutions)]
    notes = []
    for name in steps:
        shares = (f"{rows[name]['median'] / best['median']:.0%} of the fastest {best['name']}" for best in fastest)
        notes.append(f"{name}: {operations[name] / 1e6:,.0f} million operations, {', '.join(shares)}.")
    return {"rows": [*(rows[name] for name in steps), *fastest], "notes": notes}


def ready_step(recipe: Recipe, data: Data) -> Callable[[], object]:
    """A training step on a batch that lies ready in memory."""
    model = place(build(recipe.model), "cpu").train()
    optimizer = make_optimizer(recipe, model)
    sample: Sample = next(iter(training.make_loader(recipe, data)))
    return lambda: training.train_step(model, sample, recipe, optimizer)


def operation_count(action: Callable[[], object]) -> int:
    """Multiplications and additions of the convolutions and matrix products, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops()


# Linux hands a process's peak on to what it starts: a small process stands between, to start from little.
PEAKS = """import resource, subprocess, sys
command = [sys.executable, "-c", *sys.argv[1:]]
done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
print(done.stdout.split()[-1], resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"""
PRINT_PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
COMMAND = f"import sys; from mnist_adder.__main__ import main; main(sys.argv[1:]); {PRINT_PEAK}"


def memory(settings: Settings) -> dict:
    """Peak resident memory of a training process: the command line, one epoch, figures and all."""

    def peaks(*arguments: str) -> list[float]:
        command = [sys.executable, "-c", PEAKS, *arguments]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        unit = 1 if sys.platform == "darwin" else 1024
        return [int(peak) * unit / 1e6 for peak in done.stdout.split()]

    source = "digits" if settings.quick else settings.data.source
    measured = {"`import torch` alone": (f"import torch; {PRINT_PEAK}",)}
    for recipe in ("adder", "speedrun"):
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

    actions = {"`--help`": run("-m", "mnist_adder", "--help"), "Python alone": run("-c", "pass")}
    in_turn(actions, 1)
    taken = in_turn(actions, 3 * settings.repeats)
    return {"rows": [row(name, "s", values) for name, values in taken.items()], "notes": []}


def latency(settings: Settings) -> dict:
    """The exhaustive evaluation, and the forward pass of one image and number."""
    split, model = settings.data.test, place(build("adder"), "cpu").eval()
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
    "limit": limit,
    "pipeline": pipeline,
    "scaling": scaling,
    "memory": memory,
    "start-up": start_up,
    "latency": latency,
}
if torch.cuda.is_available():
    SECTIONS["gpu"] = gpu


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"bench: error: {error}", file=sys.stderr)
        sys.exit(2)
