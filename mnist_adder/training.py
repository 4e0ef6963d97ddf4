"""The training loop: `fit` runs the epochs, `train_epoch` one of them, `train_step` one batch."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .checks import InputError, check_outputs, check_seed, check_split
from .data import Data, Loader, Pairs, Sample, Split, derive_seed
from .devices import Clock, distribute, place, rank, world_size
from .evaluation import evaluate
from .losses import Losses, total_loss
from .metrics import Metrics
from .models import build
from .optim import WeightAverage, make_optimizer, make_scheduler
from .progress import Progress
from .recipes import Recipe

History = list[dict[str, float]]


@dataclass(frozen=True)
class Fitted:
    """A trained network, and how it was trained."""

    model: nn.Module  # with its final (or averaged) weights, in evaluation mode
    history: History  # a row for each epoch; losses in nats, accuracies as fractions
    recipe: Recipe
    seed: int
    withheld: list[list[int]]
    train_seconds: float  # of all epochs, from raw images on the device to the final weights, without the tests
    fine_tuned: bool = False  # it began with the weights of another network


class Checkpoint(Protocol):
    """Keeps a training, such as `runs.files.CheckpointFile`. Each part has a ``state_dict`` and a ``load_state_dict``."""

    def restore(self, parts: dict[str, Any]) -> History:
        """Load the parts of a training that goes on, and return its history; a new training's is empty."""

    def save(self, parts: dict[str, Any], history: History) -> None:
        """Keep the parts and the history after an epoch."""


def fit(
    recipe: Recipe, data: Data, *, model: nn.Module | None = None, device: torch.device | str = "cpu", seed: int = 0,
    withheld: Pairs = (), quiet: bool = False, checkpoint: Checkpoint | None = None,
) -> Fitted:  # fmt: skip
    """Train a recipe, and test after each epoch; processes that torchrun started share every batch.

    Args:
        recipe: the experiment.
        data: `data.train` is trained on; `data.test` is tested after each epoch, for the curves only.
        model: a network to begin with, instead of a fresh one of the recipe; a copy of it is trained.
        device: to train on; the whole training split is moved there.
        seed: decides initial weights, order, numbers, augmentation and dropout.
        withheld: (digit, number) pairs to keep out of training.
        quiet: print nothing.
        checkpoint: keeps the training after each epoch, or lets it go on.

    `InputError` for data or a network of another form, a batch size that the data cannot fill, or an infinite loss.
    """
    check_seed(seed)
    check_split(*data.train)
    check_split(*data.test)
    torch.manual_seed(seed)
    network = place(build(recipe.model if model is None else model), device)
    check_outputs(network)
    loader = make_loader(recipe, data, device, seed=seed, withheld=withheld)
    epochs = recipe.length(data.source)
    optimizer = make_optimizer(recipe, network)
    scheduler = make_scheduler(recipe, optimizer, epochs * len(loader))
    average = WeightAverage(recipe, network, epochs * len(loader))
    replica, clock = distribute(network), Clock(torch.device(device))
    progress = Progress(epochs, data.split, quiet=quiet or rank() > 0)
    parts = {"model": network, "optimizer": optimizer, "scheduler": scheduler, "average": average, "clock": clock}
    history = checkpoint.restore(parts) if checkpoint is not None else []
    for epoch in range(len(history) + 1, epochs + 1):
        seconds = clock.seconds
        with clock:
            torch.manual_seed(derive_seed(seed, epoch, rank()))  # dropout, different for each process
            loader.set_epoch(epoch)
            train = train_epoch(replica, loader, recipe, optimizer, scheduler, average, progress)
        test = evaluate(average.model, data.test, target=data.target).metrics
        row = {"epoch": epoch, "lr": scheduler.get_last_lr()[0]}
        row |= {f"train_{name}": value for name, value in train.items()}
        row |= {f"test_{name}": value for name, value in test.items()}
        if not all(map(math.isfinite, row.values())):
            raise InputError(f"the loss is not finite in epoch {epoch}: choose a rate below {recipe.lr:g} (--lr)")
        history.append(row)
        progress.report(row, clock.seconds - seconds)
        if checkpoint is not None:
            checkpoint.save(parts, history)
    pairs = [list(pair) for pair in withheld]
    return Fitted(average.model.eval(), history, recipe, seed, pairs, clock.seconds, fine_tuned=model is not None)


def train_epoch(
    network: nn.Module, loader: Loader, recipe: Recipe, optimizer: Optimizer, scheduler: LRScheduler,
    average: WeightAverage, progress: Progress,
) -> dict[str, float]:  # fmt: skip
    """Train one epoch; returns its mean losses and accuracies. Nothing in a step waits for the device."""
    network.train()
    metrics = Metrics(loader.split.digits.device)
    for sample in progress.track(loader):
        log_probs, logits, losses = train_step(network, sample, recipe, optimizer)
        scheduler.step()
        average.update()
        metrics.update(sample, log_probs, logits, losses)
    return metrics.compute()


def train_step(
    network: nn.Module, sample: Sample, recipe: Recipe, optimizer: Optimizer
) -> tuple[Tensor, Tensor, Losses]:
    """Forward, backward, step; returns the batch's outputs [B, 10] and [B, 19] and its losses."""
    # As optimizer.zero_grad() does it, in half the time; first, so that the forward pass can use the gradients' memory.
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
    log_probs, logits = network(sample.image, sample.number)
    weights = {"digit_weight": recipe.digit_weight, "sum_weight": recipe.sum_weight}
    losses = total_loss(log_probs, sample.digit, logits, sample.sum, **weights, label_smoothing=recipe.label_smoothing)
    losses.total.backward()
    optimizer.step()
    return log_probs, logits, losses


def make_loader(
    recipe: Recipe, data: Data, device: torch.device | str = "cpu", *, seed: int = 0, withheld: Pairs = ()
) -> Loader:
    """The recipe's batches of `data.train`, on a device."""
    split = Split(*(part.to(device) for part in data.train))
    settings = {"seed": seed, "fixed_numbers": recipe.fixed_numbers, "withheld": withheld, "target": data.target}
    settings["affine"] = recipe.degrees, recipe.translate, recipe.scale, recipe.shear
    return Loader(split, recipe.batch_size, **settings, rank=rank(), world_size=world_size())
