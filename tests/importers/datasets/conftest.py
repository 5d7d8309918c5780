"""A standing person that turns, seen by a rig: what the data sets' files are made of."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dkp.captures import Capture
from dkp.geometry import Camera
from dkp.surface import Surface


@dataclass
class Subject:
    """The joints of the surface in the world, over time."""

    names: tuple[str | None, ...]

    def points(self, time: int) -> np.ndarray:
        """(J, 3) [m], z up, the hips at the origin; joints without a name lie there."""
        joints = Surface.load("human").joints
        x, y, z = np.array([joints.get(name or "", np.zeros(3)) for name in self.names]).T
        turn = 0.3 * time
        return np.stack([np.cos(turn) * x - np.sin(turn) * z, -np.sin(turn) * x - np.cos(turn) * z, y], -1)


def look(angle: float, size=(100, 100), focal=110.0, distortion=(0.0,) * 5) -> Camera:
    """A camera at 3 m, some degrees around the subject."""
    turn = np.radians(angle)
    position = 3 * np.array([np.sin(turn), -np.cos(turn), 0.2])
    forward = -position / np.linalg.norm(position)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return Camera.create(
        torch.tensor([[focal, 0, size[0] / 2 + 1], [0, focal * 1.01, size[1] / 2 - 1], [0, 0, 1]]).double(),
        rotation=torch.from_numpy(rotation),
        translation=torch.from_numpy(-rotation @ position),
        distortion=torch.tensor(distortion).double(),
        image_size=torch.tensor(size).double(),
    )


def seen(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Pixels (N, 2), centres at integer + 0.5."""
    return camera.project(torch.from_numpy(points))[0].numpy()


def draw(path: Path, pixels: np.ndarray, size=(100, 100)) -> None:
    """Write an image with a disc at each joint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(0).integers(60, 120, (size[1], size[0], 3), dtype=np.uint8)
    for x, y in np.round(pixels).astype(int).tolist():
        cv2.circle(image, (x, y), 4, (20, 60, 230), -1)
    cv2.imwrite(str(path), image)


def assert_joints_meet(capture: Capture, truth) -> None:
    """The joints of every view lie where its camera sees the points.

    Args:
        capture: what was imported.
        truth: view -> joint name -> point (3,) [m].
    """
    assert capture.views
    for view in capture.views:
        points = truth(view)
        names = [name for name in view.joints if name in points]
        assert len(names) >= 8
        expected = seen(capture.camera(view), np.array([points[name] for name in names]))
        np.testing.assert_allclose([view.joints[name][:2] for name in names], expected, atol=0.02)
        assert capture.image(view).shape == (64, 64, 3)


@pytest.fixture(scope="session")
def rig() -> dict[str, Camera]:
    return {f"cam{index}": look(angle) for index, angle in enumerate((-40, 0, 35, 90))}
