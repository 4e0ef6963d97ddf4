"""The command line: what it prints and leaves, and how it refuses, is interrupted and goes on."""

import functools
import json
import os
import shlex
import signal
import subprocess
import sys
import warnings
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CHECKED, PlainNet, first, sign

from mnist_adder import __main__, devices, range_test, runs
from mnist_adder.__main__ import main
from mnist_adder.recipes import RECIPES
from mnist_adder.runs import read_run
from mnist_adder.sources import load_data
from mnist_adder.training import Training


@pytest.fixture(scope="module")
def file(digits, tmp_path_factory) -> str:
    """300 training and 60 test images as a file .npz."""
    few = first(digits, 300, 60)
    path = tmp_path_factory.mktemp("file") / "few.npz"
    arrays = {"x_train": few.train.images, "y_train": few.train.digits}
    arrays.update(x_test=few.test.images, y_test=few.test.digits)
    np.savez(path, **{name: tensor.numpy() for name, tensor in arrays.items()})
    return str(path)


@pytest.fixture
def short(file) -> list[str]:
    """The beginning of a command that trains for a moment."""
    options = ["--recipe", "speedrun", "--epochs", "2", "--batch-size", "60", "--device", "cpu"]
    return ["train", "--data", file, *options]


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


def only_line(error: str, kind: str = "error") -> str:
    """Return standard error's only line."""
    assert error.startswith(f"mnist-adder: {kind}: ")
    assert error.count("\n") == 1 and error.endswith("\n")
    assert error[:-1].isprintable()
    return error


# Train, evaluate, go on.


def test_train_and_evaluate(file, short, tmp_path, capsys, figures):
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


def test_options_reach_the_run(file, tmp_path, capsys, request):
    request.addfinalizer(lambda: torch.use_deterministic_algorithms(False))
    options = ["--recipe", "number-line", "--epochs", "1", "--batch-size", "120", "--lr", "0.02"]
    more = ["--validate", "3", "--deterministic", "--quiet", "--out", str(tmp_path / "run")]
    assert main(["train", "--data", file, *options, *more]) == 0
    run = read_run(tmp_path / "run")
    assert (run.config["recipe"], run.config["fold"]) == ("number-line", 3)
    assert len(run.history) == 1 and run.config["deterministic"]
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


def test_an_interrupted_run_says_how_to_go_on_and_does(
    trained, short, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "my rün"
    options = ["--data-dir", "my data", "--withhold", "20", "--seed", "3"]
    options += ["--recipe", "adder", "--init", str(trained)]  # which is a run of speedrun
    with monkeypatch.context() as patch:
        interrupt_in(2, patch)
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
    for name in ("config.json", "model.safetensors"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert main(["train", "--resume", str(out)]) == 2
    assert "nothing to go on with" in only_line(capsys.readouterr().err)


def test_an_interrupt_before_anything_was_begun(short, tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(__main__, "load_data", interrupt)
    assert main([*short, "--out", str(tmp_path / "run")]) == 130
    assert only_line(capsys.readouterr().err, "interrupted").endswith("did not finish\n")
    assert list(tmp_path.iterdir()) == []


def test_resume_takes_no_option_that_decides_the_run(capsys):
    options = (
        *("--seed 0", "--recipe adder", "--epochs 3", "--lr 1", "--validate", "--batch-size 9"),
        *("--data mnist", "--withhold 3", "--any-sum", "--init x", "--out elsewhere"),
    )
    for option in options:
        name, *value = option.split()
        assert main(["train", "--resume", "nosuch", name, *value]) == 2
        assert f"leave out {name}" in only_line(capsys.readouterr().err)


def test_a_recipe_of_ones_own_goes_on_from_python_only(few, tmp_path, capsys):
    for number, (changes, refused) in enumerate(
        [
            ({"name": "mine"}, "has a recipe or a network of your own"),
            ({"model": PlainNet}, "has a recipe or a network of your own"),
            ({"sum_weight": 0.3}, "sum_weight"),
        ]
    ):
        folder = tmp_path / str(number)
        recipe = replace(RECIPES["speedrun"], batch_size=60, **changes)
        runs.new_folder(folder, Training(recipe, few))
        assert main(["train", "--resume", str(folder)]) == 2
        assert refused in only_line(capsys.readouterr().err)


# Other commands.


def test_summary_and_graph(tmp_path, capsys):
    assert main(["summary", "--recipe", "number-line", "--graph", str(tmp_path / "graph.gv")]) == 0
    printed = capsys.readouterr().out
    assert "Total params" in printed and "all parameters" in printed
    assert (tmp_path / "graph.gv").read_text().startswith("digraph")


def test_lr_find(file, tmp_path, monkeypatch, capsys):
    quick = functools.partial(range_test.lr_range, steps=20)
    monkeypatch.setattr(range_test, "lr_range", quick)
    out = tmp_path / "new" / "rates.png"
    assert main(["lr-find", "--data", file, "--recipe", "speedrun", "--out", str(out)]) == 0
    assert "suggested rate: " in capsys.readouterr().out
    assert out.read_bytes().startswith(b"\x89PNG")


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
    *(f"train --epochs {count} {HERE}" for count in ("0", "0.5", HUGE)),
    *(f"train --lr {rate} {HERE}" for rate in ("-1", "nan", "fast", HUGE)),
    *(f"train --batch-size {size} {HERE}" for size in ("0", "1438")),
    *(f"train --seed {seed} {HERE}" for seed in ("-1", HUGE)),
    *(f"train --validate 12 {HERE}", f"train --withhold 0 {HERE}", f"train --withhold 90 {HERE}"),
    *(f"train --init PART {HERE}", "train --data digits --out FILE"),
    *("train --data digits --out FILE/run", "train --data digits --out PART"),
    *("train --data mnist --data-dir FOREIGN --out OUT", "train --data-dir PART --out OUT"),
    *("train --data mnist --data-dir FILE --out OUT", "train --data NONE.npz --out OUT"),
    *("evaluate", "evaluate NONE", "evaluate PART", "evaluate FILE", "evaluate " + 300 * "x"),
    *("evaluate RUN --data nosuch", "evaluate RUN --device nosuch", "evaluate RUN --out FILE"),
    *("evaluate RUN --data COLOUR", "evaluate RUN --data TWELVE", "evaluate OTHER"),
    *("train --resume NONE", "train --resume PART", "train --resume FILE", "train --resume RUN"),
    *("summary --graph FILE/graph.gv", "summary --graph .", "summary --graph FILE"),
    *("predict x.png --number 10", f"predict x.png --number {HUGE}", "predict x.png"),
    *("page --run NONE --out OUT", "page --out FILE", "page --run OTHER --out OUT"),
    *("lr-find --data digits --out FILE", "lr-find --seed -1 --data digits --out OUT"),
]


@pytest.fixture(scope="module")
def places(few, tmp_path_factory) -> dict[str, Path]:
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
    recipe = replace(RECIPES["speedrun"], epochs=1, batch_size=60)
    subtract = replace(few, target=lambda digit, number: digit - number + 9)
    for name, data in (("run", few), ("other", subtract)):
        training = Training(recipe, data)
        next(iter(training))
        runs.save_run(place / name, training)
    names = ("file", "foreign", "part", "run", "other", "none")
    found = {name.upper(): place / name for name in names}
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


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "runs/x"), "Permission denied: 'runs/x'"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "there is not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough mem"),
        (RuntimeError("CUDA error: out of memory"), "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), "not enough memory"),
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
        raise RuntimeError("Placeholder storage has not been allocated: a mistake")

    monkeypatch.setattr(devices, "gpu_check", fails)
    with pytest.raises(RuntimeError, match="a mistake"):
        main(["lr-find"])


# main() leaves the process as it was.


def state_of_the_process() -> list[object]:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    streams = [sys.stdout, sys.stderr, sys.stdin, os.fstat(1), os.fstat(2)]
    settings = [warnings.showwarning, warnings.formatwarning, list(warnings.filters)]
    folders = [list(sys.path), os.getcwd()]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    return [*handlers, torch.get_default_dtype(), *streams, *settings, *folders, environment]


def test_main_changes_nothing_of_its_process(short, tmp_path, capsys):
    state = state_of_the_process()
    for name in ("first", "second"):
        assert main([*short, "--out", str(tmp_path / name)]) == 0
        assert main(["evaluate", "nosuch"]) == 2
        assert state_of_the_process() == state


# Processes of their own.

# One process imports the package, and forks for each of the others.
PROCESSES = """
import gc
import os
import signal
import sys
import time
import torch._dynamo  # what torch's optimizers import
from mnist_adder.__main__ import console
from mnist_adder.errors import InputError
from mnist_adder.runs import read_checkpoint

def start(arguments, output=1):
    process = os.fork()
    if not process:
        os.dup2(output, 1)
        sys.argv[1:] = arguments
        console()
    return process

def end(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

def stop(number, folder):
    process = start([*sys.argv[1:], "--out", folder])
    while True:
        try:
            if len(read_checkpoint(folder)["history"]) >= 2:
                break
        except InputError:  # not there yet
            time.sleep(0.01)
    os.kill(process, number)
    return end(process)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has it ignored
gc.freeze()  # the other processes need not look through what was imported
reader, closed_pipe = os.pipe()
os.close(reader)
full_device = os.open("/dev/full", os.O_WRONLY)
statuses = [
    end(start(["train", "--recipe", "nosuch"])),
    end(start(["summary"], full_device)),
    end(start(["summary"], closed_pipe)),
    end(start(["train", "--help"], closed_pipe)),
    stop(signal.SIGINT, "interrupted"),
    stop(signal.SIGKILL, "killed"),
]
print(*statuses)
"""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_how_processes_end_and_a_killed_training_goes_on_bit_for_bit(short, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # it would hide a flush that fails
    command = [*short, "--epochs", "20", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", PROCESSES, *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    statuses = ["2", "2", "141", "0", "130", str(-signal.SIGKILL)]
    assert done.stdout.split()[-6:] == statuses, done.stderr
    unknown, full, interrupted = done.stderr.splitlines(keepends=True)
    assert "nosuch" in only_line(unknown)
    assert "No space left on device" in only_line(full)
    assert "--resume interrupted" in only_line(interrupted, "interrupted")

    killed = tmp_path / "killed"
    assert not (killed / "SHA256SUMS").exists()
    assert main(["train", "--resume", str(killed), "--device", "cpu", "--quiet"]) == 0
    assert main([*command, "--out", str(tmp_path / "whole")]) == 0
    for name in ("config.json", "model.safetensors"):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in killed.iterdir()) == sorted([*CHECKED, "SHA256SUMS"])
