"""Choosing pairs to withhold from training."""

import re

import pytest
from helpers import refusal

from mnist_adder.withhold import PAIRS, pairs_to_withhold


def most(seed: int) -> int:
    """Return the largest number of pairs that can be withheld if every sum is kept."""
    return int(re.search(r"choose 1 to (\d+)", refusal(pairs_to_withhold, 100, seed))[1])


def connected(withheld: list[tuple[int, int]]) -> bool:
    """Return whether each place on the line follows from another; 0 and 18 hold none."""
    shown = set(PAIRS) - set(withheld) - {(0, 0), (9, 9)}
    digits = {0}
    numbers = set()
    for _ in shown:
        numbers |= {number for digit, number in shown if digit in digits}
        digits |= {digit for digit, number in shown if number in numbers}
    return digits == numbers == set(range(10))


@pytest.mark.parametrize("seed", range(3))
def test_what_is_left_holds_every_sum_and_connects_all_digits_and_numbers(seed):
    withheld = pairs_to_withhold(most(seed), seed)
    shown = set(PAIRS) - set(withheld)
    assert {digit + number for digit, number in shown} == set(range(19))
    assert connected(withheld)
    withheld = pairs_to_withhold(81, seed, keep_sums=False)
    assert len(set(withheld)) == 81
    assert connected(withheld)


def test_without_every_sum_the_smallest_and_the_largest_are_withheld_first():
    for seed in range(3):
        assert pairs_to_withhold(2, seed, keep_sums=False) == [(0, 0), (9, 9)]


@pytest.mark.parametrize("keep_sums", [True, False])
def test_pairs_come_from_the_seed_and_fewer_are_a_part_of_more(keep_sums):
    draws = [pairs_to_withhold(20, seed, keep_sums=keep_sums) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    more = pairs_to_withhold(40, 1, keep_sums=keep_sums)
    assert set(draws[0]) < set(more)
    assert len(set(draws[0])) == 20


@pytest.mark.parametrize("count", [0, -1, 82])
@pytest.mark.parametrize("keep_sums", [True, False])
def test_counts_that_are_refused(count, keep_sums):
    message = refusal(pairs_to_withhold, count, keep_sums=keep_sums)
    assert message.startswith(f"{count} pairs cannot be withheld: choose 1 to ")
    assert ("up to 81" in message) is keep_sums
