"""A sample ``(image, number, digit, sum)``, and what makes samples.

`AdderDataset` is a `torch.utils.data.Dataset` for any `DataLoader`. `Loader` is for training: it keeps the whole
data set on the device and makes whole batches there.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from .augment import affine_maps, apply_affine
from .checks import InputError, check_split

MEAN, STD = 0.1307, 0.3081  # of MNIST's training pixels, scaled to 0…1
DIGITS, NUMBERS, SUMS = 10, 10, 19
PAIRS = [(digit, number) for digit in range(DIGITS) for number in range(NUMBERS)]
MADE_AT_ONCE = 2048  # images

Pairs = Sequence[Sequence[int]]  # (digit, number)
Target = Callable[[Tensor, Tensor], Tensor]


def add(digit: Tensor, number: Tensor) -> Tensor:
    """The class that the network learns to give for a digit and a number, both int64: their sum, 0…18.

    Another operation is another function as `Data.target`, such as ``lambda digit, number: digit - number + 9``;
    its classes must be 0…18, too. Nothing else in this package knows the operation.
    """
    return digit + number


class Sample(NamedTuple):
    """One sample, or a batch of them when every field has a leading dimension B."""

    image: Tensor  # float32 [1, 28, 28], normalised with MEAN and STD
    number: Tensor  # float32 [10], one-hot
    digit: Tensor  # int64 []
    sum: Tensor  # float32 [19], one-hot; a `Loader` gives the class, int64 []


class Split(NamedTuple):
    """Images as they are stored, and their digits."""

    images: Tensor  # uint8 [N, 28, 28], 0 is paper and 255 is ink
    digits: Tensor  # int64 [N]


@dataclass(frozen=True)
class Data:
    """What is trained on, what is tested on, and the name that every report of it carries."""

    source: str  # "mnist", "digits", or a name of your own
    train: Split
    test: Split
    fold: int | None = None  # `test` is this fold of the training set, which `train` lacks
    target: Target = add

    @property
    def split(self) -> str:
        """The name of what is tested on."""
        return "test" if self.fold is None else "validation"


def normalise(images: Tensor) -> Tensor:
    """``uint8 [B, 28, 28]`` to the network's ``float32 [B, 1, 28, 28]``; a float32 tensor, in 0…255, is overwritten."""
    images = images.float()
    # (images / 255 − MEAN) / STD, in one pass over the memory
    return torch.add(torch.tensor(-MEAN / STD), images, alpha=1 / (255 * STD), out=images).unsqueeze(1)


def one_hot_number(number: Tensor) -> Tensor:
    """``int64 [B]``, values 0–9, to ``float32 [B, 10]``."""
    return F.one_hot(number, NUMBERS).float()


def derive_seed(*parts: int) -> int:
    """One seed from several numbers, such as a run's seed and an epoch; other numbers give another seed."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0]) >> 1


class AdderDataset(Dataset[Sample]):
    """Pairs every image with a number; gives ``(image, number, digit, sum)``, number and sum one-hot.

    The numbers are fresh at each access, so that an image meets a new one in each epoch. They come from `seed`,
    and in a `DataLoader`'s worker also from the worker's seed: workers draw differently, and a run repeats exactly
    when the `DataLoader` is given a seeded `generator`.

    An index gives a sample; a list of indices, a slice or a bool mask gives a batch. So a `DataLoader` is fast with
    ``batch_size=None, sampler=BatchSampler(RandomSampler(dataset), 128, drop_last=False)``.

    Args:
        images, digits: uint8 [N, 28, 28], 255 is ink; int64 [N], values 0–9. `InputError` for any others.
        fixed_numbers: draw one number per image now, and keep it.
        seed: decides the numbers.
        target: the operation to learn, see `add`.
    """

    def __init__(
        self, images: Tensor, digits: Tensor, *, fixed_numbers: bool = False, seed: int = 0, target: Target = add
    ) -> None:
        check_split(images, digits)
        self.images, self.digits, self.seed, self.target = images, digits, seed, target
        # NumPy's generator can be sent to the workers of a DataLoader, which PyTorch's cannot.
        self._random = np.random.default_rng(seed)
        self._worker_seed: int | None = None
        self.numbers = self._draw(digits.shape) if fixed_numbers else None

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int | slice | Sequence[int] | Sequence[bool] | Tensor) -> Sample:
        rows = torch.from_numpy(np.asarray(np.arange(len(self))[index]))
        digit = self.digits[rows]
        number = self._draw(digit.shape) if self.numbers is None else self.numbers[rows]
        one_hot_sum = F.one_hot(self.target(digit, number), SUMS).float()  # [B, 19]
        image = normalise(self.images[rows].view(-1, 28, 28)).view(*digit.shape, 1, 28, 28)
        return Sample(image, one_hot_number(number), digit, one_hot_sum)

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """Samples cut from one gather: a stock `DataLoader` asks for a batch in this way."""
        return [Sample(*fields) for fields in zip(*self[indices], strict=True)]

    def _draw(self, shape: torch.Size) -> Tensor:
        worker = get_worker_info()
        if worker is not None and worker.seed != self._worker_seed:  # this worker's first access
            self._worker_seed = worker.seed
            self._random = np.random.default_rng((self.seed, worker.seed))
        return torch.from_numpy(np.asarray(self._random.integers(NUMBERS, size=tuple(shape))))


def pair_table(pairs: Pairs) -> Tensor:
    """bool [10, 10], true at the given (digit, number) pairs."""
    table = torch.zeros(DIGITS, NUMBERS, dtype=torch.bool)
    for digit, number in pairs:
        table[digit, number] = True
    return table


class Loader:
    """Serves a split in shuffled batches on its own device: `Sample`s whose sum is a class index.

    A batch is one gather on the device, then augmentation, normalisation and numbers, all batched. The last,
    incomplete batch of an epoch is left out; each epoch has another order, so no image is left out for good.
    Order, numbers and augmentation depend on `seed` and the epoch alone: call `set_epoch` before each one, as for
    PyTorch's ``DistributedSampler``.

    Args:
        split: on the device that the batches are wanted on.
        batch_size: of all processes together; each of them gets an equal part of every batch.
        seed: decides order, numbers and augmentation, whatever the number of processes.
        fixed_numbers: draw one number per image once, instead of afresh in each epoch.
        affine: degrees, translate, scale and shear of `augment.affine_maps`.
        withheld: (digit, number) pairs that are never served.
        target: the operation to learn, see `add`.
        rank, world_size: the number of this process, and how many there are.

    `InputError` for a batch size that the split cannot fill or the processes cannot divide, or withheld pairs that
    leave a digit without a number.
    """

    def __init__(
        self, split: Split, batch_size: int, *, seed: int = 0, fixed_numbers: bool = False,
        affine: tuple[float, float, float, float] = (0, 0, 0, 0), withheld: Pairs = (), target: Target = add,
        rank: int = 0, world_size: int = 1,
    ) -> None:  # fmt: skip
        if batch_size > len(split.digits):
            raise InputError(f"batch size {batch_size} is larger than the training set ({len(split.digits)} images)")
        if batch_size % world_size or batch_size < 2 * world_size:
            raise InputError(f"batch size {batch_size} must give {world_size} processes equal parts of 2 or more")
        self.shown = ~pair_table(withheld).to(split.digits.device)  # bool [10, 10]
        if not self.shown.any(1).all():
            raise InputError("every digit needs a number that is not withheld")
        self.split, self.batch_size, self.seed, self.target = split, batch_size, seed, target
        self.affine, self.rank, self.world_size = affine, rank, world_size
        self.set_epoch(0)
        self.numbers = self._draw_numbers(self._generator()) if fixed_numbers else None

    def __len__(self) -> int:
        return len(self.split.digits) // self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration serves."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Sample]:
        images, digits = self.split
        generator = self._generator()
        order = torch.randperm(len(digits), generator=generator, device=digits.device)
        numbers = self._draw_numbers(generator) if self.numbers is None else self.numbers
        rows = order[: len(self) * self.batch_size][self.rank :: self.world_size]
        digit, number = digits[rows], numbers[rows]
        fields = [rows, one_hot_number(number), digit, self.target(digit, number)]
        if any(self.affine):
            draws = torch.rand(len(digits), 5, generator=generator, device=digits.device)
            fields.append(affine_maps(draws, *self.affine).index_select(0, rows))
        size = self.batch_size // self.world_size
        # The images of several batches are made at once, because fewer and larger operations take less time.
        many = max(1, MADE_AT_ONCE // self.batch_size) * size
        for some, one_hot, digit, sum, *maps in zip(*(field.split(many) for field in fields), strict=True):
            # index_select copies whole images; images[some] goes value by value and takes six times as long.
            image = images.index_select(0, some)
            image = normalise(apply_affine(image, *maps) if maps else image)
            batches = zip(*(field.split(size) for field in (image, one_hot, digit, sum)), strict=True)
            yield from map(Sample._make, batches)

    def _generator(self) -> torch.Generator:
        return torch.Generator(self.split.digits.device).manual_seed(derive_seed(self.seed, self.epoch))

    def _draw_numbers(self, generator: torch.Generator) -> Tensor:
        shown = self.shown[self.split.digits]  # [N, 10]
        draws = torch.rand(shown.shape, generator=generator, device=shown.device)
        return draws.masked_fill(~shown, -1).argmax(1)  # a draw can be 0: a withheld number must lie below
