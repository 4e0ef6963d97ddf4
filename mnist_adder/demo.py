"""A page to draw on: digit and sum, with their probabilities, change as one draws.

Nothing leaves the machine: no analytics, no public link, no fonts or scripts from elsewhere.
"""

import os
from typing import Any

import numpy as np
import torch

from .data import NUMBERS, InputError, load_data
from .models import TwoInputNet
from .prediction import predict

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
try:
    import gradio as gr
except ImportError as error:
    raise InputError(
        "the page to draw on needs Gradio: install it with pip install 'mnist-adder[demo]'"
    ) from error

CANVAS = 280  # pixels along its side
UPLOAD = "2mb"  # the largest; a drawing is far smaller
SYSTEM = ["system-ui", "sans-serif"]  # names alone: fonts of the machine itself
CSS = """
.gradio-container { max-width: 60rem !important; margin: auto; }
#seen img { image-rendering: pixelated; }
footer { display: none !important; }
"""
ABOUT = """\
# MNIST Adder
Draw **one digit**, with mouse or finger, and pick a number: the network reads the digit and adds the number to it.
"""


def page(model: TwoInputNet) -> gr.Blocks:
    """The page, not yet served.

    Args:
        model: as `load_pretrained` or `read_run` returns it.
    """

    def answer(drawing: dict[str, Any] | None, number: int) -> tuple[Any, Any, Any]:
        try:
            read = predict(model, drawing["composite"], number) if drawing else None
        except InputError:  # nothing is drawn yet
            read = None
        if read is None:
            return None, None, None
        digits, sums = (
            {str(value): p for value, p in enumerate(probabilities)}
            for probabilities in (read.digit_probabilities, read.sum_probabilities)
        )
        return digits, sums, _enlarge(read.seen)

    def choose(chosen: gr.SelectData) -> dict[str, Any]:
        return _drawing(examples[chosen.index])

    examples = [_enlarge(255 - image) for image in _examples()]
    with gr.Blocks(title="MNIST Adder", analytics_enabled=False) as blocks:
        gr.Markdown(ABOUT)
        with gr.Row():
            with gr.Column(min_width=300):
                sketch = gr.Sketchpad(
                    label="Draw a digit",
                    elem_id="sketch",
                    canvas_size=(CANVAS, CANVAS),
                    height=CANVAS + 100,
                    image_mode="RGBA",
                    format="png",
                    brush=gr.Brush(default_size=20, colors=["#000000"], color_mode="fixed"),
                    layers=False,
                    transforms=(),
                    buttons=[],
                )
                number = gr.Radio(list(range(NUMBERS)), value=5, label="Number to add", elem_id="number")
            with gr.Column(min_width=300):
                with gr.Row():
                    digit = gr.Label(num_top_classes=3, label="Digit", elem_id="digit", min_width=120)
                    sum = gr.Label(num_top_classes=3, label="Sum", elem_id="sum", min_width=120)
                seen = gr.Image(
                    label="The 28×28 pixels the network sees",
                    elem_id="seen",
                    height=200,
                    format="png",
                    interactive=False,
                    buttons=[],
                )
        gallery = gr.Gallery(
            examples,
            label="Or click an example",
            elem_id="examples",
            columns=10,
            height=110,
            format="png",
            object_fit="contain",
            allow_preview=False,
            interactive=False,
            buttons=[],
        )
        gr.on(
            [sketch.change, number.change],
            answer,
            [sketch, number],
            [digit, sum, seen],
            show_progress="hidden",
            trigger_mode="always_last",
        )
        gallery.select(choose, None, sketch, show_progress="hidden")
    return blocks


def launch(
    model: TwoInputNet, *, host: str = "127.0.0.1", port: int | None = None, block: bool = True
) -> gr.Blocks:
    """Serve the page; in a notebook, show it below the cell.

    Args:
        model: as `load_pretrained` or `read_run` returns it.
        host: the address to serve; the default is reached from this machine only.
        port: default: the first free one from 7860.
        block: wait until interrupted.

    Raises:
        InputError: a port that is taken, or an address that is not this machine's.
    """
    blocks = page(model)
    try:
        blocks.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=not block,
            share=False,
            ssr_mode=False,
            max_file_size=UPLOAD,
            footer_links=[],
            theme=gr.themes.Default(font=SYSTEM, font_mono=["monospace"]),
            css=CSS,
        )
    except OSError as error:
        raise InputError(f"the page cannot be served at {host}, port {port or 'any'}: {error}") from error
    return blocks


def _examples() -> torch.Tensor:
    """The first of each digit among the bundled ones, uint8 [10, 28, 28]."""
    images, digits = load_data("digits").test
    return torch.stack([images[digits == digit][0] for digit in range(NUMBERS)])


def _enlarge(image: torch.Tensor) -> np.ndarray:
    """Uint8 [28, 28] to an array of the canvas's size."""
    return image.repeat_interleave(CANVAS // 28, 0).repeat_interleave(CANVAS // 28, 1).numpy()


def _drawing(image: np.ndarray) -> dict[str, Any]:
    """A grey image as what a sketchpad holds."""
    colour = np.stack([image] * 3, 2)
    return {"background": colour, "layers": [], "composite": colour}
