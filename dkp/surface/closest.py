"""Closest points on a triangle mesh, vectorised over the queries."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

_CHUNK = 65536


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

    Sample points on the faces (big faces get several) are kept in a KD-tree. The faces of the nearest samples are
    tested exactly; a query is accepted once no untested face can be closer, and asks for more candidates otherwise.

    Args:
        vertices: (V, 3) [m].
        faces: (F, 3) int.
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        self._triangles = np.asarray(vertices, dtype=np.float64)[np.asarray(faces)]
        centroid = self._triangles.mean(1)
        radius = np.linalg.norm(self._triangles - centroid[:, None], axis=-1).max(1)
        target = max(float(np.median(radius)), 1e-9)
        splits = np.clip(np.ceil(radius / target), 1, 16).astype(int)
        samples, owners, reach = [], [], 0.0
        for count in np.unique(splits):
            chosen = np.flatnonzero(splits == count)
            weights = _subdivision_centroids(int(count))
            samples.append(np.einsum("sk,fki->fsi", weights, self._triangles[chosen]).reshape(-1, 3))
            owners.append(np.repeat(chosen, len(weights)))
            reach = max(reach, float((radius[chosen] / count).max()))
        self._samples = np.concatenate(samples)
        self._owners = np.concatenate(owners)
        self._reach = reach
        self._tree = cKDTree(self._samples)

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Finds the closest surface points.

        Args:
            points: (N, 3) [m].

        Returns:
            ``face`` (N,) int64, ``barycentric`` (N, 3) and ``distance`` (N,) [m].
        """
        points = np.asarray(points, dtype=np.float64)
        face = np.empty(len(points), dtype=np.int64)
        barycentric = np.empty((len(points), 3))
        distance = np.empty(len(points))
        for start in range(0, len(points), _CHUNK):
            part = slice(start, start + _CHUNK)
            face[part], barycentric[part], distance[part] = self._query(points[part])
        return face, barycentric, distance

    def _query(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        face = np.empty(len(points), dtype=np.int64)
        barycentric = np.empty((len(points), 3))
        distance = np.full(len(points), np.inf)
        pending = np.arange(len(points))
        limit = len(self._samples)
        for count in (6, 24, 96):
            count = min(count, limit)
            gaps, nearest = self._tree.query(points[pending], k=np.arange(1, count + 1))
            owners = self._owners[nearest]
            candidates = self._triangles[owners]
            queries = points[pending][:, None]
            weights = closest_on_triangles(np.broadcast_to(queries, (*candidates.shape[:2], 3)), candidates)
            found = np.linalg.norm(np.einsum("nkc,nkci->nki", weights, candidates) - queries, axis=-1)
            best = np.argmin(found, axis=1)
            rows = np.arange(len(pending))
            face[pending] = owners[rows, best]
            barycentric[pending] = weights[rows, best]
            distance[pending] = found[rows, best]
            pending = pending[found[rows, best] > gaps[:, -1] - self._reach] if count < limit else pending[:0]
            if not len(pending):
                break
        return face, barycentric, distance


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
