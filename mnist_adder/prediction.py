"""Find the digit in a picture, lay it out as MNIST does, and let the network predict."""

import os
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from skimage import filters, measure, morphology
from torch import Tensor, nn

from .data import NUMBERS, normalise, one_hot_number
from .errors import InputError
from .pictures import colours_of, read_image
from .sources import mnist_layout

FAINTEST = 0.06  # Ink must take away this share of the paper's brightness, or it is none.
STRONG = 0.4  # A pixel with this share of its stroke's darkest ink certainly belongs to the stroke.
MIN_PATCH_AREA = 0.05  # A patch of ink below this share of the largest patch's area is dirt.
MIN_STROKE_WIDTH = 1.8  # Thinner strokes are thickened. The unit is a pixel of MNIST's 20×20 box.


class Prediction(NamedTuple):
    """The network's answer for one image and one number."""

    digit: int
    sum: int
    digit_probabilities: list[float]  # [10]
    sum_probabilities: list[float]  # [19]
    pixels: Tensor  # uint8 [28, 28]: the image as the network received it, before normalisation
    sure: bool = True  # whether the image looks like a digit to the network


class Steps(NamedTuple):
    """What was found in a picture on the way to its digit."""

    page: np.ndarray  # float [H, W]: the picture in grey, without a table around the sheet
    ink: np.ndarray  # float [H, W]: the share of the paper's brightness that is missing
    digits: list[np.ndarray]  # bool [H, W] each: the strokes of a digit
    thrown: np.ndarray  # bool [H, W]: other ink


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


def to_mnist(image: Any) -> Tensor:
    """Find the one digit in a picture and lay it out as MNIST does: uint8 [28, 28], 255 is ink.

    The picture is a Pillow image or an array, as `pictures.colours_of` takes it; the digit may be
    dark or light. `InputError` for what is no image, smaller than 4×4 pixels, or blank, and for a
    picture of several digits.
    """
    steps = find_digits(image)
    if not steps.digits:
        raise InputError("the image has no ink: it is a blank page, or the digit is too faint")
    if len(steps.digits) > 1:
        raise InputError(f"the image shows {len(steps.digits)} digits: cut out one of them")
    return mnist_layout(torch.from_numpy(_draw(steps)).float())


def find_digits(image: Any) -> Steps:
    """Find the digits in a picture; see `to_mnist`."""
    colours = colours_of(image)  # [H, W, C]
    if min(colours.shape[:2]) < 4:
        raise InputError("the image is too small: a digit needs 4×4 pixels or more")
    # Grey is the mix of the colours in which the pixels differ most, so that any pen is seen.
    covariance = np.atleast_2d(np.cov(colours.reshape(-1, colours.shape[2]), rowvar=False))
    weights = np.linalg.eigh(covariance).eigenvectors[:, -1]
    weights = (weights * np.sign(weights.sum())).clip(0)
    page = _cut_out_sheet(colours @ (weights / weights.sum()))
    if _ink_is_light(page):
        page = 1 - page
    # Opening removes light specks; closing fills whatever is dark and narrow with the paper around.
    size = min(page.shape)
    paper = morphology.opening(page, _square(size // 80), mode="reflect")
    paper = morphology.closing(paper, _square(size // 4), mode="reflect")
    ink = 1 - page / paper.clip(0.05)
    # Half of what Otsu's threshold takes for paper should be below 0, and is noise.
    below = ink[ink <= filters.threshold_otsu(ink)] if np.ptp(ink) else ink
    ink = ink - np.median(below)
    noise = -np.quantile(ink[ink <= 0], 0.1)
    digits, thrown = _sort(_find_strokes(ink, noise))
    return Steps(page, ink.clip(0), digits, thrown)


def _square(radius: int) -> Any:
    """Return the neighbourhood of a pixel, for scikit-image's morphology."""
    return morphology.footprint_rectangle((2 * radius + 1,) * 2, decomposition="separable")


def _cut_out_sheet(page: np.ndarray) -> np.ndarray:
    """Return the part of a page [H, W] that is a sheet on a table, or all of it."""
    light = page > filters.threshold_otsu(page) if np.ptp(page) else page > 0
    for side in (light, ~light):
        sheet = max(measure.regionprops(measure.label(side)), key=lambda r: r.area_bbox, default=None)
        if sheet is None or sheet.area_filled < 0.15 * page.size:
            continue
        top, left, bottom, right = sheet.bbox
        free_sides = (top > 0) + (left > 0) + (bottom < page.shape[0]) + (right < page.shape[1])
        convex = sheet.area_filled > 0.95 * sheet.area_convex
        # Something is written on it, but not much: a bold 0 has a larger hole.
        if free_sides >= 3 and convex and 0.75 < sheet.area / sheet.area_filled < 0.98:
            inside = np.pad(sheet.image_filled, 1)
            inside = morphology.erosion(inside, _square(3))[1:-1, 1:-1]
            return np.where(inside, page[sheet.slice], np.median(page[sheet.slice][sheet.image]))
    return page


def _ink_is_light(page: np.ndarray) -> bool:
    """Return whether a page [H, W], and its border, are mostly near their darkest values."""
    size = min(page.shape)
    calm = filters.median(page, np.ones((2 * (size // 80) + 1,) * 2))  # without specks
    window = _square(size // 4)
    middle = (morphology.dilation(calm, window) + morphology.erosion(calm, window)) / 2
    excess = calm - middle
    if np.abs(excess).max() < 0.02:  # The filter has taken away the strokes: they are thin.
        return bool(page.mean() > calm.mean())
    band = max(1, size // 20)
    border = np.ones(page.shape, bool)
    border[band:-band, band:-band] = False
    return bool(excess.mean() + excess[border].mean() < 0)


def _find_strokes(ink: np.ndarray, noise: float) -> np.ndarray:
    """Return where ink [H, W] certainly is."""
    if noise > 0.01:
        ink = filters.gaussian(ink, min(ink.shape) / 300)
        noise = -np.quantile(ink[ink <= 0], 0.1)
    low = max(FAINTEST, 3.5 * noise)
    strokes = filters.apply_hysteresis_threshold(ink, low, 1.5 * low)
    for region in measure.regionprops(measure.label(strokes), intensity_image=ink):
        contrast = np.quantile(region.image_intensity[region.image], 0.98)
        strokes[region.slice] &= ~region.image | (region.image_intensity > STRONG * contrast)
    return strokes


class Patch:
    def __init__(self, region):
        self.region = region
        self.top, self.left, self.bottom, self.right = region.bbox
        self.height = self.bottom - self.top
        self.width = self.right - self.left
        self.area = region.area
        self.label = region.label


def _sort(strokes: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the digits and the other ink."""
    # Dilation joins the parts of a broken stroke.
    joined = morphology.dilation(strokes, _square(max(strokes.shape) // 128 + 1))
    labels = measure.label(joined) * strokes
    patches = [Patch(r) for r in measure.regionprops(labels)]
    patches = [p for p in patches if not _is_frame(p, patches)]
    patches = [p for p in patches if not _is_line(p, patches, strokes.shape)]
    patches = _without_border(patches, strokes.shape)
    biggest = max((p.area for p in patches), default=0)
    patches = [p for p in patches if p.area >= MIN_PATCH_AREA * biggest]
    digits = [np.isin(labels, [p.label for p in group]) for group in _group(patches)]
    thrown = strokes & ~np.any([*digits, np.zeros_like(strokes)], axis=0)
    return digits, thrown


def _is_frame(p, patches) -> bool:
    """Whether a patch runs along the sides of its box, and something lies inside."""
    if not any(
        o.top > p.top and o.left > p.left and o.bottom < p.bottom and o.right < p.right
        and o.height > 0.2 * p.height for o in patches
    ):
        return False
    y, x = p.region.image.nonzero()
    near = np.minimum(np.minimum(y, p.height - 1 - y), np.minimum(x, p.width - 1 - x))
    return (near <= max(2, 0.1 * min(p.height, p.width))).mean() > 0.85


def _is_line(p, patches, shape):
    others = [o for o in patches if o.height > 2 * p.height and o is not p]
    others = [o for o in others if o.height > 0.3 * max(q.height for q in patches)]
    if p.height < 0.25 * p.width:
        if any(p.top >= o.bottom - 0.1 * o.height or p.width > 1.3 * o.width for o in others):
            return True
    upright = p.height > 0.9 * shape[0] and p.width < 0.25 * shape[1] and (p.left == 0 or p.right == shape[1])
    flat = p.width > 0.9 * shape[1] and p.height < 0.25 * shape[0] and (p.top == 0 or p.bottom == shape[0])
    return len(patches) > 1 and (upright or flat)


def _without_border(patches, shape):
    inner = [
        p for p in patches if p.top > 0 and p.left > 0 and p.bottom < shape[0] and p.right < shape[1]
    ]
    tallest = max((p.height for p in patches), default=0)
    if any(p.height > 0.5 * tallest for p in inner):
        return inner
    return patches


def _group(patches):
    groups = []
    for p in sorted(patches, key=lambda p: -p.area):
        for group in groups:
            m = group[0]
            across = max(m.left - p.right, p.left - m.right)
            down = max(m.top - p.bottom, p.top - m.bottom)
            if across < 0.12 * m.height and down < 0.8 * m.height:
                group.append(p)
                break
        else:
            if not groups or p.height > 0.5 * groups[0][0].height:
                groups.append([p])
    return groups


def _draw(steps: Steps) -> np.ndarray:
    """Return the ink of the one digit, float [H, W] in 0…1, its strokes thick enough for MNIST."""
    strokes = steps.digits[0]
    rows, columns = strokes.nonzero()
    scale = (max(np.ptp(rows), np.ptp(columns)) + 1) / 20  # pixels per pixel of MNIST
    around = _square(max(1, round(scale)))
    near = morphology.dilation(strokes, around)  # the strokes with their soft edges
    near &= ~morphology.dilation(steps.thrown, _square(1))
    background = steps.ink[~morphology.dilation(near | steps.thrown, around)]
    noise = 1.5 * np.quantile(background, 0.99) if background.size else 0
    full = np.quantile(steps.ink[strokes], 0.95)
    ink = np.where(near & (steps.ink > min(noise, STRONG * full)), steps.ink / full, 0).clip(0, 1)
    outline = strokes & ~morphology.erosion(strokes, _square(1))
    width = 2 * strokes.sum() / max(1, outline.sum())  # An outline runs along both sides of a stroke.
    return morphology.dilation(ink, _square(max(0, round((MIN_STROKE_WIDTH * scale - width) / 2))))
