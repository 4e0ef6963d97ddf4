"""MNIST and the bundled digits: where they are looked for, downloaded, checked and divided."""

import gzip
import hashlib
import socket
import struct
import threading
import warnings
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST

from mnist_adder import sources
from mnist_adder.checks import InputError
from mnist_adder.data import MEAN, STD, AdderDataset, Split
from mnist_adder.sources import FOLDS, MNIST_SHA256, load_data, mnist_layout

DOWNLOAD = MNIST.download  # as it is before conftest.py switches it off


def marked(count: int) -> Split:
    """Images that can be told apart: every pixel of image i is i."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None].expand(-1, 28, 28).clone()
    return Split(images, torch.arange(count) % 10)


def write_mnist(root: Path, train: int = 48, test: int = 12) -> dict[str, str]:
    """Files of MNIST's format with few images; returns their SHA-256."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", train), ("t10k", test)):
        images, classes = marked(count)
        header = struct.pack(">4i", 0x803, count, 28, 28)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.numpy().tobytes())
        header = struct.pack(">2i", 0x801, count)
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(header + classes.byte().numpy().tobytes())
    return {name: hashlib.sha256((raw / name).read_bytes()).hexdigest() for name in MNIST_SHA256}


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """A folder with 48 + 12 images that passes for MNIST's."""
    for name, checksum in write_mnist(tmp_path).items():
        monkeypatch.setitem(MNIST_SHA256, name, checksum)
    return tmp_path


@pytest.mark.parametrize("source", ["mnist", "auto"])
@pytest.mark.parametrize("through", ["argument", "environment", "default"])
def test_mnist_is_found(small_mnist, monkeypatch, source, through):
    monkeypatch.delenv("MNIST_ADDER_DATA", raising=False)
    if through == "environment":
        monkeypatch.setenv("MNIST_ADDER_DATA", str(small_mnist))
    elif through == "default":
        (small_mnist / "elsewhere").mkdir()
        (small_mnist / "elsewhere" / "data").symlink_to(small_mnist)
        monkeypatch.chdir(small_mnist / "elsewhere")
    data = load_data(source, small_mnist if through == "argument" else None)
    assert (data.source, data.split) == ("mnist", "test")
    for split, count in ((data.train, 48), (data.test, 12)):
        assert torch.equal(split.images, marked(count).images)
        assert torch.equal(split.digits, marked(count).digits)
        AdderDataset(*split)  # accepts them


@pytest.mark.parametrize("packed", [["train-images-idx3-ubyte"], [*MNIST_SHA256]])
def test_packed_files_are_read_as_they_are(small_mnist, packed):
    raw = small_mnist / "MNIST" / "raw"
    for name in packed:
        (raw / f"{name}.gz").write_bytes(gzip.compress((raw / name).read_bytes()))
        (raw / name).unlink()
    names = sorted(path.name for path in raw.iterdir())
    data = load_data("mnist", small_mnist)
    assert torch.equal(data.train.images, marked(48).images)
    assert torch.equal(data.test.digits, marked(12).digits)
    assert sorted(path.name for path in raw.iterdir()) == names  # nothing is unpacked


def test_real_mnist(mnist_dir):
    data = load_data("mnist", mnist_dir)
    assert (len(data.train.digits), len(data.test.digits)) == (60_000, 10_000)
    assert data.train.digits[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    values = torch.arange(256).double() / 255
    shares = data.train.images.flatten().bincount(minlength=256) / data.train.images.numel()
    mean = (shares * values).sum()
    std = (shares * (values - mean) ** 2).sum().sqrt()
    assert (mean.item(), std.item()) == pytest.approx((MEAN, STD), abs=1e-4)


def test_validation_folds_cover_the_training_set_without_overlap(small_mnist):
    tested = []
    for fold in range(FOLDS):
        data = load_data("mnist", small_mnist, validate=fold)
        kept, held_out = (split.images[:, 0, 0].tolist() for split in (data.train, data.test))
        assert (data.fold, data.split) == (fold, "validation")
        assert sorted(kept + held_out) == list(range(48))
        tested += held_out
    assert sorted(tested) == list(range(48))


def test_validation_never_opens_the_test_files(small_mnist):
    for path in (small_mnist / "MNIST" / "raw").glob("t10k-*"):
        path.write_bytes(b"")  # whoever reads it fails
    assert len(load_data("mnist", small_mnist, validate=3).test.digits) == 4
    with pytest.raises(InputError):
        load_data("mnist", small_mnist)


def test_validation_leaves_the_digits_test_set_out(digits):
    test_images, train_images = (
        {bytes(image.numpy()) for image in split.images} for split in (digits.test, digits.train)
    )
    data = load_data("digits", validate=0)
    for split in (data.train, data.test):
        images = {bytes(image.numpy()) for image in split.images}
        assert images <= train_images
        assert not images & (test_images - train_images)
    assert len(data.train.digits) + len(data.test.digits) == len(digits.train.digits)


def test_digits_split_is_fixed_balanced_and_80_to_20(digits):
    again = load_data("digits")
    for split, other in ((digits.train, again.train), (digits.test, again.test)):
        assert torch.equal(split.images, other.images)
        assert torch.equal(split.digits, other.digits)
        AdderDataset(*split)  # accepts them
    assert digits.source == "digits"
    assert (len(digits.train.digits), len(digits.test.digits)) == (1437, 360)
    counts = digits.test.digits.bincount(minlength=10)
    assert (counts.min(), counts.max()) == (35, 37)


def test_auto_falls_back_with_a_warning(tmp_path, digits):
    with pytest.warns(UserWarning, match="BUNDLED DIGITS") as warned:
        data = load_data("auto", tmp_path / "none")
    assert len(warned) == 1
    assert data.source == "digits"
    assert torch.equal(data.train.images, digits.train.images)


def test_mnist_that_cannot_be_had_is_an_error_of_one_line(tmp_path):
    with pytest.raises(InputError) as refusal:
        load_data("mnist", tmp_path / "none")
    assert str(tmp_path / "none") in str(refusal.value)
    assert "--data digits" in str(refusal.value)
    assert "\n" not in str(refusal.value)


# Downloads.


@pytest.mark.parametrize("folder", ["new", "new/and/deep", "existing"])
def test_a_failed_download_leaves_nothing_behind(tmp_path, folder, monkeypatch):
    def break_off(mnist):
        (tmp_path / "called").touch()
        raw = Path(mnist.raw_folder)
        raw.mkdir(parents=True)
        (raw / "train-images-idx3-ubyte").write_bytes(b"half")
        raise RuntimeError("Error downloading")

    monkeypatch.setattr(MNIST, "download", break_off)
    (tmp_path / "existing").mkdir()
    with pytest.raises(InputError):
        load_data("mnist", tmp_path / folder)
    (tmp_path / "called").unlink()  # it did try
    assert [path.name for path in tmp_path.rglob("*")] == ["existing"]


def test_a_download_fills_a_missing_folder(tmp_path, monkeypatch):
    def download(mnist):
        for name, checksum in write_mnist(Path(mnist.root)).items():
            monkeypatch.setitem(MNIST_SHA256, name, checksum)

    monkeypatch.setattr(MNIST, "download", download)
    data = load_data("auto", tmp_path / "new" / "data")
    assert (data.source, len(data.train.digits)) == ("mnist", 48)
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files == set(MNIST_SHA256)


@pytest.fixture
def serve(monkeypatch):
    """Makes MNIST's only mirror a local server that answers with given bytes, and then with nothing more."""
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def begin(answer: bytes) -> None:
            def listen() -> None:
                connection, _ = server.accept()
                connections.append(connection)  # stays open
                connection.recv(4096)
                connection.sendall(answer)

            threading.Thread(target=listen, daemon=True).start()

        monkeypatch.setattr(MNIST, "download", DOWNLOAD)
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.getsockname()[1]}/"])
        monkeypatch.setattr(sources, "TIMEOUT", 0.2)
        yield begin
        for connection in connections:
            connection.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 9912422\r\n\r\n"


@pytest.mark.parametrize("answer", [b"", HEAD, HEAD + b"some bytes", b"not HTTP\r\n\r\n"], ids=repr)
def test_a_server_that_falls_silent_ends_the_download(tmp_path, serve, answer):
    serve(answer)
    with pytest.raises(InputError, match="cannot be downloaded"):
        load_data("mnist", tmp_path)
    assert [*tmp_path.iterdir()] == []
    assert socket.getdefaulttimeout() is None


# Files that are not MNIST's.


@pytest.mark.parametrize("source", ["mnist", "auto"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign", "packed"])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_damaged_files_are_an_error(small_mnist, source, damage, name):
    path = small_mnist / "MNIST" / "raw" / name
    content = path.read_bytes()
    if damage == "packed":
        path.unlink()
        path.with_name(f"{name}.gz").write_bytes(gzip.compress(content)[:-9])
    else:
        path.write_bytes({"truncated": content[:-1], "empty": b"", "foreign": bytes(len(content))}[damage])
    with warnings.catch_warnings(), pytest.raises(InputError, match=name) as refusal:
        warnings.simplefilter("error")  # no fallback either
        load_data(source, small_mnist)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("source", ["mnist", "auto"])
def test_a_missing_file_among_others_is_an_error(small_mnist, source):
    (small_mnist / "MNIST" / "raw" / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(InputError, match="lacks t10k-images-idx3-ubyte"):
        load_data(source, small_mnist)


@pytest.mark.parametrize("arguments", [{"source": "emnist"}, {"source": "digits", "validate": FOLDS}])
def test_unknown_source_or_fold(arguments):
    with pytest.raises(InputError, match="choose one of"):
        load_data(**arguments)


# The layout of the bundled digits.


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 10), (30, 12), (1, 7), (9, 1)])
def test_mnist_layout(height, width):
    torch.manual_seed(0)
    scan = torch.zeros(height + 6, width + 5)
    scan[4 : 4 + height, 2 : 2 + width] = 0.5 + torch.rand(height, width) / 2
    image = mnist_layout(scan)
    assert (image.dtype, image.shape) == (torch.uint8, (28, 28))
    rows, columns = image.amax(1).nonzero(), image.amax(0).nonzero()
    sides = [int(inked[-1] - inked[0]) + 1 for inked in (rows, columns)]
    scale = 20 / max(height, width)
    assert sides == [max(1, round(height * scale)), max(1, round(width * scale))]
    for dim in (1, 0):
        mass = image.double().sum(dim)
        assert float((mass * torch.arange(28)).sum() / mass.sum()) == pytest.approx(14, abs=0.51)


def test_layout_keeps_lopsided_ink_inside():
    scan = torch.full((20, 20), 0.01)
    scan[0, 0] = 1
    assert (mnist_layout(scan) > 0).sum() == 400
