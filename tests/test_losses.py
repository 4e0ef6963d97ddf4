"""The combined loss against its formulas."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnist_adder.losses import total_loss


@pytest.fixture
def outputs():
    torch.manual_seed(0)
    digit, number = torch.tensor([3, 0, 9, 9]), torch.tensor([4, 0, 9, 1])
    return torch.randn(4, 10).log_softmax(1), digit, torch.randn(4, 19), digit + number


def test_formulas_by_hand(outputs):
    log_probabilities, digit, scores, sum = outputs
    nll = ce = 0.0
    for row in range(4):
        nll -= log_probabilities[row, digit[row]].item() / 4
        partition = math.fsum(math.exp(score) for score in scores[row].tolist())
        ce -= (scores[row, sum[row]].item() - math.log(partition)) / 4
    losses = total_loss(*outputs)
    assert losses.digit.item() == pytest.approx(nll, rel=1e-5)
    assert losses.sum.item() == pytest.approx(ce, rel=1e-5)
    assert losses.total.item() == pytest.approx(nll + ce, rel=1e-5)


@given(
    seed=st.integers(0, 2**40),
    batch=st.integers(1, 9),
    scale=st.floats(0.01, 30),
    digit_weight=st.floats(0, 4),
    sum_weight=st.floats(0, 4),
    smoothing=st.floats(0, 0.5),
)
def test_formulas_for_any_outputs(seed, batch, scale, digit_weight, sum_weight, smoothing):
    random = torch.Generator().manual_seed(seed)
    log_probabilities = (scale * torch.randn(batch, 10, generator=random)).log_softmax(1)
    scores = scale * torch.randn(batch, 19, generator=random)
    digit, number = torch.randint(10, (2, batch), generator=random)
    nll = ce = 0.0
    for row in range(batch):
        logs, z = log_probabilities[row].tolist(), scores[row].tolist()
        nll -= (1 - smoothing) * logs[digit[row]] / batch + smoothing * math.fsum(logs) / 10 / batch
        ce -= (z[digit[row] + number[row]] - math.log(math.fsum(map(math.exp, z)))) / batch
    losses = total_loss(
        log_probabilities,
        digit,
        scores,
        digit + number,
        digit_weight=digit_weight,
        sum_weight=sum_weight,
        label_smoothing=smoothing,
    )
    close = {"rel": 1e-4, "abs": 1e-5 * scale}
    assert losses.digit.item() == pytest.approx(nll, **close)
    assert losses.sum.item() == pytest.approx(ce, **close)
    assert losses.total.item() == pytest.approx(digit_weight * nll + sum_weight * ce, **close)


def test_chance_is_the_log_of_the_classes():
    zeros = torch.zeros(3).long()
    losses = total_loss(torch.zeros(3, 10).log_softmax(1), zeros, torch.zeros(3, 19), zeros)
    assert losses.digit.item() == pytest.approx(math.log(10))
    assert losses.sum.item() == pytest.approx(math.log(19))


def test_one_hot_is_the_index(outputs):
    *rest, sum = outputs
    assert total_loss(*rest, torch.eye(19)[sum]) == total_loss(*rest, sum)


def test_weights(outputs):
    plain = total_loss(*outputs)
    weighted = total_loss(*outputs, digit_weight=0.25, sum_weight=3)
    assert (weighted.digit, weighted.sum) == (plain.digit, plain.sum)
    torch.testing.assert_close(weighted.total, 0.25 * plain.digit + 3 * plain.sum)


@pytest.mark.parametrize("one_hot", [False, True])
def test_minus_infinity_elsewhere_does_no_harm(outputs, one_hot):
    log_probabilities, digit, scores, sum = outputs
    scores = scores.masked_fill(torch.eye(19)[sum] == 0, -torch.inf).requires_grad_()
    losses = total_loss(log_probabilities, digit, scores, torch.eye(19)[sum] if one_hot else sum)
    losses.total.backward()
    assert losses.sum.item() == 0  # the only possible sum is the right one
    assert scores.grad.isfinite().all()


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
    scores, digit = torch.randn(6, 10), torch.arange(6)
    sum_scores, sum = torch.randn(6, 19), torch.arange(6)
    smoothed = total_loss(scores.log_softmax(1), digit, sum_scores, sum, label_smoothing=0.1)
    expected = torch.nn.functional.cross_entropy(scores, digit, label_smoothing=0.1)
    torch.testing.assert_close(smoothed.digit, expected)
    torch.testing.assert_close(smoothed.sum, total_loss(scores, digit, sum_scores, sum).sum)
