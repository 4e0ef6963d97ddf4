"""Choosing (digit, number) pairs that training never meets, to see whether a network learned to add."""

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from .data import DIGITS, NUMBERS, PAIRS, SUMS
from .errors import InputError


def pairs_to_withhold(count: int, seed: int = 0, *, keep_sums: bool = True) -> list[tuple[int, int]]:
    """Choose (digit, number) pairs to withhold from training; fewer pairs of the same seed are a part of more.

    The hundred pairs are gone through in an order drawn from `seed`, and each is withheld if a rule still holds for
    the pairs that are left: each digit, number and sum keeps a pair. Without `keep_sums`, the rule is that the pairs
    left connect all digits and numbers, so that all their places on a line can be learned; 81 can then be withheld.
    A pair with the sum 0 or 18 is no connection, because it says only "at most" or "at least".

    Raises:
        InputError: more pairs than the rule allows in this order, or less than one.
    """
    order = torch.randperm(len(PAIRS), generator=torch.Generator().manual_seed(seed)).tolist()
    if not keep_sums:  # first the two pairs that are no connection: they would push their places outwards
        order.sort(key=lambda cell: cell not in (0, len(PAIRS) - 1))
    rule = _keeps_each_sum if keep_sums else _connects_all
    shown, withheld = torch.ones(DIGITS, NUMBERS, dtype=torch.bool), []
    for pair in (PAIRS[cell] for cell in order):
        shown[pair] = False
        if rule(shown):
            withheld.append(pair)
        else:
            shown[pair] = True
    if not 1 <= count <= len(withheld):
        raise InputError(f"{count} pairs cannot be withheld: choose 1 to {len(withheld)} with seed {seed}")
    return sorted(withheld[:count])


def _keeps_each_sum(shown: Tensor) -> bool:
    digit, number = shown.nonzero(as_tuple=True)
    return [len(values.unique()) for values in (digit, number, digit + number)] == [DIGITS, NUMBERS, SUMS]


def _connects_all(shown: Tensor) -> bool:
    edges = np.zeros((DIGITS + NUMBERS, DIGITS + NUMBERS))
    edges[:DIGITS, DIGITS:] = shown
    edges[0, DIGITS] = edges[DIGITS - 1, -1] = 0
    return connected_components(edges, directed=False)[0] == 1
