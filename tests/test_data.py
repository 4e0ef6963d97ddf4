"""The data set, its shapes and its indices; the loader that training reads."""

import pickle
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from mnist_adder.checks import InputError
from mnist_adder.data import (
    MEAN,
    STD,
    AdderDataset,
    Loader,
    Sample,
    Split,
    derive_seed,
    normalise,
    one_hot_number,
    pair_table,
)

AFFINE = (9, 0.1, 0.1, 5)  # degrees, translate, scale, shear


def marked(count: int) -> Split:
    """Images that can be told apart: every pixel of image i is i."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None].expand(-1, 28, 28).clone()
    return Split(images, torch.arange(count) % 10)


def marks(sample: Sample) -> list[int]:
    """Which of `marked`'s images a batch holds."""
    return (sample.image[:, 0, 0, 0] * 255 * STD + 255 * MEAN).round().int().tolist()


def numbers(samples) -> list[int]:
    return torch.cat([sample.number.argmax(1) for sample in samples]).tolist()


def subtract(digit: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
    return digit - number + 9


# The data set.


@given(rows=st.lists(st.integers(-20, 19), min_size=1, max_size=30), seed=st.integers(0, 2**40), fixed=st.booleans())
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
    image, number, digit, _ = AdderDataset(*digits.train)[:]
    assert torch.equal(digit, digits.train.digits)
    assert number.sum(0).min() > 0.05 * len(digit)
    torch.testing.assert_close(image * STD + MEAN, digits.train.images[:, None] / 255)
    assert torch.equal(image, normalise(digits.train.images))


@pytest.mark.parametrize("fixed", [False, True])
def test_numbers_come_from_the_seed_and_are_fresh_or_fixed(fixed):
    dataset, again, other = (AdderDataset(*marked(200), fixed_numbers=fixed, seed=seed) for seed in (5, 5, 6))
    first = dataset[:].number
    assert torch.equal(first, again[:].number)
    assert not torch.equal(first, other[:].number)
    assert torch.equal(first, dataset[:].number) is fixed
    if fixed:
        assert torch.equal(first[7], dataset[7].number)


MASK = [True, False] * 10


@pytest.mark.parametrize(
    "index",
    [
        *(-1, np.int64(4), torch.tensor(4), slice(15, None, 2)),
        *([1, 2], np.array([1, 2]), torch.tensor([1, 2])),
        *(MASK, np.array(MASK), torch.tensor(MASK), [False] * 20),
    ],
    ids=repr,
)
def test_an_index_means_what_it_means_to_numpy(index):
    sample = AdderDataset(*marked(20))[index]
    expected = np.arange(20)[np.asarray(index) if torch.is_tensor(index) else index]
    assert sample.image.shape == (*expected.shape, 1, 28, 28)
    assert sample.digit.tolist() == (expected % 10).tolist()


def test_a_mask_of_another_length_is_an_error():
    with pytest.raises(IndexError):
        AdderDataset(*marked(20))[[True] * 19]


def test_an_index_out_of_range_ends_a_plain_loop():
    assert [int(sample.digit) for sample in AdderDataset(*marked(12))] == [*range(10), 0, 1]


def data_loader(dataset: AdderDataset, form: str, generator=None, **options) -> DataLoader:
    if form == "stock":
        return DataLoader(dataset, batch_size=32, shuffle=True, generator=generator, **options)
    sampler = BatchSampler(RandomSampler(dataset, generator=generator), 32, drop_last=False)
    return DataLoader(dataset, batch_size=None, sampler=sampler, generator=generator, **options)


@pytest.mark.parametrize("form", ["stock", "fast"])
def test_data_loader(form):
    samples = list(data_loader(AdderDataset(*marked(100)), form))
    assert all(isinstance(sample, Sample) for sample in samples)
    assert [tuple(field.shape) for field in samples[0]] == [(32, 1, 28, 28), (32, 10), (32,), (32, 19)]
    assert [len(sample.digit) for sample in samples] == [32, 32, 32, 4]
    assert sorted(mark for sample in samples for mark in marks(sample)) == list(range(100))
    for sample in samples:
        assert sample.digit.tolist() == [mark % 10 for mark in marks(sample)]
        assert torch.equal(sample.sum.argmax(1), sample.digit + sample.number.argmax(1))


@pytest.mark.parametrize("form", ["stock", "fast"])
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_draw_numbers_of_their_own(form, persistent):
    def two_epochs():
        options = {"num_workers": 2, "persistent_workers": persistent, "multiprocessing_context": "fork"}
        loader = data_loader(AdderDataset(*marked(128)), form, torch.Generator().manual_seed(3), **options)
        return [[numbers([sample]) for sample in loader] for _ in range(2)]

    first, second = two_epochs()
    batches = [tuple(batch) for batch in first + second]
    assert len(set(batches)) == len(batches), "two workers or two epochs got the same numbers"
    assert two_epochs() == [first, second], "a seeded loader must repeat itself"


def test_workers_that_are_started_afresh_get_a_used_data_set():
    dataset = AdderDataset(*marked(64))
    dataset[:]
    first, second = DataLoader(dataset, 32, num_workers=2, multiprocessing_context="spawn")
    assert marks(first) + marks(second) == list(range(64))
    assert numbers([first]) != numbers([second])


def test_a_pickled_data_set_goes_on_with_the_same_numbers():
    dataset = AdderDataset(*marked(64))
    next(iter(DataLoader(dataset, 32)))
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[:].number, dataset[:].number)


def test_workers_take_the_data_sets_seed_into_account():
    def epoch(seed):
        dataset = AdderDataset(*marked(64), seed=seed)
        return numbers(DataLoader(dataset, 32, num_workers=2, generator=torch.Generator().manual_seed(0)))

    assert epoch(1) != epoch(2)


def test_workers_keep_fixed_numbers():
    dataset = AdderDataset(*marked(64), fixed_numbers=True)
    assert numbers(DataLoader(dataset, 32, num_workers=2)) == dataset.numbers.tolist()


def test_another_operation():
    dataset = AdderDataset(*marked(64), target=subtract)
    loader = Loader(marked(64), 32, target=subtract)
    for sample in loader:
        assert torch.equal(sample.sum, sample.digit - sample.number.argmax(1) + 9)
    sample = dataset[:]
    assert torch.equal(sample.sum.argmax(1), sample.digit - sample.number.argmax(1) + 9)


# The loader.


def epoch_of(loader: Loader, epoch: int) -> list[Sample]:
    loader.set_epoch(epoch)
    return list(loader)


def test_the_loader_serves_samples_with_class_sums():
    sample = next(iter(Loader(marked(100), 32)))
    assert [tuple(field.shape) for field in sample] == [(32, 1, 28, 28), (32, 10), (32,), (32,)]
    assert sample.sum.dtype == torch.int64
    assert torch.equal(sample.sum, sample.digit + sample.number.argmax(1))
    assert sample.digit.tolist() == [mark % 10 for mark in marks(sample)]


def test_the_loader_serves_an_image_at_most_once_an_epoch():
    loader = Loader(marked(100), 32)
    epochs = [[mark for sample in epoch_of(loader, epoch) for mark in marks(sample)] for epoch in (1, 2)]
    assert len(loader) == 3
    for epoch in epochs:
        assert len(epoch) == len(set(epoch)) == 96  # the last, incomplete batch is left out
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("affine", [(0, 0, 0, 0), AFFINE])
def test_an_epoch_depends_on_the_seed_and_the_epoch_alone(digits, affine):
    def values(loader, epoch):
        return torch.cat([field.flatten() for sample in epoch_of(loader, epoch) for field in sample])

    loader, again, other = (Loader(digits.train, 400, seed=seed, affine=affine) for seed in (4, 4, 5))
    first = values(loader, 1)
    assert not torch.equal(first, values(loader, 2))
    assert not torch.equal(first, values(other, 1))
    assert torch.equal(values(loader, 7), values(again, 7))  # whatever was served before
    assert torch.equal(first, values(loader, 1))


@pytest.mark.parametrize("fixed", [False, True])
def test_the_loader_draws_numbers_afresh_or_once(fixed):
    loader = Loader(marked(60), 60, fixed_numbers=fixed)
    first, second = (
        dict(zip(marks(sample), numbers([sample]), strict=True))
        for epoch in (1, 2)
        for sample in epoch_of(loader, epoch)
    )
    assert (first == second) is fixed


@given(
    data=st.data(),
    world_size=st.integers(1, 3),
    share=st.integers(2, 4),
    seed=st.integers(0, 2**40),
    affine=st.sampled_from([(0, 0, 0, 0), AFFINE]),
)
def test_the_ranks_shares_are_the_whole_batch(data, world_size, share, seed, affine):
    """An epoch is the same however many batches are made at once, and the ranks' shares are its batches."""
    size = world_size * share
    split = marked(data.draw(st.integers(size, 60)))
    alone = [*Loader(split, size, affine=affine, seed=seed)]
    with mock.patch("mnist_adder.data.MADE_AT_ONCE", data.draw(st.integers(1, 70))):
        ranks = [
            [*Loader(split, size, affine=affine, seed=seed, rank=rank, world_size=world_size)]
            for rank in range(world_size)
        ]
    assert len(alone) == len(split.digits) // size
    for batch, *shares in zip(alone, *ranks, strict=True):
        for whole, *parts in zip(batch, *shares, strict=True):
            assert len(whole) == size
            for rank, part in enumerate(parts):
                torch.testing.assert_close(whole[rank::world_size], part, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fixed", [False, True])
def test_withheld_pairs_are_never_served(fixed):
    withheld = [*((3, number) for number in range(9)), (7, 7)]
    loader = Loader(marked(200), 100, withheld=withheld, fixed_numbers=fixed)
    served = torch.zeros(10, 10, dtype=torch.bool)
    for epoch in range(40):
        for sample in epoch_of(loader, epoch):
            served[sample.digit, sample.number.argmax(1)] = True
    shown = ~pair_table(withheld)
    assert not (served & ~shown).any()
    assert fixed or torch.equal(served, shown)


def test_withheld_pairs_are_not_served_where_a_draw_is_0():
    with mock.patch("torch.rand", lambda *size, **_: torch.zeros(*size)):
        loader = Loader(marked(20), 20, withheld=[(digit, 0) for digit in range(10)])
        (sample,) = epoch_of(loader, 1)
    assert (sample.number.argmax(1) > 0).all()


def test_a_pair_table_is_true_at_its_pairs():
    assert pair_table([[3, 4], [9, 0]]).nonzero().tolist() == [[3, 4], [9, 0]]


@pytest.mark.parametrize(
    ("batch_size", "options", "message"),
    [
        (101, {}, "batch size 101 is larger than the training set"),
        (10, {"world_size": 3}, "3 processes"),
        (3, {"world_size": 3}, "of 2 or more"),
        (1, {}, "of 2 or more"),
        (10, {"withheld": [(3, number) for number in range(10)]}, "every digit needs a number"),
    ],
)
def test_what_the_loader_cannot_serve_is_refused(batch_size, options, message):
    with pytest.raises(InputError, match=message):
        Loader(marked(100), batch_size, **options)


@given(st.lists(st.tuples(st.integers(0, 2**63), st.integers(0, 100)), min_size=2, max_size=50, unique=True))
def test_other_parts_give_another_seed(parts):
    seeds = {derive_seed(*pair) for pair in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)
