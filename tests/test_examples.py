"""The examples: each is run on few images, and does what a user copies it for."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from helpers import few_images, forkserver, needs_cuda, same

from mnist_adder import (
    RECIPES,
    AdderDataset,
    Data,
    InputError,
    Split,
    Training,
    evaluate,
    fit,
    load_pretrained,
    parameter_count,
    plots,
    read_run,
)
from mnist_adder.runs import read_checkpoint

EXAMPLES = Path(__file__).parents[1] / "examples"
LONGER = {"outliers": 93, "distributed": 60, "published": 450}  # lines
TASKS = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem not in LONGER)


def loaded(name: str) -> ModuleType:
    """Return an example as a module; it is not run."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data() -> Data:
    return few_images(512, 100)


@pytest.fixture(autouse=True)
def short(monkeypatch, tmp_path):
    """Short recipes with small steps, an empty folder, and no window."""
    for name in ("adder", "speedrun"):
        recipe = replace(RECIPES[name], epochs=2, batch_size=32, lr=0.1)
        monkeypatch.setitem(RECIPES, name, recipe)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)


def falls(history: list[dict], name: str = "train_loss", to: float = 0.9) -> bool:
    return history[-1][name] < to * history[0][name]


@pytest.mark.parametrize("name", [*TASKS, *LONGER])
def test_it_is_short_and_does_nothing_when_it_is_imported(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    assert len(text.splitlines()) <= LONGER.get(name, 40)
    assert '\nif __name__ == "__main__":\n' in text


def test_own_network(data):
    run = loaded("own_network").main(data)
    assert type(run.model).__name__ == "OwnNet"
    assert falls(run.history)
    assert evaluate(run.model, data).metrics["digit_accuracy"] == run.metrics["digit_accuracy"]


def test_own_operation(data):
    evaluation = loaded("own_operation").main(data)
    assert torch.equal(evaluation.sums[:, 0], data.test.digits + 9)
    assert torch.equal(evaluation.sums[:, 9], data.test.digits)


def test_own_loss(data):
    example = loaded("own_loss")
    log_probs = torch.tensor([[0.9, 0.1], [0.4, 0.6]]).log()
    loss = example.focal_loss(log_probs, torch.tensor([0, 0]))
    expected = -(0.1**2 * np.log(0.9) + 0.6**2 * np.log(0.4)) / 2
    assert loss.item() == pytest.approx(expected)
    assert falls(example.main(data).history)


def test_own_optimizer(data):
    training = loaded("own_optimizer").main(data)
    assert isinstance(training.optimizer, torch.optim.AdamW)
    assert falls(training.history)
    assert all(row["lr"] == pytest.approx(0.003) for row in training.history)  # it has restarted
    gradients = [p.grad for p in training.model.parameters()]
    assert torch.nn.utils.get_total_norm(gradients) <= 1.001


def test_third_output(data):
    history = loaded("third_output").main(data)
    assert falls(history)
    for row in history:
        assert 0 < row["train_parity_accuracy"] < 1
        assert 0 < row["test_parity_accuracy"] < 1


def test_outliers(data):
    example = loaded("outliers")
    images = data.train.images[:120, None]
    torch.manual_seed(0)
    distorted = example.ELASTIC(images)
    order = torch.randperm(120)  # its next draw: which images are bold, thin and blurred
    torch.manual_seed(0)
    varied = example.augment(images)
    assert varied.min() >= 0
    assert varied.max() <= 255.01
    more_ink = varied.sum((1, 2, 3)) - distorted.sum((1, 2, 3))
    assert (more_ink[order[:10]] > 0).all()  # bold
    assert (more_ink[order[10:20]] < 0).all()  # thin
    assert torch.equal(varied[order[30:]], distorted[order[30:]])

    sample = data.dataset(data.train)[:200]
    broken = example.broken_digits(sample)
    assert broken.shape == (16, 1, 28, 28)
    sureness = {}
    for kind in (example.OutlierTraining, Training):
        training = kind(replace(example.RECIPE, epochs=2), data)
        history = list(training)
        assert falls(history, "train_digit_loss")
        with torch.no_grad():
            sureness[kind] = training.model.eval().features(broken).max(1).values.mean()
    assert sureness[example.OutlierTraining] < sureness[Training]


def test_regression(data):
    training = loaded("regression").main(data)
    assert falls(training.history, "train_sum_error")
    plots.curves(training.history, "few")  # of a loss without one of its parts


def test_tensorboard(data):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    training = loaded("tensorboard_log").main(data)
    events = EventAccumulator(str(next(Path("runs").iterdir()))).Reload()
    values = [event.value for event in events.Scalars("test_joint_accuracy")]
    assert values == pytest.approx([row["test_joint_accuracy"] for row in training.history])


def test_early_stopping_keeps_the_best_epoch(data, monkeypatch):
    monkeypatch.setitem(RECIPES, "adder", replace(RECIPES["adder"], epochs=20))
    wrong = Split(data.test.images, (data.test.digits + 1) % 10)  # its loss rises, once it learns
    training = loaded("early_stopping").main(replace(data, test=wrong, fold=0))
    assert len(training.history) < 10
    losses = [row["test_digit_loss"] + row["test_sum_loss"] for row in training.history]
    assert min(losses) == losses[-1]
    run = read_run("runs/early-stopping-001")
    assert run.metrics["epochs"] == len(training.history)
    assert run.metrics["sum_loss"] == pytest.approx(training.history[-1]["test_sum_loss"])


def test_pruning_search():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = loaded("pruning_search").main(few_images(128, 30), trials=6)
    states = [trial.state.name for trial in study.trials]
    assert states.count("COMPLETE") >= 4
    assert set(states) <= {"COMPLETE", "PRUNED"}
    assert set(study.best_params) == {"lr", "sum_weight"}


def test_bf16(data):
    training = loaded("bf16").main(data)
    assert falls(training.history)
    exact = fit(RECIPES["speedrun"], data, quiet=True)
    assert training.history != exact.history  # it did compute in another precision
    assert all(p.dtype == torch.float32 for p in training.model.parameters())


def test_own_images():
    data = few_images(128, 30)
    training = loaded("own_images").main(data)
    assert training.data.source == "own.npz"
    assert torch.equal(training.data.train.images, data.train.images)
    assert falls(training.history)


def test_numbers_0_99():
    training = loaded("numbers_0_99").main(few_images(256, 30))
    assert training.data.sum_classes == 109
    assert evaluate(training.model, training.data).truth_table.shape == (10, 100)
    assert falls(training.history)


def test_two_images():
    data = few_images(256, 50)
    training = loaded("two_images").main(replace(data, fold=0))
    assert training.data.test_name == "validation"
    assert falls(training.history)
    assert training.history[-1]["test_digit_accuracy"] > 0.1  # of a hundred pairs of digits
    first = training.data.train.digits // 10
    assert torch.equal(first, data.train.digits)


def test_fine_tune(data):
    before = load_pretrained().cnn.state_dict()
    training = loaded("fine_tune").main(data)
    after = training.model.cnn.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert falls(training.history, "train_sum_loss", to=0.97)


def test_export_runs_without_the_package(data, monkeypatch):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    loaded("export").main(data)
    sample = AdderDataset(*data.test)[:5]
    inputs = {"image": sample.image.numpy(), "number": sample.number.numpy()}
    with torch.no_grad():
        expected = load_pretrained()(sample.image, sample.number)
        for name in [name for name in sys.modules if name.split(".")[0] == "mnist_adder"]:
            monkeypatch.setitem(sys.modules, name, None)  # it cannot be imported
        network = torch.export.load("adder.pt2").module()
        outputs = network(sample.image, sample.number)
    onnx_outputs = runtime.InferenceSession("adder.onnx").run(None, inputs)
    for found in (outputs, onnx_outputs):
        for output, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(output, right, atol=1e-3)


def test_dataloader_trains_as_a_script_whose_workers_import_it(data):
    np.savez(
        "few.npz",
        x_train=data.train.images.numpy(),
        y_train=data.train.digits.numpy(),
        x_test=data.test.images.numpy(),
        y_test=data.test.digits.numpy(),
    )
    text = (EXAMPLES / "dataloader.py").read_text().replace('"auto"', '"few.npz"')
    start = (
        "    import multiprocessing\n\n"
        "    multiprocessing.set_start_method('forkserver')  # as 'spawn', with fewer imports\n"
        "    multiprocessing.set_forkserver_preload(['mnist_adder'])\n"
    )
    guard = 'if __name__ == "__main__":\n'
    Path("script.py").write_text(text.replace(guard, guard + start))
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    losses = [float(line.split()[1]) for line in done.stdout.splitlines()[1:]]
    assert len(losses) == 3
    assert losses[-1] < 0.8 * losses[0]


def test_plot_runs(data):
    pytest.importorskip("pandas")
    figure = loaded("plot_runs").main(data)
    assert len(figure.axes[0].lines) == 2
    assert Path("runs.png").stat().st_size > 5000


@pytest.mark.skipif("SLOW" not in os.environ, reason="compiling takes minutes: set SLOW=1")
def test_compile(data):
    run = loaded("compile").main(data)
    assert falls(run.history)
    assert evaluate(run.model, data).metrics["sum_loss"] == pytest.approx(run.metrics["sum_loss"])


WORLD = 2
PAIR = replace(RECIPES["adder"], epochs=3, batch_size=64)


def run_part(rank: int, ports: list[int], folders: list[str], kill_in: str) -> None:
    """Be one of the processes; in the folder `kill_in`, rank 0 kills itself after two epochs."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(WORLD))
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    plots.run_figures = lambda *_: {}
    example = loaded("distributed")
    train_epoch = example.DistributedTraining.train_epoch

    def killed(training):
        if rank == 0 and folder == kill_in and len(training.history) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return train_epoch(training)

    example.DistributedTraining.train_epoch = killed
    for port, folder in zip(ports, folders, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        example.main(few_images(256, 50), folder, PAIR)


def run_both(folders: list[str], kill_in: str = "") -> None:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in folders]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    forkserver()
    mp.start_processes(run_part, (ports, folders, kill_in), WORLD, start_method="forkserver")


def test_two_processes_that_are_killed_end_as_if_they_were_not():
    with pytest.raises(mp.ProcessExitedException):
        run_both(["whole", "killed"], kill_in="killed")
    assert len(read_checkpoint("killed")["history"]) == 2
    run_both(["killed"])
    whole = read_run("whole")
    again = read_run("killed")
    assert len(whole.history) == 3
    assert falls(whole.history)
    assert same(again.model, whole.model)


@pytest.fixture(scope="module")
def published() -> ModuleType:
    return loaded("published")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Cascade", 21_843),
        ("TwoSoftmaxHeads", 35_357),
        ("TwoHeads", 35_357),
        ("SharedTrunk", 17_286),
    ],
)
def test_published_networks_have_the_published_parameters(published, name, parameters):
    assert parameter_count(getattr(published, name)()) == parameters


def test_the_cascade_sees_raw_pixels(published):
    images = torch.tensor([0, 255], dtype=torch.uint8).expand(2, 1, 28, 14, 2).flatten(3)
    pixels = published.Cascade().cnn[0](AdderDataset(images, torch.tensor([0, 1]))[:].image)
    torch.testing.assert_close(pixels, images.float(), atol=1e-3, rtol=0)


def test_the_stuck_network_leaves_its_digit_head_alone(published, data):
    training = Training(replace(published.STUCK, epochs=1), data)
    digit_head = training.model.digit_head[0].weight.clone()
    sum_head = training.model.sum_head[0].weight.clone()
    list(training)
    assert torch.equal(training.model.digit_head[0].weight, digit_head)
    assert not torch.equal(training.model.sum_head[0].weight, sum_head)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
def test_averaged_weights_are_the_mean_over_the_last_quarter(published, device):
    data = few_images(128, 30)
    recipe = replace(published.SHARED_TRUNK, epochs=4)

    class Noted(published.AveragedTraining):
        def train_step(self, sample):
            measured = super().train_step(sample)
            noted.append(self.model.cnn[0].weight.detach().clone())
            return measured

    noted = []
    training = Noted(recipe, data, device=device)
    list(training)
    steps = len(training.loader)
    mean = torch.stack(noted[-steps:]).mean(0)
    torch.testing.assert_close(training.model.cnn[0].weight.detach(), mean)
    metrics = evaluate(training.model, data).metrics
    assert metrics["sum_loss"] == training.history[-1]["test_sum_loss"]


def test_a_comparison_goes_on_after_an_interruption(published, monkeypatch):
    recipes = [
        replace(published.SHARED_TRUNK, epochs=3),
        replace(RECIPES["speedrun"], epochs=1),
    ]
    # The published figures are beside those on MNIST only.
    data = replace(few_images(128, 30), source="mnist")
    whole = published.compare(recipes, data, seeds=(3, 4), folder="whole", quiet=True)

    train_epoch = Training.train_epoch
    begun = []

    def interrupted(training):
        begun.append((training.recipe.name, training.seed, len(training.history)))
        if begun[-1] == ("shared-trunk", 4, 2):
            raise KeyboardInterrupt
        return train_epoch(training)

    monkeypatch.setattr(Training, "train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        published.compare(recipes, data, seeds=(3, 4), folder="parts", quiet=True)
    monkeypatch.setattr(Training, "train_epoch", train_epoch)
    parts = published.compare(recipes, data, seeds=(3, 4), folder="parts", quiet=True)
    names = ("recipe", "seed", "digit_loss", "sum_loss", "joint_accuracy")
    assert [[row[name] for name in names] for row in parts] == [
        [row[name] for name in names] for row in whole
    ]
    table = Path("parts/comparison.md").read_text()
    assert "| `shared-trunk` | 17,286 | 3 | 3, 4 | " in table
    assert "| published C (`shared-trunk`) | 17.3 K | 20 | 1 | 99.32 | 99.22 | — | 98.55 |" in table
    assert Path("parts/comparison.png").stat().st_size > 5000
    with pytest.raises(InputError, match="whose lr differs"):
        published.compare(
            [replace(recipes[0], lr=0.1)], data, seeds=(3,), folder="parts", quiet=True
        )
