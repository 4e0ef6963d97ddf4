"""From a picture of a handwritten digit to an answer: read it, lay it out as MNIST does, ask the network."""

import io
import math
import os
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from .data import NUMBERS, InputError, mnist_layout, normalise, one_hot_number
from .models import TwoInputNet

FORMATS = ("PNG", "JPEG", "BMP", "GIF")
SIDE = 384  # pixels: a larger picture is made smaller before anything is looked for in it
FAINTEST = 0.15  # share of the paper's brightness that the ink must take away, or there is no ink
STRONG = 0.4  # of the darkest ink: what is surely ink
THINNEST = 1.8  # pixels of MNIST's 20×20 box: a thinner stroke is made thicker
SPECK = 0.05  # share of the largest stroke's area: a smaller patch of ink is dirt
UNSURE = 0.2  # a largest probability below it is nearly uniform


class Prediction(NamedTuple):
    """What the network says of one image and one number."""

    digit: int
    sum: int
    digit_probabilities: list[float]  # [10]
    sum_probabilities: list[float]  # [19]
    seen: Tensor  # uint8 [28, 28]: the image as the network saw it


def predict(model: TwoInputNet, image: Any, number: int) -> Prediction:
    """Read the digit in an image and add a number to it.

    Args:
        model: on any device, in evaluation mode, as `load_pretrained` and `read_run` return it.
        image: one digit, dark on light or light on dark: a path, the bytes of a file, a Pillow image or an
            array [H, W], [H, W, 3] or [H, W, 4].
        number: 0–9.

    Raises:
        InputError: a number that is not 0–9, or an image that cannot be read or has no ink.
    """
    if isinstance(number, bool) or number not in range(NUMBERS):
        raise InputError(f"number must be a whole number from 0 to 9, not {number!r}")
    name = f"{os.fspath(image)}: " if isinstance(image, str | os.PathLike) else ""
    try:
        if name or isinstance(image, bytes):
            image = read_image(image)
        seen = to_mnist(image)
    except InputError as error:
        raise InputError(f"{name}{error}") from error
    device = next(model.parameters()).device
    with torch.inference_mode():
        digit, sum = model(
            normalise(seen[None]).to(device), one_hot_number(torch.tensor([number])).to(device)
        )
    digit, sum = digit[0].exp().cpu(), sum[0].softmax(0).cpu()
    if digit.max() < UNSURE or sum.max() < UNSURE:
        warnings.warn("the probabilities are nearly uniform: the network cannot tell", stacklevel=2)
    return Prediction(int(digit.argmax()), int(sum.argmax()), digit.tolist(), sum.tolist(), seen)


def read_image(source: str | os.PathLike | bytes) -> Image.Image:
    """Read a picture and turn it the way up that its EXIF data says.

    Args:
        source: the path of a PNG, JPEG, BMP or GIF file, or its bytes.

    Raises:
        InputError: no such file, no picture, a damaged, an animated or a huge one. A huge one is refused by
            its header, before it is decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
        animated = image.format != "MPO" and getattr(image, "is_animated", False)  # MPO: a phone's JPEG
        with image:
            image.draft(None, (2 * SIDE, 2 * SIDE))  # a JPEG is decoded no larger than needed
            turned = ImageOps.exif_transpose(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"the image has more than {Image.MAX_IMAGE_PIXELS:,} pixels: make it smaller"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise InputError("not a PNG, JPEG, BMP or GIF image") from error
    except OSError as error:
        reason = error.strerror or "the image is truncated or damaged"
        raise InputError(reason[0].lower() + reason[1:]) from error
    except Exception as error:  # Pillow's decoders answer damage with errors of many kinds
        raise InputError("the image is damaged") from error
    if animated:
        raise InputError("the image is animated: save one frame of it")
    return turned


def to_mnist(image: Any) -> Tensor:
    """Find the ink of the one digit in a picture and lay it out as MNIST does.

    Args:
        image: a Pillow image, or an array [H, W], [H, W, 3] or [H, W, 4].

    Returns:
        uint8 [28, 28], where 255 is ink.

    Raises:
        InputError: no picture, one of less than 4×4 pixels, or a blank one.
    """
    pixels = _pixels(image)
    if min(pixels.shape[1:]) < 4:
        raise InputError("the image is too small: a digit needs 4×4 pixels or more")
    ink = max((_ink(channel) for channel in pixels), key=_darkest)  # the colour it stands out best in
    darkest = _darkest(ink)
    if darkest < FAINTEST:
        raise InputError("the image has no ink: it is a blank page, or the digit is too faint")
    strokes = _without_specks(ink > STRONG * darkest)
    rows, columns = (strokes.any(dim).nonzero() for dim in (1, 0))
    pixel = max(int(side[-1] - side[0]) + 1 for side in (rows, columns)) / 20  # one of MNIST's
    near = _highest(strokes.float(), max(1, round(pixel)))  # a stroke's soft edge belongs to it
    far = ink[_highest(near, max(1, round(pixel))) == 0]
    noise = min(1.5 * float(far.quantile(0.99)) if len(far) else 0.0, STRONG * darkest)
    ink = (ink * near).where(ink > noise, 0.0) / ink[strokes].quantile(0.95)
    inside = -_highest(-strokes.float(), 1)
    width = 2 * strokes.sum() / (strokes.sum() - inside.sum()).clamp(min=1)  # area by half the outline
    thicken = max(0, round(float(THINNEST * pixel - width) / 2))
    return mnist_layout(_highest(ink.clamp(0, 1), thicken))


def _pixels(image: Any) -> Tensor:
    """A picture as float [C, H, W] in 0…1, at most `SIDE` long; what is transparent becomes paper."""
    try:
        if not isinstance(image, Image.Image) or image.mode[0] in "IF":
            array = np.nan_to_num(np.asarray(image))
            if array.dtype != np.uint8:  # 16 bits, 0…1, …: from its darkest to its brightest
                array = array.astype(float) - np.min(array)
                array = np.uint8(255 * array / max(array.max(), 1e-9))
            image = Image.fromarray(array)
        clear = image.has_transparency_data
        grey = image.mode in ("1", "L")
        image = image.convert("RGBA" if clear else "L" if grey else "RGB")
        image.thumbnail((SIDE, SIDE))
    except (TypeError, ValueError, OSError) as error:
        raise InputError("not an image, nor an array [H, W], [H, W, 3] or [H, W, 4]") from error
    pixels = torch.from_numpy(np.array(image)).float().reshape(image.height, image.width, -1) / 255
    pixels = pixels.permute(2, 0, 1)
    if not clear:
        return pixels
    colour, opaque = pixels[:3], pixels[3]
    mean = (colour * opaque).sum() / (3 * opaque.sum()).clamp(min=1e-9)
    # Ink on nothing gets paper of the other brightness; a page with holes gets its own.
    paper = mean.round() if opaque.mean() > 0.5 else 1 - mean.round()
    return colour * opaque + paper * (1 - opaque)


def _ink(page: Tensor) -> Tensor:
    """How much of the paper's brightness is missing, float [H, W] in 0…1: shadows divide out."""
    reach = min(page.shape) // 4
    highest, lowest = _highest(page, reach), -_highest(-page, reach)
    if (page - (highest + lowest) / 2).mean() < 0:  # most is nearer the darkest around: light on dark
        page, highest = 1 - page, 1 - lowest
    # A closing: whatever is dark and narrower than `reach` is filled with the paper around it.
    paper = -_highest(-highest, reach)
    ink = 1 - page / paper.clamp(min=0.05)
    return (ink - ink.quantile(0.3)).clamp(min=0)  # noise lifts the paper that a closing finds


def _highest(x: Tensor, reach: int) -> Tensor:
    """The highest value within `reach` pixels, float [H, W]; the steps grow, so that they are few."""
    done = 0
    while done < reach:
        step = min(2 * done + 1, reach - done)
        x = F.pad(x[None, None], (step,) * 4, value=-torch.inf)
        x = F.max_pool2d(x, 3, 1, dilation=step)[0, 0]
        done += step
    return x


def _darkest(ink: Tensor) -> float:
    """The most ink in any 3×3 pixels: one bright pixel is no ink."""
    return float(F.avg_pool2d(ink[None, None], 3, 1, 1).max())


def _without_specks(mask: Tensor) -> Tensor:
    """bool [H, W] without the connected patches that are small beside the largest."""
    cell = math.ceil(max(mask.shape) / 64)  # patches are told apart on a coarse grid
    coarse = F.max_pool2d(mask.float()[None, None], cell, ceil_mode=True)[0, 0]
    label = torch.arange(1.0, coarse.numel() + 1).view(coarse.shape) * coarse
    while not torch.equal(label, grown := _highest(label, 1) * coarse):
        label = grown
    _, patch, area = label.unique(return_inverse=True, return_counts=True)
    area = area[patch] * coarse
    large = (area >= SPECK * area.max()).repeat_interleave(cell, 0).repeat_interleave(cell, 1)
    return mask & large[: mask.shape[0], : mask.shape[1]]
