"""The multiview term L_M: where two views match, they should match along epipolar lines.

On its own it has trivial minima (a field that depends on the epipolar line only, a mirrored field, a stretched one), so
it always stands beside a distillation or labelled term, over pairs with varied epipolar directions.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from dkp.fields import ChartAtlas, Field
from dkp.losses.cells import Cells, MatchingTerm, PairsTerm
from dkp.losses.costs import Distance, check_distance
from dkp.losses.matching import Matched, expected_epipolar_distance, expected_point_distance
from dkp.losses.value import LossValue, Mean, masked_mean, share

Kind = Literal["expected_distance", "expected_point"]


@dataclass(kw_only=True)
class MultiviewTerm(MatchingTerm, PairsTerm):
    """½ (Σ_i V_i ē_i / Σ_i V_i + the same with the views exchanged), over the foreground cells of a batch of pairs.

    V_i = 1 where the best matchability of pixel i exceeds a threshold: pixels that the other view does not show are
    left out. It is a constant: no gradient makes pixels visible or invisible. The sums run over the whole batch of
    pairs, so that every visible pixel weighs the same (ours).

    Attributes:
        distance: "point_line", "squared" or "sampson".
        kind: "expected_distance" (Σ_j p_ij d_ij) or "expected_point" (the epipolar distance of Σ_j p_ij x'_j, as CAPS
            does). ``clip`` bounds each candidate's distance with the former, the expected match's with the latter.
    """

    symbol = "L_M"
    hint = (
        "check that the unlabelled frames have views whose angle lies within the bounds for pairs, and that the "
        "teacher finds any foreground in them"
    )

    distance: Distance = "point_line"
    kind: Kind = "expected_distance"

    def __post_init__(self) -> None:
        """Check the options."""
        check_distance(self.distance, self.clip)
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind is {self.kind!r}, expected one of {', '.join(get_args(Kind))}")

    def loss(
        self, field: Field, other_field: Field, fundamental: Tensor, *, step: int = 0, atlas: ChartAtlas | None = None
    ) -> LossValue:
        """Compute the loss of a batch of pairs of views, see `PairsTerm.loss`.

        Returns:
            The loss, the visible share of the cells that took part, and ``distance`` (mean over visible cells [px], or
            [px²] if squared) and ``matchability`` (mean of the best one over all cells).
        """
        sigma = self.sigma_at(step)
        first, second = self.cells(field, atlas), self.cells(other_field, atlas)
        forth, back = self.match(first, second, fundamental, sigma), self.match(second, first, fundamental.mT, sigma)
        pairs, shown, looked, best = [], [], [], []
        for matched, side in ((forth, first), (back, second)):
            visible = (matched.max_matchability > self.visibility_threshold) & side.mask
            pairs.append((matched.distance, visible))
            shown.append(visible.flatten())
            looked.append(side.mask.flatten())
            best.append(matched.max_matchability.flatten())
        # A direction in which nothing is visible does not pull the mean down.
        mean = Mean.of(*pairs)
        value = mean.value
        visible, every = torch.cat(shown), torch.cat(looked)
        return LossValue(
            value / self.normalisation,
            share(visible, every),
            {"distance": value.detach(), "matchability": masked_mean(torch.cat(best), every)},
            (mean.times(1 / self.normalisation),),
        )

    def match(self, cells: Cells, other: Cells, fundamental: Tensor, sigma: float) -> Matched:
        """Return the expected distance of each cell of one view in the other."""
        function = expected_epipolar_distance if self.kind == "expected_distance" else expected_point_distance
        return function(
            cells.coordinate,
            other.coordinate,
            cells.pixels,
            other.pixels,
            fundamental,
            sigma,
            distance=self.distance,
            clip=self.clip,
            engine=self.engine,
            **cells.beside(other),
        )


@torch.no_grad()
def epipolar_residuals(
    field: Field,
    other_field: Field,
    fundamental: Tensor,
    sigma: float,
    *,
    clip: float | None = 20.0,
    atlas: ChartAtlas | None = None,
) -> tuple[Tensor, Tensor]:
    """Epipolar distance of each cell's expected match, for instance to find out where a teacher contradicts itself.

    Args:
        field: First views, batch B.
        other_field: Second views, batch B.
        fundamental: (B, 3, 3) with x'ᵀ F x = 0, x in the first view.
        sigma: Width of the matchability [m].
        clip: Largest distance [px]; None for no limit.
        atlas: The way from charts to surface coordinates; an embedding needs none.

    Returns:
        (B, H, W) [px] for the cells of the first and of the second views; infinite in the background and where
        nothing is visible in the other view. No gradient.
    """
    term = MultiviewTerm(sigma=sigma, clip=clip, kind="expected_point")
    first, second = term.cells(field, atlas), term.cells(other_field, atlas)
    found = []
    for one, two, matrix, shape in (
        (first, second, fundamental, field.size),
        (second, first, fundamental.mT, other_field.size),
    ):
        matched = term.match(one, two, matrix, sigma)
        visible = (matched.max_matchability > term.visibility_threshold) & one.mask
        distance = matched.distance.masked_fill(~visible, math.inf)
        grid = distance.new_full((len(distance), shape[0] * shape[1]), math.inf)
        found.append(grid.scatter(1, one.index, distance).unflatten(1, shape))
    return found[0], found[1]
