"""MNIST, the bundled digits and files: where they are looked for, downloaded, checked, divided."""

import gzip
import hashlib
import shutil
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import marked, refusal
from torchvision.datasets import MNIST

from mnist_adder.data import AdderDataset
from mnist_adder.sources import FOLDS, MNIST_SHA256, load_data, mnist_layout

NAMES = list(MNIST_SHA256)
REASON = "<urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed>"


def write_mnist(raw: Path) -> None:
    """Write files of MNIST's format with 48 + 12 images."""
    raw.mkdir(parents=True)
    for prefix, count in (("train", 48), ("t10k", 12)):
        images, digits = marked(count)
        header = struct.pack(">4i", 0x803, count, 28, 28)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.numpy().tobytes())
        header = struct.pack(">2i", 0x801, count)
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(header + bytes(digits.tolist()))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with 48 + 12 images that passes for MNIST's."""
    raw = tmp_path / "mine" / "MNIST" / "raw"
    write_mnist(raw)
    for name in NAMES:
        checksum = hashlib.sha256((raw / name).read_bytes()).hexdigest()
        monkeypatch.setitem(MNIST_SHA256, name, checksum)
    return tmp_path / "mine"


@pytest.fixture(autouse=True)
def unreachable(no_download, monkeypatch):
    """Let a download fail as torchvision's do, after half of a file."""

    def download(mnist):
        raw = Path(mnist.raw_folder)
        raw.mkdir(parents=True)
        (raw / NAMES[0]).write_bytes(b"half")
        raise RuntimeError(f"Error downloading {NAMES[0]}.gz:\nTried https://x/, got:\n{REASON}\n")

    monkeypatch.setattr(MNIST, "download", download)


def refused(*arguments, **settings) -> str:
    """Return the one line with which `load_data` refuses, and does not take another source."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return refusal(load_data, *arguments, **settings)


# MNIST.


@pytest.mark.parametrize("source", ["mnist", "auto"])
@pytest.mark.parametrize("through", ["argument", "environment", "default", "~"])
def test_mnist_is_found(folder, monkeypatch, source, through):
    monkeypatch.delenv("MNIST_ADDER_DATA", raising=False)
    monkeypatch.setenv("HOME", str(folder.parent))
    if through == "environment":
        monkeypatch.setenv("MNIST_ADDER_DATA", "~/mine")
    elif through == "default":
        folder.rename(folder.parent / "data")
        monkeypatch.chdir(folder.parent)
    data = load_data(source, {"argument": folder, "~": "~/mine"}.get(through))
    assert (data.source, data.test_name) == ("mnist", "test")
    for split, count in ((data.train, 48), (data.test, 12)):
        assert torch.equal(split.images, marked(count).images)
        assert torch.equal(split.digits, marked(count).digits)


@pytest.mark.parametrize("packed", [NAMES[:1], NAMES])
def test_packed_files_are_read_as_they_are(folder, packed):
    raw = folder / "MNIST" / "raw"
    for name in packed:
        (raw / f"{name}.gz").write_bytes(gzip.compress((raw / name).read_bytes()))
        (raw / name).unlink()
    names = sorted(raw.iterdir())
    data = load_data("mnist", folder)
    assert torch.equal(data.train.images, marked(48).images)
    assert torch.equal(data.test.digits, marked(12).digits)
    assert sorted(raw.iterdir()) == names  # nothing is unpacked


@pytest.mark.parametrize("source", ["mnist", "auto"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign", "packed", "missing"])
@pytest.mark.parametrize("name", [NAMES[0], NAMES[3]])
def test_damaged_files_are_an_error(folder, source, damage, name):
    path = folder / "MNIST" / "raw" / name
    content = path.read_bytes()
    path.unlink()
    if damage == "packed":
        path.with_name(f"{name}.gz").write_bytes(gzip.compress(content)[:-9])
    elif damage != "missing":
        damaged = {"truncated": content[:-1], "empty": b"", "foreign": bytes(len(content))}
        path.write_bytes(damaged[damage])
    assert name in refused(source, folder)


def test_a_failed_download_says_why_and_what_is_expected_where(tmp_path):
    message = refused("mnist", tmp_path / "new")
    for part in (REASON, str(tmp_path / "new" / "MNIST" / "raw"), *NAMES, "train-images.idx3"):
        assert part in message
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert "Read-only file system" in refused("mnist", tmp_path / "new")


def test_a_flat_folder_gets_the_names_that_are_expected(folder):
    raw = folder / "MNIST" / "raw"
    message = refused("mnist", raw)
    assert str(raw / "MNIST" / "raw") in message
    assert all(name in message for name in NAMES)


def test_a_download_fills_a_missing_folder(folder, tmp_path, monkeypatch):
    source = folder / "MNIST" / "raw"
    monkeypatch.setattr(MNIST, "download", lambda mnist: shutil.copytree(source, mnist.raw_folder))
    data = load_data("auto", tmp_path / "new" / "data")
    assert (data.source, len(data.train.digits)) == ("mnist", 48)
    raw = tmp_path / "new" / "data" / "MNIST" / "raw"
    assert sorted(path.name for path in raw.iterdir()) == sorted(NAMES)


def test_auto_falls_back_with_one_warning(tmp_path):
    with pytest.warns(UserWarning, match="BUNDLED DIGITS") as warned:
        data = load_data("auto", tmp_path / "none")
    assert len(warned) == 1
    assert data.source == "digits"
    assert "\n" not in str(warned[0].message)


# Folds.


def test_the_folds_cover_the_training_set_without_overlap(folder):
    tested = []
    for fold in range(FOLDS):
        data = load_data("mnist", folder, validate=fold)
        kept = data.train.images[:, 0, 0].tolist()
        held_out = data.test.images[:, 0, 0].tolist()
        assert (data.fold, data.test_name) == (fold, "validation")
        assert sorted(kept + held_out) == list(range(48))
        tested += held_out
    assert sorted(tested) == list(range(48))


@pytest.mark.parametrize("fold", [-1, FOLDS, "x"])
def test_a_fold_that_is_not_there(fold):
    assert "choose one of 0…11" in refused("digits", validate=fold)


# The bundled digits.


def test_the_digits_split_is_fixed_balanced_and_80_to_20():
    data = load_data("digits")
    again = load_data("digits")
    for split, other in ((data.train, again.train), (data.test, again.test)):
        assert torch.equal(split.images, other.images)
        assert torch.equal(split.digits, other.digits)
        AdderDataset(*split)  # accepts them
    assert (len(data.train.digits), len(data.test.digits)) == (1437, 360)
    counts = data.test.digits.bincount(minlength=10)
    assert (counts.min(), counts.max()) == (35, 37)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 10), (30, 12), (1, 7), (9, 1)])
def test_the_layout_is_mnists(height, width):
    torch.manual_seed(0)
    scan = torch.zeros(height + 6, width + 5)
    scan[4 : 4 + height, 2 : 2 + width] = 0.5 + torch.rand(height, width) / 2
    image = mnist_layout(scan)
    assert (image.dtype, image.shape) == (torch.uint8, (28, 28))
    scale = 20 / max(height, width)
    for dim, side in ((1, height), (0, width)):
        inked = image.amax(dim).nonzero()
        assert int(inked[-1] - inked[0]) + 1 == max(1, round(side * scale))
        mass = image.double().sum(dim)
        centre = float((mass * torch.arange(28)).sum() / mass.sum())
        assert centre == pytest.approx(14, abs=0.51)


# Files of one's own.

ARRAYS = {
    "x_train": marked(48).images.numpy(),
    "y_train": marked(48).digits.numpy().astype(np.uint8),
    "x_test": marked(12).images.numpy(),
    "y_test": marked(12).digits.numpy(),
}


@pytest.mark.parametrize("place", ["{}/a.npz", "~/a.npz"])
def test_a_file_of_ones_own(tmp_path, monkeypatch, place):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "a.npz", **ARRAYS)
    data = load_data(place.format(tmp_path))
    assert torch.equal(data.train.images, marked(48).images)
    assert torch.equal(data.test.digits, marked(12).digits)
    assert (data.digit_classes, data.sum_classes) == (10, 19)
    held_out = load_data(place.format(tmp_path), validate=np.int64(2))
    assert len(held_out.train.digits) == 44
    assert type(held_out.fold) is int  # else a run could not be saved


def test_a_file_with_more_classes_and_colours(tmp_path):
    images = np.zeros((30, 3, 32, 32), np.uint8)
    labels = np.arange(30) % 15
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    data = load_data(tmp_path / "a.npz")
    assert (data.digit_classes, data.sum_classes) == (15, 24)
    assert data.train.images.shape == (30, 3, 32, 32)


def test_a_small_set_has_all_twelve_folds(tmp_path):
    few = {"x_train": ARRAYS["x_train"][:25], "y_train": ARRAYS["y_train"][:25]}
    np.savez(tmp_path / "a.npz", **{**ARRAYS, **few})
    sizes = [len(load_data(tmp_path / "a.npz", validate=n).test.digits) for n in range(FOLDS)]
    assert sorted(sizes) == [2] * 11 + [3]


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("evil"),)


@pytest.mark.parametrize(
    "change",
    [
        *({"x_train": None}, {"x_test": ARRAYS["x_test"] / 255}, {"y_train": ARRAYS["y_test"]}),
        *(
            {"y_test": ARRAYS["y_test"] / 2},
            {"y_test": ARRAYS["y_test"] - 1},
            {"x_test": np.ones(3)},
        ),
        *({"y_test": np.array([Evil()])}, {"x_test": np.zeros((12, 0, 28), np.uint8)}),
    ],
    ids=["missing", "floats", "count", "halves", "negative", "flat", "object", "empty"],
)
def test_arrays_that_cannot_be_used_are_refused(tmp_path, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    arrays = {name: array for name, array in {**ARRAYS, **change}.items() if array is not None}
    np.savez(tmp_path / "a.npz", **arrays)
    assert "a.npz cannot be read, it needs x_train, y_train" in refused(tmp_path / "a.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x93NUMPY", b"\x80\4N.", b"text"])
def test_files_of_other_kinds_are_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    assert "cannot be read" in refused(tmp_path / "a.npz")
    assert "there is no file" in refused(tmp_path / "b.npz")
