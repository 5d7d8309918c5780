"""The joints of a body: the orders in which detectors write them, and the bones between them."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

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

BONES = (
    ("left_shoulder", "left_elbow"), ("right_shoulder", "right_elbow"),
    ("left_elbow", "left_wrist"), ("right_elbow", "right_wrist"),
    ("left_hip", "left_knee"), ("right_hip", "right_knee"),
    ("left_knee", "left_ankle"), ("right_knee", "right_ankle"),
    ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"),
    ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"),
)  # fmt: skip
"""Pairs of joints whose distance changes little with the pose; the first eight are left and right in turn."""
_LINKS = (
    *BONES, ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"), ("right_eye", "right_ear"),
    ("neck", "left_shoulder"), ("neck", "right_shoulder"), ("left_ankle", "left_heel"), ("right_ankle", "right_heel"),
)  # fmt: skip
_LAYOUT_RATIO = 1.5
# Links are so much shorter in the right layout at least. On two recordings, one in body_25 and one in body_25b, the
# median over people was 2.7 and 2.9; it was never on the wrong side for one person of 637.


def bone_lengths(joints: Mapping[str, Sequence[float] | np.ndarray]) -> np.ndarray:
    """Return the lengths (..., B) of :data:`BONES`; NaN where a joint is missing.

    Args:
        joints: name -> (..., D) coordinates.
    """
    missing = np.full_like(next(iter(joints.values()), np.zeros(3)), np.nan, dtype=np.float64)
    ends = np.array([[joints.get(name, missing) for name in bone] for bone in BONES])
    return np.moveaxis(np.linalg.norm(ends[:, 0] - ends[:, 1], axis=-1), 0, -1)


def renamed(names: Iterable[str], wrong: str, right: str) -> dict[str, str]:
    """Return what joints are called that were read in a wrong layout: name so far -> name in the right one."""
    translation = dict(zip(LAYOUTS[wrong], LAYOUTS[right], strict=True))
    return {name: translation[name] for name in names if translation.get(name, "_") != "_"}


def fitting_layout(people: Sequence[np.ndarray]) -> tuple[str | None, dict[str, float]]:
    """Return the layout that fits keypoints: the one in which joints that belong together are near each other by far.

    In a wrong order, lines between unrelated joints take the bones' part, and they are longer.

    Args:
        people: (K, 2) keypoints each [px], all of one K; NaN where not found.

    Returns:
        The layout, None where several fit about as well; and layout -> mean length of a link as a share of the person's
        extent, for every layout of so many keypoints (NaN where nobody has enough of them).
    """
    count = len(people[0]) if people else 0
    whole = [keypoints for keypoints in people if np.isfinite(keypoints).all(axis=1).sum() > count // 2]
    extents = np.array([np.ptp(keypoints[np.isfinite(keypoints).all(axis=1)], axis=0).max() for keypoints in whole])
    lengths: dict[str, float] = {}
    for layout in (layout for layout, names in LAYOUTS.items() if len(names) == count):
        index = {name: i for i, name in enumerate(LAYOUTS[layout])}
        ends = np.array([[index[first], index[second]] for first, second in _LINKS if {first, second} <= index.keys()])
        found = np.array([keypoints[ends[:, 0]] - keypoints[ends[:, 1]] for keypoints in whole]).reshape(
            -1, len(ends), 2
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = np.nanmean(np.linalg.norm(found, axis=2), axis=1) / extents if len(found) else np.zeros(0)
        lengths[layout] = float(np.median(shares)) if len(shares) else float("nan")
    order = sorted(lengths, key=lambda layout: lengths[layout])
    if len(order) < 2:
        return (order[0] if order else None), lengths
    return (order[0] if lengths[order[0]] * _LAYOUT_RATIO < lengths[order[1]] else None), lengths
