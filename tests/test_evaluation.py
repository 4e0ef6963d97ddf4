"""Exhaustive evaluation against a slow loop, and figures that must agree with each other."""

import pytest
import torch

from mnist_adder.data import Split, normalise
from mnist_adder.evaluation import Evaluation, Mistake, evaluate
from mnist_adder.losses import total_loss
from mnist_adder.models import MODELS, build


@pytest.fixture
def few_images(digits):
    return Split(*(part[:23] for part in digits.test))


@pytest.fixture
def known() -> Evaluation:
    """Three images; one digit read wrong throughout, one sum wrong with the number 9."""
    digits = torch.tensor([2, 7, 2])
    predicted_digits = digits[:, None].repeat(1, 10)
    predicted_digits[1] = 1
    predicted_sums = digits[:, None] + torch.arange(10)
    predicted_sums[2, 9] = 18
    return Evaluation(digits, predicted_digits, predicted_sums, 0.5, 0.25)


@pytest.mark.parametrize("name", MODELS)
def test_against_a_loop_over_every_pair(name, few_images):
    torch.manual_seed(1)
    model = build(name).eval()
    found = evaluate(model, few_images, batch_size=7)
    losses = torch.zeros(2, dtype=torch.float64)
    for row, (image, digit) in enumerate(zip(*few_images, strict=True)):
        for number in range(10):
            with torch.no_grad():
                outputs = model(normalise(image[None]), torch.eye(10)[number : number + 1])
            assert found.predicted_digits[row, number] == outputs[0].argmax()
            assert found.predicted_sums[row, number] == outputs[1].argmax()
            part = total_loss(outputs[0], digit[None], outputs[1], digit[None] + number)
            losses += torch.stack([part.digit, part.sum]) / 230
    assert (found.digit_loss, found.sum_loss) == pytest.approx(tuple(losses.tolist()), rel=1e-4)
    assert torch.equal(found.digits, few_images.digits)


def test_every_image_goes_through_the_cnn_once(few_images):
    model, seen = build("adder"), []
    model.cnn.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    evaluate(model, few_images, batch_size=10)
    assert seen == [10, 10, 3]


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(few_images, training):
    model = build("cascade").train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, again = evaluate(model, few_images), evaluate(model, few_images)
    assert model.training is training and model.cnn.training is training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert first.metrics == again.metrics  # no dropout, no sampling


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
    assert known.mistakes == [*(Mistake(1, n, 7, 1, 7 + n) for n in range(10)), Mistake(2, 9, 2, 2, 18)]


def test_figures_agree(digits):
    torch.manual_seed(0)
    found = evaluate(build("adder"), digits.test)
    metrics, pairs = found.metrics, 10 * len(digits.test.digits)
    assert metrics["joint_accuracy"] <= min(metrics["digit_accuracy"], metrics["sum_accuracy"])
    assert found.confusion.sum() == pairs
    assert torch.equal(found.confusion.sum(1), 10 * digits.test.digits.bincount())
    assert found.confusion.trace() / pairs == pytest.approx(metrics["digit_accuracy"])
    shares = digits.test.digits.bincount() / len(digits.test.digits)
    assert (found.truth_table.mean(1) * shares).sum() == pytest.approx(metrics["sum_accuracy"])
    assert len(found.mistakes) == round(pairs * (1 - metrics["joint_accuracy"]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_as_on_the_cpu(digits):
    torch.manual_seed(0)
    model = build("adder")
    on_cpu = evaluate(model, digits.test).metrics
    assert evaluate(model.cuda(), digits.test).metrics == pytest.approx(on_cpu, abs=1e-3)


def test_accuracies_over_some_pairs():
    digits = torch.tensor([2, 5])
    predicted_digits = torch.tensor([[2] * 10, [5] * 9 + [4]])
    predicted_sums = digits[:, None] + torch.arange(10)
    predicted_sums[0, :3] = 0
    evaluation = Evaluation(digits, predicted_digits, predicted_sums, 0.0, 0.0)
    pairs = torch.zeros(10, 10, dtype=torch.bool)
    pairs[2, 2:4] = pairs[5, 8:] = True  # four pairs: 2 + 2 with a wrong sum, 5 + 9 with a wrong digit
    pairs[7, 7] = True  # of which there is no image
    found = evaluation.accuracies(pairs)
    assert [found[f"{part}_accuracy"] for part in ("digit", "sum", "joint")] == [0.75, 0.75, 0.5]
    everywhere = evaluation.accuracies(torch.ones(10, 10, dtype=torch.bool))
    assert everywhere.items() <= evaluation.metrics.items()
