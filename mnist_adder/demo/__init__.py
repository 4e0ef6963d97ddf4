"""A page to draw on: digit and sum, with their probabilities, change as one draws.

Nothing leaves the machine, and no drawing is kept.
"""

import base64
import io
import json
import os
import re
import socket
import struct
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

from PIL import Image
from torch import Tensor, nn

from ..checks import InputError
from ..data import NUMBERS
from ..prediction import predict
from ..sources import load_data

TEMPORARY = tempfile.TemporaryDirectory()  # nobody else's; removed at the end
os.environ["GRADIO_TEMP_DIR"] = TEMPORARY.name  # read when gradio is imported, and stays empty
try:
    import gradio as gr

    if tuple(map(int, gr.__version__.split(".")[:2])) < (6, 24):  # older pages load a script from elsewhere
        raise ImportError(f"Gradio {gr.__version__} is too old")
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import PlainTextResponse
except ImportError as error:
    raise InputError("the page to draw on needs Gradio 6.24 or later: run `pip install '.[demo]'`") from error

FOLDER = Path(__file__).parent
# Every PNG file of the canvas in sketch.html, 280×280 pixels, begins so: a larger one is refused before it is decoded.
PNG_START = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 280, 280)
LARGEST = 100_000  # bytes of a request; a drawing of the page has less than 20,000
# What the page asks for in the browser, and what Gradio asks for when it starts.
PATHS = r"GET /((assets|static)/.+|theme\.css|favicon\.ico|gradio_api/startup-events)?|HEAD /"
REQUESTS = re.compile(rf"{PATHS}|POST /gradio_api/run/predict")
LOOPBACK = ["127.0.0.1", "localhost", "[::1]"]
PRIVATE = {"share": False, "run_history": False, "ssr_mode": False, "footer_links": [], "quiet": True}
AT_ONCE = {"queue": False, "show_progress": "hidden", "trigger_mode": "always_last"}  # the answer follows the pen


class Guard:
    """ASGI middleware: Gradio would answer many other requests, some with the user's Hugging Face account."""

    def __init__(self, app, proxied: bool) -> None:
        self.app, self.proxied = app, proxied  # by a proxy that changes the host name

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        try:
            messages = [{"type": "http.request", "body": await self._body(scope, receive)}]
        except (HTTPException, ClientDisconnect, ValueError, RecursionError) as error:
            status = getattr(error, "status_code", 400)
            return await PlainTextResponse(f"refused ({status})", status)(scope, receive, send)

        async def checked() -> dict:
            return messages.pop() if messages else await receive()

        await self.app({**scope, "query_string": b""}, checked, send)

    async def _body(self, scope, receive) -> bytes:
        """The body that Gradio receives: the drawing and the number without other fields, or nothing."""
        if not REQUESTS.fullmatch(f"{scope.get('method')} {scope['path']}"):
            raise HTTPException(404)
        request, body = Request(scope, receive), b""
        origin = request.headers.get("origin", "")
        if origin and not self.proxied and origin.partition("://")[2] != request.headers.get("host"):
            raise HTTPException(403)
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST:
                raise HTTPException(413)
        if request.method != "POST":
            return b""
        match json.loads(body):
            case {"data": [str(drawing), int(number)]} if 0 <= number <= 9:
                return json.dumps({"data": [drawing, number]}).encode()
        raise HTTPException(400)


def page(model: nn.Module) -> gr.Blocks:
    """The page, not yet served; `model` as `load_pretrained` or `read_run` returns it."""

    def answer(drawing: str, number: int) -> tuple[dict | None, dict | None, str]:
        try:
            png = base64.b64decode(drawing.partition(",")[2])
            prediction = predict(model, png if png.startswith(PNG_START) else b"", number)
        except ValueError:  # an empty canvas, for example: the page shows no answer
            return None, None, ""
        digits, sums = prediction.digit_probabilities, prediction.sum_probabilities
        picture = f'<img src="{_data_url(prediction.pixels)}" alt="28×28 pixels">'
        return dict(enumerate(digits)), dict(enumerate(sums)), picture

    images, digits = load_data("digits").test
    examples = [_data_url(255 - images[digits == digit][0]) for digit in range(NUMBERS)]
    html, css, js = ((FOLDER / f"sketch.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    templates = {"html_template": html, "css_template": css, "js_on_load": js}
    with gr.Blocks(title="MNIST Adder", analytics_enabled=False) as blocks:
        gr.Markdown("# MNIST Adder\nDraw **one digit** with mouse or finger, and choose a number to add.")
        with gr.Row():
            with gr.Column(min_width=300):
                # Gradio's own sketchpad wants its draw tool chosen first, and scrolls under a finger.
                sketch = gr.HTML("", elem_id="sketch", digits=examples, **templates)
            with gr.Column(min_width=300):
                number = gr.Radio(list(range(NUMBERS)), value=5, label="Number to add", elem_id="number")
                with gr.Row():
                    digit = gr.Label(num_top_classes=3, label="Digit", elem_id="digit", min_width=120)
                    sum = gr.Label(num_top_classes=3, label="Sum", elem_id="sum", min_width=120)
                gr.Markdown("The network sees your digit as 28×28 pixels:")
                pixels = gr.HTML(elem_id="pixels")
        events, outputs = [sketch.input, number.change], [digit, sum, pixels]
        gr.on(events, answer, [sketch, number], outputs, api_name="predict", **AT_ONCE)
    return blocks


def launch(model: nn.Module, *, host: str = "127.0.0.1", port: int | None = None, block: bool = True) -> gr.Blocks:
    """Serve the page until interrupted; in a notebook, show it below the cell, and go on if `block` is False.

    The default host is reached from this machine only, and the default port is the first free one from 7860.
    `InputError` for a port that is taken or no port, or for an address that is not this machine's.
    """
    blocks = page(model)
    colab = "google.colab" in sys.modules  # it shows the page through a proxy, under another host name
    address = f"[{host}]" if ":" in host else host
    hosts = LOOPBACK if address in LOOPBACK and not colab else ["*"]
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=hosts), Middleware(Guard, proxied=colab)]
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    settings = {"theme": theme, "css_paths": FOLDER / "page.css", "app_kwargs": {"middleware": middleware}, **PRIVATE}
    settings["max_threads"] = 1  # One prediction at a time bounds the memory.
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port or 0), family=family).close()  # Gradio would not say why it cannot be served.
        with patch.dict(os.environ, no_proxy="*"):  # Gradio asks its own page whether it is served.
            blocks.launch(server_name=address, server_port=port, prevent_thread_lock=True, **settings)
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
