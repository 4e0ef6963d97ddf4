"""The networks: shapes, sizes, and the exact adder against a sum worked out by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnist_adder.losses import total_loss
from mnist_adder.models import MODELS, ExactAdder, ExactAdderNet, build, parameter_count

MODEL = pytest.mark.parametrize("name", MODELS)


def inputs(count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(count, 1, 28, 28), torch.eye(10)[torch.randint(10, (count,))]


@MODEL
def test_outputs(name):
    log_probabilities, scores = build(name)(*inputs())
    assert (log_probabilities.shape, scores.shape) == ((5, 10), (5, 19))
    assert (log_probabilities.dtype, scores.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close(log_probabilities.exp().sum(1), torch.ones(5))


@MODEL
def test_combine_of_features_is_forward(name):
    model = build(name).eval()
    image, number = inputs()
    for apart, together in zip(
        model.combine(model.features(image), number), model(image, number), strict=True
    ):
        assert torch.equal(apart, together)


@MODEL
def test_the_digit_depends_on_the_image_and_the_sum_on_both(name):
    model = build(name).eval()
    image, number = inputs()
    digit, sum = model(image, number)
    other_digit, other_sum = model(image.roll(1, 0), number)
    assert not torch.allclose(digit, other_digit)
    assert not torch.allclose(sum, other_sum)
    assert not torch.allclose(sum, model(image, number.roll(1, 1))[1])


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("adder", 1, 21_843),
        ("exact-adder", 1, 21_843),
        ("cascade", 21_843, 21_843),
        ("stuck", 35_357, 35_357),
        ("unstuck", 35_357, 35_357),
        ("shared-trunk", 17_200, 17_400),
    ],
)
def test_parameters(name, least, most):
    model = build(name)
    assert least <= parameter_count(model) <= most
    assert parameter_count(model) == sum(len(p.flatten()) for p in model.parameters())


@MODEL
@pytest.mark.parametrize(
    ("image", "number", "names"),
    [
        (torch.zeros(2, 28, 28), torch.eye(10)[:2], ["image", "[B, 1, 28, 28]", "[2, 28, 28]"]),
        (torch.zeros(2, 3, 28, 28), torch.eye(10)[:2], ["image", "[B, 1, 28, 28]", "[2, 3, 28, 28]"]),
        (torch.zeros(2, 1, 28, 28).byte(), torch.eye(10)[:2], ["image", "float32", "uint8"]),
        (torch.zeros(2, 1, 28, 28).double(), torch.eye(10)[:2], ["image", "float32", "float64"]),
        (torch.zeros(0, 1, 28, 28), torch.zeros(0, 10), ["image", "at least 1", "[0, 1, 28, 28]"]),
        (torch.zeros(2, 1, 28, 28), torch.zeros(2, 19), ["number", "[B, 10]", "[2, 19]"]),
        (torch.zeros(2, 1, 28, 28), torch.zeros(2), ["number", "[B, 10]", "[2]"]),
        (torch.zeros(2, 1, 28, 28), torch.eye(10)[:2].long(), ["number", "float32", "int64"]),
        (torch.zeros(2, 1, 28, 28), torch.eye(10)[:3], ["2 images", "3 numbers"]),
    ],
)
def test_forward_says_what_came_and_what_was_expected(name, image, number, names):
    with pytest.raises(ValueError) as refusal:
        build(name)(image, number)
    for part in names:
        assert part in str(refusal.value)


@given(st.integers(0, 2**40), st.floats(0.01, 30), st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_exact_adder_against_a_sum_over_all_pairs(seed, scale, numbers):
    scores = scale * torch.randn(len(numbers), 10, generator=torch.Generator().manual_seed(seed))
    log_probabilities = scores.log_softmax(1)
    found = ExactAdder()(log_probabilities, torch.eye(10)[numbers])
    expected = torch.zeros(len(numbers), 19)
    for row, number in enumerate(numbers):
        for digit in range(10):
            expected[row, digit + number] += log_probabilities[row, digit].exp()
    torch.testing.assert_close(found.exp(), expected)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(len(numbers)))


def test_loss_and_gradients_are_finite_with_impossible_sums():
    model = ExactAdderNet()
    image, number = inputs()
    digit = torch.tensor([0, 9, 3, 5, 2])
    one_hot_sum = torch.eye(19)[digit + number.argmax(1)]
    log_probabilities, scores = model(image, number)
    assert scores.isneginf().sum() == 5 * 9
    losses = total_loss(log_probabilities, digit, scores, one_hot_sum)
    losses.total.backward()
    assert losses.total.isfinite()
    torch.testing.assert_close(losses.sum, losses.digit)  # the adder is exact: nothing is lost
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_as_published_no_gradient_reaches_system_bs_digit_head():
    model = build("stuck")
    image, number = inputs()
    digit = torch.tensor([0, 9, 3, 5, 2])
    log_probabilities, scores = model(image, number)
    total_loss(log_probabilities, digit, scores, digit + number.argmax(1), digit_weight=0).total.backward()
    assert not model.digit_head.weight.grad.any()
    assert model.sum_head.weight.grad.any()
    torch.testing.assert_close(scores.sum(1), torch.ones(5))  # probabilities, where scores belong
