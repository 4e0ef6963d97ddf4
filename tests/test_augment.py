"""The random affine map: what each draw does to an image."""

import pytest
import torch

from mnist_adder.augment import affine_maps, apply_affine

MIDDLE = [0.5] * 5  # of the draws: no change


def affine(images, draws=MIDDLE, *, degrees=0.0, translate=0.0, scale=0.0, shear=0.0):
    return apply_affine(images, affine_maps(torch.tensor([draws] * len(images)), degrees, translate, scale, shear))


def test_the_middle_of_every_draw_changes_nothing(digits):
    images = digits.train.images[:5]
    moved = affine(images, degrees=90, translate=0.5, scale=0.5, shear=30)
    assert (moved.dtype, moved.shape) == (torch.float32, (5, 28, 28))
    torch.testing.assert_close(moved, images.float(), rtol=0, atol=0.05)


def test_each_image_has_a_map_of_its_own(digits):
    images, draws = digits.train.images[:8], torch.rand(8, 5, generator=torch.Generator().manual_seed(0))
    together = apply_affine(images, affine_maps(draws, 12, 0.07, 0.12, 7))
    alone = [apply_affine(images[i : i + 1], affine_maps(draws[i : i + 1], 12, 0.07, 0.12, 7)) for i in range(8)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-4)
    assert together.min() >= 0 and together.max() <= 255.01


def test_it_is_the_map_of_affine_grid(digits):
    images, draws = digits.train.images[:8], torch.rand(8, 5, generator=torch.Generator().manual_seed(0))
    angle, right, down, size, lean = (2 * draws.double() - 1).unbind(1)
    angle, lean = torch.deg2rad(12 * angle), torch.deg2rad(7 * lean).tan()
    one, zero = torch.ones(8).double(), torch.zeros(8).double()
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(8, 2, 2)
    sheared = torch.stack([one, zero, lean, one], 1).view(8, 2, 2).mT
    linear = rotation @ sheared / (1 + 0.12 * size)[:, None, None]
    theta = torch.cat([linear, 2 * 0.07 * torch.stack([right, down], 1)[:, :, None]], 2)
    grid = torch.nn.functional.affine_grid(theta, [8, 1, 28, 28], align_corners=False)
    expected = torch.nn.functional.grid_sample(images[:, None].double(), grid, align_corners=False)[:, 0]
    moved = apply_affine(images, affine_maps(draws, 12, 0.07, 0.12, 7))
    torch.testing.assert_close(moved.double(), expected, rtol=0, atol=0.01)


@pytest.mark.parametrize(("place", "dim"), [(1, 1), (2, 0)])
def test_translate(place, dim):
    image = torch.zeros(1, 28, 28).byte()
    image[0, 14, 14] = 200
    moves = []
    for draw in (0.0, 0.25, 0.75, 1.0):
        moved = affine(image, [*MIDDLE[:place], draw, *MIDDLE[place + 1 :]], translate=4 / 28)[0]
        assert float(moved.max()) == pytest.approx(200, abs=0.1)
        move = (moved > 100).nonzero()[0] - 14
        assert move[1 - dim] == 0
        moves.append(int(move[dim]))
    assert moves in ([-4, -2, 2, 4], [4, 2, -2, -4])


def test_paper_comes_in_from_outside():
    moved = affine(torch.full((1, 28, 28), 255).byte(), [0.5, 1.0, 0.5, 0.5, 0.5], translate=0.25)[0]
    assert (moved < 1).all(0).sum() == 7


def test_rotation_goes_either_way(digits):
    image = digits.train.images[:1]
    one_way, other_way = (affine(image, [draw, *MIDDLE[1:]], degrees=90) for draw in (0.0, 1.0))
    left, right = (torch.rot90(image.float(), turns, (1, 2)) for turns in (1, -1))
    if (one_way - left).abs().max() > 0.1:
        left, right = right, left
    torch.testing.assert_close(one_way, left, rtol=0, atol=0.1)
    torch.testing.assert_close(other_way, right, rtol=0, atol=0.1)


@pytest.mark.parametrize(("draw", "side"), [(0.0, 10), (0.5, 20), (1.0, 28)])
def test_scale(draw, side):
    image = torch.zeros(1, 28, 28).byte()
    image[0, 4:24, 4:24] = 200
    moved = affine(image, [0.5, 0.5, 0.5, draw, 0.5], scale=0.5)[0]
    assert int((moved[14] > 100).sum()) == side
    assert int((moved[:, 14] > 100).sum()) == side


@pytest.mark.parametrize("draw", [0.0, 1.0])
def test_shear_is_in_degrees_and_keeps_the_middle(draw):
    image = torch.zeros(1, 28, 28).byte()
    image[0, :, 13:15] = 200
    moved = affine(image, [*MIDDLE[:4], draw], shear=45)[0]
    middles = (moved * torch.arange(28.0)).sum(1) / moved.sum(1)
    lean = middles[20] - middles[7]
    assert abs(lean) == pytest.approx(13, abs=0.1)  # at 45 degrees, a column for each row
    assert middles[13:15].mean() == pytest.approx(13.5, abs=0.1)
    other_way = affine(image, [*MIDDLE[:4], 1 - draw], shear=45)[0]
    torch.testing.assert_close(other_way, moved.flip(1), rtol=0, atol=0.1)
