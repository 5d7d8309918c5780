"""Differentiable lookup from chart coordinates to surface coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from dkp.surface import Surface


class ChartAtlas(nn.Module):
    """For every part an image of rest coordinates over (U, V), read by bilinear interpolation.

    Texel (r, c) of a part's image holds the rest coordinate at U = c / (R - 1), V = r / (R - 1), so the corners of
    [0, 1]² are texels. Where (U, V) lies outside the chart the image holds the nearest point of that chart.

    Args:
        images: (K, 3, R, R) [m] rest coordinates.
    """

    images: Tensor

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
            raise ValueError(f"atlas images have shape {tuple(images.shape)} where (K, 3, R, R) is expected")
        self.register_buffer("images", images.float())

    @classmethod
    def from_surface(cls, surface: Surface, resolution: int = 64) -> ChartAtlas:
        """Sample every chart of a surface.

        Args:
            surface: the canonical surface.
            resolution: texels R along each side; the error is about the size of a texel at the charts' borders and
                of second order inside.
        """
        steps = np.linspace(0.0, 1.0, resolution)
        uv = np.stack(np.meshgrid(steps, steps, indexing="xy"), axis=-1)
        images = []
        for part in range(1, surface.parts + 1):
            face, barycentric = surface.from_charts(np.full(uv.shape[:-1], part), uv)
            images.append(np.moveaxis(np.asarray(surface.coordinates(face, barycentric)), -1, 0))
        return cls(torch.from_numpy(np.stack(images)).float())

    @property
    def parts(self) -> int:
        """Number K of charts."""
        return int(self.images.shape[0])

    @property
    def resolution(self) -> int:
        """Texels R along each side of a chart's image."""
        return int(self.images.shape[-1])

    def encode(self, part: Tensor, uv: Tensor) -> Tensor:
        """Rest coordinates of chart points.

        Args:
            part: (...) long, 1..K; 0 (background) is read as part 1, the caller masks it.
            uv: (..., 2) in [0, 1]; values outside are clamped.

        Returns:
            coordinate: (..., 3) [m], differentiable in `uv`.
        """
        last = self.resolution - 1
        position = uv.to(self.images.dtype).clamp(0.0, 1.0) * last
        low = position.detach().floor().clamp(max=max(last - 1, 0)).long()
        weight = position - low
        u, v = weight[..., :1], weight[..., 1:]
        column, row = low[..., 0], low[..., 1]
        table = self.images.permute(0, 2, 3, 1)
        index = (part.long() - 1).clamp(min=0)
        top = table[index, row, column] * (1 - u) + table[index, row, column + 1] * u
        bottom = table[index, row + 1, column] * (1 - u) + table[index, row + 1, column + 1] * u
        return top * (1 - v) + bottom * v
