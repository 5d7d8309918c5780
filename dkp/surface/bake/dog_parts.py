"""Cutting the dog's surface into 24 parts, twelve a side, each a disc."""

import numpy as np

from dkp.surface.bake.parts import majority

_SIDE_PARTS = (
    "head",
    "ear",
    "neck",
    "thorax",
    "loin",
    "tail",
    "upper_foreleg",
    "lower_foreleg_outer",
    "lower_foreleg_inner",
    "thigh",
    "lower_hindleg_outer",
    "lower_hindleg_inner",
)

PART_NAMES = tuple(f"{side}_{name}" for name in _SIDE_PARTS for side in ("left", "right"))
MIRROR_PART = np.array([0] + [k + 1 if k % 2 else k - 1 for k in range(1, len(PART_NAMES) + 1)])
"""The part on the other side of the body, indexed by part number (0 unused)."""

_REGION_OF_BONE = {
    "head": "head",
    "jaw": "head",
    "torso": "thorax",
    "pelvis": "loin",
    "scapula": "upper_foreleg",
    "upper_arm": "upper_foreleg",
    "forearm": "lower_foreleg",
    "fore_foot": "lower_foreleg",
    "fore_toes": "lower_foreleg",
    "thigh": "thigh",
    "shank": "lower_hindleg",
    "hind_foot": "lower_hindleg",
    "hind_toes": "lower_hindleg",
}
_REGION_OF_STEM = {"neck": "neck", "lumbar": "loin", "tail": "tail"}

_FORELEG = ("left_shoulder", "left_elbow", "left_wrist", "left_fore_paw")
_HINDLEG = ("left_hip", "left_knee", "left_hock", "left_hind_paw")

_INNER_OF = {"upper_foreleg": "thorax", "thigh": "loin"}
"""The inner side of the upper legs joins the trunk."""


def left_half_parts(
    vertices: np.ndarray, faces: np.ndarray, weights: np.ndarray, bone_names: list[str], joints: dict[str, np.ndarray]
) -> np.ndarray:
    """Part number of every face of the left half.

    The region is the one with the largest skin weight; ears and the back of the head go by their position. Legs are cut
    along the plane through their joints into an outer and an inner side.

    Args:
        vertices: (V, 3), x left, y up, z forward [m].
        faces: (F, 3) of the left half.
        weights: (L, J) skin weights of the vertices of the left half, which come first.
        bone_names: J names.
        joints: rest joints [m].

    Returns:
        (F,) in 1..24.
    """
    regions = list(dict.fromkeys([*_REGION_OF_BONE.values(), *_REGION_OF_STEM.values(), "ear"]))
    share = np.zeros((len(weights), len(regions)))
    for number, name in enumerate(bone_names):
        if name.startswith("right_"):
            continue
        short = name.removeprefix("left_")
        region = _REGION_OF_BONE.get(short) or _REGION_OF_STEM[short.split("_")[0]]
        share[:, regions.index(region)] += weights[:, number]
    centre = vertices[faces].mean(1)
    label = np.argmax(share[faces].mean(1), axis=1)
    axis = joints["left_ear_tip"] - joints["left_ear"]
    above = (centre - joints["left_ear"]) @ axis / (axis @ axis) > 0.0
    head = label == regions.index("head")
    # What lies behind the ears goes with the neck, so that the ears do not make a hole in the head.
    label[head & (centre[:, 2] < joints["left_ear"][2])] = regions.index("neck")
    label[head & above & (centre[:, 0] > 0.03)] = regions.index("ear")
    label = majority(faces, label)
    part = np.zeros(len(faces), dtype=np.int64)
    for number, region in enumerate(regions):
        inside = np.flatnonzero(label == number)
        outer = np.ones(len(inside), dtype=bool)
        names = [region, region]
        if "leg" in region or region == "thigh":
            outer = _outside(centre[inside], [joints[name] for name in (_FORELEG if "fore" in region else _HINDLEG)])
            names = [_INNER_OF.get(region, f"{region}_inner"), region if region in _INNER_OF else f"{region}_outer"]
        numbers = [PART_NAMES.index(f"left_{name}") + 1 for name in names]
        part[inside] = np.where(outer, numbers[1], numbers[0])
    return majority(faces, part)


def _outside(points: np.ndarray, chain: list[np.ndarray]) -> np.ndarray:
    """Whether points lie to the left of a leg's joints."""
    height = np.array([joint[1] for joint in chain])[::-1]
    return points[:, 0] > np.interp(points[:, 1], height, np.array([joint[0] for joint in chain])[::-1])
