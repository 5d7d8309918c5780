"""Synthetic views of the printed board, as a labelled source capture.

Every instant poses the board anew and looks at it with cameras all around its front, tilted by up to 80 degrees and
turned at any angle in the plane, so each instant has views that are geometrically consistent. The print is the real
one; its surroundings are drawn by `dkp.synthetic.board.view`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from dkp.captures import Capture, CaptureWriter, write_truth, write_view_files
from dkp.captures.board import BOARD_CORNERS, BOARD_SIZE, BoardLabeller, board_surface, visible_share
from dkp.captures.crops import crop_affine, square_box
from dkp.captures.rig import camera_from_arrays
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.synthetic.board.view import draw_view
from dkp.workers import Workers

CAMERAS = 4
SENSOR = (1280, 720)
"""Width and height of every camera [px]."""
MOST_TILT = 80.0
"""Largest angle of a line of sight to the board's normal [degrees]."""
BATCH = 50
"""Instants that a process draws at a time; as many take as long to draw as a process takes to start."""
_LEAST_SHARE = 0.7  # of the printed area inside the source frame
_TEST_SHARE = 10  # one instant in this many is for testing


@dataclass(frozen=True)
class BoardShot:
    """Where one camera stands and what it cuts out.

    Attributes:
        intrinsics: (3, 3) of the sensor [px].
        rotation: (3, 3), board to camera.
        translation: (3,) [m].
        crop: (2, 3), sensor pixels to crop pixels.
    """

    intrinsics: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    crop: np.ndarray

    @property
    def homography(self) -> np.ndarray:
        """(3, 3) map of board positions (x, y, 1) [m] to crop pixels."""
        return np.vstack([self.crop, [0.0, 0.0, 1.0]]) @ self._to_sensor

    @property
    def _to_sensor(self) -> np.ndarray:
        return self.intrinsics @ np.column_stack([self.rotation[:, :2], self.translation])

    @property
    def frame(self) -> np.ndarray:
        """(4,) left, top, right, bottom of the sensor in the crop [px]."""
        return np.concatenate([self.crop[:, 2], self.crop[:, :2] @ np.array(SENSOR) + self.crop[:, 2]])

    def camera(self, rotation: np.ndarray, translation: np.ndarray) -> Camera:
        """Return the sensor's camera where the board has the pose x_world = rotation @ x_board + translation."""
        turned = self.rotation @ rotation.T
        return camera_from_arrays(self.intrinsics, turned, self.translation - turned @ translation, np.zeros(5), SENSOR)


def synthesize_board(
    out: str | Path,
    *,
    views: int = 4000,
    size: int = 128,
    seed: int = 0,
    workers: int | None = None,
    executor: str = "local",
    overwrite: bool = False,
) -> Capture:
    """Write a labelled capture of drawn views of the printed board.

    Each instant has four cameras. Labels and masks are exact; hands and what lies outside the source frame are not
    board. One instant in ten is ``test``, the rest ``train``. Equal arguments give equal files, however many workers.

    Args:
        out: capture to write.
        views: number of images, a multiple of four.
        size: side of the images [px].
        seed: of all randomness.
        workers: processes; one for each core by default, 1 for none but this one.
        executor: "local", or "dask:ADDRESS" for the workers of a cluster, see docs/scaling.md.
        overwrite: whether an existing capture is replaced.

    Returns:
        The capture.

    Raises:
        InputError: an argument is out of range, or ``out`` exists.
    """
    if views < CAMERAS or views % CAMERAS:
        raise InputError(f"views is {views}, expected a multiple of {CAMERAS}: every instant has {CAMERAS} cameras")
    if size < 16:
        raise InputError(f"size is {size}, expected at least 16 pixels")
    if seed < 0:
        raise InputError(f"seed is {seed}, expected 0 or more")
    intrinsics = [_intrinsics(np.random.default_rng([seed, 0, index])) for index in range(CAMERAS)]
    frames = [f"{index:06d}" for index in range(views // CAMERAS)]
    batches = [range(start, min(start + BATCH, len(frames))) for start in range(0, len(frames), BATCH)]
    test = frames[_TEST_SHARE - 1 :: _TEST_SHARE]
    surface = board_surface()
    pose = np.eye(3), np.array([0.0, 0.0, 1.0])  # one metre before the origin; every view overrides it
    rig = [camera_from_arrays(matrix, *pose, np.zeros(5), SENSOR) for matrix in intrinsics]
    writer = CaptureWriter(
        out,
        name="board-synthetic",
        surface=surface,
        cameras=dict(zip(_names(), rig, strict=True)),
        splits={"train": [frame for frame in frames if frame not in set(test)], "test": test},
        source=f"drawn views of a printed board, seed {seed}",
        licence="CC0-1.0",
        overwrite=overwrite,
    )
    with writer, Workers(partial(InstantDrawer, writer.folder, size, seed, intrinsics), workers, executor) as pool:
        writer.add_rows(row for rows in pool.map(batches, "drawing", "batch") for row in rows)
    return Capture.open(out)


def sample_shot(rng: np.random.Generator, intrinsics: np.ndarray, azimuth: float, size: int) -> BoardShot:
    """Place a camera before the board and frame the board in a square crop.

    Args:
        rng: random numbers.
        intrinsics: (3, 3) of the sensor [px].
        azimuth: direction, in the plane of the board, to which the camera is tilted [radians].
        size: side of the crop [px].
    """
    while True:
        tilt = np.radians(rng.uniform(0, MOST_TILT))
        direction = np.array([np.sin(tilt) * np.cos(azimuth), np.sin(tilt) * np.sin(azimuth), -np.cos(tilt)])
        middle = np.array([*(BOARD_SIZE / 2), 0.0])
        centre = middle + direction * rng.uniform(0.45, 1.5)
        near_edge = rng.random() < 0.2
        spread = np.array([0.48, 0.48]) if near_edge else np.array([0.3, 0.22])
        seen_at = np.array(SENSOR) * (0.5 + rng.uniform(-1, 1, 2) * spread)
        aside = _towards(np.linalg.inv(intrinsics) @ [*seen_at, 1.0])
        rotation = aside @ _facing(-direction, _angle(rng))
        translation = -rotation @ centre
        homography = intrinsics @ np.column_stack([rotation[:, :2], translation])
        corners = np.column_stack([BOARD_CORNERS, np.ones(4)]) @ homography.T
        if corners[:, 2].min() < 0.1 or visible_share(homography, SENSOR) < _LEAST_SHARE:
            continue
        corners = corners[:, :2] / corners[:, 2:]
        box = square_box(np.concatenate([corners.min(0), corners.max(0)]), rng.uniform(0.08, 0.28))
        box += np.tile(rng.uniform(-0.06, 0.06, 2) * (box[2] - box[0]), 2)
        return BoardShot(intrinsics, rotation, translation, crop_affine(box, size))


def _angle(rng: np.random.Generator) -> float:
    """Draw an angle in the plane: as many upright and lying boards, within some 15 degrees, as all others."""
    if rng.random() < 0.5:
        return rng.uniform(0, 2 * np.pi)
    return rng.integers(4) * np.pi / 2 + rng.normal(0, np.radians(15))


def _facing(forward: np.ndarray, angle: float) -> np.ndarray:
    """Rotation (3, 3) of a camera that looks along a unit vector and sees the board's x axis at an angle [radians]."""
    helper = np.eye(3)[np.abs(forward).argmin()]
    right = np.cross(forward, helper)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return Rotation.from_euler("z", angle - np.arctan2(rotation[1, 0], rotation[0, 0])).as_matrix() @ rotation


def _towards(ray: np.ndarray) -> np.ndarray:
    """Return the smallest rotation (3, 3) that takes the optical axis to a ray."""
    ray = ray / np.linalg.norm(ray)
    axis = np.cross([0.0, 0.0, 1.0], ray)
    length = np.linalg.norm(axis)
    if length < 1e-12:
        return np.eye(3)
    return Rotation.from_rotvec(axis / length * np.arctan2(length, ray[2])).as_matrix()


def _intrinsics(rng: np.random.Generator) -> np.ndarray:
    focal = np.exp(rng.uniform(np.log(580), np.log(950)))
    centre = np.array(SENSOR) / 2 + rng.normal(0, 12, 2)
    return np.array([[focal, 0.0, centre[0]], [0.0, focal * rng.normal(1, 0.002), centre[1]], [0.0, 0.0, 1.0]])


def _names() -> list[str]:
    return [f"cam_{index}" for index in range(CAMERAS)]


class InstantDrawer:
    """Draws and writes the views of instants.

    Args:
        folder: the capture writer's.
        size: side of the images [px].
        seed: of all randomness.
        intrinsics: (3, 3) of each camera [px].
    """

    def __init__(self, folder: Path, size: int, seed: int, intrinsics: Sequence[np.ndarray]) -> None:
        self.folder, self.size, self.seed, self.intrinsics = folder, size, seed, intrinsics
        surface = board_surface()
        self.vertices, self.labeller = surface.vertices, BoardLabeller(surface)

    def __call__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Draw instants; the rows of their views."""
        return [row for index in indices for row in self._draw(index)]

    def _draw(self, index: int) -> list[dict[str, Any]]:
        rng = np.random.default_rng([self.seed, 1, index])
        frame = f"{index:06d}"
        rotation, translation = Rotation.random(random_state=rng).as_matrix(), rng.uniform(-1, 1, 3)
        write_truth(self.folder, frame, self.vertices @ rotation.T + translation)
        start, rows = rng.uniform(0, 2 * np.pi), []
        for number, (name, matrix) in enumerate(zip(_names(), self.intrinsics, strict=True)):
            azimuth = start + 2 * np.pi * (number + rng.uniform(-0.3, 0.3)) / CAMERAS
            shot = sample_shot(rng, matrix, azimuth, self.size)
            view = draw_view(shot.homography, self.size, rng, shot.frame)
            rows.append(
                write_view_files(
                    self.folder,
                    frame,
                    name,
                    view.image,
                    sequence="synthetic",
                    time=index,
                    mask=view.mask,
                    label=self.labeller.label(view.coordinate, view.mask),
                    crop=shot.crop,
                    undistorted=True,
                    override=shot.camera(rotation, translation),
                    domain="board-synthetic",
                )
            )
        return rows
