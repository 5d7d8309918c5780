"""What every loss term returns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass
class Mean:
    """Weighted means over cells, of which those with any weight are averaged; they know their sums.

    Several processes that each have some of the cells can therefore weigh every cell alike: they add up sums and
    weights before they divide.

    Attributes:
        sums: (K,) weighted sum of each mean, with the graph of the values.
        weights: (K,) sum of its weights; no graph.
        factor: of the result.
    """

    sums: Tensor
    weights: Tensor
    factor: float = 1.0

    @classmethod
    def of(cls, *pairs: tuple[Tensor, Tensor]) -> Mean:
        """Means of (values, weights) of any shape, bool or non-negative; finite wherever the weight is positive."""
        sums, weights = [], []
        for values, weight in pairs:
            weight = weight.to(values.dtype)
            sums.append((values.masked_fill(weight == 0, 0.0) * weight).sum())
            weights.append(weight.sum())
        return cls(torch.stack(sums), torch.stack(weights))

    @property
    def value(self) -> Tensor:
        """Scalar; zero (with a graph still) where all weights are zero."""
        fires = (self.weights > 0).to(self.sums.dtype).sum().clamp_min(1.0)
        return self.factor * ((self.sums / self.weights.clamp_min(1e-12)).sum() / fires)

    def times(self, factor: float) -> Mean:
        """Return the same means, with a factor more."""
        return replace(self, factor=self.factor * factor)


@dataclass
class LossValue:
    """A reduced loss and what it rests on.

    Attributes:
        value: Scalar with a graph; zero (with a graph still) where nothing was valid.
        valid_share: Scalar in [0, 1], the share of the pixels looked at that the value rests on; no graph. A term whose
            share stays at zero never fires.
        parts: Scalars for the log, in the units that their names say; no graph.
        means: The means that the value is the sum of. Without them, several processes weigh their values alike,
            whatever they rest on.
    """

    value: Tensor
    valid_share: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    means: tuple[Mean, ...] = ()


def masked_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of values, zero (with the graph of the values) where all weights are zero.

    Args:
        values: Any shape; finite wherever the weight is positive.
        weight: Same shape, bool or non-negative.
    """
    return Mean.of((values, weight)).value


def share(mask: Tensor, of: Tensor) -> Tensor:
    """Share of the cells ``of`` (bool) that are in ``mask`` (bool) too; zero where there are none."""
    return (mask & of).sum() / of.sum().clamp_min(1)
