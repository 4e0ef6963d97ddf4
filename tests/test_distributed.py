"""Training in several processes, as torchrun starts them; here two of them, on the CPU, through gloo."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import mnist_adder
from mnist_adder import training
from mnist_adder.data import Data, Split
from mnist_adder.devices import place
from mnist_adder.losses import total_loss
from mnist_adder.models import build
from mnist_adder.published.recipes import RECIPES
from mnist_adder.runs import folder
from mnist_adder.runs.folder import train_run
from mnist_adder.sources import load_data
from mnist_adder.training import fit, make_loader

WORLD = 2
# One step from the initial weights to these minus the gradient.
ONE_STEP = dataclasses.replace(RECIPES["adder"], epochs=1, lr=1.0, optimizer_options={}, schedule="constant")
# Numbers drawn once, and dropout, which each process draws for itself.
DROPPING = dataclasses.replace(RECIPES["cascade"], epochs=3)


def batches(count: int) -> Data:
    """Bundled digits, cut to a training set of a few batches."""
    data = load_data("digits")
    return dataclasses.replace(data, train=Split(*(part[: count * ONE_STEP.batch_size] for part in data.train)))


def train_part(rank: int, out: Path) -> None:
    """One of the processes; leaves what it trained in a folder."""
    torch.set_num_threads(1)  # as torchrun does: more threads than cores wait for each other
    dist.init_process_group("gloo", init_method=f"file://{out}/meet", rank=rank, world_size=WORLD)
    data = batches(3)
    step = fit(ONE_STEP, batches(1), seed=3, quiet=True)
    fitted = [fit(DROPPING, data, quiet=True)]
    plain, folder.draw = training.train_epoch, lambda *_: {}

    def interrupted(network, loader, *rest):
        if loader.epoch == 2:
            raise KeyboardInterrupt
        return plain(network, loader, *rest)

    training.train_epoch = interrupted
    try:
        train_run(out / "run", DROPPING, data, quiet=True)
    except KeyboardInterrupt:
        training.train_epoch = plain
    dist.barrier()

    def kept(*arguments, **settings):
        fitted.append(fit(*arguments, **settings))
        return fitted[-1]

    folder.fit = kept
    train_run(out / "run", DROPPING, data, quiet=True, resume=True)
    whole, resumed = fitted
    states = step.model.state_dict(), whole.model.state_dict(), resumed.model.state_dict()
    torch.save((*states, whole.history, resumed.history), out / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> list:
    out = tmp_path_factory.mktemp("parts")
    mp.spawn(train_part, (out,), nprocs=WORLD)
    return [torch.load(out / f"{rank}.pt") for rank in range(WORLD)]


@pytest.fixture
def one_thread():
    """As the processes have: with more, a sum is rounded otherwise, and a maximum may move."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_two_processes_apply_the_mean_of_the_gradients_of_their_halves(parts, one_thread):
    torch.manual_seed(3)
    model = place(build(ONE_STEP.model), "cpu").train()
    initial = {name: weight.clone() for name, weight in model.named_parameters()}
    for rank in range(WORLD):
        loader = make_loader(ONE_STEP, batches(1), seed=3)
        loader.rank, loader.world_size = rank, WORLD
        loader.set_epoch(1)
        (half,) = loader
        assert len(half.digit) == ONE_STEP.batch_size // WORLD
        log_probs, logits = model(half.image, half.number)
        losses = total_loss(log_probs, half.digit, logits, half.sum, sum_weight=ONE_STEP.sum_weight)
        (losses.total / WORLD).backward()
    for name, weight in model.named_parameters():
        for state, *_ in parts:
            torch.testing.assert_close(initial[name] - state[name], weight.grad, rtol=0, atol=1e-5, msg=name)


def test_two_processes_end_where_they_would_have_ended_uninterrupted(parts):
    for _, whole, resumed, *_ in parts:
        assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
    *_, history, resumed_history = parts[0]
    assert len(history) == 3 and resumed_history == history


def test_both_processes_count_over_both_halves_of_every_batch(parts):
    first, other = ([row["train_joint_accuracy"] for row in history] for *_, history, _ in parts)
    assert first == other


def torchrun(here: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the command line as two processes, in a folder."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={WORLD}"]
    environment = os.environ | {"PYTHONPATH": str(Path(mnist_adder.__file__).parent.parent)}
    command = [*launch, "-m", "mnist_adder", *arguments]
    return subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)


TRAIN = ("train", "--data", "digits", "--device", "cpu", "--epochs", "1", "--out", "runs/pair")


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    here = tmp_path_factory.mktemp("pair")
    return here, torchrun(here, *TRAIN)


def test_torchrun_leaves_one_run_folder_and_one_report(pair):
    here, done = pair
    assert done.returncode == 0, done.stderr
    assert [run.name for run in (here / "runs").iterdir()] == ["pair"]
    assert '"world_size": 2' in (here / "runs/pair/metrics.json").read_text()
    assert not list((here / "runs/pair").glob(".*"))
    assert done.stdout.count("device: CPU") == done.stdout.count("run folder: ") == 1


@pytest.mark.parametrize(
    "arguments, said",
    [
        (TRAIN, "runs/pair already holds a run"),  # rank 0 alone meets this error
        (("compare", "--data", "digits"), "torchrun is for train only"),
    ],
)
def test_an_error_ends_both_processes_in_one_line(pair, arguments, said):
    done = torchrun(pair[0], *arguments)
    assert done.returncode != 0
    assert done.stderr.count(f"mnist-adder: error: {said}") == done.stderr.count("mnist-adder: error: ") == 1
    assert "Error: " not in done.stderr.replace("ChildFailedError: ", "")
