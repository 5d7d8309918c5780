"""2D body detections: folders of OpenPose JSON files, one file per frame, to named joints."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dkp.captures.arrays import parse_json, shown
from dkp.captures.joints import LAYOUTS, fitting_layout
from dkp.errors import InputError
from dkp.importers.cameras.toml import OPENCV_TO_CENTRED

logger = logging.getLogger(__name__)

Joints = dict[str, tuple[float, float, float]]  # name -> x, y [px], confidence

_ENOUGH_PEOPLE = 5  # from so many on, a layout that was asked for is refused where another one fits far better
_FAR_OUTSIDE = 0.5  # share of the frame's size beyond its border from which a joint cannot be meant


@dataclass(frozen=True)
class Detections:
    """What a folder of detections holds.

    Attributes:
        folder: the folder.
        frames: number of the file -> the people found, (K, 3) each: x, y [px, OpenCV's], confidence; NaN where a
            keypoint was not found. People without any keypoint are left out.
        listed: how many people the files list, with those without a keypoint.
        best: the highest confidence of all; NaN where no file has one.
    """

    folder: Path
    frames: dict[int, list[np.ndarray]]
    listed: int
    best: float

    @property
    def people(self) -> list[np.ndarray]:
        """All people of all frames."""
        return [person for people in self.frames.values() for person in people]


def read_detections(folder: str | Path) -> Detections:
    """Read a folder of OpenPose files.

    The number of a frame is the last number in the name of its file ("cam01.0012.json",
    "take_000000000012_keypoints.json").

    Args:
        folder: folder of ``.json`` files with ``people[].pose_keypoints_2d``.

    Raises:
        InputError: a file cannot be read, people have different numbers of keypoints, or the coordinates cannot be
            pixels.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not files:
        raise InputError(f"{folder} has no .json files, expected one file of detections per frame")
    frames: dict[int, list[np.ndarray]] = {}
    listed, best = 0, float("nan")
    first: tuple[int, Path] | None = None  # number of keypoints, and the file that set it
    for path in files:
        numbers = re.findall(r"\d+", path.stem)
        if not numbers:
            raise InputError(f"{path} has no number in its name, expected the number of its frame")
        frame = int(numbers[-1])
        if frame in frames:
            raise InputError(f"{path} is a second file for frame {frame}, expected one file per frame")
        people = _read_people(path)
        listed += len(people)
        best = np.fmax(best, max((np.fmax.reduce(person[:, 2], initial=-np.inf) for person in people), default=best))
        for person in people:
            person[~np.isfinite(person).all(axis=1) | ~(person[:, 2] > 0)] = np.nan
        frames[frame] = [person for person in people if np.isfinite(person).any()]
        for person in frames[frame]:
            first = first or (len(person), path)
            if len(person) != first[0]:
                raise InputError(
                    f"{path} has a person of {len(person)} keypoints, expected {first[0]} as in {first[1].name}"
                )
    found = Detections(folder, frames, listed, float(best))
    _check_pixels(found)
    return found


def _read_people(path: Path) -> list[np.ndarray]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}), expected a JSON file of OpenPose") from error
    data = parse_json(content, str(path))
    people = data.get("people") if isinstance(data, Mapping) else None
    if not isinstance(people, list):
        raise InputError(f"{path}: people is {shown(people)}, expected a list")
    return [_read_person(person, f"{path}: people[{index}]") for index, person in enumerate(people)]


def _read_person(person: Any, where: str) -> np.ndarray:
    """Return (K, 3); K is zero for a person of whom only face or hands were found."""
    values = person.get("pose_keypoints_2d") if isinstance(person, Mapping) else None
    if not isinstance(values, list) or len(values) % 3:
        found = f"has {len(values)} numbers" if isinstance(values, list) else f"is {shown(values)}"
        raise InputError(f"{where}: pose_keypoints_2d {found}, expected x, y and confidence of every keypoint")
    numbers = [np.nan if value is None else value for value in values]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers):
        raise InputError(f"{where}: pose_keypoints_2d is {shown(values)}, expected {len(values)} numbers")
    try:
        return np.array(numbers, np.float64).reshape(-1, 3)
    except OverflowError:
        raise InputError(f"{where}: pose_keypoints_2d is {shown(values)}, expected {len(values)} numbers") from None


def _check_pixels(found: Detections) -> None:
    """Refuse shares of the image's size, which some detectors can be told to write."""
    points = np.concatenate([np.zeros((0, 2)), *(person[:, :2] for person in found.people)])
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) >= 3 and np.abs(points).max() <= 1.5:
        low, high = points.min(), points.max()
        raise InputError(
            f"{found.folder}: all {len(points)} keypoints have coordinates from {low:.2g} to {high:.2g}, which look "
            "like shares of the image's size, expected pixels (OpenPose writes them with --keypoint_scale 0)"
        )


def inside_frame(detections: Detections, size: tuple[int, int]) -> Detections:
    """Return the detections without what cannot be in the frame, with a warning that counts.

    Args:
        detections: of a camera.
        size: (width, height) of the frames [px].

    Raises:
        InputError: most of the keypoints lie far outside of the frame.
    """
    total, far, first = 0, 0, ""
    frames: dict[int, list[np.ndarray]] = {}
    for frame, people in detections.frames.items():
        frames[frame] = []
        for person in people:
            outside = np.any(np.abs(person[:, :2] / size - 0.5) > 0.5 + _FAR_OUTSIDE, axis=1)
            total += int(np.isfinite(person[:, 0]).sum())
            if outside.any():
                far += int(outside.sum())
                x, y = person[outside][0, :2]
                first = first or f"({x:.6g}, {y:.6g}) in the file of frame {frame}"
            kept = np.where(outside[:, None], np.nan, person)
            if np.isfinite(kept).any():
                frames[frame].append(kept)
    if far:
        found = (
            f"{detections.folder}: {far} of {total} detected joints lie far outside of frames of {size[0]}x{size[1]} "
            f"pixels (the first at {first})"
        )
        if far > total / 2:
            raise InputError(f"{found}, expected detections of these frames")
        logger.warning("%s: left out", found)
    return replace(detections, frames=frames)


def find_layout(detections: Sequence[Detections], layout: str = "auto") -> str:
    """Return the order of the keypoints in the files.

    Args:
        detections: of all cameras.
        layout: one of :data:`LAYOUTS`, which is checked; or "auto", which finds it by the number of keypoints and,
            where two layouts have as many, by which one makes a body of them.

    Raises:
        InputError: the layout does not fit, or cannot be told.
    """
    if layout not in ("auto", *LAYOUTS):
        raise InputError(f"layout is {layout!r}, expected one of auto, {', '.join(LAYOUTS)}")
    people = [person[:, :2] for some in detections for person in some.people]
    folder = detections[0].folder.parent if len(detections) > 1 else detections[0].folder
    counts = sorted({len(person) for person in people})
    if len(counts) > 1:
        raise InputError(f"{folder} has people of {' and '.join(map(str, counts))} keypoints, expected one number")
    if not counts:
        return layout if layout != "auto" else next(iter(LAYOUTS))  # nobody was found: nothing to name
    known = {name: len(names) for name, names in LAYOUTS.items()}
    fitting = [name for name, count in known.items() if count == counts[0]]
    if not fitting or layout not in ("auto", *fitting):
        raise InputError(
            f"{folder} has people of {counts[0]} keypoints, expected "
            + (f"{known[layout]} for layout {layout}" if layout != "auto" else "those of a known layout")
            + f" ({', '.join(f'{name} {count}' for name, count in known.items())})"
        )
    best, lengths = fitting_layout(people)
    if layout == "auto":
        if best is None:
            raise InputError(f"{folder} has people of {counts[0]} keypoints, expected a layout: {' or '.join(fitting)}")
        return best
    if best is not None and best != layout and len(people) >= _ENOUGH_PEOPLE:
        raise InputError(
            f"layout is {layout!r}, in which joints that belong together are {lengths[layout] / lengths[best]:.1f} "
            f"times as far from each other in {folder} as in {best!r}, expected {best!r}"
        )
    return layout


def named_joints(keypoints: np.ndarray, layout: str) -> Joints:
    """Name a person's keypoints (K, 3).

    Returns:
        Joint name -> (x, y, confidence) with pixel centres at integer + 0.5. Joints that were not found are left out;
        the middle of two found hips is added as ``mid_hip``.
    """
    joints: Joints = {}
    for name, (x, y, confidence) in zip(LAYOUTS[layout], keypoints.tolist(), strict=True):
        if name != "_" and np.isfinite(x):
            joints[name] = (x + OPENCV_TO_CENTRED, y + OPENCV_TO_CENTRED, confidence)
    if "mid_hip" not in joints and "left_hip" in joints and "right_hip" in joints:
        left, right = joints["left_hip"], joints["right_hip"]
        joints["mid_hip"] = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2, min(left[2], right[2]))
    return joints


def main_person(people: list[Joints], previous: np.ndarray | None = None) -> Joints | None:
    """Choose one person: the one nearest to where the last one stood, or the largest clearly seen one.

    Args:
        people: the people of one frame.
        previous: (2,) [px], middle of the person chosen in the frame before, or None.

    Returns:
        The person's joints, or None where nobody has three joints.
    """
    seen = [person for person in people if len(person) >= 3]
    if not seen:
        return None
    if previous is not None:
        return min(seen, key=lambda person: float(np.linalg.norm(middle(person) - previous)))
    return max(seen, key=prominence)


def joint_pixels(joints: Joints) -> np.ndarray:
    """Return the positions (N, 2) of a person's joints [px], in their order."""
    return np.array([value[:2] for value in joints.values()])


def middle(joints: Joints) -> np.ndarray:
    """Return the median position (2,) of a person's joints [px]."""
    return np.median(joint_pixels(joints), axis=0)


def prominence(joints: Joints) -> float:
    """Return how large and how surely a person is seen: extent [px] times the sum of confidences."""
    values = np.array(list(joints.values()))
    return float(np.ptp(values[:, :2], axis=0).max() * values[:, 2].sum())


def move_joints(joints: Joints, pixels: np.ndarray) -> Joints:
    """Return the joints at new pixels (N, 2), in the order of ``joints``; confidences stay."""
    return {
        name: (float(x), float(y), value[2])
        for (name, value), (x, y) in zip(joints.items(), pixels.tolist(), strict=True)
    }
