"""Checks of what users bring: recipes, data and networks. This file imports no torch, so that ``--help`` is quick."""

import re
from collections.abc import Mapping
from typing import Any

from .errors import InputError

CHOICES = {
    "optimizer": ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "Adagrad"),  # classes of torch.optim
    "schedule": ("constant", "one-cycle", "cosine"),
    "averaging": (None, "swa"),
}
RANGES = {"epochs": (1, 1_000_000), "batch_size": (2, 1_000_000), "lr": (1e-12, 1e30), "pct_start": (0, 0.99)}
RANGES |= {"averaged_share": (0, 1), "label_smoothing": (0, 1), "digit_weight": (0, 1e6), "sum_weight": (0, 1e6)}
RANGES |= {"degrees": (0, 180), "translate": (0, 1), "scale": (0, 0.9), "shear": (0, 60)}


def check_recipe(recipe: Any, models: Mapping[str, str]) -> None:
    """Raise `InputError` unless a `Recipe` names things that exist, and its numbers lie in their ranges."""
    for name, allowed in {"model": (*models, "package.module:Name"), **CHOICES}.items():
        value = getattr(recipe, name)
        custom = name == "model" and (callable(value) or re.fullmatch(r"[\w.-]+:[^/\\]+", str(value)))
        if value not in allowed and not custom:
            raise InputError(f"{name} cannot be {value!r}: choose one of {', '.join(map(str, allowed))}")
    for name, (low, high) in RANGES.items():
        value = getattr(recipe, name)
        kind, types = ("whole number", int) if name in ("epochs", "batch_size") else ("number", int | float)
        for number in value.values() if isinstance(value, Mapping) else [value]:
            if isinstance(number, bool) or not isinstance(number, types) or not low <= number <= high:
                raise InputError(f"{name} must be a {kind} from {low:,} to {high:,}, not {number!r:.40}")


def check_seed(seed: int) -> None:
    """Raise `InputError` unless a seed is a whole number that PyTorch's generators take."""
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise InputError(f"a seed must be a whole number from 0 to 2⁶³ − 1, not {seed!r:.40}")


def check_split(images: Any, digits: Any) -> None:
    """Raise `InputError` unless images are ``uint8 [N, 28, 28]`` and digits ``int64 [N]`` in 0–9, N ≥ 1."""
    if not all(hasattr(part, "is_cuda") for part in (images, digits)):
        raise InputError("images and digits must be tensors: torch.from_numpy makes them from arrays")
    image_type, digit_type = (f"{str(t.dtype).removeprefix('torch.')} {list(t.shape)}" for t in (images, digits))
    if not image_type.startswith("uint8") or images.shape[1:] != (28, 28) or not len(images):
        raise InputError(f"images must be uint8 [N, 28, 28], N at least 1, not {image_type}")
    if digit_type != f"int64 [{len(images)}]":
        raise InputError(f"digits must be int64 [{len(images)}], not {digit_type}")
    if not 0 <= int(digits.min()) <= int(digits.max()) <= 9:
        raise InputError(f"digits must be 0–9, not {int(digits.min())}…{int(digits.max())}")


def check_outputs(model: Any) -> None:
    """Try a network; raise `InputError` unless its outputs are log-probabilities [B, 10] and logits [B, 19]."""
    weight, was_training = next(model.parameters()).detach(), model.training
    outputs = model.eval()(weight.new_zeros(2, 1, 28, 28), weight.new_zeros(2, 10))
    model.train(was_training)
    shapes = [list(output.shape) for output in outputs] if isinstance(outputs, tuple) else type(outputs).__name__
    if shapes != [[2, 10], [2, 19]]:
        raise InputError(f"the network must return log_probs [B, 10] and logits [B, 19], not {shapes} for B = 2")
    if not (outputs[0].float().exp().sum(1) - 1).abs().max() <= 0.02:  # NaN is not below it
        raise InputError("the network's first output must be log-probabilities: end the digit's head with log_softmax")
