"""The page to draw on: one HTML file with a network in it, which needs no server."""

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..files import write
from ..models import parameter_count
from .layers import network_data

FOLDER = Path(__file__).parent


def page_html(
    model: nn.Module,
    *,
    compared: Sequence[nn.Module] = (),
    withheld: Sequence[Sequence[int]] = (),
) -> str:
    """Return the page to draw on, with a network in it.

    The network has a `cnn` of plain layers, and an `adder` that is one of ours or plain layers,
    which are given the CNN's raw scores and the number. `compared` are a network with each of our
    three adders, trained without the (digit, number) pairs `withheld`: the page shows them side by
    side. `InputError` for a network that the page cannot run.
    """
    data = {
        "network": network_data(model),
        "compared": {part["adder"]["type"]: part for part in map(network_data, compared)},
        "withheld": withheld,
    }
    page = (FOLDER / "template.html").read_text(encoding="utf-8")
    for name in ("page.css", "network.js", "layout.js", "page.js"):
        page = page.replace(f"/* {name} */", (FOLDER / name).read_text(encoding="utf-8").strip())
    page = page.replace("{{parameters}}", f"{parameter_count(model):,}")
    page = page.replace("{{shown}}", str(100 - len(withheld)))
    return page.replace("{{data}}", json.dumps(data))


def write_page(path: str | Path, model: nn.Module, **options: Any) -> None:
    """Write the page of `page_html` whole to a file."""
    write(Path(path), page_html(model, **options).encode())


def show_page(model: nn.Module, **options: Any) -> Any:
    """Return the page of `page_html` for a notebook to show; it works in the saved one, too."""
    from IPython.display import IFrame

    page = html.escape(page_html(model, **options))
    return IFrame("about:blank", "100%", 720, extras=[f'srcdoc="{page}"'])
