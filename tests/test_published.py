"""The published systems: their networks and their recipes, as they were published."""

import pytest
import torch

from mnist_adder.losses import total_loss
from mnist_adder.models import TwoInputNet, build, parameter_count
from mnist_adder.published.networks import Cascade, SharedTrunk, TwoHeads, TwoSoftmaxHeads
from mnist_adder.published.recipes import RECIPES
from mnist_adder.recipes import RECIPES as OURS

PUBLISHED = ("cascade", "stuck", "unstuck", "shared-trunk")


def test_the_recipes_are_ours_and_theirs():
    assert {**OURS, **RECIPES} == RECIPES
    assert set(RECIPES) == {*OURS, *PUBLISHED}


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_are_complete(name):
    recipe = RECIPES[name]
    assert recipe.name == name
    assert recipe.about
    assert isinstance(build(recipe.model), TwoInputNet)


@pytest.mark.parametrize(
    ("network", "fewest", "most"),
    [
        (Cascade, 21_843, 21_843),
        (TwoSoftmaxHeads, 35_357, 35_357),
        (TwoHeads, 35_357, 35_357),
        (SharedTrunk, 17_200, 17_400),
    ],
)
def test_parameters(network, fewest, most):
    assert fewest <= parameter_count(network()) <= most


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("cascade", ("SGD", {"momentum": 0.9}, 0.01, "constant", 128, 25, True, 1, 1)),
        ("stuck", ("Adam", {}, 0.01, "constant", 32, 10, False, 0, 1)),
    ],
)
def test_settings(name, settings):
    r = RECIPES[name]
    optimizer = r.optimizer, r.optimizer_options, r.lr, r.schedule
    assert (*optimizer, r.batch_size, r.length("mnist"), r.fixed_numbers, r.digit_weight, r.sum_weight) == settings


def test_settings_of_the_shared_trunk():
    r = RECIPES["shared-trunk"]
    settings = r.optimizer, r.lr, r.schedule, r.averaging, r.batch_size, r.length("mnist")
    assert settings == ("SGD", 0.166, "one-cycle", "swa", 128, 20)


@pytest.mark.parametrize(("network", "brightest"), [(Cascade(), 255), (TwoHeads(), 1)])
def test_systems_a_and_b_see_pixels_that_are_not_normalised(network, brightest):
    pixels, inputs = torch.rand(2, 1, 28, 28), []
    network.cnn.register_forward_pre_hook(lambda cnn, arguments: inputs.append(arguments[0]))
    network.features((pixels - 0.1307) / 0.3081)
    torch.testing.assert_close(inputs[0], brightest * pixels)


def test_no_gradient_reaches_system_bs_digit_head():
    network = TwoSoftmaxHeads()
    digit, number = torch.tensor([0, 9, 3]), torch.tensor([1, 4, 9])
    log_probs, logits = network(torch.randn(3, 1, 28, 28), torch.eye(10)[number])
    total_loss(log_probs, digit, logits, digit + number, digit_weight=0).total.backward()
    assert not any(p.grad.any() for p in network.digit_head.parameters())
    assert all(p.grad.any() for p in network.sum_head.parameters())
    torch.testing.assert_close(logits.sum(1), torch.ones(3))  # probabilities, which a loss does not expect
