"""Refining a rig on points that several cameras detected, where a calibration has drifted a little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
FOCAL_PRIOR = 0.1
"""Standard deviation of the natural logarithm of a focal length about that of the given one."""
PRIOR_WEIGHT = 30.0
"""Weight of the prior, in px for a shift of one standard deviation."""
ROBUST_SCALE = 5.0
"""Residuals beyond this count linearly, not squared [px]."""
LEAST_CONFIDENCE = 0.3
"""Points below it are not used."""
Pose = tuple[np.ndarray, np.ndarray]
"""Rotation (3, 3) and translation (3,) [m], world to camera."""
UNEQUAL = {"nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_hip", "right_hip", "mid_hip"}
"""Joints of the face and hips are detected where they show: front and back views of them are centimetres apart."""


@dataclass(frozen=True)
class Refinement:
    """Refined cameras and what changed.

    Attributes:
        cameras: name -> camera; the pose of the first one is as given.
        before: (camera, other) -> median epipolar distance with the given cameras [px].
        after: the same with the refined ones.
    """

    cameras: dict[str, Camera]
    before: dict[tuple[str, str], float]
    after: dict[tuple[str, str], float]


@dataclass(frozen=True)
class _Pair:
    """Points that two cameras show: rays (N, 3) with a z of 1, weights (N,), and the focal length [px]."""

    first: int
    second: int
    ours: np.ndarray
    theirs: np.ndarray
    weight: np.ndarray
    focal: float

    def distances(self, poses: Sequence[Pose], scales: np.ndarray) -> np.ndarray:
        """Signed Sampson distance (N,) [px] for poses and scales of the focal lengths (C,)."""
        rays, others = (
            rays / np.array([scales[index], scales[index], 1.0])
            for rays, index in ((self.ours, self.first), (self.theirs, self.second))
        )
        focal = self.focal * np.sqrt(scales[self.first] * scales[self.second])
        return focal * _sampson(_essential(poses[self.first], poses[self.second]), rays, others)

    def near(self, poses: Sequence[Pose], scales: np.ndarray) -> _Pair:
        """Return the pair without its points that are far from their epipolar lines."""
        kept = np.abs(self.distances(poses, scales)) < ROBUST_SCALE
        return replace(self, ours=self.ours[kept], theirs=self.theirs[kept], weight=self.weight[kept])


def refine_extrinsics(
    cameras: Mapping[str, Camera], observations: Mapping[str, np.ndarray], focal: bool = False
) -> Refinement:
    """Move every camera but the first so that corresponding points agree with the epipolar geometry.

    Minimises the robust Sampson distance of all pairs of views at once over the poses, with a normal prior about the
    given ones, which also fixes the scale that epipolar geometry leaves open. No 3D point is a parameter, so the
    problem has six or seven unknowns a camera and takes seconds.

    Args:
        cameras: name -> camera.
        observations: name -> (N, 3) x, y [undistorted px] and confidence of the same N points; confidence 0 = not seen.
        focal: whether focal lengths are found, too. What removes distortion stays: coefficients change with the focal
            length so that it takes the same pixels to the same pixels. Where all optical axes meet in one point, the
            focal lengths of two cameras cannot be told from points; the prior then keeps them.

    Returns:
        The refined cameras and the epipolar distances before and after.

    Raises:
        InputError: fewer than two cameras, or fewer than fifty correspondences in all.
    """
    names = list(cameras)
    rig = [camera_arrays(cameras[name]) for name in names]
    pairs = _pairs(names, rig, observations)
    count = 6 * (len(names) - 1)
    priors = np.array([*([ROTATION_PRIOR] * 3 + [CENTRE_PRIOR] * 3) * (len(names) - 1), *[FOCAL_PRIOR] * len(names)])
    priors = priors if focal else priors[:count]

    def placed(parameters: np.ndarray) -> tuple[list[Pose], np.ndarray]:
        moved = np.vstack([np.zeros(6), parameters[:count].reshape(-1, 6)])
        poses = []
        for fields, change in zip(rig, moved, strict=True):
            rotation = Rotation.from_rotvec(change[:3]).as_matrix() @ fields["rotation"]
            centre = -fields["rotation"].T @ fields["translation"] + change[3:]
            poses.append((rotation, -rotation @ centre))
        return poses, np.exp(parameters[count:]) if focal else np.ones(len(names))

    def cost(parameters: np.ndarray, used: Sequence[_Pair]) -> np.ndarray:
        given = placed(parameters)
        residual = np.concatenate([pair.weight * pair.distances(*given) for pair in used]) / ROBUST_SCALE
        robust = ROBUST_SCALE * np.sqrt(2 * (np.sqrt(1 + residual**2) - 1))
        return np.concatenate([robust, PRIOR_WEIGHT * parameters / priors])

    start = np.zeros(len(priors))
    found = least_squares(cost, start, args=(pairs,)).x
    if focal:  # which even a few wrong points pull at
        found = least_squares(cost, found, args=([pair.near(*placed(found)) for pair in pairs],)).x
    before, after = (
        {
            (names[pair.first], names[pair.second]): float(np.median(np.abs(pair.distances(*placed(parameters)))))
            for pair in pairs
        }
        for parameters in (start, found)
    )
    poses, scales = placed(found)
    refined = {
        name: _rebuilt(cameras[name], fields, pose, scale)
        for name, fields, pose, scale in zip(names, rig, poses, scales, strict=True)
    }
    return Refinement(refined, before, after)


def _rebuilt(camera: Camera, fields: Mapping[str, np.ndarray], pose: Pose, scale: float) -> Camera:
    """Return a camera with another pose and focal length, whose lens takes the same pixels to the same pixels."""
    lens = fields["distortion"] * scale ** np.array([2, 4, 1, 1, 6])
    return camera_from_arrays(
        fields["intrinsics"] * [[scale, 1, 1], [1, scale, 1], [1, 1, 1]], *pose, lens, camera_size(camera)
    )


def _pairs(
    names: Sequence[str], rig: Sequence[Mapping[str, np.ndarray]], observations: Mapping[str, np.ndarray]
) -> list[_Pair]:
    """Return what pairs of cameras show in common."""
    if len(names) < 2:
        raise InputError(f"{len(names)} camera(s) are given, expected at least two to refine")
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
            pairs.append(_Pair(first, second, rays[0], rays[1], weight, float(focal)))
    count = sum(len(pair.weight) for pair in pairs)
    if count < 50:
        raise InputError(f"{count} points are seen by two cameras, expected at least 50 to refine the calibration on")
    return pairs


def joint_observations(joints: Mapping[str, Mapping[Any, Joints]]) -> dict[str, np.ndarray]:
    """Lines up the joints of all cameras for `refine_extrinsics`, without those that look different from each side.

    Args:
        joints: camera name -> frame -> joints [undistorted px].

    Returns:
        Camera name -> (N, 3) x, y [px] and confidence, one row a frame and joint; zero where not detected.
    """
    frames = sorted(set().union(*(set(found) for found in joints.values())))
    names = sorted({key for found in joints.values() for person in found.values() for key in person} - UNEQUAL)
    missing = (0.0, 0.0, 0.0)
    return {
        camera: np.array([found.get(frame, {}).get(name, missing) for frame in frames for name in names]).reshape(-1, 3)
        for camera, found in joints.items()
    }


def _normalised(intrinsics: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    return np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(intrinsics).T


def _essential(pose: Pose, other: Pose) -> np.ndarray:
    rotation = other[0] @ pose[0].T
    x, y, z = other[1] - rotation @ pose[1]
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ rotation


def _sampson(essential: np.ndarray, rays: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Signed Sampson distance (N,) in normalised coordinates."""
    lines, back = rays @ essential.T, others @ essential
    scale = np.sqrt((lines[:, :2] ** 2).sum(-1) + (back[:, :2] ** 2).sum(-1))
    return (lines * others).sum(-1) / np.maximum(scale, 1e-12)
