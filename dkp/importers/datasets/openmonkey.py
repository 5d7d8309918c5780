"""Imports OpenMonkeyStudio: a folder `Batch*` for each recording, with cameras, 3D keypoints and cropped images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from dkp.captures.arrays import intrinsic_matrix, number_array, rotation_matrix, shown
from dkp.captures.capture import Capture
from dkp.captures.crops import invert_affine
from dkp.captures.images import image_kind
from dkp.captures.rig import camera_from_arrays
from dkp.errors import InputError
from dkp.files import decoded
from dkp.geometry import Camera
from dkp.importers.cameras.parts import OPENCV_TO_CENTRED, metres
from dkp.importers.datasets.joint_views import JointView, every, labelled, write_joint_views
from dkp.importers.matfile import read_mat
from dkp.importers.subject import Lens
from dkp.surface import Surface

JOINTS = (
    "nose", "head", "neck", "right_shoulder", "right_wrist", "left_shoulder", "left_wrist", "mid_hip", "right_knee",
    "right_ankle", "left_knee", "left_ankle", "tail_tip",
)  # fmt: skip
"""The 13 keypoints: hands are wrists and feet ankles."""
_LARGEST = 1_000_000  # side of a frame [px]
_IMAGE = re.compile(r"batch(\d+)_0*(\d+)_(\w+)\.(?:jpg|jpeg|png)", re.IGNORECASE)


def import_openmonkey(
    source_dir: str | Path,
    out: str | Path,
    *,
    surface: str | Path | Surface,
    unit: str = "m",
    test: list[str] | None = None,
    step: int = 1,
    size: int = 192,
    margin: float = 0.15,
    overwrite: bool = False,
    workers: int | None = None,
    executor: str = "local",
) -> Capture:
    """Write a capture of OpenMonkeyStudio: undistorted crops around the projected 3D keypoints.

    Every batch has a rig of its own; cameras keep their names.

    Args:
        source_dir: folder with `Batch*` folders: `camera.txt`, `intrinsic.txt`, `coords_3D.mat`, `crop_para.mat` and
            images `batch7_000003120_18064162.jpg`.
        out: capture to write.
        surface: name or file of the canonical surface.
        unit: of the cameras' positions: "m", "cm", "mm" or how many metres one is.
        test: names of the batches of the split `test`; by default the last one, or of a single batch the last fifth of
            its frames.
        step: every n-th frame of each batch.
        size: side of the crops [px].
        margin: background on each side of the keypoints, as a share of their longer extent.
        overwrite: whether an existing capture is replaced.
        workers: processes; one for each core by default, 1 for none but this one.
        executor: "local", or "dask:ADDRESS" for the workers of a cluster, see docs/scaling.md.

    Raises:
        InputError: a file is missing or does not hold what it should.
    """
    source = Path(source_dir)
    folders = sorted(path for path in source.glob("*") if (path / "camera.txt").is_file())
    if not folders:
        raise InputError(f"{source} has no folder with camera.txt, expected Batch* folders")
    views: dict[str, list[JointView]] = {path.name: _batch_views(path, metres(unit), step) for path in folders}
    tested = [folders[-1].name] if test is None else test
    for name in tested:
        if name not in views:
            raise InputError(f"test names the batch {name!r}, expected some of {', '.join(views)}")
    frames = {name: sorted({view.frame for view in batch}) for name, batch in views.items()}
    if test is None and len(views) == 1:
        border = round(0.8 * len(frames[tested[0]]))
        splits = {"train": frames[tested[0]][:border], "test": frames[tested[0]][border:]}
    else:
        splits = {
            "train": [frame for name, ids in frames.items() if name not in tested for frame in ids],
            "test": [frame for name in tested for frame in frames[name]],
        }
    together = [view for batch in views.values() for view in batch]
    return write_joint_views(
        out, together, size=size, margin=margin, masks=False, workers=workers, executor=executor, overwrite=overwrite,
        name="openmonkey", surface=surface, splits=splits, source="OpenMonkeyStudio",
        licence="see the site of the data set",
    )  # fmt: skip


def _batch_views(folder: Path, metre: float, step: int) -> list[JointView]:
    """Return the images of a batch for which there are 3D keypoints and where they were cut."""
    points = _rows(folder / "coords_3D.mat", "coords", 4, known=1)
    cuts = {(int(row[0]), str(int(row[1]))): row[2:] for row in _rows(folder / "crop_para.mat", "crop", 6, known=6)}
    for (frame, camera), cut in cuts.items():
        if (np.abs(cut) > _LARGEST).any() or (cut[2:] < 1).any():
            raise InputError(
                f"{folder / 'crop_para.mat'}: crop of frame {frame} and camera {camera} is {shown(cut.tolist())}, "
                f"expected x, y and a width and height from 1 to {_LARGEST} px"
            )
    if len(points) % len(JOINTS):
        raise InputError(f"{folder / 'coords_3D.mat'}: coords has {len(points)} rows, expected {len(JOINTS)} a frame")
    skeletons = {int(rows[0, 0]): rows[:, 1:] * metre for rows in points.reshape(-1, len(JOINTS), 4)}
    sizes: dict[str, np.ndarray] = {}
    for (_, camera), cut in cuts.items():
        sizes[camera] = np.maximum(sizes.get(camera, np.zeros(2)), np.ceil(cut[:2] + cut[2:]))
    cameras = _cameras(folder, metre, sizes)
    wanted = set(every(list(skeletons), step))
    views = []
    for image in sorted(path for path in folder.rglob("*") if _IMAGE.fullmatch(path.name)):
        match = _IMAGE.fullmatch(image.name)
        assert match is not None
        frame, camera = int(match[2]), match[3]
        if frame not in wanted or (frame, camera) not in cuts:
            continue
        if camera not in cameras:
            raise InputError(f"{image} is of camera {camera!r}, expected one of camera.txt: {', '.join(cameras)}")
        x, y, width, height = cuts[frame, camera]
        own = image_kind(image)[:2]
        across, down = own[0] / width, own[1] / height
        to_frame = invert_affine(np.array([[across, 0.0, -x * across], [0.0, down, -y * down]]))  # cut, then scaled
        pixels, depth = cameras[camera].project(torch.from_numpy(skeletons[frame]))
        seen = np.where(depth.numpy()[:, None] > 0, pixels.numpy(), np.nan)
        back = np.linalg.inv(np.vstack([to_frame, [0, 0, 1]]))
        joints = labelled(JOINTS, seen @ back[:2, :2].T + back[:2, 2])
        views.append(JointView(folder.name, frame, camera, image, Lens(cameras[camera], to_frame), joints))
    if not views:
        raise InputError(f"{folder} has no image with keypoints and a cut, expected batch7_000003120_18064162.jpg")
    return views


def _rows(path: Path, name: str, columns: int, known: int) -> np.ndarray:
    """Read rows of numbers, the first `known` of which have to be finite."""
    rows = read_mat(path, [name])[name].astype(np.float64)
    if rows.ndim != 2 or rows.shape[1] != columns or not len(rows):
        raise InputError(f"{path}: {name} has shape {rows.shape}, expected rows of {columns} numbers")
    if not np.isfinite(rows[:, :known]).all():
        row = int(np.flatnonzero(~np.isfinite(rows[:, :known]).all(1))[0])
        raise InputError(f"{path}: {name} has the row {row} {shown(rows[row].tolist())}, expected finite numbers")
    return rows


def _cameras(folder: Path, metre: float, sizes: dict[str, np.ndarray]) -> dict[str, Camera]:
    """Read x_camera = R (X - C) of camera.txt and K, k1 and k2 of intrinsic.txt."""
    poses, lenses = _blocks(folder / "camera.txt", 12), _blocks(folder / "intrinsic.txt", 11)
    cameras = {}
    for name, values in poses.items():
        where = f"{folder / 'camera.txt'}: camera {name}"
        if name not in lenses:
            raise InputError(f"{folder / 'intrinsic.txt'} has no camera {name}, expected those of camera.txt")
        rotation = rotation_matrix(values[3:].reshape(3, 3), where)
        matrix = lenses[name][:9].reshape(3, 3).copy()
        matrix[:2, 2] += OPENCV_TO_CENTRED
        if name in sizes:
            cameras[name] = camera_from_arrays(
                intrinsic_matrix(matrix, f"{folder / 'intrinsic.txt'}: camera {name}"), rotation,
                -rotation @ values[:3] * metre, np.array([*lenses[name][9:], 0.0, 0.0, 0.0]),
                (int(sizes[name][0]), int(sizes[name][1])),
            )  # fmt: skip
    return cameras


def _blocks(path: Path, count: int) -> dict[str, np.ndarray]:
    """Read blocks of a line "0 ID" and a number of numbers, after lines that begin with a word."""
    try:
        lines = [line.split() for line in decoded(path.read_bytes()).splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}), expected a text file") from error
    found: dict[str, np.ndarray] = {}
    words = [word for line in lines if not line[0][0].isalpha() for word in line]
    while words:
        block, words = words[: 2 + count], words[2 + count :]
        try:
            numbers = number_array([float(word) for word in block[2:]], (count,), f"{path}: block {len(found)}")
        except ValueError as error:
            raise InputError(f"{path}: {error}, expected numbers") from None
        if block[0] != "0" or block[1] in found:
            raise InputError(f"{path}: a block begins with {' '.join(block[:2])}, expected 0 and the id of a camera")
        found[block[1]] = numbers
    return found
