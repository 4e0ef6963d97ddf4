"""Every figure draws, names its source, and shows what it was given."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from mnist_adder import plots
from mnist_adder.evaluation import Mistake

PARTS = ("digit_loss", "sum_loss", "digit_accuracy", "sum_accuracy", "joint_accuracy")
IMAGES = np.random.default_rng(0).integers(0, 255, (30, 28, 28), dtype=np.uint8)


def history(epochs: int) -> list[dict[str, float]]:
    return [
        {"epoch": epoch, "lr": 0.1 / epoch}
        | {f"{split}_{part}": 1 - 1 / (epoch + 1) for split in ("train", "test") for part in PARTS}
        for epoch in range(1, epochs + 1)
    ]


WRONG = [Mistake(index, number, 3, 3 + number, 5, 4) for index in (7, 8, 9) for number in (1, 2)]
TABLE = np.linspace(0.97, 1, 100).reshape(10, 10)
COUNTS = 980 * np.eye(10, dtype=int) + np.eye(10, k=1, dtype=int)
RATES = [0.001, 0.01, 0.1, 1.0]
SHARES = {
    "adder": {"digit": [1.0], "sum": [0.99], "joint": [0.98]},
    "cascade": {"digit": [0.1, 0.2], "sum": [0.1, 0.2], "joint": [0.01, 0.0]},
}

FIGURES = {
    "sample_grid": lambda: plots.sample_grid(IMAGES[:3], [3, 0, 9], [4, 0, 9], [7, 0, 18], "my source"),
    "image_grid": lambda: plots.image_grid(IMAGES[:3], ["a", "b", "c"], "my source"),
    "mistakes": lambda: plots.mistakes(IMAGES, WRONG, "my source"),
    "no mistakes": lambda: plots.mistakes(IMAGES, [], "my source"),
    "curves": lambda: plots.curves(history(4), "my source"),
    "curves of one epoch": lambda: plots.curves(history(1), "my source"),
    "perfect curves": lambda: plots.curves(
        [row | dict.fromkeys((k for k in row if "accuracy" in k), 1.0) for row in history(3)], "my source"
    ),
    "truth_table": lambda: plots.truth_table(TABLE, "my source"),
    "truth_table without some digits": lambda: plots.truth_table(
        np.where(np.arange(10)[:, None] < 8, TABLE, np.nan), "my source"
    ),
    "truth_table with withheld pairs": lambda: plots.truth_table(TABLE, "my source", [[3, 4], [9, 0]]),
    "lr_range": lambda: plots.lr_range(RATES, RATES, RATES, 0.01, 0.1, "my source"),
    "lr_range of one batch": lambda: plots.lr_range([1e-5], [2.3], [2.3], None, 0.1, "my source"),
    "comparison": lambda: plots.comparison(SHARES, {"cascade": {"digit": [99.32]}}, "my source"),
    "comparison of one run": lambda: plots.comparison({"adder": SHARES["adder"]}, {}, "my source"),
    "confusion": lambda: plots.confusion(COUNTS, "my source"),
    "confusion without mistakes": lambda: plots.confusion(980 * np.eye(10, dtype=int), "my source"),
}


def titles(figure: Figure) -> list[str]:
    texts = [text.get_text() for axes in figure.axes for text in (axes.title, *axes.texts)]
    return [figure.get_suptitle(), *texts]


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.filterwarnings("error", "ignore::DeprecationWarning:matplotlib|pyparsing")  # matplotlib's own
def test_figures_draw_and_name_their_source(name):
    figure = FIGURES[name]()
    assert isinstance(figure, Figure)
    assert any("my source" in title for title in titles(figure))
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    assert picture.getvalue().startswith(b"\x89PNG")


def test_samples_are_titled_with_their_sums():
    shown = titles(FIGURES["sample_grid"]())
    assert {"3, 4 → 7", "0, 0 → 0", "9, 9 → 18"} <= set(shown)


def test_mistakes_show_an_image_once_with_truth_and_answer():
    figure = FIGURES["mistakes"]()
    (axes,) = figure.axes
    numbers = (1, 2, 1)  # an image's first wrong number, the next image's second, and so on
    assert [text.get_text() for text in axes.texts] == [f"3, {n} → {3 + n}\nsaid 5, 4" for n in numbers]
    for text, picture, index in zip(axes.texts, axes.get_images(), (7, 8, 9), strict=True):
        left, right, bottom, top = picture.get_extent()
        x, y = text.get_position()
        assert left < x < right and y < top < bottom  # above its picture; y grows downwards
        assert np.array_equal(picture.get_array(), IMAGES[index])
    assert "6 wrong pairs, on 3 images" in figure.get_suptitle()


def test_mistakes_stop_at_most():
    wrong = [Mistake(index, 0, 3, 3, 5, 4) for index in range(30)]
    figure = plots.mistakes(IMAGES, wrong, "my source", most=10)
    pictures = figure.axes[0].get_images()
    assert len({tuple(picture.get_extent()) for picture in pictures}) == len(pictures) == 10
    assert "30 images" in figure.get_suptitle()


def test_curves_show_both_splits_by_epoch():
    losses, accuracies, rates = FIGURES["curves"]().axes
    assert {line.get_label() for line in losses.lines} == {
        f"{split} {part}" for split in ("train", "test") for part in ("digit", "sum")
    }
    assert {line.get_label() for line in accuracies.lines} == {
        f"{split} {part}" for split in ("train", "test") for part in ("digit", "sum", "joint")
    }
    assert list(rates.lines[0].get_ydata()) == [row["lr"] for row in history(4)]
    for axes in (losses, accuracies, rates):
        assert axes.get_xlabel() == "epoch"
        assert all(list(line.get_xdata()) == [1, 2, 3, 4] for line in axes.lines)


def test_better_accuracies_are_drawn_higher_and_labelled_right():
    axes = FIGURES["curves"]().axes[1]
    drawn = axes.transData.transform([(1, y) for y in axes.lines[0].get_ydata()])[:, 1]
    assert list(drawn) == sorted(drawn)  # the accuracies made up above rise
    assert axes.lines[0].get_ydata() == pytest.approx([1 / 2, 1 / 3, 1 / 4, 1 / 5])
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels
    for share, label in zip(axes.get_yticks(), labels, strict=True):
        assert float(label.removesuffix(" %")) == pytest.approx(100 * (1 - share))


@pytest.mark.parametrize(
    ("name", "text", "xlabel"), [("truth_table", "97.0", "number"), ("confusion", "980", "read as")]
)
def test_tables_write_their_cells(name, text, xlabel):
    axes = FIGURES[name]().axes[0]
    assert len(axes.texts) == 100
    assert axes.texts[0].get_text() == text
    assert (axes.get_xlabel(), axes.get_ylabel()) == (xlabel, "digit")


def test_withheld_cells_are_framed():
    axes = FIGURES["truth_table with withheld pairs"]().axes[0]
    centres = [(frame.get_x() + 0.46, frame.get_y() + 0.46) for frame in axes.patches]
    assert np.allclose(centres, [(4, 3), (0, 9)])  # number across, digit down
    assert "2 pairs withheld" in axes.get_xlabel()
    assert not FIGURES["truth_table"]().axes[0].patches


def test_the_range_test_marks_both_rates():
    axes = FIGURES["lr_range"]().axes[0]
    marked = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]
    assert marked == [0.01, 0.1]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[2:] == ["suggested: 0.01", "the recipe's: 0.1"]


def test_published_figures_stand_beside_their_recipe():
    axes = FIGURES["comparison"]().axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["adder", "cascade"]
    (diamond,) = (line for line in axes.lines if line.get_marker() == "D" and len(line.get_xdata()))
    assert round(diamond.get_xdata()[0]) == 1
    assert np.isclose(diamond.get_ydata()[0], 0.0068)


def test_a_figure_shows_itself_in_a_script(monkeypatch):
    from matplotlib import pyplot

    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(pyplot.gcf()))
    figure = plots.image_grid([], [], "nothing")
    figure.show()
    assert shown == [figure]
    pyplot.close(figure)
