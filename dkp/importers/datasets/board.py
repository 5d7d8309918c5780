"""Imports a recording of a printed board: real images from several cameras with measured dense labels.

The recording is laid out as caliscope does it: ``camera_array.toml``, one video a camera, and ``xy.csv`` with the
detected corners, their camera, frame and position on the board. A person moves the board; its printed area is a plane
whose coordinate is the position on the sheet, so a homography from the sheet labels every pixel of a view. Where a view
shows enough corners the homography is its own, fitted without the calibration or the other cameras: labels of two views
then say how well synchronisation, calibration and corners agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.optimize import least_squares

from dkp.captures.arrays import between, whole_number
from dkp.captures.board import BOARD_CORNERS, BOARD_SIZE, BoardLabeller, board_surface, visible_share
from dkp.captures.capture import Capture
from dkp.captures.crops import CropMap, apply_affine, crop_affine, square_box
from dkp.captures.images import OnBad
from dkp.captures.labels import SparseLabel
from dkp.captures.rig import camera_size
from dkp.captures.writer import CaptureWriter, write_view_files
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.importers.cameras.registry import read_cameras
from dkp.importers.datasets.board_pose import LEAST_CORNERS, BoardPose, Corners, read_corners, solve_pose
from dkp.importers.media.synchronise import report_gaps
from dkp.importers.media.video import FrameSource, open_media, report_bad
from dkp.workers import Workers, calls

MOST_INCIDENCE = 76.0
"""Views at a flatter angle [degrees] are left out: a square is then a quarter as wide as high."""
LEAST_SHARE = 0.5
"""Views that show a smaller share of the printed area are left out."""
MOST_RESIDUAL = 5.0
"""Frames whose median corner misses the pose by more [px] are left out."""
MOST_UNCERTAIN = 2.0
"""A view's own homography is not used where its corners fix the printed area worse than this [px], on average."""
BLOCK = 4
"""Frames a block; every third block is for testing."""


@dataclass(frozen=True)
class BoardRecording:
    """What is known of a recording before an image is decoded.

    Attributes:
        cameras: camera name -> camera with distortion.
        corners: sync index -> camera name -> corners.
        poses: sync index -> pose of the board; frames without one are absent.
        media: camera name -> video.
        positions: camera name -> sync index -> frame of the video.
    """

    cameras: dict[str, Camera]
    corners: dict[int, dict[str, Corners]]
    poses: dict[int, BoardPose]
    media: dict[str, FrameSource]
    positions: dict[str, dict[int, int]]


def import_board(
    source_dir: str | Path,
    out: str | Path,
    *,
    size: int = 128,
    margin: float = 0.2,
    overwrite: bool = False,
    on_bad: OnBad = "raise",
    workers: int | None = None,
    executor: str = "local",
) -> Capture:
    """Write a capture of square undistorted crops of a printed board, labelled densely.

    A view with eight corners or more takes its dense label from a homography that is fitted to its own undistorted
    corners alone, unless they are so few or so blurred that the homography is uncertain by more than 2 px of the source
    over the printed area (expected from the scatter of the corners, not from other cameras). The other views take it
    from the one pose of the board that fits the corners of all cameras; that pose also chooses views and crops and is
    the capture's posed surface. The detected corners themselves are the labelled ``points`` of a view.

    The board has a mirrored print on its back with the same positions: views of the back are stored mirrored (their
    camera has a negative focal length), so that a detector always sees the same print. Labels and masks cover the whole
    printed area inside the source frame, also where a hand or a reflection lies over it.

    Splits: blocks of four frames, every third block is ``test``, the rest ``train``; besides, ``early`` and ``late``
    halve the recording at two thirds of it: one camera's late poses never occur in the early part. Training on
    ``train`` should not read its labels: they are there to measure the score on unlabelled frames.

    Args:
        source_dir: folder with ``camera_array.toml``, ``xy.csv`` and one video a camera.
        out: capture to write.
        size: side of the crops [px].
        margin: background on each side of the printed area, as a share of its longer extent in the image.
        overwrite: whether an existing capture is replaced.
        on_bad: "raise" ends at a frame that cannot be decoded, "skip" leaves such views out and counts them.
        workers: processes, each for a camera; one for each core by default, 1 for none but this one.
        executor: "local", or "dask:ADDRESS" for the workers of a cluster, see docs/scaling.md.

    Returns:
        The capture.

    Raises:
        InputError: a file is missing or does not hold what it should.
    """
    whole_number(size, "size", least=16)
    between(margin, "margin", 0.0, 2.0)
    recording = read_recording(Path(source_dir), on_bad)
    surface = board_surface()
    writer = CaptureWriter(
        out,
        name="board",
        surface=surface,
        cameras=recording.cameras,
        source=f"recording of a printed ChArUco board, {len(recording.poses)} frames, margin {margin:g}",
        licence="that of the recording",
        overwrite=overwrite,
    )
    with writer, Workers(calls, workers, executor) as pool:
        views = {sync: _visible(recording, sync) for sync in sorted(recording.poses)}
        views = {sync: names for sync, names in views.items() if names}
        cutter = _Cutter(recording, writer.folder, size, margin)
        wanted = {name: [sync for sync, names in views.items() if name in names] for name in recording.cameras}
        cut = list(
            pool.map([partial(cutter.write, name, syncs) for name, syncs in wanted.items()], "cutting", "camera")
        )
        rows = [row for _, some in cut for row in some]
        writer.splits = board_splits([_frame(sync) for sync in views])
        writer.add_rows(rows)
        written = {row["frame"] for row in rows}
        for sync in sorted(views):
            if _frame(sync) in written:
                writer.add_truth(_frame(sync), recording.poses[sync].to_world(surface.vertices))
    report_bad(str(out), [media for media, _ in cut])
    return Capture.open(out)


@dataclass(frozen=True)
class _Cutter:
    """Cuts the views of one camera after the other.

    Attributes:
        recording: what is cut.
        folder: the capture writer's.
        size: side of the crops [px].
        margin: see `import_board`.
    """

    recording: BoardRecording
    folder: Path
    size: int
    margin: float

    def write(self, name: str, syncs: Sequence[int]) -> tuple[FrameSource, list[dict[str, Any]]]:
        """Write the views of a camera; return its media, which know their bad frames, and the rows."""
        recording, size = self.recording, self.size
        camera, media, positions = recording.cameras[name], recording.media[name], recording.positions[name]
        labeller = BoardLabeller(board_surface())
        times = {sync: time for time, sync in enumerate(sorted(recording.positions[next(iter(recording.cameras))]))}
        wanted = {positions[sync]: sync for sync in syncs}
        rows = []
        for position, frame in media.frames(sorted(wanted)):
            sync = wanted[position]
            posed = recording.poses[sync].homography(camera)
            _, mirrored = recording.poses[sync].incidence(camera)
            affine = board_crop(posed, size, self.margin, mirrored)
            crop = CropMap.create(camera, affine, size)
            corners = recording.corners[sync].get(name)
            own = None if corners is None else view_homography(corners, posed)
            coordinate = _positions(np.vstack([affine, [0, 0, 1]]) @ (posed if own is None else own), size)
            inside = ((coordinate >= 0) & (coordinate <= BOARD_SIZE)).all(-1)
            mask = inside & crop.inside(*camera_size(camera))
            rows.append(
                write_view_files(
                    self.folder,
                    _frame(sync),
                    name,
                    crop.image(frame),
                    sequence="board",
                    time=times[sync],
                    mask=mask,
                    label=labeller.label(coordinate, mask),
                    points=None if corners is None else _points(labeller, corners, affine, size),
                    crop=affine,
                    undistorted=True,
                    domain="board-real",
                )
            )
        return media, rows


def read_recording(source: Path, on_bad: OnBad = "raise") -> BoardRecording:
    """Read cameras, corners and videos of a recording and solve for the board's pose in every frame.

    Args:
        source: folder of the recording.
        on_bad: see `import_board`.

    Raises:
        InputError: a file is missing, or cameras, corners and videos do not fit each other.
    """
    if not source.is_dir():
        raise InputError(f"{source} is not a folder, expected one with camera_array.toml, xy.csv and videos")
    cameras = read_cameras(source / "camera_array.toml", "toml", "m")
    numbers = {_number(name): name for name in cameras}
    table, indices = read_corners(source / "xy.csv", {number: cameras[name] for number, name in numbers.items()})
    media = open_media(source, list(cameras), on_bad)
    for name, frames in media.items():
        if frames.size != camera_size(cameras[name]):
            raise InputError(
                f"{frames.path} has frames of {frames.size[0]}x{frames.size[1]}, expected "
                f"{'x'.join(map(str, camera_size(cameras[name])))} as in the calibration"
            )
    corners: dict[int, dict[str, Corners]] = {}
    for (sync, number), view in table.items():
        corners.setdefault(sync, {})[numbers[number]] = view
    poses = {sync: solve_pose(views, cameras) for sync, views in sorted(corners.items())}
    return BoardRecording(
        cameras=cameras,
        corners=corners,
        poses={sync: pose for sync, pose in poses.items() if pose is not None and pose.residual <= MOST_RESIDUAL},
        media=media,
        positions=_video_positions(source, sorted(corners), indices, numbers, media),
    )


def _video_positions(
    source: Path,
    syncs: list[int],
    indices: Mapping[tuple[int, int], int],
    numbers: Mapping[int, str],
    media: Mapping[str, FrameSource],
) -> dict[str, dict[int, int]]:
    """Find which frame of each video belongs to a sync index.

    A video holds either the synchronised frames only, one for every sync index, or everything that the camera recorded,
    counted by ``frame_index``.
    """
    if not syncs:
        raise InputError(f"{source / 'xy.csv'} has no corners, expected at least one view with four")
    positions: dict[str, dict[int, int]] = {}
    span = range(syncs[0], syncs[-1] + 1)
    for number, name in numbers.items():
        first, last = media[name].numbers[0], media[name].numbers[-1]
        offsets = {index - sync for (sync, key), index in indices.items() if key == number}
        if last - first + 1 == len(span):
            offsets = {first - span.start}
        if len(offsets) != 1 or span.stop - 1 + min(offsets) > last:
            raise InputError(
                f"{media[name].path} has {len(media[name].numbers)} frames, expected {len(span)}, one for each "
                "sync_index of the corners, or all frames that frame_index counts"
            )
        offset = offsets.pop()
        positions[name] = {sync: sync + offset for sync in span if sync + offset >= first}
        report_gaps(media[name], list(positions[name].values()), "image")
    return positions


def _number(name: str) -> int:
    digits = "".join(character for character in name if character.isdigit())
    if not digits:
        raise InputError(f"camera_array.toml names a camera {name!r}, expected a number in it as cam_id in xy.csv has")
    return int(digits)


def _frame(sync: int) -> str:
    return f"{sync:06d}"


def _visible(recording: BoardRecording, sync: int) -> list[str]:
    """Cameras that see enough of the board, at a good enough angle, at a sync index."""
    pose = recording.poses[sync]
    names = []
    for name, camera in recording.cameras.items():
        angle, _ = pose.incidence(camera)
        depth = (camera.rotation.numpy() @ pose.to_world(BOARD_CORNERS).T)[2] + float(camera.translation[2])
        if sync not in recording.positions[name] or angle > MOST_INCIDENCE or depth.min() <= 0:
            continue
        if visible_share(pose.homography(camera), camera_size(camera)) >= LEAST_SHARE:
            names.append(name)
    return names


def board_crop(homography: np.ndarray, size: int, margin: float, mirrored: bool) -> np.ndarray:
    """Return the (2, 3) affine map from undistorted pixels to a square crop around the printed area.

    Args:
        homography: (3, 3), board positions [m] to undistorted pixels.
        size: side of the crop [px].
        margin: background on each side, as a share of the longer extent.
        mirrored: whether the crop is flipped left to right.
    """
    corners = np.column_stack([BOARD_CORNERS, np.ones(4)]) @ homography.T
    corners = corners[:, :2] / corners[:, 2:]
    box = np.concatenate([corners.min(0), corners.max(0)])
    return crop_affine(square_box(box, margin), size, flip=mirrored)


def view_homography(corners: Corners, start: np.ndarray) -> np.ndarray | None:
    """Fit a homography to the corners of one view, with a Huber loss so that single wrong corners do not count.

    Args:
        corners: those of the view.
        start: (3, 3), board positions [m] to undistorted pixels, about right and scaled to positive depth.

    Returns:
        (3, 3) as ``start``, or None where the corners are too few or leave it too uncertain (``MOST_UNCERTAIN``).
    """
    count = len(corners.board)
    if count < LEAST_CORNERS:
        return None
    unit = np.array([[BOARD_SIZE[0] / 2, 0, BOARD_SIZE[0] / 2], [0, BOARD_SIZE[1] / 2, BOARD_SIZE[1] / 2], [0, 0, 1]])

    def homography(change: np.ndarray) -> np.ndarray:
        return start @ unit @ (np.eye(3) + np.append(change, 0.0).reshape(3, 3)) @ np.linalg.inv(unit)

    def mapped(change: np.ndarray, points: np.ndarray) -> np.ndarray:
        return cv2.perspectiveTransform(points[None], homography(change))[0]

    def slopes(change: np.ndarray, points: np.ndarray) -> np.ndarray:
        steps = np.eye(8) * 1e-5
        return np.stack([(mapped(change + step, points) - mapped(change - step, points)) / 2e-5 for step in steps], -1)

    def residuals(change: np.ndarray) -> np.ndarray:
        return (mapped(change, corners.board) - corners.pixels).ravel()

    change = least_squares(residuals, np.zeros(8), loss="huber", f_scale=1.0).x
    information = np.einsum("nki,nkj->ij", *[slopes(change, corners.board)] * 2)
    if np.linalg.cond(information) > 1e12:
        return None
    variance = (residuals(change) ** 2).sum() / (2 * count - 8)
    grid = np.stack(np.meshgrid(*(np.linspace(0, side, 25) for side in BOARD_SIZE)), -1).reshape(-1, 2)
    spread = slopes(change, grid)
    error = np.sqrt(variance * np.einsum("nki,ij,nkj->n", spread, np.linalg.inv(information), spread))
    return homography(change) if error.mean() <= MOST_UNCERTAIN else None


def _points(labeller: BoardLabeller, corners: Corners, affine: np.ndarray, size: int) -> SparseLabel | None:
    """Return the detected corners inside a crop, as labelled points of it."""
    pixels = apply_affine(affine, corners.pixels)
    inside = ((pixels >= 0) & (pixels <= size)).all(-1)
    if not inside.any():
        return None
    label = labeller.label(corners.board[None, inside], np.ones((1, inside.sum()), bool))
    return SparseLabel(pixels=pixels[inside], face=label.face[0], barycentric=label.barycentric[0])


def _positions(homography: np.ndarray, size: int) -> np.ndarray:
    """Board position (size, size, 2) [m] of every pixel centre; NaN beyond the horizon of the plane."""
    centres = np.arange(size) + 0.5
    pixels = np.stack([*np.meshgrid(centres, centres), np.ones((size, size))], -1)
    points = pixels @ np.linalg.inv(homography).T
    return np.where(points[..., 2:] > 0, points[..., :2] / points[..., 2:], np.nan)


def board_splits(frames: list[str]) -> dict[str, list[str]]:
    """Split consecutive frames into ``train`` and ``test`` by blocks, and into ``early`` and ``late``.

    Args:
        frames: frame ids in the order of time.
    """
    test = [frame for index, frame in enumerate(frames) if index // BLOCK % 3 == 2]
    late = len(frames) * 2 // 3
    return {
        "train": [frame for frame in frames if frame not in test],
        "test": test,
        "early": frames[:late],
        "late": frames[late:],
    }
