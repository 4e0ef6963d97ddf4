"""How well `predict` reads pictures from outside: MNIST images made into files of many kinds, and fonts.

    python benchmarks/handwriting.py [--model RUN] [--images N] [--train] [--fonts DIR] [--out CSV]

Changes to `mnist_adder/prediction.py` are tried with `--train`; figures are reported without it.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from mnist_adder import load_pretrained, prediction, read_run
from mnist_adder.data import normalise
from mnist_adder.runs import files
from mnist_adder.sources import load_data


def enlarge(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    return image.resize(2 * (int(draw.integers(170, 201)),), Image.Resampling.BICUBIC)


def inverted(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    return Image.fromarray(255 - np.asarray(enlarge(image, draw)))


def off_centre(image: Image.Image, draw: np.random.Generator, paper: int = 0) -> Image.Image:
    image = enlarge(image, draw)
    canvas = Image.new("L", (480, 360), paper)
    canvas.paste(image, tuple(int(draw.integers(0, c - i)) for c, i in zip(canvas.size, image.size, strict=True)))
    return canvas


def grey(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    paper = int(draw.integers(100, 200))
    ink = np.asarray(enlarge(image, draw)) / 255
    return Image.fromarray(np.uint8(paper * (1 - ink) + 20 * ink))


def shadow(image: Image.Image, draw: np.random.Generator, hard: bool = False) -> Image.Image:
    """A page, dark on light, half as bright on one of its four sides as on the other."""
    page = np.asarray(inverted(off_centre(image, draw), draw), float)
    light = np.linspace(0.5, 1, len(page))
    light = np.where(light < 0.75, 0.5, 1) if hard else light
    return Image.fromarray(np.uint8(page * np.rot90(np.tile(light, (len(page), 1)), draw.integers(4))))


def everything(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    """Pencil on a larger grey page, in soft light from one side, with a camera's noise, in colour."""
    page = np.asarray(shadow(image, draw), float) / 255
    page = 210 * (0.45 + 0.55 * page) + draw.normal(0, 6, page.shape)
    return Image.fromarray(np.uint8(page.clip(0, 255))).convert("RGB")


VARIANTS = {
    "28×28 PNG": (lambda image, draw: image, "PNG"),
    "enlarged to 170–200 pixels": (enlarge, "PNG"),
    "… and dark on light": (inverted, "PNG"),
    "… and off-centre on 480×360": (off_centre, "PNG"),
    "… and on grey paper": (grey, "PNG"),
    "… and as JPEG": (inverted, "JPEG"),
    "page with a soft shadow to half": (shadow, "PNG"),
    "page with a hard shadow to half": (lambda image, draw: shadow(image, draw, True), "PNG"),
    "pencil, grey page, soft shadow, noise, JPEG": (everything, "JPEG"),
}


def as_file(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@torch.inference_mode()
def classify(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The digits that the network reads, int64 [N]."""
    return torch.cat([model.features(part).argmax(1) for part in normalise(images).split(1000)])


def digits_read(model: torch.nn.Module, pictures: list[bytes]) -> torch.Tensor:
    """What `predict` would answer, int64 [N]; only the network runs on all at once."""
    return classify(model, torch.stack([prediction.to_mnist(prediction.read_image(picture)) for picture in pictures]))


def font_files(folder: Path) -> dict[str, list[bytes]]:
    """The ten digits in every font of a folder, at three sizes, dark on light."""
    fonts = {}
    for path in sorted(folder.rglob("*.[ot]tf")):
        fonts[path.stem] = []
        for size in (40, 100, 240):
            font = ImageFont.truetype(path, size)
            for digit in range(10):
                page = Image.new("L", (2 * size, 2 * size), 255)
                ImageDraw.Draw(page).text((size, size), str(digit), 0, font, "mm")
                fonts[path.stem].append(as_file(page, "PNG"))
    return fonts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, metavar="RUN", help="a run's folder (default: the shipped one)")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--train", action="store_true", help="take images of the training set")
    parser.add_argument("--fonts", type=Path, metavar="DIR", help="read digits in its fonts, too")
    parser.add_argument("--out", type=Path, metavar="CSV", help="also write the results to this file")
    options = parser.parse_args()
    model = read_run(options.model).model if options.model else load_pretrained()
    data = load_data("mnist")
    split = data.train if options.train else data.test
    images, digits = (part[: options.images] for part in split)
    rows = []

    def report(name: str, right: torch.Tensor) -> None:
        rows.append({"as": name, "right": int(right.sum()), "of": len(right)})
        print(f"{name:45} {rows[-1]['right']:6,} of {len(right):,}", flush=True)

    report("as it is, without predict", classify(model, images) == digits)
    for name, (make, kind) in VARIANTS.items():
        draw = np.random.default_rng(0)
        pictures = [as_file(make(Image.fromarray(image), draw), kind) for image in images.numpy()]
        report(name, digits_read(model, pictures) == digits)
    for name, pictures in font_files(options.fonts).items() if options.fonts else ():
        report(f"font {name}", digits_read(model, pictures) == torch.arange(10).repeat(3))
    if options.out:
        files.write_csv(options.out, rows)


if __name__ == "__main__":
    main()
