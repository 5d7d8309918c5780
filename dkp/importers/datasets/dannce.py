"""Imports a project of DANNCE: videos without labels for training, frames labelled with label3d for testing."""

from __future__ import annotations

import logging
import re
import tempfile
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from dkp.captures.capture import Capture
from dkp.captures.writer import CaptureWriter, check_destination
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.importers.cameras.registry import read_cameras
from dkp.importers.datasets.joint_views import JointView, view_row
from dkp.importers.keypoints.dannce import read_dannce_labels
from dkp.importers.keypoints.detections import Detections, Joints
from dkp.importers.keypoints.names import joint_names, named_joints
from dkp.importers.media.names import match_names
from dkp.importers.media.video import VIDEO_SUFFIXES, FrameSource, image_files, natural_key
from dkp.importers.recording import import_recording
from dkp.importers.subject import Lens
from dkp.importers.upright import Up, turns
from dkp.surface import Surface

logger = logging.getLogger(__name__)


def import_dannce(
    project: str | Path,
    out: str | Path,
    *,
    surface: str | Path | Surface,
    names: list[str] | None = None,
    layout: str | Path | None = None,
    labelled_frames: str | Path | None = None,
    frames: str = "",
    floor: float | None = None,
    unit: str = "mm",
    size: int = 192,
    margin: float = 0.15,
    smooth: int = 1,
    up: Up = "auto",
    source: str = "",
    licence: str = "",
    overwrite: bool = False,
    workers: int | None = None,
    executor: str = "local",
) -> Capture:
    """Import a project of DANNCE: the split `train` is of its videos, `test` of its labelled frames.

    The animal in the videos is what moves before the static background and all cameras see; labelled frames are cut
    around their keypoints, which the evaluation uses.

    Args:
        project: folder with `calibration/` (`*_params.mat`, or a `*dannce.mat` in the project), `videos/` and, where
            there are labels, `labels/` with `*_labels.mat`, one a camera in the order of the calibration.
        out: capture to write.
        surface: name or file of the canonical surface of the animal.
        names: what the videos call the cameras, in the order of the calibration; by default as the calibration does.
        layout: YAML file that names the keypoints by their number from 0; without it they are keypoint_0 and so on.
        labelled_frames: folder with an image for each camera and labelled frame, such as `Camera1_00120.jpg`; by
            default these frames are taken from the videos.
        frames: which frames of the videos, as start:stop:step; empty takes all.
        floor: height (z) of a mirroring floor [m], to a tenth of the animal's size; what lies below it is the mirror
            image.
        unit: of the calibration: "mm", "cm", "m", or how many metres one is.
        size: side of the crops [px].
        margin: room around the animal on each side, as a share of its longer side.
        smooth: odd number of frames over which boxes are smoothed.
        up: axis of the calibration's world that points up, as in `dkp import recording`.
        source: where the data come from.
        licence: under which licence.
        overwrite: whether an existing capture is replaced.
        workers: processes; one for each core by default, 1 for none but this one.
        executor: "local", or "dask:ADDRESS" for the workers of a cluster, see docs/scaling.md.

    Raises:
        InputError: a file is missing or does not hold what it should.
    """
    check_destination(out, overwrite)
    folder = Path(project)
    calibration = _calibration(folder)
    known = list(read_cameras(calibration, "dannce", unit))
    names = known if names is None else names
    if len(names) != len(known) or len(set(names)) != len(names):
        raise InputError(f"names are {names}, expected a different one for each of {', '.join(known)}")
    media = _videos(folder / "videos", names)
    labels = _labels(folder / "labels", names)
    images = None if labelled_frames is None else _images(Path(labelled_frames), names)
    shown = _shown(labels, layout, media, images) if labels else {}
    out = Path(out).resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        take = import_recording(
            calibration, media, Path(temporary) / "take", format="dannce", unit=unit, boxes="background",
            cameras=dict(zip(known, names, strict=True)), floor=floor, frames=frames, size=size, margin=margin,
            smooth=smooth, up=up, surface=surface, workers=workers, executor=executor,
        )  # fmt: skip
        splits = take.splits if not labels else {"train": list(take.frames), "test": []}
        writer = CaptureWriter(
            out, name=out.name, surface=surface, cameras=take.cameras, splits=splits, source=source, licence=licence,
            fps=take.fps, overwrite=overwrite,
        )  # fmt: skip
        with writer:
            for view in take.views:
                writer.add_view(
                    view.frame, view.camera, take.path / view.image, sequence=view.sequence, time=view.time,
                    mask=take.mask(view), crop=view.crop, undistorted=view.undistorted,
                )  # fmt: skip
            for joint_view in _labelled_views(shown, media, images, take.cameras, up):
                camera = take.cameras[joint_view.camera]
                writer.add_row(view_row(writer.folder, joint_view, camera, size, margin, False))
                if joint_view.frame not in writer.splits["test"]:
                    writer.splits["test"].append(joint_view.frame)
    return Capture.open(out)


def _calibration(folder: Path) -> Path:
    if any((folder / "calibration").glob("*params.mat")):
        return folder / "calibration"
    found = sorted(folder.glob("*dannce.mat"))
    if len(found) != 1:
        raise InputError(
            f"{folder} has no calibration/ with *_params.mat and {len(found)} *dannce.mat, expected either"
        )
    return found[0]


def _videos(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Return the video of each camera: a file with its name, or the only one in a folder with its name."""
    found = {}
    for name, path in match_names(folder, names, "a video").items():
        inside = (
            [file for file in sorted(path.iterdir()) if file.suffix.lower() in VIDEO_SUFFIXES] if path.is_dir() else []
        )
        if len(inside) > 1:
            raise InputError(
                f"{path} has {len(inside)} videos, expected one: DANNCE's parts of a recording are not joined"
            )
        found[name] = inside[0] if inside else path
    return found


def _labels(folder: Path, names: Sequence[str]) -> dict[str, Detections]:
    """Read the labels of each camera; none where there is no folder of them."""
    files = sorted(folder.glob("*labels.mat"), key=lambda path: natural_key(path.name)) if folder.is_dir() else []
    if folder.is_dir() and len(files) != len(names):
        raise InputError(f"{folder} has {len(files)} *_labels.mat, expected one for each of {len(names)} cameras")
    return {name: read_dannce_labels(file) for name, file in zip(names, files, strict=False)}


def _shown(
    labels: Mapping[str, Detections],
    layout: str | Path | None,
    media: Mapping[str, Path],
    images: Mapping[tuple[str, int], Path] | None,
) -> dict[str, dict[int, Joints]]:
    """Return camera -> number -> joints of the labelled frames of which two cameras have images."""
    count = next(len(person) for some in labels.values() for person in some.people)
    called = joint_names(list(labels.values()), layout) if layout else [f"keypoint_{index}" for index in range(count)]
    there: Container[tuple[str, int]] = (
        {(name, number) for name in labels for number in FrameSource(media[name]).numbers} if images is None else images
    )
    found: dict[str, dict[int, Joints]] = {}
    for name, some in labels.items():
        joints = {n: named_joints(people[0], called) for n, people in some.frames.items() if people}
        found[name] = {n: person for n, person in sorted(joints.items()) if len(person) >= 3 and (name, n) in there}
    cameras = Counter(number for some in found.values() for number in some)
    kept = [number for number, count in cameras.items() if count >= 2]
    if not kept:
        raise InputError(
            f"{next(iter(labels.values())).path.parent}: none of {len(labels)} cameras' labelled frames has images of "
            "two cameras, expected the option --labelled-frames, or labels of frames in the videos"
        )
    total = len({number for some in labels.values() for number in some.frames})
    logger.info("%d of %d labelled frames have images of two cameras or more", len(kept), total)
    return {name: {n: joints for n, joints in some.items() if n in kept} for name, some in found.items()}


def _labelled_views(
    shown: Mapping[str, Mapping[int, Joints]],
    media: Mapping[str, Path],
    images: Mapping[tuple[str, int], Path] | None,
    rig: Mapping[str, Camera],
    up: Up,
) -> Iterator[JointView]:
    """Yield the labelled views."""
    turned = turns(rig, up)
    for name, some in shown.items():
        pictures: Iterable[tuple[int, Path | np.ndarray]]
        if images is None:
            pictures = FrameSource(media[name]).frames(some)
        else:
            pictures = ((number, images[name, number]) for number in some)
        for number, picture in pictures:
            yield JointView("labelled", number, name, picture, Lens(rig[name], turn=turned[name]), some[number])


def _images(folder: Path, names: Sequence[str]) -> dict[tuple[str, int], Path]:
    """Return camera and number -> image, of names such as Camera1_00120.jpg."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder, expected images of labelled frames")
    found = {}
    for path in image_files(folder):
        match = re.fullmatch(r"(.+?)[ _.-]*?(\d+)", path.stem)
        name = next((name for name in names if match and match[1].rstrip("_ .-").lower() == name.lower()), None)
        if match is None or name is None:
            raise InputError(f"{path} is called otherwise than a camera and a number, expected {names[0]}_00120.jpg")
        found[name, int(match[2])] = path
    return found
