"""Recipes: complete, immutable all the way down, and made of plain data."""

import json
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from helpers import refusal

from mnist_adder import RECIPES, AdderNet, Epochs, RandomAffine, Recipe, TwoInputNet

ADDER = RECIPES["adder"]


@pytest.mark.parametrize(
    "name", ["adder", "large", "number-line", "exact-adder", "sums-only", "speedrun"]
)
def test_our_recipes_are_complete(name):
    recipe = RECIPES[name]
    assert recipe.name == name
    assert recipe.about
    assert "\n" not in recipe.about
    assert isinstance(recipe.model(), TwoInputNet)


def test_a_recipe_needs_a_name_a_network_epochs_and_a_rate():
    recipe = Recipe(name="mine", model=AdderNet, epochs=3, lr=0.1)
    assert [recipe.epochs_on(source) for source in ("mnist", "digits", "mine")] == [3, 3, 3]
    recipe = replace(recipe, epochs=Epochs(mnist=3, digits=30))
    assert [recipe.epochs_on(source) for source in ("mnist", "digits", "mine")] == [3, 30, 3]
    # A number of epochs of one's own counts on every source.
    assert [replace(ADDER, epochs=4).epochs_on(source) for source in ("mnist", "digits")] == [4, 4]


def test_a_recipe_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        ADDER.lr = 1.0
    with pytest.raises(TypeError):
        ADDER.optimizer_options["momentum"] = 0
    options = {"betas": [0.9, 0.99]}
    recipe = replace(ADDER, optimizer="AdamW", optimizer_options=options)
    options["betas"][0] = 0.0
    options["eps"] = 1.0
    assert dict(recipe.optimizer_options) == {"betas": (0.9, 0.99)}


def test_recipes_are_equal_and_hashed_by_their_values():
    assert len({ADDER, replace(ADDER), replace(ADDER, lr=0.2)}) == 2
    hash(replace(ADDER, optimizer_options={"betas": [0.9, 0.99]}))


def test_numpy_numbers_become_plain_ones():
    recipe = replace(
        ADDER,
        lr=np.float64(0.02),
        epochs=np.int64(3),
        optimizer_options={"momentum": np.float32(0.5), "betas": (np.float64(0.9), 0.99)},
    )
    options = dict(recipe.optimizer_options)
    values = (recipe.lr, recipe.epochs, options["momentum"], options["betas"][0])
    assert [type(value) for value in values] == [float, int, float, float]


def test_settings_are_plain_data_that_say_everything():
    settings = replace(ADDER, augment=RandomAffine(degrees=3)).settings()
    assert json.loads(json.dumps(settings)) == settings
    assert settings["optimizer_options"]["momentum"] == 0.9
    assert settings["augment"].startswith("RandomAffine(degrees=3")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("epochs", value) for value in (0, 1.5, True, "3")),
        ("epochs", Epochs(mnist=3, digits=0)),
        *(("batch_size", value) for value in (0, 1, 60.5)),
        *(("lr", value) for value in (0, -1, float("nan"), "1")),
        ("schedule", "cosine"),
        *(("pct_start", value) for value in (-0.1, 1.0, 20, "1")),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(field, value):
    message = refusal(replace, ADDER, **{field: value})
    assert field in message
    assert str(getattr(value, "digits", value)) in message
