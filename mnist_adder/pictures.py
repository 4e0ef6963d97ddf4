"""Read a picture of any kind, and return its pixels."""

import io
import os
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from .errors import InputError

FORMATS = ["PNG", "JPEG", "BMP", "GIF", "WEBP"]
MAX_SIDE = 384  # A larger picture is shrunk to this many pixels on its longer side.


def read_image(source: str | os.PathLike | bytes) -> Image.Image:
    """Decode a picture's file, given by its path or its bytes, and turn it as its EXIF data says.

    It is a PNG, JPEG, BMP, GIF or WebP, or a HEIC where pillow-heif is installed. A large JPEG is
    decoded at a reduced size. `InputError` if the file is missing, empty, damaged, animated, of
    another format, or has more pixels than Pillow's limit; it is not decoded then.
    """
    heic = _register_heic()
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(file, formats=[*FORMATS, "HEIF"] if heic else FORMATS)
        with image:
            phone = image.format in ("JPEG", "MPO", "HEIF")  # such a file may hold several pictures
            animated = not phone and getattr(image, "is_animated", False)
            image.draft(None, (2 * MAX_SIDE, 2 * MAX_SIDE))
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = f"{Image.MAX_IMAGE_PIXELS:,} pixels"
        raise InputError(f"the image has more than {limit}: make it smaller") from error
    except Image.UnidentifiedImageError as error:
        advice = "" if heic else "; for HEIC, install pillow-heif"
        message = f"not a PNG, JPEG, BMP, GIF or WebP image{advice}"
        raise InputError("it is empty" if source == b"" else message) from error
    except Exception as error:  # Pillow's decoders raise many kinds of errors for damaged files.
        message = getattr(error, "strerror", None) or "the image is truncated or damaged"
        raise InputError(message.lower()) from error
    if animated:
        raise InputError("the image is animated: save one frame of it")
    return image


def _register_heic() -> bool:
    """Let Pillow read HEIC, the format of many phones, if pillow-heif is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def colours_of(image: Any) -> np.ndarray:
    """Return a picture as float [H, W, C] in 0…1, C = 1 or 3, shrunk to at most `MAX_SIDE`.

    The picture is a Pillow image, or an array [H, W], [H, W, 3] or [H, W, 4]. Its values span
    0–255 (uint8), 0–65535 (uint16), or for other types the first of 0–1, 0–255 and 0–65535 that
    holds them all. `InputError` for anything else.
    """
    try:
        if isinstance(image, Image.Image):
            image = ImageOps.exif_transpose(image)
        if not isinstance(image, Image.Image) or image.mode[0] in "IF":
            array = np.asarray(image)
            known = {np.uint8: [255], np.uint16: [65535]}
            scales = known.get(array.dtype.type, [1, 255, 65535])
            scale = next(scale for scale in scales if 0 <= array.min() <= array.max() <= scale)
            image = Image.fromarray(np.uint8(array * np.float32(255 / scale)))
        image = image.convert("LA" if image.mode in ("1", "L", "LA") else "RGBA")
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    except (TypeError, ValueError, OSError, RuntimeError, StopIteration) as error:
        values = "with values in 0–1, 0–255 or 0–65535"
        message = f"not an image, nor an array [H, W], [H, W, 3] or [H, W, 4] {values}"
        raise InputError(message) from error
    pixels = np.array(image, float) / 255
    colours = pixels[:, :, :-1]
    alpha = pixels[:, :, -1:]
    if alpha.all():
        return colours
    mean = np.average(colours.mean(2, keepdims=True), weights=alpha) if alpha.any() else 0
    # If most of the picture is transparent, the rest is the ink: dark ink gets light paper.
    paper = mean.round() if alpha.mean() > 0.5 else 1 - np.round(mean)
    return colours * alpha + paper * (1 - alpha)
