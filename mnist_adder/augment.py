"""Random maps, affine and elastic, which make new training images of old ones, many at a time."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class RandomAffine:
    """Rotate, move, scale and shear each image of a batch by a random map of its own.

    Like torchvision's RandomAffine, but with a map for each image, not one for all of them. What
    comes from outside the image is paper, 0. The draws come from torch's global generator.
    """

    degrees: float = 0.0  # the largest rotation, in either direction
    translate: float = 0.0  # the largest move along each axis, before the rest; a share of the side
    scale: float = 0.0  # the largest change of size, as a share
    shear: float = 0.0  # the largest sideways shear, in degrees, in either direction

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images ``[B, C, H, W]`` mapped, as floats of the same shape and range."""
        grid = self.draw_grid(images)  # [B, H, W, 2]
        return F.grid_sample(images.to(grid.dtype), grid, align_corners=False)

    def draw_grid(self, images: Tensor) -> Tensor:
        """Return the point of its image that each new pixel is taken from, [B, H, W, 2]."""
        height, width = images.shape[2:]
        maps = self.draw_maps(len(images), images.device)  # [B, 2, 3]
        # The grid counts both sides from −1 to 1. In an image that is not square, the two units
        # differ, so the factors that mix x and y are converted. (MNIST is square.)
        maps[:, 0, 1] *= height / width
        maps[:, 1, 0] *= width / height
        return affine_grid(maps, height, width)

    def draw_maps(self, count: int, device: torch.device) -> Tensor:
        """Return random maps, float32 [count, 2, 3]: for each new pixel, where it was before."""
        draws = 2 * torch.rand(5, count, device=device) - 1  # uniform in −1…1
        angle = math.radians(self.degrees) * draws[0]  # [B], like all that follow
        # A grid counts the image's side from −1 to 1, which is 2: hence twice the move.
        x = 2 * self.translate * draws[1]
        y = 2 * self.translate * draws[2]
        size = 1 + self.scale * draws[3]
        shear = (math.radians(self.shear) * draws[4]).tan()
        cosine = angle.cos() / size
        sine = angle.sin() / size
        # The inverse of a map that moves, turns, scales and shears, in this order: a larger image
        # reads from a smaller part, hence the division by its size.
        row_x = torch.stack([cosine, shear * cosine - sine, x], 1)  # [B, 3]
        row_y = torch.stack([sine, shear * sine + cosine, y], 1)
        return torch.stack([row_x, row_y], 1)


@dataclass(frozen=True)
class RandomElastic(RandomAffine):
    """Stretch and squeeze each image like rubber, besides an affine map.

    The 5×5 points of a coarse grid move at random, and the pixels between them smoothly with them
    (Simard et al. 2003, "Best practices for convolutional neural networks applied to visual
    document analysis", has a finer field).
    """

    distortion: float = 0.35  # the standard deviation of a point's move along each axis, in pixels

    def draw_grid(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        moves = torch.randn(len(images), 2, 5, 5, device=images.device)
        moves = F.interpolate(moves, (height, width), mode="bicubic", align_corners=True)
        moves *= 2 * self.distortion  # twice, because the grid counts each side as 2
        moves[:, 0] /= width
        moves[:, 1] /= height
        return super().draw_grid(images) + moves.permute(0, 2, 3, 1)


def affine_grid(maps: Tensor, height: int, width: int) -> Tensor:
    """Return the point of the image that each pixel is taken from: maps [B, 2, 3] to [B, H, W, 2].

    `F.affine_grid` does the same by products of small matrices; sums take less time on a CPU.
    """
    # The centres of the pixels, as `F.grid_sample` counts them: the image's sides are at −1 and 1.
    x = (2 * torch.arange(width, dtype=maps.dtype, device=maps.device) + 1) / width - 1
    y = (2 * torch.arange(height, dtype=maps.dtype, device=maps.device) + 1) / height - 1
    by_x, by_y, move = maps.unsqueeze(3).unbind(2)  # [B, 2, 1] each
    columns = by_x * x  # [B, 2, W]
    rows = by_y * y + move  # [B, 2, H]
    grid = columns.unsqueeze(2) + rows.unsqueeze(3)  # [B, 2, H, W]
    return grid.permute(0, 2, 3, 1)
