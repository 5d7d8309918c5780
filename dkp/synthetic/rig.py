"""Camera rigs around a subject and the square crops that make their images.

World axes: the floor is z = 0 and z points up [m]. Cameras follow ``x_cam = R x_world + t`` with x right, y down.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dkp.errors import InputError
from dkp.synthetic.domains import Domain

ADULT = 1.75
"""Height of a standing adult [m]; sets the scale of a rig around people."""

LAYOUTS = ("ring", "dome")


@dataclass(frozen=True)
class RigCamera:
    """A pinhole camera of a rig.

    Attributes:
        name: For instance ``cam_00``.
        intrinsics: (3, 3) [px].
        rotation: (3, 3), world to camera.
        translation: (3,) [m].
        size: Sensor width and height [px].
        turn: (2, 2) rotation by which its crops are turned; None where they are not.
    """

    name: str
    intrinsics: NDArray[np.float64]
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    size: tuple[int, int]
    turn: NDArray[np.float64] | None = None

    @property
    def centre(self) -> NDArray[np.float64]:
        """(3,) position in the world [m]."""
        return -self.rotation.T @ self.translation

    def to_camera(self, points: NDArray) -> NDArray[np.float64]:
        """World points (N, 3) in camera axes (N, 3) [m]."""
        return points @ self.rotation.T + self.translation

    def project(self, points: NDArray) -> NDArray[np.float64]:
        """World points (N, 3) [m] to sensor pixels (N, 2) [px]."""
        homogeneous = self.to_camera(points) @ self.intrinsics.T
        return homogeneous[:, :2] / homogeneous[:, 2:]


def look_at(position: NDArray, target: NDArray, roll: float = 0.0) -> tuple[NDArray, NDArray]:
    """Rotation (3, 3) and translation (3,) of a camera that looks from a position at a target, upright but for a roll.

    Args:
        position: (3,) [m].
        target: (3,) [m], not straight above or below the position.
        roll: Turn about the optical axis [radians].
    """
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    cosine, sine = np.cos(roll), np.sin(roll)
    rotation = np.stack([cosine * right + sine * down, cosine * down - sine * right, forward])
    return rotation, -rotation @ position


def make_rig(
    domain: Domain,
    cameras: int,
    layout: str,
    rng: np.random.Generator,
    extent: float = ADULT,
    middle: float = ADULT / 2,
) -> list[RigCamera]:
    """Cameras on a jittered ring, or with half of them raised into a dome, looking at the middle.

    Args:
        domain: Gives sensor, field of view, distance and height.
        cameras: How many.
        layout: ``"ring"`` or ``"dome"``.
        rng: Source of the jitter.
        extent: Largest side of a subject [m]; sets the scale of the rig.
        middle: Height of a standing subject's middle above the floor [m].

    Returns:
        The cameras, ``cam_00`` onwards.

    Raises:
        InputError: unknown layout, or no camera.
    """
    if layout not in LAYOUTS:
        raise InputError(f"the layout of the rig is {layout!r}, expected one of {', '.join(LAYOUTS)}")
    if cameras < 1:
        raise InputError(f"the rig has {cameras} cameras, expected at least 1")
    width, height = domain.sensor
    start = rng.uniform(0, 2 * np.pi)
    rig = []
    for index in range(cameras):
        azimuth = start + 2 * np.pi * (index + rng.uniform(-0.15, 0.15)) / cameras
        focal = 0.5 * height / np.tan(np.radians(rng.uniform(*domain.field_of_view)) / 2)
        radius = rng.uniform(*domain.distance) * extent * focal / height
        raised = layout == "dome" and index % 2 == 1
        elevation = np.radians(rng.uniform(30, 60)) if raised else 0.0
        level = middle if raised else rng.uniform(*domain.height)
        position = np.array(
            [
                radius * np.cos(elevation) * np.cos(azimuth),
                radius * np.cos(elevation) * np.sin(azimuth),
                level + radius * np.sin(elevation),
            ]
        )
        target = np.array([0.0, 0.0, middle]) + extent / ADULT * rng.uniform(-0.12, 0.12, 3)
        rotation, translation = look_at(position, target, np.radians(rng.normal(0, 1.5)))
        centre = np.array([width, height]) / 2 + rng.normal(0, 0.008 * height, 2)
        intrinsics = np.array([[focal, 0, centre[0]], [0, focal * rng.normal(1, 0.002), centre[1]], [0, 0, 1]])
        rig.append(RigCamera(f"cam_{index:02d}", intrinsics, rotation, translation, (width, height)))
    return rig


def crop_around(
    pixels: NDArray, size: int, margin: float, shift: NDArray, turn: NDArray | None = None
) -> NDArray[np.float64]:
    """Return the affine map from sensor pixels to a square crop around projected points.

    Args:
        pixels: (N, 2) projected points of the body [px].
        size: Side of the crop image [px].
        margin: Empty border on each side, as a share of the points' larger extent.
        shift: (2,) displacement of the crop, as a share of its side.
        turn: (2, 2) rotation of the image before it is cut; None = none.

    Returns:
        (2, 3) map: crop pixel = A [x, y, 1].
    """
    if turn is not None:
        straight = crop_around(pixels @ turn.T, size, margin, shift)
        return np.column_stack([straight[:, :2] @ turn, straight[:, 2]])
    low, high = pixels.min(0), pixels.max(0)
    side = max(float((high - low).max()), 1.0) * (1 + 2 * margin)
    corner = (low + high) / 2 - side / 2 + np.asarray(shift) * side
    scale = size / side
    return np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]])


def cropped_intrinsics(intrinsics: NDArray, crop: NDArray) -> NDArray[np.float64]:
    """Intrinsics (3, 3) of the image that an affine crop (2, 3) makes."""
    return np.vstack([crop, [0.0, 0.0, 1.0]]) @ intrinsics
