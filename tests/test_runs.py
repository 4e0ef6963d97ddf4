"""A run's folder: written whole, read back as it was, and never trusted."""

import hashlib
import io
import json
import os
import platform
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from mnist_adder import comparison, plots, runs, training
from mnist_adder.data import Data, InputError
from mnist_adder.evaluation import evaluate
from mnist_adder.models import build, parameter_count
from mnist_adder.recipes import RECIPES
from mnist_adder.runs import load_weights, make_folder, read_run, read_state, save_run, train_run, write
from mnist_adder.training import fit
from torture import mutated

FIGURES = {"samples", "curves", "learning_rate", "mistakes", "truth_table", "confusion"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory, digits):
    """A run of one epoch: its folder, what was fitted, and its metrics."""
    recipe = replace(RECIPES["adder"], digits_epochs=1)
    fitted = fit(recipe, digits, seed=2, bar=False)
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    metrics = save_run(
        folder, recipe, digits, fitted, evaluate(fitted.model, digits.test), seed=2, device="cpu"
    )
    return folder, fitted, metrics


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved[0], tmp_path / "run")


def test_round_trip(saved, digits):
    folder, fitted, metrics = saved
    run = read_run(folder)
    assert run.folder == folder
    assert run.metrics == metrics
    assert run.history == fitted.history
    assert (run.config["recipe"], run.config["dataset"], run.config["seed"]) == ("adder", "digits", 2)
    assert not run.model.training
    state = fitted.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in run.model.state_dict().items())
    assert evaluate(run.model, digits.test).metrics.items() <= metrics.items()


def test_what_a_run_leaves(saved):
    folder, fitted, metrics = saved
    files = {path.name for path in folder.iterdir()}
    assert files == {"config.json", "history.csv", "metrics.json", "model.safetensors"} | {
        f"{name}.png" for name in FIGURES
    }
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert metrics["parameters"] == parameter_count(fitted.model)
    assert len((folder / "history.csv").read_text().splitlines()) == 2
    settings = json.loads((folder / "config.json").read_text())["settings"]
    assert settings["digits_epochs"] == 1
    assert settings["batch_size"] == 128


def test_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [str(make_folder(None, "adder")) for _ in range(2)] == ["runs/adder-001", "runs/adder-002"]
    assert str(make_folder(None, "cascade")) == "runs/cascade-001"


def test_an_existing_run_is_never_overwritten_unasked(copy):
    with pytest.raises(InputError, match=r"already holds a run.*--force"):
        make_folder(copy, "adder")
    assert make_folder(copy, "adder", force=True) == copy


def test_an_existing_folder_without_a_run_is_used(tmp_path):
    (tmp_path / "notes.txt").touch()
    assert make_folder(tmp_path, "adder") == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="cannot make a run folder"):
            make_folder(out, "adder")


def test_a_replaced_run_keeps_no_stale_evaluation(copy, saved, digits, few, quick):
    (copy / "evaluation-mnist.json").write_text("{}")
    (copy / "notes.txt").write_text("mine")
    fitted = fit(quick, few, seed=5, bar=False)
    save_run(copy, quick, few, fitted, evaluate(fitted.model, few.test), seed=5, device="cpu")
    assert not (copy / "evaluation-mnist.json").exists()
    assert (copy / "notes.txt").read_text() == "mine"
    assert read_run(copy).metrics["seed"] == 5


@pytest.mark.parametrize("name", ["config.json", "history.csv", "metrics.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "empty", "binary", "truncated", "list"])
def test_damaged_files(copy, name, damage):
    path = copy / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(
            {"empty": b"", "binary": b"\xff\xfe\0" * 40, "truncated": content[:-20], "list": b"[1, 2]"}[
                damage
            ]
        )
    with pytest.raises(InputError) as refusal:
        read_run(copy)
    assert "\n" not in str(refusal.value)
    assert name in str(refusal.value)


@pytest.mark.parametrize("value", ["nosuch", ["adder"], {}, None, 1.5])
@pytest.mark.parametrize("field", ["recipe", "dataset", "seed", "epochs", "withheld"])
def test_a_config_that_does_not_fit(copy, field, value):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(InputError, match=rf"config\.json: {field}"):
        read_run(copy)


@pytest.mark.parametrize(
    "name, old, new, said",
    [
        ("history.csv", "train_sum_loss", "train_sum_lass", "train_sum_loss must be"),
        ("history.csv", "\n1,", "\n2,", "epoch must count from 1 to 1"),
        ("metrics.json", '"seed": 2', '"seed": 3', "seed cannot be 3"),
        ("metrics.json", '"digit_accuracy": 0', '"digit_accuracy": -0', "digit_accuracy cannot be -0"),
        ("metrics.json", '"parameters": ', '"parameters": 1e', "parameters cannot be inf"),
        ("config.json", '"withheld": []', '"withheld": [[1.0, 2]]', "withheld cannot be"),
        ("config.json", '"seed": 2', '"seed": 2, "validate": 2.0', "validate cannot be 2.0"),
        ("config.json", '"recipe": "adder"', '"recipe": "stuck"', "recipe cannot be 'adder'"),
    ],
)
def test_values_that_do_not_fit_are_named(copy, name, old, new, said):
    content = (copy / name).read_text()
    assert old in content
    (copy / name).write_text(content.replace(old, new, 1))
    with pytest.raises(InputError, match=rf"{name}: {said}|metrics.json: {said}"):
        read_run(copy)


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("name", ["config.json", "history.csv", "metrics.json", "model.safetensors"])
def test_mutated_files(copy, name, seed):
    content = (copy / name).read_bytes()
    changed = mutated(content, random.Random(seed))
    (copy / name).write_bytes(changed)
    try:
        run = read_run(copy)
        assert name != "model.safetensors" or changed == content
        plots.curves(run.history, "digits")
        comparison.markdown([comparison._checked(run)])
    except InputError as error:
        assert "\n" not in str(error)
        assert str(copy) in str(error)


@pytest.mark.parametrize("seed", range(15))
def test_a_mutated_state_is_always_noticed(state, tmp_path, seed):
    (tmp_path / "state.pt").write_bytes(changed := mutated(state, random.Random(seed)))
    assert changed != state
    with pytest.raises(InputError, match="damaged") as refusal:
        read_state(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.fixture
def state(tmp_path, few, quick, monkeypatch):
    """The bytes of the state that a training was begun with."""

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "train_epoch", stop)
        train_run(tmp_path, quick, few, device=torch.device("cpu"), seed=0, bar=False)
    return (tmp_path / "state.pt").read_bytes()


def test_a_state_never_unpickles_objects(state, tmp_path):
    content = io.BytesIO()
    torch.save({"config": Evil()}, content)
    signed = content.getvalue() + hashlib.sha256(content.getvalue()).digest()
    (tmp_path / "state.pt").write_bytes(signed)
    with pytest.raises(InputError, match="damaged"):
        read_state(tmp_path)
    assert not Evil.done


class Evil:
    """Leaves a trace where it is unpickled."""

    done: ClassVar[list] = []

    def __reduce__(self):
        return Evil.done.append, (1,)


def test_a_run_goes_on_only_with_its_own_settings_and_data(state, tmp_path, few, quick):
    own = {"device": torch.device("cpu"), "seed": 0, "bar": False, "resume": True}
    other = Data("digits", few.test, few.train)
    for recipe, data, changes, name in (
        (quick, few, {"seed": 1}, "seed"),
        (replace(quick, lr=0.2), few, {}, "settings"),
        (quick, other, {}, "data_sha256"),
    ):
        with pytest.raises(InputError, match=f"whose {name} differs"):
            train_run(tmp_path, recipe, data, **own | changes)
    assert train_run(tmp_path, quick, few, **own)["data_sha256"] == few.sha256


def test_a_second_training_into_a_folder_is_refused(state, tmp_path, few, quick):
    here = {"device": torch.device("cpu"), "seed": 0, "bar": False}
    with runs.locked(tmp_path), pytest.raises(InputError, match="is being trained into"):
        train_run(tmp_path, quick, few, **here)
    assert (tmp_path / "state.pt").read_bytes() == state
    (tmp_path / ".state.pt-killed").touch()
    train_run(tmp_path, quick, few, **here)
    assert not list(tmp_path.glob(".*"))


def test_a_state_that_cannot_be_written_stops_the_training(state, tmp_path, few, quick, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs.os, "fsync", full)
    with pytest.raises(InputError, match=r"state\.pt: No space left on device"):
        train_run(tmp_path, quick, few, device=torch.device("cpu"), seed=1, bar=False)
    assert (tmp_path / "state.pt").read_bytes() == state
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_what_repeats_a_run_is_recorded(saved, digits, monkeypatch):
    _, _, metrics = saved
    assert metrics["python"] == platform.python_version()
    assert (metrics["torch"], metrics["numpy"]) == (torch.__version__, np.__version__)
    assert metrics["threads"] == torch.get_num_threads()
    digest = hashlib.sha256()
    for tensor in (*digits.train, *digits.test):
        digest.update(tensor.numpy().tobytes())
    assert metrics["data_sha256"] == digest.hexdigest()
    root = Path(runs.__file__).parent.parent
    if (root / ".git").exists():
        head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True)
        assert metrics["commit"].removesuffix("-dirty") == head.stdout.strip()
    monkeypatch.setattr(runs, "__file__", "/nosuch/mnist_adder/runs.py")
    assert runs._commit() is None


def test_no_run(tmp_path):
    for folder in (tmp_path, tmp_path / "nosuch"):
        with pytest.raises(InputError, match="is not a run folder"):
            read_run(folder)


def test_weights_of_another_model(copy):
    with pytest.raises(InputError, match="another model") as refusal:
        load_weights(build("cascade"), copy / "model.safetensors")
    assert "\n" not in str(refusal.value)


def test_weights_are_never_unpickled(copy):
    torch.save(build("adder").state_dict(), copy / "model.safetensors")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        load_weights(build("adder"), copy / "model.safetensors")


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    write(tmp_path / "metrics.json", "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs.os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        write(tmp_path / "metrics.json", "new, and longer")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]
    assert (tmp_path / "metrics.json").read_text() == "old"


def test_written_files_can_be_read_by_others(tmp_path):
    write(tmp_path / "file", b"x")
    assert os.stat(tmp_path / "file").st_mode & 0o777 == 0o644
