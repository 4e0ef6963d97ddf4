"""Time our training against the published loops, in turn, on this machine: `make bench`.

Each section's rows in ``results/bench.csv`` are replaced when the section is done, so that an
interrupted bench keeps what it has. README.md, beside this file, says what each section measures.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F

from baselines import PIPELINES, Baseline
from mnist_adder import RECIPES, Data, Recipe, Split, Training, __version__, evaluate, load_data
from mnist_adder.data import normalise
from mnist_adder.devices import device_name, processor
from mnist_adder.errors import InputError
from mnist_adder.models import AdderNet
from store import RESULTS, Row, read_table, write_table  # before published, whose folder it adds

import published  # isort: skip

COLUMNS = (
    "section",
    "what",
    "unit",
    "median",
    "least",
    "greatest",
    "mean",
    "error",  # the standard error of the mean
    "repeats",
    "version",
    "machine",
)
CASCADE = published.PUBLISHED_RECIPES["cascade"]
SEEDS = range(10, 20)


@dataclass(frozen=True)
class Settings:
    """What is measured, and how often."""

    data: Data
    quick: bool  # so little that it shows only that the bench works

    @property
    def repeats(self) -> int:
        return 1 if self.quick else 3


class Untested(Training):
    """A training without tests, to be timed from the raw pixels to the final weights."""

    def test(self) -> dict[str, float]:
        return {}


def main() -> None:
    """Measure the sections asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="show that it works, measure nothing")
    sections = {"nargs": "+", "choices": SECTIONS, "metavar": "NAME"}
    names = [name for name in SECTIONS if name != "gpu" or torch.cuda.is_available()]
    parser.add_argument("--only", default=names, help=", ".join(SECTIONS), **sections)
    parser.add_argument("--out", type=Path, default=RESULTS / "bench.csv", metavar="FILE")
    options = parser.parse_args()
    if options.quick and options.out == RESULTS / "bench.csv":
        parser.error("--quick measures nothing: write its rows elsewhere, --out FILE")

    data = load_data("digits" if options.quick else "mnist")
    if options.quick:
        data = replace(first(data, 512), test=Split(*(part[:64] for part in data.test)))
    settings = Settings(data, options.quick)
    for name in options.only:
        print(f"{name} …", flush=True)
        rows = SECTIONS[name](settings)
        labels = {"section": name, "version": __version__, "machine": machine(name, data)}
        others = [row for row in read_table(options.out) if row["section"] != name]
        write_table(options.out, others + [{**row, **labels} for row in rows], COLUMNS)
        for row in rows:
            print(f"  {row['what']}: {row['median']:.4g} {row['unit']}", flush=True)


def machine(section: str, data: Data) -> str:
    """Return what the figures of a section depend on."""
    gpu = f"{device_name(torch.device('cuda'))}; " if section == "gpu" else ""
    cpu = f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return f"{gpu}{cpu}; {versions}, {platform.system()}; {data.source}"


def summarise(what: str, unit: str, values: Iterable[float]) -> Row:
    """Return a row of the table."""
    values = list(values)
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {
        "what": what,
        "unit": unit,
        "median": statistics.median(values),
        "least": min(values),
        "greatest": max(values),
        "mean": statistics.fmean(values),
        "error": spread / len(values) ** 0.5,
        "repeats": len(values),
    }


def seconds(action: Callable[[], object]) -> float:
    """Return how long an action takes, until a GPU has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def in_turn(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each action, by turns: a busy moment of the machine meets them all."""
    taken = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            taken[name].append(seconds(action))
    return taken


def first(data: Data, count: int) -> Data:
    """Return the data with the first `count` training images only."""
    return replace(data, train=Split(*(part[:count] for part in data.train)))


def warmed_up(recipe: Recipe, data: Data) -> Training:
    """Return a training whose `train_epoch` can be timed again and again."""
    training = Training(replace(recipe, schedule="constant"), data)
    for sample, _ in zip(training.loader, range(4), strict=False):
        training.train_step(sample)
    return training


def overhead(settings: Settings) -> list[Row]:
    """Our epoch against the bare limit: forward, backward and step on batches that lie ready."""
    data = first(settings.data, 12_800)  # a hundred steps a turn
    recipe = RECIPES["adder"]
    plain = warmed_up(replace(recipe, augment=None), data)
    whole = warmed_up(recipe, data)
    limit = warmed_up(replace(recipe, augment=None), data)
    ready = [(image, number, digit, sum.argmax(1)) for image, number, digit, sum in limit.loader]

    def bare() -> None:
        for image, number, digit, sum in ready:
            limit.optimizer.zero_grad()
            log_probs, logits = limit.model(image, number)
            sum_loss = F.cross_entropy(logits, sum)
            (F.nll_loss(log_probs, digit) + recipe.sum_weight * sum_loss).backward()
            limit.optimizer.step()

    names = ("bare limit", "our epoch without augmentation", "our epoch as the recipe has it")
    actions = dict(zip(names, (bare, plain.train_epoch, whole.train_epoch), strict=True))
    taken = in_turn(actions, 50 * settings.repeats + 1)
    rows = [summarise(name, "s", values) for name, values in taken.items()]
    limits = taken["bare limit"]
    for name in names[1:]:
        over = [100 * (own / limit - 1) for own, limit in zip(taken[name], limits, strict=True)]
        rows.append(summarise(f"{name}, above the bare limit of its turn", "%", over))
    return rows


def headline(settings: Settings, device: str = "cpu") -> list[Row]:
    """Seconds to the best published accuracies: ten `speedrun`s between system A's 25 epochs."""
    data = settings.data
    recipe = RECIPES["speedrun"]
    seeds = SEEDS[:2] if settings.quick else SEEDS
    epochs = 2 if settings.quick else CASCADE.epochs
    list(Untested(replace(recipe, digits_epochs=1, epochs=1), first(data, 512), device=device))
    torch.manual_seed(1)
    theirs = Baseline(published.RawCascade(), PIPELINES["system A"](data.train, 128), device)
    ours, baseline, metrics = [], [], []
    for turn, seed in enumerate(seeds, 1):
        taken, model = timed_training(recipe, data, device, seed)
        ours.append(taken)
        metrics.append(evaluate(model, data).metrics)
        while len(baseline) < turn * epochs // len(seeds):
            baseline.append(seconds(theirs.train_epoch))
    rows = [
        summarise("speedrun", "s", ours),
        summarise("system A", "s", [sum(baseline)]),
        summarise("one epoch of system A", "s", baseline),
        summarise("system A's time by ours", "×", [sum(baseline) / statistics.median(ours)]),
    ]
    trained = CASCADE.model()
    trained.load_state_dict(theirs.model.state_dict())
    reached = evaluate(trained, data).metrics
    for part in ("digit", "sum", "joint"):
        values = [100 * metric[f"{part}_accuracy"] for metric in metrics]
        rows.append(summarise(f"speedrun, {part} accuracy", "%", values))
        value = 100 * reached[f"{part}_accuracy"]
        rows.append(summarise(f"system A, {part} accuracy", "%", [value]))
    return rows


def timed_training(
    recipe: Recipe, data: Data, device: str, seed: int
) -> tuple[float, torch.nn.Module]:
    """Return the seconds of a whole training without tests, and its network."""
    trainings = []

    def train() -> None:
        training = Untested(recipe, data, device=device, seed=seed)
        trainings.append(training)
        list(training)

    return seconds(train), trainings[0].model


def gpu(settings: Settings) -> list[Row]:
    """On the GPU: the headline, with system A's batches moved there, and the recipe `adder`."""
    rows = headline(settings, "cuda")
    recipe = replace(RECIPES["adder"], digits_epochs=1)  # the digits are there for --quick only
    runs = [timed_training(recipe, settings.data, "cuda", seed) for seed in SEEDS[:3]]
    joint = [evaluate(model, settings.data).metrics["joint_accuracy"] for _, model in runs]
    rows.append(summarise("adder", "s", [taken for taken, _ in runs]))
    rows.append(summarise("adder, joint accuracy", "%", [100 * share for share in joint]))
    return rows


def pipelines(settings: Settings) -> list[Row]:
    """Images per second of an epoch: the same network with each input pipeline, and with ours."""
    rows = []
    for network, model in (("system A's network", CASCADE.model), ("our network", AdderNet)):
        for name, rates in images_per_second(model, settings.data, PIPELINES, settings).items():
            rows.append(summarise(f"{network}, {name}", "images/s", rates))
    return rows


def scaling(settings: Settings) -> list[Row]:
    """Images per second on system A's network as batch size, threads and data grow."""
    rows = []
    part = first(settings.data, 15_000)

    def measure(what: str, data: Data, batch_size: int = 128) -> None:
        rates = images_per_second(CASCADE.model, data, ["system A"], settings, batch_size)
        for name, values in rates.items():
            rows.append(summarise(f"{what}, {name}", "images/s", values))

    for batch_size in (32, 128, 512):
        measure(f"batch size {batch_size}", part, batch_size)
    threads = torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        measure(f"threads: {count}", part)
    torch.set_num_threads(threads)
    for times in (1, 4):
        more = Split(*(torch.cat([tensor] * times) for tensor in settings.data.train))
        measure(f"{len(more.digits)} images", replace(settings.data, train=more))
    return rows


def images_per_second(
    model: Callable[[], torch.nn.Module],
    data: Data,
    pipelines: Iterable[str],
    settings: Settings,
    batch_size: int = 128,
) -> dict[str, list[float]]:
    """Return the images per second of an epoch with each pipeline, and with our own loop."""
    # The same network, loss, optimiser and rate; no augmentation; numbers drawn once.
    recipe = replace(CASCADE, model=model, batch_size=batch_size)
    ours = warmed_up(recipe, data)
    actions = {}
    for name in pipelines:
        batches = PIPELINES[name](data.train, batch_size)
        actions[name] = Baseline(model(), batches).train_epoch
    actions["ours"] = ours.train_epoch
    counts = dict.fromkeys(actions, len(data.train.digits))
    counts["ours"] = len(ours.loader) * batch_size  # it leaves the last, incomplete batch out
    taken = in_turn(actions, settings.repeats)
    return {name: [counts[name] / value for value in values] for name, values in taken.items()}


PEAK = "print(next(row for row in open('/proc/self/status') if row.startswith('VmHWM')))"
TRAIN = "import sys; from mnist_adder.__main__ import main; main(sys.argv[1:])"


def memory(settings: Settings) -> list[Row]:
    """Peak resident memory of a training's process: the command line, one epoch, all figures."""
    rows = []
    for what, code in (("import torch", "import torch"), ("train, one epoch", TRAIN)):
        peaks = []
        for _ in range(settings.repeats):
            out = subprocess.run(
                [sys.executable, "-c", f"{code}; {PEAK}", *train_options(settings.data.source)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
            peaks.append(int(out.split()[-2]) / 1000)  # "VmHWM:  123456 kB", the last line
        rows.append(summarise(what, "MB", peaks))
    return rows


def train_options(source: str) -> list[str]:
    """Return the command line's options for one epoch into a folder that is not there yet."""
    folder = f"runs/memory-{time.time_ns()}"
    return ["train", "--data", source, "--device", "cpu", "--epochs", "1", "--out", folder]


def latency(settings: Settings) -> list[Row]:
    """Seconds until the command line answers; the evaluation; the forward pass of one image."""
    data = settings.data
    command = [sys.executable, "-m", "mnist_adder", "--help"]
    answer = in_turn(
        {"--help": lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)},
        3 * settings.repeats,
    )["--help"]
    model = AdderNet().eval()
    evaluate(model, data)
    test = [seconds(lambda: evaluate(model, data)) for _ in range(settings.repeats)]
    image = normalise(data.test.images[:1, None])
    number = F.one_hot(torch.tensor([5]), 10).float()
    with torch.inference_mode():
        single = [seconds(lambda: model(image, number)) for _ in range(350 * settings.repeats)]
    return [
        summarise("mnist-adder --help", "s", answer),
        summarise("evaluation of all pairs", "s", test),
        summarise("one image", "ms", [1000 * value for value in single[50:]]),
    ]


SECTIONS = {
    "overhead": overhead,  # first, in a fresh process: its steps are the shortest
    "headline": headline,
    "pipelines": pipelines,
    "scaling": scaling,
    "memory": memory,
    "latency": latency,
    "gpu": gpu,
}


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"bench: error: {error}")
