"""A sample ``(image, number, digit, sum)``, and the data set that makes samples.

`AdderDataset` is a `torch.utils.data.Dataset` and works with any `DataLoader`. `Loader` is the
quick way through it: it asks the data set for many samples at a time.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from .checks import WHOLE, check_split
from .errors import InputError

MEAN = 0.1307  # of MNIST's training pixels, scaled to 0…1
STD = 0.3081
DIGITS = 10
NUMBERS = 10
SUMS = 19

Pairs = Iterable[Sequence[int]]  # (digit, number)
Target = Callable[[Tensor, Tensor], Tensor]
Augment = Callable[[Tensor], Tensor]


def add(digit: Tensor, number: Tensor) -> Tensor:
    """Return digit + number: the operation that the network learns, 19 classes 0…18.

    Another operation is another function of two int64 tensors, such as
    ``lambda digit, number: digit - number + 9``. The data, the loss and the evaluation take it from
    here, and `AdderMLP` learns it. `NumberLine` and `ExactAdder` are made for the sum.
    """
    return digit + number


class Sample(NamedTuple):
    """One sample, or a batch of them when every field has a leading dimension B."""

    image: Tensor  # float32 [1, 28, 28], normalised with MEAN and STD
    number: Tensor  # float32 [10], one-hot
    digit: Tensor  # int64 []
    sum: Tensor  # float32 [19], one-hot


class Split(NamedTuple):
    """Images as they are stored, and their digits."""

    images: Tensor  # uint8 [N, 28, 28] or [N, C, H, W]; 0 is paper and 255 is ink
    digits: Tensor  # whole numbers [N]


def sum_table(target: Target, digit_classes: int, number_classes: int) -> Tensor:
    """Return the right answer for each pair, int64 [digit_classes, number_classes].

    Raise `InputError` if the operation gives anything but whole numbers from 0 up.
    """
    digits = torch.arange(digit_classes)
    numbers = torch.arange(number_classes)
    digit, number = torch.meshgrid(digits, numbers, indexing="ij")  # digit[d, n] is d
    sums = torch.as_tensor(target(digit, number))
    if sums.shape != digit.shape or sums.dtype not in WHOLE:
        given = f"{sums.dtype} {list(sums.shape)}"
        advice = "divide with //, and put .long() after a comparison"
        raise InputError(
            f"the operation must give whole numbers {list(digit.shape)}, not {given}: {advice}"
        )
    if sums.min() < 0:
        raise InputError("the operation must give classes 0, 1, 2, …: add a number to its results")
    return sums.long()


@dataclass(frozen=True, eq=False)  # tensors have no single answer to ==
class Data:
    """The training set, the test set, and the classes of the two outputs.

    Raise `InputError` for images or digits of a wrong type or shape, or an operation that gives no
    classes.
    """

    source: str  # "mnist", "digits", or a name of your own, which every report bears
    train: Split
    test: Split
    fold: int | None = None  # the part of the training set that is held out as `test`
    target: Target = add
    digit_classes: int = DIGITS
    number_classes: int = NUMBERS

    def __post_init__(self) -> None:
        for split in (self.train, self.test):
            check_split(split.images, split.digits, self.digit_classes)
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            raise InputError("the training images and the test images must have the same size")
        _ = self.sums  # computed now, so that an operation that cannot be used fails here

    @cached_property
    def sums(self) -> Tensor:
        """The right answer for each digit (row) and number (column), int64 [10, 10]."""
        return sum_table(self.target, self.digit_classes, self.number_classes)

    @property
    def sum_classes(self) -> int:
        """The number of classes of the second output: 19 for the sum of two digits."""
        return int(self.sums.max()) + 1

    @property
    def test_name(self) -> str:
        """The name of what is tested on: "test", or "validation" for a fold."""
        return "test" if self.fold is None else "validation"

    def dataset(self, split: Split, **options: Any) -> "AdderDataset":
        """Return the samples of a split with this operation; `options` are `AdderDataset`'s."""
        return AdderDataset(
            split.images,
            split.digits,
            target=self.target,
            digit_classes=self.digit_classes,
            number_classes=self.number_classes,
            **options,
        )


def normalise(images: Tensor) -> Tensor:
    """Return images in 0…255 as the network takes them: on MNIST with mean 0, deviation 1."""
    return (images / 255 - MEAN) / STD


def with_channel(images: Tensor) -> Tensor:
    """Return images ``[B, H, W]`` as ``[B, 1, H, W]``; those with channels stay as they are."""
    return images.unsqueeze(1) if images.dim() == 3 else images


def pair_table(pairs: Pairs, digit_classes: int = DIGITS, number_classes: int = NUMBERS) -> Tensor:
    """Return a table, bool [10, 10], that is true at the given (digit, number) pairs."""
    table = torch.zeros(digit_classes, number_classes, dtype=torch.bool)
    for digit, number in pairs:
        if not (0 <= digit < digit_classes and 0 <= number < number_classes):
            raise InputError(f"there is no pair of the digit {digit} and the number {number}")
        table[int(digit), int(number)] = True
    return table


class AdderDataset(Dataset[Sample]):
    """Pair each image with a random number; give ``(image, number, digit, sum)``.

    The numbers are drawn anew at each access, so that an image has no number of its own. They come
    from torch's global generator: ``torch.manual_seed`` makes them repeatable, and a `DataLoader`
    seeds its workers differently by itself.

    An int as index gives one sample. A tensor, a list of ints or a slice gives a batch. The batch
    is made on the device on which the images lie.

    Args:
        images: uint8 [N, 28, 28] or [N, C, H, W], 255 is ink.
        digits: whole numbers [N], 0…9.
        target: the operation to learn, see `add`.
        withheld: (digit, number) pairs that are never served.
        fixed_numbers: draw one number for each image now, and keep it.
        augment: a function of images in 0…255, [B, C, H, W], such as `RandomAffine`. It may get
            several batches at once. A transform of torchvision, such as v2.RandomRotation, draws
            once for all images it gets, so give it each of them by itself:
            ``lambda images: torch.stack([transform(image) for image in images])``.
        digit_classes, number_classes: how many digits and numbers there are.

    Raise `InputError` for images or digits of another form, or withheld pairs that leave a digit
    without a number.
    """

    def __init__(
        self,
        images: Tensor,
        digits: Tensor,
        *,
        target: Target = add,
        withheld: Pairs = (),
        fixed_numbers: bool = False,
        augment: Augment | None = None,
        digit_classes: int = DIGITS,
        number_classes: int = NUMBERS,
    ) -> None:
        check_split(images, digits, digit_classes)
        device = images.device
        self.images = with_channel(images)  # [N, 1, 28, 28]
        self.digits = digits.long()
        self.rows = torch.arange(len(digits), device=device)
        self.augment = augment
        self.sums = sum_table(target, digit_classes, number_classes).to(device)
        self.sum_classes = int(self.sums.max()) + 1
        self.number_classes = number_classes
        self.shown = ~pair_table(withheld, digit_classes, number_classes).to(device)
        if not self.shown.any(1).all():
            raise InputError("every digit needs a number that is not withheld")
        self.numbers = self.draw_numbers(self.digits) if fixed_numbers else None

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Sample:
        rows = self.rows[index]  # row numbers: [B], or [] for a single sample
        if rows.dim() == 0:  # make a batch of one, and take its only sample out
            batch = self[rows[None]]
            return Sample(*(field[0] for field in batch))
        # index_select copies whole images; images[rows], pixel by pixel, takes five times as long.
        image = self.images.index_select(0, rows)  # uint8 [B, 1, 28, 28]
        digit = self.digits[rows]  # [B]
        number = self.draw_numbers(digit) if self.numbers is None else self.numbers[rows]  # [B]
        sum = self.sums[digit, number]  # [B]: digit + number, looked up in the table
        if self.augment is not None:
            image = self.augment(image)  # while the background is still 0
        image = normalise(image)
        return Sample(
            image=image,
            number=F.one_hot(number, self.number_classes).to(image.dtype),
            digit=digit,
            sum=F.one_hot(sum, self.sum_classes).to(image.dtype),
        )

    def draw_numbers(self, digit: Tensor) -> Tensor:
        """Return a random number for each digit, int64 [B]: uniform over those not withheld."""
        draws = torch.rand(len(digit), self.number_classes, device=digit.device)
        allowed = draws.masked_fill(~self.shown[digit], -1)  # withheld numbers cannot win
        return allowed.argmax(1)  # of the ten numbers, the one with the largest draw wins


class Loader:
    """Yield shuffled batches of a data set, several made at a time.

    A `DataLoader` with its usual arguments asks for one sample at a time, which takes many times as
    long (PyTorch's issue 106704). The last, incomplete batch of an epoch is left out. Each epoch
    has another order, so no image is left out for good.

    Raise `InputError` for a batch size that the data set cannot fill.
    """

    MADE_AT_ONCE = 4  # batches: fewer and larger operations take less time

    def __init__(self, dataset: AdderDataset, batch_size: int) -> None:
        if not 1 <= batch_size <= len(dataset):
            raise InputError(f"batch size {batch_size} does not fit a set of {len(dataset)} images")
        self.dataset = dataset
        self.batch_size = batch_size

    def __len__(self) -> int:
        return len(self.dataset) // self.batch_size

    def __iter__(self) -> Iterator[Sample]:
        rows = torch.randperm(len(self.dataset), device=self.dataset.digits.device)
        rows = rows[: len(self) * self.batch_size]
        for several in rows.split(self.MADE_AT_ONCE * self.batch_size):
            # Each field of these samples, cut into a part for each batch.
            fields = [field.split(self.batch_size) for field in self.dataset[several]]
            for batch in zip(*fields, strict=True):
                yield Sample(*batch)
