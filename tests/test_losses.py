"""The combined loss against its formulas."""

import math

import pytest
import torch
from hypothesis import given, strategies as st

from mnist_adder.losses import total_loss


@pytest.fixture
def outputs():
    torch.manual_seed(0)
    digit, number = torch.tensor([3, 0, 9, 9]), torch.tensor([4, 0, 9, 1])
    return torch.randn(4, 10).log_softmax(1), digit, torch.randn(4, 19), digit + number


@given(
    seed=st.integers(0, 2**40),
    batch=st.integers(1, 9),
    spread=st.floats(0.01, 30),
    digit_weight=st.floats(0, 4),
    sum_weight=st.floats(0, 4),
    smoothing=st.floats(0, 0.5),
)
def test_formulas_for_any_outputs(seed, batch, spread, digit_weight, sum_weight, smoothing):
    random = torch.Generator().manual_seed(seed)
    log_probs = (spread * torch.randn(batch, 10, generator=random)).log_softmax(1)
    logits = spread * torch.randn(batch, 19, generator=random)
    digit, number = torch.randint(10, (2, batch), generator=random)
    nll = ce = 0.0
    for row in range(batch):
        logs, z = log_probs[row].tolist(), logits[row].tolist()
        nll -= (1 - smoothing) * logs[digit[row]] / batch + smoothing * math.fsum(logs) / 10 / batch
        ce -= (z[digit[row] + number[row]] - math.log(math.fsum(map(math.exp, z)))) / batch
    weights = {"digit_weight": digit_weight, "sum_weight": sum_weight, "label_smoothing": smoothing}
    losses = total_loss(log_probs, digit, logits, digit + number, **weights)
    close = {"rel": 1e-4, "abs": 1e-5 * spread}
    assert losses.digit.item() == pytest.approx(nll, **close)
    assert losses.sum.item() == pytest.approx(ce, **close)
    assert losses.total.item() == pytest.approx(digit_weight * nll + sum_weight * ce, **close)


def test_both_parts_weigh_the_same_unless_told(outputs):
    losses = total_loss(*outputs)
    assert losses.total == losses.digit + losses.sum


def test_chance_is_the_log_of_the_classes():
    zeros = torch.zeros(3).long()
    losses = total_loss(torch.zeros(3, 10).log_softmax(1), zeros, torch.zeros(3, 19), zeros)
    assert losses.digit.item() == pytest.approx(math.log(10))
    assert losses.sum.item() == pytest.approx(math.log(19))


def test_one_hot_is_the_index(outputs):
    *others, sum = outputs
    assert total_loss(*others, torch.eye(19)[sum]) == total_loss(*others, sum)


@pytest.mark.parametrize("one_hot", [False, True])
def test_minus_infinity_elsewhere_does_no_harm(outputs, one_hot):
    log_probs, digit, logits, sum = outputs
    logits = logits.masked_fill(torch.eye(19)[sum] == 0, -torch.inf).requires_grad_()
    losses = total_loss(log_probs, digit, logits, torch.eye(19)[sum] if one_hot else sum)
    losses.total.backward()
    assert losses.sum.item() == 0  # the only possible sum is the right one
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (0, torch.zeros(3, 10)),
        (1, torch.zeros(3).long()),
        (1, torch.zeros(4, 10)),
        (2, torch.zeros(3, 19)),
        (3, torch.zeros(3).long()),
        (3, torch.zeros(4, 10)),
        (3, torch.zeros(4, 1).long()),
    ],
)
def test_shapes_that_do_not_fit(outputs, place, wrong):
    arguments = [*outputs]
    arguments[place] = wrong
    with pytest.raises(ValueError) as refusal:
        total_loss(*arguments)
    assert str(list(wrong.shape)) in str(refusal.value)


def test_label_smoothing_is_that_of_cross_entropy():
    digit_logits, digit = torch.randn(6, 10), torch.arange(6)
    logits, sum = torch.randn(6, 19), torch.arange(6)
    smoothed = total_loss(digit_logits.log_softmax(1), digit, logits, sum, label_smoothing=0.1)
    expected = torch.nn.functional.cross_entropy(digit_logits, digit, label_smoothing=0.1)
    torch.testing.assert_close(smoothed.digit, expected)
    torch.testing.assert_close(smoothed.sum, torch.nn.functional.cross_entropy(logits, sum))
