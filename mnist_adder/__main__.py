"""Train and examine a network that reads a handwritten digit and adds a number 0–9 to it.

examples:
  mnist-adder train                         train the default recipe on MNIST
  mnist-adder train --data digits           train it on the bundled digits, without a network
  mnist-adder train --resume runs/adder-001 go on with a run that was interrupted
  mnist-adder predict my_7.png --number 5   your own handwriting
MNIST is looked for in --data-dir, in $MNIST_ADDER_DATA and in ./data, and downloaded when it is missing.
"""
# This module holds no logic of its own, and imports torch only once a command runs.

import argparse
import contextlib
import dataclasses
import json
import os
import shlex
import signal
import sys
import time
import warnings
from pathlib import Path

import mnist_adder

from .checks import InputError
from .published.recipes import RECIPES
from .recipes import Recipe

OPTIONS = {
    "run": {"type": Path, "metavar": "RUN", "help": "the run's folder"},
    "images": {"nargs": "+", "metavar": "IMAGE", "help": "PNG, JPEG, BMP or GIF; - is standard input"},
    "--recipe": {"choices": RECIPES, "metavar": "NAME", "help": "one of those below (default: adder)"},
    "--recipes": {"choices": RECIPES, "metavar": "NAME", "nargs": "+", "help": f"of {', '.join(RECIPES)} (default: all)"},
    "--model": {"help": "a network of your own, such as my_nets:MyNet; for predict and demo, a run's folder"},
    "--epochs": {"type": int, "metavar": "N", "help": "instead of the recipe's"},
    "--batch-size": {"type": int, "metavar": "N", "help": "likewise"},
    "--lr": {"type": float, "metavar": "X", "help": "likewise; the peak rate"},
    "--seed": {"type": int, "metavar": "N", "help": "decides everything random (0)"},
    "--seeds": {"type": int, "default": 3, "metavar": "N", "help": "how many (3)"},
    "--first-seed": {"type": int, "default": 10, "metavar": "N", "help": "the first of them (10)"},
    "--validate": {"type": int, "nargs": "?", "const": 0, "metavar": "FOLD", "help": "test on a fold of the training set, 0–11 (0)"},
    "--withhold": {"type": int, "metavar": "N", "help": "keep N of the 100 (digit, number) pairs out of training"},
    "--any-sum": {"action": "store_true", "help": "withhold up to 81 pairs: sums may lose all of their pairs"},
    "--init": {"type": Path, "metavar": "RUN", "help": "begin with the weights of this run"},
    "--data": {"metavar": "SOURCE", "help": "auto (default for train), mnist or digits"},
    "--data-dir": {"metavar": "DIR", "help": "folder of MNIST (default: $MNIST_ADDER_DATA, else data)"},
    "--device": {"default": "auto", "metavar": "NAME", "help": "auto (default), cpu, cuda or mps"},
    "--deterministic": {"action": "store_true", "help": "repeatable on a GPU too, slower"},
    "--out": {"type": Path, "metavar": "DIR", "help": "where to (default: the run's folder, or one in runs/)"},
    "--force": {"action": "store_true", "help": "replace the run that --out holds"},
    "--quiet": {"action": "store_true", "help": "print no epochs"},
    "--resume": {"type": Path, "metavar": "RUN", "help": "go on with the unfinished run in this folder"},
    "--graph": {"type": Path, "metavar": "FILE", "help": "draw the autograd graph there too"},
    "--number": {"type": int, "choices": range(10), "required": True, "metavar": "N", "help": "0–9"},
    "--json": {"action": "store_true", "help": "print one JSON list, an object per image"},
    "--host": {"default": "127.0.0.1", "metavar": "NAME", "help": "address to serve (default: this machine only)"},
    "--port": {"type": int, "metavar": "N", "help": "default: the first free from 7860"},
}  # fmt: skip
COMMANDS = {  # the help of each is the docstring of its function
    "train": "--recipe --model --epochs --batch-size --lr --seed --validate --withhold --any-sum --init --data --data-dir "
             "--device --deterministic --out --force --quiet --resume",
    "evaluate": "run --model --data --data-dir --device",
    "figures": "run --out --model --data --data-dir --device",
    "compare": "--recipes --seeds --first-seed --epochs --validate --withhold --any-sum --data --data-dir --device --out --quiet",
    "lr-find": "--recipe --seed --data --data-dir --device --out",
    "summary": "--recipe --graph",
    "predict": "images --number --json --model",
    "demo": "--model --host --port",
}  # fmt: skip
TABLE = """
{recipe}, {parameters:,} parameters, epochs: {epochs}, seed {seed}; {dataset}, {split} split: {images:,} images × 10 numbers
  digit    {digit_accuracy:9.3%}   the digit is right
  sum      {sum_accuracy:9.3%}   the sum is right
  joint    {joint_accuracy:9.3%}   both are right
  product  {product_accuracy:9.3%}   digit × sum, for comparison only
  losses   digit {digit_loss:.4f}, sum {sum_loss:.4f} nats"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> None:
        _print_error(message)
        self.exit(2)


def make_parser() -> argparse.ArgumentParser:
    """The command line's grammar and help."""
    settings = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = Parser("mnist-adder", description=__doc__, **settings)
    parser.add_argument("--version", action="version", version=f"mnist-adder {mnist_adder.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    recipes = "recipes:" + "".join(f"\n  {recipe.name:13} {recipe.about}" for recipe in RECIPES.values())
    for name, options in COMMANDS.items():
        function, epilog = globals()[name.replace("-", "_")], recipes if "--recipe " in options else None
        about = function.__doc__
        command = commands.add_parser(name, help=about, description=about, epilog=epilog, **settings)
        command.set_defaults(function=function)
        for option in options.split():
            command.add_argument(option, **OPTIONS[option])
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status, 2 for input that cannot be used."""
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that unfinished files are removed
        sys.path.append("")  # --model may name a module in the folder that the command runs in
        os.environ["MPLBACKEND"] = "agg"  # figures are written to files only
        warnings.formatwarning = lambda message, *_: f"{message}\n"
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.reconfigure(errors="backslashreplace")  # file names may hold any bytes
        options = make_parser().parse_args(arguments)
        torchrun = {"RANK", "LOCAL_RANK", "WORLD_SIZE"} <= os.environ.keys()  # it started this process, and others
        if torchrun and options.command != "train":
            raise InputError("torchrun is for train only: run this command without it")
        if getattr(options, "any_sum", False) and options.withhold is None:
            raise InputError("--any-sum says which pairs may be withheld: say how many with --withhold N")
        import numpy  # noqa: F401  # torch would swallow a Ctrl-C that comes while it imports NumPy

        from .devices import process_group

        with process_group() if torchrun else contextlib.nullcontext():
            status = options.function(options) or 0
        print(end="", flush=True)
        return status
    except OSError as error:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # Python would write it again when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader of the output, such as `head`, has ended
            return 141
        _print_error(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
    except (InputError, MemoryError) as error:
        _print_error(str(error) or "there is not enough memory")
    except KeyboardInterrupt as interrupt:
        print(f"mnist-adder: interrupted{interrupt}", file=sys.stderr)
        return 130
    return 2


def _print_error(message: str) -> None:
    if int(os.environ.get("RANK", 0)) > 0:
        time.sleep(10)  # rank 0 prints the same, and torchrun ends this process before it does
    print(f"mnist-adder: error: {message}", file=sys.stderr)


def train(options: argparse.Namespace) -> None:
    """Train a recipe and save the run in a folder."""
    from . import devices
    from .runs import files, folder

    given = {name: value for name, value in vars(options).items() if value is not None}
    changes = {name: given[name] for name in ("model", "epochs", "batch_size", "lr") if name in given}
    recipe = dataclasses.replace(RECIPES[options.recipe or "adder"], **changes)
    if ":" in str(options.model):  # a network of your own, whose name the reports and the folder bear
        recipe = dataclasses.replace(recipe, name=options.model.rpartition(":")[2])
    seed, withheld, out = options.seed or 0, [], options.resume
    if options.resume:
        for name in (*changes, "recipe", "seed", "validate", "withhold", "init", "out", "data"):
            if name in given:
                raise InputError(f"--resume goes on with a run as it began: leave out --{name.replace('_', '-')}")
        config = files.read_checkpoint(options.resume)["config"]
        recipe = Recipe(name=config["recipe"], model=config["model"], epochs=config["epochs"], **config["settings"])
        withheld, seed = config["withheld"], config["seed"]
        options.data, options.validate = config["dataset"], config["fold"]
        options.deterministic |= config["deterministic"]
        if options.device == "auto" and config["device"] in devices.available_devices():
            options.device = config["device"]
    initial = mnist_adder.read_run(options.init, model=options.model).model if options.init else None
    device = mnist_adder.gpu_check(seed, options.device, deterministic=options.deterministic)
    if options.withhold is not None:
        withheld = mnist_adder.pairs_to_withhold(options.withhold, seed, keep_sums=not options.any_sum)
    source, data = options.data or "auto", None
    if devices.rank() == 0:  # which chooses the source, and downloads what is missing
        data = mnist_adder.load_data(source, options.data_dir, validate=options.validate)
    source = devices.from_rank_0(data and data.source)
    data = data or mnist_adder.load_data(source, options.data_dir, validate=options.validate)
    if devices.rank() == 0 and not options.resume:
        out = folder.make_folder(options.out, recipe.name, force=options.force)
    settings = {"model": initial, "device": device, "seed": seed, "withheld": withheld, "quiet": options.quiet}
    try:
        run = folder.train_run(out, recipe, data, resume=bool(options.resume), force=options.force, **settings)
    except KeyboardInterrupt:
        if devices.rank() or not (out / files.CHECKPOINT).exists():
            raise
        start = "python" if devices.world_size() == 1 else f"torchrun --nproc-per-node {devices.world_size()}"
        command = f"{start} -m mnist_adder train --resume {shlex.quote(str(out))}"
        raise KeyboardInterrupt(f"; go on with: {command}") from None
    if run:
        _print_table(run.metrics, data)
        print(f"  trained in {run.metrics['train_seconds']:.1f} s on {device.type}\nrun folder: {out}")


def evaluate(options: argparse.Namespace) -> None:
    """Test a finished run exhaustively."""
    from . import devices
    from .runs import files, folder

    run = mnist_adder.read_run(options.run, model=options.model)
    source, withheld = options.data or run.config["dataset"], run.config["withheld"]
    if run.config["target"] != "add":
        raise InputError(f"{options.run} was trained for a target of your own: evaluate it from Python")
    fold = run.config["fold"] if source == run.config["dataset"] else None
    data = mnist_adder.load_data(source, options.data_dir, validate=fold)
    device = mnist_adder.gpu_check(run.config["seed"], options.device)
    evaluation = mnist_adder.evaluate(devices.place(run.model, device), data.test)
    if options.command == "figures":
        files.write_figures(options.out or run.folder, folder.draw(data, run.history, evaluation, withheld))
        print(f"figures: {options.out or run.folder}")
        return
    metrics = {name: run.metrics[name] for name in ("recipe", "seed", "epochs", "withheld", "parameters")}
    metrics |= {"dataset": data.source, "split": data.split} | folder.measure(evaluation, withheld)
    _print_table(metrics, data)
    metrics |= {"confusion": evaluation.confusion.tolist(), "truth_table": evaluation.truth_table.tolist()}
    try:
        files.write(run.folder / f"evaluation-{data.source}.json", metrics)
    except OSError as error:
        print(f"mnist-adder: warning: {run.folder} cannot be written to: {error.strerror}", file=sys.stderr)


def figures(options: argparse.Namespace) -> None:
    """Draw a run's figures again."""
    evaluate(options)


def _print_table(metrics: dict, data: "mnist_adder.Data") -> None:
    print(TABLE.format(images=len(data.test.digits), **metrics))
    count = len(metrics["withheld"])
    for name, pairs in (("withheld", count), ("shown", 100 - count)) if count else ():
        shares = (f"{part} {metrics[f'{name}_{part}_accuracy']:.3%}" for part in ("digit", "sum", "joint"))
        print(f"  on the {pairs} pairs {name}: {', '.join(shares)}")


def compare(options: argparse.Namespace) -> None:
    """Train recipes over several seeds, side by side; finished runs are not trained again."""
    from .published.comparison import markdown

    changes = {} if options.epochs is None else {"epochs": options.epochs}
    recipes = [dataclasses.replace(RECIPES[name], **changes) for name in options.recipes or RECIPES]
    if not 1 <= options.seeds <= 1000:
        raise InputError("--seeds must be a number from 1 to 1,000")
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    settings = {"withhold": options.withhold, "keep_sums": not options.any_sum, "quiet": options.quiet}
    device, out = mnist_adder.gpu_check(seeds[0], options.device), options.out or Path("runs", "comparison")
    data = mnist_adder.load_data(options.data or "auto", options.data_dir, validate=options.validate)
    try:
        rows = mnist_adder.compare(recipes, data, seeds=seeds, device=device, out=out, **settings)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("; the same command goes on") from None
    print(f"\n{markdown(rows)}\ncomparison: {out}")


def lr_find(options: argparse.Namespace) -> None:
    """Test a range of learning rates."""
    from . import plots
    from .runs import files

    recipe, seed = RECIPES[options.recipe or "adder"], options.seed or 0
    device = mnist_adder.gpu_check(seed, options.device)
    data = mnist_adder.load_data(options.data or "auto", options.data_dir)
    out = options.out or Path("runs", f"lr-find-{recipe.name}")
    out.mkdir(parents=True, exist_ok=True)
    result = mnist_adder.lr_range(recipe, data, device=device, seed=seed)
    files.write_figures(out, {"lr_range": plots.lr_range(*result, recipe.lr, f"{recipe.name}, {data.source}")})
    schedule = recipe.schedule + ", at its highest" * (recipe.schedule != "constant")
    suggestion = "none, the loss never fell" if result.suggestion is None else f"{result.suggestion:.2g}"
    print(f"suggested rate: {suggestion}; the recipe's: {recipe.lr:g} ({schedule}); {data.source}")
    print("rule: the middle of the third of a decade in which the smoothed loss falls most before its minimum")
    print(f"figure: {out / 'lr_range.png'}")


def summary(options: argparse.Namespace) -> None:
    """Print a model's layers and its receptive field."""
    model = mnist_adder.build(RECIPES[options.recipe or "adder"].model)
    print(mnist_adder.layer_table(model))
    print("\nReceptive field of the CNN (pixels along one side of the 28×28 image)")
    print(mnist_adder.receptive_field_table(getattr(model, "cnn", model)))
    if options.graph:
        print(f"\nautograd graph: {mnist_adder.save_graph(model, options.graph)}")


def predict(options: argparse.Namespace) -> int:
    """Read digits in pictures and add a number; the exit status is 2 if a picture could not be read."""
    model = mnist_adder.read_run(options.model).model if options.model else mnist_adder.load_pretrained()
    answers, width = [], max(map(len, options.images))
    head = f"{'image':{width}}  number  digit             sum\n"
    for name in options.images:
        standard_input = sys.stdin.buffer.read(50_000_000) if name == "-" and sys.stdin else b""
        try:
            answer = mnist_adder.predict(model, standard_input if name == "-" else Path(name), options.number)
        except InputError as error:
            answers.append({"image": name, "error": f"-: {error}" if name == "-" else str(error)})
            _print_error(answers[-1]["error"])
            continue
        answers.append({"image": name, "number": options.number} | answer._asdict())
        del answers[-1]["pixels"]
        if not options.json:
            digit = f"{answer.digit:2} ({max(answer.digit_probabilities):7.2%})"
            sum = f"{answer.sum:2} ({max(answer.sum_probabilities):7.2%})"
            print(f"{head}{name:{width}}  {options.number:6}  {digit}      {sum}")
            head = ""
    if options.json:
        print(json.dumps(answers, indent=2))
    return 2 if any("error" in answer for answer in answers) else 0


def demo(options: argparse.Namespace) -> None:
    """Open a page to draw digits on."""
    from .demo import launch

    model = mnist_adder.read_run(options.model).model if options.model else mnist_adder.load_pretrained()
    launch(model, host=options.host, port=options.port)


if __name__ == "__main__":
    sys.exit(main())
