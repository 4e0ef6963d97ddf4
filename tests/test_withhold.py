"""Choosing pairs to withhold from training."""

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


@pytest.mark.parametrize("seed", range(20))
def test_without_every_sum_81_pairs_leave_all_digits_and_numbers_connected(seed):
    withheld = pairs_to_withhold(81, seed, keep_sums=False)
    assert len(set(withheld)) == 81
    # With the digit 0 at place 0, each pair shown gives the place of its number or of its digit.
    shown, digits, numbers = set(PAIRS) - set(withheld), {0}, set()
    for _ in shown:
        numbers |= {number for digit, number in shown if digit in digits}
        digits |= {digit for digit, number in shown if number in numbers}
    assert digits == numbers == set(range(10))


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
    assert "\n" not in str(refusal.value)
