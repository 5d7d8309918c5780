"""A small scene with exact labels: a tilting board seen by a ring of cameras, each pixel's ray cut with its plane."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dkp.captures import Capture, CaptureWriter, DenseLabel
from dkp.geometry import Camera
from dkp.surface import Surface


def look_at(position: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and translation, world to camera, of a camera at a position that looks at a target; world z is up."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return rotation, -rotation @ position


@dataclass
class Scene:
    """The board and its cameras; lengths in metres."""

    angles: tuple[float, ...] = (-40.0, 0.0, 35.0)
    size: tuple[int, int] = (96, 80)
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)
    surface: Surface = field(default_factory=lambda: Surface.plane(0.6, 0.8, 0.1))

    def cameras(self) -> dict[str, Camera]:
        """Cameras on a circle of 2 m, some degrees apart, a little above the board."""
        cameras = {}
        for index, angle in enumerate(np.radians(self.angles)):
            position = np.array([2 * np.sin(angle), -2 * np.cos(angle), 0.3 + 0.2 * index])
            rotation, translation = look_at(position, np.zeros(3))
            width, height = self.size
            focal = 1.6 * width
            cameras[f"cam_{index}"] = Camera.create(
                torch.tensor([[focal, 0, width / 2 + 1], [0, 1.01 * focal, height / 2 - 2], [0, 0, 1]]).double(),
                rotation=torch.from_numpy(rotation),
                translation=torch.from_numpy(translation),
                distortion=torch.tensor(self.distortion).double(),
                image_size=torch.tensor(self.size).double(),
            )
        return cameras

    def pose(self, time: int) -> tuple[np.ndarray, np.ndarray]:
        """Columns (3, 3): the board's x, y and normal in the world; and its origin (3,)."""
        tilt, turn = 0.2 * np.sin(time), 0.25 * np.cos(1.7 * time)
        x = np.array([np.cos(turn), np.sin(turn), 0.0])
        normal = np.cross(x, [0.0, 0.0, -1.0]) * np.cos(tilt) + np.array([0.0, 0.0, 1.0]) * np.sin(tilt)
        axes = np.stack([x, np.cross(normal, x), normal], axis=1)
        return axes, axes @ np.array([-0.3, -0.4, 0.0]) + [0.02 * time, 0.0, 0.0]

    def vertices(self, time: int) -> np.ndarray:
        """The posed surface (V, 3)."""
        axes, origin = self.pose(time)
        return self.surface.vertices @ axes.T + origin

    def label(self, camera: Camera, time: int) -> DenseLabel:
        """The exact label of every pixel of a camera's image."""
        width, height = (int(n) for n in camera.image_size)
        x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        pixels = torch.from_numpy(np.stack([x, y], -1).reshape(-1, 2))
        rays, centre = camera.rays(pixels).numpy(), camera.centre().numpy()
        axes, origin = self.pose(time)
        distance = ((origin - centre) @ axes[:, 2]) / (rays @ axes[:, 2])
        local = (centre + rays * distance[:, None] - origin) @ axes
        local[:, 2] = 0.0
        inside = (local[:, :2] > 0).all(axis=1) & (local[:, :2] < (0.6, 0.8)).all(axis=1) & (distance > 0)
        # The plane's squares of 10 cm are cut from upper right to lower left into two triangles each.
        squares = np.where(inside[:, None], local[:, :2], 0.1) / 0.1
        cell = np.minimum(squares.astype(int), (5, 7))
        u, v = (squares - cell).T
        lower = u + v < 1
        face = 2 * (cell[:, 1] * 6 + cell[:, 0]) + ~lower
        barycentric = np.where(lower[:, None], np.stack([1 - u - v, u, v], -1), np.stack([1 - v, u + v - 1, 1 - u], -1))
        shape = (height, width)
        return DenseLabel(
            face=np.where(inside, face, -1).astype(np.int32).reshape(shape),
            barycentric=np.where(inside[:, None], barycentric, 0).astype(np.float32).reshape(*shape, 3),
        )

    def write(self, path: Path, frames: int = 4, **options: Any) -> Capture:
        """Writes a capture with images, masks, exact labels and the posed surface."""
        options = {"name": "board", "surface": self.surface, "cameras": self.cameras(), **options}
        ids = [f"f_{time:03d}" for time in range(frames)]
        options.setdefault("splits", {"train": ids[:-1], "test": ids[-1:]})
        with CaptureWriter(path, **options) as writer:
            for time, frame in enumerate(ids):
                writer.add_truth(frame, self.vertices(time))
                for name, camera in self.cameras().items():
                    label = self.label(camera, time)
                    image = np.where(label.foreground[..., None], (label.barycentric * 200).astype(np.uint8) + 40, 15)
                    writer.add_view(
                        frame, name, image.astype(np.uint8), time=time, mask=label.foreground, label=label, domain="toy"
                    )
        return Capture.open(path)
