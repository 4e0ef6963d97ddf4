"""Find the digit in a picture, lay it out as MNIST does, and let the network predict."""

import os
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from skimage import morphology
from torch import Tensor, nn

from .data import NUMBERS, normalise
from .errors import InputError
from .evaluation import evaluation_mode
from .finding import STRONG, Steps, find_digits, square
from .pictures import read_image
from .plots import Figure, finding_steps
from .sources import mnist_layout

MIN_STROKE_WIDTH = 1.8  # Thinner strokes are thickened. The unit is a pixel of MNIST's 20×20 box.
# A picture with less evidence, in nats, is marked "not sure". Chosen with a network that was
# trained without a fold: 0.3 % of the fold's digits have less. It suits the package's weights only:
# most other networks have far more, also for pictures of other things.
EVIDENCE = 3.8


class Prediction(NamedTuple):
    """The network's answer for one image and one number."""

    digit: int
    sum: int
    digit_probabilities: list[float]  # [10]
    sum_probabilities: list[float]  # [19]
    pixels: Tensor  # uint8 [28, 28]: the image as the network received it, before normalisation
    sure: bool  # whether the image looks like a digit to the network

    def __repr__(self) -> str:
        return f"Prediction(digit {self.digit}, sum {self.sum}, sure: {self.sure})"


def predict(model: nn.Module, image: Any, number: int, *, evidence: float = EVIDENCE) -> Prediction:
    """Read the digit in an image and add a number, 0–9; warn if it does not look like a digit.

    The image is the path of a picture, its bytes, or what `to_mnist` takes. The model takes float32
    [1, 1, 28, 28] and one-hot [1, 10], and returns log_probs [1, 10] and logits [1, 19]. The answer
    is sure if `evidence_of` reaches `evidence`, in nats. Raise `InputError` for a number outside
    0–9, an image that cannot be read, or an answer that is NaN or infinite.
    """
    if isinstance(number, bool) or number not in range(NUMBERS):
        raise InputError(f"number must be a whole number from 0 to 9, not {number!r}")
    is_path = isinstance(image, str | os.PathLike)
    prefix = f"{os.fspath(image)}: " if is_path else ""
    try:
        if is_path or isinstance(image, bytes):
            image = read_image(image)
        pixels = to_mnist(image)
    except InputError as error:
        raise InputError(f"{prefix}{error}") from error
    weight = next(model.parameters(), torch.zeros(0))  # has the device and the precision
    one_hot = F.one_hot(torch.tensor([int(number)]), NUMBERS).to(weight)
    answers = []
    with torch.inference_mode(), evaluation_mode(model):
        for view in views(pixels[None, None]):  # [1, 1, 28, 28] each
            log_probs, logits = model(normalise(view).to(weight), one_hot)[:2]
            answers.append((log_probs.float().cpu(), logits.float().cpu()))
    log_probs, logits = answers[0]
    digit_probabilities = log_probs[0].exp()
    sum_probabilities = logits[0].softmax(0)
    probabilities = torch.cat([digit_probabilities, sum_probabilities])
    if not probabilities.isfinite().all():
        raise InputError("the network's answer is NaN or infinite: use other weights")
    sure = bool(evidence_of([log_probs for log_probs, _ in answers]) >= evidence)
    if not sure:
        warnings.warn(f"{prefix}this does not look like a digit to the network", stacklevel=2)
    return Prediction(
        digit=int(digit_probabilities.argmax()),
        sum=int(sum_probabilities.argmax()),
        digit_probabilities=digit_probabilities.tolist(),
        sum_probabilities=sum_probabilities.tolist(),
        pixels=pixels,
        sure=sure,
    )


def views(images: Tensor) -> list[Tensor]:
    """Return images, uint8 [B, 1, 28, 28], and the same turned by 10° to either side."""
    # Here, because it takes nearly as long to import as torch, and training does not need it.
    from torchvision.transforms.functional import InterpolationMode, rotate

    turned = [rotate(images, angle, InterpolationMode.BILINEAR) for angle in (-10, 10)]
    return [images, *turned]


def evidence_of(log_probs: list[Tensor]) -> Tensor:
    """Return how clearly an image shows a digit, in nats [B], from log_probs [B, 10] of each view.

    It is how far the best digit's log-probability stands above the mean of the ten. That is the
    network's raw score, which is high only for what it was trained on; probabilities do not show
    it, because they are near 1 for many pictures of other things, too.
    """
    mean = torch.stack(log_probs).mean(0)  # [3, B, 10] → [B, 10]
    return mean.max(1).values - mean.mean(1)


def to_mnist(image: Any) -> Tensor:
    """Find the one digit in a picture and lay it out as MNIST does: uint8 [28, 28], 255 is ink.

    The picture is a Pillow image or an array, as `colours_of` takes it; ink may be dark or light.
    `InputError` for what is no image, is smaller than 4×4 pixels, blank, or shows several digits.
    """
    return _lay_out(find_digits(image))


def explain(image: Any) -> Figure:
    """Draw how the digit of an image, as `predict` takes it, was found; also if it is refused.

    `InputError` for what is no image, or is smaller than 4×4 pixels.
    """
    is_file = isinstance(image, str | os.PathLike | bytes)
    steps = find_digits(read_image(image) if is_file else image)
    try:
        pixels = _lay_out(steps)
    except InputError:
        pixels = None
    return finding_steps(steps.page, steps.digits, steps.thrown, pixels)


def _lay_out(steps: Steps) -> Tensor:
    """Return the one digit that was found as uint8 [28, 28]; `InputError` for none or several."""
    if not steps.digits:
        raise InputError("the image has no ink: it is a blank page, or the digit is too faint")
    if len(steps.digits) > 1:
        raise InputError(f"the image shows {len(steps.digits)} digits: cut out one of them")
    return mnist_layout(torch.from_numpy(_draw(steps)).float())


def _draw(steps: Steps) -> np.ndarray:
    """Return the ink of the one digit, float [H, W] in 0…1, its strokes thick enough for MNIST."""
    strokes = steps.digits[0]
    rows, columns = strokes.nonzero()
    scale = (max(np.ptp(rows), np.ptp(columns)) + 1) / 20  # pixels for a pixel of MNIST
    around = square(max(1, round(scale)))
    near = morphology.dilation(strokes, around)  # the strokes with their soft edges
    near &= ~morphology.dilation(steps.thrown, square(1))
    background = steps.ink[~morphology.dilation(near | steps.thrown, around)]
    noise = 1.5 * np.quantile(background, 0.99) if background.size else 0
    full = np.quantile(steps.ink[strokes], 0.95)
    certain = near & (steps.ink > min(noise, STRONG * full))
    ink = np.where(certain, steps.ink / full, 0).clip(0, 1)
    outline = strokes & ~morphology.erosion(strokes, square(1))
    width = 2 * strokes.sum() / max(1, outline.sum())  # A stroke's outline is on both of its sides.
    thicken = max(0, round((MIN_STROKE_WIDTH * scale - width) / 2))
    return morphology.dilation(ink, square(thicken))
