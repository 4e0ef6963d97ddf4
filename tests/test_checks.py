"""What users bring and cannot be used: each is refused in one line that names it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mnist_adder.checks import RANGES, InputError, check_outputs, check_split
from mnist_adder.data import AdderDataset
from mnist_adder.models import AdderNet
from mnist_adder.recipes import RECIPES


def refusal(function, *arguments, **options) -> str:
    with pytest.raises(InputError) as refused:
        function(*arguments, **options)
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, low - 1) for name, (low, _) in RANGES.items()),
        *((name, high * 2) for name, (_, high) in RANGES.items()),
        *((name, wrong) for name in RANGES for wrong in (math.nan, "1", None, True)),
        *(("optimizer", wrong) for wrong in ("sgd", "Optimizer", "lr_scheduler", None, [])),
        *(("schedule", wrong) for wrong in ("linear", None)),
        *(("averaging", wrong) for wrong in ("mean", False)),
        *(("model", wrong) for wrong in ("adders", "", None, 3)),
        *((name, 60.5) for name in ("epochs", "batch_size")),
    ],
)
def test_settings_that_are_refused(name, value):
    message = refusal(replace, RECIPES["adder"], **{name: value})
    assert name in message
    assert str(value) in message


def test_epochs_of_one_source_out_of_range():
    message = refusal(replace, RECIPES["adder"], epochs={"mnist": 1, "digits": 0})
    assert "epochs" in message and "not 0" in message


@pytest.mark.parametrize(
    "changes",
    [
        *({name: limit} for name, limits in RANGES.items() for limit in limits),
        *({"optimizer": name} for name in ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "Adagrad")),
        {"epochs": {"digits": 3}},
        {"model": AdderNet},
        {"model": "my.module:Network"},
        {"averaging": "swa", "schedule": "cosine"},
    ],
    ids=repr,
)
def test_settings_that_are_accepted(changes):
    for name, value in changes.items():
        assert getattr(replace(RECIPES["adder"], **changes), name) == value


IMAGES, DIGITS = torch.zeros(3, 28, 28).byte(), torch.zeros(3).long()


@pytest.mark.parametrize("check", [check_split, AdderDataset])
@pytest.mark.parametrize(
    ("images", "digits", "part"),
    [
        (IMAGES.float(), DIGITS, "float32"),
        (torch.zeros(3, 8, 8).byte(), DIGITS, "[3, 8, 8]"),
        (IMAGES[:, None], DIGITS, "[3, 1, 28, 28]"),
        (IMAGES[0, 0, 0], DIGITS, "[]"),
        (IMAGES[:0], DIGITS[:0], "[0, 28, 28]"),
        (IMAGES, DIGITS.float(), "float32"),
        (IMAGES, torch.zeros(4).long(), "[4]"),
        (IMAGES, DIGITS[:, None], "[3, 1]"),
        (IMAGES, torch.tensor([0, 10, 1]), "10"),
        (IMAGES, torch.tensor([0, -1, 1]), "-1"),
    ],
)
def test_data_that_is_refused(check, images, digits, part):
    assert part in refusal(check, images, digits)


class Outputs(nn.Module):
    """Returns what a function makes of the outputs of a network that is right."""

    def __init__(self, change) -> None:
        super().__init__()
        self.network, self.change = AdderNet(), change

    def forward(self, image, number):
        return self.change(*self.network(image, number))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda log_probs, logits: (log_probs.exp(), logits), "log_softmax"),
        (lambda log_probs, logits: (log_probs + 1, logits), "log_softmax"),
        (lambda log_probs, logits: (log_probs * torch.nan, logits), "log_softmax"),
        (lambda log_probs, logits: (logits, log_probs), "[[2, 19], [2, 10]]"),
        (lambda log_probs, logits: (log_probs, logits[:, 1:]), "[2, 18]"),
        (lambda log_probs, logits: (log_probs.mean(0), logits), "[10]"),
        (lambda log_probs, logits: log_probs, "[B, 10]"),
    ],
)
def test_networks_that_are_refused(change, part):
    assert part in refusal(check_outputs, Outputs(change))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_networks_of_the_recipes_are_accepted_and_left_alone(network, dtype):
    before = {name: tensor.clone() for name, tensor in network.to(dtype).state_dict().items()}
    random = torch.random.get_rng_state()
    check_outputs(network)
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random)


def test_arrays_are_refused():
    images, digits = np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.int64)
    assert "torch.from_numpy" in refusal(check_split, images, digits)
