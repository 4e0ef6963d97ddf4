"""The small tables of results, read and written; and the way to the published systems."""

import csv
import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
sys.path.append(str(ROOT / "examples"))  # `import published`, after this module

Row = dict[str, Any]


def read_table(path: Path) -> list[Row]:
    """Return the rows of a CSV table, with its numbers as numbers and None for an empty cell."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: value_of(text) for name, text in row.items()} for row in rows]


def value_of(text: str) -> Any:
    """Return a cell as an int, a float, a text or None."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None


def write_table(path: Path, rows: Iterable[Row], columns: Iterable[str]) -> None:
    """Write a CSV table; floats with six digits."""
    table = io.StringIO()
    writer = csv.DictWriter(table, list(columns), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        rounded = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
        writer.writerow(rounded)
    write_text(path, table.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a file whole: an interrupted command leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
