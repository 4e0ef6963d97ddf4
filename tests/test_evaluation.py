"""Exhaustive evaluation against a slow loop, and figures that must agree with each other."""

import copy
from dataclasses import replace

import pytest
import torch
from helpers import first, needs_cuda, refusal, same
from torch import nn

from mnist_adder import (
    AdderNet,
    Evaluation,
    evaluate,
    total_loss,
)
from mnist_adder.data import normalise
from mnist_adder.evaluation import Mistake


@pytest.fixture
def known() -> Evaluation:
    """Three images; one digit read wrong throughout, one sum wrong with the number 9."""
    digits = torch.tensor([2, 7, 2])
    predicted_digits = digits[:, None].repeat(1, 10)
    predicted_digits[1] = 1
    sums = digits[:, None] + torch.arange(10)
    predicted_sums = sums.clone()
    predicted_sums[2, 9] = 18
    return Evaluation(digits, sums, predicted_digits, predicted_sums, 0.5, 0.25, 10)


class Wrapped(nn.Module):
    """A network that is no `TwoInputNet`, with a third output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image, number):
        return (*self.network(image, number), image.sum((1, 2, 3)))  # [B, 10], [B, 19], [B]


def test_against_a_loop_over_every_pair(network, few):
    data = first(few, 1, 5)
    evaluation = evaluate(network, data, batch_size=2)
    losses = torch.zeros(2, dtype=torch.float64)
    network.eval()
    for row, (image, digit) in enumerate(zip(*data.test, strict=True)):
        for number in range(10):
            with torch.no_grad():
                one_hot = torch.eye(10)[number : number + 1]
                log_probs, logits = network(normalise(image[None, None]), one_hot)
            assert evaluation.predicted_digits[row, number] == log_probs.argmax()
            assert evaluation.predicted_sums[row, number] == logits.argmax()
            part = total_loss(log_probs, digit[None], logits, digit[None] + number)
            losses += torch.stack([part.digit, part.sum]) / 50
    found = (evaluation.digit_loss, evaluation.sum_loss)
    assert found == pytest.approx(tuple(losses.tolist()), rel=1e-4)
    assert torch.equal(evaluation.sums, data.test.digits[:, None] + torch.arange(10))


def test_any_module_is_evaluated_and_further_outputs_are_kept(few):
    network = AdderNet()
    expected = evaluate(network, few).metrics
    evaluation = evaluate(Wrapped(network), few)  # it does not call `features` and `combine`
    assert evaluation.metrics == pytest.approx(expected, rel=1e-5)
    ink = evaluation.others[0]  # [N, 10]
    assert ink.shape == evaluation.sums.shape
    assert torch.equal(ink[:, 0], ink[:, 9])


def test_the_operation_comes_with_the_data(few):
    data = replace(few, target=lambda digit, number: digit - number + 9)
    evaluation = evaluate(AdderNet(), data)
    assert torch.equal(evaluation.sums, few.test.digits[:, None] - torch.arange(10) + 9)
    assert all(mistake.sum == mistake.digit - mistake.number + 9 for mistake in evaluation.mistakes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(network, few, dtype):
    expected = evaluate(network, few)
    evaluation = evaluate(network.to(dtype), few)
    assert evaluation.digit_loss == pytest.approx(expected.digit_loss, rel=0.05)
    assert evaluation.sum_loss == pytest.approx(expected.sum_loss, rel=0.05)


def test_every_image_goes_through_the_cnn_once(few):
    network = AdderNet()
    batches = []
    network.cnn.register_forward_hook(lambda module, args, output: batches.append(len(args[0])))
    evaluate(network, first(few, 1, 23), batch_size=10)
    assert batches == [10, 10, 3]


def test_the_network_is_left_as_it_was(few):
    network = AdderNet().train()
    network.cnn[1].eval()  # a BatchNorm that its owner froze
    modes = [module.training for module in network.modules()]
    before = copy.deepcopy(network)
    first = evaluate(network, few)
    assert [module.training for module in network.modules()] == modes
    assert same(network, before)
    assert first.metrics == evaluate(network, few).metrics  # no dropout, no sampling
    with pytest.raises(RuntimeError):
        evaluate(network, replace(few, number_classes=100))
    assert [module.training for module in network.modules()] == modes  # after an error, too


def test_a_network_that_does_not_fit_the_data_is_refused(few):
    for target in (lambda digit, number: digit * number, lambda digit, number: 0 * digit + number):
        message = refusal(evaluate, AdderNet(), replace(few, target=target))
        assert "outputs have 10 and 19" in message


# The figures.


def test_metrics(known):
    assert known.metrics == {
        "digit_loss": 0.5,
        "sum_loss": 0.25,
        "digit_accuracy": pytest.approx(20 / 30),
        "sum_accuracy": pytest.approx(29 / 30),
        "joint_accuracy": pytest.approx(19 / 30),
    }


def test_tables(known):
    expected = torch.zeros(10, 10, dtype=torch.int64)
    expected[2, 2] = 20
    expected[7, 1] = 10
    assert torch.equal(known.confusion, expected)
    table = known.truth_table
    assert table.shape == (10, 10)
    assert table[2].tolist() == [1.0] * 9 + [0.5]
    assert table[7].tolist() == [1.0] * 10
    assert table[[0, 1, 3, 4, 5, 6, 8, 9]].isnan().all()  # digits without an image


def test_mistakes(known):
    wrong_digit = [Mistake(1, number, 7, 7 + number, 1, 7 + number) for number in range(10)]
    assert known.mistakes == [*wrong_digit, Mistake(2, 9, 2, 11, 2, 18)]


def test_accuracies_over_some_pairs(known):
    pairs = torch.zeros(10, 10, dtype=torch.bool)
    pairs[2, 8:] = True  # two images: 2 + 9 is wrong for one of them
    pairs[7, 7:9] = True  # the digit is wrong
    pairs[5, 5] = True  # a pair without an image
    accuracies = known.accuracies(pairs)
    values = [accuracies[f"{part}_accuracy"] for part in ("digit", "sum", "joint")]
    assert values == pytest.approx([4 / 6, 5 / 6, 3 / 6])


def test_metrics_on_withheld_pairs_and_on_the_others(known):
    metrics = known.measure([(2, 9)])
    assert known.metrics.items() <= metrics.items()
    assert metrics["withheld_sum_accuracy"] == 0.5
    assert metrics["withheld_digit_accuracy"] == 1.0
    assert metrics["shown_sum_accuracy"] == 1.0
    assert metrics["shown_digit_accuracy"] == pytest.approx(18 / 28)
    assert known.measure(torch.tensor([[2, 9]])) == metrics
    assert known.measure([]) == known.metrics


@needs_cuda
def test_on_cuda_as_on_the_cpu(digits):
    torch.manual_seed(0)
    network = AdderNet()
    on_cpu = evaluate(network, digits).metrics
    assert evaluate(network.cuda(), digits).metrics == pytest.approx(on_cpu, abs=1e-3)
