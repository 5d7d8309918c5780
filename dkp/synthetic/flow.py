"""Exact optical flow of rendered surfaces, from labels and posed vertices."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dkp.captures import Capture, DenseLabel, View
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.synthetic.rasteriser import interpolate

VISIBLE = 0.03
"""A moved point is seen again where the next image shows a surface point this near to it [m]."""


def flow(capture: Capture, view: View, next_view: View) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where the surface points that a view shows lie in another view of the subject, usually the next of its camera.

    Args:
        capture: A capture with dense labels and posed vertices (``truth``).
        view: The view whose pixels move.
        next_view: Where they move to; another camera or a different crop is fine.

    Returns:
        (H, W, 2) displacement in x and y from each pixel centre [px], 0 where invalid, and (H, W) bool, true where the
        pixel shows the surface and its point is inside the next image and not hidden there.

    Raises:
        InputError: a label, or the posed vertices of the next view, are missing.
    """
    label, next_label = capture.label(view), capture.label(next_view)
    next_vertices = capture.truth(next_view.frame)
    if label is None or next_label is None:
        item = view if label is None else next_view
        raise InputError(f"{capture.path}: view {item.frame} of {item.camera} has no label, expected a dense label")
    if next_vertices is None:
        raise InputError(f"{capture.path}: frame {next_view.frame} has no truth, expected posed vertices")
    return surface_flow(label, next_label, next_vertices, capture.surface.faces, capture.camera(next_view))


def surface_flow(
    label: DenseLabel, next_label: DenseLabel, next_vertices: NDArray, faces: NDArray, next_camera: Camera
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Flow from a label, the surface after the motion and the camera that sees it then.

    Args:
        label: (H, W) label of the first image.
        next_label: (H', W') label of the next image.
        next_vertices: (V, 3) posed vertices at the time of the next image [m].
        faces: (F, 3).
        next_camera: Camera of the next image, without batch.

    Returns:
        As :func:`flow`.
    """
    height, width = label.face.shape
    rows, columns = np.nonzero(label.foreground)
    moved = interpolate(
        np.asarray(next_vertices, np.float64), faces, label.face[rows, columns], label.barycentric[rows, columns]
    )
    pixels_tensor, depth_tensor = next_camera.project(torch.from_numpy(moved).to(next_camera.rotation))
    pixels, depth = pixels_tensor.numpy(), depth_tensor.numpy()
    displacement = np.zeros((height, width, 2), np.float32)
    valid = np.zeros((height, width), bool)

    next_height, next_width = next_label.face.shape
    inside = (depth > 0) & (pixels >= 0).all(1) & (pixels < [next_width, next_height]).all(1)
    kept = np.flatnonzero(inside)
    column, row = np.floor(pixels[kept]).astype(np.int64).T
    face = next_label.face[row, column]
    there = interpolate(
        np.asarray(next_vertices, np.float64), faces, np.maximum(face, 0), next_label.barycentric[row, column]
    )
    seen = next_label.foreground[row, column] & (np.linalg.norm(there - moved[kept], axis=1) < VISIBLE)
    kept = kept[seen]
    valid[rows[kept], columns[kept]] = True
    centres = np.stack([columns[kept], rows[kept]], 1) + 0.5
    displacement[rows[kept], columns[kept]] = pixels[kept] - centres
    return displacement, valid
