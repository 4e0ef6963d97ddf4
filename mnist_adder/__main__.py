"""The command line. It holds no logic of its own, and imports torch only once a command is run."""

import argparse
import dataclasses
import json
import math
import os
import shlex
import sys
import warnings
from pathlib import Path

from . import __version__
from .recipes import RECIPES, Recipe

DESCRIPTION = """\
Train and examine a network with two inputs, a handwritten digit and a number 0–9,
and two outputs, the digit and their sum."""
EXAMPLES = """\
examples:
  mnist-adder train                         train the default recipe on MNIST
  mnist-adder train --data digits           ... on the bundled digits, without a network
  mnist-adder train --epochs 1 --validate   one epoch, tested on held-out training images
  mnist-adder train --resume runs/adder-001 go on with a run that was interrupted
  mnist-adder evaluate runs/adder-001       the exhaustive test of a finished run
  mnist-adder compare --recipes adder cascade --seeds 3
                                            recipes side by side, beside the published figures
  mnist-adder lr-find                       which learning rate? a range test
  mnist-adder train --withhold 20           did it learn to add? 20 of 100 pairs kept from training
  mnist-adder summary                       layers, receptive field, autograd graph
  mnist-adder predict my_7.png --number 5   your own handwriting
  mnist-adder demo                          a page to draw on

MNIST is looked for in --data-dir, in $MNIST_ADDER_DATA and in ./data, and downloaded
when it is missing. `python -m mnist_adder` is the same command."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: error: {message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status, 2 for input that cannot be used."""
    if "LOCAL_RANK" not in os.environ:
        return run(arguments)
    from .training import process_group  # torchrun started this process, and others like it

    with process_group():
        return run(arguments)


def run(arguments: list[str] | None) -> int:
    """Run a command in this process."""
    options = make_parser().parse_args(arguments)
    from .data import InputError

    warnings.formatwarning = lambda message, *_: f"{message}\n"
    try:
        return options.run(options) or 0
    except InputError as error:
        print(f"mnist-adder: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read the output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt as interrupt:
        print(f"mnist-adder: interrupted{interrupt}", file=sys.stderr)
        return 130


def make_parser() -> argparse.ArgumentParser:
    """The command line's grammar and help."""
    parser = Parser(
        prog="mnist-adder",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mnist-adder {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run, help: str, *parts: argparse.ArgumentParser):
        added = commands.add_parser(name, help=help, description=help, parents=parts, allow_abbrev=False)
        added.set_defaults(run=run)
        return added

    data = Parser(add_help=False)
    data.add_argument("--data", metavar="SOURCE", help="auto (default for train), mnist or digits")
    data.add_argument(
        "--data-dir", metavar="DIR", help="folder of MNIST (default: $MNIST_ADDER_DATA, else data)"
    )
    device = Parser(add_help=False)
    device.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")

    length: dict = {"type": _positive(int), "metavar": "N", "help": "instead of the recipe's"}
    fold: dict = {"type": int, "nargs": "?", "const": 0, "metavar": "FOLD"}
    fold["help"] = "test on a twelfth of the training set (fold 0–11, default 0); leave the test set shut"

    train_ = command("train", train, "train a recipe and save the run in a folder", data, device)
    train_.add_argument("--recipe", help="; ".join(map(_about, RECIPES.values())) + " (default: adder)")
    train_.add_argument("--epochs", **length)
    train_.add_argument("--batch-size", type=_positive(int), metavar="N", help="likewise")
    train_.add_argument("--lr", type=_positive(float), metavar="X", help="likewise; the peak rate")
    train_.add_argument("--seed", type=_seed, metavar="N", help="of everything random (0)")
    train_.add_argument("--validate", **fold)
    train_.add_argument(
        "--withhold",
        type=_positive(int),
        metavar="N",
        help="keep N of the 100 (digit, number) pairs, drawn from the seed, out of training and report "
        "the accuracy on them; each digit, number and sum keeps a pair",
    )
    train_.add_argument("--deterministic", action="store_true", help="repeatable on a GPU too, slower")
    train_.add_argument("--out", type=Path, metavar="DIR", help="run folder (default: a new one in runs/)")
    train_.add_argument("--force", action="store_true", help="replace the run that --out holds")
    train_.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with the unfinished run in this folder, as it was begun",
    )

    evaluate_ = command("evaluate", evaluate, "test a finished run exhaustively", data, device)
    evaluate_.add_argument("folder", type=Path, metavar="RUN", help="the run's folder")

    figures_ = command("figures", figures, "draw a run's figures again", data, device)
    figures_.add_argument("folder", type=Path, metavar="RUN", help="the run's folder")
    figures_.add_argument("--out", type=Path, metavar="DIR", help="where to (default: the run's folder)")

    compare_ = command("compare", compare, "train recipes over several seeds, side by side", data, device)
    compare_.add_argument(
        "--recipes", nargs="+", metavar="NAME", help=f"of {', '.join(RECIPES)} (default: all)"
    )
    compare_.add_argument("--seeds", type=_positive(int), default=3, metavar="N", help="how many (3)")
    compare_.add_argument("--first-seed", type=_seed, default=10, metavar="N", help="and from which on (10)")
    compare_.add_argument("--epochs", **length)
    compare_.add_argument("--validate", **fold)
    compare_.add_argument(
        "--out",
        type=Path,
        default=Path("runs/comparison"),
        metavar="DIR",
        help="for the runs, the table and the figure (default: runs/comparison); finished runs that are "
        "there already are not trained again",
    )

    lr_find_ = command("lr-find", lr_find, "a learning-rate range test", data, device)
    lr_find_.add_argument("--recipe", default="adder", help="whose model and optimiser (default: adder)")
    lr_find_.add_argument("--seed", type=_seed, default=0, metavar="N", help="of everything random (0)")
    lr_find_.add_argument(
        "--out", type=Path, metavar="DIR", help="for lr_range.png (default: runs/lr-find-RECIPE)"
    )

    summary_ = command("summary", summary, "print a model's layers and its receptive field")
    summary_.add_argument("--recipe", default="adder", help="whose model (default: adder)")
    summary_.add_argument("--graph", type=Path, metavar="FILE", help="draw the autograd graph there too")

    model = Parser(add_help=False)
    model.add_argument(
        "--model", type=Path, metavar="RUN", help="a run's folder (default: the weights in the package)"
    )
    predict_ = command("predict", predict, "read digits in pictures and add a number", model)
    predict_.add_argument(
        "images", nargs="+", metavar="IMAGE", help="PNG, JPEG, BMP or GIF; - is standard input"
    )
    predict_.add_argument("--number", type=_digit, required=True, metavar="N", help="0–9")
    predict_.add_argument("--json", action="store_true", help="print one JSON list, an object per image")

    demo_ = command("demo", demo, "open a page to draw digits on", model)
    demo_.add_argument("--host", default="127.0.0.1", help="address to serve (default: this machine only)")
    demo_.add_argument("--port", type=_positive(int), metavar="N", help="default: the first free from 7860")
    return parser


def _about(recipe: Recipe) -> str:
    return f"{recipe.name}: {recipe.about}"


def _positive(kind: type):
    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (value > 0 and math.isfinite(value)):
            what = "a whole number above 0" if kind is int else "a number above 0"
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return parse


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2³² − 1")
    return int(text)


def _digit(text: str) -> int:
    if text not in tuple("0123456789"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 9")
    return int(text)


def _recipe(name: str, epochs: int | None = None, **changes: float | None) -> Recipe:
    """A recipe by name, with the changes that were asked for."""
    from .data import InputError

    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}")
    changes |= {"epochs": epochs, "digits_epochs": epochs}
    return dataclasses.replace(RECIPES[name], **{k: v for k, v in changes.items() if v is not None})


def train(options: argparse.Namespace) -> None:
    """Train, or go on with a training; test, save."""
    recipe = _recipe(options.recipe or "adder", options.epochs, batch_size=options.batch_size, lr=options.lr)
    from . import data, runs, training

    rank, _ = training.ranks()
    if options.resume:
        if (options.resume / runs.CONFIG).exists() and not (options.resume / runs.STATE).exists():
            runs.read_run(options.resume)
            print(f"{options.resume} holds a finished run: there is nothing to go on with")
            return
        with training.agreed():
            begun = runs.read_state(options.resume)["config"]
            _as_begun(options, begun)
        recipe = runs.recipe_of(begun)
    seed = options.seed or 0
    withheld = data.pairs_to_withhold(options.withhold or 0, seed)
    with training.agreed():
        device = training.gpu_check(seed, options.device, deterministic=options.deterministic)
    loaded = training.load_once(options.data or "auto", options.data_dir, validate=options.validate)
    folder = options.resume
    with training.agreed():
        if rank == 0:
            force = options.force or bool(options.resume)
            folder = runs.make_folder(options.out, recipe.name, force=force)
    try:
        metrics = runs.train_run(
            folder,
            recipe,
            loaded,
            device=device,
            seed=seed,
            withheld=withheld,
            resume=bool(options.resume),
            validate=options.validate,
        )
    except KeyboardInterrupt:
        if rank or not (folder / runs.STATE).exists():
            raise
        command = f"python -m mnist_adder train --resume {shlex.quote(str(folder))}"
        raise KeyboardInterrupt(f"; go on with: {command}") from None
    if rank == 0:
        _print_table(metrics, len(loaded.test.digits))
        print(f"run folder: {folder}")


def _as_begun(options: argparse.Namespace, config: dict) -> None:
    """Set the options to what a run was begun with.

    Raises:
        InputError: an option that was given is another.
    """
    from .data import InputError

    begun = {"data": config["dataset"], "withhold": len(config["withheld"]), "force": False}
    begun |= {"out": options.resume} | {name: config["settings"][name] for name in ("batch_size", "lr")}
    begun |= {name: config[name] for name in ("recipe", "epochs", "seed", "device", "validate")}
    begun |= {"deterministic": config["deterministic"]}
    for name, value in begun.items():
        asked = getattr(options, name)
        if asked not in (None, "auto", value) and asked is not False:
            option = f"--{name.replace('_', '-')} {asked}"
            raise InputError(f"{option} is not what {options.resume} was begun with: leave it out")
        setattr(options, name, value)


def evaluate(options: argparse.Namespace) -> None:
    """Read a run back and test it."""
    from . import models, runs

    run, loaded, evaluated = _evaluated(options)
    withheld = run.config["withheld"]
    metrics = {"dataset": loaded.source, "split": loaded.split, "withheld": withheld}
    metrics |= {key: run.config[key] for key in ("recipe", "seed", "epochs")}
    metrics |= {"parameters": models.parameter_count(run.model)} | runs.measure(evaluated, withheld)
    tables = {
        "confusion": evaluated.confusion.tolist(),
        "truth_table": evaluated.truth_table.tolist(),
    }
    runs.write_json(run.folder / f"evaluation-{loaded.source}.json", metrics | tables)
    _print_table(metrics, len(loaded.test.digits))


def figures(options: argparse.Namespace) -> None:
    """Draw a run's figures."""
    from . import runs

    run, loaded, evaluated = _evaluated(options)
    out = runs.make_folder(options.out or run.folder, run.config["recipe"], force=True)
    runs.write_figures(out, runs.draw(loaded, run.history, evaluated, run.config["withheld"]))
    print(f"figures: {out}")


def compare(options: argparse.Namespace) -> None:
    """Train, or read back, every recipe with every seed."""
    names = ",".join(options.recipes or RECIPES).split(",")
    recipes = [_recipe(name, options.epochs) for name in dict.fromkeys(names)]
    from . import comparison, data, training

    device = training.gpu_check(options.first_seed, options.device)
    rows = comparison.compare(
        recipes,
        data.load_data(options.data or "auto", options.data_dir, validate=options.validate),
        seeds=range(options.first_seed, options.first_seed + options.seeds),
        device=device,
        out=options.out,
        validate=options.validate,
    )
    print(f"\n{comparison.markdown(rows)}\ncomparison: {options.out}")


def lr_find(options: argparse.Namespace) -> None:
    """Test a range of learning rates."""
    recipe = _recipe(options.recipe)
    from . import data, plots, runs, training

    device = training.gpu_check(options.seed, options.device)
    loaded = data.load_data(options.data or "auto", options.data_dir)
    out = runs.make_folder(options.out or Path("runs", f"lr-find-{recipe.name}"), recipe.name, force=True)
    found = training.lr_range(recipe, loaded, device=device, seed=options.seed)
    figure = plots.lr_range(*found, recipe.lr, f"{recipe.name}, {loaded.source}")
    runs.write_figures(out, {"lr_range": figure})
    suggestion = "none, the loss never fell" if found.suggestion is None else f"{found.suggestion:.2g}"
    print(f"suggested rate: {suggestion}; the recipe's: {recipe.lr:g} ({recipe.schedule}); {loaded.source}")
    print(
        "rule: the middle of the third of a decade in which the smoothed loss falls most before its minimum"
    )
    print(f"figure: {out / 'lr_range.png'}")


def summary(options: argparse.Namespace) -> None:
    """Print what `inspection` knows of a model."""
    recipe = _recipe(options.recipe)
    from . import inspection, models

    model = models.build(recipe.model)
    print(inspection.layer_table(model))
    print("\nReceptive field of the CNN (pixels along one side of the 28×28 image)")
    print(inspection.receptive_field_table(model.cnn))
    if options.graph:
        print(f"\nautograd graph: {inspection.save_graph(model, options.graph)}")


def predict(options: argparse.Namespace) -> int:
    """Answer for every picture that can be read; the exit status is 2 if one could not."""
    from . import data, prediction

    model = _model(options.model)
    answers, status = [], 0
    for name in options.images:
        source = sys.stdin.buffer.read() if name == "-" else Path(name)
        try:
            answer = prediction.predict(model, source, options.number)._asdict()
            del answer["seen"]
            answers.append({"image": name, "number": options.number} | answer)
        except data.InputError as error:
            message = f"-: {error}" if name == "-" else str(error)
            print(f"mnist-adder: error: {message}", file=sys.stderr)
            answers.append({"image": name, "error": message})
            status = 2
    if options.json:
        print(json.dumps(answers, indent=2))
        return status
    width = max(len(name) for name in options.images)
    print(f"{'image':{width}}  number  digit             sum")
    for answer in answers:
        if "error" not in answer:
            digit, sum = (
                f"{answer[k]:2} ({max(answer[f'{k}_probabilities']):7.2%})" for k in ("digit", "sum")
            )
            print(f"{answer['image']:{width}}  {answer['number']:6}  {digit}      {sum}")
    return status


def demo(options: argparse.Namespace) -> None:
    """Serve the page until interrupted."""
    from .demo import launch

    launch(_model(options.model), host=options.host, port=options.port)


def _model(folder: Path | None):
    """A run's network, or the one that comes with the package."""
    from . import runs

    return runs.read_run(folder).model if folder else runs.load_pretrained()


def _evaluated(options: argparse.Namespace):
    """A run, its data (the run's own where none is named) and its exhaustive evaluation."""
    from . import data, evaluation, runs, training

    run = runs.read_run(options.folder)
    own = options.data in (None, run.config["dataset"])
    loaded = data.load_data(
        options.data or run.config["dataset"],
        options.data_dir,
        validate=run.config["validate"] if own else None,
    )
    device = training.gpu_check(run.config["seed"], options.device)
    return run, loaded, evaluation.evaluate(run.model.to(device), loaded.test)


def _print_table(metrics: dict, images: int) -> None:
    epochs = f"{metrics['epochs']} epoch{'s' * (metrics['epochs'] > 1)}"
    print(
        f"\n{metrics['recipe']}, {metrics['parameters']:,} parameters, {epochs}, "
        f"seed {metrics['seed']}; {metrics['dataset']}, {metrics['split']} split: "
        f"{images:,} images × 10 numbers"
    )
    for name, meaning in (
        ("digit", "the digit is right"),
        ("sum", "the sum is right"),
        ("joint", "both are right"),
        ("product", "digit × sum, for comparison only"),
    ):
        print(f"  {name:8} {metrics[f'{name}_accuracy']:9.3%}   {meaning}")
    if count := len(metrics["withheld"]):
        for name, pairs in (("withheld", f"{count} pairs withheld"), ("seen", f"{100 - count} pairs seen")):
            shares = (
                f"{part} {metrics[f'{name}_{part}_accuracy']:.3%}" for part in ("digit", "sum", "joint")
            )
            print(f"  on the {pairs}: {', '.join(shares)}")
    print(f"  losses   digit {metrics['digit_loss']:.4f}, sum {metrics['sum_loss']:.4f} nats")
    if "train_seconds" in metrics:
        print(f"  trained in {metrics['train_seconds']:.1f} s on {metrics['device']}")


if __name__ == "__main__":
    sys.exit(main())
