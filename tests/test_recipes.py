"""The named experiments: complete, and light to import."""

import subprocess
import sys

import pytest

from mnist_adder import models
from mnist_adder.recipes import RECIPES


def test_the_recipes_users_name():
    published = {"cascade", "stuck", "shared-trunk"}
    assert {"adder", "exact-adder", "sums-only", "unstuck"} | published <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_complete(name):
    recipe = RECIPES[name]
    assert recipe.name == name
    assert recipe.about
    assert "\n" not in recipe.about
    assert recipe.length("digits") == recipe.digits_epochs
    assert recipe.length("mnist") == recipe.length("a source of one's own") == recipe.epochs
    assert isinstance(models.build(recipe.model), models.TwoInputNet)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("cascade", ("sgd", 0.01, 0.9, 128, 25, True)),
        ("stuck", ("adam", 0.01, 0.9, 32, 10, False)),
        ("shared-trunk", ("sgd", 0.166, 0.9, 128, 20, False)),
    ],
)
def test_published_settings(name, facts):
    r = RECIPES[name]
    assert (r.optimizer, r.lr, r.momentum, r.batch_size, r.epochs, r.fixed_numbers) == facts


def test_losses_as_published():
    assert (RECIPES["stuck"].digit_weight, RECIPES["stuck"].sum_weight) == (0, 1)
    assert (RECIPES["cascade"].digit_weight, RECIPES["cascade"].sum_weight) == (1, 1)


def test_no_torch_is_imported():
    program = "import sys, mnist_adder.recipes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
