"""What users bring and cannot be used: each is refused in one line that names it."""

import copy

import pytest
import torch
from helpers import PlainNet, refusal, same
from torch import nn

from mnist_adder import AdderDataset, Data, Split
from mnist_adder.checks import check_network

IMAGES = torch.zeros(3, 28, 28, dtype=torch.uint8)
LABELS = torch.zeros(3, dtype=torch.int64)
BAD_SPLITS = [
    (IMAGES.float(), LABELS, "float32"),
    (IMAGES[0], LABELS, "[28, 28]"),
    (IMAGES[:0], LABELS[:0], "[0, 28, 28]"),
    (IMAGES, LABELS.float(), "float32"),
    (IMAGES, torch.zeros(4, dtype=torch.int64), "[4]"),
    (IMAGES, LABELS[:, None], "[3, 1]"),
    (IMAGES, torch.tensor([0, 10, 1]), "0…10"),
    (IMAGES, torch.tensor([0, -1, 1]), "-1…1"),
    (IMAGES.numpy(), LABELS, "torch.from_numpy"),
]


@pytest.mark.parametrize(("images", "labels", "part"), BAD_SPLITS)
def test_images_and_digits_of_another_form(images, labels, part):
    assert part in refusal(AdderDataset, images, labels)
    good = Split(IMAGES, LABELS)
    for train, test in ((Split(images, labels), good), (good, Split(images, labels))):
        assert part in refusal(Data, "mine", train, test)


def test_training_and_test_images_of_two_sizes():
    other = Split(torch.zeros(3, 32, 32, dtype=torch.uint8), LABELS)
    assert "the same size" in refusal(Data, "mine", Split(IMAGES, LABELS), other)


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
        (lambda log_probs, logits: (log_probs * torch.nan, logits), "log_softmax"),
        (lambda log_probs, logits: (logits, log_probs), "not [[2, 19], [2, 10]]"),
        (lambda log_probs, logits: (log_probs[:, 1:], logits), "not [[2, 9], [2, 19]]"),
        (lambda log_probs, logits: log_probs, "not [[2, 10]]"),
        (lambda log_probs, logits: (log_probs, None), "not [[2, 10], None]"),
        (lambda log_probs, logits: 1 / 0, "does not take images"),
    ],
)
def test_networks_with_other_outputs(change, part):
    sample = AdderDataset(IMAGES, LABELS)[:2]
    assert part in refusal(check_network, Changed(change), sample, 10)


def test_a_network_may_have_more_outputs():
    sample = AdderDataset(IMAGES, LABELS)[:2]
    check_network(Changed(lambda *outputs: (*outputs, None)), sample, 10)


def test_the_check_leaves_the_network_and_the_generator_alone(network):
    sample = AdderDataset(IMAGES, LABELS)[:2]
    network.append = nn.Dropout()
    before = copy.deepcopy(network)
    random = torch.get_rng_state()
    check_network(network, sample, 10)
    assert network.training
    assert same(network, before)
    assert torch.equal(torch.get_rng_state(), random)
