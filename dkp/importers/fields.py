"""Fields that another program has saved, as labels of a capture: a teacher that is read instead of run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import cKDTree

from dkp.captures.arrays import between
from dkp.captures.capture import Capture
from dkp.captures.crops import CropMap
from dkp.captures.labels import DenseLabel, read_npz
from dkp.captures.manifest import View
from dkp.captures.rig import camera_size
from dkp.captures.writer import CaptureWriter
from dkp.errors import InputError
from dkp.importers.densepose import Instance, read_densepose_charts, read_dump
from dkp.surface import Surface

logger = logging.getLogger(__name__)

Charts = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Part (N,) from 1 and uv (N, 2) to the face (N,) of the surface and the weights (N, 3) of its corners."""


def import_fields(
    capture: str | Path,
    fields: str | Path,
    out: str | Path,
    *,
    charts: str | Path | None = None,
    threshold: float = 0.5,
    overwrite: bool = False,
) -> Capture:
    """Label a capture by fields that another program has saved, such as IUV images of DensePose.

    A field is an IUV image as DensePose writes it (PNG: part, U, V), or an `.npz` with `part` (H, W) and `uv`
    (H, W, 2), with `vertex` (H, W), or with `foreground` (H, W) and `coordinate` (H, W, 3) as `dkp predict` writes it.
    It may have any resolution; it is of the view's image, or, where it has the size of the camera's frame, of that.

    Args:
        capture: whose views the fields are of.
        fields: folder with FRAME/CAMERA.png (or .npz) or CAMERA/FRAME.png; names may end in `_IUV` or
            `_iuv`. Or a dump of DensePose's apply_net of images with such names.
        out: capture to write.
        charts: `.npz` that says where the parts' charts lie on the surface: `part` (N,) from 1, `uv` (N, 2) in [0, 1]
            and `vertex` (N,) of the capture's surface; or DensePose's `UV_Processed.mat`, where the surface is the mesh
            of its body model. By default the charts are those of the surface itself.
        threshold: foreground probability from which a cell shows the body.
        overwrite: whether an existing capture is replaced.

    Raises:
        InputError: a field does not hold what it should, or there is none.
    """
    source, folder = Capture.open(capture), Path(fields)
    between(threshold, "threshold", 0.0, 1.0)
    surface = source.surface
    lookup, parts = (surface.from_charts, surface.parts) if charts is None else read_charts(charts, surface)
    writer = CaptureWriter(
        out, name=Path(out).resolve().name, surface=source.surface_source, cameras=source.cameras,
        unit=source.unit, splits=source.splits, source=f"fields in {folder.name}; images: {source.source}",
        licence=source.licence, fps=source.fps, overwrite=overwrite,
    )  # fmt: skip
    dump = read_dump(folder) if folder.is_file() else None
    of_frames = dump is not None and _beyond(dump, source)
    missing = []
    with writer:
        for view in source.views:
            path, label = _file(folder, view), None
            person = None if dump is None else next((dump[key] for key in _names(view) if key in dump), None)
            if path is None and person is None:
                missing.append(view)
            else:
                if person is not None:
                    size = camera_size(source.rig_camera(view)) if of_frames else view.size
                    found = _charted(folder, *person.spread(size), parts, lookup)
                else:
                    found = _read(path or folder, surface, lookup, threshold, parts)
                face, weights = found
                rows, columns = _cells(path or folder, face.shape, source, view)
                label = DenseLabel(face[rows, columns].astype(np.int32), weights[rows, columns].astype(np.float32))
            writer.add_view(
                view.frame, view.camera, source.path / view.image, sequence=view.sequence, time=view.time,
                mask=source.mask(view), label=label, crop=None if view.crop is None else np.array(view.crop),
                undistorted=view.undistorted, joints=view.joints, domain=view.domain,
                override=None if view.override is None else source.rig_camera(view),
            )  # fmt: skip
        if len(missing) == len(source.views):
            view = missing[0]
            raise InputError(
                f"{folder} has no field of any view of {source.path}, expected {view.frame}/{view.camera}.png or "
                f"{view.camera}/{view.frame}.png, or .npz"
            )
    if missing:
        logger.warning("%s: no field for %d of %d views", folder, len(missing), len(source.views))
    return Capture.open(out)


def _names(view: View) -> tuple[tuple[str, str], tuple[str, str]]:
    return (view.frame, view.camera), (view.camera, view.frame)


def _beyond(dump: Mapping[tuple[str, str], Instance], capture: Capture) -> bool:
    """Whether people lie outside of the views' images: the dump is of the cameras' frames."""
    for view in capture.views:
        for person in (dump[key] for key in _names(view) if key in dump):
            if (np.array(person.corner) + person.part.shape[::-1] > np.array(view.size) + 1).any():
                return True
    return False


def _file(folder: Path, view: View) -> Path | None:
    for first, second in _names(view):
        for ending in (".npz", "_IUV.png", "_iuv.png", ".png"):
            path = folder / first / f"{second}{ending}"
            if path.is_file():
                return path
    return None


def _read(path: Path, surface: Surface, charts: Charts, threshold: float, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the face (H, W) that each cell shows, -1 for background, and the weights (H, W, 3) of its corners."""
    if path.suffix == ".png":
        part, uv = _read_iuv(path, parts)
    else:
        arrays = read_npz(path, (), ("foreground", "coordinate", "vertex", "part", "uv"))
        if "coordinate" in arrays or "vertex" in arrays:
            return _located(path, arrays, surface, threshold)
        if not {"part", "uv"} <= arrays.keys():
            raise InputError(f"{path} has the arrays {sorted(arrays)}, expected part and uv, vertex, or coordinate")
        part, uv = arrays["part"], arrays["uv"]
    return _charted(path, part, uv, parts, charts)


def _charted(path: Path, part: np.ndarray, uv: np.ndarray, parts: int, charts: Charts) -> tuple[np.ndarray, np.ndarray]:
    if part.ndim != 2 or uv.shape != (*part.shape, 2) or part.min() < 0 or part.max() > parts:
        raise InputError(
            f"{path}: part has shape {part.shape} and values {part.min()} to {part.max()} and uv has shape {uv.shape}, "
            f"expected (H, W), 0 to {parts} and (H, W, 2)"
        )
    return _spread(part > 0, *charts(part[part > 0].astype(int), np.clip(uv[part > 0], 0.0, 1.0)))


def _read_iuv(path: Path, parts: int) -> tuple[np.ndarray, np.ndarray]:
    content = np.fromfile(path, np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = "nothing that can be decoded" if image is None else f"{image.dtype} of shape {image.shape}"
        raise InputError(f"{path} holds {found}, expected an IUV image of three channels of 8 bits")
    if image[..., 0].max() > parts:
        turned = "; they are in the last channel: save it with OpenCV" if image[..., 2].max() <= parts else ""
        raise InputError(
            f"{path} has parts up to {image[..., 0].max()}, expected 0 to {parts} in its first channel{turned}"
        )
    return image[..., 0], image[..., 1:].astype(np.float64) / 255


def _located(
    path: Path, arrays: dict[str, np.ndarray], surface: Surface, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Surface points of a field of coordinates or vertices."""
    if "coordinate" in arrays:
        points = arrays["coordinate"].astype(np.float64)
        shown = arrays.get("foreground", np.ones(points.shape[:2])) > threshold
        if points.ndim != 3 or points.shape[2] != 3 or shown.shape != points.shape[:2]:
            raise InputError(f"{path}: coordinate has shape {points.shape}, expected (H, W, 3) and foreground (H, W)")
        if not np.isfinite(points[shown]).all():
            raise InputError(f"{path}: coordinate is not finite on the foreground, expected numbers")
    else:
        vertex = arrays["vertex"]
        if vertex.ndim != 2 or vertex.dtype.kind not in "iu" or vertex.max() >= len(surface.vertices):
            raise InputError(
                f"{path}: vertex has shape {vertex.shape} and values up to {vertex.max()}, expected (H, W) whole "
                f"numbers below {len(surface.vertices)}, -1 for background"
            )
        shown = vertex >= 0
        points = surface.vertices[np.maximum(vertex, 0)]
    return _spread(shown, *surface.locate(points[shown])[:2])


def _spread(shown: np.ndarray, face: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    faces, spread = np.full(shown.shape, -1, np.int32), np.zeros((*shown.shape, 3), np.float32)
    faces[shown], spread[shown] = face, weights
    return faces, spread


def _cells(path: Path, shape: tuple[int, ...], capture: Capture, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and column (h, w) of the field's cell that each pixel of a view's image lies in."""
    width, height = view.size
    frame = camera_size(capture.rig_camera(view))
    if view.crop is not None and (shape[1], shape[0]) == frame != view.size and view.undistorted and width == height:
        pixels = CropMap.create(capture.rig_camera(view), np.array(view.crop), width).pixels
        scale = np.ones(2)
    elif abs(shape[1] * height - shape[0] * width) <= max(shape[1] * 1.5, height):
        pixels = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1)
        scale = np.array([shape[1] / width, shape[0] / height])
    else:
        raise InputError(
            f"{path} is {shape[1]}x{shape[0]}, expected the proportions of the view's image {width}x{height}, or the "
            f"size of the camera's frame {frame[0]}x{frame[1]}"
        )
    cells = np.floor(pixels * scale).astype(int)
    return cells[..., 1].clip(0, shape[0] - 1), cells[..., 0].clip(0, shape[1] - 1)


def read_charts(path: str | Path, surface: Surface) -> tuple[Charts, int]:
    """Read where charts of another body model lie on a surface: of each point the entry nearest in its chart is taken.

    Args:
        path: `.npz` with `part` (N,) from 1, `uv` (N, 2) in [0, 1] and `vertex` (N,); or DensePose's UV_Processed.mat.
        surface: whose vertices these are.

    Returns:
        The charts, and the number of their parts.

    Raises:
        InputError: an array is missing or does not fit.
    """
    if Path(path).suffix == ".mat":
        arrays = read_densepose_charts(Path(path))
        if (most := int(arrays["vertex"].max()) + 1) != len(surface.vertices):
            raise InputError(
                f"{path} has vertices 1 to {most}, expected the {len(surface.vertices)} of the surface {surface.name}: "
                "give the body model's mesh as the surface, or charts.npz with vertices of this one"
            )
    else:
        arrays = read_npz(Path(path), ("part", "uv", "vertex"))
    part, uv, vertex = (arrays[key] for key in ("part", "uv", "vertex"))
    fits = part.ndim == 1 and len(part) and uv.shape == (len(part), 2) and vertex.shape == part.shape
    if not fits or vertex.dtype.kind not in "iu" or not 0 <= vertex.min() <= vertex.max() < len(surface.vertices):
        raise InputError(
            f"{path}: part, uv and vertex have shapes {part.shape}, {uv.shape} and {vertex.shape}, expected (N,), "
            f"(N, 2) and (N,) with vertices from 0 to {len(surface.vertices) - 1}"
        )
    if not np.isfinite(uv).all() or uv.min() < 0 or uv.max() > 1 or part.min() < 1:
        raise InputError(
            f"{path}: found parts from {part.min()} and uv up to {uv.max()}, expected parts from 1, uv in [0, 1]"
        )
    tree = cKDTree(np.column_stack([4.0 * part, uv]))  # no other part is as near as the furthest point of a chart
    return partial(_nearest, tree, part, surface.vertices[vertex], surface, str(path)), int(part.max())


def _nearest(
    tree: cKDTree, known: np.ndarray, points: np.ndarray, surface: Surface, where: str, part: np.ndarray, uv: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    unknown = set(np.unique(part).tolist()) - set(np.unique(known).tolist())
    if unknown:
        raise InputError(f"{where} has no part {sorted(unknown)[0]}, which a field shows, expected all of them")
    face, weights, _ = surface.locate(points[tree.query(np.column_stack([4.0 * part, uv]))[1]])
    return face, weights
