"""The command line. It holds no logic of its own, and imports torch only once a command runs."""

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

from . import __version__
from .errors import InputError
from .published.recipes import RECIPES
from .recipes import Recipe

DESCRIPTION = """\
Train and examine a network with two inputs, a handwritten digit and a number 0–9,
and two outputs, the digit and their sum."""
EXAMPLES = """\
examples:
  mnist-adder train                         train the default recipe on MNIST
  mnist-adder train --data digits           ... on the bundled digits, without a network
  mnist-adder train --resume runs/adder-001 go on with a run that was interrupted
  mnist-adder evaluate runs/adder-001       the exhaustive test of a finished run
  mnist-adder compare --recipes adder cascade --seeds 3
  mnist-adder predict my_7.png --number 5   your own handwriting

MNIST is looked for in --data-dir, in $MNIST_ADDER_DATA and in ./data, and downloaded
when it is missing. `python -m mnist_adder` is the same command."""
MOST_BYTES = 50_000_000  # of a picture from standard input
RECIPE_LIST = "recipes:\n" + "\n".join(f"  {name:13} {recipe.about}" for name, recipe in RECIPES.items())
OPTIONS = {
    "run": {"type": Path, "metavar": "RUN", "help": "the run's folder"},
    "images": {"nargs": "+", "metavar": "IMAGE", "help": "PNG, JPEG, BMP or GIF; - is standard input"},
    "--recipe": {"metavar": "NAME", "help": "one of those that train --help lists (default: adder)"},
    "--recipes": {"metavar": "NAME", "nargs": "+", "help": f"of {', '.join(RECIPES)} (default: all)"},
    "--model": {"help": "a network of your own, such as my_nets:MyNet; for predict and demo, a run's folder"},
    "--epochs": {"type": int, "metavar": "N", "help": "instead of the recipe's"},
    "--batch-size": {"type": int, "metavar": "N", "help": "likewise"},
    "--lr": {"type": float, "metavar": "X", "help": "likewise; the peak rate"},
    "--seed": {"type": int, "metavar": "N", "help": "decides everything random (0)"},
    "--seeds": {"type": int, "default": 3, "metavar": "N", "help": "how many (3)"},
    "--first-seed": {"type": int, "default": 10, "metavar": "N", "help": "the first of them (10)"},
    "--validate": {"type": int, "nargs": "?", "const": 0, "metavar": "FOLD", "help": "test on a twelfth of the "
                   "training set, fold 0–11 (0), and leave the test set shut"},
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
COMMANDS = {
    "train": ("train a recipe and save the run in a folder", "--recipe --model --epochs --batch-size --lr --seed "
              "--validate --withhold --any-sum --init --data --data-dir --device --deterministic --out --force --quiet --resume"),
    "evaluate": ("test a finished run exhaustively", "run --model --data --data-dir --device"),
    "figures": ("draw a run's figures again", "run --out --model --data --data-dir --device"),
    "compare": ("train recipes over several seeds, side by side; finished runs are not trained again",
                "--recipes --seeds --first-seed --epochs --validate --withhold --any-sum --data --data-dir --device --out "
                "--quiet"),
    "lr-find": ("a learning-rate range test", "--recipe --seed --data --data-dir --device --out"),
    "summary": ("print a model's layers and its receptive field", "--recipe --graph"),
    "predict": ("read digits in pictures and add a number", "images --number --json --model"),
    "demo": ("open a page to draw digits on", "--model --host --port"),
}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> None:
        _print_error(message)
        self.exit(2)


def make_parser() -> argparse.ArgumentParser:
    """The command line's grammar and help."""
    settings = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = Parser("mnist-adder", description=DESCRIPTION, epilog=EXAMPLES, **settings)
    parser.add_argument("--version", action="version", version=f"mnist-adder {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for name, (help, options) in COMMANDS.items():
        epilog = RECIPE_LIST if name == "train" else None
        command = commands.add_parser(name, help=help, description=help, epilog=epilog, **settings)
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
        status = _run(make_parser().parse_args(arguments))
        if sys.stdout:
            sys.stdout.flush()
        return status
    except InputError as error:
        _print_error(str(error))
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        _drop_output()
        return 141
    except OSError as error:
        _drop_output()
        _print_error(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
    except MemoryError:
        _print_error("there is not enough memory")
    except KeyboardInterrupt as interrupt:
        print(f"mnist-adder: interrupted{interrupt}", file=sys.stderr)
        return 130
    return 2


def _run(options: argparse.Namespace) -> int:
    command = globals()[options.command.replace("-", "_")]
    import numpy  # noqa: F401  # torch would swallow a Ctrl-C that comes while it imports NumPy

    if not {"RANK", "LOCAL_RANK", "WORLD_SIZE"} <= os.environ.keys():
        return command(options) or 0
    if command is not train:  # torchrun started this process, and others like it
        raise InputError("torchrun is for train only: run this command without it")
    from .devices import process_group

    with process_group():
        return command(options) or 0


def _print_error(message: str) -> None:
    if int(os.environ.get("RANK", 0)) > 0:
        time.sleep(10)  # rank 0 prints the same, and torchrun ends this process before it does
    print(f"mnist-adder: error: {message}", file=sys.stderr)


def _drop_output() -> None:
    """Keep Python from writing once more, when it ends, what could not be written."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _recipe(name: str | None, **changes: object) -> Recipe:
    """A recipe by name, with the changes that were asked for."""
    if (name := name or "adder") not in RECIPES:
        raise InputError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}")
    return dataclasses.replace(RECIPES[name], **{k: v for k, v in changes.items() if v is not None})


def train(options: argparse.Namespace) -> None:
    """Train, or go on with a training; test, save."""
    changes = {name: getattr(options, name) for name in ("model", "epochs", "batch_size", "lr")}
    recipe = _recipe(options.recipe, **changes)
    from . import devices
    from .runs import checkpoint, files, folder
    from .withhold import pairs_to_withhold

    seed, withheld = options.seed or 0, None
    if options.resume:
        for name in ("recipe", "seed", "validate", "withhold", "init", "out", "data", *changes):
            if getattr(options, name) is not None:
                option = name.replace("_", "-")
                raise InputError(f"--resume goes on with a run as it was begun: leave out --{option}")
        config = checkpoint.read_checkpoint(options.resume)["config"]
        recipe, withheld, seed = folder.recipe_of(config), config["withheld"], config["seed"]
        options.data, options.validate = config["dataset"], config["fold"]
        options.deterministic |= config["deterministic"]
        if options.device == "auto" and config["device"] in devices.available_devices():
            options.device = config["device"]
    initial = folder.read_run(options.init, model=options.model).model if options.init else None
    device = devices.gpu_check(seed, options.device, deterministic=options.deterministic)
    if withheld is None:
        keep_sums = not options.any_sum
        withheld = pairs_to_withhold(options.withhold, seed, keep_sums=keep_sums) if options.withhold else []
    data = _load(options)
    out = options.resume
    if devices.rank() == 0 and not out:
        out = folder.make_folder(options.out, recipe.name, force=options.force)
    settings = {"model": initial, "device": device, "seed": seed, "withheld": withheld, "quiet": options.quiet}
    try:
        resume = bool(options.resume)
        run = folder.train_run(out, recipe, data, resume=resume, force=options.force, **settings)
    except KeyboardInterrupt:
        if devices.rank() or not (out / files.CHECKPOINT).exists():
            raise
        start = "python" if devices.world_size() == 1 else f"torchrun --nproc-per-node {devices.world_size()}"
        command = f"{start} -m mnist_adder train --resume {shlex.quote(str(out))}"
        raise KeyboardInterrupt(f"; go on with: {command}") from None
    if run:
        _print_table(run.metrics, len(data.test.digits))
        print(f"run folder: {out}")


def _load(options: argparse.Namespace):
    """The data: rank 0 reads it first, and downloads what is missing; the others take the source it chose."""
    from .devices import from_rank_0, rank
    from .sources import load_data

    data = load_data(options.data or "auto", options.data_dir, validate=options.validate) if rank() == 0 else None
    source = from_rank_0(data and data.source)
    return data or load_data(source, options.data_dir, validate=options.validate)


def _evaluated(options: argparse.Namespace):
    """A run, its data (the run's own where none is named) and its exhaustive evaluation."""
    from . import devices, evaluation, sources
    from .runs import folder

    run = folder.read_run(options.run, model=options.model)
    source = options.data or run.config["dataset"]
    if source not in sources.SOURCES or run.config["target"] != "add":
        raise InputError(f"{options.run} was trained on data or a target of your own: evaluate it from Python")
    fold = run.config["fold"] if source == run.config["dataset"] else None
    data = sources.load_data(source, options.data_dir, validate=fold)
    device = devices.gpu_check(run.config["seed"], options.device)
    return run, data, evaluation.evaluate(devices.place(run.model, device), data.test)


def evaluate(options: argparse.Namespace) -> None:
    """Read a run back and test it."""
    from .models import parameter_count
    from .runs import files, folder

    run, data, evaluation = _evaluated(options)
    metrics = {name: run.config[name] for name in ("recipe", "seed", "epochs", "withheld")}
    metrics |= {"dataset": data.source, "split": data.split, "parameters": parameter_count(run.model)}
    metrics |= folder.measure(evaluation, run.config["withheld"])
    _print_table(metrics, len(data.test.digits))
    metrics |= {"confusion": evaluation.confusion.tolist(), "truth_table": evaluation.truth_table.tolist()}
    try:
        files.write_json(run.folder / f"evaluation-{data.source}.json", metrics)
    except OSError as error:
        print(f"mnist-adder: warning: {run.folder} cannot be written to: {error.strerror}", file=sys.stderr)


def figures(options: argparse.Namespace) -> None:
    """Draw a run's figures."""
    from .runs import files, folder

    run, data, evaluation = _evaluated(options)
    out = options.out or run.folder
    files.write_figures(out, folder.draw(data, run.history, evaluation, run.config["withheld"]))
    print(f"figures: {out}")


def compare(options: argparse.Namespace) -> None:
    """Train, or read back, every recipe with every seed."""
    names = ",".join(options.recipes or RECIPES).split(",")
    recipes = [_recipe(name, epochs=options.epochs) for name in names]
    if not 1 <= options.seeds <= 1000:
        raise InputError("--seeds must be a number from 1 to 1,000")
    from .devices import gpu_check
    from .published import comparison

    seeds = range(options.first_seed, options.first_seed + options.seeds)
    settings = {"out": options.out or Path("runs", "comparison"), "quiet": options.quiet}
    settings |= {"withhold": options.withhold, "keep_sums": not options.any_sum}
    device = gpu_check(options.first_seed, options.device)
    rows = comparison.compare(recipes, _load(options), seeds=seeds, device=device, **settings)
    print(f"\n{comparison.markdown(rows)}\ncomparison: {settings['out']}")


def lr_find(options: argparse.Namespace) -> None:
    """Test a range of learning rates."""
    recipe = _recipe(options.recipe)
    from . import devices, plots, range_test, sources
    from .runs import files

    device = devices.gpu_check(options.seed or 0, options.device)
    data = sources.load_data(options.data or "auto", options.data_dir)
    out = options.out or Path("runs", f"lr-find-{recipe.name}")
    out.mkdir(parents=True, exist_ok=True)
    result = range_test.lr_range(recipe, data, device=device, seed=options.seed or 0)
    files.write_figures(out, {"lr_range": plots.lr_range(*result, recipe.lr, f"{recipe.name}, {data.source}")})
    suggestion = "none, the loss never fell" if result.suggestion is None else f"{result.suggestion:.2g}"
    print(f"suggested rate: {suggestion}; the recipe's: {recipe.lr:g} ({recipe.schedule}); {data.source}")
    print("rule: the middle of the third of a decade in which the smoothed loss falls most before its minimum")
    print(f"figure: {out / 'lr_range.png'}")


def summary(options: argparse.Namespace) -> None:
    """Print the layers of a model, and its receptive field."""
    recipe = _recipe(options.recipe)
    from . import inspection, registry

    model = registry.build(recipe.model)
    print(inspection.layer_table(model))
    print("\nReceptive field of the CNN (pixels along one side of the 28×28 image)")
    print(inspection.receptive_field_table(getattr(model, "cnn", model)))
    if options.graph:
        print(f"\nautograd graph: {inspection.save_graph(model, options.graph)}")


def predict(options: argparse.Namespace) -> int:
    """Answer for every picture that can be read; the exit status is 2 if one could not."""
    from . import prediction

    model, answers = _trained(options.model), []
    for name in options.images:
        try:
            standard_input = sys.stdin.buffer.read(MOST_BYTES) if name == "-" and sys.stdin else b""
            picture = standard_input if name == "-" else Path(name)
            answer = prediction.predict(model, picture, options.number)._asdict()
            del answer["pixels"]
            answers.append({"image": name, "number": options.number} | answer)
        except InputError as error:
            message = f"-: {error}" if name == "-" else str(error)
            print(f"mnist-adder: error: {message}", file=sys.stderr)
            answers.append({"image": name, "error": message})
    if options.json:
        print(json.dumps(answers, indent=2))
    else:
        width = max(len(name) for name in options.images)
        print(f"{'image':{width}}  number  digit             sum")
        for answer in (answer for answer in answers if "error" not in answer):
            digit, sum = (f"{answer[k]:2} ({max(answer[f'{k}_probabilities']):7.2%})" for k in ("digit", "sum"))
            print(f"{answer['image']:{width}}  {answer['number']:6}  {digit}      {sum}")
    return 2 if any("error" in answer for answer in answers) else 0


def demo(options: argparse.Namespace) -> None:
    """Serve the page until interrupted."""
    from .demo import launch

    launch(_trained(options.model), host=options.host, port=options.port)


def _trained(run: str | None):
    """A run's network, or the one that comes with the package."""
    from .runs import folder

    return folder.read_run(run).model if run else folder.load_pretrained()


def _print_table(metrics: dict, images: int) -> None:
    run = "{recipe}, {parameters:,} parameters, epochs: {epochs}, seed {seed}; {dataset}, {split} split"
    print(f"\n{run.format(**metrics)}: {images:,} images × 10 numbers")
    meanings = "the digit is right", "the sum is right", "both are right", "digit × sum, for comparison only"
    for name, meaning in zip(("digit", "sum", "joint", "product"), meanings, strict=True):
        print(f"  {name:8} {metrics[f'{name}_accuracy']:9.3%}   {meaning}")
    if count := len(metrics["withheld"]):
        for name, pairs in (("withheld", count), ("shown", 100 - count)):
            shares = (f"{part} {metrics[f'{name}_{part}_accuracy']:.3%}" for part in ("digit", "sum", "joint"))
            print(f"  on the {pairs} pairs {name}: {', '.join(shares)}")
    print(f"  losses   digit {metrics['digit_loss']:.4f}, sum {metrics['sum_loss']:.4f} nats")
    if "train_seconds" in metrics:
        print(f"  trained in {metrics['train_seconds']:.1f} s on {metrics['device']}")


if __name__ == "__main__":
    sys.exit(main())
