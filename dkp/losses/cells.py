"""The cells of fields that are matched between views, and what the terms that match them have in common."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor

from dkp.fields import ChartAtlas, ChartField, Field
from dkp.losses.costs import check_clip
from dkp.losses.engines import Engine
from dkp.losses.schedule import SigmaSchedule
from dkp.losses.selection import gather_pixels, pick_cells, select_cells
from dkp.losses.sides import Taking
from dkp.losses.term import LossContext, LossTerm
from dkp.losses.value import LossValue

VISIBLE_WITHIN_TWO_SIGMA = math.exp(-2.0)


@dataclass
class Cells:
    """The gathered cells of a batch of fields, as the matching functions take them.

    Attributes:
        coordinate: (B, N, 3) [m].
        parts: (B, N, K) part probabilities of chart fields.
        pixels: (B, N, 2) [px].
        mask: (B, N) bool, false for padding.
        index: (B, N) long, row * W + column.
    """

    coordinate: Tensor
    parts: Tensor | None
    pixels: Tensor
    mask: Tensor
    index: Tensor

    def beside(self, other: Cells) -> Taking:
        """Return what of them takes part in a matching with the cells of another view."""
        return {"mask": self.mask, "other_mask": other.mask, "parts": self.parts, "other_parts": other.parts}


def gather_field(field: Field, mask: Tensor, max_cells: int, atlas: ChartAtlas | None = None) -> Cells:
    """Pick cells of a field and gather what matching needs.

    A chart field yields its surface coordinates through the atlas, and its part probabilities as well.

    Args:
        field: Batch B.
        mask: (B, H, W) bool.
        max_cells: Most cells per image.
        atlas: The way from charts to surface coordinates; an embedding needs none.
    """
    selection = select_cells(mask, max_cells)
    row = pick_cells(field, selection)
    return Cells(
        row.coordinates(atlas).squeeze(2).mT,
        row.part_probability.squeeze(2).mT if isinstance(row, ChartField) else None,
        gather_pixels(field.pixels(), selection.cells),
        selection.mask,
        selection.cells,
    )


@dataclass(kw_only=True)
class CellsTerm(SigmaSchedule, LossTerm):
    """A term on the foreground cells of fields.

    Attributes:
        max_pixels: Most foreground cells of an image that take part; more are thinned out at random.
    """

    max_pixels: int = 2048

    def cells(self, field: Field, atlas: ChartAtlas | None) -> Cells:
        """Return the foreground cells of a field; see `gather_field`."""
        return gather_field(field, field.foreground_probability.detach() > 0.5, self.max_pixels, atlas)


class PairsTerm(CellsTerm):
    """A term over all valid pairs of views of the batch at once."""

    needs = ("views", "pairs")

    def __call__(self, context: LossContext) -> LossValue:
        """Return the loss of the pairs of the batch."""
        field, pairs = context.field, context.pairs
        return self.loss(
            field[pairs.first], field[pairs.second], pairs.fundamental, step=context.step, atlas=context.atlas
        )

    @abstractmethod
    def loss(
        self, field: Field, other_field: Field, fundamental: Tensor, *, step: int = 0, atlas: ChartAtlas | None = None
    ) -> LossValue:
        """Compute the loss of a batch of pairs of views, in both directions.

        Args:
            field: First views, batch B.
            other_field: Second views, batch B.
            fundamental: (B, 3, 3) with x'ᵀ F x = 0, x in the first view, for undistorted pixels.
            step: Of σ.
            atlas: The way from charts to surface coordinates; an embedding needs none.
        """


@dataclass(kw_only=True)
class MatchingTerm(CellsTerm):
    """A term that averages a distance over the matches of each cell.

    Attributes:
        clip: Largest distance [px] that counts; None for no limit.
        visibility_threshold: Least best matchability of a cell that counts as visible in the other image; the default
            is that of a candidate at 2 sigma.
        normalisation: Pixels that make a loss of one (squared pixels if the distance is squared).
        engine: "auto" or the engine of the matching; see docs/speed.md.
    """

    clip: float | None = 20.0
    visibility_threshold: float = VISIBLE_WITHIN_TWO_SIGMA
    normalisation: float = 10.0
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        """Check the options."""
        check_clip(self.clip)
