"""Imports annotations of DensePose-COCO: people in single pictures, with labelled points of their surface."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dkp.captures.arrays import between, number_array, parse_json, shown, whole_number
from dkp.captures.capture import Capture
from dkp.captures.crops import CropMap, apply_affine, crop_affine, square_box
from dkp.captures.images import read_image
from dkp.captures.labels import SparseLabel
from dkp.captures.rig import camera_from_arrays
from dkp.captures.writer import CaptureWriter
from dkp.errors import InputError
from dkp.importers.fields import Charts, read_charts
from dkp.surface import Surface

POINTS = ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")
_FAR = 2**16  # px
CAMERAS = ("picture_0", "picture_1")
"""A capture has two cameras or more: people are of one and the other in turn, each at a moment of their own."""


def import_densepose_coco(
    annotations: str | Path,
    images: str | Path,
    out: str | Path,
    *,
    charts: str | Path,
    surface: str | Path = "human",
    split: str = "train",
    size: int = 192,
    margin: float = 0.15,
    most: int | None = None,
    overwrite: bool = False,
) -> Capture:
    """Write a capture of people in pictures, with the points of their surface that DensePose-COCO has labelled.

    The pictures are not calibrated: the cameras say nothing, and every person is at a moment of their own. So the
    capture serves only for what is learned from single labelled views, such as a teacher.

    Args:
        annotations: JSON of DensePose-COCO.
        images: folder of the pictures.
        out: capture to write.
        charts: where DensePose's charts lie on the surface: `UV_Processed.mat`, where the surface is the mesh of its
            body model; or `.npz` with `part` (N,) from 1, `uv` (N, 2) and `vertex` (N,) of the surface.
        surface: name or file.
        split: name of the split that all of it is.
        size: side of the crops [px].
        margin: room around a person's box, as a share of its longer side.
        most: people that are taken, the first ones; all by default.
        overwrite: whether an existing capture is replaced.

    Raises:
        InputError: a file is missing or does not hold what it should.
    """
    whole_number(size, "size", least=8)
    between(margin, "margin", 0.0, 5.0)
    path = Path(annotations)
    pictures, people = _read(path)
    body = Surface.load(surface)
    lookup, parts = read_charts(charts, body)
    plain = np.array([[size, 0, size / 2], [0, size, size / 2], [0, 0, 1.0]])
    cameras = {
        name: camera_from_arrays(plain, np.eye(3), np.array([-index, 0.0, 0.0]), np.zeros(5), (size, size))
        for index, name in enumerate(CAMERAS)
    }
    writer = CaptureWriter(
        out, name=Path(out).resolve().name, surface=surface, cameras=cameras,
        source=f"DensePose-COCO, {path.name}", licence="see COCO's terms of use", overwrite=overwrite,
    )  # fmt: skip
    with writer:
        for number, person in enumerate(people[:most]):
            where = f"{path}: annotation {person.get('id', number)}"
            image = person.get("image_id")
            name = pictures.get(image) if isinstance(image, int | str) else None
            if name is None:
                raise InputError(f"{where}: image_id is {shown(image)}, expected the id of an image")
            box, pixels, part, uv = _points(person, where, parts)
            picture = read_image(Path(images) / name)
            affine = crop_affine(square_box(np.concatenate([box[:2], box[:2] + box[2:]]), margin), size)
            cut = CropMap.create(None, affine, size)
            placed = apply_affine(affine, pixels)
            inside = ((placed >= 0) & (placed <= size)).all(-1)
            label = SparseLabel(placed[inside], *_on_surface(part[inside], uv[inside], lookup))
            mask = _outline(person.get("segmentation"), picture.shape[:2], where)
            frame = f"people_{number:06d}"
            writer.add_view(
                frame, CAMERAS[number % 2], cut.image(picture), sequence="people", time=number, points=label,
                mask=None if mask is None else cut.mask(mask), undistorted=True,
            )  # fmt: skip
        writer.splits = {split: [f"people_{number:06d}" for number in range(len(people[:most]))]}
    return Capture.open(out)


def _read(path: Path) -> tuple[dict[Any, str], list[Mapping[str, Any]]]:
    """Return image id -> file name, and the people with labelled points."""
    try:
        data = parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}), expected annotations of DensePose-COCO") from error
    lists = [data.get(key) if isinstance(data, Mapping) else None for key in ("images", "annotations")]
    if not all(isinstance(one, list) and all(isinstance(entry, Mapping) for entry in one) for one in lists):
        raise InputError(f"{path} has no lists of images and annotations, expected annotations of DensePose-COCO")
    pictures = {}
    for entry in lists[0] or []:
        name = entry.get("file_name")
        if not isinstance(name, str) or Path(name).name != name or not isinstance(entry.get("id"), int | str):
            raise InputError(f"{path}: image {shown(entry.get('id'))} has the file_name {shown(name)}, expected a file")
        pictures[entry["id"]] = name
    people = [entry for entry in lists[1] or [] if entry.get("dp_x")]
    if not people:
        raise InputError(
            f"{path} has {len(lists[1] or [])} annotations, none of them with dp_x, expected labelled points"
        )
    return pictures, people


def _points(person: Mapping[str, Any], where: str, parts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the box (4,) x y width height, points (N, 2) [px of the picture], their part (N,) and uv (N, 2)."""
    box = number_array(person.get("bbox"), (4,), f"{where}: bbox")
    if min(box[2:]) < 1 or np.abs(box).max() > _FAR:
        raise InputError(f"{where}: bbox is {box.tolist()}, expected x, y and a width and height of at least 1")
    count = len(person["dp_x"]) if isinstance(person["dp_x"], list) else 0
    x, y, part, u, v = (number_array(person.get(key), (count,), f"{where}: {key}") for key in POINTS)
    edges = {"dp_x": (0, 256), "dp_y": (0, 256), "dp_I": (1, parts), "dp_U": (-0.01, 1.01), "dp_V": (-0.01, 1.01)}
    for (key, (low, high)), values in zip(edges.items(), (x, y, part, u, v), strict=True):
        if not ((values >= low) & (values <= high)).all():
            raise InputError(
                f"{where}: {key} goes from {values.min()} to {values.max()}, expected {round(low)} to {round(high)}"
            )
    pixels = box[:2] + np.stack([x, y], -1) / 255 * box[2:]
    return box, pixels, part.astype(int), np.stack([u, v], -1).clip(0, 1)


def _on_surface(part: np.ndarray, uv: np.ndarray, charts: Charts) -> tuple[np.ndarray, np.ndarray]:
    if not len(part):
        return np.zeros(0, np.int32), np.zeros((0, 3), np.float32)
    face, weights = charts(part, uv)
    return face.astype(np.int32), weights.astype(np.float32)


def _outline(segmentation: Any, shape: tuple[int, ...], where: str) -> np.ndarray | None:
    """Return the mask (H, W) bool within polygons; None where they are none: crowds have run lengths."""
    if not isinstance(segmentation, list) or not segmentation:
        return None
    mask = np.zeros(shape, np.uint8)
    for polygon in segmentation:
        corners = number_array(polygon, (len(polygon) if isinstance(polygon, list) else 6,), f"{where}: segmentation")
        if len(corners) < 6 or len(corners) % 2 or np.abs(corners).max() > _FAR:
            raise InputError(
                f"{where}: segmentation has {len(corners)} numbers up to {np.abs(corners).max(initial=0)}, "
                "expected x and y of three corners or more"
            )
        cv2.fillPoly(mask, [np.round(corners.reshape(-1, 2)).astype(np.int32)], 1)
    return mask.astype(bool) if mask.any() else None
