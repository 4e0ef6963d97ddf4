"""Checks of what users bring: settings, images, networks, and states that are to be saved."""

import copy
import io
import pickle
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .errors import InputError

MOST = 1_000_000_000  # of epochs, and of images in a batch: more is surely a typing error
WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)  # types of labels


def check_seed(seed: int) -> int:
    """Return the seed as an int; raise `InputError` unless torch's generators take it."""
    whole = isinstance(seed, Integral) and not isinstance(seed, bool)  # NumPy's are whole, too
    if not (whole and 0 <= seed < 2**63):
        raise InputError(f"a seed must be a whole number from 0 to 2^63 - 1, not {seed!r:.40}")
    return int(seed)


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise `InputError` unless a setting is a whole number from `least` up."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole and least <= value <= MOST):
        raise InputError(f"{name} must be a whole number from {least} to {MOST:,}, not {value!r}")


def plain(value: Any) -> Any:
    """Turn NumPy's numbers into Python's (a checkpoint takes no others), lists into tuples."""
    if isinstance(value, list | tuple):
        return tuple(plain(part) for part in value)
    return value.item() if isinstance(value, np.generic) else value


def check_split(images: Tensor, digits: Tensor, digit_classes: int) -> None:
    """Raise `InputError` unless images are uint8 and digits are labels below `digit_classes`."""
    if not isinstance(images, Tensor) or not isinstance(digits, Tensor):
        raise InputError("images and digits must be tensors: torch.from_numpy makes them of arrays")
    if images.dtype != torch.uint8 or images.dim() not in (3, 4) or images.numel() == 0:
        given = f"{images.dtype} {list(images.shape)}"
        raise InputError(f"images must be uint8 [N, 28, 28] or [N, C, H, W], not {given}")
    if digits.dtype not in WHOLE or digits.shape != images.shape[:1]:
        given = f"{digits.dtype} {list(digits.shape)}"
        raise InputError(f"digits must be whole numbers [{len(images)}], not {given}")
    low = int(digits.min())
    high = int(digits.max())
    if low < 0 or high >= digit_classes:
        raise InputError(f"digits must be 0…{digit_classes - 1}, and there are {low}…{high}")


def check_network(model: nn.Module, sample: Any, digit_classes: int) -> None:
    """Raise `InputError` unless a network takes a batch of samples and gives fitting outputs."""
    if not any(p.requires_grad for p in model.parameters()):
        raise InputError("the network has no parameter to train")
    shapes = f"images {list(sample.image.shape)} and numbers {list(sample.number.shape)}"
    trial = copy.deepcopy(model).eval()
    try:
        with torch.no_grad():
            outputs = trial(sample.image, sample.number)
    except Exception as error:  # a network may fail in any way
        reason = str(error).partition("\n")[0]
        raise InputError(f"the network does not take {shapes}: {reason}") from error
    first_two = outputs[:2] if isinstance(outputs, tuple | list) else [outputs]
    found = [list(output.shape) if isinstance(output, Tensor) else None for output in first_two]
    wanted = [[len(sample.digit), digit_classes], list(sample.sum.shape)]
    if found != wanted:
        raise InputError(
            f"the network must give log_probs and logits {wanted} for {shapes}, not {found}"
        )
    totals = outputs[0].float().exp().sum(1)  # of the ten probabilities of each sample
    if not torch.allclose(totals, torch.ones_like(totals), rtol=0, atol=0.02):  # NaN is not close
        advice = "end the digit's head with log_softmax"
        raise InputError(f"the network's first output must be log-probabilities: {advice}")


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside of what `torch.compile` or `DataParallel` made of it."""
    if hasattr(model, "_orig_mod"):  # torch.compile's
        return unwrapped(model._orig_mod)
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(model.module)
    return model


def serialise(state: dict[str, Any]) -> bytes:
    """Return a training's state as a file's bytes; raise `InputError` if it cannot be read back."""
    for name, value in state["model"].items():
        if not isinstance(value, Tensor):
            raise InputError(f"the network's state {name!r} is no tensor and cannot be saved")
    buffer = io.BytesIO()
    try:
        torch.save(state, buffer)
        buffer.seek(0)
        torch.load(buffer, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its text is advice about loading
        raise InputError(
            "this training cannot be saved: its state holds more than tensors and plain data"
        ) from error
    except Exception as error:  # torch's reader and writer raise errors of many kinds
        reason = str(error).partition("\n")[0]
        raise InputError(f"this training cannot be saved: {reason}") from error
    return buffer.getvalue()
