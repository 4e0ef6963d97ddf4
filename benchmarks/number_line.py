"""Copies the picture of the number line from the outputs of the notebook that draws it.

python benchmarks/number_line.py images/number_line.png
"""

import base64
import sys
from pathlib import Path

import nbformat

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "Does_it_add_or_remember.ipynb"


def main(path: str) -> None:
    """Write the picture to `path`."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    (cell,) = (cell for cell in cells if "place on the line" in cell.source and cell.cell_type == "code")
    (picture,) = (output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {}))
    Path(path).write_bytes(base64.b64decode(picture))


if __name__ == "__main__":
    main(sys.argv[1])
