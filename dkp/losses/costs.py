"""Pairwise costs d_ij that the matching engines average: constants of the cameras and of known warps.

Each cost can be had whole (`matrix`, plain and memory-hungry) and row block by row block into given buffers (`fill`).
No gradient flows through a cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor

from dkp.geometry import pairwise_epipolar_distance
from dkp.geometry.arguments import expect_positive
from dkp.geometry.epipolar import DistanceKind, raw_epipolar_lines

Distance = Literal["point_line", "squared", "symmetric", "sampson"]
PointDistance = Literal["euclidean", "squared"]


Form = Literal["point_line", "squared", "symmetric", "sampson", "euclidean", "euclidean_squared", "position"]
"""The formulas a cost may have."""


class PairValues(NamedTuple):
    """A cost as a formula over numbers of each row and of each column: what a compiled engine needs.

    Attributes:
        form: Which formula.
        rows: (g, B, N), what the formula needs of each row.
        columns: (h, B, M), what it needs of each column.
        clip: Scalar, the largest distance [px] (before squaring); infinite for none.
    """

    form: Form
    rows: Tensor
    columns: Tensor
    clip: Tensor


class PairCost(Protocol):
    """A cost for every pair of N pixels of one view and M pixels of another, with one or more channels."""

    @property
    def channels(self) -> int:
        """Number of costs per pair."""
        ...

    @property
    def form(self) -> Form:
        """The formula of `values`."""
        ...

    def matrix(self) -> Tensor:
        """All costs, (B, N, M, channels)."""
        ...

    def fill(self, channel: int, batch: slice, rows: slice, out: Tensor, scratch: Tensor) -> Tensor:
        """Write the block [batch, rows, :] of one channel to ``out`` and return it; ``scratch`` has the same shape."""
        ...

    def values(self) -> PairValues:
        """Return the cost as a formula."""
        ...

    def pick(self, images: Tensor, rows: Tensor, columns: Tensor) -> PairCost:
        """Return the cost of some rows and columns: images (P,), rows (P, n) and columns (P, m), each an index."""
        ...


def shape_distance(distance: Tensor, *, squared: bool, clip: float | None, in_place: bool = False) -> Tensor:
    """Clip distances [px], then square them if asked to."""
    if clip is not None:
        distance = distance.clamp_(max=clip) if in_place else distance.clamp(max=clip)
    if squared:
        distance = distance.mul_(distance) if in_place else distance.square()
    return distance


def check_distance(distance: str, known: Sequence[str], clip: float | None) -> None:
    """Refuse an unknown distance and a clip that is not positive.

    Raises:
        ValueError: One of them is not as expected.
    """
    if distance not in known:
        raise ValueError(f"distance is {distance!r}, expected one of {', '.join(known)}")
    if clip is not None:
        expect_positive("clip", clip)


def limit(clip: float | None, like: Tensor) -> Tensor:
    """Return the clip as a scalar tensor."""
    return like.new_full((), torch.inf if clip is None else clip)


def _by_rows(pixels: Tensor) -> Tensor:
    """(B, M, 2) to (B, 2, M), each coordinate contiguous: strided reads take three times as long."""
    return pixels.mT.contiguous()


@dataclass(frozen=True)
class EpipolarCost:
    """Epipolar distance of pixels (B, N, 2) and other pixels (B, M, 2) [px] under F (B, 3, 3)."""

    pixels: Tensor
    other_pixels: Tensor
    fundamental: Tensor
    distance: Distance
    clip: float | None
    lines: Tensor
    length: Tensor
    other_length: Tensor
    other_rows: Tensor
    channels: int = 1

    @classmethod
    def create(
        cls, pixels: Tensor, other_pixels: Tensor, fundamental: Tensor, distance: Distance, clip: float | None
    ) -> EpipolarCost:
        """Prepare the lines of all pixels.

        Raises:
            ValueError: The distance is unknown, or the clip not positive.
        """
        check_distance(distance, get_args(Distance), clip)
        lines, length = raw_epipolar_lines(pixels, fundamental)
        other_length = raw_epipolar_lines(other_pixels, fundamental.mT)[1]
        lines = lines / length.unsqueeze(-1)
        return cls(
            pixels, other_pixels, fundamental, distance, clip, lines, length, other_length, _by_rows(other_pixels)
        )

    @property
    def kind(self) -> DistanceKind:
        """The distance before squaring."""
        return "point_line" if self.distance == "squared" else self.distance

    def matrix(self) -> Tensor:
        """All costs, (B, N, M, 1) [px], or [px²] if squared."""
        distance = pairwise_epipolar_distance(self.pixels, self.other_pixels, self.fundamental, self.kind)
        return shape_distance(distance, squared=self.distance == "squared", clip=self.clip).unsqueeze(-1)

    def fill(self, channel: int, batch: slice, rows: slice, out: Tensor, scratch: Tensor) -> Tensor:
        """Write one block of costs."""
        lines, other = self.lines[batch, rows], self.other_rows[batch].unsqueeze(-3)
        torch.mul(lines[..., 0:1], other[..., 0, :], out=out)
        out.addcmul_(lines[..., 1:2], other[..., 1, :]).add_(lines[..., 2:3]).abs_()
        if self.kind != "point_line":
            length = self.length[batch, rows].unsqueeze(-1)
            other_length = self.other_length[batch].unsqueeze(-2)
            if self.kind == "symmetric":
                torch.div(length, other_length, out=scratch).add_(1.0).mul_(0.5)
            else:
                torch.div(other_length, length, out=scratch).square_().add_(1.0).rsqrt_()
            out.mul_(scratch)
        return shape_distance(out, squared=self.distance == "squared", clip=self.clip, in_place=True)

    @property
    def form(self) -> Form:
        """The formula of `values`."""
        return self.distance

    def values(self) -> PairValues:
        """Lines (a, b, c) and pixels (x, y); for "symmetric" and "sampson" also the lengths of both normals."""
        rows, columns = [*self.lines.unbind(-1)], [*self.other_pixels.unbind(-1)]
        if self.kind != "point_line":
            rows.append(self.length)
            columns.append(self.other_length)
        return PairValues(self.form, torch.stack(rows), torch.stack(columns), limit(self.clip, self.lines))

    def pick(self, images: Tensor, rows: Tensor, columns: Tensor) -> EpipolarCost:
        """Return the cost of some rows and columns."""
        image = images.unsqueeze(-1)
        other_pixels = self.other_pixels[image, columns]
        return replace(
            self,
            pixels=self.pixels[image, rows],
            other_pixels=other_pixels,
            fundamental=self.fundamental[images],
            lines=self.lines[image, rows],
            length=self.length[image, rows],
            other_length=self.other_length[image, columns],
            other_rows=_by_rows(other_pixels),
        )


@dataclass(frozen=True)
class PointCost:
    """Distance of expected points (B, N, 2) from pixels (B, M, 2) [px]."""

    points: Tensor
    other_pixels: Tensor
    distance: PointDistance
    clip: float | None
    other_rows: Tensor
    channels: int = 1

    @classmethod
    def create(cls, points: Tensor, other_pixels: Tensor, distance: PointDistance, clip: float | None) -> PointCost:
        """Prepare the cost.

        Raises:
            ValueError: The distance is unknown, or the clip not positive.
        """
        check_distance(distance, get_args(PointDistance), clip)
        return cls(points, other_pixels, distance, clip, _by_rows(other_pixels))

    def matrix(self) -> Tensor:
        """All costs, (B, N, M, 1) [px], or [px²] if squared."""
        offset = self.points.unsqueeze(-2) - self.other_pixels.unsqueeze(-3)
        distance = offset.square().sum(-1).sqrt()
        return shape_distance(distance, squared=self.distance == "squared", clip=self.clip).unsqueeze(-1)

    def fill(self, channel: int, batch: slice, rows: slice, out: Tensor, scratch: Tensor) -> Tensor:
        """Write one block of costs."""
        points, other = self.points[batch, rows], self.other_rows[batch].unsqueeze(-3)
        torch.sub(points[..., 0:1], other[..., 0, :], out=out).square_()
        torch.sub(points[..., 1:2], other[..., 1, :], out=scratch)
        out.addcmul_(scratch, scratch).sqrt_()
        return shape_distance(out, squared=self.distance == "squared", clip=self.clip, in_place=True)

    @property
    def form(self) -> Form:
        """The formula of `values`."""
        return "euclidean_squared" if self.distance == "squared" else "euclidean"

    def values(self) -> PairValues:
        """Places (x, y) and pixels (x, y)."""
        rows, columns = self.points.movedim(-1, 0), self.other_pixels.movedim(-1, 0)
        return PairValues(self.form, rows, columns, limit(self.clip, self.points))

    def pick(self, images: Tensor, rows: Tensor, columns: Tensor) -> PointCost:
        """Return the cost of some rows and columns."""
        image = images.unsqueeze(-1)
        other_pixels = self.other_pixels[image, columns]
        return replace(
            self, points=self.points[image, rows], other_pixels=other_pixels, other_rows=_by_rows(other_pixels)
        )


@dataclass(frozen=True)
class PositionCost:
    """The x and y of the other pixels (B, M, 2) [px] themselves, so that the average is the expected match."""

    rows: int
    other_pixels: Tensor
    other_rows: Tensor
    channels: int = 2
    form: Form = "position"

    @classmethod
    def create(cls, rows: int, other_pixels: Tensor) -> PositionCost:
        """Prepare the cost for N = ``rows`` pixels."""
        return cls(rows, other_pixels, _by_rows(other_pixels))

    def matrix(self) -> Tensor:
        """All costs, (B, N, M, 2) [px]."""
        return self.other_pixels.unsqueeze(1).expand(-1, self.rows, -1, -1)

    def fill(self, channel: int, batch: slice, rows: slice, out: Tensor, scratch: Tensor) -> Tensor:
        """Write one block of one coordinate."""
        return out.copy_(self.other_rows[batch, channel].unsqueeze(-2).expand_as(out))

    def values(self) -> PairValues:
        """Pixels (x, y); nothing of the rows."""
        columns = self.other_pixels.movedim(-1, 0)
        return PairValues(self.form, columns.new_zeros(0, columns.shape[1], self.rows), columns, limit(None, columns))

    def pick(self, images: Tensor, rows: Tensor, columns: Tensor) -> PositionCost:
        """Return the cost of some rows and columns."""
        return PositionCost.create(rows.shape[1], self.other_pixels[images.unsqueeze(-1), columns])
