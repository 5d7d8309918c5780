"""Imports Ski-Pose PTZ-Camera: `train/` and `test/` with `labels.h5` and images; the cameras pan, tilt and zoom."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dkp.captures.arrays import intrinsic_matrix, number_array, rotation_matrix
from dkp.captures.capture import Capture
from dkp.captures.rig import camera_from_arrays
from dkp.errors import InputError
from dkp.importers.datasets.joint_views import JointView, every, labelled, write_joint_views
from dkp.importers.hdf5 import numbers, open_hdf5
from dkp.importers.subject import Lens

IMAGE = 256
"""Side of the images [px]; positions and intrinsics are shares of it."""
JOINTS = (
    "mid_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", None, "neck", None,
    "head", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip
"""The 17 joints, None for those that the human surface does not name."""
_SHAPES = {
    "seq": (), "cam": (), "frame": (), "2D": (34,), "cam_intrinsic": (3, 3), "cam_position": (3,),
    "R_cam_2_world": (3, 3),
}  # fmt: skip


def import_skipose(
    source_dir: str | Path,
    out: str | Path,
    *,
    step: int = 1,
    size: int = 192,
    margin: float = 0.15,
    masks: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
    executor: str = "local",
) -> Capture:
    """Write a capture of Ski-Pose PTZ-Camera: crops around the 2D joints, each with the camera of its moment.

    Splits are the published ones, the folders `train` and `test`.

    Args:
        source_dir: folder with `train/labels.h5` and `test/labels.h5`.
        out: capture to write.
        step: every n-th frame of each sequence.
        size: side of the crops [px].
        margin: background on each side of the joints, as a share of their longer extent.
        masks: whether to find masks by GrabCut from the joints.
        overwrite: whether an existing capture is replaced.
        workers: processes; one for each core by default, 1 for none but this one.
        executor: "local", or "dask:ADDRESS" for the workers of a cluster, see docs/scaling.md.

    Raises:
        InputError: a file is missing or does not hold what it should.
    """
    views: list[JointView] = []
    splits: dict[str, list[str]] = {}
    for split in ("train", "test"):
        path = Path(source_dir) / split / "labels.h5"
        if not path.is_file():
            raise InputError(f"{path} is not there, expected the labels of the split {split}")
        found = _split_views(path, split, step)
        splits[split] = list(dict.fromkeys(view.frame for view in found))
        views += found
    return write_joint_views(
        out, views, size=size, margin=margin, masks=masks, workers=workers, executor=executor, overwrite=overwrite,
        name="skipose", surface="human", splits=splits, source="Ski-Pose PTZ-Camera",
        licence="research only, see the site of the data set",
    )  # fmt: skip


def _split_views(path: Path, split: str, step: int) -> list[JointView]:
    with open_hdf5(path) as file:
        data = {key: numbers(file, key) for key in _SHAPES}
    count = len(data["seq"]) if data["seq"].ndim else 0
    for key, shape in _SHAPES.items():
        if data[key].shape != (count, *shape):
            raise InputError(f"{path}: {key} has shape {data[key].shape}, expected {(count, *shape)}")
    sequences, frames = data["seq"].astype(int), data["frame"].astype(int)
    wanted = {(s, f) for s in set(sequences.tolist()) for f in every(frames[sequences == s].tolist(), step)}
    views = []
    for row in range(count):
        sequence, camera, frame = int(sequences[row]), int(data["cam"][row]), int(frames[row])
        if (sequence, frame) not in wanted:
            continue
        where = f"{path}: row {row}"
        image = path.parent / f"seq_{sequence:03d}" / f"cam_{camera:02d}" / f"image_{frame:06d}.png"
        if not image.is_file():
            raise InputError(f"{where} names {image}, which is not there, expected an image")
        to_world = rotation_matrix(data["R_cam_2_world"][row].astype(np.float64), f"{where}: R_cam_2_world")
        position = number_array(data["cam_position"][row].astype(np.float64), (3,), f"{where}: cam_position")
        shares = intrinsic_matrix(data["cam_intrinsic"][row].astype(np.float64), f"{where}: cam_intrinsic")
        taken = camera_from_arrays(
            np.diag([IMAGE, IMAGE, 1.0]) @ shares, to_world.T, -to_world.T @ position, np.zeros(5), (IMAGE, IMAGE)
        )
        joints = labelled(JOINTS, IMAGE * data["2D"][row].reshape(17, 2).astype(np.float64))
        name = f"{split}_{sequence:03d}"
        views.append(JointView(name, frame, f"cam_{camera:02d}", image, Lens(taken), joints))
    return views
