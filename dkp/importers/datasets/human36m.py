"""Imports Human3.6M as its usual fetch script lays it out: `processed/S1/Phoning-1/` with images and `annot.h5`."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from dkp.captures.capture import Capture
from dkp.captures.images import read_image
from dkp.captures.rig import camera_arrays, camera_from_arrays
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.importers.cameras.human36m import CAMERAS
from dkp.importers.cameras.parts import OPENCV_TO_CENTRED
from dkp.importers.cameras.registry import read_cameras
from dkp.importers.datasets.joint_views import JointView, every, labelled, write_joint_views
from dkp.importers.hdf5 import numbers, open_hdf5
from dkp.importers.subject import Lens

logger = logging.getLogger(__name__)

SPLITS = {"train": ("S1", "S5", "S6", "S7", "S8"), "test": ("S9", "S11")}
"""The published ones."""
JOINTS = {
    0: "mid_hip", 1: "right_hip", 2: "right_knee", 3: "right_ankle", 6: "left_hip", 7: "left_knee", 8: "left_ankle",
    13: "neck", 15: "head", 17: "left_shoulder", 18: "left_elbow", 19: "left_wrist",
    25: "right_shoulder", 26: "right_elbow", 27: "right_wrist",
}  # fmt: skip
"""Those of the 32 joints that are named points of the human surface."""


def import_human36m(
    source_dir: str | Path,
    out: str | Path,
    *,
    calibration: str | Path | None = None,
    subjects: list[str] | None = None,
    step: int = 1,
    size: int = 192,
    margin: float = 0.15,
    masks: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
    executor: str = "local",
) -> Capture:
    """Write a capture of Human3.6M: undistorted crops around the 2D joints, which are kept for the evaluation.

    Splits are the published ones: `train` S1, S5 to S8, `test` S9 and S11. Every subject has a rig of its own.

    Args:
        source_dir: folder with `processed/`, or that folder.
        out: capture to write.
        calibration: `metadata.xml` or the JSON that is made of it; by default the first of these in `source_dir`.
        subjects: which ones, all that are there by default.
        step: every n-th of the frames.
        size: side of the crops [px].
        margin: background on each side of the joints, as a share of their longer extent.
        masks: whether to find masks by GrabCut from the joints.
        overwrite: whether an existing capture is replaced.
        workers: processes; one for each core by default, 1 for none but this one.
        executor: "local", or "dask:ADDRESS" for the workers of a cluster, see docs/scaling.md.

    Raises:
        InputError: a file is missing or does not hold what it should.
    """
    source = Path(source_dir)
    processed = source / "processed" if (source / "processed").is_dir() else source
    known = [name for names in SPLITS.values() for name in names]
    chosen = [name for name in known if (processed / name).is_dir()] if subjects is None else subjects
    if not chosen or not set(chosen) <= set(known):
        raise InputError(f"{processed} gives the subjects {', '.join(chosen) or 'none'}, expected folders {known}")
    path = Path(calibration) if calibration is not None else _calibration(source)
    views: list[JointView] = []
    for subject in chosen:
        cameras = read_cameras(path, "human36m", subject=subject)
        actions = sorted(file.parent for file in (processed / subject).glob("*/annot.h5"))
        if not actions:
            raise InputError(f"{processed / subject} has no folder with annot.h5, expected one for each action")
        for action in actions:
            views += _action_views(action, subject, cameras, step)
    splits = {
        name: list(dict.fromkeys(view.frame for view in views if view.sequence.split("_")[0] in members))
        for name, members in SPLITS.items()
    }
    return write_joint_views(
        out, views, size=size, margin=margin, masks=masks, workers=workers, executor=executor, overwrite=overwrite,
        name="human36m", surface="human", splits=splits, source="Human3.6M",
        licence="academic use only, see the site of Human3.6M",
    )  # fmt: skip


def _calibration(source: Path) -> Path:
    for folder in (source, source.parent):
        for path in (folder / "metadata.xml", *sorted(folder.glob("*.json"))):
            if path.is_file():
                return path
    raise InputError(f"{source} has no metadata.xml and no .json file of cameras, expected the option calibration")


def _action_views(folder: Path, subject: str, cameras: dict[str, Camera], step: int) -> list[JointView]:
    """Return the labelled images of an action; sets the size of its cameras in `cameras`."""
    path = folder / "annot.h5"
    with open_hdf5(path) as file:
        pixels, frames, ids = (numbers(file, key) for key in ("pose/2d", "frame", "camera"))
    if pixels.shape != (len(frames), 32, 2) or ids.shape != frames.shape or frames.ndim != 1:
        raise InputError(
            f"{path}: pose/2d, frame and camera have shapes {pixels.shape}, {frames.shape} and {ids.shape}, expected "
            "(N, 32, 2), (N,) and (N,)"
        )
    names = [JOINTS.get(index) for index in range(32)]
    wanted = set(every(frames.tolist(), step))
    views, missing = [], 0
    for row, (frame, number) in enumerate(zip(frames.tolist(), ids.tolist(), strict=True)):
        camera = str(number)
        if camera not in cameras:
            raise InputError(f"{path}: camera is {camera}, expected one of {', '.join(CAMERAS)}")
        image = folder / "imageSequence" / camera / f"img_{frame:06d}.jpg"
        if frame not in wanted:
            continue
        if not image.is_file():
            missing += 1
            continue
        if not float(cameras[camera].image_size.sum()):
            height, width = read_image(image).shape[:2]
            cameras[camera] = camera_from_arrays(**camera_arrays(cameras[camera]), size=(width, height))
        joints = labelled(names, np.asarray(pixels[row], np.float64) + OPENCV_TO_CENTRED)
        views.append(JointView(f"{subject}_{folder.name}", int(frame), camera, image, Lens(cameras[camera]), joints))
    if missing:
        logger.warning("%s: no image for %d of %d labelled views", folder, missing, missing + len(views))
    return views
