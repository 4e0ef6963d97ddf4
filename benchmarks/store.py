"""What the benchmarks share: tables of results, the way to the examples, how a program ends."""

import csv
import io
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mnist_adder.errors import InputError
from mnist_adder.files import read_csv, write

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
sys.path.append(str(ROOT / "examples"))  # `import published`, after this module

Row = dict[str, Any]


def read_table(path: Path) -> list[Row]:
    """Return the rows of a CSV table, with its numbers as numbers and None for an empty cell."""
    if not path.exists():
        return []
    rows = read_csv(path.read_bytes())
    return [{name: None if cell == "" else cell for name, cell in row.items()} for row in rows]


def write_table(path: Path, rows: Iterable[Row], columns: Iterable[str]) -> None:
    """Write a CSV table; floats with six digits."""
    table = io.StringIO()
    writer = csv.DictWriter(table, list(columns), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        rounded = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
        writer.writerow(rounded)
    write(path, table.getvalue().encode())


def run_program(main: Callable[[], None]) -> None:
    """Run a program's main function; end with one line where it raises `InputError`."""
    try:
        main()
    except InputError as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: error: {error}")
