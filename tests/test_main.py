"""The command line: what it prints and leaves, and how it refuses, is interrupted and goes on."""

import functools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PlainNet

from mnist_adder import __main__, devices, page, plots, prediction, range_test, runs
from mnist_adder.__main__ import main
from mnist_adder.data import Data, Split
from mnist_adder.errors import InputError
from mnist_adder.prediction import Prediction
from mnist_adder.recipes import RECIPES
from mnist_adder.runs import read_run
from mnist_adder.sources import load_data
from mnist_adder.training import Training

COMMAND = [sys.executable, "-m", "mnist_adder"]
PACKAGE = Path(__main__.__file__).parents[1]
CHECKED = ("config.json", "history.csv", "metrics.json", "model.safetensors")
ANSWER = Prediction(7, 12, [0.0] * 7 + [0.9, 0.1, 0.0], [0.05] * 12 + [0.4] + [0.0] * 6, None, True)


@pytest.fixture(scope="module")
def small() -> Data:
    """300 training and 60 test images of the bundled digits."""
    data = load_data("digits")
    train = Split(data.train.images[:300], data.train.digits[:300])
    test = Split(data.test.images[:60], data.test.digits[:60])
    return Data("digits", train, test)


@pytest.fixture(scope="module")
def file(small, tmp_path_factory) -> str:
    """Those images as a file .npz."""
    path = tmp_path_factory.mktemp("file") / "small.npz"
    arrays = {"x_train": small.train.images, "y_train": small.train.digits}
    arrays.update(x_test=small.test.images, y_test=small.test.digits)
    np.savez(path, **{name: tensor.numpy() for name, tensor in arrays.items()})
    return str(path)


@pytest.fixture
def short(file) -> list[str]:
    """The beginning of a command that trains for a moment."""
    options = ["--recipe", "speedrun", "--epochs", "2", "--batch-size", "60", "--device", "cpu"]
    return ["train", "--data", file, *options]


@pytest.fixture(autouse=True)
def nothing_drawn(request, monkeypatch):
    """Drawing takes most of a small run's time, so only the tests that ask for it do it."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(plots, "run_figures", lambda *_: {})


@pytest.fixture
def drawn():
    """Let a test draw."""


@pytest.fixture
def trained(short, tmp_path) -> Path:
    """The folder of a finished run."""
    with redirect_stdout(StringIO()):
        assert main([*short, "--seed", "3", "--out", str(tmp_path / "run")]) == 0
    return tmp_path / "run"


def interrupt_in(epoch: int, monkeypatch) -> None:
    """Let a Ctrl-C come in an epoch of each training."""
    plain = Training.train_epoch

    def train_epoch(training):
        if len(training.history) == epoch - 1:
            raise KeyboardInterrupt
        return plain(training)

    monkeypatch.setattr(Training, "train_epoch", train_epoch)


@pytest.fixture
def unfinished(short, tmp_path, monkeypatch) -> Path:
    """A run of two epochs, of which one is done; its name needs quoting."""
    with monkeypatch.context() as patch, redirect_stderr(StringIO()):
        interrupt_in(2, patch)
        assert main([*short, "--withhold", "20", "--out", str(tmp_path / "my rün")]) == 130
    return tmp_path / "my rün"


def only_line(error: str, kind: str = "error") -> str:
    """Return standard error's only line."""
    assert error.startswith(f"mnist-adder: {kind}: ")
    assert error.count("\n") == 1 and error.endswith("\n")
    assert error[:-1].isprintable()
    return error


def shell(command: str, **environment) -> subprocess.CompletedProcess:
    """Run a line of the shell, in which OURS is the command."""
    command = command.replace("OURS", shlex.join(COMMAND))
    settings = {"shell": True, "capture_output": True, "text": True, "cwd": PACKAGE}
    return subprocess.run(command, env=os.environ | environment, **settings)


# Train, evaluate, go on.


def test_train_and_evaluate(file, short, tmp_path, capsys, drawn):
    out = tmp_path / "run"
    assert main([*short, "--seed", "3", "--withhold", "20", "--out", str(out)]) == 0
    printed, complaint = capsys.readouterr()
    metrics = json.loads((out / "metrics.json").read_text())
    for part in (
        "seed 3",
        "epoch  2/2",
        "test split: 60 images, all numbers",
        f"run folder: {out}",
    ):
        assert part in printed
    table = [line for line in printed.splitlines() if line.startswith("  ")][:-1]
    assert len(table) == 6
    for name, line in zip(("digit", "sum", "joint"), table, strict=False):
        assert f"{metrics[f'{name}_accuracy']:.3%}" in line
    assert f"joint {metrics['withheld_joint_accuracy']:.3%}" in table[4]
    assert complaint == ""
    assert len(metrics["withheld"]) == 20
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    results = tmp_path / "results"
    assert main(["evaluate", str(out), "--device", "cpu", "--out", str(results)]) == 0
    assert "\n".join(table) in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    for path in results.glob("*.png"):
        assert path.read_bytes() == before[path.name]
    evaluation = json.loads((results / "evaluation.json").read_text())
    assert evaluation["withheld_sum_accuracy"] == metrics["withheld_sum_accuracy"]
    assert np.sum(evaluation["confusion"]) == 600

    assert main(["evaluate", str(out), "--out", str(results)]) == 2
    assert "is there already" in only_line(capsys.readouterr().err)


def test_options_reach_the_run(file, tmp_path, capsys):
    options = ["--recipe", "number-line", "--epochs", "1", "--batch-size", "120", "--lr", "0.02"]
    more = ["--validate", "3", "--quiet", "--out", str(tmp_path / "run")]
    assert main(["train", "--data", file, *options, *more]) == 0
    run = read_run(tmp_path / "run")
    assert (run.config["recipe"], run.config["epochs"], run.config["fold"]) == ("number-line", 1, 3)
    assert (run.config["settings"]["batch_size"], run.config["settings"]["lr"]) == (120, 0.02)
    assert run.metrics["split"] == "validation"
    printed = capsys.readouterr().out
    assert "validation split: 25 images" in printed and "epoch  1/1" not in printed
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert "validation split: 25 images" in capsys.readouterr().out


def test_init_begins_with_the_weights_of_a_run(trained, short, tmp_path):
    out = tmp_path / "tuned"
    assert main([*short, "--init", str(trained), "--lr", "1e-9", "--out", str(out)]) == 0
    before = dict(read_run(trained).model.named_parameters())
    tuned = read_run(out)
    for name, parameter in tuned.model.named_parameters():
        assert torch.allclose(parameter, before[name], atol=1e-6)
    assert tuned.config["fine_tuned"] is True


def test_runs_are_numbered_and_auto_falls_back(file, short, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "speedrun-001").mkdir(parents=True)
    monkeypatch.setattr(__main__, "load_data", lambda *_, **__: warned())

    def warned():
        warnings.warn("BUNDLED DIGITS\nin two lines", stacklevel=2)
        return load_data(file)

    assert main(["train", *short[3:]]) == 0
    printed, complaint = capsys.readouterr()
    assert f"run folder: {Path('runs', 'speedrun-002')}" in printed
    assert r"BUNDLED DIGITS\nin two lines" in only_line(complaint, "warning")


def test_an_interrupted_run_says_how_to_go_on_and_does(short, tmp_path, monkeypatch, capsys):
    out = tmp_path / "my rün"
    with monkeypatch.context() as patch:
        interrupt_in(2, patch)
        options = ["--data-dir", "my data", "--withhold", "20", "--seed", "3"]
        assert main([*short, *options, "--out", str(out)]) == 130
    line = only_line(capsys.readouterr().err, "interrupted")
    command = f"python -m mnist_adder train --resume '{out}' --data-dir 'my data' --device cpu"
    assert line.endswith(f"go on with: {command}\n")
    assert main(["evaluate", str(out)]) == 2
    assert "unfinished run" in only_line(capsys.readouterr().err)
    assert main(shlex.split(command)[3:]) == 0
    printed = capsys.readouterr()
    assert "epoch  2/2" in printed.out and "epoch  1/2" not in printed.out
    assert printed.err == ""
    assert main([*short, *options, "--out", str(tmp_path / "whole")]) == 0
    ended = read_run(out)
    whole = read_run(tmp_path / "whole")
    assert ended.config == whole.config
    assert (out / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()
    assert main(["train", "--resume", str(out)]) == 2
    assert "nothing to go on with" in only_line(capsys.readouterr().err)


def test_a_run_with_initial_weights_of_another_recipe_is_gone_on_with(
    trained, short, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "tuned"
    options = ["--recipe", "adder", "--init", str(trained)]  # the run is one of speedrun
    with monkeypatch.context() as patch:
        interrupt_in(2, patch)
        assert main([*short, *options, "--out", str(out)]) == 130
    command = only_line(capsys.readouterr().err, "interrupted").partition("go on with: ")[2]
    assert "--device cpu" in command
    assert main(shlex.split(command)[3:]) == 0
    assert main([*short, *options, "--out", str(tmp_path / "whole")]) == 0
    for name in ("config.json", "model.safetensors"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_an_interrupt_before_anything_was_begun(short, tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(__main__, "load_data", interrupt)
    assert main([*short, "--out", str(tmp_path / "run")]) == 130
    assert only_line(capsys.readouterr().err, "interrupted").endswith("nothing was begun\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        ["--seed", "0"],  # the default, which may be another seed than the run's
        ["--recipe", "adder"],
        ["--epochs", "3"],
        ["--lr", "1"],
        ["--validate"],
        ["--batch-size", "9"],
        ["--data", "mnist"],
        ["--withhold", "3"],
        ["--any-sum"],
        ["--init", "x"],
        ["--out", "elsewhere"],
    ],
    ids=lambda options: options[0],
)
def test_resume_takes_no_option_that_decides_the_run(options, capsys):
    assert main(["train", "--resume", "nosuch", *options]) == 2
    assert f"leave out {options[0]}" in only_line(capsys.readouterr().err)


def test_a_recipe_of_ones_own_goes_on_from_python_only(small, tmp_path, capsys):
    for number, (changes, refused) in enumerate(
        [
            ({"name": "mine"}, "has a recipe or a network of your own"),
            ({"model": PlainNet}, "has a recipe or a network of your own"),
            ({"sum_weight": 0.3}, "sum_weight"),
        ]
    ):
        folder = tmp_path / str(number)
        runs.new_folder(folder, Training(replace(RECIPES["speedrun"], **changes), small))
        assert main(["train", "--resume", str(folder)]) == 2
        assert refused in only_line(capsys.readouterr().err)


# Other commands.


def test_summary_and_graph(tmp_path, capsys):
    assert main(["summary", "--recipe", "number-line", "--graph", str(tmp_path / "graph.gv")]) == 0
    printed = capsys.readouterr().out
    assert "Total params" in printed and "Receptive field" in printed
    assert (tmp_path / "graph.gv").read_text().startswith("digraph")


def test_lr_find(file, tmp_path, monkeypatch, capsys):
    quick = functools.partial(range_test.lr_range, steps=20)
    monkeypatch.setattr(range_test, "lr_range", quick)
    out = str(tmp_path / "rates.png")
    command = ["lr-find", "--data", file, "--recipe", "speedrun", "--out", out]
    assert main(command) == 0
    assert "suggested rate: " in capsys.readouterr().out
    before = Path(out).read_bytes()
    assert before.startswith(b"\x89PNG")
    assert main(command) == 2
    assert "is there already" in only_line(capsys.readouterr().err)
    assert Path(out).read_bytes() == before


def test_predict(monkeypatch, capsys):
    def predict(model, picture, number):
        if "blank" in str(picture):
            raise InputError(f"{picture}: the image has no ink")
        return ANSWER

    monkeypatch.setattr(prediction, "predict", predict)
    assert main(["predict", "a\x1b[31m.png", "b.png", "--number", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == r"a\x1b[31m.png: digit 7 (90.00%), number 5, sum 12 (40.00%)"
    assert main(["predict", "a.png", "blank\n.png", "--number", "5", "--json"]) == 2
    printed, complaint = capsys.readouterr()
    assert r"blank\n.png: the image has no ink" in only_line(complaint)
    first, second = json.loads(printed)
    assert (first["digit"], first["sum"], first["image"], first["number"]) == (7, 12, "a.png", 5)
    assert second == {"image": "blank\n.png", "error": "blank\n.png: the image has no ink"}


def test_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        page, "write_page", lambda path, model: path.write_text("page"), raising=False
    )
    command = ["page", "--out", str(tmp_path / "my.html")]
    assert main(command) == 0
    assert str(tmp_path / "my.html") in capsys.readouterr().out
    (tmp_path / "my.html").write_text("mine")
    assert main(command) == 2
    assert "is there already" in only_line(capsys.readouterr().err)
    assert (tmp_path / "my.html").read_text() == "mine"


@pytest.mark.parametrize(
    "command", ["", "train", "evaluate", "predict", "page", "summary", "lr-find"]
)
def test_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: mnist-adder")
    if command in ("train", "summary", "lr-find"):
        assert all(f"  {name} " in printed for name in RECIPES)


# Bad input: one line, exit status 2, and nothing made. Words in capitals are places.

HUGE = "9" * 400
HERE = "--data digits --out OUT"
BAD = [
    *("", "trian", "train --epoch 3", f"train --recipe nosuch {HERE}", "summary --recipe nosuch"),
    *("train --data nosuch --out OUT", f"train --device nosuch {HERE}"),
    *(f"train --epochs {count} {HERE}" for count in ("0", "-1", "0.5", HUGE)),
    *(f"train --lr {rate} {HERE}" for rate in ("-1", "0", "nan", "inf", "fast", HUGE)),
    *(f"train --batch-size {size} {HERE}" for size in ("0", "1438", HUGE)),
    *(f"train --seed {seed} {HERE}" for seed in ("-1", "x", HUGE)),
    *(f"train --validate {fold} {HERE}" for fold in ("12", "-1", HUGE)),
    *(f"train --withhold {count} {HERE}" for count in ("0", "-1", "90", HUGE)),
    *(f"train --init PART {HERE}", "train --data digits --out FILE"),
    *("train --data digits --out FILE/run", "train --data digits --out PART"),
    *("train --data mnist --data-dir FOREIGN --out OUT", "train --data-dir PART --out OUT"),
    *("train --data mnist --data-dir FILE --out OUT", "train --data NONE.npz --out OUT"),
    *("evaluate", "evaluate NONE", "evaluate PART", "evaluate FILE", "evaluate " + 300 * "x"),
    *("evaluate RUN --data nosuch", "evaluate RUN --device nosuch", "evaluate RUN --out FILE"),
    *("evaluate RUN --data COLOUR", "evaluate RUN --data TWELVE"),
    *("train --resume NONE", "train --resume PART", "train --resume FILE", "train --resume RUN"),
    *("summary --graph FILE/graph.gv", "summary --graph .", "lr-find --data digits --out FILE"),
    *("predict x.png --number 10", f"predict x.png --number {HUGE}", "predict x.png"),
    *("page --run NONE --out OUT", "page --out FILE", "lr-find --seed -1 --data digits --out OUT"),
]


@pytest.fixture(scope="module")
def places(small, tmp_path_factory) -> dict[str, Path]:
    """Things that cannot be used, by name, and a run that can."""
    place = tmp_path_factory.mktemp("places")
    (place / "file").write_text("mine")
    for name, count in (("foreign", 4), ("part", 3)):
        raw = place / name / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for file in (
            "train-images-idx3-ubyte",
            "train-labels-idx1-ubyte",
            "t10k-images-idx3-ubyte",
            "t10k-labels-idx1-ubyte",
        )[:count]:
            (raw / file).write_bytes(b"not MNIST")
    for name, shape, classes in (("colour", (20, 3, 28, 28), 10), ("twelve", (20, 28, 28), 12)):
        images = np.zeros(shape, np.uint8)
        labels = np.arange(20) % classes
        arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
        np.savez(place / f"{name}.npz", **arrays)
    training = Training(replace(RECIPES["speedrun"], epochs=1, batch_size=60), small)
    next(iter(training))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "run_figures", lambda *_: {})
        runs.save_run(place / "run", training)
    found = {name.upper(): place / name for name in ("file", "foreign", "part", "run", "none")}
    return {**found, "COLOUR": place / "colour.npz", "TWELVE": place / "twelve.npz"}


@pytest.mark.parametrize("command", BAD, ids=lambda command: command[:50] or "nothing")
def test_bad_input(command, places, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, path in {**places, "OUT": tmp_path / "out"}.items():
        command = command.replace(name, str(path))
    assert main(command.split()) == 2
    only_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []
    assert places["FILE"].read_text() == "mine"


def test_a_rate_that_is_too_high_leaves_a_checkpoint(short, tmp_path, capsys):
    assert main([*short, "--lr", "1e30", "--out", str(tmp_path / "run")]) == 2
    assert "choose a lower learning rate" in only_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("change", "value"),
    [("recipe", "\ud800\n\x1b[31m"), ("seed", -1), ("fold", 99), ("dataset", "os:abort\n")],
)
def test_a_config_that_lies_is_refused_or_printed_escaped(trained, change, value, capsys):
    config = json.loads((trained / "config.json").read_text())
    (trained / "config.json").write_text(json.dumps({**config, change: value}))
    sign(trained)
    capsys.readouterr()
    status = main(["evaluate", str(trained)])
    printed, complaint = capsys.readouterr()
    assert status == 0 if change == "recipe" else only_line(complaint)
    assert all(line.isprintable() for line in printed.splitlines())
    assert change != "recipe" or r"\ud800\n\x1b[31m, " in printed


def sign(folder: Path) -> None:
    """Make a run's checksums right again."""
    command = ["sha256sum", *CHECKED]
    sums = subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout
    (folder / "SHA256SUMS").write_bytes(sums)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "runs/x"), "Permission denied: 'runs/x'"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "there is not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough mem"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            "not enough memory",
        ),
    ],
)
def test_what_the_machine_refuses_is_one_line(error, said, monkeypatch, capsys):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(devices, "gpu_check", fails)
    assert main(["lr-find"]) == 2
    assert said in only_line(capsys.readouterr().err)


def test_other_errors_are_not_hidden(monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("a mistake in the program, in memory format")

    monkeypatch.setattr(devices, "gpu_check", fails)
    with pytest.raises(RuntimeError, match="a mistake"):
        main(["lr-find"])


# main() leaves the process as it was.


def state_of_the_process() -> list[object]:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    torch_state = [torch.are_deterministic_algorithms_enabled(), torch.get_default_dtype()]
    streams = [sys.stdout, sys.stderr, sys.stdin, os.fstat(1), os.fstat(2)]
    settings = [warnings.showwarning, warnings.formatwarning, list(warnings.filters)]
    folders = [list(sys.path), os.getcwd()]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    return [*handlers, *torch_state, *streams, *settings, *folders, environment]


def test_main_changes_nothing_of_its_process(short, tmp_path, capsys):
    state = state_of_the_process()
    for name in ("first", "second"):
        assert main([*short, "--deterministic", "--out", str(tmp_path / name)]) == 0
        assert main(["evaluate", "nosuch"]) == 2
        assert state_of_the_process() == state


def test_main_runs_in_a_thread_and_with_its_output_redirected(short, tmp_path):
    printed = StringIO()
    statuses = []
    arguments = [*short, "--out", str(tmp_path / "run")]
    thread = threading.Thread(target=lambda: statuses.append(main(arguments)))
    with redirect_stdout(printed):
        thread.start()
        thread.join()
    assert statuses == [0]
    assert "epoch  2/2" in printed.getvalue() and "run folder" in printed.getvalue()


def test_what_a_cluster_sets_does_nothing(short, tmp_path, monkeypatch, capsys):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "3")
    monkeypatch.setenv("MASTER_ADDR", "nosuch")
    assert main([*short, "--out", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().err == ""


# Processes of their own.


def test_bad_input_ends_the_process_with_2():
    done = shell("OURS train --recipe nosuch")
    assert (done.returncode, done.stdout) == (2, "")
    only_line(done.stderr)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_to_a_full_device_is_one_line():
    done = shell("OURS summary > /dev/full")
    assert done.returncode == 2
    assert "No space left on device" in only_line(done.stderr)


def test_a_closed_pipe_is_silent_and_a_closed_input_one_line():
    done = shell("OURS summary | true")
    assert done.stderr == ""
    done = shell("OURS predict - --number 3 <&-")
    assert done.returncode == 2
    only_line(done.stderr)


def test_no_file_of_the_users_folder_is_imported(short, tmp_path):
    for name in ("opt_einsum.py", "sklearn.py", "notes.py"):
        (tmp_path / name).write_text("raise SystemExit('imported')")
    arguments = [*short, "--epochs", "1", "--out", str(tmp_path / "run")]
    program = f"import sys; from mnist_adder.__main__ import main; sys.exit(main({arguments!r}))"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def wait_for_epoch(process: subprocess.Popen, folder: Path, epoch: int) -> None:
    """Wait until a process that trains has kept an epoch."""
    while True:
        assert process.poll() is None
        try:
            if len(runs.read_checkpoint(folder)["history"]) >= epoch:
                return
        except InputError:  # not there yet
            time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_interrupted_or_killed_goes_on_bit_for_bit(
    number, short, tmp_path, capsys
):
    command = [*short, "--epochs", "40", "--out"]
    killed = tmp_path / "killed"
    settings = {"cwd": PACKAGE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*COMMAND, *command, str(killed)], text=True, **settings)
    wait_for_epoch(process, killed, 2)
    process.send_signal(number)
    _, complaint = process.communicate()
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert f"--resume {killed}" in only_line(complaint, "interrupted")
    assert not (killed / "SHA256SUMS").exists()
    assert main(["train", "--resume", str(killed), "--device", "cpu"]) == 0
    assert main([*command, str(tmp_path / "whole")]) == 0
    for name in ("config.json", "model.safetensors"):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in killed.iterdir()) == sorted([*CHECKED, "SHA256SUMS"])


@pytest.mark.skipif(not shutil.which("jupyter"), reason="needs Jupyter")
def test_it_runs_inside_a_notebook(tmp_path):
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    cells = [new_code_cell("%run -m mnist_adder summary")] * 2
    book = NotebookClient(
        new_notebook(cells=cells), timeout=120, resources={"metadata": {"path": str(PACKAGE)}}
    ).execute()
    for cell in book.cells:
        assert "Total params" in "".join(output.get("text", "") for output in cell.outputs)
