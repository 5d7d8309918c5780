"""What a difference of surface coordinates costs."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Penalty = Literal["smooth_l1", "l2"]


def coordinate_penalty(difference: Tensor, penalty: Penalty, beta: float, scale: float) -> Tensor:
    """Penalty on a difference of coordinates, summed over its second axis.

    Args:
        difference: (B, D, ...) [m].
        penalty: "smooth_l1", a difference δ costing |δ| / scale beyond beta and δ² / (2 beta scale) within; or "l2",
            costing (δ / scale)².
        beta: Where smooth L1 turns from square to linear [m].
        scale: Difference that costs one [m].

    Returns:
        (B, ...), dimensionless.
    """
    if penalty == "l2":
        return (difference / scale).square().sum(1)
    zero = torch.zeros_like(difference)
    return nn.functional.smooth_l1_loss(difference, zero, reduction="none", beta=beta).sum(1) / scale
