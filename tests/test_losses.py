"""The combined loss against its formulas."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mnist_adder import total_loss


@pytest.fixture
def outputs():
    """Outputs and labels of a batch of four, in the order of `total_loss`."""
    torch.manual_seed(0)
    digit = torch.tensor([3, 0, 9, 9])
    sum = digit + torch.tensor([4, 0, 9, 1])
    return torch.randn(4, 10).log_softmax(1), digit, torch.randn(4, 19), sum


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
    nll = 0.0
    ce = 0.0
    for row in range(batch):
        logs = log_probs[row].tolist()
        z = logits[row].tolist()
        nll -= (1 - smoothing) * logs[digit[row]] / batch + smoothing * math.fsum(logs) / 10 / batch
        ce -= (z[digit[row] + number[row]] - math.log(math.fsum(map(math.exp, z)))) / batch
    losses = total_loss(
        log_probs,
        digit,
        logits,
        digit + number,
        digit_weight=digit_weight,
        sum_weight=sum_weight,
        label_smoothing=smoothing,
    )
    close = {"rel": 1e-4, "abs": 1e-5 * spread}
    assert losses.digit.item() == pytest.approx(nll, **close)
    assert losses.sum.item() == pytest.approx(ce, **close)
    assert losses.total.item() == pytest.approx(digit_weight * nll + sum_weight * ce, **close)


def test_a_one_hot_sum_is_its_class(outputs):
    *others, sum = outputs
    one_hot = torch.eye(19)[sum]
    torch.testing.assert_close(total_loss(*others, one_hot), total_loss(*others, sum))


def test_a_soft_sum_is_the_expected_loss(outputs):
    log_probs, digit, logits, sum = outputs
    soft = 0.7 * torch.eye(19)[sum] + 0.3 * torch.eye(19)[3]
    losses = total_loss(log_probs, digit, logits, soft)
    other = torch.full_like(sum, 3)
    expected = 0.7 * F.cross_entropy(logits, sum) + 0.3 * F.cross_entropy(logits, other)
    torch.testing.assert_close(losses.sum, expected)
