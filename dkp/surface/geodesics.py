"""Geodesic distances between the vertices of a mesh by the heat method, and the table of them kept on disk.

Heat method: Crane, Weischedel and Wardetzky, "Geodesics in Heat", ACM TOG 2013.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from pathlib import Path

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix, diags
from scipy.sparse.linalg import SuperLU, splu
from scipy.spatial import cKDTree

from dkp.files import whole_file

MAX_TABLE = 8192
"""Vertices up to which every pair gets an entry; larger meshes use landmarks, so that the work stays about the same."""
MIN_LANDMARKS = 1024
_VERSION = 2
_BATCH = 16
_BLOCK = 256


def cache_folder() -> Path:
    """Where tables are kept: ``DKP_CACHE`` if set, else the platform's cache folder for users."""
    chosen = os.environ.get("DKP_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "dkp"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home() / "AppData" / "Local"))) / "dkp" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dkp"


class HeatGeodesics:
    """Distances from single vertices to all vertices of a connected mesh.

    Args:
        vertices: (V, 3) [m].
        faces: (F, 3).
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        self._vertices = np.asarray(vertices, dtype=np.float64)
        corners = self._vertices[faces]
        edges = np.roll(corners, 1, axis=1) - np.roll(corners, -1, axis=1)  # edge k lies opposite corner k
        normal = np.cross(edges[:, 0], edges[:, 1])
        double_area = np.maximum(np.linalg.norm(normal, axis=1), 1e-16)
        count = len(vertices)
        self.mean_edge = float(np.linalg.norm(edges, axis=-1).mean())
        # Gradient of a function on the vertices, constant on each face: (3F, V).
        unit = normal / double_area[:, None]
        slopes = np.cross(unit[:, None], edges) / double_area[:, None, None]
        rows = np.broadcast_to(np.arange(3 * len(faces)).reshape(-1, 1, 3), slopes.shape)
        columns = np.broadcast_to(faces[:, :, None], slopes.shape)
        self._gradient = csr_matrix((slopes.ravel(), (rows.ravel(), columns.ravel())), (3 * len(faces), count))
        self._divergence = (self._gradient.T @ diags(np.repeat(double_area / 2, 3))).tocsr()
        stiffness = (self._divergence @ self._gradient).tocsc()
        mass = np.zeros(count)
        np.add.at(mass, faces.ravel(), np.repeat(double_area / 6, 3))
        time = self.mean_edge**2
        self._heat = _factorise((diags(mass) + time * stiffness).tocsc())
        # One vertex is held at zero: the Laplacian has the constants in its kernel.
        self._poisson = _factorise(stiffness[1:, 1:].tocsc())

    def __call__(self, sources: np.ndarray) -> np.ndarray:
        """Distances (S, V) [m] from the vertices ``sources`` (S,)."""
        count = len(self._vertices)
        start = np.zeros((count, len(sources)))
        start[sources, np.arange(len(sources))] = 1.0
        heat = self._heat.solve(start)
        slope = (self._gradient @ heat).reshape(-1, 3, len(sources))
        slope /= np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-300)
        distance = np.zeros((count, len(sources)))
        distance[1:] = self._poisson.solve((self._divergence @ -slope.reshape(-1, len(sources)))[1:])
        distance -= distance[sources, np.arange(len(sources))]
        return np.abs(distance).T


def _factorise(matrix: csc_matrix) -> SuperLU:
    return splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})


class GeodesicTable:
    """By how much the way along the surface exceeds the straight line, for every pair of vertices (or landmarks).

    The excess is smooth and vanishes for neighbours, so that reading it at the nearest vertices and adding the true
    straight distance leaves no bias from rounding to vertices.

    Args:
        excess: (L, L) float16 [m], symmetric.
        landmark: (V,) the row of each vertex.
    """

    def __init__(self, excess: np.ndarray, landmark: np.ndarray) -> None:
        self._excess = excess
        self._landmark = landmark

    def excess(self, vertex: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Excess (...) [m] of the vertex pairs (...), (...)."""
        return self._excess[self._landmark[vertex], self._landmark[other]].astype(np.float64)

    @classmethod
    def load(cls, vertices: np.ndarray, faces: np.ndarray, mirror: np.ndarray | None = None) -> GeodesicTable:
        """Read the table of a mesh from the cache folder, or compute it and put it there.

        Several processes may do so at once: each writes a file of its own and renames it. Where the folder cannot be
        written, the table is only kept in memory.
        """
        digest = hashlib.sha256(np.ascontiguousarray(vertices, dtype=np.float32).tobytes())
        digest.update(np.ascontiguousarray(faces, dtype=np.int64).tobytes())
        path = cache_folder() / f"geodesics-{_VERSION}-{digest.hexdigest()[:20]}.npy"
        chosen = landmarks(vertices)
        landmark = np.asarray(cKDTree(vertices[chosen]).query(vertices)[1])
        with contextlib.suppress(OSError, ValueError):
            table = np.load(path, mmap_mode="r", allow_pickle=False)
            if table.shape == (len(chosen), len(chosen)) and table.dtype == np.float16:
                return cls(table, landmark)
        table = compute_excess(vertices, faces, chosen, mirror)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path, shared=True) as partial, partial.open("wb") as file:
                np.save(file, table)
        return cls(table, landmark)


def compute_excess(
    vertices: np.ndarray, faces: np.ndarray, chosen: np.ndarray, mirror: np.ndarray | None = None
) -> np.ndarray:
    """Excess (L, L) float16 [m] of the geodesic over the straight distance between the ``chosen`` vertices (L,).

    With a mirror map, which is a reflection, only half of the distances are computed.
    """
    solver = HeatGeodesics(vertices, faces)
    points = np.asarray(vertices, dtype=np.float64)[chosen]
    table = np.empty((len(chosen), len(chosen)), dtype=np.float32)
    mirror = mirror if len(chosen) == len(vertices) else None
    wanted = np.arange(len(chosen)) if mirror is None else np.flatnonzero(np.arange(len(vertices)) <= mirror)
    for start in range(0, len(wanted), _BATCH):
        rows = wanted[start : start + _BATCH]
        table[rows] = solver(chosen[rows])[:, chosen]
        if mirror is not None:
            table[mirror[rows]] = table[rows][:, mirror]
    result = np.empty(table.shape, dtype=np.float16)
    for start in range(0, len(chosen), _BLOCK):
        block = slice(start, start + _BLOCK)
        mean = 0.5 * (table[block] + table[:, block].T)
        straight = np.linalg.norm(points[block, None] - points[None], axis=-1)
        result[block] = np.maximum(mean - straight, 0.0)
    return result


def landmarks(vertices: np.ndarray) -> np.ndarray:
    """All vertices of a small mesh; else some of them spread evenly (farthest-point order on straight distances)."""
    if len(vertices) <= MAX_TABLE:
        return np.arange(len(vertices))
    chosen = np.zeros(max(MIN_LANDMARKS, MAX_TABLE**2 // (2 * len(vertices))), dtype=np.int64)
    gap = np.full(len(vertices), np.inf)
    for k in range(1, len(chosen)):
        gap = np.minimum(gap, ((vertices - vertices[chosen[k - 1]]) ** 2).sum(1))
        chosen[k] = int(np.argmax(gap))
    return np.sort(chosen)
