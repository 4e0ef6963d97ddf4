"""The command line, end to end on the bundled digits."""

import csv
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import mnist_adder
from mnist_adder import __main__, training
from mnist_adder.__main__ import main
from mnist_adder.published.recipes import RECIPES
from mnist_adder.runs import files, folder
from mnist_adder.sources import MNIST_SHA256

SHORT = ["train", "--data", "digits", "--epochs", "1"]
FIGURES = {f"{name}.png" for name in ("samples", "curves", "mistakes", "truth_table", "confusion")}
FILES = {"config.json", "history.csv", "metrics.json", "model.safetensors", "SHA256SUMS"}
SAME = FILES - {"metrics.json", "SHA256SUMS"} | FIGURES  # the metrics hold the seconds
ACCURACIES = {f"{part}_accuracy" for part in ("digit", "sum", "joint", "product")}
COMMAND = [sys.executable, "-m", "mnist_adder"]
PACKAGE = Path(mnist_adder.__file__).parents[1]
not_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may search every folder")


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """What the command line sets for its whole process ends with the test."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setenv("MPLBACKEND", "agg")
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def call(*arguments) -> int:
    """The exit status of a command in this process."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


def start(*arguments, **settings) -> subprocess.Popen:
    """A command in a process of its own."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **settings)


def shell(command: str, **environment) -> subprocess.CompletedProcess:
    """A line of the shell, in which OURS is the command."""
    command = command.replace("OURS", shlex.join(COMMAND))
    settings = {"shell": True, "capture_output": True, "text": True, "executable": shutil.which("bash")}
    return subprocess.run(command, env=os.environ | environment, **settings)


def only_line(error: str) -> str:
    """Standard error's only line."""
    assert len(error.splitlines()) == 1 and "Traceback" not in error, error
    assert error.startswith("mnist-adder: ")
    return error


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def without_figures(monkeypatch):
    monkeypatch.setattr(folder, "draw", lambda *_: {})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run started as a user starts it, and the finished process."""
    out = tmp_path_factory.mktemp("main") / "run"
    command = [*COMMAND, *SHORT, "--seed", "3", "--out", out]
    return out, subprocess.run(command, capture_output=True, text=True)


def test_train(trained):
    out, printed = trained
    assert (printed.returncode, printed.stderr) == (0, "")
    assert {path.name for path in out.iterdir()} == FILES | FIGURES
    for figure in FIGURES:
        assert (out / figure).read_bytes().startswith(b"\x89PNG")
    for part in ("seed 3", "epoch  1/1", "digits, test split: 360 images × 10 numbers", str(out)):
        assert part in printed.stdout
    for name in ACCURACIES:
        assert f"{metrics(out)[name]:.3%}" in printed.stdout


def test_metrics(trained):
    run = metrics(trained[0])
    assert (run["recipe"], run["seed"], run["epochs"], run["dataset"]) == ("adder", 3, 1, "digits")
    assert run["parameters"] <= 21_843
    assert run["device"] in ("cpu", "cuda", "mps")
    assert run["torch"] == torch.__version__
    assert run["train_seconds"] > 0
    assert all(0 <= run[name] <= 1 for name in ACCURACIES)
    assert run["product_accuracy"] == pytest.approx(run["digit_accuracy"] * run["sum_accuracy"])
    assert run["joint_accuracy"] * 3600 == pytest.approx(round(run["joint_accuracy"] * 3600))


def test_no_file_names_a_folder_of_this_machine(trained):
    for name in ("config.json", "metrics.json", "history.csv", "SHA256SUMS"):
        assert str(trained[0].parent) not in (trained[0] / name).read_text()
    for content in (metrics(trained[0]), json.loads((trained[0] / "config.json").read_text())["settings"]):
        assert not any(isinstance(value, str) and value.startswith("/") for value in content.values())


def test_history(trained):
    rows = list(csv.DictReader((trained[0] / "history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1"]
    assert float(rows[-1]["test_joint_accuracy"]) == metrics(trained[0])["joint_accuracy"]


def test_evaluate(trained, capsys):
    out, printed = trained
    assert call("evaluate", out, "--device", "cpu") == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert len(table) == 5
    assert "\n".join(table) in printed.stdout
    evaluation = json.loads((out / "evaluation-digits.json").read_text())
    assert evaluation.items() >= {name: metrics(out)[name] for name in ACCURACIES}.items()
    (out / "evaluation-digits.json").unlink()


def test_evaluate_on_real_mnist(trained, mnist_dir, capsys):
    out = trained[0]
    assert call("evaluate", out, "--data", "mnist", "--data-dir", mnist_dir, "--device", "cpu") == 0
    assert "mnist, test split: 10,000 images × 10 numbers" in capsys.readouterr().out
    evaluation = json.loads((out / "evaluation-mnist.json").read_text())
    assert evaluation["dataset"] == "mnist"
    assert evaluation["digit_accuracy"] != metrics(out)["digit_accuracy"]
    (out / "evaluation-mnist.json").unlink()


def test_evaluate_in_a_folder_that_cannot_be_written_to_prints_its_result(trained, monkeypatch, capsys):
    def read_only(path, content):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files, "write", read_only)
    assert call("evaluate", trained[0]) == 0
    printed = capsys.readouterr()
    assert f"{metrics(trained[0])['joint_accuracy']:.3%}" in printed.out
    assert "warning: " in only_line(printed.err) and "Read-only file system" in printed.err


def test_figures(trained, tmp_path, capsys):
    assert call("figures", trained[0], "--out", tmp_path / "images", "--device", "cpu") == 0
    assert {path.name for path in (tmp_path / "images").iterdir()} == FIGURES
    for name in FIGURES:
        assert (tmp_path / "images" / name).read_bytes() == (trained[0] / name).read_bytes()


def test_validate_tests_on_training_images(tmp_path, monkeypatch, capsys):
    without_figures(monkeypatch)
    assert call(*SHORT, "--validate", "--out", tmp_path) == 0
    assert (metrics(tmp_path)["split"], metrics(tmp_path)["dataset"]) == ("validation", "digits")
    assert "digits, validation split: 120 images" in capsys.readouterr().out
    assert call("evaluate", tmp_path) == 0  # on the same fold again
    assert "digits, validation split: 120 images" in capsys.readouterr().out


def test_options_reach_the_run(tmp_path, monkeypatch):
    without_figures(monkeypatch)
    options = ["--recipe", "cascade", "--batch-size", "200", "--lr", "0.02", "--epochs", "1"]
    assert call("train", "--data", "digits", *options, "--out", tmp_path) == 0
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["settings"]["batch_size"], config["settings"]["lr"], config["epochs"]) == (200, 0.02, 1)
    assert (metrics(tmp_path)["recipe"], metrics(tmp_path)["parameters"]) == ("cascade", 21_843)


def test_a_network_of_ones_own_has_its_own_name(tmp_path, monkeypatch, capsys):
    without_figures(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_nets.py").write_text(
        "from mnist_adder import AdderNet\nclass MyNet(AdderNet):\n    mine = True\n", encoding="utf-8"
    )
    assert call(*SHORT, "--model", "my_nets:MyNet") == 0
    run = Path("runs/MyNet-001")
    assert json.loads((run / "config.json").read_text())["model"] == "my_nets:MyNet"
    assert "\nMyNet, 21,709 parameters" in capsys.readouterr().out
    assert call("evaluate", run) == 2
    assert "--model my_nets:MyNet" in only_line(capsys.readouterr().err)
    assert call("evaluate", run, "--model", "my_nets:MyNet") == 0


def test_init_begins_with_the_weights_of_a_run(trained, tmp_path, monkeypatch, capsys):
    without_figures(monkeypatch)
    assert call(*SHORT, "--init", trained[0], "--lr", "1e-9", "--out", tmp_path) == 0
    assert json.loads((tmp_path / "config.json").read_text())["fine_tuned"]
    before, after = (float(next(csv.DictReader((at / "history.csv").open()))["train_digit_loss"])
                     for at in (trained[0], tmp_path))  # fmt: skip
    assert after < before


def test_runs_without_a_name_are_numbered_and_auto_falls_back(tmp_path, monkeypatch, capsys):
    without_figures(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MNIST_ADDER_DATA", raising=False)
    (tmp_path / "runs" / "adder-001").mkdir(parents=True)
    with pytest.warns(UserWarning, match="BUNDLED DIGITS"):
        assert call("train", "--epochs", "1") == 0
    assert "runs/adder-002" in capsys.readouterr().out
    assert metrics(tmp_path / "runs" / "adder-002")["dataset"] == "digits"
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_run_is_replaced_only_by_force(trained, tmp_path, monkeypatch, capsys):
    without_figures(monkeypatch)
    out = shutil.copytree(trained[0], tmp_path / "run")
    assert call(*SHORT, "--seed", "1", "--out", out) == 2
    assert "--force" in only_line(capsys.readouterr().err)
    assert (out / "model.safetensors").read_bytes() == (trained[0] / "model.safetensors").read_bytes()
    assert call(*SHORT, "--seed", "1", "--out", out, "--force") == 0
    assert metrics(out)["seed"] == 1


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_folder_with_files_of_ones_own_is_refused_and_left_as_it_is(tmp_path, force, capsys):
    mine = ("model.safetensors", "metrics.json", "history.csv", "curves.png", "evaluation-mnist.json")
    for name in mine:
        (tmp_path / name).write_text("mine")
    assert call(*SHORT, "--out", tmp_path, *force) == 2
    assert "which is not a run's: choose another --out" in only_line(capsys.readouterr().err)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(mine, "mine")


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
    out = tmp_path / "run"
    assert call(*SHORT, "--withhold", "20", "--seed", "2", "--out", out) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  on the ")]
    run = metrics(out)
    assert len(run["withheld"]) == 20
    for line, name, count in zip(table, ("withheld", "shown"), (20, 80), strict=True):
        assert line.startswith(f"  on the {count} pairs {name}: ")
        assert f"joint {run[f'{name}_joint_accuracy']:.3%}" in line
    assert call("evaluate", out, "--device", "cpu") == 0
    assert "\n".join(table) in capsys.readouterr().out
    again = json.loads((out / "evaluation-digits.json").read_text())
    assert again["withheld_sum_accuracy"] == run["withheld_sum_accuracy"]
    assert call("figures", out, "--out", tmp_path / "images", "--device", "cpu") == 0
    assert (out / "truth_table.png").read_bytes() == (tmp_path / "images" / "truth_table.png").read_bytes()


def test_compare(tmp_path, monkeypatch, capsys):
    without_figures(monkeypatch)
    arguments = ["compare", "--data", "digits", "--epochs", "1", "--seeds", "1", "--first-seed", "3"]
    assert call(*arguments, "--recipes", "adder", "unstuck", "adder", "--out", tmp_path) == 0
    table = (tmp_path / "comparison.md").read_text()
    assert table in capsys.readouterr().out
    assert "published" not in table
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"adder-3", "unstuck-3"}
    assert call("evaluate", tmp_path / "unstuck-3") == 0


def test_lr_find(tmp_path, capsys):
    assert call("lr-find", "--data", "digits", "--recipe", "unstuck", "--out", tmp_path) == 0
    printed = capsys.readouterr().out
    for part in ("suggested rate: 0.", "the recipe's: 0.001 (constant)", "rule: ", "digits"):
        assert part in printed
    assert (tmp_path / "lr_range.png").read_bytes().startswith(b"\x89PNG")


# Help.


@pytest.mark.parametrize("command", [[], *([name] for name in __main__.COMMANDS)], ids=str)
def test_help(command, capsys):
    assert call(*command, "--help") == 0
    assert capsys.readouterr().out.startswith("usage: mnist-adder")


def test_help_imports_no_torch():
    program = (
        "import sys\n"
        "from mnist_adder.__main__ import main\n"
        "try: main(['train', '--help'])\n"
        "finally: assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_names_the_recipes(capsys):
    assert call("train", "--help") == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in RECIPES)


# Bad input: one line, exit status 2. Words in capitals are places.

HERE = ["--data", "digits", "--out", "OUT"]
HUGE, LONG = "9" * 400, "x" * 300
BAD = {
    "no command": [],
    "unknown command": ["trian"],
    "unknown option": ["train", "--epoch", "3"],
    "unknown recipe": ["train", "--recipe", "nosuch", *HERE],
    "unknown recipe in summary": ["summary", "--recipe", "nosuch"],
    "unknown network": ["train", "--model", "nosuch", *HERE],
    "unknown module": ["train", "--model", "nosuch:Net", *HERE],
    "a path of a network": ["train", "--model", "my/nets.py:Net", *HERE],
    "a network of a path": ["train", "--model", "os:a/b", *HERE],
    "no network": ["train", "--model", "os:getcwd", *HERE],
    "unknown source": ["train", "--data", "nosuch", "--out", "OUT"],
    "unknown device": ["train", "--device", "nosuch", *HERE],
    "no epochs": ["train", "--epochs", "0", *HERE],
    "epochs below 0": ["train", "--epochs", "-1", *HERE],
    "half an epoch": ["train", "--epochs", "0.5", *HERE],
    "too many epochs": ["train", "--epochs", "1000000000000", *HERE],
    "huge epochs": ["train", "--epochs", HUGE, *HERE],
    "lr below 0": ["train", "--lr", "-1", *HERE],
    "lr nan": ["train", "--lr", "nan", *HERE],
    "lr inf": ["train", "--lr", "inf", *HERE],
    "lr 0": ["train", "--lr", "0", *HERE],
    "lr of letters": ["train", "--lr", "fast", *HERE],
    "lr too high": ["train", "--lr", "1e30", "--epochs", "1", *HERE],
    "huge lr": ["train", "--lr", HUGE, *HERE],
    "no batch": ["train", "--batch-size", "0", *HERE],
    "a batch of one": ["train", "--batch-size", "1", *HERE],
    "too large a batch": ["train", "--batch-size", "1438", *HERE],
    "huge batch": ["train", "--batch-size", HUGE, *HERE],
    "seed below 0": ["train", "--seed", "-1", *HERE],
    "seed of letters": ["train", "--seed", "x", *HERE],
    "huge seed": ["train", "--seed", HUGE, *HERE],
    "huge seed of a range test": ["lr-find", "--seed", HUGE, *HERE],
    "no such fold": ["train", "--validate", "12", *HERE],
    "fold below 0": ["train", "--validate", "-1", *HERE],
    "huge fold": ["train", "--validate", HUGE, *HERE],
    "too many pairs withheld": ["train", "--withhold", "90", *HERE],
    "pairs below 0": ["train", "--withhold", "-1", *HERE],
    "no pairs withheld": ["train", "--withhold", "0", *HERE],
    "any sum of no pairs": ["train", "--any-sum", *HERE],
    "compare with no pairs withheld": ["compare", "--withhold", "0", *HERE],
    "huge withheld": ["train", "--withhold", HUGE, *HERE],
    "init of no run": ["train", "--init", "PART", *HERE],
    "compare an unknown recipe": ["compare", "--recipes", "adder", "nosuch", *HERE],
    "compare no seeds": ["compare", "--seeds", "0", *HERE],
    "compare too many seeds": ["compare", "--seeds", "1000000000", *HERE],
    "compare a huge seed": ["compare", "--first-seed", HUGE, *HERE],
    "compare into a file": ["compare", "--data", "digits", "--out", "FILE"],
    "lr-find of an unknown recipe": ["lr-find", "--recipe", "nosuch", *HERE],
    "lr-find into a file": ["lr-find", "--recipe", "cascade", "--data", "digits", "--out", "FILE"],
    "out is a file": ["train", "--data", "digits", "--out", "FILE"],
    "out in a file": ["train", "--data", "digits", "--out", "FILE/run"],
    "out is too long": ["train", "--data", "digits", "--out", LONG],
    "evaluate too long a name": ["evaluate", LONG],
    "resume too long a name": ["train", "--resume", LONG],
    "predict too long a name": ["predict", LONG, "--number", "3"],
    "predict no number": ["predict", "FILE", "--number", HUGE],
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
    "resume nothing": ["train", "--resume", "NONE"],
    "resume a folder without a run": ["train", "--resume", "PART"],
    "resume a file": ["train", "--resume", "FILE"],
    "resume a finished run": ["train", "--resume", "RUN"],
    "graph into a file": ["summary", "--graph", "FILE/graph.gv"],
    "graph into a folder": ["summary", "--graph", "."],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for place, names in (("foreign", list(MNIST_SHA256)), ("part", list(MNIST_SHA256)[:3])):
        (tmp_path / place / "MNIST" / "raw").mkdir(parents=True)
        for file in names:
            (tmp_path / place / "MNIST" / "raw" / file).write_bytes(b"not MNIST")
    places = {place: tmp_path / place.lower() for place in ("OUT", "FILE", "NONE", "FOREIGN", "PART")}
    places["RUN"] = trained[0]
    arguments = []
    for argument in BAD[name]:
        first, *rest = argument.split("/")
        arguments.append("/".join([str(places.get(first, first)), *rest]))
    assert call(*arguments) == 2
    assert "error: " in only_line(capsys.readouterr().err)
    assert not (tmp_path / "none").exists()
    assert name == "lr too high" or not (tmp_path / "out").exists()  # there a training had begun


@pytest.mark.parametrize("device", ["cuda", "mps"])
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_device_that_is_not_there(command, device, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    rest = [*HERE[:2], "--out", tmp_path] if command == "train" else [trained[0]]
    assert call(command, *rest, "--device", device) == 2
    assert f"no {device} device" in only_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    "error, said",
    [
        (PermissionError(13, "Permission denied", "runs/x"), "error: runs/x: Permission denied"),
        (OSError(28, "No space left on device"), "error: No space left on device"),
        (MemoryError(), "error: there is not enough memory"),
    ],
)
def test_what_the_operating_system_refuses_is_one_line(error, said, monkeypatch, capsys):
    def fails(options):
        raise error

    monkeypatch.setattr(__main__, "summary", fails)
    assert call("summary") == 2
    assert said in only_line(capsys.readouterr().err)


@not_root
@pytest.mark.parametrize("command", [["evaluate"], ["train", "--resume"], [*SHORT, "--out"]])
def test_a_folder_that_may_not_be_searched(tmp_path, command, monkeypatch, capsys):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    try:
        assert call(*command, closed / "run") == 2
    finally:
        closed.chmod(0o700)
    assert "Permission denied" in only_line(capsys.readouterr().err)


# The shell.


def test_bad_input_ends_the_process_with_2(tmp_path):
    done = shell(f"OURS train --recipe nosuch --out {tmp_path / 'run'}")
    assert (done.returncode, done.stdout) == (2, "")
    only_line(done.stderr)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_to_a_full_device_is_one_line():
    done = shell("OURS summary > /dev/full")
    assert done.returncode == 2
    assert "No space left on device" in only_line(done.stderr)


def test_a_closed_pipe_is_silent():
    done = shell("OURS summary | true")
    assert done.stderr == ""


def test_standard_input_may_be_closed():
    done = shell("OURS predict - --number 3 <&-")
    assert done.returncode == 2
    assert "error: " in only_line(done.stderr)


@pytest.mark.parametrize(
    "environment, command, status",
    [
        ({"MPLBACKEND": "nosuch"}, "figures RUN --out OUT", 0),
        ({"LOCAL_RANK": "0"}, "--help", 0),
        ({"LOCAL_RANK": "0"}, "summary", 0),
        ({"LOCAL_RANK": "0"}, "train --data digits --epochs 1 --out OUT", 0),
    ],
)
def test_strange_environments(environment, command, status, trained, tmp_path):
    command = command.replace("RUN", str(trained[0])).replace("OUT", str(tmp_path / "out"))
    done = shell(f"OURS {command}", **environment)
    assert done.returncode == status, done.stderr
    assert done.stderr == "" if status == 0 else only_line(done.stderr)


# Interrupted runs.

INTERRUPTED_IMPORT = """
import os, signal, sys
class Interrupt:
    def find_spec(name, *_):
        if name == sys.argv[1]:
            del sys.meta_path[0]
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt)
from mnist_adder.__main__ import main
sys.exit(main(["train", "--data", "digits", "--epochs", "1", "--out", sys.argv[2]]))
"""


@pytest.mark.parametrize("module", ["torch", "numpy", "sklearn.datasets"])
def test_an_interrupt_during_an_import_is_one_line(module, tmp_path):
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, module, tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert only_line(done.stderr).startswith("mnist-adder: interrupted")


def interrupted_in(epoch, monkeypatch):
    """Ctrl-C at the start of an epoch; the training is to be started afterwards."""
    plain = training.train_epoch

    def train_epoch(network, loader, *rest):
        if loader.epoch == epoch:
            raise KeyboardInterrupt
        return plain(network, loader, *rest)

    monkeypatch.setattr(training, "train_epoch", train_epoch)


OPTIONS = ["--data", "digits", "--device", "cpu", "--epochs", "2", "--seed", "3", "--withhold", "20"]


@pytest.fixture
def unfinished(tmp_path, monkeypatch, capsys):
    """A run of two epochs, of which one is done; its name needs quoting."""
    out = tmp_path / "my rün"
    with monkeypatch.context() as patch:
        interrupted_in(2, patch)
        assert call("train", *OPTIONS, "--out", out) == 130
    return out


def test_an_interrupted_run_says_how_to_go_on_and_does(unfinished, tmp_path, capsys):
    command = f"python -m mnist_adder train --resume '{unfinished}'"
    assert capsys.readouterr().err == f"mnist-adder: interrupted; go on with: {command}\n"
    assert {path.name for path in unfinished.iterdir()} == {"checkpoint.pt", "config.json"}
    assert call("evaluate", unfinished) == 2
    assert f"train --resume {unfinished}" in only_line(capsys.readouterr().err)
    assert call("train", "--resume", unfinished, "--device", "cpu") == 0
    printed = capsys.readouterr()
    assert "epoch  2/2" in printed.out and "epoch  1/2" not in printed.out
    assert printed.err == ""
    assert call("train", *OPTIONS, "--out", tmp_path / "whole") == 0
    assert {path.name for path in unfinished.iterdir()} == FILES | FIGURES
    for name in SAME:
        assert (unfinished / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_under_torchrun_the_hint_repeats_torchrun(tmp_path, monkeypatch, capsys):
    def interrupted(out, *_, **__):
        (out / "checkpoint.pt").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "train_run", interrupted)
    monkeypatch.setattr("mnist_adder.devices.world_size", lambda: 2)
    assert call(*SHORT, "--out", tmp_path) == 130
    hint = capsys.readouterr().err
    assert f"torchrun --nproc-per-node 2 -m mnist_adder train --resume {tmp_path}\n" in hint


def test_a_run_begun_on_another_device_goes_on_here_with_a_warning(tmp_path, monkeypatch):
    without_figures(monkeypatch)
    config = folder.run_config
    with monkeypatch.context() as patch:
        patch.setattr(folder, "run_config", lambda *a, **k: config(*a, **k) | {"device": "cuda", "threads": 64})
        interrupted_in(2, patch)
        assert call("train", *OPTIONS, "--out", tmp_path) == 130
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.warns(UserWarning, match="device cpu for cuda.*not be the same bit for bit") as warned:
        assert call("train", "--resume", tmp_path) == 0
    assert len(warned) == 1
    assert metrics(tmp_path)["device"] == "cpu"


def test_an_interrupt_before_anything_was_kept(tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "fit", interrupt)
    assert call(*SHORT, "--out", tmp_path / "run") == 130
    assert capsys.readouterr().err == "mnist-adder: interrupted\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        *(["--seed", "0"], ["--epochs", "3"], ["--recipe", "cascade"], ["--lr", "1"], ["--batch-size", "9"]),
        *(["--data", "mnist"], ["--validate"], ["--withhold", "3"], ["--init", "x"], ["--model", "x:Y"]),
        ["--out", "elsewhere"],
    ],
    ids=lambda options: options[0],
)
def test_resume_takes_no_option_that_decides_the_run(options, capsys):
    assert call("train", "--resume", "nosuch", *options) == 2
    assert f"leave out {options[0]}" in only_line(capsys.readouterr().err)


def test_an_unfinished_run_is_replaced_only_by_force(unfinished, monkeypatch, capsys):
    without_figures(monkeypatch)
    capsys.readouterr()
    assert call(*SHORT, "--out", unfinished) == 2
    assert f"--resume {unfinished}" in only_line(capsys.readouterr().err)
    assert call(*SHORT, "--out", unfinished, "--force") == 0
    assert (metrics(unfinished)["epochs"], metrics(unfinished)["seed"]) == (1, 0)
    assert not (unfinished / "checkpoint.pt").exists()


def wait_for_checkpoint(process: subprocess.Popen, out: Path) -> None:
    """Wait until a process that trains has written a checkpoint."""
    path = out / "checkpoint.pt"
    before = path.stat().st_mtime_ns if path.exists() else None
    while not path.exists() or path.stat().st_mtime_ns == before:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


LENGTHY = ["--data", "digits", "--device", "cpu", "--epochs", "6", "--out"]


def test_a_run_that_is_stopped_or_killed_at_any_moment_goes_on(tmp_path, monkeypatch):
    """First by SIGTERM, which leaves nothing but the run, then by SIGKILL, at moments that differ each time."""
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    for arguments, kind in (([*LENGTHY, stopped], signal.SIGTERM), (["--resume", stopped], signal.SIGKILL)):
        process = start("train", *arguments)
        wait_for_checkpoint(process, stopped)
        time.sleep(random.uniform(0, 0.3))
        process.send_signal(kind)
        process.wait()
        if kind == signal.SIGTERM:
            assert process.returncode == 143 and process.stderr.read() == ""
            assert {path.name for path in stopped.iterdir()} == {"checkpoint.pt", "config.json"}
        process.stderr.close()
    assert not (stopped / "SHA256SUMS").exists()
    without_figures(monkeypatch)
    for arguments in (["--resume", stopped], [*LENGTHY, whole]):
        assert call("train", "--device", "cpu", *arguments) == 0
    assert {path.name for path in stopped.iterdir()} == FILES
    for name in SAME - FIGURES:
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()
