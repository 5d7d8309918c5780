"""Captures of a person who walks about, with detected joints, written as the format's two files say."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dkp.captures import Capture
from dkp.captures.joints import LAYOUTS
from dkp.geometry import Camera
from dkp.surface import Surface

SIZE = (640, 480)
NAMES = [name for name in LAYOUTS["body_25"] if name != "_"]


def looking(angle: float, height: float, distance: float, focal: float, lens=(-0.05, 0.01, 0.0, 0.0, 0.0)) -> Camera:
    """A camera on a circle about the vertical axis that looks at a point 0.9 m above the floor; z is up."""
    away = np.array([np.sin(angle), -np.cos(angle), 0.0])
    centre = distance * away + [0.0, 0.0, height]
    forward = np.array([0.0, 0.0, 0.9]) - centre
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    matrix = [[focal, 0.0, SIZE[0] / 2 + 3], [0.0, focal, SIZE[1] / 2 - 5], [0.0, 0.0, 1.0]]
    return Camera.create(
        torch.tensor(matrix, dtype=torch.float64), rotation, -rotation @ centre, torch.tensor(lens), SIZE
    )


def rig(count: int = 3) -> dict[str, Camera]:
    """Cameras of unequal angle, height, distance and focal length."""
    return {
        f"cam{index + 1}": looking(
            np.radians(-50 + 47 * index), 1.1 + 0.35 * (index % 3), 4.0 + 0.3 * (index % 2), 560.0 + 30 * index
        )
        for index in range(count)
    }


def walking(time: int) -> dict[str, np.ndarray]:
    """Joints [m] of a person who turns, walks and moves the arms and legs."""
    rest = Surface.load("human").joints
    turn, swing = 0.25 * time, 0.5 * np.sin(0.9 * time)
    points = {}
    for name, (x, y, z) in rest.items():
        lift = {"wrist": 0.25, "elbow": 0.12, "knee": 0.1, "ankle": 0.2}.get(name.split("_")[-1], 0.0)
        z = z + swing * lift * (1 if name.startswith("left") else -1)
        points[name] = np.array([x * np.cos(turn) - z * np.sin(turn), -x * np.sin(turn) - z * np.cos(turn), y])
    low = min(point[2] for point in points.values())
    step = [0.25 * np.sin(0.5 * time), 0.2 * np.cos(0.7 * time), -low + 0.05]
    return {name: point + step for name, point in points.items()}


@dataclass
class Walk:
    """What a capture says, to be changed before it is written.

    Attributes:
        cameras: that the capture names.
        pixels: camera -> time -> joint -> (x, y) [px].
        masks: camera -> time -> (H, W) bool; none without entries.
        images: camera -> (H, W, 3).
        unit: of the capture.
    """

    cameras: dict[str, Camera]
    pixels: dict[str, list[dict[str, np.ndarray]]]
    masks: dict[str, list[np.ndarray]] = field(default_factory=dict)
    images: dict[str, np.ndarray] = field(default_factory=dict)
    unit: str = "m"
    joints: bool = True

    def write(self, folder: Path) -> Capture:
        """Writes the capture: all views of a camera show one image, whole frames with their distortion."""
        (folder / "images").mkdir(parents=True)
        (folder / "masks").mkdir()
        cameras, rows = [], []
        for index, (name, camera) in enumerate(self.cameras.items()):
            image = self.images.get(name, np.full((*SIZE[::-1], 3), 40 + 10 * index, np.uint8))
            cv2.imwrite(str(folder / "images" / f"{name}.png"), image)
            cameras.append(
                {
                    "name": name,
                    "size": list(SIZE),
                    "intrinsics": camera.intrinsics.tolist(),
                    "distortion": camera.distortion.tolist(),
                    "rotation": camera.rotation.tolist(),
                    "translation": camera.translation.tolist(),
                }
            )
            for time, joints in enumerate(self.pixels[name]):
                mask = None
                if name in self.masks:
                    mask = f"masks/{name}_{time}.png"
                    cv2.imwrite(str(folder / mask), self.masks[name][time].astype(np.uint8) * 255)
                detected = {joint: [*map(float, pixel), 0.9] for joint, pixel in joints.items()}
                rows.append(
                    {
                        "frame": f"f_{time:03d}",
                        "camera": name,
                        "image": f"images/{name}.png",
                        "size": list(SIZE),
                        "mask": mask,
                        "joints": detected if self.joints else None,
                    }
                )
        head = {"format": "dkp-capture", "version": 1, "name": "walk", "unit": self.unit, "surface": "human"}
        times = [f"f_{time:03d}" for time in range(len(next(iter(self.pixels.values()))))]
        head |= {"cameras": cameras, "splits": {"train": times}}
        (folder / "capture.json").write_text(json.dumps(head))
        (folder / "views.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return Capture.open(folder)


def walk(count: int = 3, frames: int = 12, noise: float = 0.0, seed: int = 0) -> Walk:
    """A right capture, with a detector's noise [px]."""
    cameras, rng = rig(count), np.random.default_rng(seed)
    pixels: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in cameras}
    for time in range(frames):
        points = walking(time)
        places = torch.from_numpy(np.array([points[name] for name in NAMES]))
        for name, camera in cameras.items():
            found = camera.project(places)[0].numpy() + rng.normal(0, 1, (len(NAMES), 2)) * noise
            pixels[name].append(dict(zip(NAMES, found, strict=True)))
    return Walk(cameras, pixels)


@pytest.fixture
def make_walk() -> Callable[..., Walk]:
    """Builds a right capture of a walking person; see `walk`."""
    return walk
