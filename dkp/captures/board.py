"""The printed board: a ChArUco sheet as a flat surface, whose coordinate is the position (x, y, 0) on the sheet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from dkp.captures.labels import DenseLabel

if TYPE_CHECKING:
    from dkp.surface import Surface

SQUARES = (4, 5)
"""Squares along x and along y."""
SQUARE = 0.054
"""Side of a square [m]."""
MARKER = 0.0405
"""Side of a marker [m]."""
BOARD_SIZE = np.array(SQUARES) * SQUARE
"""Width and height of the printed squares, (0.216, 0.270) [m]; the origin is their upper left corner."""
BOARD_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]) * BOARD_SIZE
"""(4, 2) corners of the printed area [m]."""


def board_surface() -> Surface:
    """Return the printed area as a flat surface from its upper left corner: coordinate = (x, y, 0) [m]."""
    from dkp.surface import Surface

    return Surface.plane(float(BOARD_SIZE[0]), float(BOARD_SIZE[1]), SQUARE / 3)


def visible_share(homography: np.ndarray, size: Iterable[float]) -> float:
    """Share of the printed area that lies inside an image of a (width, height) [px]."""
    grid = np.stack(np.meshgrid(*(np.linspace(0, 1, 15) for _ in range(2))), -1).reshape(-1, 2) * BOARD_CORNERS[2]
    mapped = grid @ homography[:, :2].T + homography[:, 2]
    pixels = mapped[:, :2] / mapped[:, 2:]
    return float(((pixels > 0) & (pixels < np.asarray(tuple(size)))).all(-1).mean())


class BoardLabeller:
    """Faces and barycentric coordinates of positions on the board, without a search: its surface is a regular grid."""

    def __init__(self, surface: Surface) -> None:
        self._corners = surface.vertices[surface.faces][..., :2]
        self._steps = np.round(BOARD_SIZE / (SQUARE / 3)).astype(int)
        middle = self._corners.mean(1) * (self._steps / BOARD_SIZE)
        cell = np.floor(middle).astype(int)
        # Each cell is cut from its upper right to its lower left corner.
        lower = (middle - cell).sum(1) > 1
        self._face = np.full((*self._steps, 2), -1)
        self._face[cell[:, 0], cell[:, 1], lower.astype(int)] = np.arange(len(cell))
        if (self._face < 0).any():
            raise ValueError("the surface is not the regular grid that board_surface makes")

    def label(self, positions: np.ndarray, mask: np.ndarray) -> DenseLabel:
        """Return the dense label of an image of the board.

        Args:
            positions: (H, W, 2) position on the sheet of every pixel [m]; read where the mask is true.
            mask: (H, W) bool, pixels that show the printed area.
        """
        points = np.clip(positions[mask].astype(np.float64), 0, BOARD_SIZE)
        scaled = points * (self._steps / BOARD_SIZE)
        cell = np.minimum(np.floor(scaled).astype(int), self._steps - 1)
        lower = (scaled - cell).sum(1) > 1
        faces = self._face[cell[:, 0], cell[:, 1], lower.astype(int)]
        a, b, c = np.moveaxis(self._corners[faces], 1, 0)
        area = _cross(b - a, c - a)
        second, third = _cross(points - a, c - a) / area, _cross(b - a, points - a) / area
        weights = np.clip(np.column_stack([1 - second - third, second, third]), 0, 1)
        face = np.full(mask.shape, -1, np.int32)
        barycentric = np.zeros((*mask.shape, 3), np.float32)
        face[mask], barycentric[mask] = faces, weights
        return DenseLabel(face=face, barycentric=barycentric)


def _cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
