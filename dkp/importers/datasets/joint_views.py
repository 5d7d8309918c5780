"""Views of a data set whose joints are known: cut around them and written in several processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dkp.captures.arrays import between, whole_number
from dkp.captures.capture import Capture
from dkp.captures.crops import CropMap, apply_affine
from dkp.captures.images import read_image
from dkp.captures.rig import camera_arrays
from dkp.captures.writer import CaptureWriter, write_view_files
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.importers.keypoints.detections import Joints, joint_pixels, move_joints
from dkp.importers.masks import grabcut_mask
from dkp.importers.subject import Lens
from dkp.workers import Workers, calls

_RUN = 64  # views that a process writes in turn


@dataclass(frozen=True)
class JointView:
    """One image of a data set.

    Attributes:
        sequence, time: of which recording it shows which moment.
        camera: name of the rig camera.
        image: its file, or the image itself (H, W, 3) uint8.
        lens: the camera that took it, before any cut, and the map from the image's pixels to that camera's.
        joints: name -> x, y [px of the image, centres at integer + 0.5], confidence.
    """

    sequence: str
    time: int
    camera: str
    image: Path | np.ndarray
    lens: Lens
    joints: Joints

    @property
    def frame(self) -> str:
        """Id of the moment."""
        return f"{self.sequence}_{self.time:06d}"


def write_joint_views(
    out: str | Path,
    views: Sequence[JointView],
    *,
    size: int,
    margin: float,
    masks: bool,
    workers: int | None,
    executor: str,
    **capture: Any,
) -> Capture:
    """Write views as square undistorted crops around their joints; splits keep the frames that two cameras show.

    The capture's cameras are those of the first views; a view of another camera says so.

    Args:
        out: the capture.
        views: with three joints or more each; others are left out.
        size: side of the crops [px].
        margin: see :func:`dkp.captures.crops.square_box`.
        masks: whether to find masks by GrabCut from the joints.
        workers: see :class:`dkp.workers.Workers`.
        executor: see :class:`dkp.workers.Workers`.
        **capture: further options of the writer; the splits have all frames.
    """
    whole_number(size, "size", least=8)
    between(margin, "margin", 0.0, 5.0)
    shown: dict[str, set[str]] = {}
    for view in views:
        if len(view.joints) >= 3:
            shown.setdefault(view.frame, set()).add(view.camera)
    kept = [view for view in views if len(shown.get(view.frame, ())) >= 2 and len(view.joints) >= 3]
    if not kept:
        raise InputError(
            f"{Path(out).name}: none of {len(views)} labelled images shows three joints that another camera shows at "
            "the same moment, expected images of two cameras or more"
        )
    rig: dict[str, Camera] = {}
    for view in views:
        rig.setdefault(view.camera, view.lens.camera)
    with CaptureWriter(out, cameras=rig, **capture) as writer, Workers(calls, workers, executor) as pool:
        runs = [kept[i : i + _RUN] for i in range(0, len(kept), _RUN)]
        jobs = [partial(_write, writer.folder, run, rig, size, margin, masks) for run in runs]
        writer.add_rows(row for rows in pool.map(jobs, "writing views", f"{_RUN} views") for row in rows)
    return Capture.open(out)


def _write(
    folder: Path, views: Sequence[JointView], rig: dict[str, Camera], size: int, margin: float, masks: bool
) -> list[dict[str, Any]]:
    return [view_row(folder, view, rig[view.camera], size, margin, masks) for view in views]


def view_row(folder: Path, view: JointView, camera: Camera, size: int, margin: float, masks: bool) -> dict[str, Any]:
    """Cut a view out of its image and write it; return its row.

    Args:
        folder: of the writer.
        view: with joints.
        camera: of the rig; where another one took the view, the row says so.
        size: side of the crop [px].
        margin: see :func:`dkp.captures.crops.square_box`.
        masks: whether to find a mask by GrabCut from the joints.
    """
    taken = view.lens.camera
    pixels = view.lens(joint_pixels(view.joints))
    affine = view.lens.crop(view.lens.square(pixels, margin), size)
    whole = view.image if isinstance(view.image, np.ndarray) else read_image(view.image)
    image = CropMap.create(taken, affine, size, view.lens.frame_map).image(whole)
    joints = move_joints(view.joints, apply_affine(affine, pixels))
    same = all(np.array_equal(own, camera_arrays(camera)[key]) for key, own in camera_arrays(taken).items())
    return write_view_files(
        folder, view.frame, view.camera, image, sequence=view.sequence, time=view.time, crop=affine, undistorted=True,
        joints=joints, mask=grabcut_mask(image, joints) if masks else None, override=None if same else taken,
    )  # fmt: skip


def labelled(names: Sequence[str | None], pixels: np.ndarray) -> Joints:
    """Name points (K, 2) [px]; those of no name and those that are not finite are left out."""
    return {
        name: (float(x), float(y), 1.0)
        for name, (x, y) in zip(names, pixels.tolist(), strict=True)
        if name is not None and np.isfinite([x, y]).all()
    }


def every(frames: Sequence[int], step: int) -> list[int]:
    """Return every n-th of some frame numbers, in order, each once."""
    return sorted(set(frames))[:: whole_number(step, "step", least=1)]
