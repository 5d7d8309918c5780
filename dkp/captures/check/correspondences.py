"""The same surface point in two views, to a fraction of a pixel, from labels or from joints."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from dkp.captures.labels import DenseLabel, SparseLabel
from dkp.captures.manifest import View
from dkp.surface import Surface

_NEIGHBOURS = np.array([(dx, dy) for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
LEAST_CONFIDENCE = 0.3  # of a joint in both views
SAME_POINT = 1e-3  # m on the surface, labelled points nearer than this are one point


@dataclass(frozen=True)
class CoordinateImage:
    """The surface coordinate of every pixel of a view.

    Attributes:
        coordinate: (H, W, 3) [m], meaningless off the foreground.
        foreground: (H, W) bool.
        rows, columns: (N,) positions of the foreground pixels.
        tree: their coordinates, for look-up.
    """

    coordinate: np.ndarray
    foreground: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    tree: cKDTree

    @classmethod
    def create(cls, label: DenseLabel, surface: Surface) -> "CoordinateImage":
        """Look up the coordinates of a label."""
        foreground = label.foreground
        coordinate = np.zeros((*foreground.shape, 3))
        coordinate[foreground] = surface.coordinates(label.face[foreground], label.barycentric[foreground])
        rows, columns = np.nonzero(foreground)
        return cls(coordinate, foreground, rows, columns, cKDTree(coordinate[foreground]))

    def find(self, coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find where the view shows surface points.

        From the pixel with the nearest coordinate, the coordinate is taken to change linearly over its eight neighbours
        and the map is inverted.

        Args:
            coordinates: (N, 3) [m].

        Returns:
            Pixels (N, 2) [px] and (N,) bool: whether the point was found, that is, the nine pixels lie on one smooth
            piece of the surface and the point is on it within a third of a pixel's extent.
        """
        count = len(coordinates)
        if not len(self.rows):
            return np.zeros((count, 2)), np.zeros(count, bool)
        _, nearest = self.tree.query(coordinates)
        row, column = self.rows[nearest], self.columns[nearest]
        height, width = self.foreground.shape
        inner = (row > 0) & (row < height - 1) & (column > 0) & (column < width - 1)
        near_row = np.clip(row[:, None] + _NEIGHBOURS[:, 1], 0, height - 1)
        near_column = np.clip(column[:, None] + _NEIGHBOURS[:, 0], 0, width - 1)
        found = inner & self.foreground[near_row, near_column].all(axis=1)
        around = self.coordinate[near_row, near_column]  # (N, 9, 3)
        centre = self.coordinate[row, column]
        # Least-squares slope over the 3 x 3 block: (N, 3, 2), metres per pixel.
        slope = np.einsum("nkc,kd->ncd", around, _NEIGHBOURS) / 6.0
        flat = centre[:, None] + np.einsum("ncd,kd->nkc", slope, _NEIGHBOURS)
        extent = np.linalg.norm(slope, axis=1).min(axis=1)
        smooth = np.linalg.norm(around - flat, axis=2).max(axis=1) < 0.5 * extent
        normal = np.einsum("nci,ncj->nij", slope, slope)
        found &= smooth & (np.linalg.det(normal) > 1e-24)
        normal[~found] = np.eye(2)
        difference = coordinates - centre
        step = np.linalg.solve(normal, np.einsum("nci,nc->ni", slope, difference)[..., None])[..., 0]
        miss = np.linalg.norm(difference - np.einsum("nci,ni->nc", slope, step), axis=1)
        found &= (np.abs(step).max(axis=1) <= 1.0) & (miss < extent / 3)
        return np.stack([column, row], -1) + 0.5 + step, found


def dense_matches(first: CoordinateImage, second: CoordinateImage, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (N, 2) and (N, 2) [px] of the same surface points in two views with dense labels.

    Args:
        first: the view whose pixel centres are looked up, at most ``count`` of them, evenly spread.
        second: the other view.
        count: at most so many pixels are tried.
    """
    chosen = np.unique(np.linspace(0, len(first.rows) - 1, min(count, len(first.rows))).round().astype(int))
    rows, columns = first.rows[chosen], first.columns[chosen]
    pixels, found = second.find(first.coordinate[rows, columns])
    return (np.stack([columns, rows], -1) + 0.5)[found], pixels[found]


def sparse_matches(first: SparseLabel, second: SparseLabel, surface: Surface) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (N, 2) and (N, 2) [px] of the labelled points that two views have in common."""
    if not len(first.face) or not len(second.face):
        return np.zeros((0, 2)), np.zeros((0, 2))
    own, other = (surface.coordinates(points.face, points.barycentric) for points in (first, second))
    distance, nearest = cKDTree(other).query(own)
    same = distance < SAME_POINT
    return first.pixels[same], second.pixels[nearest[same]]


def joint_matches(first: View, second: View) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (N, 2) and (N, 2) [px] of the joints that both views show with enough confidence."""
    own, other = first.joints or {}, second.joints or {}
    names = [n for n in own if n in other and min(own[n][2], other[n][2]) >= LEAST_CONFIDENCE]
    left, right = (np.array([joints[n][:2] for n in names]).reshape(-1, 2) for joints in (own, other))
    return left, right
