"""Rigs out of captures: written for other programs, and refined on what the views of an instant have in common."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from dkp.captures.arrays import one_of, whole_number
from dkp.captures.capture import Capture
from dkp.captures.check.correspondences import CoordinateImage
from dkp.captures.check.evidence import consecutive
from dkp.captures.check.subject_point import spread
from dkp.captures.crops import apply_affine, invert_affine, undistorted
from dkp.captures.manifest import FILE_KEYS, VIEWS_FILE, Instant, View
from dkp.captures.writer import CaptureWriter
from dkp.errors import InputError
from dkp.files import cannot_write
from dkp.geometry import Camera
from dkp.importers.cameras.colmap import write_colmap_cameras
from dkp.importers.cameras.toml import write_toml_cameras
from dkp.importers.cameras.transforms import write_transforms_cameras
from dkp.importers.keypoints.detections import Joints, joint_pixels, move_joints
from dkp.importers.offsets import Tracks, find_offsets
from dkp.importers.refine import Refinement, joint_observations, refine_extrinsics

_WRITERS = {"toml": write_toml_cameras, "colmap": write_colmap_cameras, "transforms": write_transforms_cameras}
_TURNS = 4  # of cameras and offsets
_POINTS = 40  # of a dense label that are looked for in the other views

Format = Literal["toml", "colmap", "transforms"]


def export_rig(capture: str | Path, *, out: str | Path, format: Format = "toml", overwrite: bool = False) -> str:
    """Write a capture's cameras for another program, in metres.

    Args:
        capture: the capture's folder.
        out: the file to write, for COLMAP the folder.
        format: "toml" (Anipose, Pose2Sim, caliscope), "colmap" (text) or "transforms" (nerfstudio, instant-ngp).
        overwrite: whether what is at ``out`` is replaced.

    Raises:
        InputError: the capture cannot be opened, a camera has what the format does not, or ``out`` is taken.
    """
    one_of(format, _WRITERS, "format")
    opened = Capture.open(capture, allow_missing=True)
    return _write(opened.cameras, Path(out), format, overwrite)


def refine_rig(
    capture: str | Path,
    *,
    out: str | Path,
    instants: int = 200,
    focal: bool = False,
    offsets: bool = False,
    overwrite: bool = False,
) -> str:
    """Move all cameras but the first until points that several views show agree, and print what changed.

    Points come from the dense labels, the labelled points and the detected joints of the views. The fit is robust and
    stays near the given poses.

    Args:
        capture: the capture's folder.
        out: the folder of a new capture, the same but for its cameras; or a file for the cameras alone, that ends in
            .toml or, as transforms.json, in .json.
        instants: how many instants are looked at, evenly spread.
        focal: whether focal lengths are found, too.
        offsets: whether to find by how many frames each camera is ahead of the first, from moving joints. A new capture
            has the views at their moments; what is printed serves for `dkp import recording --sync`.
        overwrite: whether what is at ``out`` is replaced.

    Raises:
        InputError: the capture cannot be opened, its cameras move, or its views have too little in common.
    """
    whole_number(instants, "instants", least=1)
    opened, path = Capture.open(capture), Path(out)
    if any(view.override is not None for view in opened.views):
        raise InputError(f"{capture} has views with cameras of their own, expected cameras that do not move")
    ahead = dict.fromkeys(opened.cameras, 0.0)
    if offsets:
        refinement, ahead = _in_step(opened, focal)
    else:
        chosen = spread([instant for instant in opened.instants() if len(instant.views) >= 2], instants)
        refinement = refine_extrinsics(opened.cameras, joint_observations(_points(opened, chosen)), focal)
    lines = [
        "median distance from epipolar lines, px of the whole frame",
        f"{'cameras':<24} {'before':>8} {'after':>8}",
    ]
    for pair, before in refinement.before.items():
        lines.append(f"{' - '.join(pair):<24} {before:8.2f} {refinement.after.get(pair, np.nan):8.2f}")
    if focal:
        lines.append("focal length, px")
        for name, camera in refinement.cameras.items():
            given, found = (float(one.intrinsics[0, 0]) for one in (opened.cameras[name], camera))
            lines.append(f"{name:<24} {given:8.1f} {found:8.1f}")
    whole = {name: round(offset) for name, offset in ahead.items()}
    if offsets:
        lines.append("frames ahead of the first camera")
        lines += [f"{name:<24} {0:8.2f} {offset:8.2f}" for name, offset in ahead.items()]
        lines.append(f"--sync '{json.dumps({name: offset for name, offset in whole.items() if offset})}'")
    if path.suffix in (".toml", ".json"):
        said = _write(refinement.cameras, path, "toml" if path.suffix == ".toml" else "transforms", overwrite)
    else:
        said = f"wrote {_copy(opened, refinement.cameras, path, overwrite, whole).path}"
    return "\n".join([*lines, said])


def _in_step(capture: Capture, focal: bool) -> tuple[Refinement, dict[str, float]]:
    """Refine cameras and offsets [frames] in turn, on joints of instants that follow each other."""
    chosen = consecutive([instant for instant in capture.instants() if any(view.joints for view in instant.views)])
    found: dict[str, list[Joints]] = {name: [{} for _ in chosen] for name in capture.cameras}
    for row, instant in enumerate(chosen):
        for view in instant.views:
            joints = view.joints or {}
            found[view.camera][row] = move_joints(joints, _in_rig(capture, view, joint_pixels(joints)))
    tracks = Tracks([(instant.sequence, instant.time) for instant in chosen], found)
    ahead = dict.fromkeys(capture.cameras, 0.0)
    given = refinement = refine_extrinsics(capture.cameras, tracks.observations(ahead), focal)
    for _ in range(_TURNS):
        before, ahead = ahead, find_offsets(refinement.cameras, tracks, ahead)
        if ahead == before:
            break
        refinement = refine_extrinsics(capture.cameras, tracks.observations(ahead), focal)
    return replace(refinement, before=given.before), ahead


def _write(cameras: Mapping[str, Camera], path: Path, format: str, overwrite: bool) -> str:
    if not overwrite and path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} exists, expected a new name or the option --overwrite")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    _WRITERS[format](path, cameras)
    return f"wrote {path} ({len(cameras)} cameras, metres)"


def _copy(
    capture: Capture, cameras: Mapping[str, Camera], out: Path, overwrite: bool, ahead: Mapping[str, int]
) -> Capture:
    """Write a capture that is another one but for its cameras, and views that go to the moment they show.

    Args:
        capture: the other one.
        cameras: its new cameras.
        out: the folder.
        overwrite: whether it may exist.
        ahead: by how many frames each camera is ahead of the moments of its views.
    """
    frames = {(instant.sequence, instant.time): instant.frame for instant in capture.frames.values()}
    writer = CaptureWriter(
        out, name=capture.name, surface=capture.surface_source, cameras=cameras, unit=capture.unit,
        splits=capture.splits, source=capture.source, licence=capture.licence, fps=capture.fps, overwrite=overwrite,
    )  # fmt: skip
    lines = (capture.path / VIEWS_FILE).read_text(encoding="utf-8-sig").split("\n")
    rows = []
    with writer:
        for view, line in zip(capture.views, (line for line in lines if line.strip()), strict=True):
            moment = view.sequence, view.time - ahead[view.camera]
            if moment in frames:
                own = {"frame": frames[moment], "sequence": view.sequence, "time": moment[1]}
                rows.append({**json.loads(line), **own})
        writer.add_rows(rows)
        files = {file for view in capture.views for key in FILE_KEYS if (file := getattr(view, key)) is not None}
        files |= {f"truth/{frame}.npz" for frame in capture.frames if (capture.path / f"truth/{frame}.npz").is_file()}
        for file in sorted(files):
            (writer.folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(capture.path / file, writer.folder / file)
    return Capture.open(out)


def _points(capture: Capture, instants: Sequence[Instant]) -> dict[str, dict[str, Joints]]:
    """Return camera -> frame -> named points [undistorted px of the rig camera] that views of an instant share."""
    found: dict[str, dict[str, Joints]] = {name: {} for name in capture.cameras}
    for instant in instants:
        dense = {view.camera: label for view in instant.views if (label := capture.label(view)) is not None}
        images = {camera: CoordinateImage.create(label, capture.surface) for camera, label in dense.items()}
        for view in instant.views:
            points: Joints = dict(view.joints or {})
            if (sparse := capture.points(view)) is not None:
                coordinates = capture.surface.coordinates(sparse.face, sparse.barycentric)
                names = [" ".join(f"{value:.4f}" for value in row) for row in coordinates]
                points |= {name: (*pixel, 1.0) for name, pixel in zip(names, sparse.pixels.tolist(), strict=True)}
            if view.camera in images:
                points |= _labelled(view.camera, images)
            if points:
                found[view.camera][instant.frame] = move_joints(points, _in_rig(capture, view, joint_pixels(points)))
    return found


def _labelled(camera: str, images: Mapping[str, CoordinateImage]) -> Joints:
    """Return where a view shows points of its own label and of the other views' labels, all in pixels of the view."""
    points: Joints = {}
    for source, image in images.items():
        chosen = np.unique(np.linspace(0, len(image.rows) - 1, min(_POINTS, len(image.rows))).round().astype(int))
        rows, columns = image.rows[chosen], image.columns[chosen]
        pixels, seen = np.stack([columns, rows], -1) + 0.5, np.ones(len(rows), bool)
        if source != camera:
            pixels, seen = images[camera].find(image.coordinate[rows, columns])
        points |= {f"{source} {i}": (float(pixels[i, 0]), float(pixels[i, 1]), 1.0) for i in np.flatnonzero(seen)}
    return points


def _in_rig(capture: Capture, view: View, pixels: np.ndarray) -> np.ndarray:
    """Move pixels (N, 2) of a view's image to the undistorted pixels of its rig camera."""
    if view.crop is not None:
        pixels = apply_affine(invert_affine(np.array(view.crop)), pixels)
    return pixels if view.undistorted else undistorted(capture.cameras[view.camera], pixels)
