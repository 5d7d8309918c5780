"""What the views of an instant have in common, in the pixels of the cameras that took them: joints, points, labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from dkp.captures.capture import Capture
from dkp.captures.check.correspondences import LEAST_CONFIDENCE, SAME_POINT, CoordinateImage
from dkp.captures.check.hypotheses import Looks
from dkp.captures.crops import apply_affine, invert_affine
from dkp.captures.manifest import Instant, View
from dkp.captures.rig import camera_size
from dkp.geometry import Camera

Points = dict[str, dict[Any, Any]]
"""Camera -> point -> (x, y) [px] in the view."""

PointsOf = Callable[[Capture, Instant], Points]

_MOST_INSTANTS = 240  # of which joints are compared
_BLOCK = 24  # instants that follow each other, where not all are taken: a delay shows in them
_SEEDS = 8  # labelled pixels of every view that are looked for in the others


def source_pixels(capture: Capture, view: View, pixels: np.ndarray) -> np.ndarray:
    """Take pixels (N, 2) of a view back through its crop and the removal of distortion, to those of the camera."""
    pixels = np.asarray(pixels, np.float64).reshape(-1, 2)
    if view.crop is not None:
        pixels = apply_affine(invert_affine(np.asarray(view.crop, np.float64)), pixels)
    if view.undistorted and len(pixels):
        pixels = capture.rig_camera(view).distort(torch.as_tensor(pixels)).numpy()
    return pixels


def stored_pixels(capture: Capture, view: View, pixels: np.ndarray) -> np.ndarray:
    """Take pixels (N, 2) of the camera that took a view to those of the view: the inverse of `source_pixels`."""
    pixels = np.asarray(pixels, np.float64).reshape(-1, 2)
    if view.undistorted and len(pixels):
        pixels = capture.rig_camera(view).undistort(torch.as_tensor(pixels)).numpy()
    return pixels if view.crop is None else apply_affine(np.asarray(view.crop, np.float64), pixels)


def in_order(instants: Sequence[Instant]) -> list[Instant]:
    """Return instants as their recordings have them one after another."""
    return sorted(instants, key=lambda instant: (instant.sequence, instant.time))


def consecutive(instants: Sequence[Instant]) -> list[Instant]:
    """Return at most some hundred instants: all, or blocks of instants that follow each other, evenly spread."""
    ordered = in_order(instants)
    if len(ordered) <= _MOST_INSTANTS:
        return ordered
    starts = np.linspace(0, len(ordered) - _BLOCK, _MOST_INSTANTS // _BLOCK).round().astype(int)
    return [ordered[i] for i in sorted({start + step for start in starts.tolist() for step in range(_BLOCK)})]


def gather(capture: Capture, chosen: Sequence[Instant], usable: Sequence[Instant]) -> Looks | None:
    """Collect what the views have in common: joints, else labelled points, else dense labels.

    Args:
        capture: the capture.
        chosen: instants of which labels are looked at.
        usable: instants whose files can be read, of which joints are looked at.
    """
    if any(view.joints for instant in usable for view in instant.views):
        found = _evidence(capture, "joints", consecutive(usable), _joints)
        if found.matches():
            return found
    for key, kind, points_of in (("points", "labelled points", _points), ("label", "labelled pixels", _labelled)):
        if any(getattr(view, key) for instant in chosen for view in instant.views):
            found = _evidence(capture, kind, in_order(chosen), points_of)
            if found.matches():
                return found
    return None


def cameras_of(capture: Capture, instants: Sequence[Instant]) -> Camera:
    """Return the cameras that took the views, batch (T, C); the rig's own where an instant lacks a view."""
    rows = []
    for instant in instants:
        own = {view.camera: view for view in instant.views}
        rows.append(
            Camera.stack(
                [
                    capture.rig_camera(own[name]) if name in own and own[name].override else camera
                    for name, camera in capture.cameras.items()
                ]
            )
        )
    return Camera.stack(rows)


def _evidence(capture: Capture, kind: str, instants: Sequence[Instant], points_of: PointsOf) -> Looks:
    """Arrange what ``points_of`` an instant says, camera -> point -> pixel of the view, as arrays."""
    cameras = list(capture.cameras)
    found = [points_of(capture, instant) for instant in instants]
    if kind == "joints":
        names = sorted({name for views in found for points in views.values() for name in points})
        column = {name: index for index, name in enumerate(names)}
    else:
        count = max((point + 1 for views in found for points in views.values() for point in points), default=0)
        names, column = [], {index: index for index in range(count)}
    pixels = np.full((len(instants), len(cameras), len(column), 2), np.nan)
    for row, (instant, views) in enumerate(zip(instants, found, strict=True)):
        for view in instant.views:
            points = views.get(view.camera)
            if points:
                columns = [column[point] for point in points]
                pixels[row, cameras.index(view.camera), columns] = source_pixels(
                    capture, view, np.array(list(points.values()))
                )
    return looks_of(capture, instants, kind, pixels, names)


def looks_of(
    capture: Capture,
    instants: Sequence[Instant],
    kind: str,
    pixels: np.ndarray,
    names: list[str],
    cut: np.ndarray | None = None,
) -> Looks:
    """Return how the views of instants look at the subject: see `Looks`."""
    return Looks(
        kind=kind,
        rig=cameras_of(capture, instants),
        pixels=pixels,
        names=names,
        sizes=np.array([camera_size(camera) for camera in capture.cameras.values()], np.float64),
        sequences=np.array([instant.sequence for instant in instants]),
        times=np.array([instant.time for instant in instants]),
        cut=cut,
    )


def shown_points(capture: Capture, instant: Instant) -> tuple[str, Points]:
    """Return the kind of points that views of an instant show, and the points; "" and none where there are none."""
    for kind, points_of in (("joints", _joints), ("points", _points), ("label", _labelled)):
        found = points_of(capture, instant)
        if any(found.values()):
            return kind, found
    return "", {}


def _joints(capture: Capture, instant: Instant) -> Points:
    return {
        view.camera: {name: value[:2] for name, value in view.joints.items() if value[2] >= LEAST_CONFIDENCE}
        for view in instant.views
        if view.joints
    }


def _points(capture: Capture, instant: Instant) -> Points:
    """Labelled points of all views, those at one point of the surface as one point."""
    labels = {view.camera: capture.points(view) for view in instant.views}
    known = {name: label for name, label in labels.items() if label is not None and len(label.face)}
    if not known:
        return {}
    points = np.concatenate([capture.surface.coordinates(label.face, label.barycentric) for label in known.values()])
    first = np.array([min(near) for near in cKDTree(points).query_ball_point(points, SAME_POINT)])
    _, numbers = np.unique(first, return_inverse=True)
    ends = np.cumsum([0, *(len(label.face) for label in known.values())])
    return {
        name: dict(zip(numbers[start:end].tolist(), label.pixels.tolist(), strict=True))
        for (start, end), (name, label) in zip(pairwise(ends), known.items(), strict=True)
    }


def _labelled(capture: Capture, instant: Instant) -> Points:
    """Find some labelled pixels of every view in the others."""
    images = {}
    for view in instant.views:
        label = capture.label(view)
        if label is not None and label.foreground.any():
            images[view.camera] = CoordinateImage.create(label, capture.surface)
    found: Points = {name: {} for name in images}
    for index, (name, image) in enumerate(images.items()):
        chosen = np.unique(np.linspace(0, len(image.rows) - 1, _SEEDS + 2).round().astype(int)[1:-1])
        rows, columns = image.rows[chosen], image.columns[chosen]
        for step, (row, column) in enumerate(zip(rows, columns, strict=True)):
            found[name][index * _SEEDS + step] = (column + 0.5, row + 0.5)
        for other, its in images.items():
            if other != name:
                pixels, there = its.find(image.coordinate[rows, columns])
                for shown in np.flatnonzero(there).tolist():
                    found[other][index * _SEEDS + shown] = tuple(pixels[shown])
    return found
