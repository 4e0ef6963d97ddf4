"""Our recipes: complete, and as long as they say. What they may hold is tested in test_checks.py."""

from dataclasses import replace

import pytest

from mnist_adder.models import AdderNet, TwoInputNet, build
from mnist_adder.recipes import RECIPES, Recipe


@pytest.mark.parametrize("name", ["adder", "speedrun", "exact-adder", "sums-only"])
def test_recipes_are_complete(name):
    recipe = RECIPES[name]
    assert recipe.name == name
    assert recipe.about
    assert "\n" not in recipe.about
    assert isinstance(build(recipe.model), TwoInputNet)


def test_the_sums_only_recipe_uses_no_digit_label():
    assert (RECIPES["sums-only"].digit_weight, RECIPES["sums-only"].sum_weight) == (0, 1)


@pytest.mark.parametrize(
    ("epochs", "mnist", "digits", "other"),
    [
        (40, 40, 40, 40),
        ({"mnist": 1, "digits": 30}, 1, 30, 1),
        ({"digits": 30}, 30, 30, 30),
        ({"other": 7, "mnist": 2}, 2, 2, 7),
    ],
)
def test_length_by_source(epochs, mnist, digits, other):
    recipe = Recipe(name="mine", model=AdderNet, epochs=epochs, lr=0.1)
    assert [recipe.length(source) for source in ("mnist", "digits", "other")] == [mnist, digits, other]


def test_a_recipe_is_checked_when_it_is_changed():
    with pytest.raises(ValueError, match="lr must be a number"):
        replace(RECIPES["adder"], lr=-1)
