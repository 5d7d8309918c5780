"""Closest points on a triangle mesh, vectorised over the queries."""

import numpy as np
from scipy.spatial import cKDTree

_CHUNK = 65536
_CELLS = 16
"""Cells looked at per query."""
_MOST_SPLITS = 24


def workers_for(queries: int) -> int:
    """Threads for a KD-tree query: starting them only pays for many points."""
    return -1 if queries > 50_000 else 1


def closest_on_triangles(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Barycentric coordinates of the point of a triangle that is closest to a point.

    The plane's barycentric coordinates are used where they are all positive; elsewhere the closest of the three edges
    decides. Degenerate triangles are handled through their edges.

    Args:
        points: (..., 3) [m].
        triangles: (..., 3, 3), the corners of one triangle per point [m].

    Returns:
        Barycentric coordinates (..., 3), non-negative, with sum 1.
    """
    a, b, c = triangles[..., 0, :], triangles[..., 1, :], triangles[..., 2, :]
    ab, ac, ap = b - a, c - a, points - a
    d00 = np.einsum("...i,...i->...", ab, ab)
    d01 = np.einsum("...i,...i->...", ab, ac)
    d11 = np.einsum("...i,...i->...", ac, ac)
    d20 = np.einsum("...i,...i->...", ap, ab)
    d21 = np.einsum("...i,...i->...", ap, ac)
    area = d00 * d11 - d01 * d01
    safe = np.where(area > 1e-24, area, 1.0)
    v = np.where(area > 1e-24, (d11 * d20 - d01 * d21) / safe, -1.0)
    w = np.where(area > 1e-24, (d00 * d21 - d01 * d20) / safe, -1.0)
    barycentric = np.stack([1.0 - v - w, v, w], axis=-1)
    outside = (barycentric < 0).any(-1)
    if outside.any():
        corners, query = triangles[outside], points[outside]
        start = corners  # edge k runs from corner k to corner k + 1
        edge = np.roll(corners, -1, axis=-2) - start
        length = np.einsum("nki,nki->nk", edge, edge)
        along = np.einsum("nki,nki->nk", query[:, None] - start, edge) / np.maximum(length, 1e-24)
        along = np.clip(along, 0.0, 1.0)
        gap = query[:, None] - (start + along[..., None] * edge)
        best = np.argmin(np.einsum("nki,nki->nk", gap, gap), axis=1)
        rows = np.arange(len(best))
        on_edge = np.zeros_like(corners[..., 0])
        on_edge[rows, best] = 1.0 - along[rows, best]
        on_edge[rows, (best + 1) % 3] = along[rows, best]
        barycentric[outside] = on_edge
    return barycentric


class ClosestPoint:
    """Finds, for many points at once, the closest point of a mesh.

    The faces are cut into cells of about equal size whose centres are kept in a KD-tree. Each query looks at its
    nearest cells and tests the faces of those that can hold the closest point exactly. Points within about a cell's
    size of the surface get the exact answer; further away a face closer by a fraction of a millimetre may be missed.

    Args:
        vertices: (V, 3) [m].
        faces: (F, 3) int.
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        self._triangles = np.asarray(vertices, dtype=np.float64)[np.asarray(faces)]
        normals = np.cross(self._triangles[:, 1] - self._triangles[:, 0], self._triangles[:, 2] - self._triangles[:, 0])
        self._normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-18)
        radius = np.linalg.norm(self._triangles - self._triangles.mean(1)[:, None], axis=-1).max(1)
        target = max(float(np.quantile(radius, 0.7)), 1e-9)
        splits = np.clip(np.ceil(radius / target), 1, _MOST_SPLITS).astype(int)
        centres, owners, radii = [], [], []
        for count in np.unique(splits):
            chosen = np.flatnonzero(splits == count)
            weights = _subdivision_centroids(int(count))
            centres.append(np.einsum("sk,fki->fsi", weights, self._triangles[chosen]).reshape(-1, 3))
            owners.append(np.repeat(chosen, len(weights)))
            radii.append(np.repeat(radius[chosen] / count, len(weights)))
        self._owners = np.concatenate(owners)
        self._radii = np.concatenate(radii)
        self._tree = cKDTree(np.concatenate(centres), balanced_tree=False)

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the closest surface points.

        Args:
            points: (N, 3) [m].

        Returns:
            ``face`` (N,) int64, ``barycentric`` (N, 3) and ``distance`` (N,) [m].
        """
        points = np.asarray(points, dtype=np.float64)
        face = np.zeros(len(points), dtype=np.int64)
        barycentric = np.zeros((len(points), 3))
        distance = np.full(len(points), np.inf)
        for start in range(0, len(points), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(points)))
            cells = self._tree.query(
                points[rows], k=np.arange(1, min(_CELLS, len(self._owners)) + 1), workers=workers_for(len(rows))
            )[1]
            bound = self._lower_bound(points[rows], cells)
            for k in range(cells.shape[1]):
                able = bound[:, k] < distance[rows]
                if able.any():
                    self._test(points, rows[able], self._owners[cells[able, k]], face, barycentric, distance)
        return face, barycentric, distance

    def _lower_bound(self, points: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """No point of a cell is closer than this (R, C) [m]: the distance to a disc around the cell."""
        to_centre = self._tree.data[cells] - points[:, None]
        height = np.einsum("rci,rci->rc", to_centre, self._normals[self._owners[cells]])
        beside = np.sqrt(np.maximum(np.einsum("rci,rci->rc", to_centre, to_centre) - height**2, 0.0))
        return np.hypot(height, np.maximum(beside - self._radii[cells], 0.0)) - 1e-12

    def _test(
        self,
        points: np.ndarray,
        rows: np.ndarray,
        owner: np.ndarray,
        face: np.ndarray,
        barycentric: np.ndarray,
        distance: np.ndarray,
    ) -> None:
        """Test one face (R,) for each of the queries ``rows`` (R,) and keep what is closer, in place."""
        corners, query = self._triangles[owner], points[rows]
        weights = closest_on_triangles(query, corners)
        found = np.linalg.norm(np.einsum("nc,nci->ni", weights, corners) - query, axis=-1)
        closer = found < distance[rows]
        at = rows[closer]
        face[at], barycentric[at], distance[at] = owner[closer], weights[closer], found[closer]


def _subdivision_centroids(count: int) -> np.ndarray:
    """Barycentric centroids (count², 3) of a triangle whose edges are cut into ``count`` equal pieces."""
    rows = []
    for i in range(count):
        for j in range(count - i):
            rows.append((i + 1 / 3, j + 1 / 3))
            if i + j < count - 1:
                rows.append((i + 2 / 3, j + 2 / 3))
    uv = np.array(rows) / count
    return np.column_stack([1.0 - uv.sum(1), uv])
