"""The data set and its shapes; the sources; the batches."""

import hashlib
import struct
import warnings
from pathlib import Path
from unittest import mock

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from mnist_adder import data
from mnist_adder.data import (
    FOLDS,
    MEAN,
    MNIST_SHA256,
    STD,
    AdderDataset,
    Batches,
    InputError,
    Sample,
    Split,
    load_data,
    mnist_layout,
    one_hot_number,
    pair_table,
    pairs_to_withhold,
    random_affine,
)


def marked(count: int) -> Split:
    """Images that can be told apart: every pixel of image i is i."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None].expand(-1, 28, 28).clone()
    return Split(images, torch.arange(count) % 10)


def marks(sample: Sample) -> list[int]:
    """Which of `marked`'s images a batch holds."""
    return (sample.image[:, 0, 0, 0] * 255 * STD + 255 * MEAN).round().int().tolist()


def numbers(samples) -> list[int]:
    return torch.cat([sample.number.argmax(1) for sample in samples]).tolist()


# The data set: shapes first.


@given(
    rows=st.lists(st.integers(-20, 19), min_size=1, max_size=30),
    seed=st.integers(0, 2**40),
    fixed=st.booleans(),
)
def test_any_rows_any_seed(rows, seed, fixed):
    split = marked(20)
    sample = AdderDataset(*split, fixed_numbers=fixed, seed=seed)[rows]
    number = sample.number.argmax(1)
    wanted = torch.tensor(rows) % 20  # as in a list, a negative index counts from the end
    assert marks(sample) == wanted.tolist()
    assert torch.equal(sample.digit, split.digits[wanted])
    assert torch.equal(sample.number, torch.eye(10)[number])
    assert torch.equal(sample.sum, torch.eye(19)[sample.digit + number])
    if fixed:
        assert len({*zip(rows, number.tolist(), strict=True)}) == len({*rows})  # a row, a number


@given(st.lists(st.integers(0, 9), min_size=1))
def test_one_hot_number(numbers):
    encoded = one_hot_number(torch.tensor(numbers))
    assert encoded.dtype == torch.float32
    assert encoded.tolist() == [[float(place == number) for place in range(10)] for number in numbers]


def test_sample_shapes_and_dtypes(digits):
    sample = AdderDataset(*digits.train)[3]
    assert isinstance(sample, Sample)
    assert sample._fields == ("image", "number", "digit", "sum")
    assert [tuple(field.shape) for field in sample] == [(1, 28, 28), (10,), (), (19,)]
    assert [field.dtype for field in sample] == [torch.float32, torch.float32, torch.int64, torch.float32]


def test_values(digits):
    dataset = AdderDataset(*digits.train)
    image, number, digit, sum = dataset[list(range(len(dataset)))]
    for one_hot in (number, sum):
        assert set(one_hot.unique().tolist()) == {0.0, 1.0}
        assert (one_hot.sum(1) == 1).all()
    assert torch.equal(sum.argmax(1), digit + number.argmax(1))
    assert torch.equal(digit, digits.train.digits)
    assert number.argmax(1).bincount(minlength=10).min() > 0.05 * len(dataset)
    torch.testing.assert_close(image * STD + MEAN, digits.train.images[:, None] / 255)


def test_numbers_are_fresh_at_each_access_or_fixed(digits):
    every = list(range(200))
    fresh, fixed = AdderDataset(*digits.train), AdderDataset(*digits.train, fixed_numbers=True)
    assert not torch.equal(fresh[every].number, fresh[every].number)
    assert torch.equal(fixed[every].number, fixed[every].number)
    assert torch.equal(fixed[7].number, fixed[every].number[7])


@pytest.mark.parametrize("fixed", [False, True])
def test_numbers_come_from_the_seed(digits, fixed):
    first, again, other = (
        AdderDataset(*digits.train, fixed_numbers=fixed, seed=seed)[list(range(200))].number
        for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("index", [-1, torch.tensor(4), [1, 2], torch.tensor([1, 2]), slice(15, None, 2)])
def test_indices(index):
    sample = AdderDataset(*marked(20))[index]
    expected = torch.arange(20)[index] % 10
    assert torch.equal(sample.digit, expected)
    assert sample.image.shape == (*expected.shape, 1, 28, 28)


def test_an_index_out_of_range_ends_a_plain_loop():
    assert [int(sample.digit) for sample in AdderDataset(*marked(12))] == [*range(10), 0, 1]


def loader(dataset: AdderDataset, form: str, generator=None, **options) -> DataLoader:
    if form == "stock":
        return DataLoader(dataset, batch_size=32, shuffle=True, generator=generator, **options)
    sampler = BatchSampler(RandomSampler(dataset, generator=generator), 32, drop_last=False)
    return DataLoader(dataset, batch_size=None, sampler=sampler, generator=generator, **options)


@pytest.mark.parametrize("form", ["stock", "fast"])
def test_data_loader(form):
    samples = list(loader(AdderDataset(*marked(100)), form))
    assert all(isinstance(sample, Sample) for sample in samples)
    shapes = [(32, 1, 28, 28), (32, 10), (32,), (32, 19)]
    assert [tuple(field.shape) for field in samples[0]] == shapes
    assert [len(sample.digit) for sample in samples] == [32, 32, 32, 4]
    assert sorted(mark for sample in samples for mark in marks(sample)) == list(range(100))
    for sample in samples:
        assert sample.digit.tolist() == [mark % 10 for mark in marks(sample)]
        assert torch.equal(sample.sum.argmax(1), sample.digit + sample.number.argmax(1))


@pytest.mark.parametrize("form", ["stock", "fast"])
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_draw_numbers_of_their_own(form, persistent):
    def two_epochs():
        batches = loader(
            AdderDataset(*marked(128)),
            form,
            torch.Generator().manual_seed(3),
            num_workers=2,
            persistent_workers=persistent,
        )
        return [[numbers([sample]) for sample in batches] for _ in range(2)]

    first, second = two_epochs()
    served = [tuple(batch) for batch in first + second]
    assert len(set(served)) == len(served), "two workers or two epochs got the same numbers"
    assert two_epochs() == [first, second], "a seeded loader must repeat itself"


def test_workers_take_the_data_sets_seed_into_account():
    def epoch(seed):
        dataset = AdderDataset(*marked(64), seed=seed)
        return numbers(DataLoader(dataset, 32, num_workers=2, generator=torch.Generator().manual_seed(0)))

    assert epoch(1) != epoch(2)


def test_workers_keep_fixed_numbers():
    dataset = AdderDataset(*marked(64), fixed_numbers=True)
    assert numbers(DataLoader(dataset, 32, num_workers=2)) == dataset.numbers.tolist()


@pytest.mark.parametrize(
    ("images", "classes", "named"),
    [
        (torch.zeros(3, 28, 28), torch.zeros(3).long(), "float32"),
        (torch.zeros(3, 8, 8).byte(), torch.zeros(3).long(), "[3, 8, 8]"),
        (torch.zeros(3, 1, 28, 28).byte(), torch.zeros(3).long(), "[3, 1, 28, 28]"),
        (torch.zeros(0, 28, 28).byte(), torch.zeros(0).long(), "[0, 28, 28]"),
        (torch.zeros(3, 28, 28).byte(), torch.zeros(3), "float32"),
        (torch.zeros(3, 28, 28).byte(), torch.zeros(4).long(), "[4]"),
        (torch.zeros(3, 28, 28).byte(), torch.zeros(3, 1).long(), "[3, 1]"),
        (torch.zeros(3, 28, 28).byte(), torch.tensor([0, 10, 1]), "10"),
        (torch.zeros(3, 28, 28).byte(), torch.tensor([0, -1, 1]), "-1"),
    ],
)
def test_tensors_of_another_shape_dtype_or_range_are_refused(images, classes, named):
    with pytest.raises(InputError) as refusal:
        AdderDataset(images, classes)
    assert named in str(refusal.value)


# The sources.


def write_mnist(root, train: int = 48, test: int = 12) -> dict[str, str]:
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
        monkeypatch.setitem(data.MNIST_SHA256, name, checksum)
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
    loaded = load_data(source, small_mnist if through == "argument" else None)
    assert (loaded.source, loaded.split) == ("mnist", "test")
    for split, count in ((loaded.train, 48), (loaded.test, 12)):
        assert torch.equal(split.images, marked(count).images)
        assert torch.equal(split.digits, marked(count).digits)
        AdderDataset(*split)  # accepts them


def test_validation_folds_cover_the_training_set_without_overlap(small_mnist):
    seen = []
    for fold in range(FOLDS):
        loaded = load_data("mnist", small_mnist, validate=fold)
        kept, held_out = (split.images[:, 0, 0].tolist() for split in (loaded.train, loaded.test))
        assert loaded.split == "validation"
        assert sorted(kept + held_out) == list(range(48))
        seen += held_out
    assert sorted(seen) == list(range(48))


def test_validation_never_opens_the_test_files(small_mnist):
    for path in (small_mnist / "MNIST" / "raw").glob("t10k-*"):
        path.write_bytes(b"")  # whoever reads it fails
    assert len(load_data("mnist", small_mnist, validate=3).test.digits) == 4
    with pytest.raises(InputError):
        load_data("mnist", small_mnist)


def test_validation_leaves_the_digits_test_set_out(digits):
    test_images = {bytes(image.numpy()) for image in digits.test.images}
    train_images = {bytes(image.numpy()) for image in digits.train.images}
    loaded = load_data("digits", validate=0)
    for split in (loaded.train, loaded.test):
        found = {bytes(image.numpy()) for image in split.images}
        assert found <= train_images
        assert not found & (test_images - train_images)
    assert len(loaded.train.digits) + len(loaded.test.digits) == len(digits.train.digits)


def test_digits_split_is_fixed_balanced_and_80_to_20(digits):
    again = load_data("digits")
    for split, other in ((digits.train, again.train), (digits.test, again.test)):
        assert torch.equal(split.images, other.images)
        assert torch.equal(split.digits, other.digits)
    assert digits.source == "digits"
    assert (len(digits.train.digits), len(digits.test.digits)) == (1437, 360)
    counts = digits.test.digits.bincount(minlength=10)
    assert (counts.min(), counts.max()) == (35, 37)
    for split in (digits.train, digits.test):
        AdderDataset(*split)  # accepts them


def test_auto_falls_back_with_a_warning(tmp_path, digits):
    with pytest.warns(UserWarning, match="BUNDLED DIGITS") as caught:
        loaded = load_data("auto", tmp_path / "none")
    assert len(caught) == 1
    assert loaded.source == "digits"
    assert torch.equal(loaded.train.images, digits.train.images)


def test_mnist_that_cannot_be_had_is_an_error_of_one_line(tmp_path):
    with pytest.raises(InputError) as refusal:
        load_data("mnist", tmp_path / "none")
    assert str(tmp_path / "none") in str(refusal.value)
    assert "--data digits" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("folder", ["new", "new/and/deep", "there"])
def test_a_failed_download_leaves_nothing_behind(tmp_path, folder, monkeypatch):
    def break_off(mnist):
        (tmp_path / "called").touch()
        raw = Path(mnist.raw_folder)
        raw.mkdir(parents=True)
        (raw / "train-images-idx3-ubyte").write_bytes(b"half")
        raise RuntimeError("Error downloading")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", break_off)
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError):
        load_data("mnist", tmp_path / folder)
    (tmp_path / "called").unlink()  # it did try
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["there"]


def test_a_download_fills_a_missing_folder(tmp_path, monkeypatch):
    def download(mnist):
        for name, checksum in write_mnist(Path(mnist.root)).items():
            monkeypatch.setitem(data.MNIST_SHA256, name, checksum)

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", download)
    loaded = load_data("auto", tmp_path / "new" / "data")
    assert (loaded.source, len(loaded.train.digits)) == ("mnist", 48)
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files == set(MNIST_SHA256)


@pytest.mark.parametrize("source", ["mnist", "auto"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign", "swapped"])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_damaged_files_are_an_error(small_mnist, source, damage, name):
    path = small_mnist / "MNIST" / "raw" / name
    content = path.read_bytes()
    path.write_bytes(
        {
            "truncated": content[:-1],
            "empty": b"",
            "foreign": bytes(len(content)),
            "swapped": (path.parent / "train-labels-idx1-ubyte").read_bytes() + b"\0",
        }[damage]
    )
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


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 10), (30, 12), (1, 7), (9, 1)])
def test_mnist_layout(height, width):
    torch.manual_seed(0)
    scan = torch.zeros(height + 6, width + 5)
    scan[4 : 4 + height, 2 : 2 + width] = 0.5 + torch.rand(height, width) / 2
    image = mnist_layout(scan)
    assert (image.dtype, image.shape) == (torch.uint8, (28, 28))
    rows, columns = image.amax(1).nonzero(), image.amax(0).nonzero()
    sides = [int(found[-1] - found[0]) + 1 for found in (rows, columns)]
    scale = 20 / max(height, width)
    assert sides == [max(1, round(height * scale)), max(1, round(width * scale))]
    for dim in (1, 0):
        mass = image.double().sum(dim)
        assert float((mass * torch.arange(28)).sum() / mass.sum()) == pytest.approx(14, abs=0.51)


def test_layout_keeps_lopsided_ink_inside():
    scan = torch.full((20, 20), 0.01)
    scan[0, 0] = 1
    assert (mnist_layout(scan) > 0).sum() == 400


# The batches training iterates over.


def test_batches_serve_samples_with_class_sums():
    sample = next(iter(Batches(marked(100), 32)))
    assert [tuple(field.shape) for field in sample] == [(32, 1, 28, 28), (32, 10), (32,), (32,)]
    assert sample.sum.dtype == torch.int64
    assert torch.equal(sample.sum, sample.digit + sample.number.argmax(1))
    assert sample.digit.tolist() == [mark % 10 for mark in marks(sample)]


def test_batches_serve_an_image_at_most_once_an_epoch():
    batches = Batches(marked(100), 32)
    epochs = [[mark for sample in batches for mark in marks(sample)] for _ in range(2)]
    assert len(batches) == 3
    for epoch in epochs:
        assert len(epoch) == len(set(epoch)) == 96  # the last, incomplete batch is left out
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("augmented", [{}, {"rotate": 9, "shift": 0.1, "zoom": 0.1}])
def test_batches_come_from_the_seed(digits, augmented):
    def epochs(seed):
        batches = Batches(digits.train, 400, seed=seed, **augmented)
        return torch.cat([field.flatten() for _ in range(2) for sample in batches for field in sample])

    assert torch.equal(epochs(4), epochs(4))
    assert not torch.equal(epochs(4), epochs(5))


@pytest.mark.parametrize("fixed", [False, True])
def test_batches_draw_numbers_afresh_or_once(fixed):
    batches = Batches(marked(60), 60, fixed_numbers=fixed)
    epochs = [
        dict(zip(marks(sample), numbers([sample]), strict=True)) for _ in range(2) for sample in batches
    ]
    assert (epochs[0] == epochs[1]) is fixed


@pytest.mark.parametrize("augmented", [{}, {"rotate": 9, "shift": 0.1, "zoom": 0.1}])
def test_the_ranks_shares_are_the_whole_batch(digits, augmented):
    whole = Batches(digits.train, 60, seed=1, **augmented)
    ranks = [Batches(digits.train, 60, seed=1, rank=rank, world=3, **augmented) for rank in range(3)]
    for sample, *shares in zip(whole, *ranks, strict=True):
        for field, *parts in zip(sample, *shares, strict=True):
            assert all(len(part) == 20 for part in parts)
            torch.testing.assert_close(torch.stack(parts, 1).flatten(0, 1), field, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fixed", [False, True])
def test_withheld_pairs_are_never_served(fixed):
    allowed = torch.ones(10, 10, dtype=torch.bool)
    allowed[3, :9] = False
    allowed[7, 7] = False
    batches = Batches(marked(200), 100, allowed=allowed, fixed_numbers=fixed)
    served = torch.zeros(10, 10, dtype=torch.bool)
    for _ in range(40):
        for sample in batches:
            served[sample.digit, sample.number.argmax(1)] = True
    assert not (served & ~allowed).any()
    assert fixed or torch.equal(served, allowed)


def test_batches_accept_only_sizes_they_can_fill():
    with pytest.raises(InputError, match="batch size 101"):
        Batches(marked(100), 101)
    with pytest.raises(InputError, match="shared by 3"):
        Batches(marked(100), 10, world=3)


MIDDLE = [0.5] * 5  # of the draws: no change


def affine(images, draws, rotate=0.0, shift=0.0, zoom=0.0, slant=0.0):
    return random_affine(images, torch.tensor([draws] * len(images)), rotate, shift, zoom, slant)


def test_affine_identity(digits):
    images = digits.train.images[:5]
    moved = affine(images, MIDDLE, 90, 0.5, 0.5, 0.5)
    assert (moved.dtype, moved.shape) == (torch.float32, (5, 28, 28))
    torch.testing.assert_close(moved, images.float(), rtol=0, atol=0.05)


@pytest.mark.parametrize(("place", "dim"), [(1, 1), (2, 0)])
def test_affine_shift(place, dim):
    image = torch.zeros(1, 28, 28).byte()
    image[0, 14, 14] = 200
    found = []
    for draw in (0.0, 0.25, 0.75, 1.0):
        moved = affine(image, [*MIDDLE[:place], draw, *MIDDLE[place + 1 :]], shift=4 / 28)[0]
        assert float(moved.max()) == pytest.approx(200, abs=0.1)
        where = (moved > 100).nonzero()[0] - 14
        assert where[1 - dim] == 0
        found.append(int(where[dim]))
    assert found in ([-4, -2, 2, 4], [4, 2, -2, -4])


def test_affine_brings_in_paper():
    moved = affine(torch.full((1, 28, 28), 255).byte(), [0.5, 1.0, 0.5, 0.5, 0.5], shift=0.25)[0]
    assert (moved < 1).all(0).sum() == 7


def test_affine_rotation_goes_either_way(digits):
    image = digits.train.images[:1]
    one_way, other_way = (affine(image, [draw, *MIDDLE[1:]], rotate=90) for draw in (0.0, 1.0))
    left, right = (torch.rot90(image.float(), turns, (1, 2)) for turns in (1, -1))
    if (one_way - left).abs().max() > 0.1:
        left, right = right, left
    torch.testing.assert_close(one_way, left, rtol=0, atol=0.1)
    torch.testing.assert_close(other_way, right, rtol=0, atol=0.1)


@pytest.mark.parametrize(("draw", "side"), [(0.0, 10), (0.5, 20), (1.0, 30)])
def test_affine_zoom(draw, side):
    image = torch.zeros(1, 28, 28).byte()
    image[0, 4:24, 4:24] = 200
    moved = affine(image, [0.5, 0.5, 0.5, draw, 0.5], zoom=0.5)[0]
    assert int((moved[14] > 100).sum()) == min(side, 28)
    assert int((moved[:, 14] > 100).sum()) == min(side, 28)


def test_affine_slant_leans_either_way_and_keeps_the_middle():
    image = torch.zeros(1, 28, 28).byte()
    image[0, :, 13:15] = 200
    leaning = [affine(image, [*MIDDLE[:4], draw], slant=0.5)[0] for draw in (0.0, 1.0)]
    middles = [moved[[3, 14, 24]].argmax(1).tolist() for moved in leaning]
    assert middles[0] == sorted(middles[0], reverse=middles[0][0] > 14)
    assert middles[0][0] - 14 == pytest.approx(14 - middles[1][0], abs=2)
    assert abs(middles[0][0] - middles[0][2]) == pytest.approx(10, abs=2)


# Withheld pairs.


@pytest.mark.parametrize("seed", range(5))
def test_every_digit_number_and_sum_stays_in_training(seed):
    seen = ~pair_table(pairs_to_withhold(60, seed))
    assert seen.sum() == 40
    assert seen.any(0).all()
    assert seen.any(1).all()
    assert {int(digit + number) for digit, number in seen.nonzero()} == set(range(19))


def test_withheld_pairs_come_from_the_seed():
    assert pairs_to_withhold(0) == []
    assert pairs_to_withhold(20, 1) == pairs_to_withhold(20, 1) != pairs_to_withhold(20, 2)
    assert [pair for pair in pairs_to_withhold(20, 1) if pair not in pairs_to_withhold(30, 1)] == []


def test_too_many_pairs_to_withhold():
    with pytest.raises(InputError, match="82 pairs cannot be withheld: with seed 0 at most"):
        pairs_to_withhold(82)


def test_a_pair_table_is_true_at_its_pairs():
    assert pair_table([[3, 4], [9, 0]]).nonzero().tolist() == [[3, 4], [9, 0]]


@given(data=st.data(), world=st.integers(1, 3), share=st.integers(1, 4), seed=st.integers(0, 2**40))
def test_any_share_of_any_batch(data, world, share, seed):
    """However many are made at once, an epoch is the same, and the ranks' shares are its batches."""
    size = world * share
    split = marked(data.draw(st.integers(size, 60)))
    affine = {"rotate": data.draw(st.sampled_from([0.0, 10.0])), "seed": seed}
    alone = [*Batches(split, size, **affine)]
    with mock.patch("mnist_adder.data.MADE_AT_ONCE", data.draw(st.integers(1, 70))):
        shared = [[*Batches(split, size, rank=rank, world=world, **affine)] for rank in range(world)]
    assert len(alone) == len(split.digits) // size
    for batch, *shares in zip(alone, *shared, strict=True):
        for whole, *parts in zip(batch, *shares, strict=True):
            assert len(whole) == size
            assert all(torch.equal(whole[rank::world], part) for rank, part in enumerate(parts))
    assert all(torch.equal(b.sum, b.digit + b.number.argmax(1)) for b in alone)
    if not affine["rotate"]:
        seen = [mark for batch in alone for mark in marks(batch)]
        assert len({*seen}) == len(seen) == len(alone) * size
