"""Lenses whose polynomial folds back: beyond the fold an image cannot be undistorted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from dkp.captures.capture import Capture
from dkp.captures.manifest import View
from dkp.geometry import Camera

_STEPS = 2000  # radii at which the polynomial is looked at
_PART = 0.05  # share of a view that may lie beyond the fold


def fold_radius(camera: Camera) -> tuple[float, float]:
    """Return the radius [px, in the frame, about the principal point] at which the lens folds, and the frame's own.

    The radial part decides: the distorted radius r (1 + k1 r^2 + k2 r^4 + k3 r^6) grows up to the fold. Infinite where
    it grows over all of the frame.
    """
    k1, k2, _, _, k3 = camera.distortion.tolist()
    focal = float(torch.sqrt((camera.intrinsics[0, 0] * camera.intrinsics[1, 1]).abs()))
    width, height = camera.image_size.tolist()
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) - camera.intrinsics[:2, 2].numpy()
    frame = float(np.linalg.norm(corners, axis=1).max())
    radius = np.linspace(0, 4 * frame / focal, _STEPS)
    square = radius**2
    distorted = radius * (1 + square * (k1 + square * (k2 + square * k3))) * focal
    folds = np.flatnonzero(_slope(camera, radius) <= 0)
    if not len(folds) or distorted[: folds[0] + 1].max() >= frame:
        return np.inf, frame
    return float(distorted[folds[0]]), frame


def fold_sentences(capture: Capture, views: Sequence[View]) -> list[str]:
    """Say which cameras' views show what lies beyond the fold of their lens."""
    sentences = []
    for name, camera in capture.cameras.items():
        fold, frame = fold_radius(camera)
        if not np.isfinite(fold):
            continue
        own = [view for view in views if view.camera == name and view.override is None]
        beyond = [view for view in own if _reach(capture, view, camera, fold)]
        if beyond:
            sentences.append(
                f"the lens of {name} folds {fold:.0f} px from its principal point, its frame reaches {frame:.0f} px: "
                f"{len(beyond)} of {len(own)} views that were looked at show what lies beyond, where distortion cannot "
                "be removed: are its coefficients right?"
            )
    return sentences


def _reach(capture: Capture, view: View, camera: Camera, fold: float) -> bool:
    """Whether a twentieth of a view's part of the frame lies beyond the fold."""
    x, y = np.meshgrid((np.arange(16) + 0.5) / 16 * view.size[0], (np.arange(16) + 0.5) / 16 * view.size[1])
    pixels = np.stack([x, y], -1).reshape(-1, 2)
    seen = capture.camera(view).intrinsics.numpy()
    normalised = (pixels - seen[:2, 2]) @ np.linalg.inv(seen[:2, :2]).T
    focal = float(torch.sqrt((camera.intrinsics[0, 0] * camera.intrinsics[1, 1]).abs()))
    radius = np.linalg.norm(normalised, axis=1)
    if view.undistorted:
        inner = np.linspace(0, 1, 64)[:, None] * radius
        return bool((_slope(camera, inner).min(axis=0) <= 0).mean() > _PART)
    return bool((radius * focal > fold).mean() > _PART)


def _slope(camera: Camera, radius: np.ndarray) -> np.ndarray:
    """How fast the distorted radius grows with the undistorted one; both in units of the focal length."""
    k1, k2, _, _, k3 = camera.distortion.tolist()
    square = radius**2
    slope: np.ndarray = 1 + square * (3 * k1 + square * (5 * k2 + square * 7 * k3))
    return slope
