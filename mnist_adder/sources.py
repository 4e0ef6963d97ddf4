"""Where images come from: MNIST, the bundled digits or a file; found, read and checked."""

import gzip
import hashlib
import os
import tempfile
import warnings
import zlib
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .checks import check_split
from .data import Data, Split
from .errors import InputError

SOURCES = ("auto", "mnist", "digits")
MOST_CLASSES = 1000  # of digits in a file of your own
FOLDS = 12  # a validation fold is 1/12 of the training set: 5,000 of MNIST's 60,000 images
MOST_BYTES = 47_040_017  # one more than MNIST's largest file has: a .gz can unpack to any size
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class MissingMNIST(InputError):
    """MNIST is not on this machine and cannot be downloaded."""


def load_data(
    source: str | Path = "auto",
    data_dir: str | Path | None = None,
    *,
    validate: int | None = None,
) -> Data:
    """Read a data source, for training and testing.

    Args:
        source: "mnist"; "digits", scikit-learn's 1,797 bundled scans; "auto", which is MNIST if it
            is there or can be downloaded, else the digits with a warning; or the path of a file
            .npz with the arrays x_train, y_train, x_test and y_test: uint8 images [N, 28, 28],
            whole numbers [N].
        data_dir: the folder that holds ``MNIST/raw``, into which a missing MNIST is downloaded; by
            default the environment variable ``MNIST_ADDER_DATA``, else ``data``.
        validate: a fold 0–11. That twelfth of the *training* set is left out of training and
            tested on, and the test set is not used.

    Raise `InputError` for an unknown source or fold, a file that cannot be read, or for MNIST that
    is missing, damaged or cannot be downloaded.
    """
    if validate is not None and validate not in range(FOLDS):
        raise InputError(f"validation fold {validate} does not exist: choose one of 0…{FOLDS - 1}")
    fold = None if validate is None else int(validate)  # a NumPy number could not be saved
    source = str(source)
    name = "mnist" if source == "auto" else source
    if source.endswith(".npz"):
        train, test = _read_npz(Path(source).expanduser())
    elif source == "digits":
        train, test = _read_digits()
    elif source == "mnist":
        train, test = _find_mnist(data_dir)
    elif source == "auto":
        try:
            train, test = _find_mnist(data_dir)
        except MissingMNIST as error:
            warnings.warn(
                f"{error}. This run uses scikit-learn's 1,797 BUNDLED DIGITS instead, an easier"
                " set: do not compare its figures with MNIST's.",
                stacklevel=2,
            )
            train, test = _read_digits()
            name = "digits"
    else:
        choices = ", ".join(SOURCES)
        raise InputError(f"unknown data source {source!r}: choose {choices} or a file .npz")
    highest = max(int(train.digits.max()), int(test.digits.max()))
    classes = max(10, highest + 1)
    if fold is not None:
        train, test = _fold(train, fold)
    return Data(name, train, test, fold=fold, digit_classes=classes)


def _fold(train: Split, fold: int) -> tuple[Split, Split]:
    """Return a training set without one of its twelfths, and that twelfth."""
    order = torch.randperm(len(train.digits), generator=torch.Generator().manual_seed(0))
    folds = list(order.tensor_split(FOLDS))
    held_out = folds.pop(fold)
    kept = torch.cat(folds)
    return (
        Split(train.images[kept], train.digits[kept]),
        Split(train.images[held_out], train.digits[held_out]),
    )


def _read_npz(path: Path) -> tuple[Split, Split]:
    """Return the training and test set of a file .npz, which is read without pickle."""
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            parts = []
            for part in ("train", "test"):
                images = torch.from_numpy(arrays[f"x_{part}"])
                digits = torch.from_numpy(arrays[f"y_{part}"].astype(np.int64, casting="safe"))
                check_split(images, digits, MOST_CLASSES)
                parts.append(Split(images, digits))
    except Exception as error:  # a damaged file raises errors of many kinds
        needed = "x_train, y_train, x_test and y_test, uint8 images and whole numbers"
        raise InputError(f"{path} cannot be read, it needs {needed}: {error}") from error
    return parts[0], parts[1]


def _find_mnist(data_dir: str | Path | None) -> tuple[Split, Split]:
    """Return MNIST's training and test set, after downloading it where it is missing."""
    folder = Path(data_dir or os.environ.get("MNIST_ADDER_DATA") or "data").expanduser()
    raw = folder / "MNIST" / "raw"
    missing = [name for name in MNIST_SHA256 if not _with_gz(raw / name)]
    if len(missing) == len(MNIST_SHA256):
        _download_mnist(raw)
    elif missing:
        raise InputError(f"MNIST in {raw} lacks {', '.join(missing)}: restore or delete the folder")
    train = Split(
        _read_idx(raw / "train-images-idx3-ubyte"), _read_idx(raw / "train-labels-idx1-ubyte")
    )
    test = Split(
        _read_idx(raw / "t10k-images-idx3-ubyte"), _read_idx(raw / "t10k-labels-idx1-ubyte")
    )
    return train, test


def _with_gz(path: Path) -> Path | None:
    """Return the file of this name, or the one with ``.gz`` after it; None if neither is there."""
    for candidate in (path, path.with_name(f"{path.name}.gz")):
        if candidate.is_file():
            return candidate
    return None


def _download_mnist(raw: Path) -> None:
    """Download MNIST with torchvision; a download that breaks off leaves no file behind."""
    from torchvision.datasets import MNIST

    try:
        raw.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=raw) as temporary:
            MNIST(temporary, download=True)
            for name in MNIST_SHA256:
                os.replace(Path(temporary, "MNIST", "raw", name), raw / name)
    except (RuntimeError, OSError, HTTPException) as error:
        # The last line, because torchvision's first lines are the addresses that it tried.
        reason = str(error).strip().rpartition("\n")[2]
        raise MissingMNIST(
            f"MNIST is not in {raw} and cannot be downloaded ({reason}): put its four files there,"
            f" {', '.join(MNIST_SHA256)}, under these names (not train-images.idx3-ubyte, and in no"
            " folder of their own), each as it is or as .gz; or use the source digits"
        ) from None  # the reason is in the message


def _read_idx(path: Path) -> Tensor:
    """Return what one of MNIST's files holds: images uint8 [N, 28, 28], or labels int64 [N]."""
    images = "images" in path.name
    header = 16 if images else 8  # bytes
    found = _with_gz(path) or path
    try:
        with gzip.open(found) if found.suffix == ".gz" else found.open("rb") as file:
            content = file.read(MOST_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{found} cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != MNIST_SHA256[path.name]:
        advice = f"restore or delete the folder {path.parent}"
        raise InputError(f"{found} is not MNIST's file (its SHA-256 differs): {advice}")
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header)
    return values.view(-1, 28, 28) if images else values.long()


def _read_digits() -> tuple[Split, Split]:
    """Return scikit-learn's 8×8 scans on MNIST's canvas, in a fixed, class-balanced 80/20 split."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    scans, labels = load_digits(return_X_y=True)
    ink = torch.from_numpy(scans).float().view(-1, 8, 8) / 16
    images = torch.stack([mnist_layout(scan) for scan in ink])
    digits = torch.from_numpy(labels).long()
    train, test = train_test_split(
        range(len(digits)), test_size=0.2, stratify=digits, random_state=0
    )
    return Split(images[train], digits[train]), Split(images[test], digits[test])


def mnist_layout(ink: Tensor) -> Tensor:
    """Lay one digit, float [H, W] with ink as 1 and paper as 0, out as MNIST does: uint8 [28, 28].

    The box around the ink is scaled, keeping its shape, to fit 20×20, and pasted so that its centre
    of mass is at pixel (14, 14), where MNIST has it on average (LeCun et al. 1998, "Gradient-based
    learning applied to document recognition", section III.A). In the result, 255 is ink.
    """
    rows = ink.amax(1).nonzero()
    columns = ink.amax(0).nonzero()
    inked_rows = ink[rows[0] : rows[-1] + 1]
    box = inked_rows[:, columns[0] : columns[-1] + 1]
    scale = 20 / max(box.shape)
    height = max(1, round(box.shape[0] * scale))
    width = max(1, round(box.shape[1] * scale))
    small = nn.functional.interpolate(
        box[None, None], (height, width), mode="bilinear", antialias=True
    )
    small = small[0, 0].clamp(0, 1)  # [height, width]
    top = _centred(small.sum(1))
    left = _centred(small.sum(0))
    image = torch.zeros(28, 28)
    image[top : top + height, left : left + width] = small
    return (image * 255).round().to(torch.uint8)


def _centred(mass: Tensor) -> int:
    """Return where a box begins, in 0…28, if the centre of its mass [side] is to be at 14."""
    places = torch.arange(len(mass))
    centre = float((mass * places).sum() / mass.sum())
    return min(max(round(14 - centre), 0), 28 - len(mass))
