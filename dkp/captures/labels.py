"""Dense and sparse surface labels: a face of the canonical surface and barycentric coordinates per pixel or point.

Files are ``.npz`` archives with fixed dates and zlib level 1, so that equal labels give equal bytes.
"""

import io
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dkp.errors import InputError

BARYCENTRIC_TOLERANCE = 3e-3  # float16 holds each of the three numbers to 2.5e-4
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_HEADER = threading.Lock()  # numpy parses an array's head with ast, which Python 3.11 may refuse to do in threads
_LARGEST_ARRAY = 2**30  # bytes once unpacked; the barycentric weights of an 8192 x 8192 label have 4e8


@dataclass(frozen=True)
class DenseLabel:
    """The surface point that every pixel of an image shows.

    Attributes:
        face: (H, W) int32, index into the surface's faces; -1 where the pixel does not show the surface.
        barycentric: (H, W, 3) float32, weights of the face's three corners; they sum to one on the surface.
        known: (H, W) bool, pixels whose label is known; None where all are.
    """

    face: np.ndarray
    barycentric: np.ndarray
    known: np.ndarray | None = None

    @property
    def foreground(self) -> np.ndarray:
        """(H, W) bool, pixels known to show the surface."""
        on_surface = self.face >= 0
        return on_surface if self.known is None else on_surface & self.known

    @property
    def known_pixels(self) -> np.ndarray:
        """(H, W) bool, pixels with a label (on the surface or known background)."""
        return np.ones(self.face.shape, bool) if self.known is None else self.known

    def problem(self, faces: int, size: tuple[int, int]) -> str | None:
        """Say what is wrong with the label, as "found ..., expected ...", or None.

        Args:
            faces: number of faces of the surface.
            size: (width, height) of the image [px].
        """
        width, height = size
        if self.face.shape != (height, width):
            return f"has shape {self.face.shape}, expected {(height, width)} as the image"
        if self.barycentric.shape != (height, width, 3):
            return f"has barycentric coordinates of shape {self.barycentric.shape}, expected {(height, width, 3)}"
        if self.known is not None and self.known.shape != (height, width):
            return f"has known of shape {self.known.shape}, expected {(height, width)}"
        return _points_problem(self.face, self.barycentric, faces, background=True)


@dataclass(frozen=True)
class SparseLabel:
    """Labelled points of an image.

    Attributes:
        pixels: (N, 2) float64 [px], pixel centres at integer + 0.5.
        face: (N,) int32, index into the surface's faces.
        barycentric: (N, 3) float32.
    """

    pixels: np.ndarray
    face: np.ndarray
    barycentric: np.ndarray

    def problem(self, faces: int, size: tuple[int, int]) -> str | None:
        """Say what is wrong with the points, or None (see :meth:`DenseLabel.problem`)."""
        count = self.face.shape[0] if self.face.ndim == 1 else -1
        if self.face.ndim != 1 or self.pixels.shape != (count, 2) or self.barycentric.shape != (count, 3):
            return (
                f"has pixels {self.pixels.shape}, face {self.face.shape} and barycentric {self.barycentric.shape}, "
                "expected (N, 2), (N,) and (N, 3)"
            )
        if not np.isfinite(self.pixels).all():
            return "has pixels that are not finite, expected numbers"
        outside = ((self.pixels < 0) | (self.pixels > np.asarray(size))).any(axis=-1)
        if outside.any():
            return (
                f"has {int(outside.sum())} of {count} points outside the image, expected all inside {size[0]}x{size[1]}"
            )
        return _points_problem(self.face, self.barycentric, faces, background=False)


def _points_problem(face: np.ndarray, barycentric: np.ndarray, faces: int, background: bool) -> str | None:
    if face.size == 0:
        return None
    lowest, highest = int(face.min()), int(face.max())
    if highest >= faces or lowest < (-1 if background else 0):
        worst = highest if highest >= faces else lowest
        return f"has the face {worst}, expected 0 to {faces - 1}" + (" or -1 for background" if background else "")
    weights = barycentric[face >= 0].astype(np.float32)
    if weights.size == 0:
        return None
    least, error = float(weights.min()), float(np.abs(weights.sum(axis=-1) - 1).max())
    if not np.isfinite(error) or least < -BARYCENTRIC_TOLERANCE or error > BARYCENTRIC_TOLERANCE:
        return (
            f"has barycentric coordinates as low as {least:.3g} whose sum misses one by {error:.3g}, "
            "expected three weights that are not negative and sum to one"
        )
    return None


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to an ``.npz`` file whose bytes depend on the arrays alone (fixed dates, zlib level 1)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for key, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{key}.npy", _ZIP_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, buffer.getbuffer(), compresslevel=1)


def read_npz(path: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Read numeric arrays from an ``.npz`` file; never unpickle.

    Raises:
        InputError: the file cannot be read or lacks a required array.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            for key in (*required, *optional):
                if f"{key}.npy" in names:
                    size = archive.getinfo(f"{key}.npy").file_size
                    if size > _LARGEST_ARRAY:
                        raise ValueError(f"{key} unpacks to {size} bytes, more than {_LARGEST_ARRAY}")
                    content = io.BytesIO(archive.read(f"{key}.npy"))
                    with _HEADER:
                        arrays[key] = np.lib.format.read_array(content, allow_pickle=False)
    except Exception as error:  # a damaged archive raises many kinds of error, in zlib, zipfile and numpy
        raise InputError(f"{path} cannot be read ({error}), expected an .npz file of numbers") from error
    for key in required:
        if key not in arrays:
            raise InputError(f"{path} has no array {key!r}, expected {', '.join(required)}")
    for key, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise InputError(f"{path}: array {key!r} has type {array.dtype}, expected numbers")
    return arrays


def write_dense_label(path: Path, label: DenseLabel) -> None:
    """Write a dense label; barycentric coordinates are kept as float16 and set to zero off the surface."""
    on_surface = label.face >= 0
    arrays: dict[str, np.ndarray] = {
        "face": np.where(on_surface, label.face, -1).astype(np.int32),
        "barycentric": np.where(on_surface[..., None], label.barycentric, 0).astype(np.float16),
    }
    if label.known is not None:
        arrays["known"] = label.known.astype(bool)
    write_npz(path, arrays)


def read_dense_label(path: Path) -> DenseLabel:
    """Read a dense label; weights are divided by their sum, which undoes most of the rounding of float16."""
    arrays = read_npz(path, ("face", "barycentric"), ("known",))
    face, known = arrays["face"], arrays.get("known")
    return DenseLabel(
        face=_whole(path, face), barycentric=arrays["barycentric"], known=None if known is None else known.astype(bool)
    )


def write_sparse_label(path: Path, points: SparseLabel) -> None:
    """Write labelled points."""
    write_npz(
        path,
        {
            "pixels": np.asarray(points.pixels, np.float64),
            "face": np.asarray(points.face, np.int32),
            "barycentric": np.asarray(points.barycentric, np.float32),
        },
    )


def read_sparse_label(path: Path) -> SparseLabel:
    """Read labelled points."""
    arrays = read_npz(path, ("pixels", "face", "barycentric"))
    return SparseLabel(
        pixels=arrays["pixels"].astype(np.float64), face=_whole(path, arrays["face"]), barycentric=arrays["barycentric"]
    )


def _whole(path: Path, face: np.ndarray) -> np.ndarray:
    if face.dtype.kind not in "iu":
        raise InputError(f"{path}: array 'face' has type {face.dtype}, expected whole numbers")
    if face.size and (face.min() < -(2**31) or face.max() >= 2**31):
        raise InputError(f"{path}: array 'face' has entries up to {face.max()}, expected face indices")
    return face.astype(np.int32)


def normalised(label: DenseLabel) -> DenseLabel:
    """Return the label with float32 weights that sum to one on the surface and are zero elsewhere."""
    on_surface = label.face >= 0
    weights = label.barycentric[on_surface].astype(np.float32)
    barycentric = np.zeros(label.barycentric.shape, np.float32)
    barycentric[on_surface] = weights / weights.sum(axis=-1, keepdims=True)
    return DenseLabel(face=label.face, barycentric=barycentric, known=label.known)
