"""The files of a run folder: how they are written whole and checked, and the checkpoint that a training goes on from."""

import csv
import io
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from ..checks import InputError
from ..devices import rank
from ..sources import SOURCES

CONFIG, HISTORY, METRICS, WEIGHTS = CHECKED = ("config.json", "history.csv", "metrics.json", "model.safetensors")
CHECKPOINT = "checkpoint.pt"  # while the run is not finished
SUMS = "SHA256SUMS"  # in the form that ``sha256sum --check`` reads; written last: a folder with it is whole
FIGURES = ("samples", "curves", "mistakes", "truth_table", "confusion")
EVALUATIONS = tuple(f"evaluation-{source}.json" for source in SOURCES[1:])
# Every file that a run writes or deletes; the checksums are deleted first.
FILES = (SUMS, *CHECKED, CHECKPOINT, *(f"{name}.png" for name in FIGURES), *EVALUATIONS)
# The environment of a run is none of its settings: a run may go on in another one, with a warning.
ENVIRONMENT = ("mnist_adder", "device", "threads", "world_size", "deterministic")


def write(path: Path, content: str | bytes | dict[str, Any]) -> None:
    """Write a file (a dict as JSON) and its folder; a reader finds the old file or the new one, never a part of it."""
    if isinstance(content, dict):
        content = json.dumps(content, indent=2) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a table whole; its columns are the names in its first row."""
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write(path, table.getvalue())


def write_figures(folder: Path, figures: dict[str, Figure]) -> None:
    """Write figures as ``<name>.png``; without the software's version in it, the same figure is the same bytes."""
    for name, figure in figures.items():
        picture = io.BytesIO()
        figure.savefig(picture, format="png", metadata={"Software": None})
        write(folder / f"{name}.png", picture.getvalue())


def write_sums(folder: Path) -> None:
    """Write the checksums of a run."""
    write(folder / SUMS, "".join(f"{sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in CHECKED))


def read_checked(folder: Path) -> dict[str, bytes]:
    """The contents of a finished run's files, by name; `InputError` where one is missing or damaged."""
    if not (folder / SUMS).exists():
        if (folder / CHECKPOINT).exists():
            raise InputError(f"{folder} holds an unfinished run: go on with train --resume {folder}")
        raise InputError(f"{folder} is not a run folder: it has no {SUMS}")
    sums = (folder / SUMS).read_text(errors="replace").splitlines()
    contents = {name: (folder / name).read_bytes() if (folder / name).exists() else b"" for name in CHECKED}
    for name, content in contents.items():
        if f"{sha256(content).hexdigest()}  {name}" not in sums:
            raise InputError(f"{folder / name} is missing or damaged: train this run again")
    return contents


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The states, history and config of an unfinished run; no object is unpickled. `InputError` if it is damaged."""
    path = folder / CHECKPOINT
    if not path.exists():
        raise InputError(f"{folder} holds no unfinished run: there is nothing to go on with")
    content = path.read_bytes()
    if sha256(content[:-32]).digest() != content[-32:]:
        raise InputError(f"{path} is damaged (its SHA-256 differs): begin again with --force")
    try:
        return torch.load(io.BytesIO(content[:-32]), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch.load raises errors of many kinds for a file that is not its own
        raise InputError(f"{path} is no checkpoint of a run ({error!r:.80})") from error


def differences(begun: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """The names of the settings that differ between the configs of two runs."""
    begun, config = begun | begun["settings"], config | config["settings"]
    return [name for name in config if name not in (*ENVIRONMENT, "settings") and config[name] != begun.get(name)]


@dataclass(frozen=True)
class CheckpointFile:
    """Keeps a training in its folder, see `training.fit`: a new one, or with `resume` the one there. Rank 0 writes."""

    folder: Path
    config: dict[str, Any]
    resume: bool

    def restore(self, parts: dict[str, Any]) -> list[dict[str, float]]:
        """Load the parts and return the history; `InputError` for a checkpoint of a run with other settings."""
        if not self.resume:
            for name in FILES if rank() == 0 else ():  # of a run that is replaced
                (self.folder / name).unlink(missing_ok=True)
            self.save(parts, [])
            return []
        checkpoint = read_checkpoint(self.folder)
        begun = checkpoint["config"]
        self.config["fine_tuned"] = begun["fine_tuned"]
        for name in differences(begun, self.config):
            raise InputError(f"{self.folder} holds a run whose {name} differs: go on as it began")
        if changed := [name for name in ENVIRONMENT if self.config[name] != begun[name]]:
            values = ", ".join(f"{name} {self.config[name]} for {begun[name]}" for name in changed)
            warnings.warn(f"going on with {values}: the weights will not be the same bit for bit", stacklevel=2)
        for name, part in parts.items():
            part.load_state_dict(checkpoint[name])
        return list(checkpoint["history"])

    def save(self, parts: dict[str, Any], history: list[dict[str, float]]) -> None:
        """Write the file anew: what `torch.save` makes, then 32 bytes of SHA-256; beside it, the config."""
        if rank() == 0:
            content = io.BytesIO()
            states = {name: part.state_dict() for name, part in parts.items()}
            torch.save({**states, "history": history, "config": self.config}, content)
            write(self.folder / CONFIG, self.config)
            write(self.folder / CHECKPOINT, content.getvalue() + sha256(content.getvalue()).digest())
