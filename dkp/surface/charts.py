"""Charts: cutting a surface into discs and flattening each into the unit square without folds."""

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, identity
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.sparse.linalg import splu

from dkp.errors import InputError

_ROUNDS = 20
_SQUARENESS = 3.0
"""Exponent of the charts' outline: 2 is a circle, infinity a square; it must bend everywhere."""


def face_adjacency(faces: np.ndarray) -> np.ndarray:
    """Pairs (E, 2) of faces that share an edge."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    owner = np.tile(np.arange(len(faces)), 3)
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    edges, owner = edges[order], owner[order]
    same = (edges[1:] == edges[:-1]).all(1)
    return np.column_stack([owner[:-1][same], owner[1:][same]])


def border_loops(faces: np.ndarray) -> list[np.ndarray]:
    """Find closed loops of border vertices, in the faces' own orientation.

    Raises:
        InputError: where a border touches itself in a vertex.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    width = int(faces.max()) + 1
    codes = edges[:, 0] * width + edges[:, 1]
    border = edges[~np.isin(codes, edges[:, 1] * width + edges[:, 0])]
    if len(np.unique(border[:, 0])) != len(border):
        raise InputError("the surface's border touches itself in a vertex, expected simple border loops")
    following = dict(zip(border[:, 0].tolist(), border[:, 1].tolist(), strict=True))
    loops = []
    while following:
        start = next(iter(following))
        loop = [start]
        current = following.pop(start)
        while current != start:
            loop.append(current)
            current = following.pop(current)
        loops.append(np.array(loop))
    return loops


def is_disc(faces: np.ndarray) -> bool:
    """Whether the faces form one piece with one simple border and no handle."""
    vertices, local = np.unique(faces, return_inverse=True)
    pairs = face_adjacency(faces)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (len(faces), len(faces)))
    if connected_components(graph, directed=False)[0] != 1:
        return False
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    if len(vertices) - len(np.unique(edges, axis=0)) + len(faces) != 1:
        return False
    try:
        return len(border_loops(local.reshape(-1, 3))) == 1
    except InputError:
        return False


def flatten_disc(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Map a disc of faces into the unit square, one to one.

    The border goes to a rounded square by arc length and every inner vertex to a positive weighted mean of its
    neighbours, which cannot fold (Tutte 1963, Floater 1997). The weights are then divided by the local stretch and
    the system solved again, a few times, which evens out the areas (Yoshizawa, Belyaev and Seidel 2004). The border
    vertex with the greatest y goes to (0.5, 1).

    Args:
        vertices: (V, 3) [m], all vertices of the surface.
        faces: (F, 3), the disc's faces.

    Returns:
        Corner coordinates (F, 3, 2) in [0, 1].
    """
    used, flat = np.unique(faces, return_inverse=True)
    local = flat.reshape(-1, 3)
    points = np.asarray(vertices, dtype=np.float64)[used]
    loop = border_loops(local)[0]
    loop = np.roll(loop, -int(np.argmax(points[loop, 1])))
    steps = np.linalg.norm(points[np.roll(loop, -1)] - points[loop], axis=1)
    # Equal shares keep very short border edges from collapsing to nothing.
    steps = steps / steps.sum() + 0.2 / len(loop)
    at = np.concatenate([[0.0], np.cumsum(steps)[:-1]]) / steps.sum()
    position = np.zeros((len(used), 2))
    position[loop] = _rounded_square(at)
    inner = np.setdiff1d(np.arange(len(used)), loop)
    if len(inner):
        weights = _mean_value_weights(points, local)
        best, best_stretch = position, np.inf
        for _ in range(_ROUNDS):
            position = _solve_means(weights, position, inner)
            stretch, total = _vertex_stretch(points, position, local)
            if total < best_stretch and _signed_area(position, local).min() > 0:
                best, best_stretch = position, total
            weights = weights.multiply(1.0 / stretch[None, :]).tocsr()
        position = best
    if _signed_area(position, local).min() <= 0:
        position = position.copy()
        position[inner] = _solve_means((weights > 0).astype(float).tocsr(), position, inner)[inner]
    return np.clip(position[local], 0.0, 1.0)


def automatic_parts(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Cut any surface into some twelve pieces of about equal size, split further until each is a disc.

    Args:
        vertices: (V, 3) [m].
        faces: (F, 3).

    Returns:
        Part of every face (F,), 1..K.
    """
    count = 1 if is_disc(faces) else min(12, max(1, len(faces) // 8))
    part = np.zeros(len(faces), dtype=np.int64)
    work = [(np.arange(len(faces)), count)]
    found = 0
    while work:
        chosen, wanted = work.pop()
        if wanted == 1 and (len(chosen) == 1 or is_disc(faces[chosen])):
            found += 1
            part[chosen] = found
            continue
        work += [(chosen[piece], 1) for piece in _split_faces(vertices, faces[chosen], max(2, wanted))]
    return part


class ChartLookup:
    """From (part, uv) back to the surface: the flattened triangles, found through a KD-tree per part.

    Args:
        corner_uv: (F, 3, 2) in [0, 1].
        face_part: (F,) 1..K.
    """

    def __init__(self, corner_uv: np.ndarray, face_part: np.ndarray) -> None:
        from dkp.surface.closest import ClosestPoint

        self._parts: dict[int, tuple[np.ndarray, ClosestPoint]] = {}
        for part in np.unique(face_part):
            chosen = np.flatnonzero(face_part == part)
            corners = np.concatenate([corner_uv[chosen].reshape(-1, 2), np.zeros((3 * len(chosen), 1))], axis=1)
            self._parts[int(part)] = (chosen, ClosestPoint(corners, np.arange(3 * len(chosen)).reshape(-1, 3)))

    def __call__(self, part: np.ndarray, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the surface points of chart coordinates; a uv outside its chart goes to the chart's nearest point.

        Args:
            part: (N,) 1..K.
            uv: (N, 2).

        Returns:
            ``face`` (N,) and ``barycentric`` (N, 3).
        """
        face = np.full(len(part), -1, dtype=np.int64)
        barycentric = np.zeros((len(part), 3))
        for number in np.unique(part):
            if int(number) not in self._parts:
                raise InputError(f"part {int(number)} is not on the surface, expected 1 to {max(self._parts)}")
            rows = np.flatnonzero(part == number)
            chosen, closest = self._parts[int(number)]
            found, weights, _ = closest(np.column_stack([uv[rows], np.zeros(len(rows))]))
            face[rows], barycentric[rows] = chosen[found], weights
        return face, barycentric


def _split_faces(vertices: np.ndarray, faces: np.ndarray, count: int) -> list[np.ndarray]:
    """Cut faces into at most ``count`` connected pieces around seeds that lie far apart."""
    pairs = face_adjacency(faces)
    centres = vertices[faces].mean(1)
    length = np.linalg.norm(centres[pairs[:, 0]] - centres[pairs[:, 1]], axis=1) + 1e-12
    graph = coo_matrix((length, (pairs[:, 0], pairs[:, 1])), (len(faces), len(faces))).tocsr()
    number, label = connected_components(graph, directed=False)
    if number > 1:
        return [np.flatnonzero(label == k) for k in range(number)]
    start = int(np.argmax(dijkstra(graph, directed=False, indices=0)))
    reach = [dijkstra(graph, directed=False, indices=start)]
    while len(reach) < min(count, len(faces)):
        reach.append(dijkstra(graph, directed=False, indices=int(np.argmax(np.min(reach, axis=0)))))
    nearest = np.argmin(reach, axis=0)
    pieces = []
    for k in np.unique(nearest):
        inside = np.flatnonzero(nearest == k)
        piece_number, piece_label = connected_components(graph[inside][:, inside], directed=False)
        pieces += [inside[piece_label == p] for p in range(piece_number)]
    return pieces


def _rounded_square(at: np.ndarray) -> np.ndarray:
    """Points of a strictly convex rounded square in [0, 1]²; ``at`` in [0, 1) runs anticlockwise from (0.5, 1)."""
    angle = np.linspace(0.0, 2 * np.pi, 4097)
    x, y = -np.sin(angle), np.cos(angle)
    scale = (np.abs(x) ** _SQUARENESS + np.abs(y) ** _SQUARENESS) ** (-1 / _SQUARENESS)
    curve = np.column_stack([x * scale, y * scale])
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    theta = np.interp(at * length[-1], length, angle)
    x, y = -np.sin(theta), np.cos(theta)
    scale = (np.abs(x) ** _SQUARENESS + np.abs(y) ** _SQUARENESS) ** (-1 / _SQUARENESS)
    return 0.5 + 0.5 * np.column_stack([x * scale, y * scale])


def _mean_value_weights(points: np.ndarray, faces: np.ndarray) -> csr_matrix:
    """Floater's mean value weights (2003), positive for every triangle mesh: row i weighs the neighbours of i."""
    rows, columns, values = [], [], []
    for k in range(3):
        i, j, m = faces[:, k], faces[:, (k + 1) % 3], faces[:, (k + 2) % 3]
        to_j, to_m = points[j] - points[i], points[m] - points[i]
        length_j = np.maximum(np.linalg.norm(to_j, axis=1), 1e-12)
        length_m = np.maximum(np.linalg.norm(to_m, axis=1), 1e-12)
        cosine = np.clip(np.einsum("ni,ni->n", to_j, to_m) / (length_j * length_m), -0.9999, 0.9999)
        half = np.maximum(np.tan(np.arccos(cosine) / 2), 1e-3)
        rows += [i, i]
        columns += [j, m]
        values += [half / length_j, half / length_m]
    shape = (len(points), len(points))
    return coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape).tocsr()


def _solve_means(weights: csr_matrix, position: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Put every inner vertex at the weighted mean of its neighbours."""
    rows = weights[inner]
    rows = rows.multiply(1.0 / np.asarray(rows.sum(1))).tocsr()
    fixed = position.copy()
    fixed[inner] = 0.0
    system = identity(len(inner), format="csr") - rows[:, inner]
    solved = position.copy()
    solved[inner] = splu(system.tocsc()).solve(rows @ fixed)
    return solved


def _signed_area(position: np.ndarray, faces: np.ndarray) -> np.ndarray:
    first, second = position[faces[:, 1]] - position[faces[:, 0]], position[faces[:, 2]] - position[faces[:, 0]]
    return 0.5 * (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])


def _vertex_stretch(points: np.ndarray, position: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, float]:
    """Root mean square stretch (Sander et al. 2001) around each vertex (V,), with mean 1, and over the whole disc."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    s, t = position[faces][..., 0], position[faces][..., 1]
    flat = np.maximum(2 * np.abs(_signed_area(position, faces)), 1e-14)[:, None]
    along_s = (
        a * (t[:, 1] - t[:, 2])[:, None] + b * (t[:, 2] - t[:, 0])[:, None] + c * (t[:, 0] - t[:, 1])[:, None]
    ) / flat
    along_t = (
        a * (s[:, 2] - s[:, 1])[:, None] + b * (s[:, 0] - s[:, 2])[:, None] + c * (s[:, 1] - s[:, 0])[:, None]
    ) / flat
    square = 0.5 * ((along_s**2).sum(1) + (along_t**2).sum(1))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    total, share = np.zeros(len(points)), np.zeros(len(points))
    for k in range(3):
        np.add.at(total, faces[:, k], area * square)
        np.add.at(share, faces[:, k], area)
    stretch = np.sqrt(total / np.maximum(share, 1e-18))
    return stretch / stretch.mean(), float(np.sqrt((area * square).sum() / area.sum()))
