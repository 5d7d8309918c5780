"""What a difference of surface coordinates costs, and what the terms on coordinates and foreground have in common."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dkp.losses.term import LossTerm
from dkp.losses.value import LossValue, Mean

THIN = 0.07
"""What is narrower than this share of the side of an image is thin: the limbs of a body that fills it."""

UV_BETA, UV_SCALE = 0.05, 0.1
"""As `beta` and `scale` of `CoordinateTerm`, for charts, in chart units."""


def coordinate_penalty(difference: Tensor, beta: float, scale: float) -> Tensor:
    """Smooth L1 of a difference of coordinates, summed over its second axis.

    A difference δ costs |δ| / scale beyond beta and δ² / (2 beta scale) within.

    Args:
        difference: (B, D, ...) [m].
        beta: Where smooth L1 turns from square to linear [m].
        scale: Difference that costs one [m].

    Returns:
        (B, ...), dimensionless.
    """
    zero = torch.zeros_like(difference)
    return nn.functional.smooth_l1_loss(difference, zero, reduction="none", beta=beta).sum(1) / scale


def thin_parts(surface: Tensor) -> Tensor:
    """Say where the surface is thin: what a morphological opening with a square of `THIN` takes away.

    Args:
        surface: (B, H, W) in [0, 1], how much of each cell shows the surface.

    Returns:
        (B, H, W) in [0, 1].
    """
    size = max(3, round(THIN * surface.shape[-1])) | 1
    eroded = -nn.functional.max_pool2d(-surface[:, None], size, 1, size // 2)
    opened = nn.functional.max_pool2d(eroded, size, 1, size // 2)[:, 0]
    return (surface - opened).clamp_min(0)


@dataclass(kw_only=True)
class CoordinateTerm(LossTerm):
    """A term on surface coordinates and on the foreground; of charts on (u, v) and on the part.

    Attributes:
        beta: Where smooth L1 turns from square to linear [m].
        scale: Coordinate difference that makes a loss of one [m].
        foreground_weight: Weight of the foreground (or part) against the coordinate (or uv).
    """

    beta: float = 0.03
    scale: float = 0.1
    foreground_weight: float = 1.0

    def both(
        self, coordinate: tuple[Tensor, Tensor], foreground: tuple[Tensor, Tensor], cells: Tensor, **parts: Tensor
    ) -> LossValue:
        """Return the weighted sum of the mean coordinate loss and the mean foreground loss.

        Args:
            coordinate: Loss of each cell and its weight.
            foreground: The same.
            cells: Bool, whose share is that of valid pixels.
            **parts: For the log, beside the two means without their weights.
        """
        means = Mean.of(coordinate), Mean.of(foreground)
        named = {name: mean.value.detach() for name, mean in zip(("coordinate", "foreground"), means, strict=True)}
        return LossValue(
            means[0].value + self.foreground_weight * means[1].value,
            cells.sum() / max(1, cells.numel()),
            named | parts,
            (means[0], means[1].times(self.foreground_weight)),
        )
