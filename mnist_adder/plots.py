"""Figures from plain data: a history, tables, pictures."""

import io
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import matplotlib.colors
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps, rc_context, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from .data import SUMS, Data, Sample
from .evaluation import Evaluation
from .models import AdderNet
from .training import Row

# Okabe and Ito's colours, told apart by readers with any colour vision.
BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
RED = "#D55E00"
COLOURS = {"digit": BLUE, "sum": ORANGE, "joint": GREEN}
MARKERS = {"digit": "o", "sum": "s", "joint": "^"}  # tell lines apart that lie on one another
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "figure.dpi": 120,
    "figure.constrained_layout.use": True,
}
TICKS = np.array([step * 10.0**power for power in range(-6, 3) for step in (1, 2, 5)])
CENTRED = {"ha": "center", "va": "center"}  # a text around its point
LEAST = 1e-4  # the smallest share of wrong answers that is drawn: a logarithmic axis has no zero


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG, without the software's version: the same figure, the same bytes."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def run_figures(
    data: Data, history: Sequence[Row], evaluation: Evaluation, withheld: Sequence[Sequence[int]]
) -> dict[str, Figure]:
    """Return every figure of a run's folder, by name."""
    source = f"{data.source}, {data.test_name}"
    samples = data.dataset(data.train)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same figure each time
        batch = samples[:24]
    return {
        "samples": sample_grid(batch, f"{data.source}, training"),
        "curves": curves(history, data.source),
        "mistakes": mistakes(data.test.images.cpu(), evaluation.mistakes, source),
        "truth_table": truth_table(evaluation.truth_table, source, withheld),
        "confusion": confusion(evaluation.confusion, source),
    }


@rc_context(STYLE)
def image_grid(images: Any, titles: Sequence[str], heading: str) -> Figure:
    """Draw pictures ``[N, H, W]`` or ``[N, C, H, W]`` in rows, each under a title of its own."""
    images = np.asarray(images, np.float32)
    if images.ndim == 4:
        images = images.mean(1)  # colours as grey
    height, width = images.shape[1:]
    columns = 8
    rows = max(1, -(-len(images) // columns))
    across = width + 5  # pixels of a picture with its margin
    down = height + 12
    figure = Figure(figsize=(1.35 * columns * width / height, 1.62 * rows + 0.5))
    figure.suptitle(heading)
    axes = figure.subplots()  # one for all pictures: one for each takes five times as long
    axes.axis("off")
    axes.set(xlim=(0, across * columns), ylim=(down * rows, 0))
    for index, (image, title) in enumerate(zip(images, titles, strict=True)):
        row, column = divmod(index, columns)
        left = across * column + 2
        top = down * row + 12
        extent = (left, left + width, top + height, top)
        axes.imshow(image, cmap="gray_r", extent=extent)
        axes.text(left + width / 2, top - 1, title, ha="center", va="bottom", fontsize=10)
    return figure


def sample_grid(batch: Sample, source: str) -> Figure:
    """Draw a batch of samples, each under "digit, number → sum"."""
    numbers = batch.number.argmax(1)
    sums = batch.sum.argmax(1)
    titles = [
        f"{int(digit)}, {int(number)} → {int(sum)}"
        for digit, number, sum in zip(batch.digit, numbers, sums, strict=True)
    ]
    heading = f"An image and a number in, the digit and the sum out ({source})"
    return image_grid(batch.image.cpu(), titles, heading)


def mistakes(images: Any, wrong: Sequence[Any], source: str, most: int = 24) -> Figure:
    """Draw the truth and the answer for `evaluation.Mistake`s; `images` is the whole split."""
    groups = [list(group) for _, group in groupby(wrong, lambda mistake: mistake.index)]
    # An image is drawn once: the first with its first wrong number, the next with its second, …
    shown = [group[turn % len(group)] for turn, group in enumerate(groups[:most])]
    titles = [
        f"{m.digit}, {m.number} → {m.sum}\nsaid {m.predicted_digit}, {m.predicted_sum}"
        for m in shown
    ]
    heading = (
        f"{len(wrong)} wrong samples, on {len(groups)} images ({source})\n"
        "digit, number → sum; below: the digit and the sum that the network said"
    )
    return image_grid(images[[m.index for m in shown]], titles, heading)


@rc_context(STYLE)
def curves(history: Sequence[Mapping[str, float]], source: str) -> Figure:
    """Draw losses, accuracies and rate by epoch: dashed for training, solid for testing."""
    figure = Figure(figsize=(15, 4.6))
    loss_axes, accuracy_axes, rate_axes = figure.subplots(1, 3, width_ratios=(3, 3, 2))
    epochs = range(1, len(history) + 1)
    _curves_of(loss_axes, history, "loss", ("digit", "sum"))
    loss_axes.set_title(f"Loss ({source})")
    _curves_of(accuracy_axes, history, "accuracy", ("digit", "sum", "joint"))
    accuracy_axes.set_title(f"Accuracy ({source});\nthe scale is stretched towards 100 %")
    rate_axes.plot(epochs, _column(history, "lr"), "o-", color=BLUE, markersize=4)
    rate_axes.set(title="Learning rate", ylabel="rate at the end of the epoch", ylim=(0, None))
    _log_axis(loss_axes, "loss (nats)")
    _log_axis(accuracy_axes, "accuracy")
    for axes in (loss_axes, accuracy_axes, rate_axes):
        axes.set(xlabel="epoch", xlim=(0.5, len(history) + 0.5))
        whole = ticker.MaxNLocator(steps=(1, 2, 5, 10), integer=True, min_n_ticks=1)
        axes.xaxis.set_major_locator(whole)
    return figure


def _curves_of(
    axes: Axes, history: Sequence[Mapping[str, float]], measure: str, parts: Sequence[str]
) -> None:
    """Draw a loss or an accuracy of some outputs; an accuracy as the share that is wrong."""
    epochs = range(1, len(history) + 1)
    for split, line, fill in (("train", "--", "none"), ("test", "-", "full")):
        for index, part in enumerate(parts):
            values = _column(history, f"{split}_{part}_{measure}")
            if measure == "accuracy":
                values = np.maximum(1 - values, LEAST)
            axes.plot(
                epochs,
                values,
                line + MARKERS[part],
                color=COLOURS[part],
                label=f"{split} {part}",
                fillstyle=fill,
                markersize=7 - 2 * index,  # lines that lie on one another keep their marks
                linewidth=3 - index,
                alpha=0.8,
            )
    axes.legend(ncols=2, fontsize=9)


def _column(history: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """Return the numbers of this name; a training of your own class may lack some: NaN."""
    return np.array([row.get(name, np.nan) for row in history], float)


def _log_axis(axes: Axes, label: str) -> None:
    """Make an axis logarithmic. For an accuracy, it shows the share of errors, upside down."""
    low, high = axes.dataLim.intervaly
    if not low <= high:  # nothing is drawn
        return
    first = max(0, np.searchsorted(TICKS, low, "right") - 1)
    ticks = TICKS[first : np.searchsorted(TICKS, high) + 1]
    accuracy = label == "accuracy"
    texts = [f"{100 * (1 - tick):.4g} %" if accuracy else f"{tick:g}" for tick in ticks]
    axes.set(yscale="log", ylabel=label)
    axes.set_ylim(ticks[0] / 1.1, ticks[-1] * 1.1)
    axes.minorticks_off()
    axes.set_yticks(ticks, texts)
    axes.yaxis.set_inverted(accuracy)


def truth_table(table: Any, source: str, withheld: Sequence[Sequence[int]] = ()) -> Figure:
    """Draw the share of right sums for each pair, ``[10, 10]``; withheld pairs are framed."""
    shares = 100 * np.asarray(table)
    low = min(99.0, np.nanmin(shares))
    axes = _cells(shares, np.vectorize("{:.1f}".format)(shares), low, 100, "cividis")
    note = f"\n(framed: the {len(withheld)} pairs withheld from training)" if withheld else ""
    title = f"Right sums in % ({source});\nthe darkest colour is {low:.1f} %, the lightest 100 %"
    axes.set(xlabel=f"number{note}", title=title)
    for digit, number in withheld:
        corner = (number - 0.46, digit - 0.46)
        frame = Rectangle(corner, 0.92, 0.92, fill=False, edgecolor=RED, linewidth=2.5)
        axes.add_patch(frame)
    axes.figure.colorbar(axes.images[0], ax=axes, shrink=0.8)
    return axes.figure


def confusion(matrix: Any, source: str) -> Figure:
    """Draw what each digit was read as, in pairs ``[10, 10]``; only the mistakes are coloured."""
    counts = np.asarray(matrix)
    wrong = np.where(np.eye(len(counts), dtype=bool), np.nan, counts)
    texts = np.where(counts, np.vectorize("{:,}".format)(counts), "")
    axes = _cells(wrong, texts, 0, max(1, np.nanmax(wrong)), "Blues")
    axes.set(xlabel="read as", title=f"Each image counts once for each number ({source})")
    return axes.figure


@rc_context(STYLE)
def _cells(values: np.ndarray, texts: np.ndarray, low: float, high: float, colours: str) -> Axes:
    """Draw a table with a row for each digit and a text in each cell, white on dark cells."""
    rows, columns = values.shape
    figure = Figure(figsize=(max(7.2, 0.6 * columns), max(5.6, 0.45 * rows)))
    axes = figure.subplots()
    colormap = colormaps[colours].with_extremes(bad="white")
    picture = axes.imshow(values, colormap, vmin=low, vmax=high, aspect="auto")
    axes.grid(False)
    axes.set(xticks=range(columns), yticks=range(rows), ylabel="digit")
    brightness = picture.to_rgba(values)[..., :3].sum(-1)
    for row, column in np.ndindex(rows, columns):
        colour = "white" if brightness[row, column] < 1.5 else "black"
        text = texts[row, column]
        axes.text(column, row, text, **CENTRED, color=colour, fontsize=9)
    return axes


@rc_context(STYLE)
def lr_range(
    rates: Any,
    losses: Any,
    smoothed: Any,
    suggestion: float | None,
    recipe_lr: float,
    source: str,
) -> Figure:
    """Draw the loss while the rate rises, the rate suggested and the recipe's rate."""
    axes = Figure(figsize=(7.2, 4.2)).subplots()
    axes.plot(rates, losses, color=BLUE, alpha=0.25, linewidth=1, label="each batch")
    axes.plot(rates, smoothed, color=BLUE, linewidth=2, label="smoothed")
    if suggestion is not None:
        axes.axvline(suggestion, color=RED, label=f"suggested: {suggestion:.2g}")
    axes.axvline(recipe_lr, color=GREEN, linestyle="--", label=f"the recipe's: {recipe_lr:g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss (nats)")
    axes.set_title(f"Range test ({source})")
    # A loss that blows up runs off the top.
    axes.set_ylim(0, 1.6 * max(smoothed[0], np.median(smoothed)))
    axes.legend(fontsize=9)
    return axes.figure


@rc_context(STYLE)
def sample_path(model: AdderNet, image: Tensor, number: int) -> Figure:
    """Draw one sample on its way through a network with an `AdderMLP`, with its real numbers.

    `image` is normalised, float [1, 28, 28], and lies where the network does, which is in
    evaluation mode.
    """
    numbers = torch.tensor([number], device=image.device)
    one_hot = F.one_hot(numbers, 10).float()  # [1, 10]
    with torch.no_grad():
        log_probs = model.features(image[None])  # [1, 10]
        sharp = (model.adder.SHARPNESS * log_probs).softmax(1)
        logits = model.adder(log_probs, one_hot)  # [1, 19]
    digits = log_probs[0].exp().tolist()
    sharp_digits = sharp[0].tolist()
    sums = logits[0].softmax(0).tolist()
    figure = Figure(figsize=(15, 3.5))
    widths = (3, 4, 4, 7, 7)
    picture, before, after, joined, answer = figure.subplots(1, 5, width_ratios=widths)
    picture.imshow(image[0].cpu(), cmap="gray_r")
    picture.axis("off")
    picture.set_title("1. the image")
    _bars(before, digits, "2. the digit's\nprobabilities, in %", BLUE)
    _bars(after, sharp_digits, "3. sharpened, in %", BLUE)
    colours = [BLUE] * 10 + [ORANGE] * 10
    values = sharp_digits + one_hot[0].tolist()
    _bars(joined, values, "4. with the number: 20 values, in %", colours)
    joined.set_xticks(range(20), [*range(10), *range(10)])
    joined.set_xlabel("digit (blue), number (orange)")
    _bars(answer, sums, "5. the sums' probabilities, in %", GREEN)
    answer.set_xlabel("sum")
    return figure


def _bars(axes: Axes, values: Any, title: str, colour: Any) -> None:
    """Draw probabilities as bars; those that can be seen are written above their bars, in %."""
    values = np.asarray(values, float)
    axes.bar(range(len(values)), values, color=colour)
    for index, value in enumerate(values):
        if value >= 0.005:
            axes.text(index, value + 0.02, f"{100 * value:.0f}", ha="center", fontsize=9)
    axes.set(title=title, xlabel="digit", ylim=(0, 1.14))
    axes.set(xticks=range(len(values)), yticks=[])
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(labelsize=9)


@rc_context(STYLE)
def sharpening(sharpness: float) -> Figure:
    """Draw 60, 30 and 10 % before and after the sharpening, and the gradient's way round it."""
    probs = np.array([0.6, 0.3, 0.1])
    sharp = probs**sharpness  # the softmax of `sharpness` times the logarithms
    sharp = sharp / sharp.sum()
    figure = Figure(figsize=(10, 3.4))
    before, middle, after = figure.subplots(1, 3, width_ratios=(3, 5, 3))
    _bars(before, probs, "what the CNN says, in %", BLUE)
    _bars(after, sharp, "what the adder gets, in %", BLUE)
    for axes in (before, after):
        axes.set_xticks(range(3), ("4", "9", "7"))
    middle.axis("off")
    middle.set(xlim=(0, 1), ylim=(0, 1))
    forward = {"arrowstyle": "-|>", "color": BLUE, "linewidth": 2}
    middle.annotate("", (1, 0.7), (0, 0.7), arrowprops=forward)
    box = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": BLUE}
    text = f"softmax of\n{sharpness:g} × log-probability"
    middle.text(0.5, 0.7, text, **CENTRED, bbox=box)
    middle.text(0.5, 0.93, "forward: the value", ha="center", color=BLUE)
    back = {"arrowstyle": "-|>", "color": RED, "linewidth": 2, "connectionstyle": "arc3,rad=-0.35"}
    middle.annotate("", (0, 0.45), (1, 0.45), arrowprops=back)
    middle.text(0.5, 0.02, "backward: the gradient goes round the box", ha="center", color=RED)
    return figure


@rc_context(STYLE)
def worked_sum(digit_places: Any, number_places: Any, k: float, digit: int, number: int) -> Figure:
    """Draw how the number line adds one digit and one number, with its places [10] and [10]."""
    digit_step = float(digit_places[digit])
    number_step = float(number_places[number])
    expected = 9 + digit_step + number_step
    sums = np.arange(SUMS)
    weights = np.exp(-k * (sums - expected) ** 2)
    figure = Figure(figsize=(9, 4.4))
    line, answer = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    steps = (
        (9, digit_step, 2, BLUE, f"digit {digit}: {digit_step:+.2f}"),
        (9 + digit_step, number_step, 1, ORANGE, f"number {number}: {number_step:+.2f}"),
    )
    for start, step, height, colour, text in steps:
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 3, "shrinkA": 0, "shrinkB": 0}
        line.annotate("", (start + step, height), (start, height), arrowprops=arrow)
        middle = start + step / 2
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        line.text(middle, height + 0.25, text, ha="center", va="bottom", color=colour, bbox=paper)
    line.axvline(9, color="grey", linestyle=":", zorder=0)
    line.axvline(expected, color=GREEN, linestyle="--", zorder=0)
    title = f"begin at 9, go the digit's step, go the number's step: {expected:.2f}"
    line.set(title=title, ylim=(0.5, 2.9), yticks=[])
    line.spines["left"].set_visible(False)
    line.grid(False)
    _bars(answer, weights / weights.sum(), "the nearest sum is the most probable, in %", GREEN)
    answer.set(xlabel="sum", xlim=(-0.7, 18.7))
    return figure


@rc_context(STYLE)
def finding_steps(page: Any, digits: Sequence[Any], thrown: Any, pixels: Any = None) -> Figure:
    """Draw the steps from a picture to its digit: what was found, thrown away, seen by the network.

    `page` is the picture in grey [H, W]; `digits` and `thrown` are bool [H, W], as
    `finding.find_digits` returns them. `pixels` [28, 28] is what the network gets, or None.
    """
    found = np.ones((*np.shape(page), 3))  # white paper
    found[thrown] = matplotlib.colors.to_rgb(ORANGE)
    for index, digit in enumerate(digits):
        colour = (BLUE, GREEN, RED)[index % 3]
        found[digit] = matplotlib.colors.to_rgb(colour)
    titles = [
        "the picture in grey, ink dark",
        f"digits found: {len(digits)}; orange: thrown away",
        "refused" if pixels is None else "what the network sees",
    ]
    figure = Figure(figsize=(9, 3.4))
    for axes, title in zip(figure.subplots(1, 3), titles, strict=True):
        axes.set_title(title, fontsize=10)
        axes.axis("off")
    figure.axes[0].imshow(page, cmap="gray", vmin=0, vmax=1)
    figure.axes[1].imshow(found)
    if pixels is not None:
        figure.axes[2].imshow(np.asarray(pixels), cmap="gray_r", vmin=0, vmax=255)
    return figure
