"""The command line's grammar: the commands and their options."""

import argparse
from pathlib import Path
from typing import Any

from . import __version__
from .errors import InputError
from .recipes import RECIPES

ABOUT = """\
Train and examine a network that reads a handwritten digit and adds a number 0-9 to it.

examples:
  mnist-adder train                         train the default recipe
  mnist-adder train --data digits           train it on the bundled digits, offline
  mnist-adder train --resume runs/adder-001 go on with a run that was interrupted
  mnist-adder predict my_7.png --number 5   your own handwriting
MNIST is looked for in --data-dir, else in $MNIST_ADDER_DATA, else in ./data, and downloaded when
it is missing.
"""
RECIPE_LINES = [f"  {recipe.name:13} {recipe.about}" for recipe in RECIPES.values()]
RECIPE_HELP = "\n".join(["recipes:", *RECIPE_LINES])
RAW: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter}
SHARED: dict[str, dict[str, Any]] = {  # options of several commands
    "--recipe": {
        "choices": RECIPES,
        "default": "adder",
        "metavar": "NAME",
        "help": "the recipe (default: adder)",
    },
    "--seed": {
        "type": int,
        "default": 0,
        "metavar": "N",
        "help": "the seed, which decides everything random (default: 0)",
    },
    "--data": {"help": "auto, mnist, digits or a file .npz"},
    "--data-dir": {
        "metavar": "DIR",
        "help": "the folder of MNIST (default: $MNIST_ADDER_DATA, else data)",
    },
    "--device": {"default": "auto", "help": "auto (default), cpu, cuda or mps"},
    "--run": {
        "type": Path,
        "metavar": "RUN",
        "help": "the run whose network is used (default: the network in the package)",
    },
}


class Parser(argparse.ArgumentParser):
    """Say what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> None:
        raise InputError(message)


def make_parser() -> argparse.ArgumentParser:
    """Return the command line's grammar; it sets ``command``, the command's name."""
    parser = Parser("mnist-adder", description=ABOUT, allow_abbrev=False, **RAW)
    parser.add_argument("--version", action="version", version=f"mnist-adder {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)

    def add_command(name: str, about: str, *shared: str) -> Any:
        epilog = RECIPE_HELP if "--recipe" in shared else None
        texts = {"help": about, "description": about, "epilog": epilog}
        command = commands.add_parser(name, allow_abbrev=False, **texts, **RAW)
        for option in shared:
            command.add_argument(option, **SHARED[option])
        return command.add_argument

    data = ("--data", "--data-dir", "--device")
    about = "Train a recipe and save the run in a folder."
    add = add_command("train", about, "--recipe", "--seed", *data)
    add("--epochs", type=int, metavar="N", help="instead of the recipe's")
    add("--batch-size", type=int, metavar="N", help="instead of the recipe's")
    add("--lr", type=float, metavar="X", help="instead of the recipe's (highest) learning rate")
    fold: dict[str, Any] = {"type": int, "nargs": "?", "const": 0, "metavar": "FOLD"}
    add("--validate", **fold, help="test on a fold of the training set, 0-11 (0 without FOLD)")
    add("--withhold", type=int, metavar="N", help="keep N of the 100 pairs out of training")
    add("--any-sum", action="store_true", help="sums may lose all of their pairs: up to 81")
    add("--init", type=Path, metavar="RUN", help="begin with the weights of this run")
    add("--deterministic", action="store_true", help="make a GPU repeat its results; slower")
    add("--out", type=Path, metavar="DIR", help="a new folder (default: the next in runs/)")
    add("--quiet", action="store_true", help="do not print a line for each epoch")
    add("--resume", type=Path, metavar="RUN", help="go on with the unfinished run in this folder")
    # None says that they are not given: with --resume, even seed 0 may be another one.
    commands.choices["train"].set_defaults(recipe=None, seed=None)

    add = add_command("evaluate", "Test a finished run exhaustively.", *data)
    add("folder", type=Path, metavar="RUN", help="the run's folder")
    add("--out", type=Path, metavar="DIR", help="write results and figures into this new folder")

    about = "Read digits in pictures and add a number; the exit status is 2 if one cannot be read."
    add = add_command("predict", about, "--run")
    add("images", nargs="+", metavar="IMAGE", help="PNG, JPEG, WebP, …")
    add("--number", type=int, choices=range(10), required=True, metavar="N", help="0-9")
    add("--json", action="store_true", help="print one JSON list, an object per image")

    about = "Write a page to draw digits on: one HTML file with the network in it."
    add = add_command("page", about, "--run")
    add(
        "--out",
        type=Path,
        default=Path("adder.html"),
        metavar="FILE",
        help="a new file (default: adder.html)",
    )

    about = "Print a network's layers."
    add = add_command("summary", about, "--recipe")
    add("--graph", type=Path, metavar="FILE", help="also draw the autograd graph into this file")

    about = "Find a learning rate with a range test."
    add = add_command("lr-find", about, "--recipe", "--seed", *data)
    add(
        "--out",
        type=Path,
        default=Path("lr_range.png"),
        metavar="FILE",
        help="a new file (default: lr_range.png)",
    )
    return parser
