"""A field at chosen cells, and at pixels of its image."""

import torch
from torch import Tensor


def gather_cells(values: Tensor, index: Tensor) -> Tensor:
    """Return the values at chosen cells.

    Args:
        values: (B, H, W), or (B, C, H, W).
        index: (B, N) long, row * W + column.

    Returns:
        (B, N), or (B, N, C).
    """
    if values.ndim == 3:
        return values.flatten(1).gather(1, index)
    return values.flatten(2).gather(2, index[:, None].expand(-1, values.shape[1], -1)).mT


def cells_at(
    coordinate: Tensor, foreground: Tensor, pixels: Tensor, image_size: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the field in the cell in which each pixel lies.

    Args:
        coordinate: (B, 3, H, W) [m].
        foreground: (B, H, W), probability or logit.
        pixels: (B, J, 2) x, y [px] of the input image.
        image_size: (B, 2) width and height of the input image [px].

    Returns:
        coordinate: (B, J, 3) [m].
        foreground: (B, J).
        inside: (B, J) bool, whether the pixel lies in the image; values of those outside mean nothing.
    """
    height, width = foreground.shape[-2:]
    size = pixels.new_tensor([width, height])
    cell = (pixels / image_size[:, None].to(pixels) * size).floor()
    inside = ((cell >= 0) & (cell < size)).all(dim=-1)
    cell = torch.where(inside[..., None], cell, 0.0).long()
    index = cell[..., 1] * width + cell[..., 0]
    return gather_cells(coordinate, index), gather_cells(foreground, index), inside
