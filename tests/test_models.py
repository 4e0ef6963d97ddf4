"""Every network of the recipes: outputs, precisions, export, compilation; the adders' formulas."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mnist_adder import (
    AdderMLP,
    AdderNet,
    DigitCNN,
    ExactAdder,
    ExactAdderNet,
    NumberLine,
    NumberLineNet,
    parameter_count,
    total_loss,
)
from mnist_adder.models import Rescale


def inputs(count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    number = torch.randint(10, (count,), generator=random)
    return torch.randn(count, 1, 28, 28, generator=random), torch.eye(10)[number]


def test_outputs_are_log_probabilities_and_logits(network):
    log_probs, logits = network(*inputs())
    assert (log_probs.shape, logits.shape) == ((5, 10), (5, 19))
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(5))


@pytest.mark.parametrize("cls", [NumberLineNet, ExactAdderNet])
def test_export_with_any_batch_size(cls):
    network = cls()
    batch = torch.export.Dim("batch")
    shapes = {"image": {0: batch}, "number": {0: batch}}
    exported = torch.export.export(network.eval(), inputs(), dynamic_shapes=shapes).module()
    for count in (1, 100):
        for output, wanted in zip(exported(*inputs(count)), network(*inputs(count)), strict=True):
            torch.testing.assert_close(output, wanted)


def test_compilation_without_a_graph_break(network):
    network.eval()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    for output, wanted in zip(compiled(*inputs()), network(*inputs()), strict=True):
        torch.testing.assert_close(output, wanted)


def test_an_own_cnn_and_an_own_adder():
    cnn = nn.Sequential(Rescale(0.5, 1.0), nn.Flatten(), nn.Linear(784, 10))
    adder = AdderMLP(8, digit_classes=10, number_classes=100, sum_classes=109)
    network = AdderNet(cnn, adder)
    log_probs, logits = network(torch.zeros(3, 1, 28, 28), torch.eye(100)[:3])
    assert (log_probs.shape, logits.shape) == ((3, 10), (3, 109))
    torch.testing.assert_close(log_probs, cnn[2](torch.ones(3, 784)).log_softmax(1))


def test_parameters_that_train_are_counted():
    network = AdderNet()
    assert parameter_count(network) <= 21_843  # the smallest of the published systems
    assert parameter_count(ExactAdderNet()) == parameter_count(DigitCNN())  # the adder has none
    assert parameter_count(NumberLine()) == 21
    network.adder.requires_grad_(False)
    assert parameter_count(network) == parameter_count(network.cnn)


# The MLP and its straight-through estimator.


def test_the_mlp_sees_sharp_probabilities_and_has_the_gradient_of_the_plain_ones():
    seen = []
    adder = AdderMLP().eval()
    adder.layers[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    log_probs = torch.randn(4, 10).log_softmax(1).requires_grad_()
    number = torch.eye(10)[:4]
    adder(log_probs, number).sum().backward()

    sharp = log_probs.exp() ** 5
    sharp = sharp / sharp.sum(1, keepdim=True)
    torch.testing.assert_close(seen[0], torch.cat([sharp, number], 1))

    plain = log_probs.detach().requires_grad_()
    digit = plain.exp() + (sharp - plain.exp()).detach()
    digit.retain_grad()
    adder.layers(torch.cat([digit, number], 1)).sum().backward()
    torch.testing.assert_close(log_probs.grad, digit.grad * log_probs.detach().exp())
    assert log_probs.grad.any()


# The number line.


def test_the_number_line_against_its_formula():
    adder = NumberLine()
    nn.init.normal_(adder.digit_places)
    nn.init.normal_(adder.number_places)
    nn.init.constant_(adder.sharpness, 1.5)
    log_probs = torch.randn(3, 10).log_softmax(1)
    numbers = [2, 0, 9]
    result = adder(log_probs, torch.eye(10)[numbers]).exp()
    a, b = (places.tolist() for places in adder.places())
    k = 2 / (1 + math.exp(-1.5 / 5))
    for row, number in enumerate(numbers):
        expected = torch.zeros(19)
        for digit in range(10):
            scores = [-k * (s - 9 - a[digit] - b[number]) ** 2 for s in range(19)]
            expected += log_probs[row, digit].exp() * torch.tensor(scores).softmax(0)
        torch.testing.assert_close(result[row], expected, rtol=1e-4, atol=1e-6)


def test_the_number_line_adds_exactly_with_steps_of_1():
    adder = NumberLine()
    steps = torch.arange(10) - 4.5
    with torch.no_grad():
        adder.digit_places.copy_(steps / 2)
        adder.number_places.copy_(steps / 2)
        adder.sharpness.fill_(100)
    for places in adder.places():
        torch.testing.assert_close(places, steps)
    digit, number = torch.cartesian_prod(torch.arange(10), torch.arange(10)).T
    read = (torch.eye(10)[digit] + 1e-6).log()
    assert torch.equal(adder(read, torch.eye(10)[number]).argmax(1), digit + number)


def test_the_number_line_first_expects_every_sum_in_the_middle():
    log_probs = torch.randn(10, 10).log_softmax(1)
    assert NumberLine()(log_probs, torch.eye(10)).argmax(1).sub(9).abs().max() <= 1


# The exact adder.


@given(st.integers(0, 2**40), st.lists(st.integers(0, 9), min_size=1, max_size=9))
def test_the_exact_adder_against_a_sum_over_all_pairs(seed, numbers):
    logits = 5 * torch.randn(len(numbers), 10, generator=torch.Generator().manual_seed(seed))
    log_probs = logits.log_softmax(1)
    result = ExactAdder()(log_probs, torch.eye(10)[numbers]).exp()
    expected = torch.zeros(len(numbers), 19)
    for row, number in enumerate(numbers):
        for digit in range(10):
            expected[row, digit + number] += log_probs[row, digit].exp()
    torch.testing.assert_close(result, expected)


def test_loss_and_gradients_are_finite_with_impossible_sums():
    network = ExactAdderNet()
    image, number = inputs()
    digit = torch.tensor([0, 9, 3, 5, 2])
    log_probs, logits = network(image, number)
    losses = total_loss(log_probs, digit, logits, torch.eye(19)[digit + number.argmax(1)])
    losses.total.backward()
    torch.testing.assert_close(losses.sum, losses.digit)  # the adder is exact: nothing is lost
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_the_loss_of_the_sum_alone_trains_the_cnn(network):
    image, number = inputs()
    log_probs, logits = network(image, number)
    digit = torch.zeros(5, dtype=torch.int64)
    total_loss(log_probs, digit, logits, torch.arange(5), digit_weight=0.0).total.backward()
    gradient = network.cnn[0].weight.grad
    assert gradient.isfinite().all()
    assert gradient.any()
