"""The folder of a run: config, history, metrics, weights and figures."""

import csv
import io
import itertools
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from filelock import FileLock, Timeout
from matplotlib.figure import Figure
from torch import nn

from .. import __version__, plots
from ..checks import InputError
from ..data import AdderDataset, Data, Pairs, pair_table
from ..devices import device_name, place, rank, world_size
from ..evaluation import Evaluation, evaluate
from ..models import Network, build, name_of, parameter_count
from ..published.recipes import RECIPES
from ..recipes import Recipe
from ..training import Fitted, History, fit
from . import files

PRETRAINED = Path(__file__).parents[1] / "weights" / "adder.safetensors"


class Run(NamedTuple):
    """A finished run."""

    folder: Path
    config: dict[str, Any]
    history: History
    metrics: dict[str, Any]
    model: nn.Module  # in evaluation mode


def make_folder(out: str | Path | None, recipe: str, *, force: bool = False) -> Path:
    """The folder of a new run: `out`, or the next ``runs/<recipe>-NNN``; a run there is replaced only by `force`."""
    if out is None:
        numbered = (Path("runs", f"{recipe}-{number:03}") for number in itertools.count(1))
        out = next(folder for folder in numbered if not folder.exists())
    out, config = Path(out), Path(out, files.CONFIG)
    if in_the_way := [name for name in files.FILES if (out / name).exists()]:
        if not config.is_file() or b'"mnist_adder"' not in config.read_bytes():
            raise InputError(f"{out} holds {in_the_way[0]}, which is not a run's: choose another --out")
        if not force:
            instead = "choose another folder" if (out / files.SUMS).exists() else f"go on with --resume {out}"
            raise InputError(f"{out} already holds a run: {instead}, or --force (force=True) to replace it")
    out.mkdir(parents=True, exist_ok=True)
    return out


def train_run(
    folder: str | Path | None, recipe: Recipe, data: Data, *, resume: bool = False, force: bool = False, **settings: Any
) -> Run | None:
    """Train a recipe, evaluate it exhaustively and save the run; of several processes, only rank 0 returns it.

    `folder` (None: the next ``runs/<recipe>-NNN``) holds a checkpoint of the last whole epoch until the run is saved;
    `resume` goes on from it, `force` replaces a run. `settings` are the model, device, seed, withheld and quiet of
    `training.fit`. `InputError`: see `fit`; files that the run would replace; a damaged or another run's checkpoint.
    """
    if rank() == 0 and not resume:
        folder = make_folder(folder, recipe.name, force=force)
    folder = Path(folder or "")
    if resume:
        files.read_checkpoint(folder)  # an error is better before the folder is locked
    with _locked(folder):
        config = run_config(recipe, data, **{k: v for k, v in settings.items() if k != "quiet"})
        fitted = fit(recipe, data, **settings, checkpoint=files.CheckpointFile(folder, config, resume))
        return _save(folder, config, fitted, data) if rank() == 0 else None


def save_run(folder: str | Path, fitted: Fitted, data: Data, *, force: bool = False) -> Run:
    """Save what `training.fit` returned for `data`, with its exhaustive evaluation and its figures.

    `force` replaces a run in the folder; `InputError` for other files there that the run would replace.
    """
    folder = make_folder(folder, fitted.recipe.name, force=force)
    device, model = next(fitted.model.parameters()).device, fitted.model if fitted.fine_tuned else None
    config = run_config(fitted.recipe, data, model=model, device=device, seed=fitted.seed, withheld=fitted.withheld)
    with _locked(folder):
        return _save(folder, config, fitted, data)


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
                    folder.rmdir()  # where nothing was trained; a folder that holds something stays
    except Timeout as error:
        raise InputError(f"another process trains into {folder}: choose another --out") from error


def _save(folder: Path, config: dict[str, Any], fitted: Fitted, data: Data) -> Run:
    evaluation = evaluate(fitted.model, data.test, target=data.target)
    metrics = {name: value for name, value in config.items() if name != "settings"}
    metrics |= {"split": data.split, "parameters": parameter_count(fitted.model)}
    metrics |= {"hardware": device_name(next(fitted.model.parameters()).device), "python": platform.python_version()}
    metrics |= {"torch": torch.__version__, "numpy": np.__version__}
    metrics |= {"train_seconds": fitted.train_seconds, **measure(evaluation, fitted.withheld)}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in fitted.model.state_dict().items()}
    for name in (files.SUMS, *files.EVALUATIONS):  # of a run that is replaced
        (folder / name).unlink(missing_ok=True)
    files.write(folder / files.WEIGHTS, safetensors.torch.save(tensors))
    files.write_csv(folder / files.HISTORY, fitted.history)
    files.write_figures(folder, draw(data, fitted.history, evaluation, fitted.withheld))
    files.write(folder / files.METRICS, metrics)
    files.write(folder / files.CONFIG, config)
    files.write_sums(folder)
    (folder / files.CHECKPOINT).unlink(missing_ok=True)
    return Run(folder, config, fitted.history, metrics, fitted.model)


def run_config(
    recipe: Recipe, data: Data, *, model: Any = None, device: Any = "cpu", seed: int = 0, withheld: Pairs = ()
) -> dict[str, Any]:
    """The content of ``config.json``: everything that decides how a run ends. Arguments as for `training.fit`."""
    content = b"".join(tensor.cpu().contiguous().numpy() for tensor in (*data.train, *data.test))
    return {
        "mnist_adder": __version__, "recipe": recipe.name, "model": name_of(recipe.model if model is None else model),
        "fine_tuned": model is not None, "epochs": recipe.length(data.source), "dataset": data.source, "fold": data.fold,
        "target": data.target.__qualname__, "withheld": [list(pair) for pair in withheld], "seed": seed,
        "data_sha256": sha256(content).hexdigest(), "device": torch.device(device).type,
        "threads": torch.get_num_threads(), "world_size": world_size(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "settings": {k: v for k, v in asdict(recipe).items() if k not in ("name", "about", "model", "epochs")},
    }  # fmt: skip


def measure(evaluation: Evaluation, withheld: Pairs) -> dict[str, float]:
    """An evaluation's metrics; where pairs were withheld, also those on these pairs and on the others."""
    metrics, table = evaluation.metrics, pair_table(withheld)
    for name, pairs in (("withheld", table), ("shown", ~table)) if withheld else ():
        metrics |= {f"{name}_{key}": value for key, value in evaluation.accuracies(pairs).items()}
    return metrics


def draw(data: Data, history: History, evaluation: Evaluation, withheld: Pairs = ()) -> dict[str, Figure]:
    """Every figure of a run, by name."""
    source = f"{data.source}, {data.split}"
    samples = AdderDataset(*(part[:24] for part in data.train), target=data.target)[:]
    classes = samples.digit, samples.number.argmax(1), samples.sum.argmax(1)
    figures = (
        plots.sample_grid(samples.image, *classes, f"{data.source}, training"),
        plots.curves(history, source),
        plots.mistakes(data.test.images, evaluation.mistakes, source),
        plots.truth_table(evaluation.truth_table, source, withheld),
        plots.confusion(evaluation.confusion, source),
    )
    return dict(zip(files.FIGURES, figures, strict=True))


def read_run(folder: str | Path, *, model: Network | None = None) -> Run:
    """Read a finished run back; nothing in its folder is unpickled or executed. `model` makes a network of your own.

    `InputError` where there is no finished run, or its files are missing, damaged or of another network.
    """
    folder = Path(folder)
    contents = files.read_checked(folder)
    try:
        config, metrics = json.loads(contents[files.CONFIG]), json.loads(contents[files.METRICS])
        rows = csv.DictReader(io.StringIO(contents[files.HISTORY].decode()))
        history = [{name: float(value) for name, value in row.items()} for row in rows]
        name = config["model"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{folder} holds no run of this version: {error!r:.80}") from error
    if model is None and name not in {name_of(recipe.model) for recipe in RECIPES.values()}:
        raise InputError(f"{folder} holds a network of your own: name it with --model {name}")
    network = _filled(model or name, contents[files.WEIGHTS], folder / files.WEIGHTS)
    return Run(folder, config, history, metrics, network)


def load_pretrained() -> nn.Module:
    """The network whose weights come with the package, in evaluation mode; `InputError` if they are damaged."""
    if not PRETRAINED.is_file():
        raise InputError(f"{PRETRAINED} is missing or damaged: install the package again")
    return _filled("adder", PRETRAINED.read_bytes(), PRETRAINED)


def _filled(model: Network, weights: bytes, path: Path) -> nn.Module:
    network = build(model)
    try:
        network.load_state_dict(safetensors.torch.load(weights))
    except (RuntimeError, KeyError, safetensors.SafetensorError) as error:
        raise InputError(f"{path} holds the weights of another network than {name_of(model)}, or is damaged") from error
    return place(network, "cpu").eval()
