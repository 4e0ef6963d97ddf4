"""Every network of the recipes: shapes, precisions, export and compilation; the exact adder against a slow sum."""

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from mnist_adder.checks import InputError
from mnist_adder.losses import total_loss
from mnist_adder.models import (
    AdderNet,
    DigitCNN,
    ExactAdder,
    ExactAdderNet,
    NumberLine,
    NumberLineNet,
    QuickNet,
    build,
    parameter_count,
)
from mnist_adder.recipes import MODELS


def inputs(count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    number = torch.randint(10, (count,), generator=random)
    return torch.randn(count, 1, 28, 28, generator=random), torch.eye(10)[number]


def test_outputs(network):
    log_probs, logits = network(*inputs())
    assert (log_probs.shape, logits.shape) == ((5, 10), (5, 19))
    assert (log_probs.dtype, logits.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(5))


def test_combine_of_features_is_forward(network):
    image, number = inputs()
    network.eval()
    parts = network.combine(network.features(image), number)
    for part, whole in zip(parts, network(image, number), strict=True):
        assert torch.equal(part, whole)


def test_the_digit_depends_on_the_image_and_the_sum_on_both(network):
    image, number = inputs()
    digit, sum = network.eval()(image, number)
    other_digit, other_sum = network(image.roll(1, 0), number)
    assert not torch.allclose(digit, other_digit)
    assert not torch.allclose(sum, other_sum)
    assert not torch.allclose(sum, network(image, number.roll(1, 1))[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(network, dtype):
    image, number = inputs()
    expected = network.eval()(image, number)
    outputs = network.to(dtype)(image.to(dtype), number.to(dtype))
    for output, wanted in zip(outputs, expected, strict=True):
        assert output.dtype == dtype
        torch.testing.assert_close(output.float(), wanted, rtol=0.1, atol=0.1)


def test_export_with_any_batch_size(network):
    batch = torch.export.Dim("batch")
    shapes = {"image": {0: batch}, "number": {0: batch}}
    exported = torch.export.export(network.eval(), inputs(), dynamic_shapes=shapes).module()
    for count in (1, 2, 100):
        for output, wanted in zip(exported(*inputs(count)), network(*inputs(count)), strict=True):
            torch.testing.assert_close(output, wanted)


def test_compilation_without_a_graph_break(network):
    compiled = torch.compile(network.eval(), backend="aot_eager", fullgraph=True)
    for output, wanted in zip(compiled(*inputs()), network(*inputs()), strict=True):
        torch.testing.assert_close(output, wanted)


@pytest.mark.parametrize(
    ("image", "number", "parts"),
    [
        (torch.zeros(2, 28, 28), torch.eye(10)[:2], ["image", "[B, 1, 28, 28]", "[2, 28, 28]"]),
        (torch.zeros(2, 3, 28, 28), torch.eye(10)[:2], ["image", "[B, 1, 28, 28]", "[2, 3, 28, 28]"]),
        (torch.zeros(2, 1, 28, 28).byte(), torch.eye(10)[:2], ["image", "float", "uint8"]),
        (torch.zeros(2, 1, 28, 28), torch.zeros(2, 19), ["number", "[B, 10]", "[2, 19]"]),
        (torch.zeros(2, 1, 28, 28), torch.zeros(2), ["number", "[B, 10]", "[2]"]),
        (torch.zeros(2, 1, 28, 28), torch.eye(10)[:2].long(), ["number", "float", "int64"]),
        (torch.zeros(2, 1, 28, 28), torch.eye(10)[:3], ["2 images", "3 numbers"]),
    ],
)
def test_forward_says_what_it_was_given_and_what_it_expected(image, number, parts):
    with pytest.raises(ValueError) as refusal:
        AdderNet()(image, number)
    for part in parts:
        assert part in str(refusal.value)


def test_parameters():
    assert parameter_count(AdderNet()) <= 21_843  # the smallest of the published systems
    assert parameter_count(ExactAdderNet()) == parameter_count(DigitCNN())  # the adder has none
    assert parameter_count(QuickNet()) > parameter_count(AdderNet())


def test_frozen_parameters_are_not_counted():
    network = AdderNet()
    network.adder.requires_grad_(False)
    assert parameter_count(network) == parameter_count(network.cnn)


@given(st.integers(0, 2**40), st.floats(0.01, 30), st.lists(st.integers(0, 9), min_size=1, max_size=9))
def test_exact_adder_against_a_sum_over_all_pairs(seed, scale, numbers):
    logits = scale * torch.randn(len(numbers), 10, generator=torch.Generator().manual_seed(seed))
    log_probs = logits.log_softmax(1)
    probabilities = ExactAdder()(log_probs, torch.eye(10)[numbers]).exp()
    for sums, digits, number in zip(probabilities.tolist(), log_probs.exp().tolist(), numbers, strict=True):
        expected = [0.0] * 19
        for digit, probability in enumerate(digits):
            expected[digit + number] += probability
        assert sums == pytest.approx(expected)


def test_loss_and_gradients_are_finite_with_impossible_sums():
    network = ExactAdderNet()
    image, number = inputs()
    digit = torch.tensor([0, 9, 3, 5, 2])
    one_hot_sum = torch.eye(19)[digit + number.argmax(1)]
    log_probs, logits = network(image, number)
    assert logits.isneginf().sum() == 5 * 9
    losses = total_loss(log_probs, digit, logits, one_hot_sum)
    losses.total.backward()
    assert losses.total.isfinite()
    torch.testing.assert_close(losses.sum, losses.digit)  # the adder is exact: nothing is lost
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_the_number_line_gives_probabilities_and_has_21_parameters():
    adder = NumberLine()
    assert parameter_count(adder) == 21
    log_probs = torch.randn(10, 10).log_softmax(1)
    torch.testing.assert_close(adder(log_probs, torch.eye(10)).exp().sum(1), torch.ones(10))


def test_the_number_line_adds_exactly_with_equal_steps():
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


@pytest.mark.parametrize("network", [AdderNet, NumberLineNet])
def test_the_loss_of_the_sum_alone_trains_the_cnn(network):
    torch.manual_seed(0)
    network = network()
    image, number = inputs()
    log_probs, logits = network(image, number)
    total_loss(log_probs, torch.zeros(5).long(), logits, torch.arange(5), digit_weight=0.0).total.backward()
    convolution = next(layer for layer in network.cnn if isinstance(layer, torch.nn.Conv2d))
    assert convolution.weight.grad.isfinite().all() and convolution.weight.grad.any()


@pytest.mark.parametrize("name", ["adder", "number-line"])
def test_onnx(name):
    if name == "number-line" and torch.__version__ < "2.13":
        pytest.skip("the exporter of torch 2.12 and before fails on a parameter times a Python number")
    pytest.importorskip("onnxscript")
    reference = pytest.importorskip("onnx.reference")
    model, batch = build(name).eval(), torch.export.Dim("batch")
    inputs = torch.randn(2, 1, 28, 28), torch.eye(10)[:2]
    program = torch.onnx.export(model, inputs, dynamo=True, dynamic_shapes=({0: batch}, {0: batch}), verbose=False)
    inputs = torch.randn(7, 1, 28, 28), torch.eye(10)[:7]
    session = reference.ReferenceEvaluator(program.model_proto)
    outputs = session.run(None, dict(zip(session.input_names, (x.numpy() for x in inputs), strict=True)))
    for output, expected in zip(outputs, model(*inputs), strict=True):
        torch.testing.assert_close(torch.tensor(output), expected.detach(), rtol=1e-3, atol=1e-4)


# A network from a name, a class, a function or another network.


@pytest.mark.parametrize("name", MODELS)
def test_a_short_name(name):
    assert f"{type(build(name)).__module__}:{type(build(name)).__name__}" == MODELS[name]


@pytest.mark.parametrize("model", ["mnist_adder.models:ExactAdderNet", ExactAdderNet, lambda: ExactAdderNet()])
def test_a_path_a_class_or_a_function(model):
    assert isinstance(build(model), ExactAdderNet)


def test_a_network_is_copied():
    network = AdderNet()
    copy = build(network)
    assert all(torch.equal(*pair) for pair in zip(copy.parameters(), network.parameters(), strict=True))
    nn.init.zeros_(next(copy.parameters()))
    assert next(network.parameters()).any()


@pytest.mark.parametrize(
    "model",
    ["adders", "", ":", "torch", "no.such.module:Net", "mnist_adder.models:Nothing", "torch:float32", "math:pi", int],
)
def test_what_makes_no_network_is_refused(model):
    with pytest.raises(InputError) as refusal:
        build(model)
    assert "network" in str(refusal.value)
    assert "\n" not in str(refusal.value)
