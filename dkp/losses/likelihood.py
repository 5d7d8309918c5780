"""The likelihood of labels under a field that says how far it may be off."""

import math

from torch import Tensor

SMOOTH = 2.5e-5
"""Added to squared differences [m²], so that their root has a gradient at zero; 5 mm count as none."""


def laplace_loss(difference: Tensor, log_scale: Tensor, unit: float) -> Tensor:
    """Negative log-likelihood of labels, Laplace-distributed along each axis, but for a constant; mean over the axes.

    A difference d has the density exp(-|d| / b) / (2 b) with b = exp(log_scale), the expected |d|; so where the field
    is wrong it gains by saying so, and where it is right by being sure. The axes have scales of their own: a body
    differs by 0.5 m from left to right and by 0.1 m from front to back, and one scale would let the first hide the
    second, without which left and right cannot be told.

    Args:
        difference: (B, D, ...) [m] between the predicted and the labelled coordinate.
        log_scale: (B, D, ...) log of the expected differences [m].
        unit: expected difference [m] at which the loss is |d| / unit.

    Returns:
        (B, ...) mean of |d| / b + log(b / unit), dimensionless.
    """
    scale = log_scale - math.log(unit)
    return ((difference.square() + SMOOTH).sqrt() / unit * (-scale).exp() + scale).mean(1)
