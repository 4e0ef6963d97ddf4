"""Find the digit in a picture: the paper, the ink on it, and which ink is the digit.

A frame, a line along the border, the table around a sheet, an underline, a stroke of the neighbour
and specks are not the digit. The limits were chosen on pictures made of MNIST's training set.
"""

from typing import Any, NamedTuple

import numpy as np
from skimage import filters, measure, morphology
from skimage.segmentation import clear_border

from .errors import InputError
from .pictures import colours_of

FAINTEST = 0.06  # Ink must take away this share of the paper's brightness, or it is none.
STRONG = 0.4  # A pixel with this share of its stroke's darkest ink certainly belongs to the stroke.
MIN_PATCH_AREA = 0.05  # A patch of ink below this share of the largest patch's area is dirt.
Patch = Any  # what scikit-image's regionprops returns for each connected patch of ink


class Steps(NamedTuple):
    """What was found in a picture on the way to its digit."""

    page: np.ndarray  # float [H, W]: the picture in grey with dark ink, the sheet without a table
    ink: np.ndarray  # float [H, W]: the share of the paper's brightness that is missing
    digits: list[np.ndarray]  # bool [H, W] each: the strokes of a digit
    thrown: np.ndarray  # bool [H, W]: other ink


def find_digits(image: Any) -> Steps:
    """Find the paper, the ink on it, and the digits among the ink.

    The picture is what `colours_of` takes; `InputError` for others and for less than 4×4 pixels.
    """
    colours = colours_of(image)  # [H, W, C]
    if min(colours.shape[:2]) < 4:
        raise InputError("the image is too small or too narrow: a digit needs 4×4 pixels or more")
    page = _cut_out_sheet(_as_grey(colours))  # [H, W]
    if _ink_is_light(page):
        page = 1 - page
    # Opening removes light specks; closing fills with paper whatever is dark
    # and narrower than two thirds of the page.
    size = min(page.shape)
    paper = morphology.opening(page, square(size // 80), mode="reflect")
    paper = morphology.closing(paper, square(size // 3), mode="reflect")
    ink = _from_paper((paper - page) / paper.clip(0.2))
    digits, thrown = _sort(_find_strokes(ink))
    return Steps(page, ink.clip(0), digits, thrown)


def _as_grey(colours: np.ndarray) -> np.ndarray:
    """Return the mix of colours [H, W, C] in which pixels differ most, so that any pen is seen."""
    pixels = colours.reshape(-1, colours.shape[2])
    covariance = np.atleast_2d(np.cov(pixels, rowvar=False))
    weights = np.linalg.eigh(covariance).eigenvectors[:, -1]  # that of the largest eigenvalue
    if weights.sum() < 0:  # its sign is arbitrary
        weights = -weights
    weights = weights.clip(0)
    return colours @ (weights / weights.sum())


def _from_paper(ink: np.ndarray) -> np.ndarray:
    """Return ink [H, W] with its paper at 0. (With noise, the closing finds too bright a paper.)"""
    lower = ink[ink <= filters.threshold_otsu(ink)] if np.ptp(ink) else ink
    return ink - np.median(lower)


def _noise_of(ink: np.ndarray) -> float:
    """Return how far noise reaches below 0 in ink [H, W], whose paper is at 0."""
    # The 2 % quantile: a page in 8 bits has few levels of noise, and many pixels are exactly 0.
    return -np.quantile(ink[ink <= 0], 0.02)


def square(radius: int) -> Any:
    """Return the neighbourhood of a pixel for scikit-image's morphology."""
    return morphology.footprint_rectangle((2 * radius + 1,) * 2, decomposition="separable")


def _cut_out_sheet(page: np.ndarray) -> np.ndarray:
    """Return the part of a page [H, W] that is a sheet on a table, or else all of it."""
    calm = filters.gaussian(page, min(page.shape) / 200)
    light = calm > filters.threshold_otsu(calm) if np.ptp(calm) else calm > 0
    for side in (light, ~light):
        patches = measure.regionprops(measure.label(side))
        sheet = max(patches, key=lambda patch: patch.area_bbox, default=None)
        if sheet is None or sheet.area_bbox < 0.15 * page.size:
            continue
        top, left, bottom, right = sheet.bbox
        height, width = page.shape
        free_sides = (top > 0) + (left > 0) + (bottom < height) + (right < width)
        written = 1 - sheet.area / sheet.area_filled  # the share that is holes
        if free_sides >= 3 and 0.02 < written < 0.4:
            outline = np.pad(sheet.image_filled, 1)
            contour = measure.find_contours(outline)[0]
            corners = measure.approximate_polygon(contour, 0.05 * max(sheet.image.shape))
            if len(corners) <= 6:  # four, the first again, and perhaps where the contour begins
                inside = morphology.erosion(outline, square(3))[1:-1, 1:-1]
                paper = np.median(page[sheet.slice][sheet.image])
                return np.where(inside, page[sheet.slice], paper)
    return page


def _ink_is_light(page: np.ndarray) -> bool:
    """Return whether a page [H, W] and its border are mostly near the darkest values around."""
    size = min(page.shape)
    side = 2 * (size // 80) + 1
    calm = filters.median(page, np.ones((side, side)))  # without specks
    around = square(size // 3)
    lightest = morphology.dilation(calm, around)
    darkest = morphology.erosion(calm, around)
    middle = (lightest + darkest) / 2
    if np.ptp(calm - middle) < 0.02:  # The filter has taken away the strokes: they are thin.
        return bool(page.mean() > calm.mean())
    excess = calm - middle
    border = np.ones(page.shape, bool)
    width = size // 20 + 1
    border[width:-width, width:-width] = False
    # Bold strokes in a tight crop may cover most of the picture, but rarely most of its border.
    return bool(excess.mean() + 2 * excess[border].mean() < 0)


def _find_strokes(ink: np.ndarray) -> np.ndarray:
    """Return where ink, float [H, W], certainly is: bool [H, W]."""
    noise = _noise_of(ink)
    if noise > 0.01:
        ink = _from_paper(filters.gaussian(ink, min(ink.shape) / 300))
        noise = _noise_of(ink)
    low = max(FAINTEST, 4 * noise)
    strokes = filters.apply_hysteresis_threshold(ink, low, 1.5 * low)
    for patch in measure.regionprops(measure.label(strokes), intensity_image=ink):
        darkest = np.quantile(patch.image_intensity[patch.image], 0.98)
        strokes[patch.slice] &= ~patch.image | (patch.image_intensity > STRONG * darkest)
    return strokes


def _sort(strokes: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the digits among the strokes, a bool [H, W] for each, and the other strokes."""
    # Dilation joins the parts of a broken stroke.
    joined = morphology.dilation(strokes, square(max(strokes.shape) // 128 + 1))
    labels = measure.label(joined) * strokes
    inside = np.unique(clear_border(labels))  # what does not touch the picture's border
    patches = measure.regionprops(labels)
    patches = [p for p in patches if not _is_frame(p, patches)]
    patches = [p for p in patches if not _is_line(p, patches, p.label not in inside, labels.shape)]
    tallest = max((p.image.shape[0] for p in patches), default=0)
    whole = [p for p in patches if p.label in inside]
    if any(p.image.shape[0] > 0.5 * tallest for p in whole):
        patches = whole  # The border cuts off what is the neighbour's.
    largest = max((p.area for p in patches), default=0)
    groups: list[list[Patch]] = []
    for patch in sorted(patches, key=lambda p: -p.area):
        if patch.area < MIN_PATCH_AREA * largest:
            continue
        group = next((group for group in groups if _belongs(patch, group[0])), None)
        if group is not None:
            group.append(patch)
        elif not groups or patch.image.shape[0] > 0.5 * groups[0][0].image.shape[0]:
            groups.append([patch])
    digits = [np.isin(labels, [p.label for p in group]) for group in groups]
    kept = [p.label for group in groups for p in group]
    return digits, strokes & ~np.isin(labels, kept)


def _is_frame(patch: Patch, patches: list[Patch]) -> bool:
    """Return whether a patch runs along the sides of its box, and a large one lies inside."""
    top, left, bottom, right = patch.bbox
    height, width = patch.image.shape
    y, x = patch.image.nonzero()
    down = np.minimum(y, height - 1 - y)  # to the nearest side of the box
    across = np.minimum(x, width - 1 - x)
    margin = max(2, 0.1 * min(height, width))
    if np.mean(np.minimum(down, across) <= margin) <= 0.85:
        return False
    for other in patches:
        first_row, first_column, last_row, last_column = other.bbox
        inside_rows = top < first_row and last_row < bottom
        inside_columns = left < first_column and last_column < right
        large = other.image.shape[0] > 0.2 * height
        if large and inside_rows and inside_columns:
            return True
    return False


def _is_line(patch: Patch, patches: list[Patch], at_border: bool, shape: tuple[int, int]) -> bool:
    """Return whether a patch underlines another one, or is a strip along the picture's border."""
    height, width = patch.image.shape
    if height < 0.25 * width:
        for other in patches:
            other_height, other_width = other.image.shape
            below = patch.bbox[0] > other.bbox[2] - 0.1 * other_height
            if other_height > 2 * height and (below or width > 1.3 * other_width):
                return True
    long = height > 0.9 * shape[0] or width > 0.9 * shape[1]
    thin = min(height, width) < 0.25 * min(shape)
    return at_border and long and thin and len(patches) > 1


def _belongs(patch: Patch, main: Patch) -> bool:
    """Return whether a patch is near enough to the main one to be a part of the same digit."""
    top, left, bottom, right = patch.bbox
    height = main.image.shape[0]
    across = max(main.bbox[1] - right, left - main.bbox[3])
    down = max(main.bbox[0] - bottom, top - main.bbox[2])
    return across < 0.12 * height and down < 0.8 * height
