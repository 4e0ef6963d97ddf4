"""Means over steps against means taken of everything at once."""

import pytest
import torch

from mnist_adder.data import Sample
from mnist_adder.losses import Losses
from mnist_adder.metrics import Metrics


@pytest.mark.parametrize("steps", [1, 63, 64, 65, 150])  # 64 are counted at once
def test_means(steps):
    torch.manual_seed(0)
    size = 4
    digit, sum = torch.randint(10, (steps, size)), torch.randint(19, (steps, size))
    log_probs, logits = torch.rand(steps, size, 10), torch.rand(steps, size, 19)
    digit_losses, sum_losses = torch.rand(2, steps)
    log_probs[::2, 0].scatter_(1, digit[::2, :1], 2)  # right, as chance is not
    logits[::3, :2].scatter_(2, sum[::3, :2, None], 2)
    digit_right, sum_right = log_probs.argmax(2) == digit, logits.argmax(2) == sum
    metrics = Metrics(torch.device("cpu"))
    for step in range(steps):
        sample = Sample(torch.zeros(size, 1, 28, 28), torch.zeros(size, 10), digit[step], sum[step])
        losses = Losses(digit_losses[step], sum_losses[step], torch.tensor(0.0))
        metrics.update(sample, log_probs[step], logits[step], losses)
    expected = {
        "digit_accuracy": digit_right.double().mean().item(),
        "sum_accuracy": sum_right.double().mean().item(),
        "joint_accuracy": (digit_right & sum_right).double().mean().item(),
        "digit_loss": digit_losses.mean().item(),
        "sum_loss": sum_losses.mean().item(),
    }
    assert metrics.compute() == pytest.approx(expected)
    assert metrics.compute() == pytest.approx(expected)  # once more
