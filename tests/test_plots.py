"""Every figure draws, names its source, and shows what it was given."""

import numpy as np
import pytest
import torch

from mnist_adder import plots
from mnist_adder.data import AdderDataset, Data, Split
from mnist_adder.evaluation import Mistake, evaluate
from mnist_adder.models import QuickNet
from mnist_adder.plots import Figure

PARTS = ("digit_loss", "sum_loss", "digit_accuracy", "sum_accuracy", "joint_accuracy")
IMAGES = torch.randint(0, 255, (30, 28, 28), generator=torch.Generator().manual_seed(0)).byte()
DIGITS = torch.arange(30) % 10


def history(epochs: int) -> list[dict[str, float]]:
    """Return a history in which everything is 1/2, 2/3, 3/4, …"""
    rows = []
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "lr": 0.1 / epoch}
        for split in ("train", "test"):
            row.update({f"{split}_{part}": 1 - 1 / (epoch + 1) for part in PARTS})
        rows.append(row)
    return rows


PERFECT = [{**row, **dict.fromkeys(list(row)[2:], 1.0)} for row in history(3)]
WRONG = [Mistake(index, number, 3, 3 + number, 5, 4) for index in (7, 8, 9) for number in (1, 2)]
TABLE = np.linspace(0.97, 1, 100).reshape(10, 10)
COUNTS = 980 * np.eye(10, dtype=int) + np.eye(10, k=1, dtype=int)
RATES = [0.001, 0.01, 0.1, 1.0]
LACKING = np.where(np.arange(10)[:, None] < 8, TABLE, np.nan)
FIGURES = {
    "samples": lambda: plots.sample_grid(AdderDataset(IMAGES, DIGITS)[:3], "my source"),
    "images": lambda: plots.image_grid(IMAGES[:3], ["a", "b", "c"], "my source"),
    "colours": lambda: plots.image_grid(torch.zeros(9, 3, 32, 32), list("abcdefghi"), "my source"),
    "mistakes": lambda: plots.mistakes(IMAGES, WRONG, "my source"),
    "no mistakes": lambda: plots.mistakes(IMAGES, [], "my source"),
    "curves": lambda: plots.curves(history(4), "my source"),
    "curves of one epoch": lambda: plots.curves(history(1), "my source"),
    "perfect curves": lambda: plots.curves(PERFECT, "my source"),
    "curves without losses": lambda: plots.curves([{"epoch": 1, "lr": 0.1}], "my source"),
    "truth table": lambda: plots.truth_table(TABLE, "my source"),
    "truth table without some digits": lambda: plots.truth_table(LACKING, "my source"),
    "truth table with withheld pairs": lambda: plots.truth_table(
        TABLE, "my source", [[3, 4], [9, 0]]
    ),
    "range test": lambda: plots.lr_range(RATES, RATES, RATES, 0.01, 0.1, "my source"),
    "range test of one batch": lambda: plots.lr_range([1e-5], [2.3], [2.3], None, 0.1, "my source"),
    "confusion": lambda: plots.confusion(COUNTS, "my source"),
    "confusion without mistakes": lambda: plots.confusion(np.eye(10, dtype=int), "my source"),
}


def texts(figure: Figure) -> list[str]:
    shown = [text.get_text() for axes in figure.axes for text in (axes.title, *axes.texts)]
    return [figure.get_suptitle(), *shown]


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.filterwarnings("error", "ignore::DeprecationWarning:matplotlib|pyparsing")
def test_figures_draw_and_name_their_source(name):
    figure = FIGURES[name]()
    assert isinstance(figure, Figure)
    assert any("my source" in text for text in texts(figure))
    assert plots.png(figure).startswith(b"\x89PNG")


def test_a_run_has_its_five_figures_which_are_the_same_each_time(figures):
    split = Split(IMAGES, DIGITS)
    data = Data("my source", split, split, target=lambda digit, number: digit * number)
    torch.manual_seed(0)

    class Net(QuickNet):
        def combine(self, features, number):
            return features, torch.zeros(len(features), data.sum_classes)

    evaluation = evaluate(Net(), data)
    pictures = []
    for _ in range(2):
        drawn = plots.run_figures(data, history(2), evaluation, [(1, 2)])
        pictures.append(plots.png(drawn["samples"]))
    assert list(drawn) == ["samples", "curves", "mistakes", "truth_table", "confusion"]
    assert pictures[0] == pictures[1]
    assert any("my source, test" in text for text in texts(drawn["confusion"]))


def test_mistakes_show_an_image_once_with_truth_and_answer():
    figure = FIGURES["mistakes"]()
    (axes,) = figure.axes
    numbers = (1, 2, 1)  # an image's first wrong number, the next image's second, and so on
    titles = [f"3, {number} → {3 + number}\nsaid 5, 4" for number in numbers]
    assert [text.get_text() for text in axes.texts] == titles
    for text, picture, index in zip(axes.texts, axes.get_images(), (7, 8, 9), strict=True):
        left, right, _, top = picture.get_extent()
        x, y = text.get_position()
        assert left < x < right and y < top  # above its picture; y grows downwards
        assert np.array_equal(picture.get_array(), IMAGES[index])
    assert "6 wrong samples, on 3 images" in figure.get_suptitle()


def test_mistakes_stop_at_most():
    wrong = [Mistake(index, 0, 3, 3, 5, 4) for index in range(30)]
    figure = plots.mistakes(IMAGES, wrong, "my source", most=10)
    extents = {tuple(picture.get_extent()) for picture in figure.axes[0].get_images()}
    assert len(extents) == len(figure.axes[0].get_images()) == 10
    assert "30 images" in figure.get_suptitle()


def test_curves_show_both_splits_by_epoch():
    losses, accuracies, rates = FIGURES["curves"]().axes
    labels = {line.get_label() for line in losses.lines}
    assert labels == {"train digit", "train sum", "test digit", "test sum"}
    labels = {line.get_label() for line in accuracies.lines}
    assert labels == {
        f"{s} {part}" for s in ("train", "test") for part in ("digit", "sum", "joint")
    }
    assert list(rates.lines[0].get_ydata()) == [row["lr"] for row in history(4)]
    for axes in (losses, accuracies, rates):
        assert axes.get_xlabel() == "epoch"
        assert all(list(line.get_xdata()) == [1, 2, 3, 4] for line in axes.lines)


def test_better_accuracies_are_drawn_higher_and_labelled_right():
    axes = FIGURES["curves"]().axes[1]
    wrong = axes.lines[0].get_ydata()
    assert wrong == pytest.approx([1 / 2, 1 / 3, 1 / 4, 1 / 5])
    heights = axes.transData.transform([(1, y) for y in wrong])[:, 1]
    assert list(heights) == sorted(heights)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels
    for share, label in zip(axes.get_yticks(), labels, strict=True):
        assert float(label.removesuffix(" %")) == pytest.approx(100 * (1 - share))


@pytest.mark.parametrize(
    ("name", "text", "xlabel"), [("truth table", "97.0", "number"), ("confusion", "980", "read as")]
)
def test_tables_write_their_cells(name, text, xlabel):
    axes = FIGURES[name]().axes[0]
    assert len(axes.texts) == 100
    assert axes.texts[0].get_text() == text
    assert (axes.get_xlabel(), axes.get_ylabel()) == (xlabel, "digit")


def test_withheld_cells_are_framed():
    axes = FIGURES["truth table with withheld pairs"]().axes[0]
    centres = [(frame.get_x() + 0.46, frame.get_y() + 0.46) for frame in axes.patches]
    assert np.allclose(centres, [(4, 3), (0, 9)])  # number across, digit down
    assert "2 pairs withheld" in axes.get_xlabel()
    assert not FIGURES["truth table"]().axes[0].patches


def test_the_range_test_marks_both_rates():
    axes = FIGURES["range test"]().axes[0]
    marked = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]
    assert marked == [0.01, 0.1]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[2:] == ["suggested: 0.01", "the recipe's: 0.1"]
