"""Labels at the cells of a field: dense labels read at cell centres, labelled points put into their cells."""

from dataclasses import dataclass

import numpy as np


def cell_centres(cells: int, stride: int) -> np.ndarray:
    """(cells, cells, 2) [px]: the input pixel of every cell of a square field."""
    steps = (np.arange(cells, dtype=np.float64) + 0.5) * stride
    return np.stack(np.meshgrid(steps, steps, indexing="xy"), axis=-1)


@dataclass
class DenseCoordinates:
    """A dense label of one image as surface coordinates.

    Attributes:
        coordinate: (h, w, 3) float16 or float32 [m]; meaningful on the foreground.
        foreground: (h, w) bool.
        known: (h, w) bool; pixels with a label.
        part: (h, w) uint8, 0 on the background, or None.
        uv: (h, w, 2) float16 in [0, 1], or None.
    """

    coordinate: np.ndarray
    foreground: np.ndarray
    known: np.ndarray
    part: np.ndarray | None = None
    uv: np.ndarray | None = None


def sample_dense(label: DenseCoordinates, pixels: np.ndarray, gap: float) -> DenseCoordinates:
    """Read a dense label at sub-pixel positions.

    Foreground, known, part and uv are those of the nearest pixel. The coordinate is interpolated between those of the
    four surrounding pixels that show nearly the same surface point as the nearest one, so that a label read between
    pixels (as at stride 2) is not off by half of one. Places outside the image are known background.

    Args:
        label: of one image.
        pixels: (..., 2) [px] in that image, centres at integer + 0.5.
        gap: greatest difference [m] along an axis between coordinates that are interpolated.

    Returns:
        The label with arrays of shape (...).
    """
    height, width = label.foreground.shape
    flat = pixels.reshape(-1, 2)
    column, row = np.floor(flat[:, 0]).astype(np.intp), np.floor(flat[:, 1]).astype(np.intp)
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    column, row = column.clip(0, width - 1), row.clip(0, height - 1)
    nearest = row * width + column
    foreground = label.foreground.reshape(-1)[nearest] & inside
    known = label.known.reshape(-1)[nearest] | ~inside
    values = np.zeros((len(flat), 3), np.float32)
    chosen = foreground.nonzero()[0]
    if len(chosen):
        corner = flat[chosen] - 0.5
        first = np.floor(corner)
        u, v = (corner - first).astype(np.float32).T
        left, top = first.astype(np.intp).T
        columns = np.stack([left, left + 1, left, left + 1]).clip(0, width - 1)
        rows = np.stack([top, top, top + 1, top + 1]).clip(0, height - 1)
        index = rows * width + columns
        table = label.coordinate.reshape(-1, 3)
        centre = table.take(nearest[chosen], axis=0).astype(np.float32)
        offset = table.take(index, axis=0).astype(np.float32) - centre
        away = np.abs(offset)
        alike = (away[..., 0] < gap) & (away[..., 1] < gap) & (away[..., 2] < gap)
        alike &= label.foreground.reshape(-1).take(index)
        weight = np.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v]) * alike
        mean = (offset * weight[..., None]).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-6)[:, None]
        values[chosen] = centre + mean
    shape = pixels.shape[:-1]
    sampled = DenseCoordinates(values.reshape(*shape, 3), foreground.reshape(shape), known.reshape(shape))
    if label.part is not None and label.uv is not None:
        sampled.part = np.where(foreground, label.part.reshape(-1)[nearest], 0).reshape(shape).astype(np.uint8)
        sampled.uv = label.uv.reshape(-1, 2)[nearest].reshape(*shape, 2)
    return sampled


@dataclass
class PointCoordinates:
    """Labelled points of one image.

    Attributes:
        pixels: (N, 2) [px].
        coordinate: (N, 3) [m].
        part: (N,) 1..K, or None.
        uv: (N, 2) in [0, 1], or None.
    """

    pixels: np.ndarray
    coordinate: np.ndarray
    part: np.ndarray | None = None
    uv: np.ndarray | None = None


def place_points(
    points: PointCoordinates, pixels: np.ndarray, cells: int, stride: int, background: np.ndarray | None
) -> DenseCoordinates:
    """Put labelled points into the cells of a field; where several share a cell, the one nearest its centre stays.

    Args:
        points: labels; their own `pixels` are not used.
        pixels: (N, 2) [px] where the points lie in the (warped) image.
        cells: side of the field.
        stride: input pixels per cell.
        background: (cells, cells) bool, cells whose centre is known to be background, or None where that is not known.
            They stay background even where a point lies on their rim, as in dense labels: a limb is not made wider by
            half a cell.

    Returns:
        The label at the cells; cells without a point are unknown, unless they are known background.
    """
    coordinate = np.zeros((cells, cells, 3), np.float32)
    foreground = np.zeros((cells, cells), bool)
    position = pixels / stride
    cell = np.floor(position).astype(np.intp)
    keep = np.logical_and(cell >= 0, cell < cells).min(axis=1)
    away = np.abs(position - cell - 0.5).max(axis=1)
    order = np.argsort(-away, kind="stable")
    order = order[np.flatnonzero(keep[order])]
    if background is not None:
        order = order[~background[cell[order, 1], cell[order, 0]]]
    column, row = cell[order, 0], cell[order, 1]
    coordinate[row, column] = points.coordinate[order]
    foreground[row, column] = True
    known = foreground.copy() if background is None else foreground | background
    label = DenseCoordinates(coordinate, foreground, known)
    if points.part is not None and points.uv is not None:
        label.part = np.zeros((cells, cells), np.uint8)
        label.uv = np.zeros((cells, cells, 2), np.float16)
        label.part[row, column] = points.part[order]
        label.uv[row, column] = points.uv[order]
    return label
