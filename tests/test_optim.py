"""Optimisers, learning-rate schedules and averages of the weights."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from mnist_adder.checks import CHOICES, InputError
from mnist_adder.models import AdderNet
from mnist_adder.optim import WeightAverage, make_optimizer, make_scheduler
from mnist_adder.recipes import RECIPES

ADDER = RECIPES["adder"]


@pytest.mark.parametrize("name", CHOICES["optimizer"])
def test_every_optimizer_steps_at_the_recipes_rate(name):
    network = nn.Linear(3, 2)
    before = copy.deepcopy(network.state_dict())
    optimizer = make_optimizer(replace(ADDER, optimizer=name, optimizer_options={}, lr=0.01), network)
    assert type(optimizer) is getattr(torch.optim, name)
    assert all(group["lr"] == 0.01 for group in optimizer.param_groups)
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert not any(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_options_reach_the_optimizer():
    options = {"betas": (0.8, 0.9), "eps": 1e-6}
    optimizer = make_optimizer(replace(ADDER, optimizer="AdamW", optimizer_options=options), AdderNet())
    assert options.items() <= optimizer.defaults.items()


def test_only_weights_of_two_and_more_dimensions_decay():
    network = AdderNet()
    before = {name: p.clone() for name, p in network.named_parameters()}
    optimizer = make_optimizer(replace(ADDER, lr=0.1, optimizer_options={"weight_decay": 0.5}), network)
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in network.named_parameters():
        torch.testing.assert_close(p, before[name] * (0.95 if p.dim() > 1 else 1))


def test_frozen_parameters_are_not_trained():
    network = AdderNet()
    network.cnn.requires_grad_(False)
    groups = make_optimizer(ADDER, network).param_groups
    assert {p for group in groups for p in group["params"]} == set(network.adder.parameters())


@pytest.mark.parametrize(
    "options", [{"momenta": 0.9}, {"momentum": -1}, {"momentum": "much"}, {"lr": 0.1}, {"foreach": True}]
)
def test_options_that_the_optimizer_refuses(options):
    with pytest.raises(InputError, match="SGD") as refusal:
        make_optimizer(replace(ADDER, optimizer_options=options), AdderNet())
    assert next(iter(options)) in str(refusal.value)


def rates(steps: int, **changes) -> list[float]:
    """The learning rate of each step."""
    recipe = replace(ADDER, **changes)
    optimizer = make_optimizer(recipe, nn.Linear(1, 1))
    scheduler, values = make_scheduler(recipe, optimizer, steps), []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_one_cycle_rises_to_the_recipes_rate_and_ends_near_zero(optimizer):
    values = rates(100, optimizer=optimizer, optimizer_options={}, schedule="one-cycle", lr=0.4, pct_start=0.25)
    assert max(values) == pytest.approx(0.4)
    assert values.index(max(values)) in (24, 25)
    assert values[0] < 0.1 and values[-1] < 0.001


@pytest.mark.parametrize("pct_start", [0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 10, 100])
def test_one_cycle_of_any_length(steps, pct_start):
    values = rates(steps, schedule="one-cycle", lr=0.4, pct_start=pct_start)
    assert all(0 <= value <= 0.4 + 1e-9 for value in values)


def test_the_other_schedules():
    assert rates(5, schedule="constant", lr=0.4) == [0.4] * 5
    values = rates(100, schedule="cosine", lr=0.4)
    assert values[0] == 0.4
    assert values[50] == pytest.approx(0.2)
    assert values[-1] < 0.001
    assert values == sorted(values, reverse=True)


class Weight(nn.Linear):
    """A single weight, and a running mean and a count as BatchNorm has them."""

    def __init__(self) -> None:
        super().__init__(1, 1, bias=False)
        self.register_buffer("running_mean", torch.zeros(()))
        self.register_buffer("count", torch.tensor(0))


VALUES = (1.0, 5.0, 2.0, 8.0, 3.0, 9.0, 4.0, 6.0)


def averages(average: WeightAverage, weight: Weight, values) -> list[float]:
    """The average after each step that sets the weight."""
    results = []
    for value in values:
        nn.init.constant_(weight.weight, value)
        weight.running_mean.fill_(-value)
        average.update()
        assert average.model.running_mean.item() == pytest.approx(-average.model.weight.item())
        results.append(average.model.weight.item())
    return results


def expected_averages(averaging: str | None) -> list[float]:
    # "swa" is the plain mean of the last half.
    return [*VALUES] if averaging is None else [1.0, 5.0, 2.0, 8.0, 3.0, 6.0, 16 / 3, 5.5]


AVERAGING = pytest.mark.parametrize("averaging", CHOICES["averaging"])


@AVERAGING
def test_averaged_weights(averaging):
    weight = Weight()
    average = WeightAverage(replace(ADDER, averaging=averaging, averaged_share=0.5), weight, 8)  # 4 steps
    assert average.model is weight
    assert averages(average, weight, VALUES) == pytest.approx(expected_averages(averaging))
    assert weight.weight.item() == 6.0  # training goes on from its own weights


@AVERAGING
@pytest.mark.parametrize("done", range(9))
def test_a_resumed_average(averaging, done):
    recipe, weight, resumed = replace(ADDER, averaging=averaging, averaged_share=0.5), Weight(), Weight()
    average, other = WeightAverage(recipe, weight, 8), WeightAverage(recipe, resumed, 8)
    averages(average, weight, VALUES[:done])
    state = copy.deepcopy(average.state_dict())
    resumed.load_state_dict(weight.state_dict())
    other.load_state_dict(state)
    assert averages(other, resumed, VALUES[done:]) == pytest.approx(expected_averages(averaging)[done:])


@pytest.mark.parametrize("share", [0, 1])
def test_averages_of_one_step_and_of_all(share):
    weight = Weight()
    average = WeightAverage(replace(ADDER, averaging="swa", averaged_share=share), weight, 8)
    assert averages(average, weight, VALUES)[-1] == pytest.approx(4.75 if share else 6.0)
