"""Read a picture of a handwritten digit, lay it out as MNIST does, and let the network predict."""

import io
import os
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from scipy import ndimage
from torch import Tensor, nn

from .errors import InputError
from torch.nn.functional import one_hot

from .data import NUMBERS, normalise
from .sources import mnist_layout

MAX_PIXELS = (
    25_500_000  # A JPEG may have twice as many, because it can be decoded at a reduced size.
)
MAX_SIDE = 384  # A larger picture is shrunk to this many pixels on its longer side.
MIN_CONTRAST = (
    0.15  # Ink must take away this share of the paper's brightness, or the page is blank.
)
STRONG_INK = 0.4  # A pixel with this share of the darkest ink certainly belongs to a stroke.
MIN_STROKE_WIDTH = 1.8  # Thinner strokes are thickened. The unit is a pixel of MNIST's 20×20 box.
MIN_PATCH_AREA = 0.05  # A patch of ink below this share of the largest patch's area is dirt.
MIN_PROBABILITY = 0.2  # If the largest probability is lower, the probabilities are nearly uniform.


class Prediction(NamedTuple):
    """The network's answer for one image and one number."""

    digit: int
    sum: int
    digit_probabilities: list[float]  # [10]
    sum_probabilities: list[float]  # [19]
    pixels: Tensor  # uint8 [28, 28]: the image as the network received it, before normalisation


def predict(model: nn.Module, image: Any, number: int) -> Prediction:
    """Read the digit in an image and add a number, 0–9, to it; warn if the probabilities are nearly uniform.

    The image is the path of a picture, its bytes, or a Pillow image or array as `to_mnist` takes
    it. The model is in evaluation mode; it takes float32 [1, 1, 28, 28] and one-hot [1, 10], and
    returns log_probs [1, 10] of the digit and logits [1, 19] of the sum. `InputError` for another
    number, a bad image, or an answer that is NaN.
    """
    if isinstance(number, bool) or number not in range(NUMBERS):
        raise InputError(f"number must be a whole number from 0 to 9, not {number!r}")
    prefix = f"{os.fspath(image)}: " if isinstance(image, str | os.PathLike) else ""
    try:
        pixels = to_mnist(read_image(image) if prefix or isinstance(image, bytes) else image)
    except InputError as error:
        raise InputError(f"{prefix}{error}") from error
    device = next(model.parameters(), pixels).device
    one_hot = one_hot(torch.tensor([int(number)]), NUMBERS).float()
    with torch.inference_mode():
        log_probs, logits = model(normalise(pixels[None, None]).to(device), one_hot.to(device))
    probabilities = log_probs[0].exp().cpu(), logits[0].softmax(0).cpu()
    if not torch.cat(probabilities).isfinite().all():
        raise InputError(
            "the network's answer is not a number: train it again or use other weights"
        )
    if min(p.max() for p in probabilities) < MIN_PROBABILITY:
        warnings.warn(
            f"{prefix}the probabilities are nearly uniform: the network cannot tell", stacklevel=2
        )
    return Prediction(
        *(int(p.argmax()) for p in probabilities), *(p.tolist() for p in probabilities), pixels
    )


def read_image(source: str | os.PathLike | bytes) -> Image.Image:
    """Decode a PNG, JPEG, BMP or GIF file, given by its path or its bytes, and turn it upright as its EXIF data says.

    A large JPEG is decoded at a reduced size. `InputError` if the file is missing, empty, damaged,
    animated or of another format, or if its header says that it has too many pixels; it is not
    decoded then.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            file = io.BytesIO(source) if isinstance(source, bytes) else source
            image = Image.open(file, formats=("PNG", "JPEG", "BMP", "GIF"))
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
        raise InputError(
            "it is empty" if source == b"" else "not a PNG, JPEG, BMP or GIF image"
        ) from error
    except Exception as error:  # Pillow's decoders raise many kinds of errors for damaged files.
        raise InputError(
            (getattr(error, "strerror", None) or "the image is truncated or damaged").lower()
        ) from error
    if animated:
        raise InputError("the image is animated: save one frame of it")
    return image


def to_mnist(image: Any) -> Tensor:
    """Find the ink of the one digit in a picture, dark or light, and lay it out as MNIST does: uint8 [28, 28].

    The picture is a Pillow image, or an array [H, W], [H, W, 3] or [H, W, 4]. Its values span 0–255
    (uint8), 0–65535 (uint16), or for other types the first of 0–1, 0–255 and 0–65535 that holds
    them all. In the result, 255 is ink. `InputError` for what is no image, smaller than 4×4 pixels,
    or blank.
    """
    channels = _channels(image)
    if min(channels.shape[1:]) < 4:
        raise InputError("the image is too small: a digit needs 4×4 pixels or more")
    inks = np.stack([_ink(channel) for channel in channels])
    # The mean of 3×3 pixels is measured, so that a single dark pixel does not count as ink.
    contrasts = ndimage.uniform_filter(inks, (1, 3, 3), mode="constant").max((1, 2))
    ink, contrast = inks[contrasts.argmax()], contrasts.max()
    if contrast < MIN_CONTRAST:
        raise InputError("the image has no ink: it is a blank page, or the digit is too faint")
    strokes = ink > STRONG_INK * contrast
    # Patches that are small beside the largest are dirt. Dilation first joins the parts of a broken stroke.
    labels, _ = ndimage.label(ndimage.maximum_filter(strokes, 2 * (max(strokes.shape) // 128) + 3))
    areas = np.bincount(labels[strokes])
    strokes &= (areas >= MIN_PATCH_AREA * areas.max())[labels]
    box = ndimage.find_objects(strokes.astype(int))[0]
    scale = (
        max(side.stop - side.start for side in box) / 20
    )  # pixels of the picture per pixel of MNIST
    window = 2 * max(1, round(scale)) + 1
    near = ndimage.maximum_filter(strokes, window)  # the strokes with their soft edges
    background = ink[~ndimage.maximum_filter(near, window)]
    noise = 1.5 * np.quantile(background, 0.99) if background.size else 0
    ink = np.where(near & (ink > min(noise, STRONG_INK * contrast)), ink, 0) / np.quantile(
        ink[strokes], 0.95
    )
    outline = strokes & ~ndimage.minimum_filter(strokes, 3)
    width = (
        2 * strokes.sum() / max(1, outline.sum())
    )  # A stroke's outline runs along both of its sides.
    thicken = max(0, round((MIN_STROKE_WIDTH * scale - width) / 2))
    return mnist_layout(
        torch.from_numpy(ndimage.maximum_filter(ink.clip(0, 1), 2 * thicken + 1)).float()
    )


def _channels(image: Any) -> np.ndarray:
    """Return a picture's colours as float32 [C, H, W] in 0…1, shrunk to at most `MAX_SIDE`, without alpha."""
    try:
        if not isinstance(image, Image.Image) or image.mode[0] in "IF":
            array = np.asarray(image)
            scales = {np.uint8: [255], np.uint16: [65535]}.get(array.dtype.type, [1, 255, 65535])
            scale = next(scale for scale in scales if 0 <= array.min() <= array.max() <= scale)
            image = Image.fromarray(np.uint8(array * np.float32(255 / scale)))
        image = image.convert("LA" if image.mode in ("1", "L", "LA") else "RGBA")
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    except (TypeError, ValueError, OSError, StopIteration) as error:
        raise InputError(
            "not an image, nor an array [H, W], [H, W, 3] or [H, W, 4] as to_mnist takes it"
        ) from error
    pixels = np.array(image, np.float32).transpose(2, 0, 1) / 255
    colour, alpha = pixels[:-1], pixels[-1]
    mean = np.round((colour * alpha).sum() / max(len(colour) * alpha.sum(), 1e-9))
    # A mostly transparent picture is ink alone: its paper has the other brightness. Else alpha makes holes.
    return colour * alpha + (mean if alpha.mean() > 0.5 else 1 - mean) * (1 - alpha)


def _ink(page: np.ndarray) -> np.ndarray:
    """Return the share of the paper's brightness that is missing, float [H, W] in 0…1, without shadows."""
    window = 2 * (min(page.shape) // 4) + 1
    middle = (ndimage.maximum_filter(page, window) + ndimage.minimum_filter(page, window)) / 2
    if (
        page.mean() < middle.mean()
    ):  # Most pixels are nearer to the darkest ones: light ink on dark paper.
        page = 1 - page
    # Grey closing fills whatever is dark and narrower than the window with the paper around it.
    paper = ndimage.grey_closing(page, (window, window))
    ink = 1 - page / paper.clip(min=0.05)
    return (ink - np.quantile(ink, 0.3)).clip(
        min=0
    )  # Noise makes the closing find too bright a paper.
