"""The likelihood of labels under a field that says how far it may be off."""

from __future__ import annotations

import torch
from torch import Tensor

SMOOTH = 1e-4
"""Added to the squared distance [m²], so that its root has a gradient at zero."""


def laplace_loss(difference: Tensor, log_scale: Tensor, unit: float) -> Tensor:
    """Negative log-likelihood of labels at Laplace-distributed distances, but for a constant.

    The distance r = |difference| has the density exp(-r / b) / b with b = exp(log_scale), the expected distance; so
    where the field is wrong it gains by saying so, and where it is right by being sure.

    Args:
        difference: (B, D, ...) [m] between the predicted and the labelled coordinate.
        log_scale: (B, ...) log of the expected distance [m].
        unit: expected distance [m] at which the loss is r / unit.

    Returns:
        (B, ...) r / b + log(b / unit), dimensionless.
    """
    distance = (difference.square().sum(1) + SMOOTH).sqrt()
    scale = log_scale - torch.log(torch.as_tensor(unit, dtype=log_scale.dtype, device=log_scale.device))
    return distance / unit * torch.exp(-scale) + scale
