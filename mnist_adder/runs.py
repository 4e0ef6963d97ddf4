"""A training's folder: written whole, read back, gone on with.

``checkpoint.pt`` is its first file and holds the whole training until that ends. Then come config,
history, metrics, weights and figures and, last, the checksums of the first four. Files are read as
data only: nothing that a file says is imported or executed.
"""

import copy
import csv
import io
import itertools
import json
import os
import platform
import re
import secrets
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import nn

from . import __version__, plots
from .checks import serialise, unwrapped
from .data import Data
from .devices import device_name
from .errors import InputError
from .evaluation import Evaluation, evaluate
from .models import AdderNet, parameter_count
from .recipes import RECIPES, describe
from .training import Row, Training, reported

CHECKPOINT = "checkpoint.pt"  # while the training is not finished
CONFIG = "config.json"
HISTORY = "history.csv"
METRICS = "metrics.json"
WEIGHTS = "model.safetensors"
CHECKED = (CONFIG, HISTORY, METRICS, WEIGHTS)
SUMS = "SHA256SUMS"  # in the form that ``sha256sum --check`` reads
PRETRAINED = Path(__file__).parent / "weights" / "adder.safetensors"
SCHEMA = {  # of config.json: what a reader of a run relies on
    str: "mnist_adder recipe model dataset target data_sha256 device",
    int: "seed epochs threads",
    int | None: "fold",
    bool: "fine_tuned deterministic",
    list: "withheld",
    dict: "settings",
}
# A run may go on in another environment; its weights are then rounded in another way.
ENVIRONMENT = ("mnist_adder", "device", "threads", "deterministic", "fine_tuned", "settings")


class Run(NamedTuple):
    """A finished run."""

    folder: Path
    config: dict[str, Any]
    history: list[Row]
    metrics: dict[str, Any]
    model: nn.Module  # in evaluation mode

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.config['recipe']}, seed {self.config['seed']})"


def train_run(
    folder: str | Path | None, training: Training, *, resume: bool = False, quiet: bool = False
) -> Run:
    """Run a training to its end in a folder that keeps a checkpoint after each epoch.

    Args:
        folder: a folder that is not there, or is empty; None for the next ``runs/<recipe>-NNN``.
        training: of any class; with `resume`, made as the one that was interrupted.
        resume: go on with the training that `folder` holds.
        quiet: print no epochs.

    Raise `InputError` for a folder that holds anything, or nothing to go on with.
    """
    if resume:
        folder = Path(folder or "")
        _restore(training, read_checkpoint(folder))
    else:
        folder = new_folder(folder, training)
    for _ in training if quiet else reported(training):
        write(folder / CHECKPOINT, _checkpoint(training))
    return _finish(folder, training)


def save_run(folder: str | Path | None, training: Training) -> Run:
    """Save a training as it is, after one epoch or more, with its evaluation and its figures.

    `folder` is as in `train_run`. The saved network is ``training.model``.
    """
    if not training.history:
        raise InputError("this training has no epoch yet: train it before you save it")
    return _finish(new_folder(folder, training), training)


def read_run(folder: str | Path, *, model: Callable[[], nn.Module] | None = None) -> Run:
    """Read a finished run back. `model` makes a network of your own: its class, as in the recipe.

    Raise `InputError` where there is no finished run, or its files are missing, damaged or of
    another network.
    """
    folder = Path(folder)
    contents = _read_checked(folder)
    try:
        config = _read_config(json.loads(contents[CONFIG]))
        metrics = dict(json.loads(contents[METRICS]))
        rows = csv.DictReader(io.StringIO(contents[HISTORY].decode()))
        history = [{name: _number(value) for name, value in row.items()} for row in rows]
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{folder} holds no run of this version: {error!r:.80}") from error
    ours = {describe(recipe.model): recipe.model for recipe in RECIPES.values()}
    model = model or ours.get(config["model"])
    if model is None:
        raise InputError(f"{folder} holds a network of your own: read it from Python, model=…")
    network = _filled(model(), contents[WEIGHTS], folder / WEIGHTS)
    return Run(folder, config, history, metrics, network)


def load_pretrained() -> nn.Module:
    """Return the network whose weights come with the package, in evaluation mode."""
    if not PRETRAINED.is_file():
        raise InputError(f"{PRETRAINED} is missing: install the package again")
    return _filled(AdderNet(), PRETRAINED.read_bytes(), PRETRAINED)


def read_checkpoint(folder: str | Path) -> dict[str, Any]:
    """Return the state and the config of an unfinished run; raise `InputError` if it is damaged."""
    path = Path(folder) / CHECKPOINT
    if not path.is_file():
        raise InputError(f"{folder} holds no unfinished run: there is nothing to go on with")
    content = path.read_bytes()
    body = content[:-32]
    if sha256(body).digest() != content[-32:]:
        raise InputError(f"{path} is damaged: delete {folder} and train again")
    try:
        checkpoint = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        _read_config(checkpoint["config"])
    except (
        Exception
    ) as error:  # torch.load raises errors of many kinds for a file that is not its own
        raise InputError(f"{path} is no checkpoint of this version: {error!r:.80}") from error
    return checkpoint


def write(path: Path, content: bytes) -> None:
    """Write a file whole: a reader finds the old file or the new one, never a part of it."""
    # A random name, so that two writers never share a file; "x" follows no link.
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def run_config(training: Training) -> dict[str, Any]:
    """Return the content of ``config.json``: everything that decides how a training ends."""
    data = training.data
    digest = sha256()
    for tensor in (*data.train, *data.test):
        digest.update(tensor.cpu().contiguous().numpy())
    return {
        "mnist_adder": __version__,
        "recipe": training.recipe.name,
        "settings": training.recipe.settings(),
        "model": describe(type(unwrapped(training.model))),
        "fine_tuned": training.fine_tuned,
        "dataset": data.source,
        "fold": data.fold,
        "target": describe(data.target),
        "data_sha256": digest.hexdigest(),
        "seed": training.seed,
        "withheld": [list(pair) for pair in training.withheld],
        "epochs": training.epochs,
        "device": training.device.type,
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def differences(begun: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the names of the settings, but not of the environment, that differ."""
    before = {**begun, **begun["settings"]}
    after = {**now, **now["settings"]}
    return [name for name in after if name not in ENVIRONMENT and after[name] != before.get(name)]


def new_folder(folder: str | Path | None, training: Training) -> Path:
    """Make the folder of a new run, with the checkpoint as its first file.

    The file is made exclusively, so that a second training never gets the same folder.
    """
    if folder is None:
        name = re.sub(r"[^\w.-]", "_", training.recipe.name)
        numbered = (Path("runs", f"{name}-{number:03}") for number in itertools.count(1))
        folder = next(path for path in numbered if not path.exists())
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise InputError(f"{folder} is not empty: choose another folder, or go on with its run")
    path = folder / CHECKPOINT
    path.touch(exist_ok=False)
    try:
        write(path, _checkpoint(training))
    except BaseException:
        path.unlink()
        raise
    return folder


def _checkpoint(training: Training) -> bytes:
    """Return a checkpoint: what `torch.save` makes of the training, then 32 bytes of SHA-256."""
    body = serialise({**training.state_dict(), "config": run_config(training)})
    return body + sha256(body).digest()


def _restore(training: Training, checkpoint: dict[str, Any]) -> None:
    """Let a fresh training go on from a checkpoint, which must be of the same training."""
    differing = differences(checkpoint["config"], run_config(training))
    if differing:
        raise InputError(
            f"the run's {differing[0]} differs from this training's: go on as it began"
        )
    try:
        training.load_state_dict(checkpoint)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"the checkpoint does not fit this training: {error!r:.80}") from error


def _finish(folder: Path, training: Training) -> Run:
    """Write a run's files, the checksums last, and delete the checkpoint."""
    config = run_config(training)
    model = copy.deepcopy(unwrapped(training.model)).eval()
    evaluation = evaluate(model, training.data)
    metrics = {
        **{name: value for name, value in config.items() if name != "settings"},
        "split": training.data.split,
        "epochs": len(training.history),  # those trained
        "parameters": parameter_count(model),
        "hardware": device_name(training.device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "train_seconds": sum(row["seconds"] for row in training.history),
        **evaluation.measure(training.withheld),
    }
    # A copy of each tensor, because safetensors refuses two names for one memory.
    tensors = {n: t.detach().cpu().clone().contiguous() for n, t in model.state_dict().items()}
    contents = {
        CONFIG: _json(config),
        HISTORY: _csv(training.history),
        METRICS: _json(metrics),
        WEIGHTS: safetensors.torch.save(tensors),
    }
    for name, content in contents.items():
        write(folder / name, content)
    _write_figures(folder, training.data, training.history, evaluation, training.withheld)
    sums = [f"{sha256(content).hexdigest()}  {name}\n" for name, content in contents.items()]
    write(folder / SUMS, "".join(sums).encode())
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return Run(folder, config, training.history, metrics, model)


def write_evaluation(folder: Path, run: Run, data: Data, evaluation: Evaluation) -> None:
    """Write an evaluation of a run, with its figures, into a folder that is not there yet."""
    folder.mkdir(parents=True)
    withheld = run.config["withheld"]
    tables = {"confusion": evaluation.confusion, "truth_table": evaluation.truth_table}
    content = {**evaluation.measure(withheld), **{n: t.tolist() for n, t in tables.items()}}
    write(folder / "evaluation.json", _json(content))
    _write_figures(folder, data, run.history, evaluation, withheld)


def _write_figures(folder: Path, *parts: Any) -> None:
    for name, figure in plots.run_figures(*parts).items():
        write(folder / f"{name}.png", plots.png(figure))


def _json(content: dict[str, Any]) -> bytes:
    return f"{json.dumps(content, indent=2)}\n".encode()


def _csv(rows: list[Row]) -> bytes:
    """Return a table with a column for each name in its rows."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = io.StringIO()
    writer = csv.DictWriter(table, names, restval="nan", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue().encode()


def _number(text: str) -> float | str:
    """Return a cell of the history; a row may hold more than numbers if the caller put it there."""
    try:
        return float(text)
    except ValueError:
        return text


def _read_config(config: Any) -> dict[str, Any]:
    """Return a run's config; raise `TypeError` if it has not the form that this version writes."""
    for kind, names in SCHEMA.items():
        for name in names.split():
            if not isinstance(config, dict) or not isinstance(config.get(name), kind):
                raise TypeError(f"its config has no {name} of the right kind")
    return config


def _read_checked(folder: Path) -> dict[str, bytes]:
    """Return the contents of a finished run's files, by name; their checksums are right."""
    if not (folder / SUMS).is_file():
        if (folder / CHECKPOINT).is_file():
            raise InputError(f"{folder} holds an unfinished run: go on with it first")
        raise InputError(f"{folder} is no run's folder: it has no file {SUMS}")
    sums = (folder / SUMS).read_text(errors="replace").splitlines()
    contents = {}
    for name in CHECKED:
        path = folder / name
        contents[name] = path.read_bytes() if path.is_file() else b""
        if f"{sha256(contents[name]).hexdigest()}  {name}" not in sums:
            raise InputError(f"{path} is missing or damaged: train this run again")
    return contents


def _filled(network: nn.Module, weights: bytes, path: Path) -> nn.Module:
    """Return a network with the weights of a safetensors file, in evaluation mode."""
    try:
        network.load_state_dict(safetensors.torch.load(weights))
    except (RuntimeError, KeyError, ValueError, safetensors.SafetensorError) as error:
        name = type(network).__name__
        raise InputError(f"{path} is damaged, or holds no weights of {name}") from error
    return network.eval()
