"""Making a symmetric mesh smaller: short edges are collapsed on the left half, which is then mirrored."""

import heapq
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from dkp.surface.charts import border_loops
from dkp.surface.closest import ClosestPoint

SEAM = 1e-6
"""Vertices with |x| below this lie on the mirror plane [m]."""


@dataclass
class HalfMesh:
    """The thinned left half and how the whole surface follows from it.

    ``corners`` (N, 3) and ``barycentric`` (N, 3) say where each vertex of the half lies on the original mesh (with
    the vertices that close its ``loops``); ``seam`` (N,) marks the mirror plane; ``source`` (W,) is the vertex of the
    half behind each vertex of the whole; ``faces`` (F, 3) of the whole, the first ``left_faces`` of them left;
    ``mirror`` (W,) the vertex on the other side.
    """

    loops: list[list[int]]
    corners: np.ndarray
    barycentric: np.ndarray
    seam: np.ndarray
    source: np.ndarray
    faces: np.ndarray
    mirror: np.ndarray
    left_faces: int

    def transfer(self, values: np.ndarray) -> np.ndarray:
        """Values (V, C) on the original vertices, read at the vertices of the half (N, C)."""
        return np.einsum("nk,nkc->nc", self.barycentric, with_fans(values, self.loops)[self.corners])


def triangulate(vertices: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Cut quads (Q, 4) along their shorter diagonal; return faces (2Q, 3)."""
    first = np.linalg.norm(vertices[quads[:, 0]] - vertices[quads[:, 2]], axis=1)
    second = np.linalg.norm(vertices[quads[:, 1]] - vertices[quads[:, 3]], axis=1)
    along = np.where((first <= second)[:, None], quads, np.roll(quads, -1, axis=1))
    return np.concatenate([along[:, [0, 1, 2]], along[:, [0, 2, 3]]])


def fill_holes(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, list[list[int]]]:
    """Close every hole with a fan around a new vertex.

    Returns:
        The faces including the fans, whose new vertices are numbered from ``len(vertices)`` on, and the loops in that
        order: the new vertex belongs at the mean of its loop.
    """
    loops = [loop[::-1].tolist() for loop in border_loops(faces)]
    fans = []
    for number, loop in enumerate(loops):
        centre = len(vertices) + number
        fans += [(a, b, centre) for a, b in zip(loop, loop[1:] + loop[:1], strict=True)]
    return np.concatenate([faces, np.array(fans, dtype=faces.dtype).reshape(-1, 3)]), loops


def collapse_short_edges(
    vertices: np.ndarray, faces: np.ndarray, wanted: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Collapse edges, the relatively shortest first, until ``count`` vertices are left.

    An edge's cost is its length over the wanted length at its ends. A collapse is refused where it would change the
    topology (link condition), turn a face over, pull a vertex off the border, or join two border vertices by an inner
    edge (which the mirror image would have as well).

    Args:
        vertices: (V, 3) [m]; those of the border must lie on the plane x = 0.
        faces: (F, 3) int.
        wanted: (V,) wanted edge length [m].
        count: vertices to keep.

    Returns:
        New vertices (N, 3) [m] and faces (M, 3).
    """
    position, size = vertices.copy(), wanted.copy()
    around: list[set[int]] = [set() for _ in vertices]
    triangles: dict[int, tuple[int, int, int]] = {}
    for number, (a, b, c) in enumerate(faces.tolist()):
        triangles[number] = (a, b, c)
        for v in (a, b, c):
            around[v].add(number)
    border = np.zeros(len(vertices), dtype=bool)
    for loop in border_loops(faces):
        border[loop] = True

    def neighbours(v: int) -> set[int]:
        return {w for t in around[v] for w in triangles[t]} - {v}

    def cost(a: int, b: int) -> float:
        return float(np.linalg.norm(position[a] - position[b]) / (0.5 * (size[a] + size[b])))

    def normal(corners: list[np.ndarray]) -> np.ndarray:
        n = np.cross(corners[1] - corners[0], corners[2] - corners[0])
        return n / max(float(np.linalg.norm(n)), 1e-18)

    version = np.zeros(len(vertices), dtype=int)
    heap = [(cost(a, b), a, b, 0, 0) for a in range(len(vertices)) for b in neighbours(a) if a < b]
    heapq.heapify(heap)
    alive = len(vertices)
    while heap and alive > count:
        _, a, b, seen_a, seen_b = heapq.heappop(heap)
        if version[a] != seen_a or version[b] != seen_b or not around[a] or not around[b]:
            continue
        shared = around[a] & around[b]
        if not shared or len(neighbours(a) & neighbours(b)) != len(shared):
            continue
        if border[a] and border[b] and len(shared) != 1:
            continue
        keep, gone = (b, a) if border[b] and not border[a] else (a, b)
        if border[keep] and not border[gone] and any(border[w] for w in neighbours(gone) - neighbours(keep) - {keep}):
            continue
        target = position[keep] if border[keep] != border[gone] else 0.5 * (position[a] + position[b])
        turned = False
        for v in (a, b):
            for t in around[v] - shared:
                before = [position[w] for w in triangles[t]]
                after = [target if w == v else position[w] for w in triangles[t]]
                turned |= bool(np.dot(normal(before), normal(after)) < 0.5)
        if turned:
            continue
        for t in shared:
            for w in triangles[t]:
                around[w].discard(t)
            del triangles[t]
        for t in list(around[gone]):
            triangles[t] = tuple(keep if w == gone else w for w in triangles[t])  # type: ignore[assignment]
            around[keep].add(t)
        around[gone] = set()
        position[keep] = target
        size[keep] = min(size[keep], size[gone])
        version[keep] += 1
        alive -= 1
        for w in neighbours(keep):
            heapq.heappush(heap, (cost(keep, w), keep, w, int(version[keep]), int(version[w])))
    used = np.array(sorted({v for corners in triangles.values() for v in corners}))
    renumber = np.full(len(vertices), -1)
    renumber[used] = np.arange(len(used))
    return position[used], renumber[np.array(list(triangles.values()))]


def mirror_half(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Complete the left half (x >= 0) of a mesh with its mirror image.

    Returns:
        The index (W,) of the left vertex each vertex of the whole mesh comes from, the faces (2F, 3) of the whole, and
        the mirror map (W,): the vertex on the other side.
    """
    seam = np.abs(vertices[:, 0]) < SEAM
    count = len(vertices)
    partner = np.arange(count)
    partner[~seam] = count + np.arange((~seam).sum())
    source = np.concatenate([np.arange(count), np.flatnonzero(~seam)])
    mirror = np.concatenate([partner, np.flatnonzero(~seam)])
    return source, np.concatenate([faces, partner[faces][:, ::-1]]), mirror


def thin_out(mean: np.ndarray, faces: np.ndarray, wanted: np.ndarray, count: int) -> HalfMesh:
    """Close the outer surface of the mean body, keep its left half and collapse the short edges.

    Args:
        mean: (V, 3) the mean body [m], symmetric, with vertices but no inner edge points on the mirror plane x = 0.
        faces: (F, 3) outer faces.
        wanted: (V,) wanted edge length [m].
        count: vertices of the half to keep.
    """
    faces = _largest_piece(faces)
    faces, loops = fill_holes(mean, faces)
    mean, wanted = with_fans(mean, loops), with_fans(wanted[:, None], loops)[:, 0]
    mean[np.abs(mean[:, 0]) < SEAM, 0] = 0.0
    left = faces[mean[faces][..., 0].mean(1) > 0]
    used, flat = np.unique(left, return_inverse=True)
    left_local = flat.reshape(-1, 3)

    points, faces = collapse_short_edges(mean[used], left_local, wanted[used], count)
    face, barycentric, _ = ClosestPoint(mean, left)(points)
    corners = left[face]
    source, whole, mirror = mirror_half(points, faces)
    seam = np.abs(points[:, 0]) < SEAM
    return HalfMesh(loops, corners, barycentric, seam, source, whole, mirror, len(faces))


def with_fans(values: np.ndarray, loops: list[list[int]]) -> np.ndarray:
    """Append the mean over each hole's loop to values (V, C)."""
    if not loops:
        return values.copy()
    return np.concatenate([values, [values[loop].mean(0) for loop in loops]])


def _largest_piece(faces: np.ndarray) -> np.ndarray:
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    size = int(faces.max()) + 1
    _, label = connected_components(coo_matrix((np.ones(len(edges)), edges.T), (size, size)), directed=False)
    owner = label[faces[:, 0]]
    return faces[owner == np.argmax(np.bincount(owner))]
