"""The training: its loop, its parts, going on, and what is refused before the first step."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import PlainNet, first, needs_cuda, refusal, same
from torch import nn
from torch.utils.data import DataLoader

from mnist_adder import (
    RECIPES,
    AdderMLP,
    AdderNet,
    Data,
    InputError,
    Split,
    Training,
    evaluate,
    fit,
    gpu_check,
    load_data,
    read_run,
    save_run,
)
from mnist_adder.data import AdderDataset


def without_seconds(history) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


# The loop.


def test_it_learns_the_bundled_digits(digits):
    training = fit(replace(RECIPES["adder"], epochs=5, batch_size=32), digits, quiet=True)
    first, *_, last = training.history
    assert last["test_digit_accuracy"] > 0.9
    assert last["test_joint_accuracy"] > 0.2  # by chance: 0.01
    assert last["train_digit_loss"] < first["train_digit_loss"] / 2
    assert last["test_joint_accuracy"] == evaluate(training.model, digits).metrics["joint_accuracy"]


def test_each_iteration_is_an_epoch_and_gives_a_row(few, quick):
    training = Training(quick, few)
    rows = list(training)
    assert rows == training.history
    assert list(training) == []
    losses = {"digit_loss", "sum_loss"}
    accuracies = {"digit_accuracy", "sum_accuracy", "joint_accuracy"}
    names = {f"{part}_{name}" for part in ("train", "test") for name in losses | accuracies}
    for epoch, row in enumerate(rows, 1):
        assert set(row) == names | {"epoch", "lr", "seconds", "train_loss"}
        assert row["epoch"] == epoch
        assert all(0 <= row[name] <= 1 for name in names if name.endswith("accuracy"))
        assert row["train_joint_accuracy"] <= row["train_sum_accuracy"]
        total = row["train_digit_loss"] + 0.1 * row["train_sum_loss"]
        assert row["train_loss"] == pytest.approx(total, rel=1e-5)


def test_the_loop_may_be_left_and_gone_on_with(few, quick):
    straight = fit(quick, few, quiet=True)
    training = Training(quick, few)
    for row in training:
        row["mine"] = 7.0
        break
    assert len(training.history) == 1
    torch.rand(3)  # what the caller draws changes nothing
    for row in training:
        row["mine"] = 8.0
    assert [row["mine"] for row in training.history] == [7.0, 8.0]
    assert same(training.model, straight.model)


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_trains_and_prints_a_line_an_epoch(name, few, capsys):
    training = fit(replace(RECIPES[name], epochs=1, batch_size=60), few)
    torch.manual_seed(0)
    assert not same(training.model, RECIPES[name].model())
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("epoch  1/1")
    for part in ("train", "test"):
        row = training.history[0]
        digit = f"digit {row[f'{part}_digit_accuracy']:.2%} (nll {row[f'{part}_digit_loss']:.4f})"
        sum = f"sum {row[f'{part}_sum_accuracy']:.2%} (ce {row[f'{part}_sum_loss']:.4f})"
        assert f"{part}: {digit}, {sum}, joint {row[f'{part}_joint_accuracy']:.2%}" in line


# What decides a training.


def test_the_seed_alone_decides(few, quick, capsys):
    first = fit(quick, few, seed=3, quiet=True)
    torch.rand(5)
    again = fit(quick, few, seed=3, quiet=True)
    assert same(first.model, again.model)
    assert without_seconds(first.history) == without_seconds(again.history)
    assert not same(first.model, fit(quick, few, seed=4, quiet=True).model)
    assert capsys.readouterr() == ("", "")


def test_the_seed_decides_more_than_the_first_weights(few, quick):
    network = AdderNet()
    trained = [fit(quick, few, model=network, seed=seed, quiet=True).model for seed in (3, 3, 4)]
    assert same(trained[0], trained[1])
    assert not same(trained[1], trained[2])


def test_each_setting_of_a_recipe_reaches_the_training(few, quick):
    recipe = replace(quick, epochs=1)
    plain = fit(recipe, few, quiet=True).model
    for change in (
        {"fixed_numbers": True},
        {"augment": None},
        {"label_smoothing": 0.5},
        {"digit_weight": 0.5},
        {"sum_weight": 0.5},
    ):
        assert not same(fit(replace(recipe, **change), few, quiet=True).model, plain), change


def test_testing_changes_nothing(few, quick):
    other = replace(few, test=Split(few.test.images[:5], few.test.digits[:5]))
    assert same(fit(quick, few, quiet=True).model, fit(quick, other, quiet=True).model)


def test_the_rate_rises_and_falls_in_one_cycle_or_stays(few, quick):
    class Watched(Training):
        def train_step(self, sample):
            rates.append(self.optimizer.param_groups[0]["lr"])
            return super().train_step(sample)

    rates = []
    recipe = replace(quick, model=PlainNet, lr=0.4, pct_start=0.25, epochs=5)
    list(Watched(recipe, few))
    assert len(rates) == 20
    assert rates.index(max(rates)) == 4
    assert max(rates) == pytest.approx(0.4)
    assert rates[0] < 0.1
    assert rates[-1] < 0.001
    rates = []
    list(Watched(replace(recipe, schedule="constant"), few))
    assert rates == [0.4] * 20


@pytest.mark.parametrize(("steps", "pct_start"), [(1, 0.2), (2, 0.5), (4, 0.25)])
def test_one_cycle_of_a_few_steps(few, quick, steps, pct_start):
    recipe = replace(quick, epochs=1, batch_size=240 // steps, pct_start=pct_start)
    assert len(fit(recipe, few, quiet=True).history) == 1


def test_weight_decay_spares_biases_and_batchnorm(few, quick):
    options = {"weight_decay": 0.5}
    training = Training(replace(quick, optimizer_options=options, schedule="constant"), few)
    before = {name: p.clone() for name, p in training.model.named_parameters()}
    for p in training.model.parameters():
        p.grad = torch.zeros_like(p)
    training.optimizer.step()
    for name, p in training.model.named_parameters():
        torch.testing.assert_close(p, before[name] * (0.95 if p.dim() > 1 else 1))


def test_the_optimizer_is_the_recipes(few, quick):
    options = {"betas": (0.8, 0.9), "eps": 1e-6}
    training = Training(replace(quick, optimizer="AdamW", optimizer_options=options), few)
    assert type(training.optimizer) is torch.optim.AdamW
    assert options.items() <= training.optimizer.defaults.items()
    next(iter(training))


@pytest.mark.parametrize("form", [list, np.array, torch.tensor])
def test_withheld_pairs_are_never_served(few, quick, form):
    class Watched(Training):
        def train_step(self, sample):
            served.append((sample.digit == sample.number.argmax(1)).any())
            return super().train_step(sample)

    served = []
    pairs = [(digit, digit) for digit in range(10)]
    training = Watched(quick, few, withheld=form(pairs))
    list(training)
    assert training.withheld == pairs
    assert len(served) == 8
    assert not any(served)


# A network that is given.


def test_a_network_that_is_given_is_copied_and_fine_tuned(few, quick):
    first = fit(replace(quick, epochs=6), few, quiet=True).model.eval()
    before = copy.deepcopy(first)
    tuned = fit(replace(quick, epochs=1, lr=1e-6), few, model=first, quiet=True)
    assert same(first, before)
    assert not first.training
    assert tuned.fine_tuned
    assert tuned.model.training
    assert not same(tuned.model, before)
    fresh = fit(replace(quick, epochs=1, lr=1e-6), few, quiet=True)
    assert not fresh.fine_tuned
    assert tuned.history[0]["train_digit_loss"] < fresh.history[0]["train_digit_loss"] / 1.5


@pytest.mark.parametrize("wrap", [lambda net: torch.compile(net, backend="eager"), nn.DataParallel])
def test_a_wrapped_network_trains_and_is_saved_under_its_inner_names(few, quick, wrap, tmp_path):
    network = AdderNet()
    training = Training(quick, few, model=wrap(network))
    next(iter(training))
    assert set(training.state_dict()["model"]) == set(network.state_dict())
    save_run(tmp_path / "run", training)
    plain = read_run(tmp_path / "run").model
    assert not torch.equal(plain.cnn[0].weight, network.cnn[0].weight)
    assert evaluate(plain, few).metrics["sum_loss"] == pytest.approx(
        training.history[0]["test_sum_loss"], rel=1e-4
    )


def test_float64_as_the_default(few, quick):
    torch.set_default_dtype(torch.float64)
    try:
        training = fit(replace(quick, epochs=1), few, quiet=True)
    finally:
        torch.set_default_dtype(torch.float32)
    assert next(training.model.parameters()).dtype == torch.float64


# Overriding a part.


def test_an_own_loader(few, quick):
    class Stock(Training):
        def make_loader(self):
            dataset = AdderDataset(*self.data.train)
            return DataLoader(dataset, self.recipe.batch_size, shuffle=True)

    histories = [without_seconds(fit(quick, few, quiet=True).history)]
    histories += [without_seconds(list(Stock(quick, few, seed=1))) for _ in range(2)]
    assert histories[1] == histories[2]
    assert histories[0] != histories[1]


# Counts from the data.


def test_colour_images_of_32_by_32(quick):
    images = torch.randint(256, (120, 3, 32, 32), dtype=torch.uint8)
    split = Split(images, torch.arange(120, dtype=torch.int32) % 10)
    data = Data("colour", split, split)
    training = fit(replace(quick, epochs=1), data, model=PlainNet(pixels=3072), quiet=True)
    assert evaluate(training.model, data).predicted_sums.shape == (120, 10)


def test_another_operation_is_trained_and_tested(few, quick):
    data = replace(few, target=lambda digit, number: digit * number)
    network = AdderNet(adder=AdderMLP(sum_classes=82))
    training = fit(replace(quick, sum_weight=1.0), data, model=network, quiet=True)
    evaluation = evaluate(training.model, data)
    assert evaluation.sums[0, 3] == few.test.digits[0] * 3
    assert evaluation.metrics["sum_loss"] == training.history[-1]["test_sum_loss"]


# What is refused, in one line.


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"target": lambda digit, number: digit * number}, "[2, 82]"),
        ({"number_classes": 100}, "numbers [2, 100]"),
        ({"digit_classes": 11}, "[[2, 11], [2, 20]]"),
    ],
)
def test_a_network_that_does_not_fit_the_data(few, quick, changes, part):
    assert part in refusal(Training, quick, replace(few, **changes))


def test_images_of_another_size_than_the_network_takes(few, quick):
    wide = Split(torch.cat([few.train.images, few.train.images], 2), few.train.digits)
    assert "[2, 1, 28, 56]" in refusal(Training, quick, Data("wide", wide, wide))


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: AdderNet().half(), "does not take images"),
        (lambda: AdderNet().double(), "does not take images"),
        (lambda: AdderNet().requires_grad_(False), "no parameter to train"),
        (lambda: nn.Identity(), "no parameter to train"),
    ],
    ids=["half", "double", "frozen", "no parameters"],
)
def test_a_network_that_cannot_be_trained(few, quick, make, part):
    assert part in refusal(Training, quick, few, model=make())


class WithExtraState(PlainNet):
    def get_extra_state(self):
        return {"anything": object()}


class UnsavableOptimizer(Training):
    def make_optimizer(self):
        optimizer = super().make_optimizer()
        optimizer.param_groups[0]["mine"] = np.float64(3)
        return optimizer


def test_what_cannot_be_saved_is_refused_before_the_first_step(few, quick):
    with pytest.raises(InputError, match="'_extra_state' is no tensor and cannot be saved"):
        Training(quick, few, model=WithExtraState())
    with pytest.raises(InputError, match="cannot be saved: its state holds more than tensors"):
        UnsavableOptimizer(quick, few)


def test_a_loss_that_is_not_finite_stops_the_training(few, quick):
    training = Training(replace(quick, lr=1e30, schedule="constant"), few)
    with pytest.raises(InputError, match="not finite in epoch 1: choose a lower learning rate"):
        list(training)
    assert training.history == []


def test_a_seed_that_there_is_not(few, quick):
    assert "a seed must be a whole number" in refusal(Training, quick, few, seed=None)


def test_a_batch_larger_than_the_data(few, quick):
    assert "batch size 241" in refusal(Training, replace(quick, batch_size=241), few)


# With MNIST, and with a GPU.


def test_real_mnist(mnist_dir):
    data = first(load_data("mnist", mnist_dir), 4000, 500)
    recipe = replace(RECIPES["adder"], epochs=1, batch_size=32)
    (row,) = Training(recipe, data)
    assert row["test_digit_accuracy"] >= 0.85
    assert row["test_joint_accuracy"] >= 0.2  # by chance: 0.01


@needs_cuda
def test_it_learns_on_cuda_and_goes_on_from_the_cpu(digits, few, quick):
    recipe = replace(RECIPES["adder"], epochs=6, batch_size=32)
    training = fit(recipe, digits, device="cuda", quiet=True)
    assert next(training.model.parameters()).is_cuda
    assert training.history[-1]["test_digit_accuracy"] > 0.9
    on_cpu = Training(quick, few)
    next(iter(on_cpu))
    resumed = Training(quick, few, device="cuda")
    resumed.load_state_dict(on_cpu.state_dict())
    (row,) = resumed
    assert row["epoch"] == 2


@needs_cuda
def test_no_step_waits_on_cuda(few, quick):
    training = Training(quick, few, device=gpu_check(0, "cuda"))
    next(iter(training))  # the first epoch chooses kernels, and may wait
    samples = list(training.loader)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for sample in samples:
            training.train_step(sample)
    finally:
        torch.cuda.set_sync_debug_mode("default")
