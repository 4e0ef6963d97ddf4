"""A page to draw on: digit and sum, with their probabilities, change as one draws.

Nothing leaves the machine, and no drawing is kept.
"""

import base64
import io
import os
import socket
import struct
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

from PIL import Image
from torch import Tensor, nn

from ..data import NUMBERS
from ..errors import InputError
from ..prediction import predict
from ..sources import load_data

TEMPORARY = tempfile.TemporaryDirectory()  # nobody else's; removed at the end
os.environ["GRADIO_TEMP_DIR"] = TEMPORARY.name  # read when gradio is imported, and stays empty
try:
    import gradio as gr

    if tuple(map(int, gr.__version__.split(".")[:2])) < (6, 24):  # older pages load a script from elsewhere
        raise ImportError(f"Gradio {gr.__version__} is too old")
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from .guard import Guard
except ImportError as error:
    raise InputError("the page to draw on needs Gradio 6.24 or later: run `pip install '.[demo]'`") from error

FOLDER = Path(__file__).parent
SIDE = 280  # pixels along each side of the canvas in sketch.html
# Every PNG file of the canvas begins with these bytes: a larger picture is refused before it is decoded.
PNG_START = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", SIDE, SIDE)
LOOPBACK = ["127.0.0.1", "localhost", "[::1]"]


def page(model: nn.Module) -> gr.Blocks:
    """The page, not yet served; `model` as `load_pretrained` or `read_run` returns it."""

    def answer(drawing: str, number: int) -> tuple[dict | None, dict | None, str]:
        try:
            png = base64.b64decode(drawing.partition(",")[2])
            if not png.startswith(PNG_START):
                raise InputError(f"the drawing is no PNG file of {SIDE}×{SIDE} pixels")
            prediction = predict(model, png, number)
        except ValueError:  # an empty canvas, for example: the page shows no answer
            return None, None, ""
        digits, sums = prediction.digit_probabilities, prediction.sum_probabilities
        picture = f'<img src="{_data_url(prediction.pixels)}" alt="28×28 pixels">'
        return dict(enumerate(digits)), dict(enumerate(sums)), picture

    images, digits = load_data("digits").test
    examples = [_data_url(255 - images[digits == digit][0]) for digit in range(NUMBERS)]
    html, css, js = ((FOLDER / f"sketch.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    with gr.Blocks(title="MNIST Adder", analytics_enabled=False) as blocks:
        gr.Markdown("# MNIST Adder\nDraw **one digit** with mouse or finger, and choose a number to add.")
        with gr.Row():
            with gr.Column(min_width=300):
                # Gradio's own sketchpad wants its draw tool chosen first, and scrolls under a finger.
                sketch = gr.HTML(
                    "", elem_id="sketch", html_template=html, css_template=css, js_on_load=js, digits=examples
                )
            with gr.Column(min_width=300):
                number = gr.Radio(list(range(NUMBERS)), value=5, label="Number to add", elem_id="number")
                with gr.Row():
                    digit = gr.Label(num_top_classes=3, label="Digit", elem_id="digit", min_width=120)
                    sum = gr.Label(num_top_classes=3, label="Sum", elem_id="sum", min_width=120)
                gr.Markdown("The network sees your digit as 28×28 pixels:")
                pixels = gr.HTML(elem_id="pixels")
        gr.on(
            [sketch.input, number.change],
            answer,
            [sketch, number],
            [digit, sum, pixels],
            api_name="predict",
            queue=False,
            show_progress="hidden",
            trigger_mode="always_last",
        )
    return blocks


def launch(model: nn.Module, *, host: str = "127.0.0.1", port: int | None = None, block: bool = True) -> gr.Blocks:
    """Serve the page; in a notebook, show it below the cell.

    Args:
        model: as `load_pretrained` or `read_run` returns it.
        host: the address to serve; the default is reached from this machine only.
        port: default: the first free one from 7860.
        block: wait until interrupted.

    Raises:
        InputError: a port that is taken or no port, or an address that is not this machine's.
    """
    blocks = page(model)
    colab = "google.colab" in sys.modules  # it shows the page through a proxy, under another host name
    address = f"[{host}]" if ":" in host else host
    hosts = LOOPBACK if address in LOOPBACK and not colab else ["*"]
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=hosts), Middleware(Guard, proxied=colab)]
    try:
        family, *_, socket_address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:  # Gradio's own message would not name the reason
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(socket_address)
        with patch.dict(os.environ, no_proxy="*"):  # Gradio asks its own page whether it is served
            blocks.launch(
                server_name=address,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                max_threads=1,  # one prediction at a time bounds the memory
                share=False,
                run_history=False,
                ssr_mode=False,
                footer_links=[],
                theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
                css_paths=FOLDER / "page.css",
                app_kwargs={"middleware": middleware},
            )
    except (OSError, OverflowError) as error:
        raise InputError(f"the page cannot be served at {host}, port {port or 'any'}: {error}") from error
    print(f"the page to draw on: {blocks.local_url} (Ctrl-C ends it)", flush=True)
    if block:
        blocks.block_thread()
    return blocks


def _data_url(pixels: Tensor) -> str:
    """A picture, uint8 [H, W], as a PNG file within a URL."""
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
