"""The data set: values, shapes, indices, workers, withheld pairs, other operations and sizes."""

import multiprocessing

import numpy as np
import pytest
import torch
from helpers import forkserver, marked, needs_cuda
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from mnist_adder import AdderDataset, Data, InputError, Loader, RandomAffine, Sample
from mnist_adder.data import MEAN, STD


def marks(sample: Sample) -> list[int]:
    """Return which of `marked`'s images a batch holds."""
    return (sample.image[:, 0, 0, 0] * 255 * STD + 255 * MEAN).round().int().tolist()


# Samples.


@given(st.lists(st.integers(-20, 19), min_size=1, max_size=30), st.booleans())
def test_a_sample_holds_the_image_its_digit_a_number_and_their_sum(rows, fixed):
    split = marked(20)
    sample = AdderDataset(*split, fixed_numbers=fixed)[rows]
    number = sample.number.argmax(1)
    wanted = torch.tensor(rows) % 20  # as in a list, a negative index counts from the end
    assert marks(sample) == wanted.tolist()
    assert torch.equal(sample.digit, split.digits[wanted])
    assert torch.equal(sample.number, torch.eye(10)[number])
    assert torch.equal(sample.sum, torch.eye(19)[sample.digit + number])


def test_one_sample_has_the_documented_form(digits):
    sample = AdderDataset(*digits.train)[3]
    assert sample._fields == ("image", "number", "digit", "sum")
    assert [tuple(field.shape) for field in sample] == [(1, 28, 28), (10,), (), (19,)]
    float32 = torch.float32
    assert [field.dtype for field in sample] == [float32, float32, torch.int64, float32]


def test_images_are_normalised_as_mnist(few):
    sample = AdderDataset(*few.train)[:]
    torch.testing.assert_close(sample.image * 0.3081 + 0.1307, few.train.images[:, None] / 255)


@pytest.mark.parametrize(
    "index",
    [-1, np.int64(4), torch.tensor(4), slice(15, None, 2), [1, 2], np.array([1, 2])],
    ids=repr,
)
def test_an_index_means_what_it_means_to_numpy(index):
    sample = AdderDataset(*marked(20))[index]
    expected = (np.arange(20) % 10)[index]
    assert sample.image.shape == (*expected.shape, 1, 28, 28)
    assert sample.digit.tolist() == expected.tolist()


def test_a_plain_loop_ends_after_the_last_sample():
    assert [int(sample.digit) for sample in AdderDataset(*marked(12))] == [*range(10), 0, 1]


@pytest.mark.parametrize("fixed", [False, True])
def test_numbers_are_fresh_at_each_access_or_fixed(fixed):
    torch.manual_seed(5)
    dataset = AdderDataset(*marked(200), fixed_numbers=fixed)
    first = dataset[:].number
    assert first.sum(0).min() >= 8  # about 20 of each number
    assert torch.equal(first, dataset[:].number) is fixed
    torch.manual_seed(5)
    assert torch.equal(first, AdderDataset(*marked(200), fixed_numbers=fixed)[:].number)


# Withheld pairs.


@pytest.mark.parametrize("fixed", [False, True])
def test_withheld_pairs_are_never_served(fixed):
    pairs = [*((3, number) for number in range(9)), (7, 7)]
    dataset = AdderDataset(*marked(200), withheld=pairs, fixed_numbers=fixed)
    served = torch.zeros(10, 10, dtype=torch.int64)
    for _ in range(40):
        sample = dataset[:]
        served[sample.digit, sample.number.argmax(1)] += 1
    assert not any(served[pair] for pair in pairs)
    assert fixed or (served > 0).sum() == 90  # all others are


def test_a_withheld_number_is_not_served_where_a_draw_is_0(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.zeros(*size))
    dataset = AdderDataset(*marked(20), withheld=[(digit, 0) for digit in range(10)])
    assert (dataset[:].number.argmax(1) > 0).all()


@pytest.mark.parametrize(
    ("withheld", "message"),
    [
        ([(3, n) for n in range(10)], "every digit needs a number"),
        ([(3, 10)], "no pair"),
        ([(-1, 0)], "no pair"),
    ],
)
def test_pairs_that_cannot_be_withheld(withheld, message):
    with pytest.raises(InputError, match=message):
        AdderDataset(*marked(20), withheld=withheld)


# Augmentation.


def test_a_transform_of_torchvision_is_drawn_for_each_image():
    images = torch.zeros(50, 28, 28, dtype=torch.uint8)
    images[:, 10:18, 14] = 255
    transform = v2.RandomAffine(0, translate=(0.3, 0))
    dataset = AdderDataset(
        images,
        torch.zeros(50, dtype=torch.int64),
        augment=lambda images: torch.stack([transform(image) for image in images]),
    )
    columns = dataset[:].image.sum((1, 2)).argmax(1)
    assert len(columns.unique()) > 5
    assert dataset[0].image.shape == (1, 28, 28)


def test_augment_gets_the_batch_in_0_to_255():
    given_images = []

    def augment(images):
        given_images.append(images)
        return images + 100

    dataset = AdderDataset(*marked(20), augment=augment)
    sample = dataset[[3, 5]]
    assert given_images[0].shape == (2, 1, 28, 28)
    assert given_images[0].unique().tolist() == [3, 5]
    assert marks(sample) == [103, 105]


# Loaders.


def test_a_stock_data_loader_gives_batches_of_samples():
    samples = list(DataLoader(AdderDataset(*marked(100)), batch_size=32, shuffle=True))
    assert all(isinstance(sample, Sample) for sample in samples)
    shapes = [tuple(field.shape) for field in samples[0]]
    assert shapes == [(32, 1, 28, 28), (32, 10), (32,), (32, 19)]
    assert sorted(mark for sample in samples for mark in marks(sample)) == list(range(100))


def numbers_of_two_epochs(method) -> list[tuple[int, ...]]:
    """Return the numbers of each batch, which two workers serve."""
    torch.manual_seed(3)
    dataset = AdderDataset(torch.zeros(120, 28, 28).byte(), torch.zeros(120).long())
    options = {"persistent_workers": True, "multiprocessing_context": method}
    loader = DataLoader(dataset, 30, num_workers=2, **options)
    batches = [batch.number.argmax(1) for _ in range(2) for batch in loader]
    return [tuple(numbers.tolist()) for numbers in batches]


def test_each_worker_draws_numbers_of_its_own_however_it_is_started():
    forkserver()
    for method in multiprocessing.get_all_start_methods():
        numbers = numbers_of_two_epochs(method)
        assert len(set(numbers)) == 8, f"{method}: two workers or two epochs got the same numbers"
    assert numbers_of_two_epochs(method) == numbers


@pytest.mark.parametrize("made_at_once", [1, 2, 16])  # batches
def test_the_loader_serves_an_image_at_most_once_an_epoch_and_shuffles(made_at_once):
    loader = Loader(AdderDataset(*marked(100)), 32)
    loader.MADE_AT_ONCE = made_at_once
    epochs = [[mark for sample in loader for mark in marks(sample)] for _ in range(2)]
    assert len(loader) == 3
    assert [len(sample.digit) for sample in loader] == [32, 32, 32]
    for epoch in epochs:
        assert len(epoch) == len(set(epoch)) == 96  # the last, incomplete batch is left out
    assert epochs[0] != epochs[1]
    sample = next(iter(loader))
    assert sample.digit.tolist() == [mark % 10 for mark in marks(sample)]


# Other operations, counts and sizes.


def test_an_operation_may_leave_an_input_out(few):
    data = Data("mine", few.train, few.test, target=lambda digit, number: number)
    assert data.sums[3].tolist() == list(range(10))


def test_the_number_of_classes_comes_from_the_operation(few):
    data = Data("mine", few.train, few.test, target=lambda digit, number: digit * number)
    assert data.sum_classes == 82
    assert data.sums[7].tolist() == [7 * number for number in range(10)]
    assert AdderDataset(*few.train, target=data.target)[0].sum.shape == (82,)


@pytest.mark.parametrize(
    "target",
    [
        lambda digit, number: digit - number,
        lambda digit, number: digit / (number + 1),
        lambda digit, number: digit > number,
        lambda digit, number: digit.sum(),
    ],
    ids=["negative", "no whole number", "bool", "one for all"],
)
def test_an_operation_that_gives_no_classes_is_refused(few, target):
    with pytest.raises(InputError, match="the operation must give"):
        Data("mine", few.train, few.test, target=target)
    with pytest.raises(InputError, match="the operation must give"):
        AdderDataset(*few.train, target=target)


@needs_cuda
def test_samples_are_made_where_the_images_lie(few):
    images = few.train.images.cuda()
    digits = few.train.digits.cuda()
    loader = Loader(AdderDataset(images, digits, augment=RandomAffine(degrees=9)), 60)
    assert all(field.is_cuda for sample in loader for field in sample)
