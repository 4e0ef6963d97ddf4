"""The random affine maps that make new training images out of old ones, a batch at a time on any device."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def affine_maps(draws: Tensor, degrees: float, translate: float, scale: float, shear: float) -> Tensor:
    """The map of each image: rotation, move, size and shear; torchvision's draws one map for a whole batch.

    Args:
        draws: float [B, 5], uniform in 0…1: rotation, move along x, move along y, size, shear.
        degrees, shear: the largest rotation and sideways shear, in degrees, in either direction.
        translate, scale: the largest move along each axis and change of size, as shares of the side.

    Returns float [B, 2, 3], in the form of ``F.affine_grid``.
    """
    rotation, x, y, size, lean = (2 * draws - 1).unbind(1)  # [B] each, in −1…1
    angle, size, lean = rotation * math.radians(degrees), 1 + size * scale, (lean * math.radians(shear)).tan()
    # A grid counts the image's side from −1 to 1, which is 2: hence twice the move.
    x, y = x * (2 * translate), y * (2 * translate)
    cosine, sine = angle.cos() / size, angle.sin() / size
    rows = (cosine, lean * cosine - sine, x), (sine, lean * sine + cosine, y)
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def apply_affine(images: Tensor, maps: Tensor) -> Tensor:
    """Each image uint8 [B, 28, 28] moved by its map [B, 2, 3]: float32 [B, 28, 28] in 0…255; outside is paper, 0."""
    # F.affine_grid gives the same in three times the time: it multiplies matrices of three columns.
    centres = torch.linspace(-1, 1, 28, device=images.device) * 27 / 28
    along_x, along_y, centre = maps.unbind(2)  # [B, 2] each
    along_x, along_y = along_x[..., None] * centres, along_y[..., None] * centres + centre[..., None]  # [B, 2, 28]
    grid = (along_x[:, :, None] + along_y[..., None]).permute(0, 2, 3, 1)  # [B, 28, 28, 2]
    return F.grid_sample(images.float().unsqueeze(1), grid, align_corners=False).squeeze(1)
