"""A training's folder: write it, read it, go on with a training that was interrupted.

``checkpoint.pt`` is its first file and holds the whole training until that ends. Then come config,
history, metrics, weights, checksums and figures. Nothing that a file says is executed or imported.
"""

import copy
import io
import itertools
import json
import platform
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from . import __version__, plots
from .checks import serialise, unwrapped
from .devices import device_name
from .errors import InputError
from .evaluation import evaluate
from .files import as_csv, as_json, as_weights, describe, read_csv, with_weights, write
from .models import WideNet, parameter_count
from .recipes import MODELS
from .training import Row, Training, reported

CHECKPOINT = "checkpoint.pt"  # while the training is not finished
CONFIG = "config.json"
HISTORY = "history.csv"
METRICS = "metrics.json"
WEIGHTS = "model.safetensors"
CHECKED = (CONFIG, HISTORY, METRICS, WEIGHTS)
CHECKSUMS = "SHA256SUMS"  # in the form that ``sha256sum --check`` reads
PRETRAINED = Path(__file__).parent / "weights" / "adder.safetensors"
# These may differ when a run goes on. (`differences` compares the entries of "settings" itself.)
NOT_COMPARED = ("mnist_adder", "device", "threads", "deterministic", "fine_tuned", "settings")


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
        folder: a folder that is not there yet; None for the next ``runs/<recipe>-NNN``.
        training: of any class; with `resume`, made as the one that was interrupted.
        resume: go on with the training that `folder` holds.

    Raise `InputError` for a folder that is there already, or holds nothing to go on with.
    """
    if resume:
        folder = Path(folder or "")
        _restore(training, read_checkpoint(folder))
    else:
        folder = new_folder(folder, training)
    config = run_config(training)
    rows = training if quiet else reported(training)
    for _ in rows:
        write(folder / CHECKPOINT, _checkpoint(training, config))
    return _finish(folder, training, config)


def save_run(folder: str | Path | None, training: Training) -> Run:
    """Save a training as it is, after one epoch or more, with its evaluation and its figures.

    `folder` is as in `train_run`. The saved network is ``training.model``.
    """
    if not training.history:
        raise InputError("this training has no epoch yet: train it before you save it")
    return _finish(new_folder(folder, training), training, run_config(training))


def read_run(folder: str | Path, *, model: Callable[[], nn.Module] | None = None) -> Run:
    """Read a finished run back. `model` makes a network of your own: its class, as in the recipe.

    Raise `InputError` for a run that is unfinished, damaged, missing or of another network.
    """
    folder = Path(folder)
    contents = _read_checked(folder)
    config = json.loads(contents[CONFIG])
    _check_version(config, folder)
    model = model or MODELS.get(config["model"])
    if model is None:
        advice = "read it from Python with read_run(…, model=its class)"
        raise InputError(f"{folder} holds a network of your own: {advice}")
    network = with_weights(model(), contents[WEIGHTS], folder / WEIGHTS)
    history = read_csv(contents[HISTORY])
    return Run(folder, config, history, json.loads(contents[METRICS]), network)


def load_pretrained() -> nn.Module:
    """Return the network that comes with the package, in evaluation mode.

    It is a `WideNet`, trained by ``examples/outliers.py`` for pictures of all kinds.
    """
    if not PRETRAINED.is_file():
        raise InputError(f"{PRETRAINED} is missing: install the package again")
    return with_weights(WideNet(), PRETRAINED.read_bytes(), PRETRAINED)


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
    except Exception as error:  # torch.load raises errors of many kinds for another file
        raise InputError(f"{path} is no checkpoint: {error!r:.80}") from error
    _check_version(checkpoint["config"], folder)
    return checkpoint


def run_config(training: Training) -> dict[str, Any]:
    """Return the content of ``config.json``: what decides how a training ends."""
    data = training.data
    tensors = (*data.train, *data.test, data.sums)
    content = b"".join(tensor.cpu().numpy().tobytes() for tensor in tensors)
    # The recipe's function, not the class of its network: the class alone may make another one.
    model = type(unwrapped(training.model)) if training.fine_tuned else training.recipe.model
    return {
        "mnist_adder": __version__,
        "recipe": training.recipe.name,
        "settings": {**training.recipe.settings(), "epochs": training.epochs},
        "model": describe(model),
        "fine_tuned": training.fine_tuned,
        "dataset": data.source,
        "fold": data.fold,
        "target": describe(data.target),
        "data_sha256": sha256(content).hexdigest(),
        "seed": training.seed,
        "withheld": [list(pair) for pair in training.withheld],
        "device": training.device.type,
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def new_folder(folder: str | Path | None, training: Training) -> Path:
    """Make the folder of a new run, with the checkpoint as its first file.

    Raise `InputError` if it is there already, or for a training that cannot be saved.
    """
    config = run_config(training)
    first = _checkpoint(training, config)
    try:
        as_json(config)
        as_weights(training.model)
    except Exception as error:  # safetensors raises errors of many kinds
        raise InputError(f"this training cannot be saved: {error!r:.80}") from error
    if folder is None:
        name = re.sub(r"[^\w.-]", "_", training.recipe.name)
        numbered = (Path("runs", f"{name}-{number:03}") for number in itertools.count(1))
        folder = next(path for path in numbered if not path.exists())
    folder = Path(folder)
    try:
        folder.mkdir(parents=True)  # only one of two trainings gets the folder
    except FileExistsError as error:
        advice = "choose another folder, or go on with the run in it"
        raise InputError(f"{folder} is there already: {advice}") from error
    write(folder / CHECKPOINT, first)
    return folder


def differences(begun: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the names of what decides a training and differs in two configs."""
    names = [name for name in now if name not in NOT_COMPARED and now[name] != begun.get(name)]
    before = begun["settings"]
    after = now["settings"]
    return names + [name for name in after if after[name] != before.get(name)]


def _checkpoint(training: Training, config: dict[str, Any]) -> bytes:
    """Return a checkpoint: what `torch.save` makes of the training, then 32 bytes of SHA-256."""
    body = serialise({**training.state_dict(), "config": config})
    return body + sha256(body).digest()


def _restore(training: Training, checkpoint: dict[str, Any]) -> None:
    """Let a fresh training go on from a checkpoint, which must be of the same training."""
    differing = differences(checkpoint["config"], run_config(training))
    if differing:
        names = ", ".join(differing)
        raise InputError(f"this training differs from the unfinished run in: {names}")
    try:
        training.load_state_dict(checkpoint)
    except Exception as error:  # torch's loaders raise errors of many kinds
        raise InputError(f"the checkpoint does not fit this training: {error!r:.80}") from error


def _finish(folder: Path, training: Training, config: dict[str, Any]) -> Run:
    """Write a run's files, their checksums and the figures; delete the checkpoint."""
    model = copy.deepcopy(unwrapped(training.model)).eval()
    evaluation = evaluate(model, training.data)
    metrics = {
        **{name: value for name, value in config.items() if name != "settings"},
        "split": training.data.test_name,
        "epochs": len(training.history),
        "parameters": parameter_count(model),
        "hardware": device_name(training.device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "train_seconds": sum(row["seconds"] for row in training.history),
        # A subclass may test more than is measured here.
        **{name: float(value) for name, value in training.test().items()},
        **evaluation.measure(training.withheld),
    }
    contents = {
        CONFIG: as_json(config),
        HISTORY: as_csv(training.history),
        METRICS: as_json(metrics),
        WEIGHTS: as_weights(model),
    }
    for name, content in contents.items():
        write(folder / name, content)
    checksums = [f"{sha256(content).hexdigest()}  {name}\n" for name, content in contents.items()]
    write(folder / CHECKSUMS, "".join(checksums).encode())
    figures = plots.run_figures(training.data, training.history, evaluation, training.withheld)
    for name, figure in figures.items():
        write(folder / f"{name}.png", plots.png(figure))
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return Run(folder, config, training.history, metrics, model)


def _check_version(config: dict[str, Any], folder: str | Path) -> None:
    """Raise `InputError` for the run of another version; 0.3.1 may read what 0.3.0 wrote."""
    version = config["mnist_adder"]
    if version.split(".")[:2] != __version__.split(".")[:2]:
        advice = "train it again, or use that version"
        raise InputError(f"{folder} holds a run of mnist_adder {version}: {advice}")


def _read_checked(folder: Path) -> dict[str, bytes]:
    """Return the contents of a finished run's files, by name; their checksums are right."""
    if (folder / CHECKPOINT).is_file():
        raise InputError(f"{folder} holds an unfinished run: go on with it first")
    if not (folder / CHECKSUMS).is_file():
        raise InputError(f"{folder} is no run's folder: it has no file {CHECKSUMS}")
    checksums = (folder / CHECKSUMS).read_text(errors="replace").splitlines()
    contents = {}
    for name in CHECKED:
        path = folder / name
        contents[name] = path.read_bytes() if path.is_file() else b""
        if f"{sha256(contents[name]).hexdigest()}  {name}" not in checksums:
            raise InputError(f"{path} is missing or damaged: train this run again")
    return contents
