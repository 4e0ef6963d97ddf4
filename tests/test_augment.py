"""The random affine map: what each draw does to an image, and that it is torch's own map."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from mnist_adder import RandomAffine
from mnist_adder.augment import affine_grid


@pytest.fixture
def draws(monkeypatch):
    """Make the next maps of given draws, a row of five in 0…1 for each image."""

    def set_draws(*rows):
        columns = torch.tensor(rows, dtype=torch.float32).T  # [5, B]
        monkeypatch.setattr(torch, "rand", lambda *size, **_: columns)

    return set_draws


def square() -> torch.Tensor:
    image = torch.zeros(1, 1, 28, 28)
    image[..., 4:24, 4:24] = 200
    return image


def test_no_range_changes_nothing(few):
    images = few.train.images[:5, None]
    moved = RandomAffine()(images)
    assert moved.dtype == torch.float32
    torch.testing.assert_close(moved, images.float(), rtol=0, atol=0.05)


@pytest.mark.parametrize("size", [(28, 28), (28, 56), (5, 3)])
def test_the_grid_is_that_of_affine_grid(size):
    maps = torch.randn(4, 2, 3)
    expected = F.affine_grid(maps, [4, 1, *size], align_corners=False)
    torch.testing.assert_close(affine_grid(maps, *size), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_map_is_that_of_torchvision(few, draws, sign):
    images = few.train.images[:3, None].float()
    draws(*[[(1 + sign * share) / 2 for share in (1, 0.5, -0.75, 0.5, 1)]] * 3)
    augment = RandomAffine(degrees=20, translate=0.1, scale=0.2, shear=10)
    moved = augment(images)
    # torchvision takes the opposite map, in whole pixels of translation from the middle.
    linear = augment.draw_maps(3, torch.device("cpu"))[0]
    grid = F.affine_grid(linear.expand(3, 2, 3), [3, 1, 28, 28], align_corners=False)
    torch.testing.assert_close(
        moved, F.grid_sample(images, grid, align_corners=False), rtol=0, atol=0.01
    )
    # A rotation by itself is torchvision's.
    rotated = RandomAffine(degrees=20)(images)
    expected = v2.functional.affine(
        images, 20.0 * sign, [0, 0], 1.0, [0, 0], interpolation=v2.InterpolationMode.BILINEAR
    )
    other = v2.functional.affine(
        images, -20.0 * sign, [0, 0], 1.0, [0, 0], interpolation=v2.InterpolationMode.BILINEAR
    )
    error = min((rotated - expected).abs().max(), (rotated - other).abs().max())
    assert error < 0.1


def test_each_image_has_a_map_of_its_own(few):
    torch.manual_seed(0)
    image = few.train.images[:1, None].repeat(8, 1, 1, 1)
    moved = RandomAffine(12, 0.07, 0.12, 7)(image)
    assert len(moved.flatten(1).unique(dim=0)) == 8
    assert moved.min() >= 0
    assert moved.max() <= 255.01


@pytest.mark.parametrize(("place", "axis"), [(1, 1), (2, 0)])
def test_translate_is_a_share_of_the_side(draws, place, axis):
    image = torch.zeros(1, 1, 28, 28)
    image[..., 14, 14] = 200
    moves = []
    for draw in (0.0, 0.25, 0.75, 1.0):
        row = [0.5] * 5
        row[place] = draw
        draws(row)
        moved = RandomAffine(translate=4 / 28)(image)[0, 0]
        move = (moved > 100).nonzero()[0] - 14
        assert move[1 - axis] == 0
        moves.append(int(move[axis]))
    assert moves in ([-4, -2, 2, 4], [4, 2, -2, -4])


def test_paper_comes_in_from_outside(draws):
    draws([0.5, 1.0, 0.5, 0.5, 0.5])
    moved = RandomAffine(translate=0.25)(torch.full((1, 1, 28, 28), 255.0))[0, 0]
    assert (moved < 1).all(0).sum() == 7


def test_rotation_goes_either_way(few, draws):
    image = few.train.images[:1, None].float()
    draws([0.0, 0.5, 0.5, 0.5, 0.5], [1.0, 0.5, 0.5, 0.5, 0.5])
    turned = RandomAffine(degrees=90)(image.repeat(2, 1, 1, 1))
    left = torch.rot90(image, 1, (2, 3))[0]
    right = torch.rot90(image, -1, (2, 3))[0]
    expected = [left, right] if (turned[0] - left).abs().max() < 0.1 else [right, left]
    torch.testing.assert_close(turned, torch.stack(expected), rtol=0, atol=0.1)


@pytest.mark.parametrize(("draw", "side"), [(0.0, 10), (0.5, 20), (1.0, 28)])
def test_scale_is_a_share_of_the_size(draws, draw, side):
    draws([0.5, 0.5, 0.5, draw, 0.5])
    moved = RandomAffine(scale=0.5)(square())[0, 0]
    assert int((moved[14] > 100).sum()) == side
    assert int((moved[:, 14] > 100).sum()) == side


def test_shear_is_in_degrees_and_keeps_the_middle(draws):
    image = torch.zeros(2, 1, 28, 28)
    image[..., 13:15] = 200
    draws([0.5] * 4 + [0.0], [0.5] * 4 + [1.0])
    moved = RandomAffine(shear=45)(image)[:, 0]
    middles = (moved * torch.arange(28.0)).sum(2) / moved.sum(2)  # [2, 28], a column for each row
    lean = middles[:, 20] - middles[:, 7]
    assert lean.abs().tolist() == pytest.approx([13, 13], abs=0.1)  # a column for each row
    assert lean.sum() == pytest.approx(0, abs=0.1)
    assert middles[:, 13:15].mean(1).tolist() == pytest.approx([13.5, 13.5], abs=0.1)


def test_the_global_seed_repeats_it(few):
    images = few.train.images[:4, None]
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(RandomAffine(degrees=30)(images))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert math.isclose(results[0].sum(), results[2].sum(), rel_tol=0.1)  # the ink is the same
