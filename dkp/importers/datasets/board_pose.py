"""Where a calibrated rig sees a printed board: its pose from detected corners."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from dkp.captures.board import BOARD_SIZE
from dkp.errors import InputError
from dkp.files import decoded
from dkp.geometry import Camera

_CORNER_COLUMNS = (
    "sync_index",
    "cam_id",
    "frame_index",
    "keypoint_id",
    "img_loc_x",
    "img_loc_y",
    "obj_loc_x",
    "obj_loc_y",
)
Name = TypeVar("Name", int, str)

_HUBER = 1.0  # px; corners on blurred or reflecting glass are off by several
LEAST_CORNERS = 8  # of a view with a homography of its own


@dataclass(frozen=True)
class Corners:
    """The corners detected in one view.

    Attributes:
        board: (N, 2) positions on the board [m].
        pixels: (N, 2) [px], undistorted, pixel centres at integer + 0.5.
    """

    board: np.ndarray
    pixels: np.ndarray


@dataclass(frozen=True)
class BoardPose:
    """Pose of the board in one frame: x_world = rotation @ (x, y, 0) + translation.

    Attributes:
        rotation: (3, 3).
        translation: (3,) [m].
        residual: median distance of detected corners to projected ones over all views [px of the source].
    """

    rotation: np.ndarray
    translation: np.ndarray
    residual: float

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """Board points (..., 2) or (..., 3) [m] in the world (..., 3) [m]."""
        return points @ self.rotation[:, : points.shape[-1]].T + self.translation

    def homography(self, camera: Camera) -> np.ndarray:
        """(3, 3) map of board positions (x, y, 1) [m] to undistorted pixels of a camera, scaled to positive depth."""
        rotation, translation = camera.rotation.numpy(), camera.translation.numpy()
        columns = rotation @ np.column_stack([self.rotation[:, :2], self.translation])
        columns[:, 2] += translation
        return camera.intrinsics.numpy() @ columns

    def incidence(self, camera: Camera) -> tuple[float, bool]:
        """Angle of the line of sight to the board's normal, at its middle [degrees], and whether the back is seen."""
        centre = self.to_world(BOARD_SIZE / 2)
        ray = centre - camera.centre().numpy()
        cosine = float(self.rotation[:, 2] @ ray / np.linalg.norm(ray))
        return float(np.degrees(np.arccos(min(abs(cosine), 1.0)))), cosine < 0


def read_corners(
    path: Path, cameras: Mapping[int, Camera]
) -> tuple[dict[tuple[int, int], Corners], dict[tuple[int, int], int]]:
    """Read a table of detected corners (caliscope's ``xy.csv``) and move them to the undistorted image.

    Args:
        path: the CSV file; pixels with centres at integers, board positions in metres.
        cameras: camera number -> camera with distortion, pixel centres at integer + 0.5.

    Returns:
        Corners by (sync_index, cam_id), and the camera's own frame_index by the same key.

    Raises:
        InputError: the file is missing, lacks a column, holds no number where one belongs, or names an unknown camera.
    """
    if not path.is_file():
        raise InputError(f"{path} is not there, expected a table of detected board corners")
    try:
        reader = csv.DictReader(StringIO(decoded(path.read_bytes()), newline=""))
        names, lines = reader.fieldnames or (), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}), expected a table of detected board corners") from error
    missing = [name for name in _CORNER_COLUMNS if name not in names]
    if missing:
        raise InputError(f"{path} has no column {missing[0]!r}, expected {', '.join(_CORNER_COLUMNS)}")
    rows: dict[tuple[int, int], list[tuple[float, ...]]] = {}
    indices: dict[tuple[int, int], int] = {}
    for number, row in enumerate(lines, start=2):
        try:
            key = (int(row["sync_index"]), int(row["cam_id"]))
            index = int(row["frame_index"])
            values = tuple(float(row[name]) for name in _CORNER_COLUMNS[4:])
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}:{number} has a field that is no number ({error}), expected numbers") from error
        if key[1] not in cameras:
            raise InputError(f"{path}:{number}: cam_id is {key[1]}, expected one of {', '.join(map(str, cameras))}")
        if not np.isfinite(values).all():
            raise InputError(f"{path}:{number} has the values {values}, expected finite numbers")
        if indices.setdefault(key, index) != index:
            raise InputError(f"{path}:{number}: frame_index is {index}, expected {indices[key]} as in the rows before")
        rows.setdefault(key, []).append(values)
    corners = {}
    for key, entries in rows.items():
        table = np.array(entries)
        pixels = cameras[key[1]].undistort(torch.as_tensor(table[:, :2] + 0.5)).numpy()
        corners[key] = Corners(board=table[:, 2:], pixels=pixels)
    return corners, indices


def solve_pose(views: Mapping[Name, Corners], cameras: Mapping[Name, Camera]) -> BoardPose | None:
    """Fit one board pose to the corners of all views of an instant.

    Every view with four corners or more proposes its two planar poses; the best two over all views are refined with a
    Huber loss, and the cheaper wins. A mirrored print on the back of the board with the same corner positions needs
    nothing special: its corners lie at the same points in space.

    Args:
        views: camera -> corners.
        cameras: camera -> camera's calibration.

    Returns:
        The pose, or None where no view has four corners.
    """
    linear = {key: _Pinhole.of(cameras[key]) for key in views}

    def residuals(parameters: np.ndarray) -> np.ndarray:
        rotation = Rotation.from_rotvec(parameters[:3]).as_matrix()
        parts = []
        for key, view in views.items():
            points = view.board @ rotation[:, :2].T + parameters[3:]
            parts.append(linear[key].project(points) - view.pixels)
        return np.concatenate(parts).ravel()

    starts: list[tuple[float, np.ndarray]] = []
    for key, view in views.items():
        if len(view.board) < 4:
            continue
        pinhole = linear[key]
        flat = np.column_stack([view.board, np.zeros(len(view.board))])
        _, turns, shifts, _ = cv2.solvePnPGeneric(flat, view.pixels, pinhole.intrinsics, None, flags=cv2.SOLVEPNP_IPPE)
        for turn, shift in zip(turns, shifts, strict=True):
            rotation = pinhole.rotation.T @ cv2.Rodrigues(turn)[0]
            translation = pinhole.rotation.T @ (shift[:, 0] - pinhole.translation)
            start = np.concatenate([Rotation.from_matrix(rotation).as_rotvec(), translation])
            starts.append((float(np.abs(residuals(start)).clip(max=50).mean()), start))
    if not starts:
        return None
    starts.sort(key=lambda entry: entry[0])
    fits = [least_squares(residuals, start, loss="huber", f_scale=_HUBER) for _, start in starts[:2]]
    best = min(fits, key=lambda fit: fit.cost)
    distance = np.linalg.norm(residuals(best.x).reshape(-1, 2), axis=-1)
    return BoardPose(Rotation.from_rotvec(best.x[:3]).as_matrix(), best.x[3:], float(np.median(distance)))


@dataclass(frozen=True)
class _Pinhole:
    intrinsics: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray

    @classmethod
    def of(cls, camera: Camera) -> _Pinhole:
        return cls(camera.intrinsics.numpy(), camera.rotation.numpy(), camera.translation.numpy())

    def project(self, points: np.ndarray) -> np.ndarray:
        local = (points @ self.rotation.T + self.translation) @ self.intrinsics.T
        return local[..., :2] / local[..., 2:]
