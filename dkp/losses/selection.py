"""The cells of a field that take part in a loss, gathered into lists of equal length."""

from typing import NamedTuple

import torch
from torch import Tensor

from dkp.fields import ChartField, EmbeddingField, Field, gather_cells
from dkp.geometry.arguments import blank, expect_mask


class Selection(NamedTuple):
    """Cells picked in each image.

    Attributes:
        cells: (B, N) flat cell indices (row * W + column).
        mask: (B, N) bool, false for the padding of images with fewer cells.
    """

    cells: Tensor
    mask: Tensor


def select_cells(mask: Tensor, max_cells: int) -> Selection:
    """Pick the marked cells of each image, at random where there are too many.

    Args:
        mask: (B, H, W) bool.
        max_cells: Most cells per image.

    Returns:
        N is the greatest number of marked cells in an image, ``max_cells`` at most.

    Raises:
        ValueError: The mask is not bool.
    """
    expect_mask("mask", mask, *mask.shape)
    flat = mask.flatten(1)
    priority = torch.rand(flat.shape, device=flat.device).masked_fill(~flat, -1.0)
    most = int(flat.sum(1).max()) if flat.numel() else 0
    chosen = priority.topk(min(max_cells, most), dim=1)
    return Selection(chosen.indices, chosen.values >= 0)


def pick_cells(field: Field, selection: Selection) -> Field:
    """Make a field of one row (B, 1, N) out of the picked cells; all is zero in the padding, whatever stands there."""

    def picked(values: Tensor) -> Tensor:
        """Values (B, ..., H, W) of the cells, (B, ..., 1, N)."""
        rows = gather_cells(values.flatten(1, -3) if values.ndim > 3 else values.unsqueeze(1), selection.cells)
        return blank(rows, selection.mask).mT.reshape(*values.shape[:-2], 1, selection.cells.shape[1])

    if isinstance(field, ChartField):
        return ChartField(picked(field.part_logits), picked(field.uv), field.stride)
    scale = None if field.log_scale is None else picked(field.log_scale)
    return EmbeddingField(picked(field.foreground), picked(field.coordinate), field.stride, scale)


def gather_pixels(pixels: Tensor, index: Tensor) -> Tensor:
    """Input pixels (B, N, 2) [px] of the picked cells, from the grid (H, W, 2) of a field."""
    return pixels.flatten(0, 1)[index]
