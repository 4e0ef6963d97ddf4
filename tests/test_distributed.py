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
from mnist_adder.data import Data, Split, load_data
from mnist_adder.losses import total_loss
from mnist_adder.models import build
from mnist_adder.recipes import RECIPES
from mnist_adder.training import fit, make_batches

WORLD = 2
# One step from the initial weights to these minus the gradient.
ONE_STEP = dataclasses.replace(
    RECIPES["adder"],
    digits_epochs=1,
    lr=1.0,
    momentum=0.0,
    nesterov=False,
    weight_decay=0.0,
    schedule="constant",
)
# Nothing that takes many epochs to learn: no learned adder, no augmentation.
SHORT = dataclasses.replace(
    RECIPES["exact-adder"], digits_epochs=6, batch_size=64, rotate=0, shift=0, zoom=0, slant=0
)
# Each rank's dropout draws from its own generator.
DROPPING = dataclasses.replace(RECIPES["cascade"], digits_epochs=2)


def one_batch() -> Data:
    """Bundled digits, cut to a training set of one batch."""
    data = load_data("digits")
    return dataclasses.replace(data, train=Split(*(part[: ONE_STEP.batch_size] for part in data.train)))


def fit_share(rank: int, folder: Path) -> None:
    """One of the processes; leaves what it trained in `folder`."""
    torch.set_num_threads(1)  # as torchrun does: more threads than cores wait for each other
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    step = fit(ONE_STEP, one_batch(), seed=3)
    short = fit(SHORT, load_data("digits"), bar=False)

    def keep(state):
        if len(state["history"]) == 1:
            torch.save(state, folder / "state.pt")

    whole = fit(DROPPING, load_data("digits"), bar=False, keep=keep)
    dist.barrier()
    state = torch.load(folder / "state.pt", weights_only=True)
    resumed = fit(DROPPING, load_data("digits"), bar=False, state=state)
    pair = whole.model.state_dict(), resumed.model.state_dict()
    torch.save((step.model.state_dict(), short.history, *pair), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def shares(tmp_path_factory) -> list:
    folder = tmp_path_factory.mktemp("shares")
    mp.spawn(fit_share, (folder,), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


@pytest.fixture
def one_thread():
    """As the processes have: with more, a sum is rounded otherwise, and a maximum may move."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_first_gradients_are_those_of_one_process_that_averages_the_half_batches(shares):
    torch.manual_seed(3)
    model = build(ONE_STEP.model)
    initial = {name: weight.clone() for name, weight in model.named_parameters()}
    for rank in range(WORLD):
        (half,) = make_batches(ONE_STEP, one_batch().train, 3, rank=rank, world=WORLD)
        assert len(half.digit) == ONE_STEP.batch_size // WORLD
        digit_log_probabilities, sum_scores = model(half.image, half.number)
        loss = total_loss(digit_log_probabilities, half.digit, sum_scores, half.sum)
        (loss.total / WORLD).backward()
    for name, weight in model.named_parameters():
        for state, *_ in shares:
            gradient = initial[name] - state[name]
            torch.testing.assert_close(gradient, weight.grad, rtol=0, atol=1e-5, msg=name)


def test_two_processes_become_as_accurate_as_one_with_the_same_global_batch(shares):
    alone = fit(SHORT, load_data("digits"), bar=False).history[-1]
    together, other = (history[-1] for _, history, *_ in shares)
    assert alone["test_joint_accuracy"] > 0.9
    assert together["test_joint_accuracy"] == pytest.approx(alone["test_joint_accuracy"], abs=0.04)
    # Counted over both halves of every batch, by both ranks; only rank 0 tests.
    assert together["train_joint_accuracy"] == other["train_joint_accuracy"]
    assert "test_joint_accuracy" not in other


def test_two_processes_end_where_they_would_have_ended_uninterrupted(shares):
    for *_, whole, resumed in shares:
        assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def torchrun(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the command line as two processes, in `folder`."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={WORLD}"]
    return subprocess.run(
        [*launch, "-m", "mnist_adder", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(mnist_adder.__file__).parent.parent)},
        capture_output=True,
        text=True,
    )


TRAIN = ("train", "--data", "digits", "--device", "cpu", "--epochs", "1", "--out", "runs/pair")


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("pair")
    return folder, torchrun(folder, *TRAIN)


def test_torchrun_leaves_one_run_folder_and_one_report(pair):
    folder, done = pair
    assert done.returncode == 0, done.stderr
    assert [run.name for run in (folder / "runs").iterdir()] == ["pair"]
    assert '"processes": 2' in (folder / "runs/pair/metrics.json").read_text()
    assert done.stdout.count("device: CPU") == done.stdout.count("run folder: ") == 1


def test_an_error_of_rank_0_alone_ends_both_processes_in_one_line(pair):
    folder, _ = pair
    done = torchrun(folder, *TRAIN)
    assert done.returncode != 0
    assert done.stderr.count("mnist-adder: error: runs/pair already holds a run") == 1
    assert "exitcode  : 2" in done.stderr  # torchrun ends the other process if that is not quicker
