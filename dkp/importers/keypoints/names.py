"""What keypoints are called: by the layout of their order, by the names in their files, or by a map of the user."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from dkp.captures.arrays import shown
from dkp.captures.joints import LAYOUTS, fitting_layout
from dkp.errors import InputError
from dkp.importers.cameras.parts import OPENCV_TO_CENTRED
from dkp.importers.keypoints.detections import Detections, Joints
from dkp.sentences import near

LEFT_OUT = "_"
"""The name of a keypoint that is not read."""

_ENOUGH_PEOPLE = 5  # from so many on, a layout that was asked for is refused where another one fits far better
_SYNONYMS = {
    "pelvis": "mid_hip", "hip": "mid_hip", "root": "mid_hip", "thorax": "neck", "upper_neck": "neck",
    "head_top": "head", "top_head": "head", "big_toe": "toe", "foot": "ankle", "hand": "wrist", "snout": "nose",
    "tailbase": "tail_base", "base_of_tail": "tail_base", "tail_end": "tail_tip", "tailtip": "tail_tip",
    "front_paw": "fore_paw", "forepaw": "fore_paw", "hindpaw": "hind_paw", "back_paw": "hind_paw", "earbase": "ear",
}  # fmt: skip
"""Other programs' words -> the named points of the shipped surfaces; left and right stand before them."""


def joint_names(detections: Sequence[Detections], layout: str | Path = "auto") -> list[str]:
    """Return the names of the keypoints, in their order; :data:`LEFT_OUT` for those that are not read.

    Args:
        detections: of all cameras.
        layout: "auto": the files' own names, in the spelling of dkp ("RShoulder" is right_shoulder), or the layout
            that fits the order; one of :data:`LAYOUTS`; or a YAML file with a line "their name: our name" (in place of
            the name its number, from 0, where files have an order only). Keypoints that it does not list are left out.

    Raises:
        InputError: the layout or the map does not fit the files, or cannot be told.
    """
    first = detections[0]
    for other in detections[1:]:
        if other.names != first.names and other.people and first.people:
            raise InputError(
                f"{other.path} has the keypoints {shown(list(other.names or ()))}, expected "
                f"{shown(list(first.names or ()))} as in {first.path.name}"
            )
    if Path(layout).suffix.lower() in (".yaml", ".yml"):
        count = next((len(person) for some in detections for person in some.people), len(first.names or ()))
        return _mapped(Path(layout), first.names or tuple(map(str, range(count))))
    if first.names is not None and layout == "auto":
        plain = [plain_name(name) for name in first.names]
        return [name if plain.count(name) == 1 else own for name, own in zip(plain, first.names, strict=True)]
    return LAYOUTS[find_layout(detections, str(layout))]


def plain_name(name: str) -> str:
    """Return a keypoint's name in the spelling of dkp: "RShoulder", "Right shoulder" and "r-shoulder" are one."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"^([LR])(?=[A-Z][a-z])", r"\1_", name))
    words = [word for word in re.split(r"[\W_]+", spaced.lower()) if word]
    side = next((side for side in ("left", "right") for word in (side, side[0]) if word in words), None)
    rest = "_".join(word for word in words if side is None or word not in (side, side[0])) or name
    rest = rest if side and rest == "hip" else _SYNONYMS.get(rest, rest)
    return rest if side is None else f"{side}_{rest}"


def _mapped(path: Path, names: Sequence[str]) -> list[str]:
    try:
        data = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({shown(str(error))}), expected YAML") from error
    if not isinstance(data, dict) or not data:
        raise InputError(f"{path} is {shown(data)}, expected lines of `their name: our name`")
    given = {str(key): value for key, value in data.items()}
    for key, value in given.items():
        if key not in names:
            raise InputError(f"{path}: {key!r} is no keypoint{near(key, names)}, expected some of {', '.join(names)}")
        if value is not None and not (isinstance(value, str) and value):
            raise InputError(f"{path}: {key} is {shown(value)}, expected the name of a point, or null to leave it out")
    named = [given.get(name) or LEFT_OUT for name in names]
    twice = [name for name in named if name != LEFT_OUT and named.count(name) > 1]
    if twice:
        raise InputError(f"{path} has {twice[0]!r} for two keypoints, expected every name once")
    return named


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
        raise InputError(f"layout is {layout!r}, expected one of auto, {', '.join(LAYOUTS)} or a .yaml file of names")
    people = [person[:, :2] for some in detections for person in some.people]
    folder = detections[0].path.parent if len(detections) > 1 else detections[0].path
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
            + f" ({', '.join(f'{name} {count}' for name, count in known.items())}), or a .yaml file that names them"
        )
    orders = {
        fitting_layout([person[:, :2] for person in some.people])[0]: some.path
        for some in detections
        if len(some.people) >= _ENOUGH_PEOPLE
    }
    orders.pop(None, None)
    if len(orders) > 1:
        found = " and ".join(f"{path} in that of {order}" for order, path in orders.items())
        raise InputError(f"the keypoints are in different orders, those of {found}, expected one order")
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


def named_joints(keypoints: np.ndarray, names: Sequence[str]) -> Joints:
    """Name a person's keypoints (K, 3).

    Returns:
        Joint name -> (x, y, confidence) with pixel centres at integer + 0.5. Joints that were not found are left out;
        the middle of two found hips is added as ``mid_hip``.
    """
    joints: Joints = {}
    for name, (x, y, confidence) in zip(names, keypoints.tolist(), strict=True):
        if name != LEFT_OUT and np.isfinite(x):
            joints[name] = (x + OPENCV_TO_CENTRED, y + OPENCV_TO_CENTRED, confidence)
    if "mid_hip" not in joints and "left_hip" in joints and "right_hip" in joints:
        left, right = joints["left_hip"], joints["right_hip"]
        joints["mid_hip"] = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2, min(left[2], right[2]))
    return joints
