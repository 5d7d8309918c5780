"""Reading triangle meshes and checking that a surface can be made of them."""

from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from dkp.errors import InputError

_PLY_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}


def read_mesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read vertices (V, 3) float64 and faces (F, 3) int64 of an .obj or .ply file; polygons become fans.

    Raises:
        InputError: if the file cannot be read as a mesh.
    """
    suffix = path.suffix.lower()
    if suffix not in (".obj", ".ply"):
        raise InputError(f"{path}: found a file ending in '{path.suffix}', expected .obj, .ply or .npz")
    try:
        vertices, polygons = _read_obj(path) if suffix == ".obj" else _read_ply(path)
        faces = [(polygon[0], polygon[k], polygon[k + 1]) for polygon in polygons for k in range(1, len(polygon) - 1)]
        triangles = np.asarray(faces, dtype=np.int64)
    except FileNotFoundError:
        raise InputError(f"{path}: found no such file, expected a mesh") from None
    except InputError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, StopIteration) as error:
        raise InputError(f"{path}: found content that is not a mesh ({error}), expected {path.suffix} data") from None
    if not len(vertices) or not faces:
        raise InputError(f"{path}: found {len(vertices)} vertices and {len(faces)} faces, expected a triangle mesh")
    return np.asarray(vertices, dtype=np.float64), triangles


def check_mesh(vertices: np.ndarray, faces: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Check that a mesh is one connected, consistently oriented manifold without unused vertices.

    Args:
        vertices: (V, 3).
        faces: (F, 3) int.
        name: used in messages.

    Returns:
        Vertices as float64 and faces as int64.

    Raises:
        InputError: with the first reason why the mesh will not do.
    """
    vertices, faces = np.asarray(vertices, dtype=np.float64), np.asarray(faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise InputError(
            f"{name}: found vertices of shape {vertices.shape} and faces of shape {faces.shape}, "
            "expected (V, 3) and (F, 3)"
        )
    if not np.issubdtype(faces.dtype, np.integer):
        raise InputError(f"{name}: found faces of type {faces.dtype}, expected integers")
    faces = faces.astype(np.int64)
    if not len(faces):
        raise InputError(f"{name}: found no faces, expected a triangle mesh")
    if not np.isfinite(vertices).all():
        raise InputError(f"{name}: found a vertex that is not finite, expected finite positions in metres")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise InputError(
            f"{name}: found face indices {faces.min()} to {faces.max()}, expected 0 to {len(vertices) - 1}"
        )
    unused = len(vertices) - len(np.unique(faces))
    if unused:
        raise InputError(f"{name}: found {unused} vertices that no face uses, expected every vertex on the surface")
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    if (edges[:, 0] == edges[:, 1]).any():
        raise InputError(f"{name}: found a face that uses a vertex twice, expected triangles")
    _, count = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    if (count > 2).any():
        raise InputError(f"{name}: found {(count > 2).sum()} edges with more than two faces, expected a manifold mesh")
    if len(np.unique(edges, axis=0)) != len(edges):
        raise InputError(f"{name}: found neighbouring faces that wind differently, expected one orientation")
    graph = coo_matrix((np.ones(len(edges)), edges.T), (len(vertices), len(vertices)))
    pieces = connected_components(graph, directed=False)[0]
    if pieces != 1:
        raise InputError(f"{name}: found {pieces} separate pieces, expected one connected surface (weld it first)")
    return vertices, faces


def _read_obj(path: Path) -> tuple[np.ndarray, list[list[int]]]:
    vertices: list[list[float]] = []
    polygons: list[list[int]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if words and words[0] == "v":
            vertices.append([float(word) for word in words[1:4]])
        elif words and words[0] == "f":
            numbers = [int(word.split("/")[0]) for word in words[1:]]
            polygons.append([n - 1 if n > 0 else len(vertices) + n for n in numbers])
    return np.array(vertices, dtype=np.float64).reshape(-1, 3), polygons


def _read_ply(path: Path) -> tuple[np.ndarray, list[list[int]]]:
    data = path.read_bytes()
    if not data.startswith(b"ply") or b"end_header" not in data:
        raise InputError(f"{path}: found no PLY header, expected a PLY mesh")
    end = data.index(b"\n", data.index(b"end_header")) + 1
    header = data[:end].decode("ascii").splitlines()
    kind = next(line.split()[1] for line in header if line.startswith("format"))
    elements: list[tuple[str, int, list[list[str]]]] = []
    for line in header:
        words = line.split()
        if words and words[0] == "element":
            elements.append((words[1], int(words[2]), []))
        elif words and words[0] == "property":
            elements[-1][2].append(words[1:])
    values = _PlyValues(data[end:], kind)
    vertices, polygons = np.zeros((0, 3)), []
    for element, count, properties in elements:
        rows = values.rows(count, properties)
        if element == "vertex":
            at = [[p[-1] for p in properties].index(axis) for axis in "xyz"]
            vertices = np.array([[row[k] for k in at] for row in rows], dtype=np.float64)
        elif element == "face":
            at_list = next(k for k, p in enumerate(properties) if p[-1] in ("vertex_indices", "vertex_index"))
            polygons = [[int(v) for v in row[at_list]] for row in rows]
    return vertices, polygons


class _PlyValues:
    """Reads the body of a PLY file, ASCII or binary."""

    def __init__(self, body: bytes, kind: str) -> None:
        self._words = body.split() if kind == "ascii" else []
        self._body, self._at = body, 0
        self._order = ">" if kind == "binary_big_endian" else "<"
        self._ascii = kind == "ascii"

    def _take(self, kind: str, count: int) -> list[float]:
        if self._ascii:
            found = [float(word) for word in self._words[self._at : self._at + count]]
            self._at += count
        else:
            dtype = np.dtype(self._order + _PLY_TYPES[kind])
            found = np.frombuffer(self._body, dtype, count, self._at).tolist()
            self._at += count * dtype.itemsize
        if len(found) != count:
            raise ValueError("the data end too early")
        return found

    def rows(self, count: int, properties: list[list[str]]) -> list[list]:
        if not properties:
            raise ValueError("an element has no properties")
        result: list[list] = []
        for _ in range(count):
            row: list = []
            for words in properties:
                if words[0] == "list":
                    row.append(self._take(words[2], int(self._take(words[1], 1)[0])))
                else:
                    row.append(self._take(words[0], 1)[0])
            result.append(row)
        return result
