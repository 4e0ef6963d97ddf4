"""The training and test loop, on CUDA where there is one and on the CPU where there is none."""

import copy
import itertools
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn
from tqdm import tqdm

from .data import Batches, Data, InputError, Sample, Split, load_data, one_hot_number
from .evaluation import evaluate
from .losses import total_loss
from .models import TwoInputNet, build
from .recipes import Recipe

DEVICES = ("auto", "cpu", "cuda", "mps")
BAR_SECONDS = 0.25  # the bar reads its figures, and waits for the device, this seldom


def gpu_check(seed: int = 0, device: str = "auto", *, deterministic: bool = False) -> torch.device:
    """Find the device, seed every random generator, print what was found, and return the device.

    Args:
        seed: of PyTorch's generators on all devices: initial weights and dropout.
        device: ``"auto"`` takes CUDA, else MPS, else the CPU.
        deterministic: ask for deterministic kernels, which the CPU has anyway.

    Raises:
        InputError: an unknown device, or one that is not there.
    """
    if device not in DEVICES:
        raise InputError(f"unknown device {device!r}: choose one of {', '.join(DEVICES)}")
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        device = next(name for name, is_there in there.items() if is_there)
    if not there[device]:
        raise InputError(f"there is no {device} device here: use --device auto or --device cpu")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    found = torch.device(device)
    if device == "cuda":
        found = torch.device("cuda", dist.get_node_local_rank(fallback_rank=0))
        if found.index >= torch.cuda.device_count():
            raise InputError(f"there is no GPU for process {found.index + 1} of this machine: start fewer")
        torch.cuda.set_device(found)
    name, python = device_name(found), platform.python_version()
    print(f"device: {name} | torch {torch.__version__} | Python {python} | seed {seed}")
    return found


def device_name(device: torch.device) -> str:
    """The device in words, as a report of times must name it."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name} ({properties.total_memory / 2**30:.0f} GiB), CUDA {torch.version.cuda}"
    if device.type == "mps":
        return f"Apple GPU ({platform.machine()})"
    threads = torch.get_num_threads()
    return f"CPU ({platform.machine()}, {threads} thread{'s' * (threads > 1)})"


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started, and leave together. Rank 0 alone is heard.

    NCCL carries the GPUs' tensors and gloo the CPU's.
    """
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        with ExitStack() as silence:
            if dist.get_rank() > 0:
                nowhere = silence.enter_context(open(os.devnull, "w"))
                silence.enter_context(redirect_stdout(nowhere))
                silence.enter_context(redirect_stderr(nowhere))
            yield
    except SystemExit:
        dist.barrier()
        raise
    else:
        dist.barrier()  # torchrun ends the others as soon as one fails: rank 0 must have had its say
    finally:
        dist.destroy_process_group()


def ranks() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


@contextmanager
def agreed() -> Iterator[None]:
    """Around what every process does: an `InputError` of any is raised by all, so that none is left waiting."""
    error = None
    try:
        yield
    except InputError as caught:
        error = caught
    errors = [error]
    if dist.is_initialized():
        errors = [None] * dist.get_world_size()
        dist.all_gather_object(errors, error)
    for error in filter(None, errors):
        raise error


def load_once(source: str, data_dir: str | Path | None = None, *, validate: int | None = None) -> Data:
    """`load_data` in a process group: one process of each machine first, which downloads what is missing.

    All take the source that rank 0 found.
    """
    data = None
    with agreed():
        if dist.get_node_local_rank(fallback_rank=0) == 0:
            data = load_data(source, data_dir, validate=validate)
    found = [data and data.source]
    if dist.is_initialized():
        dist.broadcast_object_list(found)
    with agreed():
        if data is None or data.source != found[0]:
            data = load_data(found[0], data_dir, validate=validate)
    return data


@dataclass(frozen=True)
class Fitted:
    """What a training leaves behind."""

    model: TwoInputNet  # with its final (or averaged) weights, in evaluation mode
    history: list[dict[str, float]]  # a row per epoch; losses in nats, accuracies as fractions
    train_seconds: float  # from raw uint8 tensors on the device to the final weights, without tests
    warmup_seconds: float


def fit(
    recipe: Recipe,
    data: Data,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    allowed: Tensor | None = None,
    bar: bool = True,
    state: dict[str, Any] | None = None,
    keep: Callable[[dict[str, Any]], None] | None = None,
) -> Fitted:
    """Train a recipe, from scratch or from a kept state, testing after each epoch.

    In a process group (see `torch.distributed`), each rank takes its share of every batch and gradients
    are averaged; only rank 0 tests and prints. Weights, and averages of them, are the same on all ranks.
    BatchNorm sees each rank's own share: its running statistics are rank 0's, given to all before a step.

    Args:
        recipe: the experiment.
        data: `data.train` is trained on; `data.test` is tested after each epoch, for the curves only.
        device: to train on; the whole training split is moved there.
        seed: of initial weights, data order, numbers, augmentation and dropout.
        allowed: bool [10, 10]; (digit, number) pairs that are `False` are withheld from training.
        bar: show progress and the results of the tests.
        state: what `keep` was given by a training with the same other arguments. This one ends with the
            weights and the history that the other ends with, bit for bit on the same device and threads.
        keep: called on rank 0, before the first epoch and after each, with the whole state: plain values
            and the tensors that training goes on with, to be copied or saved before it returns.

    Raises:
        InputError: a batch size the data cannot fill, a loss that stopped being finite, or the state of
            another training.
    """
    rank, world = ranks()
    device, bar = torch.device(device), bar and rank == 0
    torch.manual_seed(seed)
    model = build(recipe.model).to(device)
    warmup_seconds = _warm_up(model, recipe, device)
    raw = Split(*(part.to(device) for part in data.train))

    started = _now(device)
    batches = make_batches(recipe, raw, seed, allowed=allowed, rank=rank, world=world)
    epochs = recipe.length(data.source)
    optimizer = make_optimizer(recipe, model)
    scheduler = make_scheduler(recipe, optimizer, epochs * len(batches))
    average = Average(recipe, model, epochs * len(batches))
    network: nn.Module = model
    if world > 1:
        network = DistributedDataParallel(model, [device] if device.type == "cuda" else None)
        torch.manual_seed(seed + rank)  # dropout draws other units on each rank
    train_seconds = _now(device) - started
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "average": average}
    history: list[dict[str, float]] = []

    def hand_out() -> None:
        random = [_random_state(device)]
        if world > 1:
            random = [None] * world
            dist.all_gather_object(random, _random_state(device))
        with agreed():
            if rank == 0:
                whole = {name: part.state_dict() for name, part in parts.items()}
                whole |= {"batches": batches.generator.get_state(), "random": random}
                keep(whole | {"history": history, "train_seconds": train_seconds})

    if state is not None:
        try:
            for name, part in parts.items():
                part.load_state_dict(state[name])
            batches.generator.set_state(state["batches"])  # fixed numbers were drawn again, from the seed
            _set_random_state(device, state["random"][rank])
            history, train_seconds = list(state["history"]), train_seconds + state["train_seconds"]
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise InputError("the state to go on from is that of another training") from error
    elif keep:
        hand_out()
    for epoch in range(len(history) + 1, epochs + 1):
        started = _now(device)
        title = f"epoch {epoch:2}/{epochs}"
        train = train_epoch(network, batches, recipe, optimizer, scheduler, average, title, bar)
        train_seconds += _now(device) - started
        row = {"epoch": epoch, "lr": scheduler.get_last_lr()[0]}
        row |= {f"train_{name}": value for name, value in train.items()}
        if rank == 0:
            test = evaluate(average.model, data.test).metrics
            row |= {f"test_{name}": value for name, value in test.items()}
            if bar:
                print(f"  {data.split:10} {describe(test)}", flush=True)
        with agreed():
            if not all(map(math.isfinite, row.values())):
                raise InputError(
                    f"the loss stopped being finite in epoch {epoch}: lower the rate ({recipe.lr:g})"
                )
        history.append(row)
        if keep:
            hand_out()
    return Fitted(average.model.eval(), history, train_seconds, warmup_seconds)


def train_epoch(
    network: nn.Module,
    batches: Batches,
    recipe: Recipe,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    average: "Average",
    title: str = "",
    bar: bool = False,
) -> dict[str, float]:
    """One epoch; returns its mean losses and accuracies. Nothing in a step waits for the device."""
    network.train()
    # glibc gives freed memory back to Linux, to be handed it again page by page in the next step, until
    # a block of 32 MB, the most that moves this threshold (see mallopt(3)), has been freed once.
    torch.empty(2**25 - 2**13, dtype=torch.uint8)
    tally = Tally(batches.split.digits.device)
    # On standard output, like the lines of the tests between which it stands.
    with tqdm(
        desc=title, total=len(batches), disable=not bar, file=sys.stdout, dynamic_ncols=True
    ) as progress:
        shown = time.monotonic()
        for sample in batches:
            train_step(network, sample, recipe, optimizer, tally)
            scheduler.step()
            average.update()
            progress.update()
            if bar and time.monotonic() - shown > BAR_SECONDS:
                progress.set_postfix_str(describe(tally.means()), refresh=False)
                shown = time.monotonic()
        means = tally.means(of_all_ranks=True)
        progress.set_postfix_str(describe(means), refresh=False)
    return means


def train_step(
    network: nn.Module, sample: Sample, recipe: Recipe, optimizer: Optimizer, tally: "Tally"
) -> None:
    """Forward, backward, step; gives the batch's outputs to the tally."""
    image, number, digit, sum = sample
    optimizer.zero_grad(set_to_none=True)  # first, so that the forward pass finds their memory free
    digit_log_probabilities, sum_scores = network(image, number)
    losses = total_loss(
        digit_log_probabilities,
        digit,
        sum_scores,
        sum,
        digit_weight=recipe.digit_weight,
        sum_weight=recipe.sum_weight,
        label_smoothing=recipe.label_smoothing,
    )
    losses.total.backward()
    optimizer.step()
    tally.add(digit_log_probabilities, digit, sum_scores, sum, losses.digit, losses.sum)


COUNTED = ("samples", "digit_accuracy", "sum_accuracy", "joint_accuracy", "digit_loss", "sum_loss")


class Tally:
    """Means of the losses and accuracies of training steps, kept on the device.

    Steps of equal size are counted many at a time: a dozen small operations after each would cost 2 % of it.
    """

    AT_ONCE = 64  # steps

    def __init__(self, device: torch.device) -> None:
        self._totals = torch.zeros(len(COUNTED), device=device)
        self._uncounted: list[list[Tensor]] = []

    def add(self, *step: Tensor) -> None:
        """Take in digit log-probabilities, digits, sum scores, sums, digit loss and sum loss of a step."""
        self._uncounted.append([tensor.detach() for tensor in step])
        if len(self._uncounted) == self.AT_ONCE:
            self._totals += self._count()
            self._uncounted.clear()

    def means(self, *, of_all_ranks: bool = False) -> dict[str, float]:
        """So far, by name; waits for the device. Asking changes nothing, not even a rounding."""
        totals = self._totals + (self._count() if self._uncounted else 0)
        if of_all_ranks and dist.is_initialized():
            dist.all_reduce(totals)
        samples, *totals = totals.tolist()
        return {name: total / samples for name, total in zip(COUNTED[1:], totals, strict=True)}

    def _count(self) -> Tensor:
        *outputs, digit_losses, sum_losses = zip(*self._uncounted, strict=True)
        digit_log_probabilities, digit, sum_scores, sum = map(torch.cat, outputs)
        digit_right = digit_log_probabilities.argmax(1) == digit
        sum_right = sum_scores.argmax(1) == sum
        counted = torch.stack([torch.ones_like(digit_right), digit_right, sum_right, digit_right & sum_right])
        losses = torch.stack([torch.stack(digit_losses), torch.stack(sum_losses)]).mean(1)
        return torch.cat([counted.sum(1), losses * len(digit)])


def describe(metrics: dict[str, float]) -> str:
    """Losses and accuracies on one line, for the bar and the logs."""
    return (
        f"nll {metrics['digit_loss']:.4f}, ce {metrics['sum_loss']:.4f}, "
        f"digit {metrics['digit_accuracy']:.2%}, sum {metrics['sum_accuracy']:.2%}, "
        f"joint {metrics['joint_accuracy']:.2%}"
    )


def make_batches(recipe: Recipe, split: Split, seed: int, **limits: Any) -> Batches:
    """The recipe's batches of a split; `limits` are `Batches`' `allowed`, `rank` and `world`."""
    return Batches(
        split,
        recipe.batch_size,
        seed=seed,
        fixed_numbers=recipe.fixed_numbers,
        rotate=recipe.rotate,
        shift=recipe.shift,
        zoom=recipe.zoom,
        slant=recipe.slant,
        **limits,
    )


def make_optimizer(recipe: Recipe, model: nn.Module) -> Optimizer:
    """The recipe's optimiser, in PyTorch's fused form: one kernel for all parameters."""
    decay = recipe.weight_decay
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), recipe.lr, weight_decay=decay, fused=True)
    return torch.optim.SGD(
        model.parameters(),
        recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=decay,
        fused=True,
    )


def make_scheduler(recipe: Recipe, optimizer: Optimizer, steps: int) -> LRScheduler:
    """The learning rate over `steps` steps: constant, or one cycle up to `recipe.lr` and down to 0."""
    if recipe.schedule == "constant":
        return LambdaLR(optimizer, lambda step: 1.0)
    # OneCycleLR divides by the number of rising steps less one.
    rising = 2 / steps if recipe.rising * steps == 1 else recipe.rising
    return OneCycleLR(optimizer, recipe.lr, steps, pct_start=rising, cycle_momentum=False)


class LRRange(NamedTuple):
    """What a learning-rate range test saw, a value per step."""

    rates: list[float]
    losses: list[float]  # of the batch, before its step; the recipe's weighted total, in nats
    smoothed: list[float]
    suggestion: float | None  # None where the loss never fell


def lr_range(
    recipe: Recipe,
    data: Data,
    *,
    model: TwoInputNet | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    lowest: float = 1e-5,
    highest: float = 10.0,
    steps: int = 200,
) -> LRRange:
    """Train while the rate rises exponentially, and look where the loss falls fastest.

    The learning-rate range test of Smith 2017, "Cyclical learning rates for training neural networks",
    section 3.3. The losses are smoothed exponentially, with the bias of the first values corrected
    (Kingma and Ba 2015, section 3). The suggestion is the rate in the middle of the span, a third of a
    decade wide, in which the smoothed loss falls most on its way to its lowest value. The test ends early
    when the smoothed loss passes four times its lowest value, or the loss is not finite.

    Args:
        recipe: whose model, optimiser, batches and loss; its rate and schedule are not used.
        data: `data.train` is trained on.
        model: to begin with instead of a fresh one; a copy is trained.
        device, seed: see `fit`.
        lowest, highest: rates, 0 < lowest < highest.
        steps: batches, at least 20.

    Raises:
        InputError: rates or steps out of range, or a loss that is not finite from the start.
    """
    if not (0 < lowest < highest < math.inf and steps >= 20):
        raise InputError("a range test needs 0 < lowest rate < highest rate and 20 steps or more")
    torch.manual_seed(seed)
    trial = (copy.deepcopy(model) if model else build(recipe.model)).to(device).train()
    raw = Split(*(part.to(device) for part in data.train))
    batches = make_batches(recipe, raw, seed)
    optimizer = make_optimizer(recipe, trial)
    growth = (highest / lowest) ** (1 / (steps - 1))
    keep = 1 - 20 / steps  # the smoothing looks back over about a twentieth of the steps
    rates, losses, smoothed, average = [], [], [], 0.0
    served = itertools.chain.from_iterable(itertools.repeat(batches))
    for step, sample in enumerate(itertools.islice(served, steps)):
        for group in optimizer.param_groups:
            group["lr"] = lowest * growth**step
        tally = Tally(raw.digits.device)
        train_step(trial, sample, recipe, optimizer, tally)
        means = tally.means()
        loss = recipe.digit_weight * means["digit_loss"] + recipe.sum_weight * means["sum_loss"]
        if not math.isfinite(loss):
            break
        average = keep * average + (1 - keep) * loss
        rates.append(lowest * growth**step)
        losses.append(loss)
        smoothed.append(average / (1 - keep ** (step + 1)))
        if smoothed[-1] > 4 * min(smoothed):
            break
    if not losses:
        raise InputError("the loss is not finite before the first step: begin with other weights")
    span = round(math.log(10 ** (1 / 3), growth))
    falls = [smoothed[i] - smoothed[i + span] for i in range(smoothed.index(min(smoothed)) + 1 - span)]
    steepest = max(range(len(falls)), key=falls.__getitem__, default=None)
    found = steepest is not None and falls[steepest] > 0
    return LRRange(rates, losses, smoothed, rates[steepest + span // 2] if found else None)


class Average:
    """The weights a recipe is judged by: averaged over steps (EMA, SWA) where it asks, else the model's.

    BatchNorm's running statistics are averaged with the weights.
    """

    def __init__(self, recipe: Recipe, model: TwoInputNet, steps: int) -> None:
        self._current, self._averaged, self._skip = model, None, 0
        span = max(1, round(recipe.averaged_share * steps))
        if recipe.averaging == "ema":
            average = get_ema_multi_avg_fn(1 - 1 / span)
        elif recipe.averaging == "swa":
            average, self._skip = _swa, steps - span
        if recipe.averaging:
            self._averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)

    def update(self) -> None:
        """Take in the weights after a step."""
        self._skip -= 1
        if self._averaged is not None and self._skip < 0:
            self._averaged.update_parameters(self._current)

    def state_dict(self) -> dict[str, Any]:
        """The average so far, and how many steps it has still to wait for."""
        return {"skip": self._skip, "averaged": self._averaged and self._averaged.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of another average of the same recipe."""
        self._skip = state["skip"]
        if self._averaged is not None:
            self._averaged.load_state_dict(state["averaged"])

    @property
    def model(self) -> TwoInputNet:
        """With the averaged weights, from the step on which averaging begins."""
        if self._averaged is None or self._skip >= 0:
            return self._current
        return self._averaged.module


def _swa(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
    """The equal average; of BatchNorm's integer step counts, which it cannot average, the last."""
    if averaged[0].is_floating_point():
        get_swa_multi_avg_fn()(averaged, current, count)
    else:
        torch._foreach_copy_(averaged, current)


def _warm_up(model: TwoInputNet, recipe: Recipe, device: torch.device) -> float:
    """Let libraries choose their kernels, on a copy of the model and random tensors; returns seconds."""
    started = _now(device)
    with torch.random.fork_rng(device_type=device.type if device.type != "cpu" else "cuda"):
        trial = copy.deepcopy(model)
        classes = torch.arange(recipe.batch_size, device=device) % 10
        image = torch.rand(recipe.batch_size, 1, 28, 28, device=device)
        sample = Sample(image, one_hot_number(classes), classes, 2 * classes)
        tally = Tally(device)
        optimizer = make_optimizer(recipe, trial)
        for _ in range(3):
            train_step(trial, sample, recipe, optimizer, tally)
        tally.means()
    return _now(device) - started


def _random_state(device: torch.device) -> list[Tensor]:
    """Of PyTorch's own generators, on the CPU and on the current device: what dropout draws from."""
    states = [torch.get_rng_state()]
    return states if device.type == "cpu" else [*states, torch.get_device_module(device).get_rng_state()]


def _set_random_state(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[1])


def _now(device: torch.device) -> float:
    """Seconds on a steady clock, once the device has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()
