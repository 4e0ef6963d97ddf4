"""Train and examine a network that reads a handwritten digit and adds a number 0-9 to it.

examples:
  mnist-adder train                         train the default recipe on MNIST
  mnist-adder train --data digits           train it on the bundled digits, without a network
  mnist-adder train --resume runs/adder-001 go on with a run that was interrupted
  mnist-adder predict my_7.png --number 5   your own handwriting
MNIST is looked for in --data-dir, in $MNIST_ADDER_DATA and in ./data, and downloaded when it is
missing.
"""

import argparse
import glob
import json
import os
import shlex
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import __version__, devices, inspection, page, plots, prediction, range_test, runs, withhold
from .data import Data
from .errors import InputError
from .evaluation import Evaluation, evaluate
from .recipes import RECIPES
from .sources import load_data
from .training import Training

RECIPE_HELP = "\n".join(["recipes:", *(f"  {r.name:13} {r.about}" for r in RECIPES.values())])
AS_BEGUN = (
    "recipe epochs batch_size lr seed validate withhold any_sum init data out"  # not with --resume
)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> None:
        raise InputError(message)


def make_parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    raw: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = Parser("mnist-adder", description=__doc__, allow_abbrev=False, **raw)
    parser.add_argument("--version", action="version", version=f"mnist-adder {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    recipe = Parser(add_help=False)
    recipe.add_argument(
        "--recipe", choices=RECIPES, default="adder", metavar="NAME", help="(adder)"
    )
    seed = Parser(add_help=False)
    seed.add_argument(
        "--seed", type=int, default=0, metavar="N", help="decides everything random (0)"
    )
    data = Parser(add_help=False)
    data.add_argument("--data", help="auto, mnist, digits or a file .npz")
    data.add_argument("--data-dir", metavar="DIR", help="of MNIST ($MNIST_ADDER_DATA, else data)")
    data.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    run = Parser(add_help=False)
    run.add_argument("--run", type=Path, metavar="RUN", help="(the weights in the package)")

    def add_command(name: str, function: Any, *parents: argparse.ArgumentParser) -> Any:
        about = function.__doc__
        epilog = RECIPE_HELP if recipe in parents else None
        texts = {"help": about, "description": about, "epilog": epilog}
        command = commands.add_parser(name, parents=parents, allow_abbrev=False, **texts, **raw)
        command.set_defaults(function=function)
        return command.add_argument

    add = add_command("train", train, recipe, seed, data)
    add("--epochs", type=int, metavar="N", help="instead of the recipe's")
    add("--batch-size", type=int, metavar="N", help="likewise")
    add("--lr", type=float, metavar="X", help="likewise; the highest rate")
    fold = {"type": int, "nargs": "?", "const": 0, "metavar": "FOLD"}
    add("--validate", **fold, help="test on a fold of the training set, 0-11 (0)")
    add("--withhold", type=int, metavar="N", help="keep N of the 100 pairs out of training")
    add("--any-sum", action="store_true", help="sums may lose all of their pairs: up to 81")
    add("--init", type=Path, metavar="RUN", help="begin with the weights of this run")
    add("--deterministic", action="store_true", help="repeatable on a GPU too, slower")
    add("--out", type=Path, metavar="DIR", help="a new or empty folder (the next in runs/)")
    add("--quiet", action="store_true", help="print no epochs")
    add("--resume", type=Path, metavar="RUN", help="go on with the unfinished run in this folder")

    add = add_command("evaluate", test, data)
    add("folder", type=Path, metavar="RUN", help="the run's folder")
    add("--out", type=Path, metavar="DIR", help="write all figures into this new folder")

    add = add_command("predict", predict, run)
    add("images", nargs="+", metavar="IMAGE", help="PNG, JPEG, BMP or GIF; - is standard input")
    add("--number", type=int, choices=range(10), required=True, metavar="N", help="0-9")
    add("--json", action="store_true", help="print one JSON list, an object per image")

    add = add_command("page", write_page, run)
    add("--out", type=Path, default=Path("adder.html"), metavar="FILE", help="new (adder.html)")

    add = add_command("summary", summary, recipe)
    add("--graph", type=Path, metavar="FILE", help="draw the autograd graph there too")

    add = add_command("lr-find", lr_find, recipe, seed, data)
    add("--out", type=Path, default=Path("lr_range.png"), metavar="FILE", help="new (lr_range.png)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status: 2 for what cannot be done, said in one line."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: complain("warning", message)
            options = make_parser().parse_args(arguments)
            return options.function(options) or 0
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        return 141
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        complain("error", f"{name}{error.strerror or error}")
    except InputError as error:
        complain("error", error)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        complain("error", "there is not enough memory")
    except KeyboardInterrupt as interrupt:
        complain("interrupted", interrupt)
        return 130
    return 2


def complain(kind: str, message: object) -> None:
    """Print one line to standard error; an escape or a newline in it is printed escaped."""
    characters = [c if c.isprintable() else repr(c)[1:-1] for c in str(message)]
    print(f"mnist-adder: {kind}: {''.join(characters)}", file=sys.stderr)


def train(options: argparse.Namespace) -> None:
    """Train a recipe and save the run in a folder."""
    withheld: list[Any] = []
    if options.resume:
        config = _options_as_begun(options)
        recipe = replace(RECIPES[config["recipe"]], **config["changes"])
        withheld = config["withheld"]
    else:
        recipe = RECIPES[options.recipe]
        given = {name: getattr(options, name) for name in ("epochs", "batch_size", "lr")}
        changes = {name: value for name, value in given.items() if value is not None}
        if options.epochs is not None:
            changes["digits_epochs"] = None
        recipe = replace(recipe, **changes)
    device = devices.gpu_check(options.seed, options.device, deterministic=options.deterministic)
    if options.withhold is not None:
        count = options.withhold
        withheld = withhold.pairs_to_withhold(count, options.seed, keep_sums=not options.any_sum)
    data = load_data(options.data or "auto", options.data_dir, validate=options.validate)
    initial = runs.read_run(options.init).model if options.init else None
    settings = {"model": initial, "device": device, "seed": options.seed, "withheld": withheld}
    training = Training(recipe, data, **settings)
    folder = options.resume or runs.new_folder(options.out, training)
    try:
        run = runs.train_run(folder, training, resume=True, quiet=options.quiet)
    except KeyboardInterrupt:
        command = f"python -m mnist_adder train --resume {shlex.quote(str(folder))}"
        raise KeyboardInterrupt(f"go on with: {command}") from None
    print_table(run, data, evaluate(run.model, data))
    print(
        f"  trained in {run.metrics['train_seconds']:.1f} s on {device.type}\nrun folder: {folder}"
    )


def _options_as_begun(options: argparse.Namespace) -> dict[str, Any]:
    """Set the options of a run that goes on, and return its config with the recipe's changes."""
    defaults = make_parser().parse_args(["train"])
    for name in AS_BEGUN.split():
        if getattr(options, name) != getattr(defaults, name):
            option = name.replace("_", "-")
            raise InputError(f"--resume goes on with a run as it began: leave out --{option}")
    config = runs.read_checkpoint(options.resume)["config"]
    if config["recipe"] not in RECIPES:
        advice = "go on from Python with train_run(…, resume=True)"
        raise InputError(f"{options.resume} is a training of your own recipe: {advice}")
    names = ("epochs", "digits_epochs", "batch_size", "lr")
    config["changes"] = {name: config["settings"].get(name) for name in names}
    options.seed = config["seed"]
    options.data = config["dataset"]
    options.validate = config["fold"]
    options.deterministic = options.deterministic or config["deterministic"]
    return config


def test(options: argparse.Namespace) -> None:
    """Test a finished run exhaustively."""
    run = runs.read_run(options.folder)
    if run.config["target"] != "mnist_adder.data:add":
        raise InputError(f"{options.folder} learned another operation: evaluate it from Python")
    source = options.data or run.config["dataset"]
    fold = run.config["fold"] if source == run.config["dataset"] else None
    data = load_data(source, options.data_dir, validate=fold)
    device = devices.gpu_check(run.config["seed"], options.device)
    evaluation = evaluate(run.model.to(device), data)
    print_table(run, data, evaluation)
    if options.out:
        runs.write_evaluation(options.out, run, data, evaluation)


def print_table(run: runs.Run, data: Data, evaluation: Evaluation) -> None:
    """Print the accuracies of a run."""
    withheld = run.config["withheld"]
    values = evaluation.measure(withheld)
    title = f"{run.config['recipe']}, {run.metrics['parameters']:,} parameters"
    title += f", epochs: {run.metrics['epochs']}, seed {run.config['seed']}"
    images = len(data.test.digits)
    print(f"\n{title}; {data.source}, {data.split} split: {images:,} images, all numbers")
    meanings = {"digit": "the digit is right", "sum": "the sum is right", "joint": "both are right"}
    for name, meaning in meanings.items():
        print(f"  {name:8} {values[f'{name}_accuracy']:9.3%}   {meaning}")
    print(f"  losses   digit {values['digit_loss']:.4f}, sum {values['sum_loss']:.4f} nats")
    for name in ("withheld", "shown") if withheld else ():
        shares = [f"{part} {values[f'{name}_{part}_accuracy']:.3%}" for part in meanings]
        print(f"  on the pairs {name}: {', '.join(shares)}")


def lr_find(options: argparse.Namespace) -> None:
    """Find a learning rate with a range test."""
    recipe = RECIPES[options.recipe]
    device = devices.gpu_check(options.seed, options.device)
    data = load_data(options.data or "auto", options.data_dir)
    found = range_test.lr_range(recipe, data, device=device, seed=options.seed)
    with open(options.out, "xb") as file:
        file.write(plots.png(plots.lr_range(*found, recipe.lr, data.source)))
    suggestion = "none" if found.suggestion is None else f"{found.suggestion:.2g}"
    print(f"suggested rate: {suggestion}; the recipe's: {recipe.lr:g} ({recipe.schedule})")
    print(f"figure: {options.out}")


def summary(options: argparse.Namespace) -> None:
    """Print a network's layers and its receptive field."""
    model = RECIPES[options.recipe].model()
    print(inspection.layer_table(model))
    print("\nReceptive field of the CNN (pixels along one side of the 28x28 image)")
    print(inspection.receptive_field_table(model.cnn))
    if options.graph:
        print(f"\nautograd graph: {inspection.save_graph(model, options.graph)}")


def predict(options: argparse.Namespace) -> int:
    """Read digits in pictures and add a number; the exit status is 2 if one could not be read."""
    model = runs.read_run(options.run).model if options.run else runs.load_pretrained()
    names = [match for name in options.images for match in glob.glob(name) or [name]]
    answers: list[dict[str, Any]] = []
    for name in names:
        picture = sys.stdin.buffer.read(50_000_000) if name == "-" else Path(name)
        try:
            answer = prediction.predict(model, picture, options.number)
        except InputError as error:
            answers.append({"image": name, "error": str(error)})
            complain("error", f"-: {error}" if name == "-" else error)
            continue
        fields = answer._asdict()
        del fields["pixels"]
        answers.append({"image": name, "number": options.number, **fields})
        if not options.json:
            digit = f"digit {answer.digit} ({max(answer.digit_probabilities):.2%})"
            sum = f"sum {answer.sum} ({max(answer.sum_probabilities):.2%})"
            print(f"{name}: {digit}, number {options.number}, {sum}")
    if options.json:
        print(json.dumps(answers, indent=2))
    return 2 if any("error" in answer for answer in answers) else 0


def write_page(options: argparse.Namespace) -> None:
    """Write a page to draw digits on: one HTML file with the network in it."""
    model = runs.read_run(options.run).model if options.run else runs.load_pretrained()
    if options.out.exists():
        raise InputError(f"{options.out} is there already: choose another --out")
    page.write_page(options.out, model)
    print(f"open {options.out} in a browser, with a double click for example")


def console() -> None:
    """Run as a program of its own; end quietly where the reader of the output has gone."""
    status = main()
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more when it ends
    sys.exit(status)


if __name__ == "__main__":
    console()
