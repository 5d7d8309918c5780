"""2D body detections: folders of OpenPose JSON files, one file per frame, to named joints."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dkp.captures.arrays import number_array, shown
from dkp.errors import InputError
from dkp.importers.cameras.toml import OPENCV_TO_CENTRED

Joints = dict[str, tuple[float, float, float]]  # name -> x, y [px], confidence

_FACE = "nose left_eye right_eye left_ear right_ear"
_LIMBS = (
    "left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist "
    "left_hip right_hip left_knee right_knee left_ankle right_ankle"
)
_ORDER = {
    "body_25b": f"{_FACE} {_LIMBS} neck head left_toe _ left_heel right_toe _ right_heel",
    "body_25": "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist mid_hip "
    "right_hip right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear "
    "left_toe _ left_heel right_toe _ right_heel",
    "halpe_26": f"{_FACE} {_LIMBS} head neck mid_hip left_toe right_toe _ _ left_heel right_heel",
    "coco_17": f"{_FACE} {_LIMBS}",
    "coco_18": "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist "
    "right_hip right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear",
}
# Small toes have no counterpart among the surface's joints: "_" skips them.
LAYOUTS = {layout: names.split() for layout, names in _ORDER.items()}
"""Joint names of the layouts that are read, in their order."""


def read_detections(folder: str | Path, layout: str = "body_25b") -> dict[int, list[Joints]]:
    """Reads a folder of OpenPose files.

    The number of a frame is the last number in the name of its file ("cam01.0012.json",
    "take_000000000012_keypoints.json").

    Args:
        folder: folder of ``.json`` files with ``people[].pose_keypoints_2d``.
        layout: one of :data:`LAYOUTS`.

    Returns:
        Frame number -> the people found, each as joint name -> (x, y, confidence) with pixel centres at integer + 0.5.
        Joints that were not found (confidence zero) are left out; the middle of two found hips is added as ``mid_hip``.

    Raises:
        InputError: a file cannot be read or does not fit the layout.
    """
    folder = Path(folder)
    if layout not in LAYOUTS:
        raise InputError(f"layout is {layout!r}, expected one of {', '.join(LAYOUTS)}")
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not files:
        raise InputError(f"{folder} has no .json files, expected one file of detections per frame")
    frames: dict[int, list[Joints]] = {}
    for path in files:
        numbers = re.findall(r"\d+", path.stem)
        if not numbers:
            raise InputError(f"{path} has no number in its name, expected the number of its frame")
        frame = int(numbers[-1])
        if frame in frames:
            raise InputError(f"{path} is a second file for frame {frame}, expected one file per frame")
        frames[frame] = _read_people(path, LAYOUTS[layout], layout)
    return frames


def _read_people(path: Path, names: list[str], layout: str) -> list[Joints]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}), expected a JSON file of OpenPose") from error
    people = data.get("people") if isinstance(data, Mapping) else None
    if not isinstance(people, list):
        raise InputError(f"{path}: people is {shown(people)}, expected a list")
    return [_read_person(person, names, layout, f"{path}: people[{index}]") for index, person in enumerate(people)]


def _read_person(person: Any, names: list[str], layout: str, where: str) -> Joints:
    values = person.get("pose_keypoints_2d") if isinstance(person, Mapping) else None
    if not isinstance(values, list) or len(values) != 3 * len(names):
        found = f"has {len(values)} numbers" if isinstance(values, list) else f"is {shown(values)}"
        raise InputError(f"{where}: pose_keypoints_2d {found}, expected {3 * len(names)} numbers for layout {layout}")
    keypoints = number_array(values, (len(values),), f"{where}: pose_keypoints_2d").reshape(-1, 3)
    joints: Joints = {}
    for name, (x, y, confidence) in zip(names, keypoints.tolist(), strict=True):
        if name != "_" and confidence > 0:
            joints[name] = (x + OPENCV_TO_CENTRED, y + OPENCV_TO_CENTRED, confidence)
    if "mid_hip" not in joints and "left_hip" in joints and "right_hip" in joints:
        left, right = joints["left_hip"], joints["right_hip"]
        joints["mid_hip"] = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2, min(left[2], right[2]))
    return joints


def main_person(people: list[Joints], previous: np.ndarray | None = None) -> Joints | None:
    """Chooses one person: the one nearest to where the last one stood, or the largest clearly seen one.

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
    return max(seen, key=_prominence)


def middle(joints: Joints) -> np.ndarray:
    """Returns the median position (2,) of a person's joints [px]."""
    return np.median([value[:2] for value in joints.values()], axis=0)


def _prominence(joints: Joints) -> float:
    values = np.array(list(joints.values()))
    return float(np.ptp(values[:, :2], axis=0).max() * values[:, 2].sum())


def move_joints(joints: Joints, pixels: np.ndarray) -> Joints:
    """Returns the joints at new pixels (N, 2), in the order of ``joints``; confidences stay."""
    return {
        name: (float(x), float(y), value[2])
        for (name, value), (x, y) in zip(joints.items(), pixels.tolist(), strict=True)
    }
