"""A run's folder: written whole, read back as it was, and never trusted; and its checkpoint."""

import hashlib
import io
import json
import os
import platform
import random
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import PlainNet
from torch import nn

from mnist_adder import training
from mnist_adder.checks import InputError
from mnist_adder.data import Data
from mnist_adder.evaluation import evaluate
from mnist_adder.models import AdderNet, parameter_count
from mnist_adder.published.recipes import RECIPES
from mnist_adder.recipes import Recipe
from mnist_adder.runs import files, folder
from mnist_adder.runs.files import read_checkpoint
from mnist_adder.runs.folder import load_pretrained, make_folder, read_run, run_config, save_run, train_run
from mnist_adder.training import fit
from torture import mutated

FIGURES = {f"{name}.png" for name in ("samples", "curves", "mistakes", "truth_table", "confusion")}
CHECKED = ("config.json", "history.csv", "metrics.json", "model.safetensors")
# What a run would replace or delete.
REPLACED = (*CHECKED, "curves.png", "evaluation-mnist.json", "checkpoint.pt", "SHA256SUMS")


def weights(model: nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def saved(tmp_path_factory, digits):
    """A run of one epoch, and what was fitted."""
    fitted = fit(replace(RECIPES["adder"], epochs=1), digits, seed=2, quiet=True)
    return save_run(tmp_path_factory.mktemp("runs") / "run", fitted, digits), fitted


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved[0].folder, tmp_path / "run")


@pytest.fixture
def without_figures(monkeypatch):
    monkeypatch.setattr(folder, "draw", lambda *_: {})


def interrupt(place: Path, recipe, data: Data, monkeypatch, *, epoch: int = 2, **settings) -> None:
    """Train a run, and interrupt it at the beginning of an epoch."""
    plain = training.train_epoch

    def train_epoch(network, loader, *rest):
        if loader.epoch == epoch:
            raise KeyboardInterrupt
        return plain(network, loader, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "train_epoch", train_epoch)
        train_run(place, recipe, data, quiet=True, **settings)


@pytest.fixture
def unfinished(tmp_path, few, quick, monkeypatch):
    """The folder of a run of two epochs, of which one is done."""
    interrupt(tmp_path / "unfinished", quick, few, monkeypatch)
    return tmp_path / "unfinished"


# A run is saved and read back.


def test_round_trip(saved, digits):
    run, fitted = saved
    again = read_run(run.folder)
    assert (again.folder, again.config, again.metrics) == (run.folder, run.config, run.metrics)
    assert again.history == fitted.history
    assert (again.config["recipe"], again.config["dataset"], again.config["seed"]) == ("adder", "digits", 2)
    assert not again.model.training
    assert weights(again.model) == weights(fitted.model)
    assert evaluate(again.model, digits.test).metrics.items() <= run.metrics.items()


def test_what_a_run_leaves(saved):
    run, fitted = saved
    assert {path.name for path in run.folder.iterdir()} == {*CHECKED, "SHA256SUMS"} | FIGURES
    assert json.loads((run.folder / "metrics.json").read_text()) == run.metrics
    assert run.metrics["parameters"] == parameter_count(fitted.model)
    assert len((run.folder / "history.csv").read_text().splitlines()) == 2
    config = json.loads((run.folder / "config.json").read_text())
    assert (config["epochs"], config["settings"]["batch_size"]) == (1, 128)
    recipe = Recipe(name=config["recipe"], model=config["model"], epochs=config["epochs"], **config["settings"])
    assert recipe == replace(fitted.recipe, about="", model="mnist_adder.models:AdderNet")


def test_what_repeats_a_run_is_recorded(saved, digits):
    metrics = saved[0].metrics
    assert metrics["python"] == platform.python_version()
    assert (metrics["torch"], metrics["numpy"]) == (torch.__version__, np.__version__)
    assert metrics["threads"] == torch.get_num_threads()
    content = b"".join(tensor.numpy().tobytes() for tensor in (*digits.train, *digits.test))
    assert metrics["data_sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="needs sha256sum")
def test_the_checksums_are_those_of_sha256sum(saved):
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    checked = subprocess.run(command, cwd=saved[0].folder, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.splitlines() == [f"{name}: OK" for name in CHECKED]


def test_the_weights_in_the_package_can_be_read(digits):
    model = load_pretrained()
    assert type(model) is AdderNet and not model.training


def test_a_network_of_ones_own_is_trained_saved_and_read_back_by_its_class(tmp_path, few, quick, without_figures):
    run = train_run(tmp_path / "run", replace(quick, model=PlainNet), few, quiet=True)
    with pytest.raises(InputError, match="network of your own: name it with --model conftest:PlainNet") as refusal:
        read_run(run.folder)
    assert "\n" not in str(refusal.value)
    again = read_run(run.folder, model=PlainNet)
    assert type(again.model) is PlainNet
    assert weights(again.model) == weights(run.model)
    with pytest.raises(InputError, match=r"model\.safetensors holds the weights of another network"):
        read_run(run.folder, model=AdderNet)


def test_a_fine_tuned_run_says_so(tmp_path, few, quick, without_figures):
    run = train_run(tmp_path / "run", quick, few, model=load_pretrained(), quiet=True)
    assert run.config["fine_tuned"] and read_run(run.folder).config["fine_tuned"]


# The folder.


def test_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [str(make_folder(None, "adder")) for _ in range(2)] == ["runs/adder-001", "runs/adder-002"]
    assert str(make_folder(None, "cascade")) == "runs/cascade-001"


def test_an_existing_run_is_never_overwritten_unasked(copy):
    before = contents(copy)
    with pytest.raises(InputError, match=r"already holds a run.*--force"):
        make_folder(copy, "adder")
    assert make_folder(copy, "adder", force=True) == copy
    assert contents(copy) == before


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", REPLACED)
def test_a_file_that_is_not_a_runs_is_never_replaced(tmp_path, few, quick, name, force):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"holds {re.escape(name)}, which is not a run's"):
        train_run(tmp_path, quick, few, quiet=True, force=force)
    assert contents(tmp_path) == {name: b"mine"}


def test_a_config_of_another_program_is_not_a_runs(tmp_path):
    (tmp_path / "config.json").write_text('{"name": "my program"}')
    with pytest.raises(InputError, match=r"config\.json, which is not a run's"):
        make_folder(tmp_path, "adder", force=True)


def test_an_existing_folder_without_a_run_is_used(tmp_path):
    (tmp_path / "notes.txt").touch()
    assert make_folder(tmp_path, "adder") == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_replaced_run_keeps_what_is_the_users_and_no_old_evaluation(copy, few, quick):
    (copy / "evaluation-mnist.json").write_text("{}")
    (copy / "evaluation-notes.json").write_text("mine")
    assert train_run(copy, quick, few, seed=5, quiet=True, force=True).metrics["seed"] == 5
    assert not (copy / "evaluation-mnist.json").exists()
    assert (copy / "evaluation-notes.json").read_text() == "mine"
    assert read_run(copy).metrics["seed"] == 5


def test_a_run_is_replaced_by_save_run_only_by_force(copy, saved, digits):
    with pytest.raises(InputError, match="--force"):
        save_run(copy, saved[1], digits)
    save_run(copy, saved[1], digits, force=True)
    assert weights(read_run(copy).model) == weights(saved[1].model)


def test_a_second_training_into_a_folder_is_refused(unfinished, few, quick):
    before = contents(unfinished)
    with folder._locked(unfinished), pytest.raises(InputError, match="another process trains into"):
        train_run(unfinished, quick, few, quiet=True, resume=True)
    assert contents(unfinished) == before


def test_what_a_killed_process_left_is_removed(unfinished, few, quick):
    for name in (".checkpoint.pt.tmp", ".model.safetensors.tmp", ".lock"):
        (unfinished / name).touch()
    (unfinished / ".mine").touch()
    train_run(unfinished, quick, few, quiet=True, resume=True)
    assert [path.name for path in unfinished.glob(".*")] == [".mine"]


# Files that are written whole.


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    files.write(tmp_path / "metrics.json", "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        files.write(tmp_path / "metrics.json", "new, and longer")
    assert contents(tmp_path) == {"metrics.json": b"old"}


def test_written_files_can_be_read_by_others(tmp_path):
    files.write(tmp_path / "file", b"x")
    assert os.stat(tmp_path / "file").st_mode & 0o777 == 0o644


# Damage.


@pytest.mark.parametrize("name", CHECKED)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "another run's"])
def test_damaged_files_are_named(copy, name, damage):
    content = (copy / name).read_bytes()
    (copy / name).unlink()
    if damage != "missing":
        (copy / name).write_bytes({"empty": b"", "truncated": content[:-20]}.get(damage, content.replace(b"2", b"3")))
    with pytest.raises(InputError, match=rf"{re.escape(name)} is missing or damaged") as refusal:
        read_run(copy)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", CHECKED)
def test_mutated_files_are_refused_in_one_line(copy, name, seed):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(mutated(content, random.Random(seed)))
    with pytest.raises(InputError) as refusal:
        read_run(copy)
    assert "\n" not in str(refusal.value)
    assert str(copy) in str(refusal.value)


@pytest.mark.parametrize(
    "name, content",
    [
        *(
            ("config.json", content)
            for content in (b"", b"[1, 2]", b"\xff\xfe\0", b"[" * 100_000, b'{"model": "os:system"}')
        ),
        *(("metrics.json", b"{"), ("history.csv", b"\xff\xfe\0"), ("history.csv", b"epoch,lr\n1,x\n")),
        *(("model.safetensors", b""), ("model.safetensors", b"\xff" * 400)),
    ],
)
def test_foreign_files_with_right_checksums_are_refused_in_one_line(copy, name, content):
    (copy / name).write_bytes(content)
    files.write_sums(copy)
    with pytest.raises(InputError) as refusal:
        read_run(copy)
    assert "\n" not in str(refusal.value)
    assert str(copy) in str(refusal.value)


def test_weights_are_never_unpickled(copy):
    torch.save({"weight": Evil()}, copy / "model.safetensors")
    files.write_sums(copy)
    with pytest.raises(InputError):
        read_run(copy)
    assert not Evil.done


def test_no_run(tmp_path):
    for place in (tmp_path, tmp_path / "nosuch"):
        with pytest.raises(InputError, match="is not a run folder"):
            read_run(place)


def test_an_unfinished_run_says_how_to_go_on(unfinished):
    with pytest.raises(InputError, match=f"unfinished run: go on with train --resume {unfinished}"):
        read_run(unfinished)
    with pytest.raises(InputError, match=f"go on with --resume {unfinished}, or --force"):
        make_folder(unfinished, "adder")


# The checkpoint.


@pytest.mark.parametrize(
    "name, changes",
    [
        ("adder", {}),  # one cycle, augmentation
        ("adder", {"averaging": "swa", "optimizer": "Adam", "optimizer_options": {}}),
        ("cascade", {}),  # fixed numbers, dropout
        ("shared-trunk", {"averaged_share": 0.5}),  # dropout, an average that has begun
    ],
)
def test_a_resumed_training_ends_as_the_uninterrupted_one(tmp_path, few, name, changes, monkeypatch, without_figures):
    recipe = replace(RECIPES[name], epochs=3, batch_size=80, **changes)
    whole = train_run(tmp_path / "whole", recipe, few, seed=4, quiet=True)
    interrupt(tmp_path / "run", recipe, few, monkeypatch, seed=4)
    torch.rand(7)
    run = train_run(tmp_path / "run", recipe, few, seed=4, quiet=True, resume=True)
    assert run.history == whole.history
    assert weights(run.model) == weights(whole.model)
    for file in CHECKED:
        if file != "metrics.json":  # which holds the seconds
            assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
    assert run.metrics["train_seconds"] > 0


def test_a_resumed_fine_tuning_goes_on_from_its_own_weights(tmp_path, few, quick, monkeypatch, without_figures):
    initial = load_pretrained()
    whole = train_run(tmp_path / "whole", quick, few, model=initial, quiet=True)
    interrupt(tmp_path / "run", quick, few, monkeypatch, model=initial)
    run = train_run(tmp_path / "run", quick, few, quiet=True, resume=True)
    assert weights(run.model) == weights(whole.model)
    assert run.config["fine_tuned"]


def test_a_checkpoint_holds_no_state_of_generators(unfinished):
    checkpoint = read_checkpoint(unfinished)
    assert set(checkpoint) == {"model", "optimizer", "scheduler", "average", "clock", "history", "config"}
    assert len(checkpoint["history"]) == 1
    size = len(torch.get_rng_state())

    def tensors(value):
        if isinstance(value, torch.Tensor):
            yield value
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
            yield from tensors(part)

    assert all(tensor.dtype != torch.uint8 and tensor.numel() != size for tensor in tensors(checkpoint))


def test_a_run_goes_on_only_with_its_own_settings_and_data(unfinished, few, quick):
    before = contents(unfinished)
    other = Data("digits", few.test, few.train)
    for recipe, data, settings, name in (
        (quick, few, {"seed": 1}, "seed"),
        (quick, few, {"withheld": [(1, 2)]}, "withheld"),
        (replace(quick, lr=0.2), few, {}, "lr"),
        (replace(quick, epochs=3), few, {}, "epochs"),
        (replace(quick, model=RECIPES["cascade"].model), few, {}, "model"),
        (quick, other, {}, "data_sha256"),
    ):
        with pytest.raises(InputError, match=f"whose {name} differs"):
            train_run(unfinished, recipe, data, **settings, quiet=True, resume=True)
    assert contents(unfinished) == before


@pytest.mark.parametrize("name, value", [("threads", 64), ("device", "cuda"), ("world_size", 2)])
def test_going_on_with_another_machine_warns_in_one_line(
    tmp_path, few, quick, name, value, monkeypatch, without_figures
):
    with monkeypatch.context() as patch:
        patch.setattr(folder, "run_config", lambda *a, **k: run_config(*a, **k) | {name: value})
        interrupt(tmp_path, quick, few, monkeypatch)
    now = run_config(quick, few)[name]
    with pytest.warns(UserWarning) as warned:
        run = train_run(tmp_path, quick, few, quiet=True, resume=True)
    assert [str(warning.message) for warning in warned] == [
        f"going on with {name} {now} for {value}: the weights will not be the same bit for bit"
    ]
    assert len(run.history) == 2


@pytest.mark.parametrize("seed", range(12))
def test_a_mutated_checkpoint_is_always_noticed(unfinished, seed):
    path = unfinished / "checkpoint.pt"
    path.write_bytes(mutated(path.read_bytes(), random.Random(seed)))
    with pytest.raises(InputError, match=rf"{re.escape(str(path))} is damaged.*--force") as refusal:
        read_checkpoint(unfinished)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["checkpoint.pt", "model.safetensors"])
def test_a_file_that_cannot_be_read_is_not_called_damaged(unfinished, copy, name, monkeypatch):
    plain = Path.read_bytes

    def read_bytes(path):
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(PermissionError):
        read_checkpoint(unfinished) if name == "checkpoint.pt" else read_run(copy)


def test_a_checkpoint_never_unpickles_objects(tmp_path):
    content = io.BytesIO()
    torch.save({"config": Evil()}, content)
    signed = content.getvalue() + hashlib.sha256(content.getvalue()).digest()
    (tmp_path / "checkpoint.pt").write_bytes(signed)
    with pytest.raises(InputError, match="is no checkpoint of a run"):
        read_checkpoint(tmp_path)
    assert not Evil.done


class Evil:
    """Leaves a trace where it is unpickled."""

    done: ClassVar[list] = []

    def __reduce__(self):
        return Evil.done.append, (1,)


def test_a_checkpoint_that_cannot_be_written_stops_the_training_and_leaves_the_last(
    unfinished, few, quick, monkeypatch
):
    before = contents(unfinished)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        train_run(unfinished, quick, few, quiet=True, resume=True)
    assert contents(unfinished) == before
