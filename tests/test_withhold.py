"""Choosing pairs to withhold from training."""

import re

import pytest

from mnist_adder.checks import InputError
from mnist_adder.data import PAIRS
from mnist_adder.withhold import pairs_to_withhold


@pytest.mark.parametrize("seed", range(5))
def test_every_digit_number_and_sum_stays_in_training(seed):
    withheld = pairs_to_withhold(60, seed)
    assert len(set(withheld)) == 60
    shown = set(PAIRS) - set(withheld)
    digits, numbers = zip(*shown, strict=True)
    assert set(digits) == set(numbers) == set(range(10))
    assert {digit + number for digit, number in shown} == set(range(19))


def connected(withheld) -> bool:
    """Whether each place on the line follows from another one; the sums 0 and 18 hold a place from one side only."""
    shown = set(PAIRS) - set(withheld) - {(0, 0), (9, 9)}
    digits, numbers = {0}, set()
    for _ in shown:
        numbers |= {number for digit, number in shown if digit in digits}
        digits |= {digit for digit, number in shown if number in numbers}
    return digits == numbers == set(range(10))


def most(seed: int) -> int:
    """The largest number of pairs that can be withheld if every sum is kept."""
    with pytest.raises(InputError) as refusal:
        pairs_to_withhold(100, seed)
    return int(re.search(r"choose 1 to (\d+)", str(refusal.value))[1])


@pytest.mark.parametrize("seed", range(20))
def test_what_is_left_connects_all_digits_and_numbers(seed):
    assert connected(pairs_to_withhold(most(seed), seed))
    withheld = pairs_to_withhold(81, seed, keep_sums=False)
    assert len(set(withheld)) == 81 and connected(withheld)


@pytest.mark.parametrize("seed", range(20))
def test_without_every_sum_the_smallest_and_the_largest_are_withheld_first(seed):
    assert pairs_to_withhold(2, seed, keep_sums=False) == [(0, 0), (9, 9)]


@pytest.mark.parametrize("keep_sums", [True, False])
def test_withheld_pairs_come_from_the_seed(keep_sums):
    draws = [pairs_to_withhold(20, seed, keep_sums=keep_sums) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize(("keep_sums", "counts"), [(True, (20, 30, 60)), (False, (20, 40, 81))])
def test_fewer_pairs_are_a_part_of_more(keep_sums, counts):
    few, more, most = (set(pairs_to_withhold(count, 1, keep_sums=keep_sums)) for count in counts)
    assert few < more < most


@pytest.mark.parametrize("count", [0, -1, 82])
@pytest.mark.parametrize("keep_sums", [True, False])
def test_counts_that_are_refused(count, keep_sums):
    with pytest.raises(InputError) as refusal:
        pairs_to_withhold(count, keep_sums=keep_sums)
    message = f"{count} pairs cannot be withheld: choose 1 to "
    assert str(refusal.value).startswith(message)
    assert ("--any-sum" in str(refusal.value)) is keep_sums
    assert "\n" not in str(refusal.value)
