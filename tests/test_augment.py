"""The random maps: what each draw does to an image, and that affine ones are torch's own."""

import pytest
import torch
from torchvision.transforms import v2

from mnist_adder import RandomAffine, RandomElastic


@pytest.fixture
def draws(monkeypatch):
    """Make the next maps of given draws, a row of five in 0…1 for each image."""

    def set_draws(*rows):
        columns = torch.tensor(rows, dtype=torch.float32).T  # [5, B]
        monkeypatch.setattr(torch, "rand", lambda *size, **_: columns)

    return set_draws


def test_no_range_changes_nothing(few):
    images = few.train.images[:5, None]
    moved = RandomAffine()(images)
    assert moved.dtype == torch.float32
    torch.testing.assert_close(moved, images.float(), rtol=0, atol=0.05)


@pytest.mark.parametrize("draw", [0.0, 0.75])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_each_draw_is_torchvisions_map(few, draws, place, draw):
    images = few.train.images[:3, None].float()
    row = [0.5] * 5
    row[place] = draw
    draws(row, row, row)
    moved = RandomAffine(degrees=20, translate=8 / 28, scale=0.2, shear=10)(images)
    change = 2 * draw - 1
    changes = [
        {"angle": -20 * change},  # torchvision counts it the other way round
        {"translate": [-8 * change, 0]},  # of pixels: the image goes the other way than the grid
        {"translate": [0, -8 * change]},
        {"scale": 1 + 0.2 * change},
    ]
    options = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    bilinear = v2.InterpolationMode.BILINEAR
    expected = v2.functional.affine(images, **options | changes[place], interpolation=bilinear)
    torch.testing.assert_close(moved, expected, rtol=0, atol=0.1)


def test_a_wide_image_is_turned_and_not_sheared(few, draws):
    digits = few.train.images[:2, None].float()
    wide = torch.cat([digits, digits], 3)  # [2, 1, 28, 56]
    draws([1.0, 0.5, 0.5, 0.5, 0.5], [1.0, 0.5, 0.5, 0.5, 0.5])
    turned = RandomAffine(degrees=20)(wide)
    expected = v2.functional.rotate(wide, 20, v2.InterpolationMode.BILINEAR)
    torch.testing.assert_close(turned, expected, rtol=0, atol=0.1)


def test_paper_comes_in_from_outside(draws):
    draws([0.5, 1.0, 0.5, 0.5, 0.5])
    moved = RandomAffine(translate=0.25)(torch.full((1, 1, 28, 28), 255.0))[0, 0]
    assert (moved < 1).all(0).sum() == 7


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


def test_each_image_has_a_map_of_its_own_and_the_global_seed_repeats_it(few):
    images = few.train.images[:1, None].repeat(4, 1, 1, 1)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(RandomAffine(degrees=30)(images))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert len(results[0].flatten(1).unique(dim=0)) == 4


def test_elastic_moves_points_by_some_pixels_smoothly():
    torch.manual_seed(0)
    wide = torch.zeros(400, 1, 28, 56)
    moves = RandomElastic(distortion=2).draw_grid(wide) - RandomAffine().draw_grid(wide)
    pixels = moves * torch.tensor([56, 28]) / 2  # the grid counts each side as 2
    corners = pixels[:, [0, 0, -1, -1], [0, -1, 0, -1]]  # points of the coarse grid
    assert corners.std((0, 1)).tolist() == pytest.approx([2, 2], abs=0.2)
    assert pixels.diff(dim=2).abs().max() < 2  # neighbours stay neighbours


def test_elastic_turns_and_moves_as_affine_does(few, draws):
    images = few.train.images[:3, None]
    draws(*[[1.0, 0.25, 0.5, 0.75, 0.5]] * 3)
    settings = {"degrees": 20, "translate": 0.1, "scale": 0.2}
    expected = RandomAffine(**settings)(images)
    torch.testing.assert_close(RandomElastic(**settings, distortion=0)(images), expected)
