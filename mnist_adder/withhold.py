"""Choosing (digit, number) pairs that training never meets, to see whether a network learned to add."""

import torch

from .data import DIGITS, NUMBERS, PAIRS
from .errors import InputError


def pairs_to_withhold(count: int, seed: int = 0) -> list[tuple[int, int]]:
    """Choose (digit, number) pairs to withhold from training.

    The hundred pairs are gone through in an order drawn from `seed`. A pair is chosen unless it is the last
    one left of its digit, its number or its sum, so that training meets each of those. Fewer pairs of the same
    seed are a part of more.

    Raises:
        InputError: more pairs than the rule can choose in this order.
    """
    shown = torch.ones(DIGITS, NUMBERS, dtype=torch.bool)
    sums = torch.arange(DIGITS)[:, None] + torch.arange(NUMBERS)
    chosen: list[tuple[int, int]] = []
    for cell in torch.randperm(DIGITS * NUMBERS, generator=torch.Generator().manual_seed(seed)).tolist():
        digit, number = PAIRS[cell]
        of_its_kind = shown[digit], shown[:, number], shown[sums == digit + number]
        if len(chosen) < count and all(pairs.sum() > 1 for pairs in of_its_kind):
            shown[digit, number] = False
            chosen.append((digit, number))
    if len(chosen) < count:
        raise InputError(
            f"{count} pairs cannot be withheld: with seed {seed} at most {len(chosen)} leave each digit, "
            "number and sum in training"
        )
    return sorted(chosen)
