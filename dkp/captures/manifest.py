"""The two JSON files of a capture, read and checked: ``capture.json`` (rig, splits) and ``views.jsonl`` (images)."""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dkp.captures.arrays import (
    affine_matrix,
    image_size,
    known_keys,
    name,
    number_array,
    parse_json,
    shown,
    text,
    whole_number,
)
from dkp.captures.rig import camera_size, metres_per_unit, read_camera, read_override
from dkp.errors import InputError
from dkp.geometry import Camera

FORMAT = "dkp-capture"
VERSION = 1
CAPTURE_FILE = "capture.json"
VIEWS_FILE = "views.jsonl"
VIEW_REQUIRED = ("frame", "camera", "image", "size")
VIEW_OPTIONAL = (
    "sequence", "time", "mask", "label", "points", "crop", "undistorted", "override", "joints", "domain",
)  # fmt: skip
FILE_KEYS = ("image", "mask", "label", "points")
SURFACE_NAME = re.compile(r"[A-Za-z0-9_-]+")
_UNSAFE = re.compile(r"[\x00-\x1f\\:]")  # control characters, and what Windows takes for a separator or a drive


@dataclass(frozen=True)
class View:
    """One image of a capture: one camera at one instant. Paths are relative to the capture's folder.

    Attributes:
        frame: id of the instant; views of one instant share it.
        sequence: id of the recording that the instant belongs to.
        time: index of the instant in its sequence.
        camera: name of the rig camera.
        image: file of the image.
        size: (width, height) of the image [px].
        mask: file of the foreground mask, or None.
        label: file of the dense label, or None.
        points: file of the sparse label, or None.
        crop: 2 x 3 affine map from the rig camera's pixels (undistorted ones where ``undistorted``) to this image's
            pixels [px]; None where the image is the whole frame.
        undistorted: whether lens distortion has been removed from the image.
        override: camera fields that differ from the rig's in this view, in the capture's unit; None where none do.
        joints: detected joints, name -> (x, y, confidence) in pixels of this image; None where unknown.
        domain: free label of the kind of image, such as "source"; None where unset.
    """

    frame: str
    sequence: str
    time: int
    camera: str
    image: str
    size: tuple[int, int]
    mask: str | None = None
    label: str | None = None
    points: str | None = None
    crop: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    undistorted: bool = False
    override: dict[str, list] | None = None
    joints: dict[str, tuple[float, float, float]] | None = None
    domain: str | None = None


@dataclass(frozen=True)
class Instant:
    """The views that the cameras took at one moment.

    Attributes:
        frame: id of the instant.
        sequence: id of its recording.
        time: index in the sequence.
        views: one per camera that has an image.
    """

    frame: str
    sequence: str
    time: int
    views: tuple[View, ...]


@dataclass(frozen=True)
class Manifest:
    """What ``capture.json`` says, with cameras in metres; `fps` is how many units of a view's time are a second."""

    name: str
    unit: str
    surface: str
    cameras: dict[str, Camera]
    splits: dict[str, list[str]]
    source: str
    licence: str
    fps: float | None = None


def read_manifest(folder: Path) -> Manifest:
    """Read and check ``capture.json``.

    Raises:
        InputError: one sentence with the key, what was found and what was expected.
    """
    path = folder / CAPTURE_FILE
    if not folder.is_dir():
        before, mark, _ = str(folder).rpartition("#")
        hint = ", without a split" if mark and Path(before).is_dir() else ""
        raise InputError(
            f"{folder} is {'a file' if folder.exists() else 'not there'}, expected the folder of a capture{hint}"
        )
    if not path.is_file():
        raise InputError(f"{folder} has no {CAPTURE_FILE}, expected the folder of a capture")
    data = parse_json(_read_text(path), str(path))
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else data
        raise InputError(f"{path}: format is {shown(found)}, expected {FORMAT!r}")
    if data.get("version") != VERSION or isinstance(data.get("version"), bool):
        raise InputError(f"{path}: version is {shown(data.get('version'))}, expected {VERSION}")
    required = ("format", "version", "name", "unit", "surface", "cameras", "splits")
    known_keys(data, str(path), required, ("source", "licence", "fps"))
    unit = metres_per_unit(data["unit"], f"{path}: unit")
    surface = text(data["surface"], f"{path}: surface", empty=False)
    if not surface.endswith(".npz"):
        if not SURFACE_NAME.fullmatch(surface):
            raise InputError(
                f"{path}: surface is {shown(surface)}, expected the name of a shipped surface or an .npz file in the "
                "capture"
            )
    else:
        _inside(surface, f"{path}: surface")
        if not (folder / surface).is_file():
            raise InputError(f"{path}: surface is {surface!r} but there is no such file, expected one in the capture")
    return Manifest(
        name=text(data["name"], f"{path}: name", empty=False),
        unit=data["unit"],
        surface=surface,
        cameras=_read_cameras(data["cameras"], f"{path}: cameras", unit),
        splits=_read_splits(data["splits"], f"{path}: splits"),
        source=text(data.get("source", ""), f"{path}: source"),
        licence=text(data.get("licence", ""), f"{path}: licence"),
        fps=None if data.get("fps") is None else frames_per_second(data["fps"], f"{path}: fps"),
    )


def frames_per_second(value: Any, where: str) -> float:
    """Return a rate above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(f"{where} is {shown(value)}, expected a number of frames per second above 0")
    return float(value)


def _read_cameras(entries: Any, where: str, unit: float) -> dict[str, Camera]:
    if not isinstance(entries, list):
        raise InputError(f"{where} is {shown(entries)}, expected a list of cameras")
    cameras: dict[str, Camera] = {}
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or "name" not in entry:
            raise InputError(f"{where}[{index}] is {shown(entry)}, expected an object with a name")
        key = name(entry["name"], f"{where}[{index}].name")
        if key in cameras:
            raise InputError(f"{where} names the camera {key!r} twice, expected different names")
        cameras[key] = read_camera(entry, f"{where}: {key}", unit)
    if len(cameras) < 2:
        raise InputError(
            f"{where} has {len(cameras)} camera(s), expected at least two: views are compared across cameras"
        )
    return cameras


def _read_splits(splits: Any, where: str) -> dict[str, list[str]]:
    if not isinstance(splits, dict):
        raise InputError(f"{where} is {shown(splits)}, expected an object of split names and lists of frame ids")
    for key, frames in splits.items():
        name(key, where)
        if not isinstance(frames, list) or not all(isinstance(frame, str) for frame in frames):
            raise InputError(f"{where}: {key} is {shown(frames)}, expected a list of frame ids")
        if len(set(frames)) != len(frames):
            twice = next(frame for frame in frames if frames.count(frame) > 1)
            raise InputError(f"{where}: {key} lists the frame {twice!r} twice, expected every frame once")
    return {key: list(frames) for key, frames in splits.items()}


def read_views(folder: Path, manifest: Manifest, *, allow_missing: bool = False) -> list[View]:
    """Read and check ``views.jsonl`` against the manifest and the files that exist."""
    path = folder / VIEWS_FILE
    if not path.is_file():
        raise InputError(f"{folder} has no {VIEWS_FILE}, expected one line of JSON per image")
    files = _Files(folder)
    sizes = {camera: camera_size(its) for camera, its in manifest.cameras.items()}
    views: list[View] = []
    lines: dict[tuple[str, str], int] = {}
    instants: dict[str, tuple[str, int]] = {}
    moments: dict[tuple[str, int], str] = {}
    for number, line in enumerate(_read_text(path).split("\n"), start=1):  # strings may hold U+2028 and the like
        if not line.strip():
            continue
        where = f"{path}:{number}"
        view = read_row(parse_json(line, where), where)
        if view.camera not in manifest.cameras:
            raise InputError(f"{where}: camera is {view.camera!r}, expected one of {', '.join(manifest.cameras)}")
        check_size(view, sizes[view.camera], where)
        key = (view.frame, view.camera)
        if key in lines:
            raise InputError(
                f"{where} repeats frame {view.frame!r} of camera {view.camera!r} from line {lines[key]}, expected one"
            )
        lines[key] = number
        moment = (view.sequence, view.time)
        if instants.setdefault(view.frame, moment) != moment:
            raise InputError(
                f"{where}: sequence and time are {moment}, expected {instants[view.frame]} as in the other views of "
                f"frame {view.frame!r}"
            )
        if moments.setdefault(moment, view.frame) != view.frame:
            raise InputError(
                f"{where}: frame is {view.frame!r}, expected {moments[moment]!r}, which has the same sequence and time"
            )
        for file_key in FILE_KEYS:
            file = getattr(view, file_key)
            if file is not None and file not in files and not allow_missing:
                raise InputError(
                    f"{where}: {file_key} is {file!r} but there is no such file, expected one in the capture"
                )
        views.append(view)
    _check_together(path, views, manifest)
    return views


def check_size(view: View, calibrated: tuple[int, int], where: str) -> None:
    """Refuse an image of another size than its rig camera is calibrated for, where nothing says how they relate.

    Args:
        view: the view.
        calibrated: (width, height) of its rig camera [px].
        where: file and line, for the error message.
    """
    own = view.override is not None and "intrinsics" in view.override
    if view.crop is None and not own and view.size != calibrated:
        raise InputError(
            f"{where}: size is {list(view.size)} without a crop, expected {list(calibrated)} as of the camera "
            f"{view.camera!r}, or the crop that maps its pixels to this image's"
        )


def _check_together(path: Path, views: list[View], manifest: Manifest) -> None:
    if not views:
        raise InputError(f"{path} has no lines, expected one line of JSON per image")
    frames = {view.frame for view in views}
    if len(views) == len(frames) and not any(view.label or view.points for view in views):
        raise InputError(
            f"{path} has {len(views)} views of {len(frames)} frames, expected frames with two or more views "
            "(the images that the cameras took at one moment share their frame id)"
        )
    for split, listed in manifest.splits.items():
        for frame in listed:
            if frame not in frames:
                raise InputError(
                    f"{path.parent / CAPTURE_FILE}: splits: {split} lists the frame {frame!r}, "
                    f"expected frames that {VIEWS_FILE} has"
                )


def read_row(row: Any, where: str) -> View:
    """Check one line of ``views.jsonl`` and return it as a :class:`View`."""
    known_keys(row, where, VIEW_REQUIRED, VIEW_OPTIONAL)
    files: dict[str, str | None] = {}
    for key in FILE_KEYS:
        files[key] = (
            None if row.get(key) is None else _inside(text(row[key], f"{where}: {key}", empty=False), f"{where}: {key}")
        )
    if files["image"] is None:
        raise InputError(f"{where}: image is None, expected the path of an image")
    undistorted = row.get("undistorted", False)
    if not isinstance(undistorted, bool):
        raise InputError(f"{where}: undistorted is {shown(undistorted)}, expected true or false")
    crop, override, joints, domain = (row.get(key) for key in ("crop", "override", "joints", "domain"))
    frame = name(row["frame"], f"{where}: frame")
    sequence = row.get("sequence")
    return View(
        frame=frame,
        sequence="all" if sequence is None else name(sequence, f"{where}: sequence"),
        time=whole_number(row["time"], f"{where}: time", least=0) if "time" in row else _time_of(frame, where),
        camera=text(row["camera"], f"{where}: camera"),
        image=files["image"],
        size=image_size(row["size"], f"{where}: size"),
        mask=files["mask"],
        label=files["label"],
        points=files["points"],
        crop=None if crop is None else tuple(tuple(r) for r in affine_matrix(crop, f"{where}: crop").tolist()),  # type: ignore[arg-type]
        undistorted=undistorted,
        override=None if override is None else read_override(override, f"{where}: override"),
        joints=None if joints is None else _read_joints(joints, f"{where}: joints"),
        domain=None if domain is None else text(domain, f"{where}: domain"),
    )


def _time_of(frame: str, where: str) -> int:
    digits = frame[len(frame.rstrip("0123456789")) :]
    if not 1 <= len(digits) <= 18:  # more would not fit into 64 bits
        raise InputError(
            f"{where} has no key 'time' and the frame {shown(frame)} does not end in a number of at most 18 digits, "
            "expected either"
        )
    return int(digits)


def _read_joints(joints: Any, where: str) -> dict[str, tuple[float, float, float]]:
    if not isinstance(joints, dict):
        raise InputError(f"{where} is {shown(joints)}, expected an object of joint names and [x, y, confidence]")
    for key in joints:
        text(key, f"{where}: the name of a joint")
    try:  # all joints at once: one by one they would take most of the time of opening
        numbers = number_array(list(joints.values()), (len(joints), 3), where) if joints else np.zeros((0, 3))
    except InputError:
        numbers = np.array([number_array(value, (3,), f"{where}: {key}") for key, value in joints.items()])
    return {key: (x, y, confidence) for key, (x, y, confidence) in zip(joints, numbers.tolist(), strict=True)}


class _Files:
    """The files of a folder, listed once per sub-folder, which is far quicker than asking for each."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.listed: dict[str, set[str]] = {}

    def __contains__(self, path: str) -> bool:
        parent, _, file = path.rpartition("/")
        if parent not in self.listed:
            try:
                with os.scandir(self.folder / parent) as entries:
                    self.listed[parent] = {entry.name for entry in entries if entry.is_file()}
            except OSError:
                self.listed[parent] = set()
        return file in self.listed[parent]


def _inside(path: str, where: str) -> str:
    if _UNSAFE.search(path) or any(part in ("", ".", "..") for part in path.split("/")):
        raise InputError(f"{where} is {shown(path)}, expected a relative path inside the capture such as images/a.png")
    return path


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}), expected a text file in UTF-8") from error


def instants_of(views: list[View]) -> Iterator[Instant]:
    """Group views by frame, in the order in which frames first appear."""
    groups: dict[str, list[View]] = {}
    for view in views:
        groups.setdefault(view.frame, []).append(view)
    for frame, members in groups.items():
        yield Instant(frame=frame, sequence=members[0].sequence, time=members[0].time, views=tuple(members))
