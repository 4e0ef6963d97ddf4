"""The training loop, on the bundled digits and, where it is found, on real MNIST."""

import copy
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from conftest import PlainNet
from torch import nn

from mnist_adder.checks import InputError
from mnist_adder.data import Data, Loader, Split
from mnist_adder.evaluation import evaluate
from mnist_adder.metrics import NAMES, Metrics
from mnist_adder.models import AdderNet, ExactAdderNet, build
from mnist_adder.optim import WeightAverage, make_optimizer, make_scheduler
from mnist_adder.published.recipes import RECIPES
from mnist_adder.sources import load_data
from mnist_adder.training import fit, make_loader, train_step

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one.cpu(), other.cpu()) for one, other in pairs)


def test_fit_learns_the_bundled_digits(digits):
    fitted = fit(replace(RECIPES["adder"], epochs=8, batch_size=64), digits, quiet=True)
    assert not fitted.model.training
    first, *_, last = fitted.history
    assert last["test_digit_accuracy"] > 0.9
    assert last["test_joint_accuracy"] > 0.3  # by chance: 0.01
    assert last["train_digit_loss"] < first["train_digit_loss"] / 2
    assert last["test_joint_accuracy"] == evaluate(fitted.model, digits.test).metrics["joint_accuracy"]


def test_what_fit_returns(few, quick):
    fitted = fit(quick, few, seed=3, withheld=[(3, 4)], quiet=True)
    assert (fitted.recipe, fitted.seed, fitted.withheld, fitted.fine_tuned) == (quick, 3, [[3, 4]], False)
    assert fitted.train_seconds > 0
    assert [row["epoch"] for row in fitted.history] == [1, 2]
    names = {f"{split}_{name}" for split in ("train", "test") for name in NAMES}
    for row in fitted.history:
        assert set(row) == names | {"epoch", "lr", "test_product_accuracy"}
        assert all(0 <= value <= 1 for name, value in row.items() if name.endswith("accuracy"))
        assert row["train_joint_accuracy"] <= min(row["train_digit_accuracy"], row["train_sum_accuracy"])


def test_the_recipe_says_its_length_for_each_source(few, quick):
    recipe = replace(quick, epochs={"mnist": 1, "digits": 3})
    assert len(fit(recipe, few, quiet=True).history) == 3
    assert len(fit(recipe, replace(few, source="my own"), quiet=True).history) == 1


def test_the_seed_alone_decides(few, quick):
    first = fit(quick, few, seed=3, quiet=True)
    torch.rand(5)
    again = fit(quick, few, seed=3, quiet=True)
    assert same(first.model, again.model)
    assert first.history == again.history
    assert not same(first.model, fit(quick, few, seed=4, quiet=True).model)


def test_testing_changes_nothing(few, quick):
    other_test = Data("digits", few.train, Split(*(part[:5] for part in few.test)))
    assert same(fit(quick, few, quiet=True).model, fit(quick, other_test, quiet=True).model)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_and_prints_its_history(few, name, capsys):
    fitted = fit(replace(RECIPES[name], epochs=1, batch_size=60), few)
    torch.manual_seed(0)
    assert not same(fitted.model, build(RECIPES[name].model))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("epoch  1/1")
    for split in ("train", "test"):
        row = fitted.history[0]
        assert f"{split} nll {row[f'{split}_digit_loss']:.4f}" in line
        assert f"joint {row[f'{split}_joint_accuracy']:.2%}" in line


def test_quiet_prints_nothing(few, quick, capsys):
    fit(quick, few, quiet=True)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_weights_of_the_parts_reach_the_loss(few, quick):
    recipe = replace(quick, model=RECIPES["unstuck"].model, digit_weight=0.0, optimizer_options={})
    torch.manual_seed(0)
    fresh = build(recipe.model).digit_head.weight
    assert torch.equal(fit(recipe, few, quiet=True).model.digit_head.weight, fresh)


def test_withheld_pairs_are_left_out_of_training(few, quick, monkeypatch):
    served, plain = [], Loader.__iter__

    def watched(loader):
        for sample in plain(loader):
            served.append((sample.digit, sample.number.argmax(1)))
            yield sample

    monkeypatch.setattr(Loader, "__iter__", watched)
    fit(quick, few, withheld=[(digit, digit) for digit in range(10)], quiet=True)
    assert len(served) == 8
    assert not any((digit == number).any() for digit, number in served)


def test_fit_returns_and_tests_averaged_weights(few, quick):
    plain = fit(quick, few, quiet=True)
    averaged = fit(replace(quick, averaging="swa"), few, quiet=True)
    assert type(averaged.model) is AdderNet
    assert not averaged.model.training
    assert not same(plain.model, averaged.model)
    losses = [[row["train_sum_loss"] for row in fitted.history] for fitted in (plain, averaged)]
    assert losses[0] == losses[1]
    assert averaged.history[-1]["test_sum_loss"] == evaluate(averaged.model, few.test).metrics["sum_loss"]


# Networks of one's own.


def test_a_function_in_a_recipe_makes_the_network(few, quick):
    fitted = fit(replace(quick, model=ExactAdderNet), few, quiet=True)
    assert same(fitted.model, fit(replace(quick, model="exact-adder"), few, quiet=True).model)


def test_any_module_with_two_inputs_can_be_trained(digits):
    recipe = replace(
        RECIPES["adder"], model=PlainNet, epochs=4, batch_size=64, degrees=0, translate=0, scale=0, shear=0
    )
    fitted = fit(recipe, digits, quiet=True)
    assert type(fitted.model) is PlainNet
    assert evaluate(fitted.model, digits.test).metrics["digit_accuracy"] > 0.8


def test_a_network_that_is_given_is_copied_and_fine_tuned(few, quick):
    first = fit(replace(quick, epochs=6), few, quiet=True)
    before = copy.deepcopy(first.model)
    tuned = fit(replace(quick, epochs=1, lr=1e-6), few, model=first.model, quiet=True)
    assert same(first.model, before)
    assert tuned.fine_tuned
    assert not same(tuned.model, before)
    fresh = fit(replace(quick, epochs=1, lr=1e-6), few, quiet=True)
    assert tuned.history[0]["train_digit_loss"] < fresh.history[0]["train_digit_loss"] / 2


class Probabilities(PlainNet):
    def forward(self, image, number):
        log_probs, logits = super().forward(image, number)
        return log_probs.exp(), logits


class Swapped(PlainNet):
    def forward(self, image, number):
        return super().forward(image, number)[::-1]


@pytest.mark.parametrize("network, said", [(Probabilities, "log_softmax"), (Swapped, r"log_probs \[B, 10\]")])
def test_a_network_with_other_outputs_is_refused(few, quick, network, said):
    with pytest.raises(InputError, match=said):
        fit(replace(quick, model=network), few, quiet=True)


# Input that cannot be used.


@pytest.mark.parametrize("part", ["train", "test"])
def test_float_images_are_refused(few, quick, part):
    images, labels = getattr(few, part)
    data = replace(few, **{part: Split(images / 255, labels)})
    with pytest.raises(InputError, match="images must be uint8"):
        fit(quick, data, quiet=True)


def test_a_batch_larger_than_the_data_is_refused(few, quick):
    with pytest.raises(InputError, match="batch size 241"):
        fit(replace(quick, batch_size=241), few, quiet=True)


class Memory:
    """A checkpoint that notes the epochs of the history each time it is saved."""

    def __init__(self):
        self.saved = []

    def restore(self, parts):
        return []

    def save(self, parts, history):
        self.saved.append([row["epoch"] for row in history])


def test_a_checkpoint_is_saved_after_each_epoch_and_changes_nothing(few, quick):
    checkpoint = Memory()
    fitted = fit(quick, few, quiet=True, checkpoint=checkpoint)
    assert checkpoint.saved == [[1], [1, 2]]
    assert same(fitted.model, fit(quick, few, quiet=True).model)


def test_a_diverging_training_stops_with_a_reason_and_is_not_kept(few, quick):
    checkpoint = Memory()
    with pytest.raises(InputError, match="not finite in epoch 1: choose a rate below"):
        fit(replace(quick, lr=1e30, schedule="constant"), few, quiet=True, checkpoint=checkpoint)
    assert checkpoint.saved == []


# With a GPU, and with MNIST.


@needs_cuda
def test_fit_on_cuda(digits):
    recipe = replace(RECIPES["adder"], epochs=8, batch_size=64)
    fitted = fit(recipe, digits, device="cuda", quiet=True)
    assert next(fitted.model.parameters()).is_cuda
    assert fitted.history[-1]["test_digit_accuracy"] > 0.9


@needs_cuda
def test_deterministic_on_cuda():
    """In a process of its own, because cuBLAS reads its setting before the first product of matrices."""
    program = (
        "from mnist_adder import RECIPES, fit, gpu_check, load_data\n"
        "from dataclasses import replace\n"
        "device, data = gpu_check(0, 'cuda', deterministic=True), load_data('digits')\n"
        "recipe = replace(RECIPES['adder'], epochs=1)\n"
        "histories = [fit(recipe, data, device=device, quiet=True).history for _ in range(2)]\n"
        "assert histories[0] == histories[1]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@needs_cuda
@pytest.mark.parametrize("averaging", [None, "swa"])
def test_no_step_waits_on_cuda(few, quick, averaging):
    recipe = replace(quick, averaging=averaging, averaged_share=1.0)
    model = build(recipe.model).to("cuda").train()
    loader, optimizer = make_loader(recipe, few, "cuda"), make_optimizer(recipe, model)
    scheduler, average = (
        make_scheduler(recipe, optimizer, 2 * len(loader)),
        WeightAverage(recipe, model, 2 * len(loader)),
    )
    metrics = Metrics(torch.device("cuda"))
    try:
        for mode in ("default", "error"):  # the first epoch chooses kernels, and may wait
            torch.cuda.set_sync_debug_mode(mode)
            for sample in loader:
                outputs = train_step(model, sample, recipe, optimizer)
                scheduler.step()
                average.update()
                metrics.update(sample, *outputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_real_mnist(mnist_dir):
    """One epoch over 6,000 of the 60,000 images, tested on 1,000."""
    loaded = load_data("mnist", mnist_dir)
    train, test = (Split(*(part[:n] for part in split)) for split, n in ((loaded.train, 6_000), (loaded.test, 1_000)))
    fitted = fit(replace(RECIPES["adder"], epochs=1, batch_size=32), Data("mnist", train, test), quiet=True)
    last = fitted.history[-1]
    assert last["test_digit_accuracy"] >= 0.9
    assert last["test_joint_accuracy"] >= 0.3  # by chance: 0.01
