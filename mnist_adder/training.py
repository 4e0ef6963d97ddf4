"""The training loop: `Training` trains an epoch each time it is asked for one.

    training = Training(RECIPES["adder"], load_data("mnist"))
    for row in training:
        print(row)

The loop is the caller's: print the row, keep a checkpoint, draw, or leave the loop early. `fit` is
such a loop. A subclass that overrides one of the small methods of `Training` changes that part.
"""

import copy
import math
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR
from tqdm import tqdm

from .checks import check_network, check_seed, serialise, unwrapped
from .data import Data, Loader, Pairs, Sample, Split
from .errors import InputError
from .evaluation import evaluate
from .losses import total_loss
from .recipes import Recipe

Outputs = tuple[Tensor, ...]  # log_probs [B, 10] and logits [B, 19] first
Row = dict[str, float]  # of the history: losses in nats, accuracies as fractions


class Training:
    """A training that goes on: each iteration trains an epoch, tests, and gives a row.

    A row is a dict: epoch, lr (at the end of the epoch), seconds (of training, without the test),
    and what the training and the test measured, such as train_sum_loss and test_joint_accuracy. You
    may add entries to a row. `model` is the network that was tested, `history` the list of rows.

    You may leave the loop between two epochs and go on later. A training that is interrupted within
    an epoch cannot go on; `train_run` keeps checkpoints for this case.

    What is random in an epoch (order, numbers, augmentation, dropout) is decided by the seed and
    the number of the epoch alone. It comes from torch's global generator: two trainings in two
    threads of one process disturb each other.

    Args:
        recipe: the experiment.
        data: ``data.train`` is trained on; ``data.test`` is tested after each epoch.
        model: a network to begin with, instead of a fresh one of the recipe; a copy is trained. One
            in evaluation mode is put into training mode. One in training mode is left as it is, so
            that a part which you froze with ``.eval()`` stays frozen.
        device: to train on; all training images are moved there.
        seed: decides everything random, the initial weights too.
        withheld: (digit, number) pairs to keep out of training.

    Raise `InputError` for a network that does not fit the data or cannot be saved, a batch size
    that the data cannot fill, or, while it runs, a loss that is not finite.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Data,
        *,
        model: nn.Module | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
        withheld: Pairs = (),
    ) -> None:
        self.recipe = recipe
        self.data = data
        self.device = torch.device(device)
        self.seed = check_seed(seed)
        self.withheld = [(int(digit), int(number)) for digit, number in withheld]
        self.epochs = recipe.epochs_on(data.source)
        self.fine_tuned = model is not None
        self.history: list[Row] = []

        torch.manual_seed(self.seed)
        network = recipe.model() if model is None else copy.deepcopy(model)
        self.model = network.to(self.device)
        if not self.model.training:
            self.model.train()
        torch.manual_seed(self.seed)  # so that fixed numbers do not depend on the network
        self.loader = self.make_loader()
        check_network(self.model, self.loader.dataset[:2], data.digit_classes)
        self.optimizer = self.make_optimizer()
        self.scheduler = self.make_scheduler()
        # Refuse at once what could not be saved after hours of training. (Not `self.state_dict`:
        # a subclass's may need what its `__init__` sets later.)
        serialise(Training.state_dict(self))

    def __iter__(self) -> Iterator[Row]:
        while len(self.history) < self.epochs:
            epoch = len(self.history) + 1
            torch.manual_seed(derive_seed(self.seed, epoch))
            start = time.perf_counter()
            train = self.train_epoch()
            seconds = time.perf_counter() - start
            test = self.test()
            row = {"epoch": epoch, "lr": self.scheduler.get_last_lr()[0], "seconds": seconds}
            row.update({f"train_{name}": value for name, value in train.items()})
            row.update({f"test_{name}": value for name, value in test.items()})
            check_finite(row)
            self.history.append(row)
            yield row

    def train_epoch(self) -> dict[str, float]:
        """Train one epoch and return the means of what `train_step` returns."""
        totals: dict[str, Tensor] = {}
        for sample in self.loader:
            for name, value in self.train_step(sample).items():
                totals[name] = totals.get(name, 0) + value
        # `item` waits for the GPU, so it comes after the last step.
        return {name: (total / len(self.loader)).item() for name, total in totals.items()}

    def train_step(self, sample: Sample) -> dict[str, Tensor]:
        """Take one step on a batch; return its losses and accuracies, scalars without gradients."""
        self.optimizer.zero_grad()
        outputs = self.forward(sample)
        losses = self.loss(outputs, sample)
        losses["loss"].backward()
        self.optimizer.step()
        self.scheduler.step()
        losses = {name: value.detach() for name, value in losses.items()}
        return {**losses, **accuracies(outputs, sample)}

    def forward(self, sample: Sample) -> Outputs:
        """Return the network's outputs for a batch; override it for autocast, for example."""
        return self.model(sample.image, sample.number)

    def loss(self, outputs: Outputs, sample: Sample) -> dict[str, Tensor]:
        """Return scalars by name, the same names at each step; they enter the history.

        "loss" is what backward starts from. The training stops where a value whose name ends in
        "loss" is not finite.
        """
        log_probs, logits = outputs[:2]  # a network of your own may return more
        combined = total_loss(
            log_probs,
            sample.digit,
            logits,
            sample.sum,
            digit_weight=self.recipe.digit_weight,
            sum_weight=self.recipe.sum_weight,
            label_smoothing=self.recipe.label_smoothing,
        )
        return {"loss": combined.total, "digit_loss": combined.digit, "sum_loss": combined.sum}

    def test(self) -> dict[str, float]:
        """Return the losses and accuracies of the network as it is now, on ``data.test``."""
        return evaluate(self.model, self.data).metrics

    def make_loader(self) -> Iterable[Sample]:
        """Return the shuffled batches of ``data.train``; they lie on the device.

        A loader of your own needs a length, and a ``dataset`` that gives a batch for ``[:2]``.
        """
        images, digits = self.data.train
        dataset = self.data.dataset(
            Split(images.to(self.device), digits.to(self.device)),
            withheld=self.withheld,
            fixed_numbers=self.recipe.fixed_numbers,
            augment=self.recipe.augment,
        )
        return Loader(dataset, self.recipe.batch_size)

    def make_optimizer(self) -> Optimizer:
        """Return the recipe's optimiser. Weight decay is for kernels and weight matrices only.

        On other parameters, it would pull BatchNorm's factors and the places on the number line
        towards 0.
        """
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        decayed = {"params": [p for p in parameters if p.dim() > 1]}  # no biases, no BatchNorm
        spared = {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0}
        optimizer_class = getattr(torch.optim, self.recipe.optimizer)
        options = dict(self.recipe.optimizer_options)
        return optimizer_class([decayed, spared], lr=self.recipe.lr, **options)

    def make_scheduler(self) -> LRScheduler:
        """Return the recipe's learning rate over all steps; it is stepped after each step.

        One that looks at the test's loss (ReduceLROnPlateau) is stepped in your loop over the rows.
        """
        if self.recipe.schedule == "constant":
            return ConstantLR(self.optimizer, factor=1.0)  # it never changes the rate
        steps = self.epochs * len(self.loader)
        pct_start = float(self.recipe.pct_start)  # OneCycleLR refuses the int 0
        if pct_start * steps == 1:
            pct_start = 1.5 / steps  # OneCycleLR divides by zero if exactly one step rises
        return OneCycleLR(
            self.optimizer,
            max_lr=self.recipe.lr,
            total_steps=steps,
            pct_start=pct_start,
            cycle_momentum=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on bit for bit: tensors and plain data."""
        return {
            "model": unwrapped(self.model).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "history": self.history,
            "fine_tuned": self.fine_tuned,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken; recipe, data and seed must be the same."""
        unwrapped(self.model).load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.history = list(state["history"])
        self.fine_tuned = state["fine_tuned"]


def fit(recipe: Recipe, data: Data, *, quiet: bool = False, **settings: Any) -> Training:
    """Train a recipe to its end, with a printed line for each epoch, and return the `Training`.

    `settings` are those of `Training`: model, device, seed, withheld. `quiet` prints nothing.
    """
    training = Training(recipe, data, **settings)
    rows = training if quiet else reported(training)
    for _ in rows:  # the loop trains
        pass
    return training


def reported(training: Training) -> Iterator[Row]:
    """Yield the rows of a training, after printing a line for each; a terminal gets a bar, too."""
    done = len(training.history)
    # disable=None: no bar where the output is no terminal.
    with tqdm(training, initial=done, total=training.epochs, disable=None, leave=False) as rows:
        for row in rows:
            tqdm.write(describe_row(row, training.epochs, training.data.test_name))
            yield row


def describe_row(row: Row, epochs: int, test_name: str) -> str:
    """Return one line about an epoch; `test_name` says what was tested on."""
    parts = [f"epoch {row['epoch']:2}/{epochs} {row['seconds']:5.1f} s"]
    for name, prefix in (("train", "train"), (test_name, "test")):
        nll = row.get(f"{prefix}_digit_loss", math.nan)
        ce = row.get(f"{prefix}_sum_loss", math.nan)
        digit = row.get(f"{prefix}_digit_accuracy", math.nan)
        sum = row.get(f"{prefix}_sum_accuracy", math.nan)
        joint = row.get(f"{prefix}_joint_accuracy", math.nan)
        outputs = f"digit {digit:.2%} (nll {nll:.4f}), sum {sum:.2%} (ce {ce:.4f})"
        parts.append(f"{name}: {outputs}, joint {joint:.2%}")
    return " | ".join(parts)


def accuracies(outputs: Outputs, sample: Sample) -> dict[str, Tensor]:
    """Return the shares of a batch with the digit, the sum and both right, as scalars."""
    log_probs, logits = outputs[:2]
    digit_right = log_probs.argmax(1) == sample.digit
    sum_right = logits.argmax(1) == sample.sum.argmax(1)
    both_right = digit_right & sum_right
    return {
        "digit_accuracy": digit_right.float().mean(),
        "sum_accuracy": sum_right.float().mean(),
        "joint_accuracy": both_right.float().mean(),
    }


def check_finite(row: Row) -> None:
    """Raise `InputError` if a loss in a row is infinite or not a number."""
    losses = [value for name, value in row.items() if name.endswith("loss")]
    if not all(math.isfinite(loss) for loss in losses):
        raise InputError(
            f"the loss is not finite in epoch {row['epoch']}: choose a lower learning rate"
        )


def derive_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch; seed + epoch would give two trainings some epochs in common."""
    words = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    return int(words[0]) >> 1  # 63 bits, as `check_seed` allows
