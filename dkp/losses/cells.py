"""The cells of fields that are matched between views, and what the terms that match them have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from dkp.fields import ChartAtlas, ChartField, Field
from dkp.losses.engines import Engine
from dkp.losses.schedule import SigmaSchedule
from dkp.losses.selection import gather_pixels, pick_cells, select_cells
from dkp.losses.term import LossTerm

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


def foreground_cells(field: Field, threshold: float, max_cells: int, atlas: ChartAtlas | None = None) -> Cells:
    """Return the cells whose foreground probability is above a threshold; see `gather_field`."""
    return gather_field(field, field.foreground_probability.detach() > threshold, max_cells, atlas)


@dataclass(kw_only=True)
class MatchingTerm(SigmaSchedule, LossTerm):
    """A term that averages a distance over the matches of each cell.

    Attributes:
        clip: Largest distance [px] that counts; None for no limit.
        visibility_threshold: Least best matchability of a cell that counts as visible in the other image; the default
            is that of a candidate at 2 sigma.
        normalisation: Pixels that make a loss of one (squared pixels if the distance is squared).
        max_pixels: Most foreground cells of an image that take part; more are thinned out at random.
        foreground_threshold: Least foreground probability of a cell that takes part.
        engine: "auto" or the engine of the matching; see docs/speed.md.
    """

    clip: float | None = 20.0
    visibility_threshold: float = VISIBLE_WITHIN_TWO_SIGMA
    normalisation: float = 10.0
    max_pixels: int = 2048
    foreground_threshold: float = 0.5
    engine: Engine = "auto"

    def cells(self, field: Field, atlas: ChartAtlas | None) -> Cells:
        """Return the foreground cells of a field."""
        return foreground_cells(field, self.foreground_threshold, self.max_pixels, atlas)
