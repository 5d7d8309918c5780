"""Refining a rig's extrinsics on points that several cameras detected, where a calibration has drifted a little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from dkp.captures.rig import camera_arrays, camera_from_arrays, camera_size
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.importers.keypoints.detections import Joints

# Tuned on one rig of four whose published extrinsics are 10 px off, against eight static points that the fit never
# sees: a weaker prior or a smaller scale fits the detections as well and the static points up to 1 px worse.
ROTATION_PRIOR = np.radians(1.0)
"""Standard deviation of a camera's rotation about the given one [radians]."""
CENTRE_PRIOR = 0.1
"""Standard deviation of a camera's centre about the given one [m]."""
PRIOR_WEIGHT = 30.0
"""Weight of the prior, in px for a shift of one standard deviation."""
ROBUST_SCALE = 5.0
"""Residuals beyond this count linearly, not squared [px]."""
LEAST_CONFIDENCE = 0.3
"""Points below it are not used."""
# Face and hips are detected where they show: front and back views of them are centimetres apart.
_UNEQUAL = {"nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_hip", "right_hip", "mid_hip"}


@dataclass(frozen=True)
class Refinement:
    """Refined cameras and what changed.

    Attributes:
        cameras: name -> camera; the first one is as given.
        before: (camera, other) -> median epipolar distance with the given cameras [px].
        after: the same with the refined ones.
    """

    cameras: dict[str, Camera]
    before: dict[tuple[str, str], float]
    after: dict[tuple[str, str], float]


def refine_extrinsics(cameras: Mapping[str, Camera], observations: Mapping[str, np.ndarray]) -> Refinement:
    """Move every camera but the first so that corresponding points agree with the epipolar geometry.

    Minimises the robust Sampson distance of all pairs of views at once over the poses, with a normal prior about the
    given ones, which also fixes the scale that epipolar geometry leaves open. No 3D point is a parameter, so the
    problem has six unknowns a camera and takes seconds.

    Args:
        cameras: name -> camera.
        observations: name -> (N, 3) x, y [undistorted px] and confidence of the same N points; confidence 0 = not seen.

    Returns:
        The refined cameras and the epipolar distances before and after.

    Raises:
        InputError: fewer than two cameras, or fewer than fifty correspondences in all.
    """
    names = list(cameras)
    if len(names) < 2:
        raise InputError(f"{len(names)} camera(s) are given, expected at least two to refine")
    rig = [camera_arrays(cameras[name]) for name in names]
    pairs = []
    for first, second in combinations(range(len(names)), 2):
        ours, theirs = observations[names[first]], observations[names[second]]
        both = (ours[:, 2] >= LEAST_CONFIDENCE) & (theirs[:, 2] >= LEAST_CONFIDENCE)
        if both.any():
            rays = [
                _normalised(rig[index]["intrinsics"], view[both, :2])
                for index, view in ((first, ours), (second, theirs))
            ]
            weight = np.sqrt(ours[both, 2] * theirs[both, 2])
            focal = np.sqrt(np.prod([abs(rig[index]["intrinsics"][0, 0]) for index in (first, second)]))
            pairs.append((first, second, rays[0], rays[1], weight, float(focal)))
    count = sum(len(pair[4]) for pair in pairs)
    if count < 50:
        raise InputError(f"{count} points are seen by two cameras, expected at least 50 to refine the calibration on")

    def placed(parameters: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        moved = np.vstack([np.zeros(6), parameters.reshape(-1, 6)])
        poses = []
        for fields, change in zip(rig, moved, strict=True):
            rotation = Rotation.from_rotvec(change[:3]).as_matrix() @ fields["rotation"]
            centre = -fields["rotation"].T @ fields["translation"] + change[3:]
            poses.append((rotation, -rotation @ centre))
        return poses

    def cost(parameters: np.ndarray) -> np.ndarray:
        poses = placed(parameters)
        parts = [
            weight * focal * _sampson(_essential(poses[first], poses[second]), ours, theirs)
            for first, second, ours, theirs, weight, focal in pairs
        ]
        residual = np.concatenate(parts) / ROBUST_SCALE
        robust = ROBUST_SCALE * np.sqrt(2 * (np.sqrt(1 + residual**2) - 1))
        prior = parameters.reshape(-1, 6) / np.array([ROTATION_PRIOR] * 3 + [CENTRE_PRIOR] * 3)
        return np.concatenate([robust, PRIOR_WEIGHT * prior.ravel()])

    found = least_squares(cost, np.zeros(6 * (len(names) - 1)))
    refined: dict[str, Camera] = {}
    for name, fields, (rotation, translation) in zip(names, rig, placed(found.x), strict=True):
        size = camera_size(cameras[name])
        refined[name] = camera_from_arrays(fields["intrinsics"], rotation, translation, fields["distortion"], size)
    distances = []
    for parameters in (np.zeros_like(found.x), found.x):
        poses = placed(parameters)
        distances.append(
            {
                (names[first], names[second]): float(
                    np.median(focal * np.abs(_sampson(_essential(poses[first], poses[second]), ours, theirs)))
                )
                for first, second, ours, theirs, _, focal in pairs
            }
        )
    return Refinement(refined, distances[0], distances[1])


def joint_observations(joints: Mapping[str, Mapping[Any, Joints]]) -> dict[str, np.ndarray]:
    """Lines up the joints of all cameras for `refine_extrinsics`, without those that look different from each side.

    Args:
        joints: camera name -> frame -> joints [undistorted px].

    Returns:
        Camera name -> (N, 3) x, y [px] and confidence, one row a frame and joint; zero where not detected.
    """
    frames = sorted(set().union(*(set(found) for found in joints.values())))
    names = sorted({key for found in joints.values() for person in found.values() for key in person} - _UNEQUAL)
    missing = (0.0, 0.0, 0.0)
    return {
        camera: np.array([found.get(frame, {}).get(name, missing) for frame in frames for name in names]).reshape(-1, 3)
        for camera, found in joints.items()
    }


def _normalised(intrinsics: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    return np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(intrinsics).T


def _essential(pose: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    rotation = other[0] @ pose[0].T
    x, y, z = other[1] - rotation @ pose[1]
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ rotation


def _sampson(essential: np.ndarray, rays: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Signed Sampson distance (N,) in normalised coordinates."""
    lines, back = rays @ essential.T, others @ essential
    scale = np.sqrt((lines[:, :2] ** 2).sum(-1) + (back[:, :2] ** 2).sum(-1))
    return (lines * others).sum(-1) / np.maximum(scale, 1e-12)
