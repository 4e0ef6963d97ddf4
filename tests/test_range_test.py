"""The learning-rate range test."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from mnist_adder.data import Data, Split
from mnist_adder.errors import InputError
from mnist_adder.models import QuickNet
from mnist_adder.range_test import HIGHEST, LOWEST, lr_range
from mnist_adder.recipes import RECIPES
from mnist_adder.sources import load_data

QUICK = replace(RECIPES["speedrun"], batch_size=60)


@pytest.fixture(scope="module")
def small() -> Data:
    """240 training and 60 test images of the bundled digits."""
    data = load_data("digits")
    train = Split(data.train.images[:240], data.train.digits[:240])
    test = Split(data.test.images[:60], data.test.digits[:60])
    return Data("digits", train, test)


def test_it_raises_the_rate_and_leaves_the_network_alone(small):
    network = QuickNet().eval()
    before = copy.deepcopy(network.state_dict())
    result = lr_range(replace(QUICK, sum_weight=1e-9), small, model=network, steps=21)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not network.training
    ratio = (HIGHEST / LOWEST) ** (1 / 20)
    for step, rate in enumerate(result.rates):
        assert rate == pytest.approx(LOWEST * ratio**step)
    assert len(result.rates) == len(result.losses) == len(result.smoothed)


def test_the_same_seed_gives_the_same_result(small):
    assert lr_range(QUICK, small, steps=20, seed=1) == lr_range(QUICK, small, steps=20, seed=1)


def test_it_suggests_a_rate_on_the_way_down(small):
    result = lr_range(QUICK, small, steps=60)
    lowest = result.rates[result.smoothed.index(min(result.smoothed))]
    assert 1e-4 < result.suggestion < lowest
    assert result.smoothed[0] == pytest.approx(result.losses[0])  # else it would begin near 0


def test_it_stops_when_the_loss_blows_up(small):
    result = lr_range(replace(QUICK, optimizer_options={"momentum": 0.999}), small, steps=60)
    assert len(result.rates) < 60
    assert all(map(math.isfinite, result.losses + result.smoothed))
    assert max(result.smoothed[:-1]) <= 4 * min(result.smoothed)


def test_a_loss_that_never_falls_suggests_nothing(small):
    blind = replace(QUICK, digit_weight=0.0, sum_weight=0.0)
    assert lr_range(blind, small, steps=30).suggestion is None


def test_too_few_steps_and_broken_weights_are_refused(small):
    with pytest.raises(InputError, match="20 steps or more"):
        lr_range(QUICK, small, steps=19)

    class Broken(QuickNet):
        def forward(self, image, number):
            log_probs, logits = super().forward(image, number)
            return log_probs, logits * (math.nan if self.training else 1)

    with pytest.raises(InputError, match="not finite before the first step"):
        lr_range(replace(QUICK, model=Broken), small)
