"""The folder of a run: config, history, metrics, weights and figures."""

import csv
import dataclasses
import functools
import hashlib
import io
import json
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from matplotlib.figure import Figure
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from .. import __version__, plots
from ..data import AdderDataset, Data, Split, pair_table
from ..devices import device_name, place, rank, world_size
from ..errors import InputError
from ..evaluation import Evaluation, evaluate
from ..models import parameter_count
from ..published.recipes import RECIPES
from ..recipes import Recipe
from ..registry import Network, build, name_of
from ..training import Fitted, History, fit
from . import files
from .checkpoint import CheckpointFile, read_checkpoint

PRETRAINED = Path(__file__).parents[1] / "weights" / "adder.safetensors"
Pairs = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    config: dict[str, Any]
    history: History
    metrics: dict[str, Any]
    model: nn.Module  # in evaluation mode


def make_folder(out: str | Path | None, recipe: str, *, force: bool = False) -> Path:
    """The folder of a new run: `out`, or the next ``runs/<recipe>-NNN``.

    `InputError` where files lie that the run would replace, unless they are a run's and `force` is given.
    """
    number = 1
    while out is None:
        candidate = Path("runs", f"{recipe}-{number:03}")
        out, number = (None if candidate.exists() else candidate), number + 1
    out = Path(out)
    in_the_way = [name for name in files.FILES if (out / name).exists()]
    if in_the_way and not _is_run(out):
        raise InputError(f"{out} holds {in_the_way[0]}, which is not a run's: choose another --out")
    if in_the_way and not force:
        instead = "choose another --out" if (out / files.SUMS).exists() else f"go on with --resume {out}"
        raise InputError(f"{out} already holds a run: {instead}, or --force to replace it")
    out.mkdir(parents=True, exist_ok=True)
    return out


def _is_run(folder: Path) -> bool:
    try:
        return "mnist_adder" in json.loads((folder / files.CONFIG).read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def train_run(
    folder: str | Path | None, recipe: Recipe, data: Data, *, resume: bool = False, force: bool = False, **settings: Any
) -> Run | None:
    """Train a recipe, evaluate it exhaustively and save the run; of several processes, only rank 0 returns it.

    Until the run is saved, its folder holds a checkpoint of the last whole epoch.

    Args:
        folder: made if it is not there; None for the next ``runs/<recipe>-NNN``.
        recipe, data: see `training.fit`.
        resume: go on from the checkpoint in the folder.
        force: replace the run that the folder holds.
        settings: the arguments model, device, seed, withheld and quiet of `training.fit`.

    Raises:
        InputError: see `fit`; files in the folder that a run would replace; a damaged or another run's checkpoint.
    """
    if rank() == 0 and not resume:
        folder = make_folder(folder, recipe.name, force=force)
    folder = Path(folder or "")
    if resume:
        read_checkpoint(folder)  # an error is better before the folder is locked
    with _locked(folder):
        config = run_config(recipe, data, **{k: v for k, v in settings.items() if k != "quiet"})
        fitted = fit(recipe, data, **settings, checkpoint=CheckpointFile(folder, config, resume=resume))
        return _save(folder, config, fitted, data) if rank() == 0 else None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from training into a folder; rank 0 holds the lock."""
    path = folder / ".lock"
    try:
        with FileLock(path, timeout=0) if rank() == 0 else nullcontext():
            try:
                yield
            finally:
                with suppress(OSError):  # Windows refuses while the file is open
                    path.unlink()
    except Timeout as error:
        raise InputError(f"another process trains into {folder}: choose another --out") from error


def save_run(folder: str | Path, fitted: Fitted, data: Data, *, force: bool = False) -> Run:
    """Save what `training.fit` returned for `data`, with its exhaustive evaluation and its figures.

    The folder is made if it is not there; `force` replaces the run that it holds. `InputError` where it holds other
    files that a run would replace.
    """
    folder = make_folder(folder, fitted.recipe.name, force=force)
    settings = {"device": next(fitted.model.parameters()).device, "seed": fitted.seed, "withheld": fitted.withheld}
    with _locked(folder):
        config = run_config(fitted.recipe, data, model=fitted.model if fitted.fine_tuned else None, **settings)
        return _save(folder, config, fitted, data)


def _save(folder: Path, config: dict[str, Any], fitted: Fitted, data: Data) -> Run:
    evaluation = evaluate(fitted.model, data.test, target=data.target)
    metrics = {name: value for name, value in config.items() if name != "settings"} | {
        "split": data.split,
        "parameters": parameter_count(fitted.model),
        "hardware": device_name(next(fitted.model.parameters()).device),
        **{"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "commit": _commit(),
        "train_seconds": fitted.train_seconds,
        **measure(evaluation, fitted.withheld),
    }
    table = io.StringIO()
    rows = csv.DictWriter(table, fitted.history[0], lineterminator="\n")
    rows.writeheader()
    rows.writerows(fitted.history)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in fitted.model.state_dict().items()}
    for name in (files.SUMS, *files.EVALUATIONS):  # of a run that is replaced
        (folder / name).unlink(missing_ok=True)
    files.write(folder / files.WEIGHTS, save_tensors(tensors))
    files.write(folder / files.HISTORY, table.getvalue())
    files.write_figures(folder, draw(data, fitted.history, evaluation, fitted.withheld))
    files.write_json(folder / files.METRICS, metrics)
    files.write_json(folder / files.CONFIG, config)
    files.write_sums(folder)
    (folder / files.CHECKPOINT).unlink(missing_ok=True)
    return Run(folder, config, fitted.history, metrics, fitted.model)


def run_config(
    recipe: Recipe, data: Data, *, model: Any = None, device: Any = "cpu", seed: int = 0, withheld: Pairs = ()
) -> dict[str, Any]:
    """The content of ``config.json``: everything that decides how a run ends. Arguments as for `training.fit`."""
    settings = dataclasses.asdict(recipe)
    return {
        "mnist_adder": __version__,
        "recipe": settings.pop("name"),
        "model": name_of(recipe.model if model is None else model),
        "fine_tuned": model is not None,
        "epochs": recipe.length(data.source),
        "dataset": data.source,
        "fold": data.fold,
        "target": data.target.__qualname__,
        "withheld": [list(pair) for pair in withheld],
        "seed": seed,
        "data_sha256": _sha256(data),
        "device": torch.device(device).type,
        "threads": torch.get_num_threads(),
        "world_size": world_size(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "settings": {name: value for name, value in settings.items() if name not in ("about", "model", "epochs")},
    }


@functools.lru_cache(maxsize=1)
def _sha256(data: Data) -> str:
    digest = hashlib.sha256()
    for tensor in (*data.train, *data.test):
        digest.update(tensor.cpu().contiguous().numpy())
    return digest.hexdigest()


def _commit() -> str | None:
    """The git commit of the package, where it runs from a checkout; with "-dirty" if that was changed."""
    root = Path(__file__).parents[2]
    if not (shutil.which("git") and (root / ".git").exists()):
        return None
    command = ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None


def recipe_of(config: dict[str, Any]) -> Recipe:
    """The recipe that a ``config.json`` was written from."""
    return Recipe(name=config["recipe"], model=config["model"], epochs=config["epochs"], **config["settings"])


def measure(evaluation: Evaluation, withheld: Pairs) -> dict[str, float]:
    """An evaluation's metrics; where pairs were withheld, also those on these pairs and on the others."""
    metrics = evaluation.metrics
    if withheld:
        table = pair_table(withheld)
        for name, pairs in (("withheld", table), ("shown", ~table)):
            metrics |= {f"{name}_{key}": value for key, value in evaluation.accuracies(pairs).items()}
    return metrics


def read_run(folder: str | Path, *, model: Network | None = None) -> Run:
    """Read a finished run back; nothing in its folder is unpickled or executed.

    `model` is the network, or a function that makes it; it is needed for a network that is not this package's.
    `InputError` where there is no finished run, or its files are missing, damaged or of another network.
    """
    folder = Path(folder)
    contents = files.read_checked(folder)
    try:
        config, metrics = json.loads(contents[files.CONFIG]), json.loads(contents[files.METRICS])
        rows = csv.DictReader(io.StringIO(contents[files.HISTORY].decode()))
        history = [{name: float(value) for name, value in row.items()} for row in rows]
        tensors, name = load_tensors(contents[files.WEIGHTS]), config["model"]
    except (ValueError, TypeError, KeyError, RecursionError, SafetensorError) as error:
        raise InputError(f"{folder} holds no run of this version: {error!r:.80}") from error
    if model is None and name not in {name_of(recipe.model) for recipe in RECIPES.values()}:
        raise InputError(f"{folder} holds a network of your own: name it with --model {name}")
    return Run(folder, config, history, metrics, _filled(model or name, tensors, folder / files.WEIGHTS))


def _filled(model: Network, tensors: dict[str, torch.Tensor], path: Path) -> nn.Module:
    network = build(model)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{path} holds the weights of another network than {name_of(model)}") from error
    return place(network, "cpu").eval()


def load_pretrained() -> nn.Module:
    """The network whose weights come with the package, in evaluation mode; `InputError` if they are damaged."""
    try:
        tensors = load_tensors(PRETRAINED.read_bytes())
    except (OSError, SafetensorError) as error:
        raise InputError(f"{PRETRAINED} is missing or damaged: install the package again") from error
    return _filled(RECIPES["adder"].model, tensors, PRETRAINED)


def draw(data: Data, history: History, evaluation: Evaluation, withheld: Pairs = ()) -> dict[str, Figure]:
    """Every figure of a run, by name."""
    source = f"{data.source}, {data.split}"
    samples = AdderDataset(*Split(*(part[:24] for part in data.train)), target=data.target)[:]
    classes = samples.digit, samples.number.argmax(1), samples.sum.argmax(1)
    figures = (
        plots.sample_grid(samples.image, *classes, f"{data.source}, training"),
        plots.curves(history, source),
        plots.learning_rate(history, data.source),
        plots.mistakes(data.test.images, evaluation.mistakes, source),
        plots.truth_table(evaluation.truth_table, source, withheld),
        plots.confusion(evaluation.confusion, source),
    )
    return dict(zip(files.FIGURES, figures, strict=True))
