"""The learning-rate range test."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from mnist_adder.checks import InputError
from mnist_adder.models import AdderNet
from mnist_adder.range_test import lr_range
from mnist_adder.recipes import RECIPES


def test_it_raises_the_rate_and_leaves_the_network_alone(few, quick):
    network = AdderNet().eval()
    before = copy.deepcopy(network.state_dict())
    result = lr_range(quick, few, model=network, lowest=1e-4, highest=1e-2, steps=21)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not network.training
    assert (result.rates[0], result.rates[10], result.rates[-1]) == pytest.approx((1e-4, 1e-3, 1e-2))
    assert len(result.rates) == len(result.losses) == len(result.smoothed) == 21
    assert lr_range(quick, few, model=network, lowest=1e-4, highest=1e-2, steps=21) == result


def test_it_suggests_a_rate_on_the_way_down(digits):
    result = lr_range(RECIPES["adder"], digits, steps=60)
    lowest = result.rates[result.smoothed.index(min(result.smoothed))]
    assert 1e-4 < result.suggestion < lowest
    assert result.smoothed[0] == pytest.approx(result.losses[0])  # without correction it would begin near 0


def test_it_stops_when_the_loss_blows_up(few, quick):
    result = lr_range(quick, few, highest=1e30, steps=100)
    assert len(result.rates) < 100
    assert all(map(math.isfinite, result.losses + result.smoothed))
    assert max(result.smoothed[:-1]) <= 4 * min(result.smoothed)


def test_a_loss_that_never_falls_suggests_nothing(few, quick):
    blind = replace(quick, digit_weight=0.0, sum_weight=0.0)
    assert lr_range(blind, few, steps=30).suggestion is None


@pytest.mark.parametrize(
    "limits", [{"lowest": 0.0}, {"lowest": 20.0}, {"highest": math.inf}, {"lowest": math.nan}, {"steps": 19}]
)
def test_limits_out_of_range(few, quick, limits):
    with pytest.raises(InputError, match="range test"):
        lr_range(quick, few, **limits)


def test_broken_weights(few, quick):
    network = AdderNet()
    with torch.no_grad():
        next(network.parameters()).fill_(math.nan)
    with pytest.raises(InputError, match="not finite"):
        lr_range(quick, few, model=network)
