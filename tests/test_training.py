"""The training loop, on the bundled digits and, where it is found, on real MNIST."""

import copy
import io
import math
import platform
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from mnist_adder import models
from mnist_adder.data import Batches, Data, InputError, Split, load_data
from mnist_adder.evaluation import evaluate
from mnist_adder.models import AdderMLP, AdderNet, ExactAdderNet, build
from mnist_adder.recipes import RECIPES
from mnist_adder.training import (
    COUNTED,
    Average,
    Tally,
    describe,
    fit,
    gpu_check,
    lr_range,
    make_optimizer,
    make_scheduler,
)

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one.cpu(), other.cpu()) for one, other in pairs)


def test_gpu_check_reports_seeds_and_returns(capsys):
    device = gpu_check(7, "cpu")
    drawn = torch.rand(3)
    assert device == torch.device("cpu")
    printed = capsys.readouterr().out
    for part in ("CPU", torch.__version__, platform.python_version(), "seed 7"):
        assert part in printed
    gpu_check(7, "cpu")
    assert torch.equal(torch.rand(3), drawn)
    gpu_check(8, "cpu")
    assert not torch.equal(torch.rand(3), drawn)


def test_gpu_check_takes_the_best_device():
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    assert gpu_check().type == ("cuda" if cuda else "mps" if mps else "cpu")


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_gpu_check_refuses_a_device_that_is_not_there(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"no {device} device"):
        gpu_check(device=device)


def test_gpu_check_refuses_an_unknown_device():
    with pytest.raises(InputError, match="unknown device 'tpu'"):
        gpu_check(device="tpu")


@needs_cuda
def test_gpu_check_names_the_gpu(capsys):
    assert gpu_check(0, "cuda").type == "cuda"
    assert torch.cuda.get_device_name() in capsys.readouterr().out


def test_fit_learns_the_bundled_digits(digits):
    fitted = fit(replace(RECIPES["adder"], digits_epochs=8, batch_size=64), digits, bar=False)
    assert not fitted.model.training
    first, *_, last = fitted.history
    assert last["test_digit_accuracy"] > 0.9
    assert last["test_joint_accuracy"] > 0.3  # by chance: 0.01
    assert last["train_digit_loss"] < first["train_digit_loss"] / 2
    assert last["test_joint_accuracy"] == evaluate(fitted.model, digits.test).metrics["joint_accuracy"]


def test_history_and_the_clock(few, quick):
    fitted = fit(quick, few, bar=False)
    assert [row["epoch"] for row in fitted.history] == [1, 2]
    parts = ("digit_loss", "sum_loss", "digit_accuracy", "sum_accuracy", "joint_accuracy")
    names = {f"{split}_{part}" for split in ("train", "test") for part in parts}
    assert set(fitted.history[0]) == names | {"epoch", "lr", "test_product_accuracy"}
    for row in fitted.history:
        assert all(0 <= value <= 1 for name, value in row.items() if name.endswith("accuracy"))
        assert row["train_joint_accuracy"] <= min(row["train_digit_accuracy"], row["train_sum_accuracy"])
    assert fitted.train_seconds > 0
    assert fitted.warmup_seconds > 0


def test_the_recipe_says_its_length_for_each_source(few, quick):
    recipe = replace(quick, epochs=1, digits_epochs=3)
    assert len(fit(recipe, few, bar=False).history) == 3
    assert len(fit(recipe, Data("my own", few.train, few.test), bar=False).history) == 1


def test_same_seed_same_weights_other_seed_others(few, quick):
    first, again, other = (fit(quick, few, seed=seed, bar=False) for seed in (3, 3, 4))
    assert same(first.model, again.model)
    assert first.history == again.history
    assert not same(first.model, other.model)


def test_the_seed_alone_decides(few, quick):
    torch.manual_seed(1)
    first = fit(quick, few, bar=False)
    torch.manual_seed(2)
    torch.rand(5)
    assert same(first.model, fit(quick, few, bar=False).model)


def test_testing_changes_nothing(few, quick):
    other_test = Data("digits", few.train, Split(*(part[:5] for part in few.test)))
    assert same(fit(quick, few, bar=False).model, fit(quick, other_test, bar=False).model)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains(few, name, capsys):
    fitted = fit(replace(RECIPES[name], digits_epochs=1, batch_size=60), few)
    torch.manual_seed(0)
    assert not same(fitted.model, build(RECIPES[name].model))
    printed = capsys.readouterr().out
    for part in ("epoch  1/1", "100%", "nll", "ce", "digit", "sum", "joint", "test"):
        assert part in printed


def test_a_model_of_ones_own_in_a_recipe(few, quick):
    own = replace(quick, model=ExactAdderNet)
    assert same(
        fit(own, few, bar=False).model, fit(replace(quick, model="exact-adder"), few, bar=False).model
    )


def test_without_a_bar_nothing_is_printed(few, quick, capsys):
    fit(quick, few, bar=False)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_the_bar_ends_with_the_means_of_the_whole_epoch(few, quick, capsys):
    history = fit(quick, few).history
    lines = re.split(r"[\r\n]+", capsys.readouterr().out)
    for row in history:
        bar = [line for line in lines if line.startswith(f"epoch {row['epoch']:2}/2: 100%")][-1]
        assert describe({name: row[f"train_{name}"] for name in COUNTED[1:]}) in bar


def test_weights_of_the_parts_reach_the_loss(few, quick):
    recipe = replace(quick, model="unstuck", digit_weight=0.0, weight_decay=0.0)
    torch.manual_seed(0)
    fresh = build("unstuck").digit_head.weight
    assert torch.equal(fit(recipe, few, bar=False).model.digit_head.weight, fresh)


def test_a_tally_gives_the_means_so_far_and_asking_changes_nothing():
    torch.manual_seed(0)
    steps, size = 150, 4
    digit, sum = torch.randint(10, (steps, size)), torch.randint(19, (steps, size))
    digit_scores, sum_scores = torch.rand(steps, size, 10), torch.rand(steps, size, 19)
    digit_losses, sum_losses = torch.rand(2, steps)
    digit_scores[::2, 0].scatter_(1, digit[::2, :1], 2)  # right, as chance is not
    sum_scores[::3, :2].scatter_(2, sum[::3, :2, None], 2)
    digit_right, sum_right = digit_scores.argmax(2) == digit, sum_scores.argmax(2) == sum
    tally, asked_once = Tally(torch.device("cpu")), Tally(torch.device("cpu"))
    fields = (digit_scores, digit, sum_scores, sum, digit_losses, sum_losses)
    for step in range(steps):
        tally.add(*(field[step] for field in fields))
        asked_once.add(*(field[step] for field in fields))
        so_far = slice(step + 1)
        assert tally.means() == pytest.approx(
            {
                "digit_accuracy": digit_right[so_far].double().mean().item(),
                "sum_accuracy": sum_right[so_far].double().mean().item(),
                "joint_accuracy": (digit_right & sum_right)[so_far].double().mean().item(),
                "digit_loss": digit_losses[so_far].mean().item(),
                "sum_loss": sum_losses[so_far].mean().item(),
            }
        )
    assert tally.means() == asked_once.means()  # to the bit, whenever the bar asked


def test_withheld_pairs_are_left_out_of_training(few, quick, monkeypatch):
    allowed = ~torch.eye(10, dtype=torch.bool)
    served, plain = [], Batches.__iter__

    def watched(batches):
        for sample in plain(batches):
            served.append((sample.digit, sample.number.argmax(1)))
            yield sample

    monkeypatch.setattr(Batches, "__iter__", watched)
    fit(quick, few, allowed=allowed, bar=False)
    assert len(served) == 8
    assert not any((digit == number).any() for digit, number in served)


@pytest.mark.parametrize("averaging", ["ema", "swa"])
def test_averaged_weights(averaging, quick):
    recipe = replace(quick, averaging=averaging, averaged_share=0.5)
    model = nn.Linear(1, 1, bias=False)
    model.register_buffer("running_mean", torch.zeros(()))  # as BatchNorm has one
    average = Average(recipe, model, steps=8)  # a span of 4 steps
    assert average.model is model
    seen = []
    for value in (1.0, 5.0, 2.0, 8.0, 3.0, 9.0, 4.0, 6.0):
        nn.init.constant_(model.weight, value)
        model.running_mean.fill_(-value)
        average.update()
        assert average.model.running_mean.item() == pytest.approx(-average.model.weight.item())
        seen.append(average.model.weight.item())
    if averaging == "swa":  # the plain mean of the last half
        expected = [1.0, 5.0, 2.0, 8.0, 3.0, 6.0, 16 / 3, 5.5]
    else:
        expected = [1.0]
        for value in (5.0, 2.0, 8.0, 3.0, 9.0, 4.0, 6.0):
            expected.append(0.75 * expected[-1] + 0.25 * value)
    assert seen == pytest.approx(expected)
    assert model.weight.item() == 6.0  # training goes on from its own weights


@pytest.mark.parametrize("averaging", ["ema", "swa"])
def test_fit_returns_averaged_weights(few, quick, averaging):
    plain = fit(quick, few, bar=False)
    averaged = fit(replace(quick, averaging=averaging), few, bar=False)
    assert type(averaged.model) is AdderNet
    assert not averaged.model.training
    assert not same(plain.model, averaged.model)
    assert [row["train_sum_loss"] for row in plain.history] == [
        row["train_sum_loss"] for row in averaged.history
    ]
    found = evaluate(averaged.model, few.test).metrics["sum_loss"]
    assert averaged.history[-1]["test_sum_loss"] == found


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_one_cycle_rises_to_the_recipes_rate_and_ends_near_zero(quick, optimizer):
    recipe = replace(quick, optimizer=optimizer, schedule="one-cycle", lr=0.4, rising=0.25)
    made = make_optimizer(recipe, nn.Linear(1, 1))
    schedule, rates = make_scheduler(recipe, made, 100), []
    for _ in range(100):
        rates.append(made.param_groups[0]["lr"])
        made.step()
        schedule.step()
    assert max(rates) == pytest.approx(0.4)
    assert rates.index(max(rates)) in (24, 25)
    assert rates[0] < 0.1 and rates[-1] < 0.001


def test_a_diverging_training_stops_with_a_reason(few, quick):
    with pytest.raises(InputError, match="stopped being finite in epoch 1: lower the rate"):
        fit(replace(quick, lr=1e30, schedule="constant"), few, bar=False)


def test_a_batch_larger_than_the_data_is_refused(few, quick):
    with pytest.raises(InputError, match="batch size 241"):
        fit(replace(quick, batch_size=241), few, bar=False)


@needs_cuda
def test_fit_on_cuda(digits):
    recipe = replace(RECIPES["adder"], digits_epochs=8, batch_size=64)
    fitted = fit(recipe, digits, device="cuda", bar=False)
    assert next(fitted.model.parameters()).is_cuda
    assert fitted.history[-1]["test_digit_accuracy"] > 0.9


@needs_cuda
def test_deterministic_on_cuda(few, quick):
    try:
        device = gpu_check(0, "cuda", deterministic=True)
        first, again = (fit(quick, few, device=device, bar=False) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert same(first.model, again.model)


def test_real_mnist(mnist_dir):
    """One epoch over 12,000 of the 60,000 images, tested on 2,000."""
    loaded = load_data("mnist", mnist_dir)
    assert (len(loaded.train.digits), len(loaded.test.digits)) == (60_000, 10_000)
    assert loaded.train.digits[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    train, test = (
        Split(*(part[:n] for part in split)) for split, n in ((loaded.train, 12_000), (loaded.test, 2_000))
    )
    fitted = fit(replace(RECIPES["adder"], epochs=1, batch_size=32), Data("mnist", train, test), bar=False)
    last = fitted.history[-1]
    assert last["test_digit_accuracy"] >= 0.95
    assert last["test_joint_accuracy"] >= 0.3  # the adder has hardly begun; by chance: 0.01


# The learning-rate range test.


def test_a_range_test_raises_the_rate_and_leaves_the_model_alone(few, quick):
    model = build("adder").eval()
    before = copy.deepcopy(model)
    found = lr_range(quick, few, model=model, lowest=1e-4, highest=1e-2, steps=21)
    assert same(model, before)
    assert not model.training
    assert (found.rates[0], found.rates[-1]) == pytest.approx((1e-4, 1e-2))
    assert found.rates[10] == pytest.approx(1e-3)
    assert len(found.rates) == len(found.losses) == len(found.smoothed) == 21
    assert lr_range(quick, few, model=model, lowest=1e-4, highest=1e-2, steps=21) == found


def test_a_range_test_suggests_a_rate_on_the_way_down(digits):
    found = lr_range(RECIPES["adder"], digits, steps=60)
    lowest = found.rates[found.smoothed.index(min(found.smoothed))]
    assert 1e-4 < found.suggestion < lowest
    assert found.smoothed[0] == found.losses[0]  # without correction it would begin near 0


def test_a_range_test_stops_when_the_loss_blows_up(few, quick):
    found = lr_range(quick, few, highest=1e30, steps=100)
    assert len(found.rates) < 100
    assert all(map(math.isfinite, found.losses + found.smoothed))
    assert max(found.smoothed[:-1]) <= 4 * min(found.smoothed)


def test_a_range_test_that_never_falls_suggests_nothing(few, quick):
    blind = replace(quick, digit_weight=0.0, sum_weight=0.0)
    assert lr_range(blind, few, steps=30).suggestion is None


@pytest.mark.parametrize("wrong", [{"lowest": 0.0}, {"lowest": 20.0}, {"highest": math.inf}, {"steps": 19}])
def test_a_range_test_out_of_range(few, quick, wrong):
    with pytest.raises(InputError, match="range test"):
        lr_range(quick, few, **wrong)


def test_a_range_test_of_broken_weights(few, quick):
    model = build("adder")
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    with pytest.raises(InputError, match="not finite"):
        lr_range(quick, few, model=model)


# A training that goes on.


def kept(*arguments, **options) -> tuple:
    """What was fitted, and the state before each epoch and after the last, as bytes."""
    states = []

    def keep(state):
        states.append(io.BytesIO())
        torch.save(state, states[-1])

    return fit(*arguments, keep=keep, bar=False, **options), states


def again(states: list, done: int) -> dict:
    """The state after `done` epochs; no object but tensors and plain values is unpickled."""
    states[done].seek(0)
    return torch.load(states[done], weights_only=True)


@pytest.mark.parametrize(
    "name, changes",
    [
        ("adder", {}),  # SGD, one cycle, augmentation
        ("adder", {"averaging": "ema", "optimizer": "adam"}),
        ("shared-trunk", {"averaged_share": 0.5}),  # SWA
        ("cascade", {}),  # fixed numbers
        ("adder", {"model": "with dropout"}),
    ],
)
def test_a_training_that_goes_on_ends_where_the_uninterrupted_one_ends(few, name, changes, monkeypatch):
    monkeypatch.setitem(models.MODELS, "with dropout", with_dropout)
    recipe = replace(RECIPES[name], digits_epochs=3, batch_size=80, **changes)
    whole, states = kept(recipe, few, seed=4)
    assert len(states) == 4
    for done in range(4):
        torch.rand(7)
        resumed = fit(recipe, few, seed=4, bar=False, state=again(states, done))
        assert same(whole.model, resumed.model)
        assert resumed.history == whole.history
        assert resumed.train_seconds > again(states, done)["train_seconds"]


def with_dropout():
    net = AdderNet()
    net.adder = AdderMLP(dropout=0.3)
    return net


def test_keeping_changes_nothing(few, quick):
    assert same(kept(quick, few)[0].model, fit(quick, few, bar=False).model)


def test_the_state_of_another_training_is_refused(few, quick):
    _, states = kept(quick, few)
    for other in (replace(quick, model="cascade"), replace(quick, averaging="ema")):
        with pytest.raises(InputError, match="another training"):
            fit(other, few, bar=False, state=again(states, 1))


def test_a_diverging_training_leaves_its_last_good_state(few, quick):
    states = []
    with pytest.raises(InputError, match=r"finite in epoch 1: lower the rate \(1e\+30\)"):
        fit(replace(quick, lr=1e30, schedule="constant"), few, bar=False, keep=states.append)
    assert [state["history"] for state in states] == [[]]
