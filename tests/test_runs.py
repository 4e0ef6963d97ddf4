"""A run's folder: written whole, read back, gone on with bit for bit; and never trusted."""

import functools
import hashlib
import io
import json
import os
import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CHECKED, PlainNet, TiedNet, first, refusal, same, sign
from torch import nn

from mnist_adder import plots, runs
from mnist_adder.data import Data
from mnist_adder.evaluation import evaluate
from mnist_adder.files import write
from mnist_adder.models import AdderNet, QuickNet, WideNet
from mnist_adder.recipes import RECIPES
from mnist_adder.runs import load_pretrained, read_checkpoint, read_run, save_run, train_run
from mnist_adder.training import Training, fit

QUICK = replace(RECIPES["speedrun"], epochs=3, batch_size=60)
FIGURES = ("confusion.png", "curves.png", "mistakes.png", "samples.png", "truth_table.png")
LINEAR = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


@pytest.fixture(scope="module")
def small(digits) -> Data:
    """120 training and 60 test images, for what need not learn."""
    return first(digits, 120, 60)


class Clocked(Training):
    """A training whose seconds are always the same, so that its history can be compared."""

    def __iter__(self):
        for row in super().__iter__():
            row["seconds"] = 1.0
            yield row


def interrupted(folder: Path, training: Training, epochs: int = 1) -> None:
    """Run some epochs of a training, and leave it as a kill in the next epoch does."""
    plain = training.train_epoch

    def train_epoch():
        if len(training.history) == epochs:
            raise KeyboardInterrupt
        return plain()

    training.train_epoch = train_epoch
    with pytest.raises(KeyboardInterrupt):
        train_run(folder, training, quiet=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def saved(small, tmp_path_factory):
    """A run of one epoch, with two pairs withheld."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    training = fit(replace(QUICK, epochs=1), small, seed=2, withheld=[(1, 2), (3, 4)], quiet=True)
    return save_run(folder, training)


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory) -> dict[str, bytes]:
    """The files of a training that was not interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return contents(train_run(folder, Clocked(QUICK, small), quiet=True).folder)


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    """A copy of that run's folder, to be damaged."""
    return Path(shutil.copytree(saved.folder, tmp_path / "run"))


@pytest.fixture
def unfinished(small, tmp_path) -> Path:
    """The folder of a training of which one epoch of three is done."""
    interrupted(tmp_path / "unfinished", Clocked(QUICK, small))
    return tmp_path / "unfinished"


# Saved and read back.


def test_a_run_is_read_back_as_it_was(saved, small):
    again = read_run(saved.folder)
    assert again.config == saved.config
    assert again.metrics == saved.metrics
    assert str(again.history) == str(saved.history)  # its epochs are still ints
    assert same(again.model, saved.model)
    assert type(again.model) is QuickNet and not again.model.training
    assert again.config["withheld"] == [[1, 2], [3, 4]]
    measured = evaluate(again.model, small).measure(again.config["withheld"])
    assert measured.items() <= again.metrics.items()


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="needs sha256sum")
def test_the_checksums_are_those_of_sha256sum(saved):
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(command, cwd=saved.folder).returncode == 0


def test_a_recipe_of_ones_own_with_our_network_is_read_back_without_a_class(small, tmp_path):
    mine = replace(RECIPES["adder"], name="mine", batch_size=60)
    training = Training(mine, small)
    next(iter(training))
    run = save_run(tmp_path / "run", training)
    assert same(read_run(tmp_path / "run").model, run.model)


@pytest.mark.parametrize("network", [TiedNet, functools.partial(AdderNet, cnn=LINEAR)])
def test_a_network_of_ones_own_is_read_back_by_its_class(network, small, tmp_path):
    run = train_run(tmp_path / "run", Training(replace(QUICK, model=network), small), quiet=True)
    assert "a network of your own" in refusal(read_run, run.folder)
    again = read_run(run.folder, model=network)
    assert same(again.model, run.model)
    assert "does not hold the weights of this AdderNet" in refusal(
        read_run, run.folder, model=AdderNet
    )


def test_entries_that_the_user_adds_to_the_history_are_kept(small, tmp_path):
    training = Training(replace(QUICK, epochs=2), small)
    for row in training:
        if row["epoch"] == 2:
            row["place"] = 0.1
            row["note"] = 'two\nlines, "quoted"'
    save_run(tmp_path / "run", training)
    first, second = read_run(tmp_path / "run").history
    assert (second["place"], second["note"]) == (0.1, 'two\nlines, "quoted"')
    assert np.isnan(first["place"])


def test_what_a_training_with_other_losses_and_tests_leaves(small, tmp_path, figures):
    class DigitsOnly(Training):
        def loss(self, outputs, sample):
            return {"loss": nn.functional.nll_loss(outputs[0], sample.digit)}

        def test(self):
            return {"parity_accuracy": torch.tensor(0.25), **super().test()}

    run = train_run(tmp_path / "run", DigitsOnly(replace(QUICK, epochs=1), small), quiet=True)
    assert sorted(contents(run.folder)) == sorted([*CHECKED, *FIGURES, "SHA256SUMS"])
    for name in FIGURES:
        assert (run.folder / name).read_bytes().startswith(b"\x89PNG")
    assert run.metrics["parity_accuracy"] == 0.25
    assert run.metrics["train_seconds"] == run.history[0]["seconds"] > 0
    assert run.metrics["torch"] == torch.__version__
    assert str(tmp_path) not in (run.folder / "config.json").read_text()
    assert (run.folder / "config.json").stat().st_mode & 0o777 == 0o644


# The folder.


def test_a_folder_is_a_new_one(small, tmp_path):
    training = Training(replace(QUICK, epochs=1), small)
    deep = tmp_path / "new" / "and" / "deep"
    train_run(deep, training, quiet=True)
    before = contents(deep)
    (tmp_path / "empty").mkdir()
    for folder in (deep, tmp_path / "empty"):
        assert "is there already" in refusal(train_run, folder, training)
        assert "is there already" in refusal(save_run, folder, training)
    assert contents(deep) == before
    assert contents(tmp_path / "empty") == {}


@pytest.mark.parametrize("name", ["adder", "../../x", "/etc/x", "a\nb\x1b[31m", ".."])
def test_numbered_folders_stay_in_runs_whatever_the_recipes_name(
    small, tmp_path, monkeypatch, name
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    training = Training(replace(QUICK, name=name), small)
    folders = [runs.new_folder(None, training) for _ in range(2)]
    assert [path.name[-4:] for path in folders] == ["-001", "-002"]
    assert all(str(path).isprintable() for path in folders)
    assert sorted((tmp_path / "here" / "runs").iterdir()) == [path.absolute() for path in folders]
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_what_cannot_be_saved_is_refused_before_there_is_a_folder(small, tmp_path):
    class Odd(PlainNet):
        def __init__(self):
            super().__init__()
            self.register_buffer("odd", torch.zeros(2, dtype=torch.complex128))

    for training in (
        Training(replace(QUICK, model=Odd), small),
        Training(QUICK, replace(small, source=Path("digits"))),
    ):
        assert "cannot be saved" in refusal(train_run, tmp_path / "run", training)
    untrained = Training(QUICK, small)
    assert "has no epoch yet" in refusal(save_run, tmp_path / "run", untrained)
    assert not (tmp_path / "run").exists()


def test_numpys_numbers_can_be_saved(small, tmp_path):
    recipe = replace(QUICK, lr=np.logspace(-2, -1, 2)[0], batch_size=np.int64(60))
    training = Training(recipe, small, seed=np.int64(3), withheld=np.array([[1, 2]]))
    run = train_run(tmp_path / "run", training, quiet=True)
    assert read_run(run.folder).config["withheld"] == [[1, 2]]


# Going on.


@pytest.mark.parametrize(
    ("changes", "model"),
    [
        ({"model": WideNet, "augment": RECIPES["adder"].augment}, load_pretrained),  # tuned
        ({"model": TiedNet, "optimizer": "AdamW", "lr": 0.01}, lambda: None),
        ({"fixed_numbers": True}, lambda: None),
    ],
    ids=["fine-tuning", "tied weights and AdamW", "fixed numbers"],
)
def test_a_training_goes_on_bit_for_bit(changes, model, small, tmp_path):
    recipe = replace(QUICK, **{"optimizer_options": {}, **changes})
    settings = {"seed": 4, "withheld": [(0, 0)]}
    whole = Clocked(recipe, small, model=model(), **settings)
    whole = train_run(tmp_path / "whole", whole, quiet=True)
    interrupted(tmp_path / "run", Clocked(recipe, small, model=model(), **settings), epochs=2)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint.pt"]
    torch.rand(7)
    training = Clocked(recipe, small, **settings)
    run = train_run(tmp_path / "run", training, resume=True, quiet=True)
    assert len(run.history) == 3
    assert contents(run.folder) == contents(whole.folder)
    if recipe.model is TiedNet:
        assert run.model.again is run.model.digit


def test_only_the_same_training_goes_on(unfinished, small):
    before = contents(unfinished)
    subtract = replace(small, target=lambda digit, number: digit - number + 9)
    for training, name in (
        (Training(QUICK, small, seed=1), "seed"),
        (Training(QUICK, small, withheld=[(1, 2)]), "withheld"),
        (Training(replace(QUICK, lr=0.2), small), "lr"),
        (Training(replace(QUICK, epochs=4), small), "epochs"),
        (Training(replace(QUICK, sum_weight=2), small), "sum_weight"),
        (Training(replace(QUICK, optimizer_options={"momentum": 0}), small), "optimizer_options"),
        (Training(replace(QUICK, model=AdderNet), small), "model"),
        (Training(QUICK, Data("digits", small.test, small.train)), "data_sha256"),
        (Training(QUICK, subtract), "target"),
    ):
        message = refusal(train_run, unfinished, training, resume=True)
        assert f"differs from the unfinished run in: {name}" in message
    assert contents(unfinished) == before


def test_an_unfinished_run_says_so(unfinished, small):
    assert "unfinished run: go on with it" in refusal(read_run, unfinished)
    assert "go on with the run in it" in refusal(train_run, unfinished, Training(QUICK, small))


@pytest.mark.parametrize("calls", [1, 3, 5, 8])
def test_a_full_disk_loses_nothing_at_any_moment(calls, small, whole, tmp_path, monkeypatch):
    """The disk is full after some files: the first checkpoint, three more, the end."""
    plain = Path.write_bytes
    left = iter(range(calls))

    def write_bytes(path, content):
        if next(left, None) is not None:
            return plain(path, content)
        plain(path, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(Path, "write_bytes", write_bytes)
        train_run(tmp_path / "run", Clocked(QUICK, small), quiet=True)
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.endswith(".part")]
    assert "unfinished" in refusal(read_run, tmp_path / "run")
    assert len(read_checkpoint(tmp_path / "run")["history"]) == min(calls - 1, 3)
    train_run(tmp_path / "run", Clocked(QUICK, small), resume=True, quiet=True)
    assert contents(tmp_path / "run") == whole


def test_a_kill_between_the_checksums_and_the_end_leaves_a_run_that_goes_on(
    small, tmp_path, monkeypatch
):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(plots, "run_figures", killed)
        train_run(tmp_path / "run", Training(QUICK, small), quiet=True)
    (tmp_path / "run" / ".metrics.json.part").touch()  # as a kill leaves it
    (tmp_path / "run" / "metrics.json").write_bytes(b"{}")  # as going on may leave it
    assert "go on with it" in refusal(read_run, tmp_path / "run")
    run = train_run(tmp_path / "run", Training(QUICK, small), resume=True, quiet=True)
    assert sorted(contents(run.folder)) == sorted([*CHECKED, "SHA256SUMS"])
    read_run(run.folder)


# Files that are written whole.


def test_a_reader_never_finds_a_part_of_a_file(tmp_path):
    path = tmp_path / "file"
    write(path, b"a" * 100_000)
    done = threading.Event()

    def overwrite():
        while not done.is_set():
            write(path, b"a" * 100_000)
            write(path, b"b" * 100_000)

    writer = threading.Thread(target=overwrite)
    writer.start()
    try:
        read = {path.read_bytes() for _ in range(300)}
    finally:
        done.set()
        writer.join()
    assert read <= {b"a" * 100_000, b"b" * 100_000}
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_no_link_in_a_runs_folder_is_followed(unfinished, small, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("config.json", "SHA256SUMS", "curves.png"):
        (unfinished / name).symlink_to(victim)
    train_run(unfinished, Training(QUICK, small), resume=True, quiet=True)
    assert victim.read_text() == "mine"
    read_run(unfinished)


# Damage, and files that lie.


@pytest.mark.parametrize("name", CHECKED)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "changed", "a FIFO"])
def test_a_damaged_file_is_named(copy, name, damage):
    content = (copy / name).read_bytes()
    (copy / name).unlink()
    if damage == "a FIFO":
        os.mkfifo(copy / name)
    elif damage != "missing":
        changed = bytes([content[0] ^ 1]) + content[1:]
        damaged = {"empty": b"", "truncated": content[:-20], "changed": changed}[damage]
        (copy / name).write_bytes(damaged)
    assert f"{copy / name} is missing or damaged" in refusal(read_run, copy)


@pytest.mark.parametrize("name", ["SHA256SUMS", "checkpoint.pt"])
def test_a_fifo_is_no_file_of_a_run(name, tmp_path, small):
    os.mkfifo(tmp_path / name)
    assert str(tmp_path) in refusal(read_run, tmp_path)
    refusal(read_checkpoint, tmp_path)
    refusal(train_run, tmp_path, Training(QUICK, small))


def test_a_run_of_another_version_is_refused(copy, unfinished):
    config = json.loads((copy / "config.json").read_bytes())
    (copy / "config.json").write_text(json.dumps({**config, "mnist_adder": "0.2.0"}))
    sign(copy)
    assert f"{copy} holds a run of mnist_adder 0.2.0" in refusal(read_run, copy)
    state = read_checkpoint(unfinished)
    state["config"]["mnist_adder"] = "0.2.0"
    (unfinished / "checkpoint.pt").write_bytes(checkpoint_of(state))
    assert "holds a run of mnist_adder 0.2.0" in refusal(read_checkpoint, unfinished)


class Evil:
    """Leaves a trace where it is unpickled."""

    done: list[int] = []  # noqa: RUF012

    def __reduce__(self):
        return Evil.done.append, (1,)


def checkpoint_of(content: object) -> bytes:
    """Return a checkpoint with a right checksum, whatever it holds."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest()


def test_nothing_is_unpickled(copy, unfinished):
    torch.save({"weight": Evil()}, copy / "model.safetensors")
    sign(copy)
    refusal(read_run, copy)
    (unfinished / "checkpoint.pt").write_bytes(checkpoint_of({"config": Evil()}))
    assert "is no checkpoint" in refusal(read_checkpoint, unfinished)
    assert not Evil.done


def test_a_checkpoint_that_does_not_fit_is_refused_in_one_line(unfinished, small):
    path = unfinished / "checkpoint.pt"
    state = read_checkpoint(unfinished)
    for change in (
        {"model": {}},
        {"model": []},
        {"optimizer": {"state": {}}},
        {"optimizer": 5},
        {"scheduler": None},
    ):
        path.write_bytes(checkpoint_of({**state, **change}))
        assert "checkpoint" in refusal(train_run, unfinished, Training(QUICK, small), resume=True)
    for content in (b"", b"x" * 31, b"x" * 500, path.read_bytes()[:-1]):
        path.write_bytes(content)
        assert str(path) in refusal(train_run, unfinished, Training(QUICK, small), resume=True)
