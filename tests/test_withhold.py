"""Choosing pairs to withhold from training."""

import pytest

from mnist_adder.data import PAIRS
from mnist_adder.errors import InputError
from mnist_adder.withhold import pairs_to_withhold


@pytest.mark.parametrize("seed", range(5))
def test_every_digit_number_and_sum_stays_in_training(seed):
    withheld = pairs_to_withhold(60, seed)
    assert len(set(withheld)) == 60
    shown = set(PAIRS) - set(withheld)
    digits, numbers = zip(*shown, strict=True)
    assert set(digits) == set(numbers) == set(range(10))
    assert {digit + number for digit, number in shown} == set(range(19))


def test_withheld_pairs_come_from_the_seed():
    assert pairs_to_withhold(0) == []
    assert pairs_to_withhold(20, 1) == pairs_to_withhold(20, 1) != pairs_to_withhold(20, 2)
    assert set(pairs_to_withhold(20, 1)) < set(pairs_to_withhold(30, 1))


def test_too_many_pairs_to_withhold():
    with pytest.raises(InputError, match="82 pairs cannot be withheld: with seed 0 at most"):
        pairs_to_withhold(82)
