"""Choosing (digit, number) pairs that training never meets: does a network learn to add?"""

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components

from .checks import check_seed
from .data import DIGITS, NUMBERS, SUMS
from .errors import InputError

PAIRS = [(digit, number) for digit in range(DIGITS) for number in range(NUMBERS)]


def pairs_to_withhold(
    count: int, seed: int = 0, *, keep_sums: bool = True
) -> list[tuple[int, int]]:
    """Choose (digit, number) pairs to withhold from training.

    With the same seed, a larger choice contains the smaller ones.

    The hundred pairs are gone through in an order drawn from `seed`. A pair is withheld if the
    pairs that are left connect all digits and numbers, so that all their places on a line can be
    learned, and if each sum keeps a pair. Without `keep_sums`, a sum may lose all of its pairs; 81
    can then be withheld. Raise `InputError` for another `count`.
    """
    order = torch.randperm(
        len(PAIRS), generator=torch.Generator().manual_seed(check_seed(seed))
    ).tolist()
    pairs = [PAIRS[cell] for cell in order]
    if not keep_sums:
        # First the sums 0 and 18: they say only "at most" and "at least", and push places outwards.
        ends = (PAIRS[0], PAIRS[-1])
        pairs.sort(key=lambda pair: pair not in ends)
    shown = np.ones((DIGITS, NUMBERS), bool)
    withheld = []
    for pair in pairs:
        shown[pair] = False
        if _suffice(shown, keep_sums):
            withheld.append(pair)
        else:
            shown[pair] = True
    if not 1 <= count <= len(withheld):
        limit = f"choose 1 to {len(withheld)} with seed {seed}"
        more = "; up to 81 if sums may lose all of their pairs" if keep_sums else ""
        raise InputError(f"{count} pairs cannot be withheld: {limit}{more}")
    return sorted(withheld[:count])


def _suffice(shown: np.ndarray, keep_sums: bool) -> bool:
    """Return whether adding can be learned from the pairs shown, bool [10, 10]."""
    digit, number = shown.nonzero()
    sums = digit + number
    edges = np.zeros((DIGITS + NUMBERS, DIGITS + NUMBERS))
    # Not the pairs of the sums 0 and 18: the ends have no next sum, so a place may lie far outside.
    holds = (sums > 0) & (sums < SUMS - 1)
    edges[digit, DIGITS + number] = holds
    parts, _ = connected_components(edges, directed=False)
    every_sum = len(set(sums)) == SUMS
    return parts == 1 and (every_sum or not keep_sums)
