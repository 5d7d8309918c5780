"""Random image transformations with known maps, for the equivariance source of L_T."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def random_affine(
    count: int,
    size: tuple[int, int],
    *,
    degrees: float,
    scale: float,
    shift: float,
    device: torch.device | str | None = None,
) -> Tensor:
    """Similarity maps from pixels of an image to pixels of its transformed version, about the image's centre.

    Args:
        count: how many.
        size: (height, width) of the image [px].
        degrees: rotation is uniform in ± this.
        scale: magnification is log-uniform in [1 / (1 + scale), 1 + scale].
        shift: translation is uniform in ± this share of the image's size.
        device: where the result lives.

    Returns:
        matrix: (count, 2, 3), x' = matrix @ (x, y, 1) [px].
    """
    height, width = size
    uniform = torch.rand(count, 4, device=device) * 2 - 1
    angle = uniform[:, 0] * math.radians(degrees)
    factor = torch.exp(uniform[:, 1] * math.log1p(scale))
    cos, sin = factor * angle.cos(), factor * angle.sin()
    linear = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    centre = torch.tensor([width / 2, height / 2], device=device)
    extent = torch.tensor([float(width), float(height)], device=device)
    offset = centre + uniform[:, 2:] * shift * extent - linear @ centre
    return torch.cat([linear, offset[..., None]], -1)


def transform_points(matrix: Tensor, points: Tensor) -> Tensor:
    """Apply (B, 2, 3) maps to (N, 2) or (B, N, 2) points; returns (B, N, 2)."""
    return points @ matrix[:, :, :2].transpose(1, 2) + matrix[:, None, :, 2]


def warp_images(images: Tensor, matrix: Tensor) -> Tensor:
    """Images as the maps say: what was at x is at matrix @ (x, 1); outside is the nearest border pixel.

    Args:
        images: (B, C, H, W).
        matrix: (B, 2, 3) [px], invertible.
    """
    height, width = images.shape[-2:]
    linear = torch.linalg.inv(matrix[:, :, :2])
    inverse = torch.cat([linear, -linear @ matrix[:, :, 2:]], -1)
    y = torch.arange(height, device=images.device, dtype=matrix.dtype) + 0.5
    x = torch.arange(width, device=images.device, dtype=matrix.dtype) + 0.5
    target = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).view(-1, 2)
    source = transform_points(inverse, target).view(-1, height, width, 2)
    grid = source / source.new_tensor([width, height]) * 2 - 1
    return functional.grid_sample(
        images, grid.to(images.dtype), mode="bilinear", padding_mode="border", align_corners=False
    )
