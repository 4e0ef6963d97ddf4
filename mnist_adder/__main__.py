"""The command line. ``options.py`` has its grammar, this file what each command does."""

import argparse
import glob
import json
import os
import re
import shlex
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import devices, inspection, page, plots, prediction, range_test, runs, withhold
from .checks import check_network
from .data import Data
from .errors import InputError, one_line
from .evaluation import evaluate
from .files import as_json, must_be_new, write
from .options import make_parser
from .recipes import MODELS, RECIPES, Recipe
from .sources import load_data
from .training import Training

FULL = "out of memory|allocate memory|enough memory"  # torch: of a GPU, of a CPU, on Windows
CHANGES = ("epochs", "batch_size", "lr")  # of a recipe
WITH_RESUME = ("command", "resume", "data_dir", "device", "deterministic", "quiet")


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status: 2 for what cannot be done, said in one line."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: complain("warning", message)
            options = make_parser().parse_args(arguments)
            status = COMMANDS[options.command](options) or 0
            print(end="", flush=True)  # so that a full disk is an error here
            return status
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        return 141
    except (InputError, OSError) as error:
        complain("error", error)
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or re.search(FULL, str(error))):
            raise
        complain("error", "there is not enough memory")
    except KeyboardInterrupt as interrupt:
        complain("interrupted", str(interrupt) or "the command did not finish")
        return 130
    return 2


def complain(kind: str, message: object) -> None:
    """Print one line to standard error."""
    print(f"mnist-adder: {kind}: {one_line(message)}", file=sys.stderr)


def train(options: argparse.Namespace) -> None:
    recipe, withheld = as_begun(options) if options.resume else as_asked(options)
    device = devices.gpu_check(options.seed, options.device, deterministic=options.deterministic)
    data = load_data(options.data or "auto", options.data_dir, validate=options.validate)
    initial = runs.read_run(options.init).model if options.init else None
    settings = {"model": initial, "device": device, "seed": options.seed, "withheld": withheld}
    training = Training(recipe, data, **settings)
    folder = options.resume or runs.new_folder(options.out, training)
    try:
        # A new run, too, goes on from its first checkpoint: its folder is known from the start.
        run = runs.train_run(folder, training, resume=True, quiet=options.quiet)
    except KeyboardInterrupt:
        command = ["python", "-m", "mnist_adder", "train", "--resume", str(folder)]
        if options.data_dir:
            command += ["--data-dir", options.data_dir]
        if options.device != "auto":
            command += ["--device", options.device]
        raise KeyboardInterrupt(f"go on with: {shlex.join(command)}") from None
    print_table(run, data, run.metrics)
    print(f"  trained in {run.metrics['train_seconds']:.1f} s on {device.type}")
    print(f"run folder: {one_line(folder)}")


def as_asked(options: argparse.Namespace) -> tuple[Recipe, list[Any]]:
    """Return the recipe and the pairs to withhold of a new run, and set its seed."""
    options.seed = options.seed or 0
    given = {name: getattr(options, name) for name in CHANGES}
    changes = {name: value for name, value in given.items() if value is not None}
    pairs = []
    if options.any_sum and options.withhold is None:
        raise InputError("--any-sum says which pairs may be withheld: say how many, --withhold N")
    if options.withhold is not None:
        count = options.withhold
        pairs = withhold.pairs_to_withhold(count, options.seed, keep_sums=not options.any_sum)
    return replace(RECIPES[options.recipe or "adder"], **changes), pairs


def as_begun(options: argparse.Namespace) -> tuple[Recipe, list[Any]]:
    """Return the recipe and the withheld pairs of an unfinished run, and set its options."""
    defaults = vars(make_parser().parse_args(["train"]))
    for name, value in vars(options).items():
        if value != defaults[name] and name not in WITH_RESUME:
            option = name.replace("_", "-")
            raise InputError(f"--resume goes on with a run as it began: leave out --{option}")
    config = runs.read_checkpoint(options.resume)["config"]
    if config["recipe"] not in RECIPES or config["model"] not in MODELS:
        advice = "go on with it from Python"
        raise InputError(f"{options.resume} has a recipe or a network of your own: {advice}")
    options.seed = config["seed"]
    options.data = config["dataset"]
    options.validate = config["fold"]
    options.deterministic = options.deterministic or config["deterministic"]
    changes = {name: config["settings"].get(name) for name in CHANGES}
    changes["model"] = MODELS[config["model"]]  # of another recipe, with --init
    return replace(RECIPES[config["recipe"]], **changes), config["withheld"]


def evaluate_run(options: argparse.Namespace) -> None:
    if options.out:
        must_be_new(options.out)
    run = run_of_sums(options.folder)
    source = options.data or run.config["dataset"]
    fold = run.config["fold"] if source == run.config["dataset"] else None
    data = load_data(source, options.data_dir, validate=fold)
    check_network(run.model, data.dataset(data.test)[:2], data.digit_classes)
    device = devices.gpu_check(run.config["seed"], options.device)
    evaluation = evaluate(run.model.to(device), data)
    withheld = run.config["withheld"]
    values = evaluation.measure(withheld)
    print_table(run, data, values)
    if options.out:
        options.out.mkdir(parents=True)
        tables = {"confusion": evaluation.confusion, "truth_table": evaluation.truth_table}
        values.update({name: table.tolist() for name, table in tables.items()})
        write(options.out / "evaluation.json", as_json(values))
        for name, figure in plots.run_figures(data, run.history, evaluation, withheld).items():
            write(options.out / f"{name}.png", plots.png(figure))


def run_of_sums(folder: Path) -> runs.Run:
    """Read a run; refuse one of another operation, whose answers would be printed as sums."""
    run = runs.read_run(folder)
    if run.config["target"] != "mnist_adder.data:add":
        raise InputError(f"{folder} learned another operation: use it from Python")
    return run


def print_table(run: runs.Run, data: Data, values: dict[str, float]) -> None:
    """Print the accuracies of a run."""
    title = f"{run.config['recipe']}, {run.metrics['parameters']:,} parameters"
    title += f", epochs: {run.metrics['epochs']}, seed {run.config['seed']}; {data.source}"
    images = len(data.test.digits)
    print(f"\n{one_line(title)}, {data.test_name} split: {images:,} images, all numbers")
    meanings = {"digit": "the digit is right", "sum": "the sum is right", "joint": "both are right"}
    for name, meaning in meanings.items():
        print(f"  {name:8} {values[f'{name}_accuracy']:9.3%}   {meaning}")
    print(f"  losses   digit {values['digit_loss']:.4f}, sum {values['sum_loss']:.4f} nats")
    if not run.config["withheld"]:
        return
    for name in ("withheld", "shown"):
        shares = [f"{part} {values[f'{name}_{part}_accuracy']:.3%}" for part in meanings]
        print(f"  on the pairs {name}: {', '.join(shares)}")


def lr_find(options: argparse.Namespace) -> None:
    must_be_new(options.out)
    recipe = RECIPES[options.recipe]
    device = devices.gpu_check(options.seed, options.device)
    data = load_data(options.data or "auto", options.data_dir)
    found = range_test.lr_range(recipe, data, device=device, seed=options.seed)
    write(options.out, plots.png(plots.lr_range(*found, recipe.lr, data.source)))
    suggestion = "none" if found.suggestion is None else f"{found.suggestion:.2g}"
    print(f"suggested rate: {suggestion}; the recipe's: {recipe.lr:g} ({recipe.schedule})")
    print(f"figure: {one_line(options.out)}")


def summary(options: argparse.Namespace) -> None:
    model = RECIPES[options.recipe].model()
    print(inspection.layer_table(model))
    if options.graph:
        print(f"\nautograd graph: {one_line(inspection.save_graph(model, options.graph))}")


def predict(options: argparse.Namespace) -> int:
    model = run_of_sums(options.run).model if options.run else runs.load_pretrained()
    names = []
    for name in options.images:
        found = [] if Path(name).exists() else glob.glob(name)  # Windows gives *.png as it is
        names += found or [name]
    answers: list[dict[str, Any]] = []
    for name in names:
        try:
            answer = prediction.predict(model, Path(name), options.number)
        except InputError as error:
            answers.append({"image": name, "error": str(error)})
            complain("error", error)
            continue
        fields = answer._asdict()
        del fields["pixels"]
        answers.append({"image": name, "number": options.number, **fields})
        if not options.json:
            digit = f"digit {answer.digit} ({max(answer.digit_probabilities):.2%})"
            sum = f"sum {answer.sum} ({max(answer.sum_probabilities):.2%})"
            unsure = "" if answer.sure else "; not sure"
            print(f"{one_line(name)}: {digit}, number {options.number}, {sum}{unsure}")
    if options.json:
        print(json.dumps(answers, indent=2))
    return 2 if any("error" in answer for answer in answers) else 0


def write_page(options: argparse.Namespace) -> None:
    must_be_new(options.out)
    model = run_of_sums(options.run).model if options.run else runs.load_pretrained()
    page.write_page(options.out, model)
    print(f"open {one_line(options.out)} in a browser, with a double click for example")


COMMANDS = {
    "train": train,
    "evaluate": evaluate_run,
    "predict": predict,
    "page": write_page,
    "summary": summary,
    "lr-find": lr_find,
}


def console() -> None:
    """Run as a program of its own; end quietly where the reader of the output has gone."""
    try:
        status = main()
    except SystemExit as end:  # of --help and --version
        status = end.code
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more when it ends
    sys.exit(status)


if __name__ == "__main__":
    console()
