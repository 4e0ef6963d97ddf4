"""A run's folder: written whole, read back as it was, and never trusted."""

import json
import os
import shutil
from dataclasses import replace

import pytest
import torch

from mnist_adder import runs
from mnist_adder.data import InputError
from mnist_adder.evaluation import evaluate
from mnist_adder.models import build, parameter_count
from mnist_adder.recipes import RECIPES
from mnist_adder.runs import load_weights, make_folder, read_run, save_run, write
from mnist_adder.training import fit

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
    if name == "history.csv" and damage in ("empty", "list", "truncated"):
        return  # a table of fewer rows or columns is still a table
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
        read_run(copy)


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
