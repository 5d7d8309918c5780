"""The multiview loss L_M: where two views match, they should match along epipolar lines.

On its own it has trivial minima (a field that depends on the epipolar line only, a mirrored field, a stretched one), so
it always stands beside a distillation or labelled term, over pairs with varied epipolar directions.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dkp.fields import ChartAtlas, ChartField, Field
from dkp.losses.costs import Distance
from dkp.losses.matching import Engine, Matched, expected_epipolar_distance, expected_point_distance
from dkp.losses.selection import Selection, gather_cells, gather_pixels, select_cells
from dkp.losses.term import LossTerm, Mean, masked_mean, share

Kind = Literal["expected_distance", "expected_point"]

VISIBLE_WITHIN_TWO_SIGMA = math.exp(-2.0)


class MultiviewLoss(nn.Module):
    """½ (Σ_i V_i ē_i / Σ_i V_i + the same with the views exchanged), over the foreground cells of a batch of pairs.

    V_i = 1 where the best matchability of pixel i exceeds a threshold: pixels that the other view does not show are
    left out. It is a constant: no gradient makes pixels visible or invisible. The sums run over the whole batch of
    pairs, so that every visible pixel weighs the same (ours).
    """

    def __init__(
        self,
        sigma: float = 0.05,
        *,
        clip: float | None = 20.0,
        distance: Distance = "point_line",
        kind: Kind = "expected_distance",
        visibility_threshold: float = VISIBLE_WITHIN_TWO_SIGMA,
        normalisation: float = 10.0,
        max_pixels: int = 2048,
        foreground_threshold: float = 0.5,
        engine: Engine = "auto",
        atlas: ChartAtlas | None = None,
    ) -> None:
        """Choose the form of the loss.

        Args:
            sigma: Width of the matchability [m]. 5 cm was tried on people, 1 cm on a board of 0.3 m.
            clip: Largest distance [px] that counts; None for no limit. With "expected_distance" it bounds each
                candidate's distance, with "expected_point" that of the expected match.
            distance: "point_line", "squared", "symmetric" or "sampson".
            kind: "expected_distance" (Σ_j p_ij d_ij) or "expected_point" (the epipolar distance of Σ_j p_ij x'_j, as
                CAPS does).
            visibility_threshold: Least best matchability; the default is that of a candidate at 2 sigma.
            normalisation: Pixels that make a loss of one (squared pixels if the distance is squared).
            max_pixels: Most foreground cells of a view that take part; more are thinned out at random.
            foreground_threshold: Least foreground probability of a cell that takes part, unless masks are given.
            engine: "auto", "dense", "tiled", "fused", "compact" or "attention"; see docs/speed.md.
            atlas: For chart fields, the way from charts to surface coordinates.

        Raises:
            ValueError: The kind is unknown.
        """
        super().__init__()
        if kind not in get_args(Kind):
            raise ValueError(f"kind is {kind!r}, expected one of {', '.join(get_args(Kind))}")
        self.sigma = sigma
        self.clip = clip
        self.distance: Distance = distance
        self.kind: Kind = kind
        self.visibility_threshold = visibility_threshold
        self.normalisation = normalisation
        self.max_pixels = max_pixels
        self.foreground_threshold = foreground_threshold
        self.engine: Engine = engine
        self.atlas = atlas

    def forward(
        self,
        field: Field,
        other_field: Field,
        fundamental: Tensor,
        *,
        mask: Tensor | None = None,
        other_mask: Tensor | None = None,
        pair_valid: Tensor | None = None,
    ) -> LossTerm:
        """Compute the loss of a batch of pairs of views.

        Args:
            field: First views, batch B.
            other_field: Second views, batch B.
            fundamental: (B, 3, 3) with x'ᵀ F x = 0, x in the first view, for undistorted pixels.
            mask: (B, H, W) bool, cells of the first views that take part; default the field's own foreground.
            other_mask: (B, H', W') bool, the same for the second views.
            pair_valid: (B,) bool, pairs that take part; default all.

        Returns:
            The loss, the visible share of the cells that took part, and ``distance`` (mean over visible cells [px], or
            [px²] if squared) and ``matchability`` (mean of the best one over all cells).
        """
        first = self._gather(field, mask, pair_valid)
        second = self._gather(other_field, other_mask, pair_valid)
        forth = self._match(first, second, fundamental, self.kind, self.distance)
        back = self._match(second, first, fundamental.mT, self.kind, self.distance)
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
        return LossTerm(
            value / self.normalisation,
            share(visible, every),
            {"distance": value.detach(), "matchability": masked_mean(torch.cat(best), every)},
            (mean.times(1 / self.normalisation),),
        )

    @torch.no_grad()
    def residuals(self, field: Field, other_field: Field, fundamental: Tensor) -> tuple[Tensor, Tensor]:
        """Epipolar distance of each cell's expected match, for instance to find out where a teacher contradicts itself.

        Args:
            field: First views, batch B.
            other_field: Second views, batch B.
            fundamental: (B, 3, 3), as in `forward`.

        Returns:
            (B, H, W) [px] for the cells of the first and of the second views; infinite in the background and where
            nothing is visible in the other view. No gradient.
        """
        first, second = self._gather(field, None, None), self._gather(other_field, None, None)
        found = []
        for one, two, matrix, shape in (
            (first, second, fundamental, field.size),
            (second, first, fundamental.mT, other_field.size),
        ):
            matched = self._match(one, two, matrix, "expected_point", "point_line")
            visible = (matched.max_matchability > self.visibility_threshold) & one.mask
            distance = matched.distance.masked_fill(~visible, math.inf)
            grid = distance.new_full((len(distance), shape[0] * shape[1]), math.inf)
            found.append(grid.scatter(1, one.index, distance).unflatten(1, shape))
        return found[0], found[1]

    def _gather(self, field: Field, mask: Tensor | None, pair_valid: Tensor | None) -> Cells:
        if mask is None:
            mask = field.foreground_probability.detach() > self.foreground_threshold
        if pair_valid is not None:
            mask = mask & pair_valid[:, None, None]
        return gather_field(field, mask, self.max_pixels, self.atlas)

    def _match(self, cells: Cells, other: Cells, fundamental: Tensor, kind: Kind, distance: Distance) -> Matched:
        function = expected_epipolar_distance if kind == "expected_distance" else expected_point_distance
        return function(
            cells.coordinate,
            other.coordinate,
            cells.pixels,
            other.pixels,
            fundamental,
            self.sigma,
            mask=cells.mask,
            other_mask=other.mask,
            parts=cells.parts,
            other_parts=other.parts,
            distance=distance,
            clip=self.clip,
            engine=self.engine,
        )


class Cells:
    """The gathered cells of a batch of fields, as the matching functions take them."""

    def __init__(self, coordinate: Tensor, parts: Tensor | None, pixels: Tensor, mask: Tensor, index: Tensor) -> None:
        """Hold coordinates (B, N, 3) [m], parts (B, N, K), pixels (B, N, 2) [px], mask (B, N) and flat cells (B, N)."""
        self.coordinate = coordinate
        self.parts = parts
        self.pixels = pixels
        self.mask = mask
        self.index = index


def gather_field(
    field: Field, mask: Tensor, max_cells: int, atlas: ChartAtlas | None = None, selection: Selection | None = None
) -> Cells:
    """Pick cells of a field and gather what matching needs.

    A chart field yields its surface coordinates through the atlas, and its part probabilities as well.

    Args:
        field: Batch B.
        mask: (B, H, W) bool.
        max_cells: Most cells per image.
        atlas: The way from charts to surface coordinates; an embedding needs none.
        selection: Cells picked before; then the mask and the limit are not looked at.
    """
    selection = select_cells(mask, max_cells) if selection is None else selection
    return Cells(
        gather_cells(field.coordinates(atlas), selection.cells),
        gather_cells(field.part_probability, selection.cells) if isinstance(field, ChartField) else None,
        gather_pixels(field.pixels(), selection.cells),
        selection.mask,
        selection.cells,
    )
