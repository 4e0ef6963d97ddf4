"""Files that are written whole, and their content: plain data, tables, weights."""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn

from .checks import unwrapped
from .errors import InputError


def write(path: Path, content: bytes) -> None:
    """Write a file whole: a reader finds the old file or the new one, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)  # where the disk is full


def must_be_new(path: Path) -> None:
    """Raise `InputError` if there is a file or a folder of this name."""
    if os.path.lexists(path):
        raise InputError(f"{path} is there already: choose another name")


def as_json(content: Mapping[str, Any]) -> bytes:
    """Return the content of a JSON file."""
    return f"{json.dumps(content, indent=2)}\n".encode()


def as_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a table with a column for each name in its rows."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = io.StringIO()
    writer = csv.DictWriter(table, names, restval="nan", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue().encode()


def read_csv(content: bytes) -> list[dict[str, Any]]:
    """Return a table's rows, with numbers where they are numbers."""
    table = csv.DictReader(io.StringIO(content.decode()))
    return [{name: _number(cell) for name, cell in row.items()} for row in table]


def _number(cell: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def as_weights(model: nn.Module) -> bytes:
    """Return the content of a safetensors file: a network's parameters and buffers."""
    # A copy of each tensor, because safetensors refuses two names for one memory.
    state = unwrapped(model).state_dict()
    copies = {name: tensor.cpu().clone().contiguous() for name, tensor in state.items()}
    return safetensors.torch.save(copies)


def with_weights(network: nn.Module, weights: bytes, path: Path) -> nn.Module:
    """Return a network with the weights of a safetensors file, in evaluation mode."""
    try:
        network.load_state_dict(safetensors.torch.load(weights))
    except (RuntimeError, KeyError, ValueError, safetensors.SafetensorError) as error:
        name = type(network).__name__
        advice = "read it with the model that was trained"
        raise InputError(f"{path} does not hold the weights of this {name}: {advice}") from error
    return network.eval()


def describe(value: Any) -> Any:
    """Return plain data as it is, and a class, a function or an object in words."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [describe(part) for part in value]
    if is_dataclass(value) and not isinstance(value, type):
        return repr(value)
    if not hasattr(value, "__qualname__"):
        value = type(value)
    return f"{value.__module__}:{value.__qualname__}"
