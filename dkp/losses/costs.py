"""Pairwise costs d_ij that the matching engines average: constants of the cameras and of known warps.

A cost is a formula over a few numbers of each row and of each column, so that engines can take its rows, columns and
blocks. It can also be had whole, as `dkp.geometry` writes it. No gradient flows through a cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from dkp.geometry import pairwise_epipolar_distance
from dkp.geometry.arguments import expect_positive
from dkp.geometry.epipolar import DistanceKind, raw_epipolar_lines

Distance = Literal["point_line", "squared", "sampson"]

Form = Literal["point_line", "squared", "sampson", "euclidean", "position"]
"""The formulas a cost may have."""


@dataclass(frozen=True)
class PairCost:
    """A cost for every pair of N pixels of one view and M pixels of another.

    Attributes:
        form: Which formula.
        rows: (g, B, N), what the formula needs of each row: lines (a, b, c) or points (x, y), or nothing; for
            "sampson" also the length of the line's normal.
        columns: (h, B, M), likewise: pixels (x, y), each contiguous, and the length.
        clip: Largest distance [px] (before squaring) that counts; None for no limit.
        matrix: Returns all costs, (B, N, M, channels) [px], or [px²] if squared; memory-hungry.
    """

    form: Form
    rows: Tensor
    columns: Tensor
    clip: float | None
    matrix: Callable[[], Tensor]

    @property
    def channels(self) -> int:
        """Number of costs per pair: two of a position."""
        return 2 if self.form == "position" else 1

    def fill(self, channel: int, batch: slice, rows: slice, out: Tensor, scratch: Tensor) -> Tensor:
        """Write the block [batch, rows, :] of one channel to ``out`` and return it; ``scratch`` has the same shape."""
        row, column = self.rows[:, batch, rows].unsqueeze(-1), self.columns[:, batch].unsqueeze(-2)
        if self.form == "position":
            return out.copy_(column[channel].expand_as(out))
        if self.form == "euclidean":
            torch.sub(row[0], column[0], out=out).square_()
            torch.sub(row[1], column[1], out=scratch)
            out.addcmul_(scratch, scratch).sqrt_()
        else:
            torch.mul(row[0], column[0], out=out)
            out.addcmul_(row[1], column[1]).add_(row[2]).abs_()
        if self.form == "sampson":
            out.mul_(torch.div(column[2], row[3], out=scratch).square_().add_(1.0).rsqrt_())
        return shape_distance(out, squared=self.form == "squared", clip=self.clip, in_place=True)

    def pick(self, images: Tensor, rows: Tensor, columns: Tensor) -> PairCost:
        """Return the cost of some rows and columns: images (P,), rows (P, n) and columns (P, m), each an index."""
        image = images.unsqueeze(-1)

        def matrix() -> Tensor:
            return self.matrix()[image.unsqueeze(-1), rows.unsqueeze(-1), columns.unsqueeze(-2)]

        return PairCost(self.form, self.rows[:, image, rows], self.columns[:, image, columns], self.clip, matrix)


def epipolar_cost(
    pixels: Tensor, other_pixels: Tensor, fundamental: Tensor, distance: Distance, clip: float | None
) -> PairCost:
    """Return the epipolar distance of pixels (B, N, 2) and other pixels (B, M, 2) [px] under F (B, 3, 3).

    Raises:
        ValueError: The distance is unknown, or the clip not positive.
    """
    check_distance(distance, clip)
    kind: DistanceKind = "point_line" if distance == "squared" else distance
    lines, length = raw_epipolar_lines(pixels, fundamental)
    rows, columns = [*(lines / length.unsqueeze(-1)).unbind(-1)], [*other_pixels.unbind(-1)]
    if kind != "point_line":
        rows.append(length)
        columns.append(raw_epipolar_lines(other_pixels, fundamental.mT)[1])

    def matrix() -> Tensor:
        found = pairwise_epipolar_distance(pixels, other_pixels, fundamental, kind)
        return shape_distance(found, squared=distance == "squared", clip=clip).unsqueeze(-1)

    return PairCost(distance, torch.stack(rows), torch.stack(columns), clip, matrix)


def point_cost(points: Tensor, other_pixels: Tensor, clip: float | None) -> PairCost:
    """Return the distance of expected points (B, N, 2) from pixels (B, M, 2) [px].

    Raises:
        ValueError: The clip is not positive.
    """
    check_clip(clip)

    def matrix() -> Tensor:
        found = (points.unsqueeze(-2) - other_pixels.unsqueeze(-3)).square().sum(-1).sqrt()
        return shape_distance(found, squared=False, clip=clip).unsqueeze(-1)

    return PairCost("euclidean", by_axis(points), by_axis(other_pixels), clip, matrix)


def position_cost(rows: int, other_pixels: Tensor) -> PairCost:
    """Return x and y of the other pixels (B, M, 2) [px] for N = ``rows``: their average is the expected match."""
    nothing = other_pixels.new_zeros(0, len(other_pixels), rows)
    whole = other_pixels.unsqueeze(1).expand(-1, rows, -1, -1)
    return PairCost("position", nothing, by_axis(other_pixels), None, lambda: whole)


def by_axis(pixels: Tensor) -> Tensor:
    """(B, M, 2) to (2, B, M), each coordinate contiguous: strided reads take three times as long."""
    return pixels.movedim(-1, 0).contiguous()


def shape_distance(distance: Tensor, *, squared: bool, clip: float | None, in_place: bool = False) -> Tensor:
    """Clip distances [px], then square them if asked to."""
    if clip is not None:
        distance = distance.clamp_(max=clip) if in_place else distance.clamp(max=clip)
    if squared:
        distance = distance.mul_(distance) if in_place else distance.square()
    return distance


def check_distance(distance: str, clip: float | None) -> None:
    """Refuse an unknown distance, and a clip that is not positive, with a ValueError."""
    if distance not in get_args(Distance):
        raise ValueError(f"distance is {distance!r}, expected one of {', '.join(get_args(Distance))}")
    check_clip(clip)


def check_clip(clip: float | None) -> None:
    """Refuse a clip that is not positive with a ValueError."""
    if clip is not None:
        expect_positive("clip", clip)
