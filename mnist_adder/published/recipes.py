"""The published systems as recipes, beside our own. This file imports no torch, so that ``--help`` is quick."""

from dataclasses import replace

from ..recipes import RECIPES as OURS, Recipe

NETWORKS = "mnist_adder.published.networks"

CASCADE = Recipe(
    name="cascade", about="published system A: raw pixels, numbers drawn once, plain SGD",
    model=f"{NETWORKS}:Cascade", epochs={"mnist": 25, "digits": 100},
    optimizer_options={"momentum": 0.9}, lr=0.01, fixed_numbers=True,
)  # fmt: skip
STUCK = Recipe(
    name="stuck", about="published system B: softmax before cross-entropy, the sum's loss only",
    model=f"{NETWORKS}:TwoSoftmaxHeads", epochs={"mnist": 10, "digits": 100}, batch_size=32,
    optimizer="Adam", lr=0.01, digit_weight=0.0,
)  # fmt: skip
UNSTUCK = replace(
    STUCK, name="unstuck", about="system B mended: logits to the loss, both losses, a lower rate",
    model=f"{NETWORKS}:TwoHeads", lr=0.001, digit_weight=1.0,
)  # fmt: skip
SHARED_TRUNK = Recipe(
    name="shared-trunk", about="published system C: one trunk, two heads, one-cycle, weights averaged at the end",
    model=f"{NETWORKS}:SharedTrunk", epochs={"mnist": 20, "digits": 100},
    # The published facts do not say: Nesterov momentum, weight decay, and the averaged share are our choice.
    optimizer_options={"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
    lr=0.166, schedule="one-cycle",  # the rate that its range test suggests
    averaging="swa", averaged_share=0.25,
)  # fmt: skip
RECIPES = OURS | {recipe.name: recipe for recipe in (CASCADE, STUCK, UNSTUCK, SHARED_TRUNK)}
