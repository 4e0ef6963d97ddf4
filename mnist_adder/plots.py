"""Figures from plain data: a history, tables, pictures. This module knows neither models nor training."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import matplotlib.colors
import matplotlib.figure
import numpy as np
from matplotlib import colormaps, rc_context, ticker
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

# Okabe and Ito's colours, told apart by readers with any colour vision; line styles tell train from test.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
COLOURS = {"digit": BLUE, "sum": ORANGE, "joint": GREEN}
STYLE = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3}
STYLE |= {"legend.frameon": False, "figure.dpi": 120, "figure.constrained_layout.use": True}
TICKS = np.array([float(f"{step}e{power}") for power in range(-6, 3) for step in (1, 2, 5)])  # of logarithmic axes
LEAST = 1e-4  # the smallest share of wrong answers that is drawn, because a logarithmic axis has no zero
Accuracies = Mapping[str, Mapping[str, Sequence[float]]]


class Figure(matplotlib.figure.Figure):
    """A figure that pyplot does not keep: a notebook draws it once, and it takes no memory when it is dropped."""

    def show(self, warn: bool = True) -> None:
        """Draw the figure into the notebook or, from a script, in a window; return when the window is closed."""
        from matplotlib import pyplot

        pyplot.figure(FigureClass=lambda **_: self)  # pyplot's new figure is this one
        pyplot.show()


@rc_context(STYLE)
def image_grid(images: Any, titles: Sequence[str], heading: str, columns: int = 8) -> Figure:
    """Pictures ``[N, 28, 28]`` in rows, each under a title of its own."""
    rows = -(-len(images) // columns) or 1
    figure = Figure(figsize=(1.35 * columns, 1.62 * rows + 0.5))
    figure.suptitle(heading)
    axes = figure.subplots()  # one for all pictures takes much less memory than one for each
    axes.axis("off")
    axes.set(xlim=(0, 33 * columns), ylim=(40 * rows, 0))  # in pixels of the pictures
    for place, (image, title) in enumerate(zip(images, titles, strict=True)):
        left, top = 33 * (place % columns) + 2, 40 * (place // columns) + 12
        axes.imshow(np.asarray(image).reshape(28, 28), cmap="gray_r", extent=(left, left + 28, top + 28, top))
        axes.text(left + 14, top - 1, title, ha="center", va="bottom", fontsize=10)
    return figure


def sample_grid(images: Any, digits: Any, numbers: Any, sums: Any, source: str) -> Figure:
    """Samples under "digit, number → sum": images ``[N, 28, 28]`` or ``[N, 1, 28, 28]``, and class indices ``[N]``."""
    titles = [f"{int(d)}, {int(n)} → {int(s)}" for d, n, s in zip(digits, numbers, sums, strict=True)]
    return image_grid(images, titles, f"An image and a number in, the digit and the sum out ({source})")


def mistakes(images: Any, wrong: Sequence[Any], source: str, most: int = 24) -> Figure:
    """The truth and the answer for `evaluation.Mistake`s; `images` is the whole split ``[N, 28, 28]``."""
    groups = [list(group) for _, group in groupby(wrong, lambda mistake: mistake.index)]
    # An image is drawn once: the first with its first wrong number, the next with its second, and so on.
    shown = [group[place % len(group)] for place, group in enumerate(groups[:most])]
    titles = [f"{m.digit}, {m.number} → {m.sum}\nsaid {m.predicted_digit}, {m.predicted_sum}" for m in shown]
    heading = f"{len(wrong)} wrong pairs, on {len(groups)} images ({source})\n"
    heading += "digit, number → sum; below: the digit and the sum that the network said"
    return image_grid([images[m.index] for m in shown], titles, heading)


@rc_context(STYLE)
def curves(history: Sequence[dict[str, float]], source: str) -> Figure:
    """Losses, accuracies and learning rate by epoch: dashed lines for training, solid ones for testing."""
    figure = Figure(figsize=(13, 4.2))
    epochs = [row["epoch"] for row in history]
    *left, right = figure.subplots(1, 3, width_ratios=(3, 3, 2))
    right.plot(epochs, [row["lr"] for row in history], "o-", color=BLUE, markersize=4)
    right.set(ylabel="rate at the end of the epoch", title="Learning rate", ylim=(0, None))
    _epoch_axis(right, epochs)
    for axes, label in zip(left, ("loss (nats)", "accuracy"), strict=True):
        measure = label.split()[0]
        for split, line, fill in (("train", "o--", "none"), ("test", "o-", "full")):
            for part in ("digit", "sum") if measure == "loss" else COLOURS:
                values = np.array([row[f"{split}_{part}_{measure}"] for row in history])
                drawn = values if measure == "loss" else np.maximum(1 - values, LEAST)
                style = {"color": COLOURS[part], "markersize": 4, "fillstyle": fill}
                axes.plot(epochs, drawn, line, label=f"{split} {part}", **style)
        axes.set_title(f"{measure.capitalize()} ({source})")
        axes.legend(ncols=2, fontsize=9)
        _log_axis(axes, label)
        _epoch_axis(axes, epochs)
    return figure


def _epoch_axis(axes: Axes, epochs: Sequence[float]) -> None:
    """Ticks at whole epochs, and half an epoch of room on both sides."""
    axes.set(xlabel="epoch", xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(steps=(1, 2, 5, 10), integer=True, min_n_ticks=1))


def _log_axis(axes: Axes, label: str) -> None:
    """A logarithmic axis around the data. For an accuracy the data is the share wrong: each nine has equal room."""
    low, high = axes.dataLim.intervaly
    ticks = TICKS[max(0, np.searchsorted(TICKS, low, "right") - 1) : np.searchsorted(TICKS, high) + 1]
    name = f"{label}, on a logarithmic axis" + " of the share wrong" * (label == "accuracy")
    axes.set(yscale="log", ylabel=name, ylim=(ticks[0] / 1.1, ticks[-1] * 1.1))
    axes.minorticks_off()
    axes.set_yticks(ticks, [f"{100 * (1 - tick):.4g} %" if label == "accuracy" else f"{tick:g}" for tick in ticks])
    axes.yaxis.set_inverted(label == "accuracy")


def truth_table(table: Any, source: str, withheld: Sequence[Sequence[int]] = ()) -> Figure:
    """The share of right sums for each digit and number, ``[10, 10]``; pairs withheld are framed."""
    shares = 100 * np.asarray(table)
    axes = _cells(shares, np.vectorize("{:.1f}".format)(shares), min(99.0, np.nanmin(shares)), 100, "cividis")
    note = f"\n(framed: the {len(withheld)} pairs withheld from training)" if withheld else ""
    axes.set(xlabel=f"number{note}", title=f"Right sums, % ({source})")
    for digit, number in withheld:
        axes.add_patch(Rectangle((number - 0.46, digit - 0.46), 0.92, 0.92, fill=False, edgecolor=RED, linewidth=2.5))
    axes.figure.colorbar(axes.images[0], ax=axes, shrink=0.8)
    return axes.figure


def confusion(matrix: Any, source: str) -> Figure:
    """What each digit was read as, counted in pairs ``[10, 10]``; only the mistakes are coloured."""
    counts = np.asarray(matrix)
    wrong = np.where(np.eye(10, dtype=bool), np.nan, counts)
    texts = np.where(counts, np.vectorize("{:,}".format)(counts), "")
    axes = _cells(wrong, texts, 0, max(1, np.nanmax(wrong)), "Blues")
    axes.set(xlabel="read as", title=f"Digits, in (image, number) pairs ({source})")
    return axes.figure


@rc_context(STYLE)
def _cells(values: np.ndarray, texts: np.ndarray, low: float, high: float, colours: str) -> Axes:
    """A 10×10 picture with a row for each digit and a text in each cell, white on dark cells."""
    axes = Figure(figsize=(7.2, 5.4)).subplots()
    picture = axes.imshow(values, colormaps[colours].with_extremes(bad="white"), vmin=low, vmax=high, aspect="auto")
    axes.grid(False)
    axes.set(xticks=range(10), yticks=range(10), ylabel="digit")
    for (row, column), light in np.ndenumerate(picture.to_rgba(values)[..., :3].sum(-1)):
        colour = "white" if light < 1.5 else "black"
        axes.text(column, row, texts[row, column], ha="center", va="center", color=colour, fontsize=9)
    return axes


@rc_context(STYLE)
def lr_range(rates: Any, losses: Any, smoothed: Any, suggestion: float | None, recipe_lr: float, source: str) -> Figure:
    """The loss while the rate rises, the rate suggested and the recipe's rate."""
    axes = Figure(figsize=(7.2, 4.2)).subplots()
    axes.plot(rates, losses, color=BLUE, alpha=0.25, linewidth=1, label="each batch")
    axes.plot(rates, smoothed, color=BLUE, linewidth=2, label="smoothed")
    if suggestion is not None:
        axes.axvline(suggestion, color=RED, label=f"suggested: {suggestion:.2g}")
    axes.axvline(recipe_lr, color=GREEN, linestyle="--", label=f"the recipe's: {recipe_lr:g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss (nats)", title=f"Range test ({source})")
    axes.set_ylim(0, 1.6 * max(smoothed[0], np.median(smoothed)))  # a loss that blows up runs off the top
    axes.legend(fontsize=9)
    return axes.figure


@rc_context(STYLE)
def comparison(accuracies: Accuracies, published: Accuracies, source: str) -> Figure:
    """Accuracies of recipes: a dot for each run, a bar for their mean, a diamond for a published one (in %)."""
    parts = [part for part in (*COLOURS, "withheld_sum") if any(part in runs for runs in accuracies.values())]
    axes = Figure(figsize=(max(7, 4 + 1.3 * len(accuracies)), 4.6)).subplots()
    for index, part in enumerate(parts):
        colour = COLOURS.get(part, RED)
        axes.plot([], [], ".-", color=colour, label=f"{part.replace('_', ' ')}: each run, and their mean")
        for place, (recipe, runs) in enumerate(accuracies.items()):
            place += 0.22 * (index - (len(parts) - 1) / 2)
            for value in published.get(recipe, {}).get(part, ()):
                axes.plot(place, 1 - value / 100, "D", color=colour, fillstyle="none", markersize=8)
            if part in runs:
                wrong = np.maximum(1 - np.asarray(runs[part]), LEAST)
                axes.plot([place] * len(wrong), wrong, ".", color=colour, alpha=0.6)
                axes.plot([place - 0.09, place + 0.09], [wrong.mean()] * 2, color=colour, linewidth=2.5)
    if any(recipe in published for recipe in accuracies):
        axes.plot([], [], "D", color="gray", fillstyle="none", label="published for that system")
    axes.set_title(f"Recipes compared ({source})")
    axes.set_xticks(range(len(accuracies)), list(accuracies))
    axes.grid(False, axis="x")
    _log_axis(axes, "accuracy")
    axes.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return axes.figure


@rc_context(STYLE)
def explain(page: Any, digits: Sequence[Any], thrown: Any, pixels: Any = None) -> Figure:
    """Draw the steps from a picture to its digit: what was found, thrown away, seen by the network.

    `page` is the picture in grey [H, W]; `digits` and `thrown` are bool [H, W], as
    `finding.find_digits` returns them. `pixels` [28, 28] is what the network gets, or None.
    """
    found = np.ones((*np.shape(page), 3))  # white paper
    found[thrown] = matplotlib.colors.to_rgb(ORANGE)
    for place, digit in enumerate(digits):
        found[digit] = matplotlib.colors.to_rgb((BLUE, GREEN, RED)[place % 3])
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
        figure.axes[2].imshow(pixels, cmap="gray_r", vmin=0, vmax=255)
    return figure
