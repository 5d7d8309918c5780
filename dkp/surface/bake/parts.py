"""Cutting the human surface into the 24 parts that DensePose numbers, each a disc."""

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from dkp.surface.charts import face_adjacency

PART_NAMES = (
    "torso_back",
    "torso_front",
    "right_hand",
    "left_hand",
    "left_foot",
    "right_foot",
    "right_upper_leg_back",
    "left_upper_leg_back",
    "right_upper_leg_front",
    "left_upper_leg_front",
    "right_lower_leg_back",
    "left_lower_leg_back",
    "right_lower_leg_front",
    "left_lower_leg_front",
    "left_upper_arm_inner",
    "right_upper_arm_inner",
    "left_upper_arm_outer",
    "right_upper_arm_outer",
    "left_lower_arm_inner",
    "right_lower_arm_inner",
    "left_lower_arm_outer",
    "right_lower_arm_outer",
    "right_head",
    "left_head",
)
MIRROR_PART = np.array([0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 24, 23])
"""The part on the other side of the body, indexed by part number (0 unused)."""

# Region of each bone of the left half; (parts with the axis side False, True) of the left side.
_REGION_OF_BONE = {
    "pelvis": "torso",
    "spine_1": "torso",
    "spine_2": "torso",
    "spine_3": "torso",
    "clavicle": "torso",
    "neck": "head",
    "head": "head",
    "upper_arm": "upper_arm",
    "lower_arm": "lower_arm",
    "forearm_twist": "lower_arm",
    "upper_leg": "upper_leg",
    "lower_leg": "lower_leg",
    "foot": "foot",
    "toes": "foot",
}
_PARTS_OF_REGION = {
    "torso": (1, 2),
    "hand": (4, 4),
    "foot": (5, 5),
    "upper_leg": (8, 10),
    "lower_leg": (12, 14),
    "upper_arm": (17, 15),
    "lower_arm": (21, 19),
    "head": (24, 24),
}


def left_half_parts(
    vertices: np.ndarray, faces: np.ndarray, weights: np.ndarray, bone_names: list[str], joints: dict[str, np.ndarray]
) -> np.ndarray:
    """Part number of every face of the left half.

    The region (torso, hand, ...) is the one with the largest skin weight. Limbs and torso are then cut in two along a
    line through their joints: legs and torso into back and front, arms into the inner (palm) and the outer side.

    Args:
        vertices: (V, 3) of the left half, x left, y up, z forward [m].
        faces: (F, 3).
        weights: (V, J) skin weights.
        bone_names: J names.
        joints: rest joints [m]; additionally ``left_palm``, the direction the left palm faces.

    Returns:
        (F,) in 1..24.
    """
    regions = list(_PARTS_OF_REGION)
    share = np.zeros((len(vertices), len(regions)))
    for number, name in enumerate(bone_names):
        if name.startswith("right_"):
            continue
        short = name.removeprefix("left_")
        share[:, regions.index(_REGION_OF_BONE.get(short, "hand"))] += weights[:, number]
    label = np.argmax(share[faces].mean(1), axis=1)
    label = majority(faces, label)
    centre = vertices[faces].mean(1)
    part = np.zeros(len(faces), dtype=np.int64)
    for number, region in enumerate(regions):
        inside = label == number
        side = _axis_side(region, centre, joints)
        part[inside] = np.where(side[inside], _PARTS_OF_REGION[region][1], _PARTS_OF_REGION[region][0])
    return majority(faces, part)


def _axis_side(region: str, centre: np.ndarray, joints: dict[str, np.ndarray]) -> np.ndarray:
    """Whether a point lies on the front (torso, legs) or the inner side (arms) of the line through the joints."""
    if region == "torso":
        chain = [joints["left_hip"], joints["left_chest"], joints["left_shoulder"], joints["neck"]]
        height = np.array([p[1] for p in chain])
        middle = np.interp(centre[:, 1], height, [p[2] for p in chain])
        return centre[:, 2] > middle
    if region in ("upper_leg", "lower_leg"):
        chain = [joints["left_ankle"], joints["left_knee"], joints["left_hip"]]
        height = np.array([p[1] for p in chain])
        return centre[:, 2] > np.interp(centre[:, 1], height, [p[2] for p in chain])
    if region in ("upper_arm", "lower_arm"):
        start, end = ("shoulder", "elbow") if region == "upper_arm" else ("elbow", "wrist")
        origin = joints[f"left_{start}"]
        axis = joints[f"left_{end}"] - origin
        axis = axis / np.linalg.norm(axis)
        inner = joints["left_palm"] - axis * (joints["left_palm"] @ axis)
        return (centre - origin) @ inner > 0
    return np.zeros(len(centre), dtype=bool)


def majority(faces: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Straighten the borders between labels and remove islands, by votes of the faces around."""
    pairs = face_adjacency(faces)
    label = label.copy()
    values = np.unique(label)
    for _ in range(20):
        votes = np.zeros((len(faces), len(values)))
        own = np.searchsorted(values, label)
        votes[np.arange(len(faces)), own] += 0.9  # two neighbours of another part outvote a face
        np.add.at(votes, pairs[:, 0], np.eye(len(values))[own[pairs[:, 1]]])
        np.add.at(votes, pairs[:, 1], np.eye(len(values))[own[pairs[:, 0]]])
        label = values[np.argmax(votes, axis=1)]
    while True:
        same = label[pairs[:, 0]] == label[pairs[:, 1]]
        graph = coo_matrix((np.ones(same.sum()), pairs[same].T), (len(faces), len(faces)))
        _, piece = connected_components(graph, directed=False)
        size = np.bincount(piece)
        largest = {
            int(v): int(np.argmax(np.where(np.isin(np.arange(len(size)), piece[label == v]), size, 0))) for v in values
        }
        island = np.array([piece[f] != largest[int(label[f])] for f in range(len(faces))])
        if not island.any():
            return label
        border = pairs[~same]
        both = np.concatenate([border, border[:, ::-1]])
        both = both[island[both[:, 0]] & ~island[both[:, 1]]]
        label[both[:, 0]] = label[both[:, 1]]
