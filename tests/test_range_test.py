"""The learning-rate range test."""

import copy
import math
from dataclasses import replace

import pytest
from helpers import refusal, same

from mnist_adder.models import QuickNet
from mnist_adder.range_test import HIGHEST, LOWEST, lr_range
from mnist_adder.recipes import RECIPES

QUICK = replace(RECIPES["speedrun"], batch_size=60)


def test_it_raises_the_rate_and_leaves_the_network_alone(few):
    network = QuickNet().eval()
    before = copy.deepcopy(network)
    result = lr_range(replace(QUICK, sum_weight=1e-9), few, model=network, steps=21)
    assert same(network, before)
    assert not network.training
    ratio = (HIGHEST / LOWEST) ** (1 / 20)
    for step, rate in enumerate(result.rates):
        assert rate == pytest.approx(LOWEST * ratio**step)
    assert len(result.rates) == len(result.losses) == len(result.smoothed)


def test_the_same_seed_gives_the_same_result(few):
    assert lr_range(QUICK, few, steps=20, seed=1) == lr_range(QUICK, few, steps=20, seed=1)


def test_it_suggests_a_rate_on_the_way_down(few):
    result = lr_range(QUICK, few, steps=60)
    lowest = result.rates[result.smoothed.index(min(result.smoothed))]
    assert 1e-4 < result.suggestion < lowest
    assert result.smoothed[0] == pytest.approx(result.losses[0])  # else it would begin near 0


def test_it_stops_when_the_loss_blows_up(few):
    result = lr_range(replace(QUICK, optimizer_options={"momentum": 0.999}), few, steps=60)
    assert len(result.rates) < 60
    assert all(map(math.isfinite, result.losses + result.smoothed))
    assert max(result.smoothed[:-1]) <= 4 * min(result.smoothed)


def test_a_loss_that_never_falls_suggests_nothing(few):
    blind = replace(QUICK, digit_weight=0.0, sum_weight=0.0)
    assert lr_range(blind, few, steps=30).suggestion is None


def test_too_few_steps_and_broken_weights_are_refused(few):
    assert "20 steps or more" in refusal(lr_range, QUICK, few, steps=19)

    class Broken(QuickNet):
        def forward(self, image, number):
            log_probs, logits = super().forward(image, number)
            return log_probs, logits * (math.nan if self.training else 1)

    message = refusal(lr_range, replace(QUICK, model=Broken), few)
    assert "not finite before the first step" in message
