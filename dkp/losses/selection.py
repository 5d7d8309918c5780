"""The cells of a field that take part in a loss, gathered into lists of equal length."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Selection(NamedTuple):
    """Cells picked in each image.

    Attributes:
        cells: (B, N) flat cell indices (row * W + column).
        mask: (B, N) bool, false for the padding of images with fewer cells.
    """

    cells: Tensor
    mask: Tensor


def select_cells(mask: Tensor, max_cells: int, generator: torch.Generator | None = None) -> Selection:
    """Pick the marked cells of each image, at random where there are too many.

    Args:
        mask: (B, H, W) bool.
        max_cells: Most cells per image.
        generator: Source of randomness on the device of the mask (default torch's own).

    Returns:
        N is the greatest number of marked cells in an image, ``max_cells`` at most.
    """
    flat = mask.flatten(1)
    priority = torch.rand(flat.shape, device=flat.device, generator=generator).masked_fill(~flat, -1.0)
    most = int(flat.sum(1).max()) if flat.numel() else 0
    chosen = priority.topk(min(max_cells, most), dim=1)
    return Selection(chosen.indices, chosen.values >= 0)


def gather_cells(values: Tensor, index: Tensor) -> Tensor:
    """Values at the picked cells.

    Args:
        values: (B, H, W), or (B, C, H, W).
        index: (B, N) from `Selection`.

    Returns:
        (B, N), or (B, N, C).
    """
    if values.ndim == 3:
        return values.flatten(1).gather(1, index)
    return values.flatten(2).gather(2, index.unsqueeze(1).expand(-1, values.shape[1], -1)).mT


def gather_pixels(pixels: Tensor, index: Tensor) -> Tensor:
    """Input pixels (B, N, 2) [px] of the picked cells, from the grid (H, W, 2) of a field."""
    return pixels.flatten(0, 1)[index]
