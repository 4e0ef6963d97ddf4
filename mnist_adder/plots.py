"""Figures from plain data: a history, tables, pictures. Knows neither models nor training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's colours, told apart by readers with any colour vision; line styles tell train from test.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
COLOURS = {"digit": BLUE, "sum": ORANGE, "joint": GREEN}
STYLE = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "figure.dpi": 120,
}
History = Sequence[dict[str, float]]


@rc_context(STYLE)
def image_grid(images: Any, titles: Sequence[str], heading: str, columns: int = 8) -> Figure:
    """Pictures ``[N, 28, 28]`` in rows, each under a title of its own."""
    rows = -(-len(images) // columns) or 1
    figure = Figure(figsize=(1.35 * columns, 1.62 * rows + 0.5), layout="constrained")
    figure.suptitle(heading)
    axes = figure.subplots()  # one for all: two dozen pictures with one each take 5 MB more
    axes.axis("off")
    axes.set(xlim=(0, 33 * columns), ylim=(40 * rows, 0))  # in pixels of the pictures
    for place, (image, title) in enumerate(zip(images, titles, strict=True)):
        row, column = divmod(place, columns)
        left, top = 33 * column + 2, 40 * row + 12
        pixels = np.asarray(image).reshape(28, 28)
        axes.imshow(pixels, cmap="gray_r", extent=(left, left + 28, top + 28, top))
        axes.text(left + 14, top - 1, title, ha="center", va="bottom", fontsize=10)
    return figure


def sample_grid(images: Any, numbers: Any, sums: Any, source: str) -> Figure:
    """Samples as the network meets them, under "digit + number = sum".

    Args:
        images: [N, 28, 28] or [N, 1, 28, 28].
        numbers, sums: class indices [N].
        source: of the images, for the heading.
    """
    pairs = zip(map(int, numbers), map(int, sums), strict=True)
    titles = [f"{sum - number} + {number} = {sum}" for number, sum in pairs]
    return image_grid(images, titles, f"An image and a number in, the digit and the sum out ({source})")


def mistakes(images: Any, wrong: Sequence[Any], source: str, most: int = 24) -> Figure:
    """Pairs with an output wrong, one for each image: the truth, and what the network said.

    Args:
        images: [N, 28, 28], the whole split.
        wrong: `evaluation.Mistake`s.
        source: of the images, for the heading.
        most: pictures to draw.
    """
    first = list({mistake.index: mistake for mistake in reversed(wrong)}.values())[::-1]
    titles = [
        f"{m.digit} + {m.number} = {m.digit + m.number}\nsaid {m.predicted_digit}, {m.predicted_sum}"
        for m in first[:most]
    ]
    pictures = [images[m.index] for m in first[:most]]
    heading = f"{len(wrong)} wrong pairs, on {len(first)} images ({source})"
    return image_grid(pictures, titles, heading)


@rc_context(STYLE)
def curves(history: History, source: str) -> Figure:
    """Losses and accuracies by epoch: training dashed, testing solid."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    for split, line in (("train", "--"), ("test", "-")):
        for part, colour in COLOURS.items():
            style = {"linestyle": line, "color": colour, "label": f"{split} {part}", "marker": "."}
            if part != "joint":
                losses.plot(epochs, [row[f"{split}_{part}_loss"] for row in history], **style)
            wrong = [1 - row[f"{split}_{part}_accuracy"] for row in history]
            accuracies.plot(epochs, np.maximum(wrong, 1e-4), **style)
    losses.set(yscale="log", ylabel="loss (nats)", title=f"Loss ({source})")
    accuracies.set(yscale="log", ylabel="accuracy", title=f"Accuracy ({source})")
    _accuracy_axis(accuracies)
    for axes in (losses, accuracies):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(ncols=2, fontsize=9)
    return figure


def _accuracy_axis(axes: Axes) -> None:
    """Accuracies up to 99.99 %, each nine with as much room as the last; the data is the share wrong."""
    shares = np.array([0.9, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0001])
    lowest, highest = axes.get_ylim()
    shown = shares[(shares >= lowest) & (shares <= highest)]
    axes.set_yticks(shown, [f"{100 * (1 - share):.4g} %" for share in shown])
    axes.minorticks_off()
    axes.set_ylim(highest, lowest)


@rc_context(STYLE)
def learning_rate(history: History, source: str) -> Figure:
    """The learning rate at the end of each epoch."""
    figure = Figure(figsize=(5.5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([row["epoch"] for row in history], [row["lr"] for row in history], ".-", color=BLUE)
    axes.set(xlabel="epoch", ylabel="learning rate", title=f"Learning rate ({source})", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@rc_context(STYLE)
def truth_table(table: Any, source: str, withheld: Sequence[Sequence[int]] = ()) -> Figure:
    """The share of right sums for each digit and number, ``[10, 10]``; pairs withheld are framed."""
    shares = 100 * np.asarray(table)
    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    axes = figure.subplots()
    lowest = min(99.0, float(np.nanmin(shares)))
    picture = _cells(axes, shares, [[f"{share:.1f}" for share in row] for row in shares], lowest, 100)
    axes.set(xlabel="number", ylabel="digit", title=f"Right sums, % ({source})")
    for digit, number in withheld:
        corner = number - 0.46, digit - 0.46
        axes.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, edgecolor=RED, linewidth=2.5))
    if withheld:
        axes.set_xlabel(f"number\n(framed: the {len(withheld)} pairs withheld from training)")
    figure.colorbar(picture, ax=axes, shrink=0.8)
    return figure


@rc_context(STYLE)
def confusion(matrix: Any, source: str) -> Figure:
    """What each digit was read as, counted in pairs ``[10, 10]``; only the mistakes are coloured."""
    counts = np.asarray(matrix)
    wrong = np.where(np.eye(10, dtype=bool), np.nan, counts)
    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    axes = figure.subplots()
    texts = [[f"{count:,}" if count else "" for count in row] for row in counts]
    _cells(axes, wrong, texts, 0, max(1, np.nanmax(wrong)), "Blues")
    axes.set(xlabel="read as", ylabel="digit", title=f"Digits, in (image, number) pairs ({source})")
    return figure


@rc_context(STYLE)
def lr_range(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    suggestion: float | None,
    own: float,
    source: str,
) -> Figure:
    """The loss while the rate rises, the rate suggested and the recipe's `own`."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, color=BLUE, alpha=0.25, linewidth=1, label="each batch")
    axes.plot(rates, smoothed, color=BLUE, linewidth=2, label="smoothed")
    if suggestion is not None:
        label = f"suggested: {suggestion:.2g}"
        axes.axvline(suggestion, color=RED, label=label)
    axes.axvline(own, color=GREEN, linestyle="--", label=f"the recipe's: {own:g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss (nats)", title=f"Range test ({source})")
    axes.set_ylim(0, 1.6 * max(smoothed[0], np.median(smoothed)))  # what blows up runs off the top
    axes.legend(fontsize=9)
    return figure


@rc_context(STYLE)
def comparison(
    shares: Mapping[str, Mapping[str, Sequence[float]]],
    published: Mapping[str, Mapping[str, Sequence[float]]],
    source: str,
) -> Figure:
    """Accuracies of recipes: a dot for each run, a bar for their mean, a diamond for what was published.

    Args:
        shares: for each recipe its runs' digit, sum and joint accuracies, as fractions.
        published: for a recipe the digit and sum accuracies of the system it reproduces, in %.
        source: of the images tested on, for the heading.
    """
    figure = Figure(figsize=(max(6.5, 2.2 + 1.3 * len(shares)), 4.6), layout="constrained")
    axes = figure.subplots()
    for offset, (part, colour) in zip((-0.22, 0, 0.22), COLOURS.items(), strict=True):
        for place, (recipe, of) in enumerate(shares.items()):
            wrong = np.maximum(1 - np.asarray(of[part]), 1e-4)
            at = place + offset
            axes.plot([at] * len(wrong), wrong, ".", color=colour, alpha=0.6)
            axes.plot([at - 0.09, at + 0.09], [wrong.mean()] * 2, color=colour, linewidth=2.5)
            for value in published.get(recipe, {}).get(part, ()):
                axes.plot(at, 1 - value / 100, "D", color=colour, fillstyle="none", markersize=8)
    for part, colour in COLOURS.items():
        axes.plot([], [], ".-", color=colour, label=f"{part}: each run, and their mean")
    if any(recipe in published for recipe in shares):
        axes.plot([], [], "D", color="gray", fillstyle="none", label="published for that system")
    axes.set(yscale="log", ylabel="accuracy", title=f"Recipes compared ({source})")
    axes.set_xticks(range(len(shares)), list(shares))
    axes.grid(False, axis="x")
    _accuracy_axis(axes)
    axes.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _cells(
    axes: Axes, values: Any, texts: Sequence[Sequence[str]], low: float, high: float, colours: str = "cividis"
) -> Any:
    """A 10×10 picture with a text in each cell, white on dark cells."""
    picture = axes.imshow(values, cmap=colours, vmin=low, vmax=high, aspect="auto")
    axes.grid(False)
    axes.set_xticks(range(10))
    axes.set_yticks(range(10))
    for (row, column), value in np.ndenumerate(values):
        dark = not np.isnan(value) and sum(picture.to_rgba(value)[:3]) < 1.5
        colour = "white" if dark else "black"
        axes.text(column, row, texts[row][column], ha="center", va="center", color=colour, fontsize=9)
    return picture
