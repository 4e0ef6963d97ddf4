"""Where images come from: MNIST and the bundled digits, found, read and checked."""

import gzip
import hashlib
import os
import socket
import tempfile
import warnings
import zlib
from functools import partial
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor, nn

from .checks import InputError
from .data import Data, Split

SOURCES = ("auto", "mnist", "digits")
FOLDS = 12  # a validation fold is 1/12 of the training set: 5,000 of MNIST's 60,000 images
TIMEOUT = 30  # seconds without a byte, after which a download is given up
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def load_data(source: str = "auto", data_dir: str | Path | None = None, *, validate: int | None = None) -> Data:
    """Read a data source: "mnist"; "digits", scikit-learn's 1,797 bundled scans; or "auto".

    "auto" is MNIST if it is there or can be downloaded, else the digits with a warning. `data_dir` is the folder that
    holds ``MNIST/raw``, into which a missing MNIST is downloaded; by default it is the environment variable
    ``MNIST_ADDER_DATA``, else ``data``. With `validate`, a fold 0–11, that twelfth of the *training* set is left out of
    training and tested on, and the test set is never opened. `InputError` for an unknown source or fold, or for MNIST
    that is missing, damaged or cannot be downloaded.
    """
    if source not in SOURCES:
        raise InputError(f"unknown data source {source!r}: choose one of {', '.join(SOURCES)}")
    if validate is not None and validate not in range(FOLDS):
        raise InputError(f"validation fold {validate} does not exist: choose one of 0…{FOLDS - 1}")
    raw, read = Path(data_dir or os.environ.get("MNIST_ADDER_DATA") or "data", "MNIST", "raw"), _read_digits
    if source != "digits":
        try:
            _fetch_mnist(raw)
            source, read = "mnist", partial(_read_mnist, raw)
        except ConnectionError as error:
            if source == "mnist":
                raise InputError(str(error)) from error
            instead = "This run uses scikit-learn's 1,797 BUNDLED DIGITS instead, an easier set"
            warnings.warn(f"WARNING: {error}.\n{instead}: do not compare its figures with MNIST's.", stacklevel=2)
            source = "digits"
    train = read("train")
    if validate is None:
        return Data(source, train, read("test"))
    folds = list(torch.randperm(len(train.digits), generator=torch.Generator().manual_seed(0)).chunk(FOLDS))
    held_out = folds.pop(validate)
    parts = (Split(*(tensor[rows] for tensor in train)) for rows in (torch.cat(folds), held_out))
    return Data(source, *parts, fold=validate)


def _fetch_mnist(raw: Path) -> None:
    """Download MNIST into a folder, unless it has the four files, each as it is or as ``.gz``."""
    missing = [name for name in MNIST_SHA256 if not any((raw / f"{name}{end}").is_file() for end in ("", ".gz"))]
    if not missing:
        return
    from torchvision.datasets import MNIST

    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        # The temporary folder lies beside the destination, so a download that breaks off leaves nothing there.
        parent = next(folder for folder in raw.absolute().parents if folder.is_dir())
        with tempfile.TemporaryDirectory(prefix=".mnist-", dir=parent) as temporary:
            MNIST(temporary, download=True)
            raw.mkdir(parents=True, exist_ok=True)
            for name in MNIST_SHA256:
                os.replace(Path(temporary, "MNIST", "raw", name), raw / name)
    except (RuntimeError, OSError, HTTPException) as error:
        if len(missing) < len(MNIST_SHA256):
            raise InputError(f"MNIST in {raw} lacks {', '.join(missing)}: restore or delete the folder") from error
        advice = "name its folder with --data-dir or MNIST_ADDER_DATA, or use --data digits"
        raise ConnectionError(f"MNIST is not in {raw} and cannot be downloaded: {advice}") from error
    finally:
        socket.setdefaulttimeout(timeout)


def _read_mnist(raw: Path, part: str) -> Split:
    """Read the two IDX files of "train" or "test": 16 or 8 bytes of header, then a byte for each value."""
    tensors = []
    for kind, header in (("images-idx3-ubyte", 16), ("labels-idx1-ubyte", 8)):
        path = raw / f"{'t10k' if part == 'test' else part}-{kind}"
        try:
            content = path.read_bytes() if path.is_file() else gzip.decompress(Path(f"{path}.gz").read_bytes())
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path} cannot be read: {error}") from error
        if hashlib.sha256(content).hexdigest() != MNIST_SHA256[path.name]:
            raise InputError(f"{path} is not MNIST's file (its SHA-256 differs): restore or delete the folder {raw}")
        tensors.append(torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header))
    images, digits = tensors
    return Split(images.view(-1, 28, 28), digits.long())


def _read_digits(part: str) -> Split:
    """scikit-learn's 8×8 scans on MNIST's 28×28 canvas; a fixed, class-balanced 80/20 split."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    scans, digits = load_digits(return_X_y=True)
    train, test = train_test_split(range(len(digits)), test_size=0.2, stratify=digits, random_state=0)
    rows = train if part == "train" else test
    ink = torch.from_numpy(scans[rows]).float().view(-1, 8, 8) / 16
    return Split(torch.stack([mnist_layout(scan) for scan in ink]), torch.from_numpy(digits[rows]).long())


def mnist_layout(ink: Tensor) -> Tensor:
    """Lay one digit, float [H, W] with ink as 1 and paper as 0, out as MNIST does: uint8 [28, 28], 255 is ink.

    The box around the ink is scaled, keeping its shape, to fit 20×20, and pasted so that its centre of mass is at pixel
    (14, 14), where MNIST has it on average (LeCun et al. 1998, "Gradient-based learning applied to document
    recognition", section III.A).
    """
    rows, columns = ink.amax(1).nonzero(), ink.amax(0).nonzero()
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = 20 / max(box.shape)
    size = [max(1, round(side * scale)) for side in box.shape]
    box = nn.functional.interpolate(box[None, None], size, mode="bilinear", antialias=True)[0, 0].clamp(0, 1)
    image = torch.zeros(28, 28)
    window = image
    for dim, side in enumerate(size):
        mass = box.sum(1 - dim)
        centre = float((mass * torch.arange(side)).sum() / mass.sum())
        window = window.narrow(dim, min(max(round(14 - centre), 0), 28 - side), side)
    window.copy_(box)
    return (image * 255).round().to(torch.uint8)
