"""How well `predict` reads pictures from outside, and whether it knows when there is no digit.

    python benchmarks/handwriting.py [--model RUN] [--fold N] [--images N] [--fonts DIR] [--out CSV]

The pictures are those of `made_pictures.py`, made of MNIST's test images. Changes to `predict` are
tried with `--fold`: with images of a fold of the training set, other random draws, and a network
(`--model`) that was trained without this fold. Then the threshold of the evidence is found, too.

For the row of fonts, install Debian's packages of handwriting in Latin letters, and give
`--fonts /usr/share/fonts`: fonts-breip, fonts-bwht, fonts-dkg-handwriting, fonts-femkeklaver,
fonts-humor-sans, fonts-rufscript and fonts-sjfonts.
"""

import argparse
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

import made_pictures
from mnist_adder import load_data, load_pretrained, prediction, read_run
from mnist_adder.data import normalise
from mnist_adder.errors import InputError
from store import run_program, write_table

# The folders of these packages' fonts: dkg's has another name.
FONTS = "breip", "bwht", "fifthhorseman", "femkeklaver", "humor-sans", "rufscript", "sjfonts"


def measure(model: torch.nn.Module, name: str, pictures: Iterable, digits: list) -> dict:
    """Let `predict` read pictures, and count its answers; digits are None where there is none."""
    right = 0
    refused = 0
    unsure = 0
    for picture, digit in zip(pictures, digits, strict=True):
        try:
            answer = prediction.predict(model, picture, number=0)
        except InputError:
            refused += 1
            continue
        right += answer.digit == digit
        unsure += not answer.sure
    row = {
        "pictures of": name,
        "right": right,
        "refused": refused,
        "unsure": unsure,
        "of": len(digits),
    }
    print(row, flush=True)
    return row


def digits_in_fonts(folder: Path) -> list[Image.Image]:
    """The ten digits in each of the fonts, wherever in a folder, at three sizes, dark on light."""
    paths = []
    for name in FONTS:
        found = sorted(folder.rglob(f"{name}/*.[ot]tf"))
        if not found:
            sys.exit(f"{folder} has no fonts in a folder {name}: install the packages")
        paths += found
    pictures = []
    for path in paths:
        for size in (40, 100, 240):
            font = ImageFont.truetype(path, size)
            for digit in range(10):
                page = made_pictures.blank(2 * size, 2 * size, 255)
                pen = ImageDraw.Draw(page)
                pen.text((size, size), str(digit), 0, font, "mm")
                pictures.append(page)
    return pictures


def scans_as_pictures() -> list[Image.Image]:
    """scikit-learn's 1,797 scans of 8×8 pixels, enlarged to 160×160, dark on light."""
    pictures = []
    for scan in load_digits().images:  # 0…16, 16 is ink
        picture = made_pictures.as_picture(255 - scan * (255 / 16))
        pictures.append(made_pictures.resized(picture, 160))
    return pictures


@torch.inference_mode()
def calibrate(model: torch.nn.Module, images: torch.Tensor) -> None:
    """Print the thresholds of evidence that few of the images miss."""
    missing = 0.003  # the share
    count = len(images)
    zeros = torch.zeros(count, dtype=torch.int64)
    number = F.one_hot(zeros, 10).float()
    views = prediction.views(images[:, None])
    answers = [model(normalise(view), number)[0] for view in views]
    for name, some in (("predict's three views", answers), ("the page's one view", answers[:1])):
        least = prediction.evidence_of(some).quantile(missing)
        print(f"{name}: {missing:.1%} of {count:,} images have an evidence below {least:.2f} nats")


def measure_all(
    model: torch.nn.Module, images: list[Image.Image], digits: list[int], seed: int
) -> list[dict]:
    """Return a row for each kind of picture that is made of MNIST's images, or of nothing."""
    rows = []
    kinds = {**made_pictures.PLAIN, **made_pictures.SPOILED}
    for name, make in kinds.items():
        draw = np.random.default_rng(seed)
        pictures = (make(image, draw) for image in images)
        rows.append(measure(model, name, pictures, digits))

    draw = np.random.default_rng(seed)
    others = [*images[1:], images[0]]
    pairs = zip(images, others, strict=True)
    pictures = (made_pictures.two(image, other, draw) for image, other in pairs)
    rows.append(measure(model, "two digits", pictures, [None] * len(images)))

    for name, make in made_pictures.OTHER_THINGS.items():
        draw = np.random.default_rng(seed)
        pictures = (make(draw) for _ in images)
        rows.append(measure(model, name, pictures, [None] * len(images)))
    return rows


def measure_scans(model: torch.nn.Module) -> list[dict]:
    """Return a row for each form of scikit-learn's digits."""
    rows = []
    scans = load_data("digits")
    for name, split in (("training", scans.train), ("test", scans.test)):
        pictures = split.images.numpy()
        digits = split.digits.tolist()
        rows.append(measure(model, f"scans, {name} set", pictures, digits))
    digits = load_digits().target.tolist()
    rows.append(measure(model, "scans as pictures", scans_as_pictures(), digits))
    return rows


def main() -> None:
    """Read pictures of every kind, print a row for each, and write the table where asked."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--model", type=Path, metavar="RUN", help="a run (default: the weights)")
    parser.add_argument("--fold", type=int, metavar="N", help="a fold of the training set, 0–11")
    parser.add_argument("--images", type=int, default=500, metavar="N", help="for a row (500)")
    parser.add_argument("--fonts", type=Path, metavar="DIR", help="read digits in fonts, too")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write the results there")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of unsure answers, which are counted
    model = read_run(options.model).model if options.model else load_pretrained()
    test = load_data("mnist", validate=options.fold).test
    if options.fold is not None:
        calibrate(model, test.images)
    seed = 0 if options.fold is None else 1
    images = [Image.fromarray(image) for image in test.images[: options.images].numpy()]
    digits = test.digits[: options.images].tolist()
    rows = measure_all(model, images, digits, seed) + measure_scans(model)
    if options.fonts:
        pictures = digits_in_fonts(options.fonts)
        labels = list(range(10)) * (len(pictures) // 10)
        rows.append(measure(model, "fonts that imitate handwriting", pictures, labels))
    if options.out:
        write_table(options.out, rows, rows[0])


if __name__ == "__main__":
    run_program(main)
