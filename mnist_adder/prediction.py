"""Find the digit in a picture, lay it out as MNIST does, and let the network predict."""

import io
import os
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from skimage import filters, measure, morphology
from torch import Tensor, nn

from .data import NUMBERS, normalise, one_hot_number
from .errors import InputError
from .sources import mnist_layout

MAX_PIXELS = 25_500_000  # A JPEG may have twice as many: it can be decoded at a reduced size.
MAX_SIDE = 384  # A larger picture is shrunk to this many pixels on its longer side.
FAINTEST = 0.06  # Ink must take away this share of the paper's brightness.
STRONG = 0.4  # A pixel with this share of a stroke's ink certainly belongs to the stroke.
MIN_STROKE_WIDTH = 1.8  # Thinner strokes are thickened. The unit is a pixel of MNIST's 20×20 box.
MIN_PATCH_AREA = 0.05  # A patch of ink below this share of the largest patch's area is dirt.


class Prediction(NamedTuple):
    """The network's answer for one image and one number."""

    digit: int
    sum: int
    digit_probabilities: list[float]  # [10]
    sum_probabilities: list[float]  # [19]
    pixels: Tensor  # uint8 [28, 28]: the image as the network received it, before normalisation
    sure: bool = True


class Steps(NamedTuple):
    """What was found in a picture, on the way to the digit; all are [H, W]."""

    page: np.ndarray  # float: the picture in grey, without what lies around a sheet; ink is dark
    ink: np.ndarray  # float: the share of the paper's brightness that is missing
    digits: list[np.ndarray]  # bool: the strokes of each digit
    thrown: np.ndarray  # bool: ink that is not the digit's


def to_mnist(image: Any) -> Tensor:
    """Find the one digit in a picture and lay it out as MNIST does: uint8 [28, 28], 255 is ink."""
    steps = find_digits(image)
    if not steps.digits:
        raise InputError("the image has no ink: it is a blank page, or the digit is too faint")
    if len(steps.digits) > 1:
        raise InputError(f"there are {len(steps.digits)} digits in the image: cut one out")
    return mnist_layout(torch.from_numpy(_draw(steps)).float())


def find_digits(image: Any) -> Steps:
    page = _grey(image)
    if min(page.shape) < 4:
        raise InputError("the image is too small: a digit needs 4×4 pixels or more")
    page = _sheet(page)
    if _ink_is_light(page):
        page = 1 - page
    ink = _ink(page)
    strokes = _strokes(ink)
    digits, thrown = _sort(strokes)
    return Steps(page, ink, digits, thrown)


def _square(side: int) -> Any:
    return morphology.footprint_rectangle((side, side), decomposition="separable")


def _grey(image: Any) -> np.ndarray:
    """Return a picture as float [H, W] in 0…1."""
    colours = _colours(image)  # [H, W, C]
    # The direction in colour space along which the pixels differ most tells ink from paper best.
    covariance = np.cov(colours.reshape(-1, colours.shape[2]), rowvar=False)
    weights = np.linalg.eigh(np.atleast_2d(covariance)).eigenvectors[:, -1]
    weights = (weights * np.sign(weights.sum() or 1)).clip(0)
    return colours @ (weights / weights.sum())


def _colours(image: Any) -> np.ndarray:
    """Return a picture's colours as float [H, W, C] in 0…1, shrunk to `MAX_SIDE`, without alpha."""
    try:
        if not isinstance(image, Image.Image) or image.mode[0] in "IF":
            array = np.asarray(image)
            scales = {np.uint8: [255], np.uint16: [65535]}.get(array.dtype.type, [1, 255, 65535])
            scale = next(scale for scale in scales if 0 <= array.min() <= array.max() <= scale)
            image = Image.fromarray(np.uint8(array * np.float32(255 / scale)))
        image = image.convert("LA" if image.mode in ("1", "L", "LA") else "RGBA")
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    except (TypeError, ValueError, OSError, StopIteration) as error:
        raise InputError("not an image, nor an array [H, W], [H, W, 3] or [H, W, 4]") from error
    pixels = np.array(image, float) / 255
    colours = pixels[:, :, :-1]
    alpha = pixels[:, :, -1:]
    mean = (colours * alpha).sum() / max(colours.shape[2] * alpha.sum(), 1e-9)
    # A mostly transparent picture is ink alone: its paper has the other brightness.
    paper = np.round(mean) if alpha.mean() > 0.5 else 1 - np.round(mean)
    return colours * alpha + paper * (1 - alpha)


def _sheet(page: np.ndarray) -> np.ndarray:
    """Return the sheet of paper alone, if it lies on a table."""
    calm = filters.median(page, np.ones((3, 3)))
    light = calm > filters.threshold_otsu(calm) if np.ptp(calm) > 0 else calm > 0
    for area in (light, ~light):
        regions = measure.regionprops(measure.label(area))
        region = max(regions, key=lambda r: r.area_bbox, default=None)
        if region is None or region.area_bbox < 0.15 * page.size:
            continue
        top, left, bottom, right = region.bbox
        sides = (top > 0) + (left > 0) + (bottom < page.shape[0]) + (right < page.shape[1])
        if sides < 3 or not 0.6 < region.area / region.area_filled < 0.97:
            continue
        if not _rectangular(region.image_filled):
            continue
        inside = np.pad(region.image_filled, 1)
        inside = morphology.erosion(inside, _square(2 * (min(page.shape) // 100) + 5))[1:-1, 1:-1]
        return np.where(inside, page[region.slice], np.median(page[region.slice][region.image]))
    return page


def _rectangular(shape: np.ndarray) -> bool:
    """Whether a shape, bool [H, W], fills most of a rectangle, which may be turned."""
    y, x = shape.nonzero()
    for angle in np.radians(np.arange(-45, 45, 5)):
        along = x * np.cos(angle) + y * np.sin(angle)
        across = y * np.cos(angle) - x * np.sin(angle)
        if shape.sum() > 0.88 * (np.ptp(along) + 1) * (np.ptp(across) + 1):
            return True
    return False


def _hats(page):
    size = min(page.shape)
    calm = page
    if size >= 100:
        calm = filters.median(page, np.ones((3, 3)))
    window = 2 * (size // 4) + 1
    dark = morphology.closing(calm, _square(window), mode="reflect") - calm
    light = calm - morphology.opening(calm, _square(window), mode="reflect")
    return dark, light


def _ink_is_light(page: np.ndarray) -> bool:
    dark, light = _hats(page)
    votes = (dark.mean() - light.mean()) / (dark.mean() + light.mean() + 1e-9)
    band = max(1, min(page.shape) // 20)
    for turn in range(4):
        d = np.rot90(dark, turn)[:band].mean()
        l = np.rot90(light, turn)[:band].mean()
        votes += (l - d) / (l + d + 0.1) / 4
    return votes < 0


def _ink(page: np.ndarray) -> np.ndarray:
    """Return the share of the paper's brightness that is missing, float [H, W], without shadows."""
    size = min(page.shape)
    # Opening removes light specks; closing fills whatever is dark and narrow with paper.
    paper = morphology.opening(page, _square(2 * (size // 80) + 1), mode="reflect")
    paper = morphology.closing(paper, _square(2 * (size // 4) + 1), mode="reflect")
    return 1 - page / paper.clip(0.05)


def _strokes(ink: np.ndarray) -> np.ndarray:
    """Return where ink certainly is, bool [H, W]."""
    smooth = filters.gaussian(ink, min(ink.shape) / 300)
    typical = np.quantile(smooth, 0.3)
    noise = typical - np.quantile(smooth, 0.05)
    low = max(FAINTEST, 4 * noise)
    smooth = smooth - typical
    strokes = filters.apply_hysteresis_threshold(smooth, low, 1.5 * low)
    for region in measure.regionprops(measure.label(strokes), intensity_image=ink - typical):
        contrast = np.quantile(region.image_intensity[region.image], 0.9)
        strokes[region.slice] &= ~region.image | (region.image_intensity > STRONG * contrast)
    return strokes


def _sort(strokes: np.ndarray):
    size = max(strokes.shape)
    joined = morphology.dilation(strokes, _square(2 * (size // 128) + 3))
    labels = measure.label(joined) * strokes
    regions = measure.regionprops(labels)
    digits = []
    thrown = np.zeros_like(strokes)
    kept = [r for r in regions if not _is_frame(r, regions, strokes.shape)]
    kept = _without_lines(kept, strokes.shape)
    kept = _without_border(kept, strokes.shape)
    biggest = max((r.area for r in kept), default=0)
    kept = [r for r in kept if r.area >= MIN_PATCH_AREA * biggest]
    groups = _group(kept)
    digits = [np.isin(labels, [r.label for r in group]) for group in groups]
    thrown = strokes & ~np.any([*digits, np.zeros_like(strokes)], axis=0)
    return digits, thrown


def _height(r):
    return r.bbox[2] - r.bbox[0]


def _width(r):
    return r.bbox[3] - r.bbox[1]


def _is_frame(region, regions, shape) -> bool:
    """Whether a patch runs along the sides of its box, and something lies inside."""
    top, left, bottom, right = region.bbox
    sizeable = [
        r for r in regions
        if r.bbox[0] > top and r.bbox[1] > left and r.bbox[2] < bottom and r.bbox[3] < right
        and _height(r) > 0.2 * _height(region)
    ]
    if not sizeable:
        return False
    y, x = region.image.nonzero()
    height, width = region.image.shape
    near = np.minimum(np.minimum(y, height - 1 - y), np.minimum(x, width - 1 - x))
    return (near <= max(2, 0.1 * min(height, width))).mean() > 0.85


def _without_lines(regions, shape):
    tallest = max((_height(r) for r in regions), default=0)
    kept = []
    for r in regions:
        h, w = _height(r), _width(r)
        others = [o for o in regions if o is not r and _height(o) > 2 * h and _height(o) > 0.3 * tallest]
        flat = h < 0.25 * w
        line = flat and any(r.bbox[0] >= o.bbox[2] - 0.1 * _height(o) or w > 1.3 * _width(o) for o in others)
        strip = (h > 0.9 * shape[0] and w < 0.25 * shape[1] and (r.bbox[1] == 0 or r.bbox[3] == shape[1])) or (
            w > 0.9 * shape[1] and h < 0.25 * shape[0] and (r.bbox[0] == 0 or r.bbox[2] == shape[0])
        )
        if not (line or (strip and len(regions) > 1)):
            kept.append(r)
    return kept


def _without_border(regions, shape):
    inner = [
        r for r in regions
        if r.bbox[0] > 0 and r.bbox[1] > 0 and r.bbox[2] < shape[0] and r.bbox[3] < shape[1]
    ]
    tallest = max((_height(r) for r in regions), default=0)
    if any(_height(r) > 0.5 * tallest for r in inner):
        return inner
    return regions


def _group(regions):
    regions = sorted(regions, key=lambda r: -r.area)
    groups = []
    for r in regions:
        for group in groups:
            main = group[0]
            size = _height(main)
            gap = max(
                main.bbox[0] - r.bbox[2], r.bbox[0] - main.bbox[2],
                main.bbox[1] - r.bbox[3], r.bbox[1] - main.bbox[3],
            )
            if gap < 0.12 * size:
                group.append(r)
                break
        else:
            if not groups or _height(r) > 0.5 * _height(groups[0][0]):
                groups.append([r])
    return groups


def _draw(steps: Steps) -> np.ndarray:
    strokes = steps.digits[0]
    ink = (steps.ink - np.quantile(steps.ink, 0.3)).clip(0)
    rows, columns = strokes.nonzero()
    scale = max(np.ptp(rows), np.ptp(columns)) / 20 + 0.05  # pixels of the picture per pixel of MNIST
    window = _square(2 * max(1, round(scale)) + 1)
    near = morphology.dilation(strokes, window)  # the strokes with their soft edges
    near &= ~morphology.dilation(steps.thrown, _square(3))
    background = ink[~morphology.dilation(near | steps.thrown, window)]
    noise = 1.5 * np.quantile(background, 0.99) if background.size else 0
    full = np.quantile(ink[strokes], 0.95)
    ink = np.where(near & (ink > min(noise, STRONG * full)), ink / full, 0).clip(0, 1)
    outline = strokes & ~morphology.erosion(strokes, _square(3))
    width = 2 * strokes.sum() / max(1, outline.sum())  # A stroke's outline runs along both sides.
    thicken = max(0, round((MIN_STROKE_WIDTH * scale - width) / 2))
    return morphology.dilation(ink, _square(2 * thicken + 1))


def predict(model: nn.Module, image: Any, number: int) -> Prediction:
    """Read the digit in an image and add a number, 0–9, to it."""
    if isinstance(number, bool) or number not in range(NUMBERS):
        raise InputError(f"number must be a whole number from 0 to 9, not {number!r}")
    prefix = f"{os.fspath(image)}: " if isinstance(image, str | os.PathLike) else ""
    try:
        pixels = to_mnist(read_image(image) if prefix or isinstance(image, bytes) else image)
    except InputError as error:
        raise InputError(f"{prefix}{error}") from error
    device = next(model.parameters(), pixels).device
    one_hot = one_hot_number(torch.tensor([int(number)]))
    with torch.inference_mode():
        log_probs, logits = model(normalise(pixels[None]).to(device), one_hot.to(device))
    probabilities = log_probs[0].exp().cpu(), logits[0].softmax(0).cpu()
    if not torch.cat(probabilities).isfinite().all():
        raise InputError("the network's answer is not a number: train it again or use other weights")
    return Prediction(*(int(p.argmax()) for p in probabilities), *(p.tolist() for p in probabilities), pixels)


def read_image(source: str | os.PathLike | bytes) -> Image.Image:
    """Decode a picture's file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            file = io.BytesIO(source) if isinstance(source, bytes) else source
            image = Image.open(file, formats=("PNG", "JPEG", "BMP", "GIF", "WEBP"))
        with image:
            jpeg = image.format in ("JPEG", "MPO")  # MPO: a phone's JPEG with several pictures
            if image.width * image.height > (2 * MAX_PIXELS if jpeg else MAX_PIXELS):
                raise Image.DecompressionBombError
            animated = not jpeg and getattr(image, "is_animated", False)
            image.draft(None, (2 * MAX_SIDE, 2 * MAX_SIDE))
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = f"{MAX_PIXELS:,} (JPEG: {2 * MAX_PIXELS:,}) pixels"
        raise InputError(f"the image has more than {limit}: make it smaller") from error
    except Image.UnidentifiedImageError as error:
        raise InputError("it is empty" if source == b"" else "not a PNG, JPEG, BMP or GIF image") from error
    except Exception as error:  # Pillow's decoders raise many kinds of errors for damaged files.
        raise InputError((getattr(error, "strerror", None) or "the image is truncated or damaged").lower()) from error
    if animated:
        raise InputError("the image is animated: save one frame of it")
    return image
