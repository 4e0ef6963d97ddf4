"""Choosing (digit, number) pairs that training never meets, to see whether a network learned to add."""

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components

from .checks import InputError
from .data import DIGITS, NUMBERS, PAIRS, SUMS


def pairs_to_withhold(count: int, seed: int = 0, *, keep_sums: bool = True) -> list[tuple[int, int]]:
    """Choose (digit, number) pairs to withhold from training; fewer pairs of the same seed are a part of more.

    The hundred pairs are gone through in an order drawn from `seed`. A pair is withheld if the pairs that are left connect
    all digits and numbers, so that all their places on a line can be learned, and if each sum keeps a pair. Without
    `keep_sums`, a sum may lose all of its pairs; 81 can then be withheld. `InputError` for another `count`.
    """
    order = torch.randperm(len(PAIRS), generator=torch.Generator().manual_seed(seed)).tolist()
    if not keep_sums:  # first the sums 0 and 18: they say only "at most" and "at least", and push places outwards
        order.sort(key=lambda cell: cell not in (0, len(PAIRS) - 1))
    shown, withheld = np.ones((DIGITS, NUMBERS), bool), []
    for pair in (PAIRS[cell] for cell in order):
        shown[pair] = False
        if _suffice(shown, keep_sums):
            withheld.append(pair)
        else:
            shown[pair] = True
    if not 1 <= count <= len(withheld):
        more = "; up to 81 if sums may lose all of their pairs (--any-sum)" if keep_sums else ""
        raise InputError(f"{count} pairs cannot be withheld: choose 1 to {len(withheld)} with seed {seed}{more}")
    return sorted(withheld[:count])


def _suffice(shown: np.ndarray, keep_sums: bool) -> bool:
    """Whether adding can be learned from the pairs shown, bool [10, 10]."""
    digit, number = shown.nonzero()
    edges = np.zeros((DIGITS + NUMBERS, DIGITS + NUMBERS))
    edges[digit, DIGITS + number] = (digit + number) % (SUMS - 1) > 0  # the sums 0 and 18 hold no place from both sides
    return connected_components(edges, directed=False)[0] == 1 and (not keep_sums or len(set(digit + number)) == SUMS)
