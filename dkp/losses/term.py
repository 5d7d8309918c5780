"""What every loss module returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class LossTerm:
    """A reduced loss and what it rests on.

    Attributes:
        value: Scalar with a graph; zero (with a graph still) where nothing was valid.
        valid_share: Scalar in [0, 1], the share of the pixels looked at that the value rests on; no graph. A term whose
            share stays at zero never fires.
        parts: Scalars for the log, in the units that their names say; no graph.
    """

    value: Tensor
    valid_share: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


def masked_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of values, zero (with the graph of the values) where all weights are zero.

    Args:
        values: Any shape; finite wherever the weight is positive.
        weight: Same shape, bool or non-negative.
    """
    weight = weight.to(values.dtype)
    kept = values.masked_fill(weight == 0, 0.0)
    return (kept * weight).sum() / weight.sum().clamp_min(1e-12)


def share(mask: Tensor, of: Tensor) -> Tensor:
    """Share of the cells ``of`` (bool) that are in ``mask`` (bool) too; zero where there are none."""
    return (mask & of).sum() / of.sum().clamp_min(1)
