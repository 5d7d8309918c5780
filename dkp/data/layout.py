"""Which columns the views of a capture are stored in, and how they are put there and found again."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import DTypeLike

from dkp.data.cells import PointCoordinates
from dkp.data.columns import Columns
from dkp.data.reading import ReadView


def begin_views(columns: Columns, side: int, charts: bool) -> None:
    """Begin the columns of views: a row each, but for labels, masks and points, which only some views have.

    Args:
        columns: where they are stored.
        side: side S of the images [px].
        charts: whether labels have charts.
    """
    square = (side, side)
    layout: dict[str, tuple[tuple[int, ...], DTypeLike]] = {
        "chosen": ((), np.int64),  # which of the views that were asked for
        "images": ((*square, 3), np.uint8),
        "mean_colour": ((3,), np.float64),
        "intrinsics": ((3, 3), np.float64),
        "rotation": ((3, 3), np.float64),
        "translation": ((3,), np.float64),
        "label_row": ((), np.int64),
        "coordinate": ((*square, 3), np.float16),
        "foreground": (square, bool),
        "known": (square, bool),
        "mask_row": ((), np.int64),
        "masks": (square, bool),
        "point_count": ((), np.int64),  # -1 where a view has no sparse label
        "point_pixels": ((2,), np.float64),
        "point_coordinate": ((3,), np.float64),
    }
    if charts:
        layout |= {
            "part": (square, np.uint8),
            "uv": ((*square, 2), np.float16),
            "point_part": ((), np.int64),
            "point_uv": ((2,), np.float64),
        }
    for name, (shape, dtype) in layout.items():
        columns.begin(name, shape, dtype)


def add_view(columns: Columns, chosen: int, read: ReadView) -> None:
    """Store a view in columns that `begin_views` began; `chosen` is which of the views that were asked for it is."""
    dense, points = read.dense, read.points
    columns.append("chosen", chosen)
    columns.append("images", read.image)
    columns.append("mean_colour", read.image.reshape(-1, 3).mean(axis=0))
    for name in ("intrinsics", "rotation", "translation"):
        columns.append(name, getattr(read.camera, name).double().numpy())
    columns.append("label_row", -1 if dense is None else columns.length("coordinate"))
    if dense is not None:
        columns.append("coordinate", dense.coordinate.astype(np.float16))
        columns.append("foreground", dense.foreground)
        columns.append("known", dense.known)
        if dense.part is not None and dense.uv is not None:
            columns.append("part", dense.part)
            columns.append("uv", dense.uv)
    columns.append("mask_row", -1 if read.mask is None else columns.length("masks"))
    if read.mask is not None:
        columns.append("masks", read.mask)
    columns.append("point_count", -1 if points is None else len(points.pixels))
    if points is not None:
        columns.extend("point_pixels", points.pixels)
        columns.extend("point_coordinate", points.coordinate)
        if points.part is not None and points.uv is not None:
            columns.extend("point_part", points.part)
            columns.extend("point_uv", points.uv)


class StoredPoints(Mapping[int, PointCoordinates]):
    """The labelled points of the views that have some, by view.

    Args:
        columns: the arrays "point_count" (N,), "point_pixels" (P, 2), "point_coordinate" (P, 3) and, with charts,
            "point_part" (P,) and "point_uv" (P, 2).
    """

    def __init__(self, columns: Mapping[str, np.ndarray]) -> None:
        self._count = columns["point_count"]
        self._end = self._count.clip(0).cumsum()
        self._arrays = [columns.get(f"point_{name}") for name in ("pixels", "coordinate", "part", "uv")]

    def __getitem__(self, view: int) -> PointCoordinates:
        if not 0 <= view < len(self._count) or self._count[view] < 0:
            raise KeyError(view)
        rows = slice(self._end[view] - self._count[view], self._end[view])
        pixels, coordinate, part, uv = (None if array is None else array[rows] for array in self._arrays)
        assert pixels is not None
        assert coordinate is not None
        return PointCoordinates(pixels, coordinate, part, uv)

    def __iter__(self) -> Iterator[int]:
        return iter(np.flatnonzero(self._count >= 0).tolist())

    def __len__(self) -> int:
        return int((self._count >= 0).sum())
