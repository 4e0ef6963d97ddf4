"""Store the pictures in notebooks with 256 colours, in a third of the size.

python benchmarks/notebook_pictures.py notebooks/*.ipynb
"""

import base64
import io
import sys

import nbformat
from PIL import Image


def smaller(picture: str) -> str:
    """Return a PNG, in base64, with 256 colours."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    file = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def main(paths: list[str]) -> None:
    """Rewrite the notebooks."""
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = smaller(output.data["image/png"])
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main(sys.argv[1:])
