"""A recording of a walking person as files: three calibrated cameras, images, detections and masks, all small."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch

from dkp.captures.joints import BONES, LAYOUTS
from dkp.geometry import Camera
from dkp.surface import Surface

from ..scene import look_at

SIZE, FRAMES, FOCAL = (160, 120), 5, 110.0
CAMERAS = ("cam1", "cam2", "cam3")


@cache
def rest_joints() -> dict[str, np.ndarray]:
    """Name -> (3,) [m], x to the person's left, z up, an arm raised so that left and right differ."""
    joints = {name: np.array([x, -z, y]) for name, (x, y, z) in Surface.load("human").joints.items()}
    elbow = joints["left_elbow"] - joints["left_shoulder"]
    joints["left_wrist"] = joints["left_elbow"] + np.array([0.1, -0.2, 0.15]) * np.linalg.norm(elbow) / 0.27
    return joints


def joints_at(time: float) -> dict[str, np.ndarray]:
    """Name -> (3,) [m] in the world: the person turns and walks."""
    cos, sin = np.cos(0.3 * time), np.sin(0.3 * time)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return {name: turn @ point + [0.12 * time - 0.3, 0.05 * time, 0.0] for name, point in rest_joints().items()}


def cameras(names=CAMERAS, size=SIZE, angles=(-50, 0, 50)) -> dict[str, Camera]:
    """Cameras on a circle of 4 m, at different heights."""
    found = {}
    for index, (name, angle) in enumerate(zip(names, np.radians(angles), strict=True)):
        position = np.array([4 * np.sin(angle), -4 * np.cos(angle), 0.9 + 0.2 * index])
        rotation, translation = look_at(position, np.array([0, 0, 0.1]))
        focal = FOCAL * size[0] / SIZE[0]
        found[name] = Camera.create(
            torch.tensor([[focal, 0, size[0] / 2 + 3], [0, 1.02 * focal, size[1] / 2 - 2], [0, 0, 1]]).double(),
            rotation=torch.from_numpy(rotation),
            translation=torch.from_numpy(translation),
            distortion=torch.tensor([-0.05, 0.01, 0.001, 0.0, 0.0]).double(),
            image_size=torch.tensor(size).double(),
        )
    return found


def pixels(camera: Camera, time: float) -> dict[str, np.ndarray]:
    """Name -> (2,) [px] of the joints, pixel centres at integer + 0.5."""
    joints = joints_at(time)
    found = camera.project(torch.from_numpy(np.array(list(joints.values()))))[0].numpy()
    return dict(zip(joints, found, strict=True))


def person(points: dict[str, np.ndarray], layout: str = "body_25", confidence: float = 0.9) -> dict:
    """A person as OpenPose writes one; its first pixel's centre is 0."""
    values = []
    for name in LAYOUTS[layout]:
        x, y = points[name] - 0.5 if name in points else (0.0, 0.0)
        values += [round(float(x), 3), round(float(y), 3), confidence if name in points else 0.0]
    return {"person_id": [-1], "pose_keypoints_2d": values}


def drawn(points: dict[str, np.ndarray], size=SIZE) -> np.ndarray:
    """(H, W) uint8, 255 where the person is."""
    mask = np.zeros((size[1], size[0]), np.uint8)
    for first, second in (*BONES, ("nose", "neck")):
        start, end = (tuple(np.round(points[name] - 0.5).astype(int).tolist()) for name in (first, second))
        cv2.line(mask, start, end, 255, 5)
    return mask


def table(key: str, name: str, camera: Camera, **changes) -> str:
    """A camera's table of a TOML file, in metres."""
    matrix = camera.intrinsics.clone()
    matrix[:2, 2] -= 0.5
    values = {
        "name": name,
        "size": [int(n) for n in camera.image_size],
        "matrix": matrix.tolist(),
        "distortions": camera.distortion.tolist(),
        "rotation": cv2.Rodrigues(camera.rotation.numpy())[0].ravel().tolist(),
        "translation": camera.translation.tolist(),
        **changes,
    }
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items() if value is not None]
    return "\n".join([f"[{key}]", *lines, "", ""])


@dataclass
class Take:
    """A recording's folder, and how it is imported: the words after ``dkp import recording CALIBRATION MEDIA OUT``."""

    folder: Path
    cameras: dict[str, Camera] = field(default_factory=cameras)
    words: list[str] = field(default_factory=list)
    calibration: Path = Path()
    media: Path = Path()
    poses: Path = Path()
    masks: Path = Path()

    def __post_init__(self) -> None:
        self.calibration = self.folder / "calibration.toml"
        self.media, self.poses, self.masks = (self.folder / name for name in ("images", "poses", "masks"))

    def write(self) -> "Take":
        """Write calibration, images, detections and masks."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.calibrate()
        for name, camera in self.cameras.items():
            for kind in (self.media, self.poses, self.masks):
                (kind / name).mkdir(parents=True, exist_ok=True)
            for time in range(FRAMES):
                points = pixels(camera, time)
                size = tuple(int(n) for n in camera.image_size)
                mask = drawn(points, size)
                image = np.where(mask[..., None] > 0, np.uint8([40, 90, 220]), np.uint8([90, 110, 100]))
                cv2.imwrite(str(self.media / name / f"img_{time:03d}.png"), image)
                cv2.imwrite(str(self.masks / name / f"img_{time:03d}.png"), mask)
                self.detect(name, time, [person(points)])
        return self

    def calibrate(self, change: Callable[[str, str, Camera], str] = table) -> None:
        """Write the camera file, each camera's table by a function of key, name and camera."""
        tables = [change(f"cam_{index}", *item) for index, item in enumerate(self.cameras.items())]
        self.calibration.write_text("".join(tables), encoding="utf-8")

    def detect(self, name: str, time: int, people: list[dict]) -> None:
        """Write one file of detections."""
        path = self.poses / name / f"take_{time:012d}_keypoints.json"
        path.write_text(json.dumps({"version": 1.3, "people": people}))

    def copy(self, folder: Path) -> "Take":
        """Copy the files to another folder."""
        shutil.copytree(self.folder, folder)
        return Take(folder, self.cameras)

    def command(self, out: Path) -> list[str]:
        """The import's words."""
        words = ["import", "toml", str(self.calibration), str(self.media), str(out), "--unit", "m", "--workers", "1"]
        words += ["--detections", str(self.poses)]
        if "--masks" not in self.words:
            words += ["--masks", "none"]
        return [*words, *self.words]
