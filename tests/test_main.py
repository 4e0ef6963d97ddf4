"""The command line, end to end on the bundled digits."""

import csv
import json
import random
import subprocess
import sys
import time

import pytest
import torch

from mnist_adder import training
from mnist_adder.__main__ import main
from mnist_adder.data import MNIST_SHA256
from mnist_adder.recipes import RECIPES

SHORT = ["train", "--data", "digits", "--epochs", "1"]
FILES = {"config.json", "history.csv", "metrics.json", "model.safetensors"}
FIGURES = {
    f"{name}.png" for name in ("samples", "curves", "learning_rate", "mistakes", "truth_table", "confusion")
}
ACCURACIES = {f"{part}_accuracy" for part in ("digit", "sum", "joint", "product")}


def call(*arguments) -> int:
    """The exit status of a command."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


def metrics(folder) -> dict:
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run started as a user starts it, and the finished process."""
    folder = tmp_path_factory.mktemp("main") / "run"
    command = [sys.executable, "-m", "mnist_adder", *SHORT, "--seed", "3", "--out", folder]
    return folder, subprocess.run(command, capture_output=True, text=True)


def test_train(trained):
    folder, printed = trained
    assert (printed.returncode, printed.stderr) == (0, "")
    assert {path.name for path in folder.iterdir()} == FILES | FIGURES
    for figure in FIGURES:
        assert (folder / figure).read_bytes().startswith(b"\x89PNG")
    for part in ("seed 3", "epoch  1/1", "digits, test split: 360 images × 10 numbers", str(folder)):
        assert part in printed.stdout
    for name in ACCURACIES:
        assert f"{metrics(folder)[name]:.3%}" in printed.stdout


def test_metrics(trained):
    found = metrics(trained[0])
    assert found["dataset"] == "digits"
    assert (found["recipe"], found["seed"], found["epochs"]) == ("adder", 3, 1)
    assert found["parameters"] <= 21_843
    assert found["device"] in ("cpu", "cuda", "mps")
    assert found["torch"] == torch.__version__
    assert found["train_seconds"] > 0 and found["warmup_seconds"] > 0
    assert set(found) >= ACCURACIES
    assert all(0 <= found[name] <= 1 for name in ACCURACIES)
    assert found["product_accuracy"] == pytest.approx(found["digit_accuracy"] * found["sum_accuracy"])
    pairs = 360 * 10
    assert found["joint_accuracy"] * pairs == pytest.approx(round(found["joint_accuracy"] * pairs))


def test_no_file_names_a_folder_of_this_machine(trained):
    for name in ("config.json", "metrics.json", "history.csv"):
        content = (trained[0] / name).read_text()
        assert str(trained[0].parent) not in content
    for content in (metrics(trained[0]), json.loads((trained[0] / "config.json").read_text())["settings"]):
        assert not any(isinstance(value, str) and value.startswith("/") for value in content.values())


def test_history(trained):
    rows = list(csv.DictReader((trained[0] / "history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1"]
    assert float(rows[-1]["test_joint_accuracy"]) == metrics(trained[0])["joint_accuracy"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="bit-identical without --deterministic on CPUs only")
def test_the_same_command_twice(trained, tmp_path):
    assert call(*SHORT, "--seed", "3", "--out", tmp_path) == 0
    first, second = (
        {key: value for key, value in metrics(folder).items() if not key.endswith("_seconds")}
        for folder in (trained[0], tmp_path)
    )
    assert first == second
    for name in ("config.json", "history.csv", "model.safetensors"):
        assert (trained[0] / name).read_bytes() == (tmp_path / name).read_bytes()


def test_evaluate(trained, capsys):
    folder, printed = trained
    assert call("evaluate", folder, "--device", "cpu") == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert len(table) == 5
    assert "\n".join(table) in printed.stdout
    found = json.loads((folder / "evaluation-digits.json").read_text())
    assert found.items() >= {name: metrics(folder)[name] for name in ACCURACIES}.items()
    (folder / "evaluation-digits.json").unlink()


def test_evaluate_on_real_mnist(trained, mnist_dir, capsys):
    folder = trained[0]
    assert call("evaluate", folder, "--data", "mnist", "--data-dir", mnist_dir, "--device", "cpu") == 0
    assert "mnist, test split: 10,000 images × 10 numbers" in capsys.readouterr().out
    found = json.loads((folder / "evaluation-mnist.json").read_text())
    assert found["dataset"] == "mnist"
    assert found["digit_accuracy"] != metrics(folder)["digit_accuracy"]
    (folder / "evaluation-mnist.json").unlink()


def test_figures(trained, tmp_path, capsys):
    assert call("figures", trained[0], "--out", tmp_path / "images", "--device", "cpu") == 0
    assert {path.name for path in (tmp_path / "images").iterdir()} == FIGURES
    for name in FIGURES:
        assert (tmp_path / "images" / name).read_bytes() == (trained[0] / name).read_bytes()


def test_validate_tests_on_training_images(tmp_path, capsys):
    assert call(*SHORT, "--validate", "--out", tmp_path) == 0
    assert (metrics(tmp_path)["split"], metrics(tmp_path)["dataset"]) == ("validation", "digits")
    printed = capsys.readouterr().out
    assert "digits, validation split: 120 images" in printed
    assert call("evaluate", tmp_path) == 0  # on the same fold again
    assert "digits, validation split: 120 images" in capsys.readouterr().out


def test_options_reach_the_run(tmp_path):
    options = {"--recipe": "cascade", "--batch-size": "200", "--lr": "0.02", "--epochs": "1"}
    arguments = [part for option in options.items() for part in option]
    assert call("train", "--data", "digits", *arguments, "--out", tmp_path) == 0
    settings = json.loads((tmp_path / "config.json").read_text())["settings"]
    assert (settings["batch_size"], settings["lr"], settings["digits_epochs"]) == (200, 0.02, 1)
    assert metrics(tmp_path)["recipe"] == "cascade"
    assert metrics(tmp_path)["parameters"] == 21_843


def test_runs_without_a_name_are_numbered_and_auto_falls_back(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MNIST_ADDER_DATA", raising=False)
    (tmp_path / "runs" / "adder-001").mkdir(parents=True)
    with pytest.warns(UserWarning, match="BUNDLED DIGITS"):
        assert call("train", "--epochs", "1") == 0
    assert "runs/adder-002" in capsys.readouterr().out
    assert metrics(tmp_path / "runs" / "adder-002")["dataset"] == "digits"
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_run_is_replaced_only_by_force(tmp_path, capsys):
    assert call(*SHORT, "--out", tmp_path) == 0
    before = (tmp_path / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert call(*SHORT, "--seed", "1", "--out", tmp_path) == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert call(*SHORT, "--seed", "1", "--out", tmp_path, "--force") == 0
    assert metrics(tmp_path)["seed"] == 1
    assert (tmp_path / "model.safetensors").read_bytes() != before


@pytest.mark.parametrize("name", RECIPES)
def test_summary(name, capsys):
    assert call("summary", "--recipe", name) == 0
    printed = capsys.readouterr().out
    assert "Total params" in printed
    assert "Receptive field" in printed


def test_summary_draws_the_graph(tmp_path, capsys):
    assert call("summary", "--graph", tmp_path / "graph.gv") == 0
    assert (tmp_path / "graph.gv").read_text().startswith("digraph")
    assert str(tmp_path / "graph") in capsys.readouterr().out


def test_withheld_pairs_survive_evaluate_and_figures(tmp_path, capsys):
    folder = tmp_path / "run"
    assert call(*SHORT, "--withhold", "20", "--seed", "2", "--out", folder) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  on the ")]
    found = metrics(folder)
    assert len(found["withheld"]) == 20
    for line, name, count in zip(table, ("withheld", "seen"), (20, 80), strict=True):
        assert line.startswith(f"  on the {count} pairs {name}: ")
        assert f"joint {found[f'{name}_joint_accuracy']:.3%}" in line
    assert call("evaluate", folder, "--device", "cpu") == 0
    assert "\n".join(table) in capsys.readouterr().out
    again = json.loads((folder / "evaluation-digits.json").read_text())
    assert again["withheld_sum_accuracy"] == found["withheld_sum_accuracy"]
    assert call("figures", folder, "--out", tmp_path / "images", "--device", "cpu") == 0
    images = [(place / "truth_table.png").read_bytes() for place in (folder, tmp_path / "images")]
    assert images[0] == images[1]


def test_compare(tmp_path, capsys):
    arguments = ["compare", "--data", "digits", "--epochs", "1", "--seeds", "1", "--first-seed", "3"]
    assert call(*arguments, "--recipes", "adder,unstuck", "adder", "--out", tmp_path) == 0
    table = (tmp_path / "comparison.md").read_text()
    assert table in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"adder-3", "unstuck-3"}
    assert call("evaluate", tmp_path / "unstuck-3") == 0


def test_lr_find(tmp_path, capsys):
    assert call("lr-find", "--data", "digits", "--recipe", "unstuck", "--out", tmp_path) == 0
    printed = capsys.readouterr().out
    for part in ("suggested rate: 0.", "the recipe's: 0.001 (constant)", "rule: ", "digits"):
        assert part in printed
    assert (tmp_path / "lr_range.png").read_bytes().startswith(b"\x89PNG")


# Help.


@pytest.mark.parametrize(
    "command", [[], ["train"], ["evaluate"], ["figures"], ["compare"], ["lr-find"], ["summary"]]
)
def test_help_imports_no_torch(command):
    program = (
        "import sys\n"
        "from mnist_adder.__main__ import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *command, "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: mnist-adder")


def test_help_names_the_recipes(capsys):
    assert call("train", "--help") == 0
    printed = capsys.readouterr().out
    assert all(f"{name}:" in printed for name in RECIPES)


# Bad input: one line, exit status 2. Words in capitals are places.

HERE = ["--data", "digits", "--out", "OUT"]
BAD = {
    "no command": [],
    "unknown command": ["trian"],
    "unknown option": ["train", "--epoch", "3"],
    "unknown recipe": ["train", "--recipe", "nosuch", *HERE],
    "unknown recipe in summary": ["summary", "--recipe", "nosuch"],
    "unknown source": ["train", "--data", "nosuch", "--out", "OUT"],
    "unknown device": ["train", "--device", "nosuch", *HERE],
    "no epochs": ["train", "--epochs", "0", *HERE],
    "epochs below 0": ["train", "--epochs", "-1", *HERE],
    "half an epoch": ["train", "--epochs", "0.5", *HERE],
    "lr below 0": ["train", "--lr", "-1", *HERE],
    "lr nan": ["train", "--lr", "nan", *HERE],
    "lr inf": ["train", "--lr", "inf", *HERE],
    "lr 0": ["train", "--lr", "0", *HERE],
    "lr of letters": ["train", "--lr", "fast", *HERE],
    "lr too high": ["train", "--lr", "1e30", "--epochs", "1", *HERE],
    "no batch": ["train", "--batch-size", "0", *HERE],
    "too large a batch": ["train", "--batch-size", "1438", *HERE],
    "seed below 0": ["train", "--seed", "-1", *HERE],
    "seed too large": ["train", "--seed", str(2**32), *HERE],
    "seed of letters": ["train", "--seed", "x", *HERE],
    "no such fold": ["train", "--validate", "12", *HERE],
    "fold below 0": ["train", "--validate", "-1", *HERE],
    "too many pairs withheld": ["train", "--withhold", "90", *HERE],
    "no pairs withheld": ["train", "--withhold", "0", *HERE],
    "compare an unknown recipe": ["compare", "--recipes", "adder,nosuch", *HERE],
    "compare no seeds": ["compare", "--seeds", "0", *HERE],
    "compare into a file": ["compare", "--data", "digits", "--out", "FILE"],
    "lr-find of an unknown recipe": ["lr-find", "--recipe", "nosuch", *HERE],
    "lr-find into a file": ["lr-find", "--data", "digits", "--out", "FILE"],
    "out is a file": ["train", "--data", "digits", "--out", "FILE"],
    "no MNIST": ["train", "--data", "mnist", "--data-dir", "NONE", "--out", "OUT"],
    "foreign MNIST": ["train", "--data", "mnist", "--data-dir", "FOREIGN", "--out", "OUT"],
    "foreign MNIST, auto": ["train", "--data-dir", "FOREIGN", "--out", "OUT"],
    "part of MNIST": ["train", "--data", "mnist", "--data-dir", "PART", "--out", "OUT"],
    "part of MNIST, auto": ["train", "--data-dir", "PART", "--out", "OUT"],
    "data folder is a file": ["train", "--data", "mnist", "--data-dir", "FILE", "--out", "OUT"],
    "evaluate nothing": ["evaluate"],
    "evaluate no folder": ["evaluate", "NONE"],
    "evaluate no run": ["evaluate", "PART"],
    "evaluate a file": ["evaluate", "FILE"],
    "figures of no run": ["figures", "PART"],
    "figures into a file": ["figures", "RUN", "--out", "FILE"],
    "evaluate on an unknown source": ["evaluate", "RUN", "--data", "nosuch"],
    "evaluate on an unknown device": ["evaluate", "RUN", "--device", "nosuch"],
    "graph into a file": ["summary", "--graph", "FILE/graph.gv"],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, trained, tmp_path, capsys):
    (tmp_path / "file").touch()
    for folder, files in (("foreign", list(MNIST_SHA256)), ("part", list(MNIST_SHA256)[:3])):
        (tmp_path / folder / "MNIST" / "raw").mkdir(parents=True)
        for file in files:
            (tmp_path / folder / "MNIST" / "raw" / file).write_bytes(b"not MNIST")
    places = {place: tmp_path / place.lower() for place in ("OUT", "FILE", "NONE", "FOREIGN", "PART")}
    places["RUN"] = trained[0]
    arguments = []
    for argument in BAD[name]:
        first, *rest = argument.split("/")
        arguments.append("/".join([str(places.get(first, first)), *rest]))
    assert call(*arguments) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1, error
    assert "error: " in error
    assert "Traceback" not in error
    assert not (tmp_path / "none").exists()
    assert not (tmp_path / "out" / "config.json").exists()


@pytest.mark.parametrize("device", ["cuda", "mps"])
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_device_that_is_not_there(command, device, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    rest = [*HERE[:2], "--out", tmp_path] if command == "train" else [trained[0]]
    assert call(command, *rest, "--device", device) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert f"no {device} device" in error


def test_bad_input_ends_the_process_with_2(tmp_path):
    command = [sys.executable, "-m", "mnist_adder", "train", "--recipe", "nosuch", "--out", tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


# Interrupted runs.


def interrupted_in(epoch, monkeypatch):
    """Ctrl-C at the start of an epoch; the training is to be started afterwards."""
    plain = training.train_epoch

    def train_epoch(*arguments):
        if arguments[6].startswith(f"epoch {epoch:2}/"):
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(training, "train_epoch", train_epoch)


@pytest.fixture
def unfinished(tmp_path, monkeypatch, capsys):
    """A run of two epochs, of which one is done; its name needs quoting."""
    folder = tmp_path / "my rün"
    with monkeypatch.context() as patch:
        interrupted_in(2, patch)
        options = ["--epochs", "2", "--seed", "3", "--withhold", "20"]
        assert call("train", "--data", "digits", *options, "--out", folder) == 130
    return folder


def test_an_interrupted_run_says_how_to_go_on_and_does(unfinished, tmp_path, monkeypatch, capsys):
    command = f"python -m mnist_adder train --resume '{unfinished}'"
    assert capsys.readouterr().err.endswith(f"mnist-adder: interrupted; go on with: {command}\n")
    assert [path.name for path in unfinished.iterdir()] == ["state.pt"]
    assert call("train", "--resume", unfinished) == 0
    assert "epoch  1/2" not in capsys.readouterr().out
    whole = tmp_path / "whole"
    options = ["--epochs", "2", "--seed", "3", "--withhold", "20"]
    assert call("train", "--data", "digits", *options, "--out", whole) == 0
    assert {path.name for path in whole.iterdir()} == {path.name for path in unfinished.iterdir()}
    for path in whole.iterdir():
        if path.name != "metrics.json":  # which has the times
            assert path.read_bytes() == (unfinished / path.name).read_bytes()
    capsys.readouterr()
    assert call("train", "--resume", unfinished) == 0
    assert "finished run: there is nothing to go on with" in capsys.readouterr().out


def test_an_interrupt_before_anything_was_kept(tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mnist_adder.runs.fit", interrupt)
    assert call(*SHORT, "--out", tmp_path) == 130
    assert capsys.readouterr().err == "mnist-adder: interrupted\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        *(["--seed", "0"], ["--epochs", "3"], ["--recipe", "cascade"], ["--lr", "1"], ["--batch-size", "9"]),
        *(["--data", "mnist"], ["--validate"], ["--withhold", "3"], ["--deterministic"], ["--force"]),
        *(["--out", "elsewhere"], ["--device", "cuda"]),
    ],
)
def test_other_options_than_a_run_was_begun_with(unfinished, options, capsys):
    capsys.readouterr()
    before = (unfinished / "state.pt").read_bytes()
    assert call("train", "--resume", unfinished, *options) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert f"error: {options[0]} " in error
    assert (unfinished / "state.pt").read_bytes() == before


def test_an_unfinished_run_is_replaced_only_by_force(unfinished, capsys):
    assert call(*SHORT, "--out", unfinished) == 2
    assert "train --resume" in capsys.readouterr().err
    assert call(*SHORT, "--out", unfinished, "--force") == 0
    assert (metrics(unfinished)["epochs"], metrics(unfinished)["seed"]) == (1, 0)
    assert not (unfinished / "state.pt").exists()


@pytest.mark.parametrize("place", ["nosuch", "", "file"])
def test_nothing_to_go_on_with(tmp_path, place, capsys):
    (tmp_path / "file").touch()
    assert call("train", "--resume", tmp_path / place) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "holds no run to go on with" in error


def test_a_run_killed_at_any_moment_goes_on(tmp_path):
    """Twice, at moments that differ from run to run; the whole run is done last."""
    command = [sys.executable, "-m", "mnist_adder", "train", "--device", "cpu"]
    fresh = ["--data", "digits", "--epochs", "12", "--batch-size", "64", "--out"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for arguments in ([*fresh, killed], ["--resume", killed]):
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL)
        before = (killed / "state.pt").stat().st_mtime_ns if killed.exists() else None
        while not (killed / "state.pt").exists() or (killed / "state.pt").stat().st_mtime_ns == before:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.4))
        process.kill()
        process.wait()
    assert not (killed / "config.json").exists()
    for arguments in (["--resume", killed], [*fresh, whole]):
        assert call(*command[3:], *arguments) == 0
    assert {path.name for path in killed.iterdir()} == FILES | FIGURES
    for name in ("model.safetensors", "history.csv", "config.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_a_reader_that_has_had_enough_is_no_traceback():
    command = f"{sys.executable} -m mnist_adder summary | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stderr == ""
