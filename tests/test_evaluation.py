"""Exhaustive evaluation against a slow loop, and figures that must agree with each other."""

import pytest
import torch
from torch import nn

from mnist_adder.checks import InputError
from mnist_adder.data import AdderDataset, Split, normalise
from mnist_adder.evaluation import Evaluation, Mistake, evaluate
from mnist_adder.losses import total_loss
from mnist_adder.models import AdderNet, ExactAdderNet
from mnist_adder.published.networks import Cascade


@pytest.fixture
def images(digits) -> Split:
    return Split(*(part[:23] for part in digits.test))


@pytest.fixture
def known() -> Evaluation:
    """Three images; one digit read wrong throughout, one sum wrong with the number 9."""
    digits = torch.tensor([2, 7, 2])
    predicted_digits = digits[:, None].repeat(1, 10)
    predicted_digits[1] = 1
    sums = digits[:, None] + torch.arange(10)
    predicted_sums = sums.clone()
    predicted_sums[2, 9] = 18
    return Evaluation(digits, sums, predicted_digits, predicted_sums, 0.5, 0.25)


def test_against_a_loop_over_every_pair(network, images):
    images = Split(*(part[:5] for part in images))
    evaluation = evaluate(network, images, batch_size=2)
    losses, network = torch.zeros(2, dtype=torch.float64), network.eval()
    for row, (image, digit) in enumerate(zip(*images, strict=True)):
        for number in range(10):
            with torch.no_grad():
                log_probs, logits = network(normalise(image[None]), torch.eye(10)[number : number + 1])
            assert evaluation.predicted_digits[row, number] == log_probs.argmax()
            assert evaluation.predicted_sums[row, number] == logits.argmax()
            part = total_loss(log_probs, digit[None], logits, digit[None] + number)
            losses += torch.stack([part.digit, part.sum]) / 50
    assert (evaluation.digit_loss, evaluation.sum_loss) == pytest.approx(tuple(losses.tolist()), rel=1e-4)
    assert torch.equal(evaluation.digits, images.digits)
    assert torch.equal(evaluation.sums, images.digits[:, None] + torch.arange(10))


class Wrapped(nn.Module):
    """A network that is no `TwoInputNet`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image, number):
        return self.network(image, number)


def test_any_module_is_evaluated(images):
    network = AdderNet()
    assert evaluate(Wrapped(network), images).metrics == pytest.approx(evaluate(network, images).metrics, rel=1e-5)


def test_a_data_set_is_evaluated_with_its_own_operation(images):
    def subtract(digit, number):
        return digit - number + 9

    network = AdderNet()
    expected = evaluate(network, images, target=subtract)
    assert torch.equal(expected.sums, images.digits[:, None] - torch.arange(10) + 9)
    assert evaluate(network, AdderDataset(*images, target=subtract)).metrics == expected.metrics
    assert all(mistake.sum == mistake.digit - mistake.number + 9 for mistake in expected.mistakes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_other_precisions(network, images, dtype):
    expected = evaluate(network, images)
    evaluation = evaluate(network.to(dtype), images)
    losses = evaluation.digit_loss, evaluation.sum_loss
    assert losses == pytest.approx((expected.digit_loss, expected.sum_loss), rel=0.05)


def test_every_image_goes_through_the_cnn_once(images):
    network, batches = AdderNet(), []
    network.cnn.register_forward_hook(lambda module, inputs, output: batches.append(len(inputs[0])))
    evaluate(network, images, batch_size=10)
    assert batches == [10, 10, 3]


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(images, training):
    network = Cascade().train(training)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first, again = evaluate(network, images), evaluate(network, images)
    assert all(module.training is training for module in network.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert first.metrics == again.metrics  # no dropout, no sampling


def test_bad_data_is_refused(images):
    with pytest.raises(InputError, match="images must be uint8"):
        evaluate(AdderNet(), Split(images.images.float(), images.digits))


def test_metrics(known):
    assert known.metrics == {
        "digit_loss": 0.5,
        "sum_loss": 0.25,
        "digit_accuracy": pytest.approx(20 / 30),
        "sum_accuracy": pytest.approx(29 / 30),
        "joint_accuracy": pytest.approx(19 / 30),
        "product_accuracy": pytest.approx(20 / 30 * 29 / 30),
    }


def test_confusion(known):
    expected = torch.zeros(10, 10, dtype=torch.int64)
    expected[2, 2], expected[7, 1] = 20, 10
    assert torch.equal(known.confusion, expected)


def test_truth_table(known):
    table = known.truth_table
    assert table.shape == (10, 10)
    assert table[2].tolist() == [1.0] * 9 + [0.5]
    assert table[7].tolist() == [1.0] * 10
    assert table[[0, 1, 3, 4, 5, 6, 8, 9]].isnan().all()  # digits without an image


def test_mistakes(known):
    assert known.mistakes == [*(Mistake(1, n, 7, 7 + n, 1, 7 + n) for n in range(10)), Mistake(2, 9, 2, 11, 2, 18)]


def test_accuracies_over_some_pairs():
    digits = torch.tensor([2, 5])
    predicted_digits = torch.tensor([[2] * 10, [5] * 9 + [4]])
    sums = digits[:, None] + torch.arange(10)
    predicted_sums = sums.clone()
    predicted_sums[0, :3] = 0
    evaluation = Evaluation(digits, sums, predicted_digits, predicted_sums, 0.0, 0.0)
    pairs = torch.zeros(10, 10, dtype=torch.bool)
    pairs[2, 2:4] = pairs[5, 8:] = True  # four pairs: 2 + 2 with a wrong sum, 5 + 9 with a wrong digit
    pairs[7, 7] = True  # a pair without an image
    accuracies = evaluation.accuracies(pairs)
    assert [accuracies[f"{part}_accuracy"] for part in ("digit", "sum", "joint")] == [0.75, 0.75, 0.5]
    everywhere = evaluation.accuracies(torch.ones(10, 10, dtype=torch.bool))
    assert everywhere.items() <= evaluation.metrics.items()


def test_figures_agree(digits):
    torch.manual_seed(0)
    evaluation = evaluate(ExactAdderNet(), digits.test)
    metrics, pairs = evaluation.metrics, 10 * len(digits.test.digits)
    assert metrics["joint_accuracy"] <= min(metrics["digit_accuracy"], metrics["sum_accuracy"])
    assert metrics["digit_loss"] == pytest.approx(metrics["sum_loss"])  # the adder is exact: nothing is lost
    assert evaluation.confusion.sum() == pairs
    assert torch.equal(evaluation.confusion.sum(1), 10 * digits.test.digits.bincount())
    assert evaluation.confusion.trace() / pairs == pytest.approx(metrics["digit_accuracy"])
    shares = digits.test.digits.bincount() / len(digits.test.digits)
    assert (evaluation.truth_table.mean(1) * shares).sum() == pytest.approx(metrics["sum_accuracy"])
    assert len(evaluation.mistakes) == round(pairs * (1 - metrics["joint_accuracy"]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_as_on_the_cpu(digits):
    torch.manual_seed(0)
    network = AdderNet()
    on_cpu = evaluate(network, digits.test).metrics
    assert evaluate(network.cuda(), digits.test).metrics == pytest.approx(on_cpu, abs=1e-3)
