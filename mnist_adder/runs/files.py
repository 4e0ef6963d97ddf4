"""The files of a run folder: their names, how they are written whole, and their checksums."""

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..errors import InputError
from ..sources import SOURCES

CONFIG, HISTORY, METRICS, WEIGHTS = CHECKED = ("config.json", "history.csv", "metrics.json", "model.safetensors")
CHECKPOINT = "checkpoint.pt"  # while the run is not finished
SUMS = "SHA256SUMS"  # in the form that ``sha256sum --check`` reads; written last: a folder with it is whole
FIGURES = ("samples", "curves", "learning_rate", "mistakes", "truth_table", "confusion")
EVALUATIONS = tuple(f"evaluation-{source}.json" for source in SOURCES[1:])
# Every file that a run writes or deletes; the checksums are deleted first and written last.
FILES = (SUMS, *CHECKED, CHECKPOINT, *(f"{name}.png" for name in FIGURES), *EVALUATIONS)


def write(path: Path, content: str | bytes) -> None:
    """Write a file, and its folder, so that a reader finds the old file or the new one, and never a part of it."""
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


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole."""
    write(path, json.dumps(content, indent=2) + "\n")


def write_figures(folder: Path, figures: dict[str, Figure]) -> None:
    """Write figures as ``<name>.png``."""
    for name, figure in figures.items():
        picture = io.BytesIO()
        # Without the software's version in the file, the same figure is the same bytes.
        figure.savefig(picture, format="png", metadata={"Software": None})
        write(folder / f"{name}.png", picture.getvalue())


def write_sums(folder: Path) -> None:
    """Write the checksums of a run."""
    write(folder / SUMS, "".join(f"{_sha256((folder / name).read_bytes())}  {name}\n" for name in CHECKED))


def read_checked(folder: Path) -> dict[str, bytes]:
    """The contents of a finished run's files, by name; `InputError` where one is missing or damaged."""
    if not (folder / SUMS).exists():
        if (folder / CHECKPOINT).exists():
            raise InputError(f"{folder} holds an unfinished run: go on with train --resume {folder}")
        raise InputError(f"{folder} is not a run folder: it has no {SUMS}")
    sums, contents = (folder / SUMS).read_text(errors="replace").splitlines(), {}
    for name in CHECKED:
        if not (folder / name).exists():
            raise InputError(f"{folder / name} is missing: train this run again")
        contents[name] = (folder / name).read_bytes()
        if f"{_sha256(contents[name])}  {name}" not in sums:
            raise InputError(f"{folder / name} is damaged: its SHA-256 is not the one in {SUMS}")
    return contents


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
