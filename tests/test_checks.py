"""What users bring and cannot be used: each is refused in one line that names it."""

import numpy as np
import pytest
import torch
from conftest import PlainNet
from torch import nn

from mnist_adder import AdderDataset, Data, InputError, Split
from mnist_adder.checks import check_network

IMAGES = torch.zeros(3, 28, 28, dtype=torch.uint8)
LABELS = torch.zeros(3, dtype=torch.int64)
BAD_SPLITS = [
    (IMAGES.float(), LABELS, "float32"),
    (IMAGES[0], LABELS, r"\[28, 28\]"),
    (IMAGES[:0], LABELS[:0], r"\[0, 28, 28\]"),
    (IMAGES, LABELS.float(), "float32"),
    (IMAGES, torch.zeros(4, dtype=torch.int64), r"\[4\]"),
    (IMAGES, LABELS[:, None], r"\[3, 1\]"),
    (IMAGES, torch.tensor([0, 10, 1]), "0…10"),
    (IMAGES, torch.tensor([0, -1, 1]), "-1…1"),
    (IMAGES.numpy(), LABELS, "torch.from_numpy"),
    (IMAGES, np.zeros(3, np.int64), "torch.from_numpy"),
]


@pytest.mark.parametrize(("images", "labels", "part"), BAD_SPLITS)
def test_images_and_digits_of_another_form(images, labels, part):
    with pytest.raises(InputError, match=part) as refusal:
        AdderDataset(images, labels)
    assert "\n" not in str(refusal.value)
    good = Split(IMAGES, LABELS)
    for train, test in ((Split(images, labels), good), (good, Split(images, labels))):
        with pytest.raises(InputError, match=part):
            Data("mine", train, test)


def test_training_and_test_images_of_two_sizes():
    other = Split(torch.zeros(3, 32, 32, dtype=torch.uint8), LABELS)
    with pytest.raises(InputError, match="the same size"):
        Data("mine", Split(IMAGES, LABELS), other)


class Changed(PlainNet):
    """Returns what a function makes of the outputs of a network that is right."""

    def __init__(self, change) -> None:
        super().__init__()
        self.change = change

    def forward(self, image, number):
        return self.change(*super().forward(image, number))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda log_probs, logits: (log_probs.exp(), logits), "log_softmax"),
        (lambda log_probs, logits: (log_probs + 1, logits), "log_softmax"),
        (lambda log_probs, logits: (log_probs * torch.nan, logits), "log_softmax"),
        (lambda log_probs, logits: (logits, log_probs), r"not \[\[2, 19\], \[2, 10\]\]"),
        (lambda log_probs, logits: (log_probs[:, 1:], logits), r"not \[\[2, 9\], \[2, 19\]\]"),
        (lambda log_probs, logits: (log_probs[0], logits), r"not \[\[10\], \[2, 19\]\]"),
        (lambda log_probs, logits: log_probs, r"not \[\[2, 10\]\]"),
        (lambda log_probs, logits: (log_probs, None), r"not \[\[2, 10\], None\]"),
        (lambda log_probs, logits: 1 / 0, "does not take images"),
    ],
)
def test_networks_with_other_outputs(change, part):
    with pytest.raises(InputError, match=part) as refusal:
        check_network(Changed(change), AdderDataset(IMAGES, LABELS)[:2], 10)
    assert "\n" not in str(refusal.value)


def test_a_network_may_have_more_outputs():
    sample = AdderDataset(IMAGES, LABELS)[:2]
    check_network(Changed(lambda *outputs: (*outputs, None)), sample, 10)


def test_the_check_leaves_the_network_and_the_generator_alone(network):
    sample = AdderDataset(IMAGES, LABELS)[:2]
    network.append = nn.Dropout()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    check_network(network, sample, 10)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
