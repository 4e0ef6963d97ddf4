"""A page to draw on: digit and sum, with their probabilities, change as one draws.

Nothing leaves the machine: no analytics, no public link, no fonts or scripts from elsewhere.
"""

import base64
import io
import os
from typing import Any

from PIL import Image

from .data import NUMBERS, InputError, load_data
from .models import TwoInputNet
from .prediction import predict

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
try:
    import gradio as gr
except ImportError as error:
    raise InputError("the page to draw on needs Gradio: pip install 'mnist-adder[demo]'") from error

CANVAS = 280  # pixels along its side
LARGEST = 500_000  # characters of a drawing; one of this canvas has far fewer
ABOUT = "# MNIST Adder\nDraw **one digit**, with mouse or finger, and pick a number to add."
CSS = """
.gradio-container { max-width: 56rem !important; margin: auto; }
#seen img { image-rendering: pixelated; object-fit: contain; }
footer { display: none !important; }
"""
# A canvas of our own: Gradio's sketchpad wants its draw tool chosen first, and scrolls under a finger.
SKETCH = f"""\
<canvas width="{CANVAS}" height="{CANVAS}" aria-label="Draw a digit here"></canvas>
<p><button type="button">Clear</button> or start from an example:</p>
<div>@@EXAMPLES@@</div>
"""
SKETCH_CSS = """
canvas { display: block; width: 280px; margin: auto; background: white; touch-action: none; cursor: crosshair;
         border: 2px solid #888; border-radius: 12px; }
p { margin: .6rem 0; text-align: center; }
button { padding: .3rem 1.2rem; border: 1px solid #888; border-radius: 8px; }
div { display: grid; grid-template-columns: repeat(10, 1fr); gap: 4px; }
img { width: 100%; margin: 0; cursor: pointer; border: 1px solid #bbb; border-radius: 4px; }
"""
SKETCH_JS = """
const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d');
let waiting = null;
const send = () => { waiting = null; props.value = canvas.toDataURL('image/png'); trigger('input'); };
const soon = () => { waiting ??= setTimeout(send, 150); };
const clear = () => { pen.fillStyle = 'white'; pen.fillRect(0, 0, canvas.width, canvas.height); };
const draw = event => {
  const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
  pen.lineTo((event.clientX - box.left) * scale, (event.clientY - box.top) * scale);
  pen.stroke();
  soon();
};
clear();
pen.lineWidth = 20; pen.lineCap = pen.lineJoin = 'round';
canvas.addEventListener('pointerdown', event => {
  canvas.setPointerCapture(event.pointerId); pen.beginPath(); draw(event); draw(event);
});
canvas.addEventListener('pointermove', event => { if (event.buttons) draw(event); });
element.querySelector('button').addEventListener('click', () => { clear(); soon(); });
element.querySelectorAll('img').forEach(image => image.addEventListener('click', () => {
  pen.drawImage(image, 0, 0, canvas.width, canvas.height); soon();
}));
"""


def page(model: TwoInputNet) -> gr.Blocks:
    """The page, not yet served; `model` as `load_pretrained` or `read_run` returns it."""

    def answer(drawing: str | None, number: int) -> tuple[Any, Any, Any]:
        try:
            if not drawing or len(drawing) > LARGEST:
                raise InputError("no drawing, or one too large")
            read = predict(model, base64.b64decode(drawing.partition(",")[2]), number)
        except (InputError, ValueError):  # nothing to see: the page shows no answer
            return None, None, None
        digits, sums = (
            {str(value): p for value, p in enumerate(probabilities)}
            for probabilities in (read.digit_probabilities, read.sum_probabilities)
        )
        return digits, sums, Image.fromarray(read.seen.numpy()).resize((CANVAS, CANVAS), Image.Resampling.BOX)

    with gr.Blocks(title="MNIST Adder", analytics_enabled=False) as blocks:
        gr.Markdown(ABOUT)
        with gr.Row():
            with gr.Column(min_width=300):
                template = SKETCH.replace("@@EXAMPLES@@", _examples())
                sketch = gr.HTML(
                    html_template=template, css_template=SKETCH_CSS, js_on_load=SKETCH_JS, elem_id="sketch"
                )
            with gr.Column(min_width=300):
                number = gr.Radio(list(range(NUMBERS)), value=5, label="Number to add", elem_id="number")
                with gr.Row():
                    digit = gr.Label(num_top_classes=3, label="Digit", elem_id="digit", min_width=120)
                    sum = gr.Label(num_top_classes=3, label="Sum", elem_id="sum", min_width=120)
                gr.Markdown("What the network sees, 28×28 pixels:")
                seen = gr.Image(
                    show_label=False, height=190, format="png", interactive=False, buttons=[], elem_id="seen"
                )
        gr.on(
            [sketch.input, number.change],
            answer,
            [sketch, number],
            [digit, sum, seen],
            show_progress="hidden",
            trigger_mode="always_last",
        )
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
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            max_file_size=LARGEST,
            footer_links=[],
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            css=CSS,
        )
    except OSError as error:
        raise InputError(f"the page cannot be served at {host}, port {port or 'any'}: {error}") from error
    print(f"the page to draw on: {blocks.local_url} (Ctrl-C ends it)", flush=True)
    if block:
        blocks.block_thread()
    return blocks


def _examples() -> str:
    """The first of each digit among the bundled ones, dark on light, as HTML."""
    images, digits = load_data("digits").test
    found = []
    for digit in range(NUMBERS):
        file = io.BytesIO()
        Image.fromarray(255 - images[digits == digit][0].numpy()).save(file, "PNG")
        source = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
        found.append(f'<img src="{source}" alt="{digit}">')
    return "".join(found)
