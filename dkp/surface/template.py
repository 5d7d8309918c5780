"""The canonical surface: rest-pose mesh, charts, symmetry, closest points and geodesic distances."""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from dkp.errors import InputError
from dkp.files import whole_file
from dkp.surface.charts import ChartLookup, automatic_parts, flatten_disc
from dkp.surface.closest import ClosestPoint, workers_for
from dkp.surface.geodesics import GeodesicTable
from dkp.surface.meshfile import check_mesh, read_mesh

ASSETS = Path(__file__).parent / "assets"


class Surface:
    """A surface that detectors map pixels to.

    A *surface coordinate* is a position (3,) on the rest-pose mesh, in metres. The shipped ``human`` and ``dog`` have x
    to their own left, y up, z forward; the origin is midway between the human's hips, and in the dog's median plane
    between shoulders and hips.

    Attributes:
        name: the surface's name.
        vertices: (V, 3) float64 [m].
        faces: (F, 3) int64, anticlockwise seen from outside.
        face_part: (F,) int64, part number 1..K of every face.
        corner_uv: (F, 3, 2) float64, chart coordinates of the corners in [0, 1].
        part_names: K names.
        mirror: (V,) int64, the vertex on the other side of the body, or None.
        joints: rest-pose joint centres (3,) [m] by name.
        flat: whether geodesics are straight lines.
    """

    def __init__(
        self,
        name: str,
        vertices: np.ndarray,
        faces: np.ndarray,
        face_part: np.ndarray,
        corner_uv: np.ndarray,
        part_names: list[str],
        mirror: np.ndarray | None = None,
        joints: dict[str, np.ndarray] | None = None,
        flat: bool = False,
    ) -> None:
        self.name = name
        self.vertices, self.faces = check_mesh(vertices, faces, name)
        self.face_part = np.asarray(face_part, dtype=np.int64)
        self.corner_uv = np.asarray(corner_uv, dtype=np.float64)
        self.part_names = list(part_names)
        self.mirror = None if mirror is None else np.asarray(mirror, dtype=np.int64)
        self.joints = {key: np.asarray(value, dtype=np.float64) for key, value in (joints or {}).items()}
        self.flat = flat
        self._check()

    def __repr__(self) -> str:
        return f"Surface({self.name!r}, {len(self.vertices)} vertices, {len(self.faces)} faces, {self.parts} parts)"

    @classmethod
    def load(cls, name_or_path: str | Path) -> Surface:
        """Load a shipped surface by name (``human``, ``dog``) or a file: .npz as ``save`` writes it, .obj or .ply.

        Raises:
            InputError: if there is no such surface or the file is not usable.
        """
        shipped = ASSETS / f"{name_or_path}.npz"
        if os.sep not in str(name_or_path) and not Path(name_or_path).suffix:
            if not shipped.exists():
                known = ", ".join(sorted(path.stem for path in ASSETS.glob("*.npz")))
                raise InputError(
                    f"surface: found '{name_or_path}', expected one of {known} or a .npz, .obj or .ply file"
                )
            return cls._read(shipped)
        path = Path(name_or_path)
        if path.suffix.lower() == ".npz":
            return cls._read(path)
        vertices, faces = read_mesh(path)
        return cls.from_mesh(vertices, faces, path.stem)

    @classmethod
    def from_mesh(cls, vertices: np.ndarray, faces: np.ndarray, name: str) -> Surface:
        """Make a surface of any connected, oriented manifold mesh; its charts are cut and flattened automatically.

        Args:
            vertices: (V, 3) [m].
            faces: (F, 3) int.
            name: the surface's name.
        """
        vertices, faces = check_mesh(vertices, faces, name)
        face_part = automatic_parts(vertices, faces)
        corner_uv = np.zeros((len(faces), 3, 2))
        for number in range(1, int(face_part.max()) + 1):
            chosen = face_part == number
            corner_uv[chosen] = flatten_disc(vertices, faces[chosen])
        names = [f"part_{number}" for number in range(1, int(face_part.max()) + 1)]
        return cls(name, vertices, faces, face_part, corner_uv, names)

    @classmethod
    def plane(cls, width: float, height: float, spacing: float) -> Surface:
        """Make a flat board: x in [0, width], y in [0, height], z = 0, one chart with u = x / width, v = y / height.

        Args:
            width: [m].
            height: [m].
            spacing: distance between vertices [m]; rounded so that they fill the board.
        """
        for key, value in (("width", width), ("height", height), ("spacing", spacing)):
            if not np.isfinite(value) or value <= 0:
                raise InputError(f"plane: found {key} = {value}, expected a positive length in metres")
        columns, rows = (max(1, round(side / spacing)) + 1 for side in (width, height))
        x, y = np.meshgrid(np.linspace(0, width, columns), np.linspace(0, height, rows))
        vertices = np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)])
        corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
        lower = np.column_stack([corner, corner + 1, corner + columns])
        upper = np.column_stack([corner + 1, corner + columns + 1, corner + columns])
        faces = np.stack([lower, upper], axis=1).reshape(-1, 3)
        corner_uv = vertices[faces][..., :2] / [width, height]
        return cls("plane", vertices, faces, np.ones(len(faces)), corner_uv, ["plane"], flat=True)

    def save(self, path: str | Path) -> None:
        """Write the surface as .npz, which ``load`` reads; an existing file is replaced only when all is written."""
        path = Path(path)
        if path.suffix.lower() != ".npz":
            raise InputError(f"{path}: found a file ending in '{path.suffix}', expected .npz")
        meta = {"name": self.name, "part_names": self.part_names, "joint_names": list(self.joints), "flat": self.flat}
        arrays = {
            "meta": np.array(json.dumps(meta)),
            "vertices": self.vertices,
            "faces": self.faces.astype(np.int32),
            "face_part": self.face_part.astype(np.int32),
            "corner_uv": self.corner_uv.astype(np.float32),
            "joints": np.array(list(self.joints.values())).reshape(-1, 3),
        }
        if self.mirror is not None:
            arrays["mirror"] = self.mirror.astype(np.int32)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, shared=True) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    @property
    def parts(self) -> int:
        """Number of charts."""
        return len(self.part_names)

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Centre (3,) and half extent (3,) of the bounding box [m]; an extent is at least 1 mm."""
        low, high = self.vertices.min(0), self.vertices.max(0)
        return (low + high) / 2, np.maximum((high - low) / 2, 1e-3)

    @property
    def extent(self) -> float:
        """Longest side of the template's bounding box [m]."""
        return float(2 * max(self.bounds[1]))

    @property
    def is_flat(self) -> bool:
        """Whether it lies in a plane: it is a thousand times as long as thick (root mean squares)."""
        spread = np.linalg.svd(self.vertices - self.vertices.mean(0), compute_uv=False)
        return bool(spread[2] <= 1e-3 * spread[0])

    def coordinates(self, face: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
        """Surface coordinates (..., 3) [m] of points given by face (...) and barycentric coordinates (..., 3)."""
        return np.einsum("...k,...ki->...i", np.asarray(barycentric, dtype=np.float64), self.vertices[self.faces[face]])

    def locate(self, coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the closest surface points.

        Args:
            coordinates: (..., 3) [m], on the surface or off it.

        Returns:
            ``face`` (...), ``barycentric`` (..., 3) and ``distance`` (...) [m].
        """
        coordinates = np.asarray(coordinates, dtype=np.float64)
        shape = coordinates.shape[:-1]
        face, barycentric, distance = self._closest(coordinates.reshape(-1, 3))
        return face.reshape(shape), barycentric.reshape(*shape, 3), distance.reshape(shape)

    def nearest_vertex(self, coordinates: np.ndarray) -> np.ndarray:
        """Index (...) of the vertex nearest to each coordinate (..., 3)."""
        coordinates = np.asarray(coordinates, dtype=np.float64)
        return self._tree.query(coordinates, workers=workers_for(coordinates.size // 3))[1]

    def charts(self, face: np.ndarray, barycentric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Part (...) in 1..K and chart coordinates uv (..., 2) of surface points."""
        uv = np.einsum("...k,...ki->...i", np.asarray(barycentric, dtype=np.float64), self.corner_uv[face])
        return self.face_part[face], uv

    def from_charts(self, part: np.ndarray, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Surface points of chart coordinates, the inverse of ``charts``.

        Args:
            part: (...) in 1..K.
            uv: (..., 2); outside the chart's outline the nearest point of the chart is taken.

        Returns:
            ``face`` (...) and ``barycentric`` (..., 3).
        """
        part, uv = np.asarray(part), np.asarray(uv, dtype=np.float64)
        face, barycentric = self._chart_lookup(part.reshape(-1), uv.reshape(-1, 2))
        return face.reshape(part.shape), barycentric.reshape(*part.shape, 3)

    def geodesic_distance(self, coordinates: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Distance along the surface, good to a few percent.

        The straight distance of the two points plus the excess (geodesic minus straight) of their nearest vertices:
        exact for neighbours, without a bias from rounding to vertices. The vertex distances are computed once and
        kept in the user's cache folder.

        Args:
            coordinates: (..., 3) [m].
            other: (..., 3) [m], same leading shape or one that broadcasts.

        Returns:
            (...) [m].
        """
        coordinates, other = np.asarray(coordinates, dtype=np.float64), np.asarray(other, dtype=np.float64)
        straight = np.linalg.norm(coordinates - other, axis=-1)
        if self.flat:
            return straight
        return straight + self._geodesics.excess(self.nearest_vertex(coordinates), self.nearest_vertex(other))

    def mirror_coordinates(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the coordinates (..., 3) [m] of the same points on the other side of the body.

        Raises:
            InputError: if the surface has no mirror map.
        """
        if self.mirror is None:
            raise InputError(f"{self.name}: found no mirror map, expected a surface with left and right")
        coordinates = np.asarray(coordinates, dtype=np.float64)
        if self.is_reflection:
            return coordinates * [-1.0, 1.0, 1.0]
        face, barycentric, _ = self.locate(coordinates)
        return np.einsum("...k,...ki->...i", barycentric, self.vertices[self.mirror[self.faces[face]]])

    @cached_property
    def _closest(self) -> ClosestPoint:
        return ClosestPoint(self.vertices, self.faces)

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.vertices)

    @cached_property
    def _chart_lookup(self) -> ChartLookup:
        return ChartLookup(self.corner_uv, self.face_part)

    @cached_property
    def _geodesics(self) -> GeodesicTable:
        return GeodesicTable.load(self.vertices, self.faces, self.mirror if self.is_reflection else None)

    @cached_property
    def is_reflection(self) -> bool:
        """Whether the other side of the body is its reflection in the plane x = 0."""
        if self.mirror is None:
            return False
        return bool(np.abs(self.vertices[self.mirror] * [-1.0, 1.0, 1.0] - self.vertices).max() < 1e-5)

    def _check(self) -> None:
        count, faces = len(self.vertices), len(self.faces)
        if self.face_part.shape != (faces,) or self.face_part.min() < 1 or self.face_part.max() > self.parts:
            raise InputError(
                f"{self.name}: found face_part of shape {self.face_part.shape} with values {self.face_part.min()} to "
                f"{self.face_part.max()}, expected ({faces},) with values 1 to {self.parts}"
            )
        if self.corner_uv.shape != (faces, 3, 2) or not ((self.corner_uv >= 0) & (self.corner_uv <= 1)).all():
            raise InputError(
                f"{self.name}: found corner_uv of shape {self.corner_uv.shape}, expected ({faces}, 3, 2) within [0, 1]"
            )
        if self.mirror is not None and (
            self.mirror.shape != (count,) or not np.array_equal(self.mirror[self.mirror], np.arange(count))
        ):
            raise InputError(
                f"{self.name}: found a mirror map that is not its own inverse, expected one of {count} entries"
            )

    @classmethod
    def _read(cls, path: Path) -> Surface:
        try:
            with np.load(path, allow_pickle=False) as data:
                arrays = {key: data[key] for key in data.files}
            meta = json.loads(str(arrays["meta"])) if "meta" in arrays else {}
        except FileNotFoundError:
            raise InputError(f"{path}: found no such file, expected a surface") from None
        except Exception as error:  # a damaged archive raises many kinds of error, in zlib, zipfile and numpy
            raise InputError(f"{path}: found a file that is not a plain .npz ({error}), expected a surface") from None
        if "vertices" not in arrays or "faces" not in arrays:
            raise InputError(f"{path}: found arrays {sorted(arrays)}, expected at least vertices and faces")
        if "corner_uv" not in arrays or "face_part" not in arrays:
            return cls.from_mesh(arrays["vertices"], arrays["faces"], path.stem)
        if not isinstance(meta, dict):
            raise InputError(f"{path}: found meta that is {type(meta).__name__}, expected an object of JSON")
        uv = arrays["corner_uv"]
        face_part = arrays["face_part"]
        joints = dict(zip(meta.get("joint_names", []), arrays.get("joints", np.zeros((0, 3))), strict=True))
        return cls(
            meta.get("name", path.stem),
            arrays["vertices"],
            arrays["faces"],
            face_part,
            uv / 65535.0 if uv.dtype == np.uint16 else uv,
            meta.get("part_names") or [f"part_{k}" for k in range(1, int(face_part.max()) + 1)],
            arrays.get("mirror"),
            joints,
            bool(meta.get("flat", False)),
        )
