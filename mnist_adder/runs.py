"""A run's folder: its config, history, metrics, weights and figures, written whole or not at all."""

import csv
import dataclasses
import hashlib
import io
import json
import math
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from . import plots
from .data import FOLDS, PAIRS, SOURCES, AdderDataset, Data, InputError, pair_table
from .evaluation import Evaluation, evaluate
from .models import TwoInputNet, build, parameter_count
from .recipes import RECIPES, Recipe
from .training import COUNTED, Fitted, agreed, device_name, fit, ranks

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None

CONFIG, HISTORY, METRICS, WEIGHTS, STATE = (
    "config.json",
    "history.csv",
    "metrics.json",
    "model.safetensors",
    "state.pt",  # while it is being trained, or was interrupted
)
PRETRAINED = Path(__file__).parent / "weights" / "adder.safetensors"

CONFIG_FIELDS = {  # what reading a run back needs, and what it may be
    "recipe": lambda value: value in list(RECIPES),
    "dataset": lambda value: value in SOURCES[1:],
    "validate": lambda value: value is None or (type(value) is int and value in range(FOLDS)),
    "seed": lambda value: type(value) is int and 0 <= value < 2**32,
    "epochs": lambda value: type(value) is int and value > 0,
    "settings": lambda value: isinstance(value, dict),
    "withheld": lambda value: isinstance(value, list) and {*map(repr, value)} <= {*map(repr, PAIRS)},
    "weights_sha256": lambda value: value is None or isinstance(value, str),  # older runs have none
}


def write(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, and never a half."""
    content = content.encode() if isinstance(content, str) else content
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # mkstemp's files are for their owner alone
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole."""
    write(path, json.dumps(content, indent=2) + "\n")


def write_figures(folder: Path, figures: dict[str, Figure]) -> None:
    """Write figures as ``<name>.png``."""
    for name, figure in figures.items():
        picture = io.BytesIO()
        # No software version in the file: the same figure is the same bytes.
        figure.savefig(picture, format="png", metadata={"Software": None})
        write(folder / f"{name}.png", picture.getvalue())


def make_folder(out: Path | None, recipe: str, *, force: bool = False) -> Path:
    """The folder of a new run: `out`, or the next ``runs/<recipe>-NNN``.

    Raises:
        InputError: the folder holds a run already, finished or not, and `force` is not given, or cannot
            be made.
    """
    number = 1
    while out is None:
        candidate = Path("runs", f"{recipe}-{number:03}")
        out, number = (None if candidate.exists() else candidate), number + 1
    if (out / STATE).exists() and not force:
        raise InputError(f"{out} holds an unfinished run: train --resume {out}, or --force to replace it")
    if (out / CONFIG).exists() and not force:
        raise InputError(f"{out} already holds a run: choose another --out, or --force to replace it")
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()  # found out now, not after the training
    except OSError as error:
        raise InputError(f"cannot make a run folder at {out}: {error.strerror}") from error
    return out


@dataclass(frozen=True)
class Run:
    """A run read back from its folder."""

    folder: Path
    config: dict[str, Any]
    history: list[dict[str, float]]
    metrics: dict[str, Any]
    model: TwoInputNet


def train_run(
    folder: Path | None,
    recipe: Recipe,
    data: Data,
    *,
    device: torch.device,
    seed: int,
    withheld: Sequence[Sequence[int]] = (),
    resume: bool = False,
    bar: bool = True,
    **facts: Any,
) -> dict[str, Any]:
    """Train a recipe, evaluate it exhaustively and save the run; returns what ``metrics.json`` holds.

    Until the run is saved, the folder holds its state after the last whole epoch, and its config with it.
    In a process group all ranks train, and rank 0 does the rest.

    Args:
        folder: that exists; only rank 0 needs it, or every rank to resume.
        recipe, data, device, seed, bar: see `training.fit`.
        withheld: (digit, number) pairs kept out of training.
        resume: go on from the state in the folder.
        facts: see `save_run`.

    Raises:
        InputError: see `training.fit`, or a state that is damaged or of a run with other settings.
    """
    rank, processes = ranks()
    facts |= {"seed": seed, "processes": processes, "device": device.type}
    facts |= {"deterministic": torch.are_deterministic_algorithms_enabled()}
    config, state = config_of(recipe, data, withheld, **facts), None

    def keep(state: dict[str, Any]) -> None:
        content = io.BytesIO()
        torch.save(state | {"config": config}, content)
        write(folder / STATE, content.getvalue() + hashlib.sha256(content.getvalue()).digest())

    with locked(folder):
        with agreed():
            if resume:
                state = read_state(folder)
                if other := [name for name in config if config[name] != state["config"].get(name)]:
                    raise InputError(
                        f"{folder / STATE} is of a run whose {other[0]} differs: go on as it began"
                    )
        allowed = ~pair_table(withheld)
        fitted = fit(recipe, data, device=device, seed=seed, allowed=allowed, bar=bar, state=state, keep=keep)
        if rank > 0:
            return {}
        evaluated = evaluate(fitted.model, data.test)
        metrics = save_run(folder, recipe, data, fitted, evaluated, withheld=withheld, **facts)
        (folder / STATE).unlink()
    return metrics


@contextmanager
def locked(folder: Path | None) -> Iterator[None]:
    """Let no other process train into a folder meanwhile; rank 0 holds the lock, which ends with the process.

    Raises:
        InputError: another process holds it.
    """
    descriptor = None
    with agreed():
        if ranks()[0] == 0 and fcntl:
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(descriptor)
                raise InputError(f"{folder} is being trained into: choose another --out") from error
            except OSError:  # a file system without locks
                pass
            for stale in folder.glob(f".{STATE}-*"):  # what a killed process was writing
                stale.unlink()
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def save_run(
    folder: Path,
    recipe: Recipe,
    data: Data,
    fitted: Fitted,
    evaluation: Evaluation,
    *,
    withheld: Sequence[Sequence[int]] = (),
    **facts: Any,
) -> dict[str, Any]:
    """Write everything a run leaves, and return what ``metrics.json`` holds.

    Args:
        folder: that exists.
        recipe, data, fitted, evaluation: of this run.
        withheld: (digit, number) pairs kept out of training.
        facts: more entries for both JSON files: seed, device, ….
    """
    config = config_of(recipe, data, withheld, **facts)
    metrics = {name: value for name, value in config.items() if name != "settings"} | {
        "parameters": parameter_count(fitted.model),
        "hardware": device_name(next(fitted.model.parameters()).device),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "commit": _commit(),
        "train_seconds": fitted.train_seconds,
        "warmup_seconds": fitted.warmup_seconds,
        **measure(evaluation, withheld),
    }
    table = io.StringIO()
    rows = csv.DictWriter(table, fitted.history[0], lineterminator="\n")
    rows.writeheader()
    rows.writerows(fitted.history)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in fitted.model.state_dict().items()}
    weights = save_tensors(tensors)
    config["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    figures = draw(data, fitted.history, evaluation, withheld)

    # Of the run that --force replaces. The config is written last: where there is one, the run is whole.
    for stale in (folder / CONFIG, *folder.glob("evaluation-*.json")):
        stale.unlink(missing_ok=True)
    write(folder / WEIGHTS, weights)
    write(folder / HISTORY, table.getvalue())
    write_figures(folder, figures)
    write_json(folder / METRICS, metrics)
    write_json(folder / CONFIG, config)
    return metrics


def config_of(
    recipe: Recipe, data: Data, withheld: Sequence[Sequence[int]] = (), **facts: Any
) -> dict[str, Any]:
    """What ``config.json`` holds: all that decides how a run ends."""
    about = {"dataset": data.source, "split": data.split, "recipe": recipe.name}
    about |= {"epochs": recipe.length(data.source), "withheld": [list(pair) for pair in withheld]}
    return about | facts | {"data_sha256": data.sha256, "settings": settings_of(recipe)}


def _commit() -> str | None:
    """The git commit of the package, where it runs from a checkout; with "-dirty" if that was changed."""
    root = Path(__file__).parent.parent
    if not (shutil.which("git") and (root / ".git").exists()):
        return None
    command = ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """What ``config.json`` holds of a recipe."""
    return {k: v for k, v in dataclasses.asdict(recipe).items() if k not in ("name", "model")}


def recipe_of(config: dict[str, Any]) -> Recipe:
    """The recipe that a ``config.json`` was written from."""
    return dataclasses.replace(RECIPES[config["recipe"]], **config["settings"])


def read_state(folder: Path) -> dict[str, Any]:
    """The state of an unfinished run, see `training.fit`, with its config; no object is unpickled.

    The file is what `torch.save` wrote, and then the 32 bytes of its SHA-256.

    Raises:
        InputError: no unfinished run, or a damaged state.
    """
    path = folder / STATE
    if not path.is_file():
        raise InputError(f"{folder} holds no run to go on with: it has no {STATE}")
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[:-32]).digest() != content[-32:]:
            raise ValueError("its SHA-256 differs")
        state = torch.load(io.BytesIO(content[:-32]), map_location="cpu", weights_only=True)
        _check_config(path, state["config"])
        recipe_of(state["config"])
    except Exception as error:  # torch answers a file of another kind with errors of many kinds
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} is damaged ({reason}): begin again with --force") from error
    return state


def measure(evaluation: Evaluation, withheld: Sequence[Sequence[int]]) -> dict[str, float]:
    """An evaluation's metrics and, where pairs were withheld, the accuracies on those and on the others."""
    metrics = evaluation.metrics
    if withheld:
        table = pair_table(withheld)
        for name, pairs in (("withheld", table), ("seen", ~table)):
            accuracies = evaluation.accuracies(pairs)
            metrics |= {f"{name}_{key}": value for key, value in accuracies.items()}
    return metrics


def read_run(folder: Path) -> Run:
    """Read a run folder back; nothing in it is unpickled or executed.

    Raises:
        InputError: no run, or one whose files are missing, damaged or do not fit together.
    """
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder} is not a run folder: it has no {CONFIG}")
    config = {"withheld": []} | _read_json(folder / CONFIG)
    _check_config(folder / CONFIG, config)
    metrics = _read_json(folder / METRICS)
    for name, value in metrics.items():
        fits = value == config.get(name, value)
        if name.endswith(("_accuracy", "_loss", "_seconds")) or name in ("parameters", "threads"):
            fits = fits and type(value) in (int, float) and 0 <= value < 1e12
        if name in ("hardware", "torch"):
            fits = fits and isinstance(value, str)
        if not fits:
            raise InputError(f"{folder / METRICS}: {name} cannot be {value!r:.80}")
    history = _read_history(folder / HISTORY, config["epochs"])
    model = build(RECIPES[config["recipe"]].model)
    load_weights(model, folder / WEIGHTS, sha256=config.get("weights_sha256"))
    return Run(folder, config, history, metrics, model)


def _read_history(path: Path, epochs: int) -> list[dict[str, float]]:
    try:
        history = [
            {key: float(value) for key, value in row.items()}
            for row in csv.DictReader(io.StringIO(path.read_text()))
        ]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    names = ("epoch", "lr", *(f"{split}_{name}" for split in ("train", "test") for name in COUNTED[1:]))
    for name in names:
        if not all(math.isfinite(row.get(name, math.nan)) for row in history):
            raise InputError(f"{path}: {name} must be a number in every row")
    if [row["epoch"] for row in history] != [*range(1, epochs + 1)]:
        raise InputError(f"{path}: epoch must count from 1 to {epochs}")
    return history


def load_weights(model: TwoInputNet, path: Path, *, sha256: str | None = None) -> TwoInputNet:
    """Fill a model with the weights of a safetensors file, and put it in evaluation mode.

    Raises:
        InputError: no such file, a damaged one or one with another SHA-256, or weights of another model.
    """
    try:
        content = path.read_bytes()
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            raise InputError(f"{path} is damaged, or of another run: its SHA-256 is not the one in {CONFIG}")
        model.load_state_dict(load_tensors(content))
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as safetensors: {error}") from error
    except RuntimeError as error:
        raise InputError(f"{path} holds the weights of another model") from error
    return model.eval()


def load_pretrained() -> TwoInputNet:
    """The network whose weights come with the package (see ``weights/README.md``), ready to predict.

    Raises:
        InputError: weights that are missing or damaged.
    """
    if not PRETRAINED.is_file():
        raise InputError(f"{PRETRAINED} is missing: install the package again, or name a run with --model")
    return load_weights(build(RECIPES["adder"].model), PRETRAINED)


def _check_config(path: Path, config: dict[str, Any]) -> None:
    for field, fits in CONFIG_FIELDS.items():
        if not fits(config.get(field)):
            raise InputError(f"{path}: {field} cannot be {config.get(field)!r:.80}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object")
    return content


def draw(
    data: Data,
    history: list[dict[str, float]],
    evaluation: Evaluation,
    withheld: Sequence[Sequence[int]] = (),
) -> dict[str, Figure]:
    """Every figure of a run, by name."""
    source = f"{data.source}, {data.split}"
    samples = AdderDataset(*data.train)[list(range(24))]
    return {
        "samples": plots.sample_grid(
            samples.image,
            samples.number.argmax(1),
            samples.sum.argmax(1),
            f"{data.source}, training",
        ),
        "curves": plots.curves(history, source),
        "learning_rate": plots.learning_rate(history, data.source),
        "mistakes": plots.mistakes(data.test.images, evaluation.mistakes, source),
        "truth_table": plots.truth_table(evaluation.truth_table, source, withheld),
        "confusion": plots.confusion(evaluation.confusion, source),
    }
