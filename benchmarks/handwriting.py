"""How well `predict` reads pictures from outside, and whether it knows when there is no digit.

    python benchmarks/handwriting.py [--model RUN] [--fold N] [--images N] [--fonts DIR] [--out CSV]

The pictures are those of `made_pictures.py`, made of MNIST's test images. Changes to `predict` are
tried with `--fold`: with images of a fold of the training set, other random draws, and a network
(`--model`) that was trained without this fold. Then the threshold of the evidence is found, too,
and the temperature that would calibrate the probabilities best.
"""

import argparse
import csv
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

import made_pictures
from mnist_adder import load_pretrained, prediction, read_run
from mnist_adder.data import normalise
from mnist_adder.errors import InputError
from mnist_adder.sources import load_data

FIELDS = ["pictures of", "right", "refused", "unsure", "of"]


def measure(model: torch.nn.Module, name: str, pictures: Iterable, digits: list) -> dict:
    """Let `predict` read pictures, and count its answers; digits are None where there is none."""
    row = dict.fromkeys(FIELDS, 0)
    row["pictures of"] = name
    for picture, digit in zip(pictures, digits, strict=True):
        row["of"] += 1
        try:
            answer = prediction.predict(model, picture, 0)
        except InputError:
            row["refused"] += 1
            continue
        row["right"] += answer.digit == digit
        row["unsure"] += not answer.sure
    print("{:45} right {:4} refused {:4} unsure {:4} of {:4}".format(*row.values()), flush=True)
    return row


def digits_in_fonts(folder: Path) -> list[Image.Image]:
    """The ten digits in every font of a folder, at three sizes, dark on light."""
    pictures = []
    for path in sorted(folder.rglob("*.[ot]tf")):
        for size in (40, 100, 240):
            font = ImageFont.truetype(path, size)
            for digit in range(10):
                page = Image.new("L", (2 * size, 2 * size), 255)
                ImageDraw.Draw(page).text((size, size), str(digit), 0, font, "mm")
                pictures.append(page)
    return pictures


def scans_as_pictures() -> list[Image.Image]:
    """scikit-learn's 1,797 scans of 8×8 pixels, enlarged to 160×160, dark on light."""
    scans = np.uint8(255 - load_digits().images * (255 / 16))
    return [Image.fromarray(scan).resize((160, 160), Image.Resampling.BICUBIC) for scan in scans]


@torch.inference_mode()
def calibrate(model: torch.nn.Module, images: torch.Tensor, digits: torch.Tensor) -> None:
    """Print the threshold that 1 % of the images miss, and the best temperature."""
    number = F.one_hot(torch.zeros(len(images), dtype=torch.int64), 10).float()
    answers = [model(normalise(view), number)[0] for view in prediction.views(images[:, None])]
    evidence = prediction.evidence_of(answers)
    print(
        f"1 % of {len(images):,} images have an evidence below {evidence.quantile(0.01):.2f} nats"
    )
    losses = {}
    for percent in range(50, 200, 5):
        log_probs = F.log_softmax(answers[0] * 100 / percent, 1)
        losses[percent / 100] = float(F.nll_loss(log_probs, digits))
    best = min(losses, key=losses.get)
    print(f"best temperature {best}: NLL {losses[best]:.5f} nats, {losses[1.0]:.5f} without it")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, metavar="RUN", help="a run (default: the weights)")
    parser.add_argument("--fold", type=int, metavar="N", help="a fold of the training set, 0–11")
    parser.add_argument("--images", type=int, default=500, metavar="N", help="for a row (500)")
    parser.add_argument("--fonts", type=Path, metavar="DIR", help="read digits in its fonts, too")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write the results there")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of unsure answers, which are counted
    model = read_run(options.model).model if options.model else load_pretrained()
    model.eval()
    test = load_data("mnist", validate=options.fold).test
    if options.fold is not None:
        calibrate(model, test.images, test.digits)
    seed = 0 if options.fold is None else 1
    images = [Image.fromarray(image) for image in test.images[: options.images].numpy()]
    digits = test.digits[: options.images].tolist()
    rows = []
    for name, make in {**made_pictures.PLAIN, **made_pictures.SPOILED}.items():
        draw = np.random.default_rng(seed)
        pictures = (make(image, draw) for image in images)
        rows.append(measure(model, name, pictures, digits))
    draw = np.random.default_rng(seed)
    others = [*images[1:], images[0]]
    pairs = (made_pictures.two(*pair, draw) for pair in zip(images, others, strict=True))
    rows.append(measure(model, "two digits", pairs, [None] * len(images)))
    for name, make in made_pictures.OTHER_THINGS.items():
        draw = np.random.default_rng(seed)
        count = options.images // 4
        rows.append(measure(model, name, (make(draw) for _ in range(count)), [None] * count))
    scans = load_data("digits")
    for name, split in (("training", scans.train), ("test", scans.test)):
        pictures = split.images.numpy()
        rows.append(measure(model, f"digits' {name} set", pictures, split.digits.tolist()))
    pictures = scans_as_pictures()
    rows.append(measure(model, "digits as pictures", pictures, load_digits().target.tolist()))
    if options.fonts:
        pictures = digits_in_fonts(options.fonts)
        labels = list(range(10)) * (len(pictures) // 10)
        rows.append(measure(model, "fonts that imitate handwriting", pictures, labels))
    if options.out:
        with open(options.out, "w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
