"""Proportions of a dog as linear directions: what scaling a group of bones does to the skin."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_LEGS = ("scapula", "upper_arm", "forearm", "fore_foot", "thigh", "shank", "hind_foot")
_TRUNK = ("torso", "lumbar", "pelvis")

DIRECTIONS: tuple[str, ...] = (
    "size",
    "legs",
    "trunk",
    "girth",
    "limbs",
    "neck",
    "head",
    "muzzle",
    "ears",
    "ears_apart",
    "tail",
    "tail_width",
)
"""Names of the directions."""

_DEVIATION = {
    "size": 0.10,
    "legs": 0.08,
    "trunk": 0.06,
    "girth": 0.09,
    "limbs": 0.12,
    "neck": 0.12,
    "head": 0.07,
    "muzzle": 0.12,
    "ears": 0.18,
    "ears_apart": 0.22,
    "tail": 0.16,
    "tail_width": 0.22,
}
"""Standard deviation of each direction: a share of the length that it scales, of ``ears_apart`` radians. Set by eye."""


@dataclass(frozen=True)
class Skeleton:
    """Bones of the rest pose.

    ``names`` J, ``parents`` (J,), ``heads`` (J, 3) [m]; ``points`` (N, 3) [m] of the named joints, the bones
    ``carriers`` (N,) that carry them, and the same points as ``joints`` by name.
    """

    names: list[str]
    parents: np.ndarray
    heads: np.ndarray
    points: np.ndarray
    carriers: np.ndarray
    joints: dict[str, np.ndarray]


def directions(skeleton: Skeleton, vertices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Displacements (S, V + J + N, 3) [m] of vertices, bone heads and named joints.

    Every bone gets a linear map about its head, children go where the map of their parent takes their heads, and the
    skin follows by linear blend skinning; that is linear in the maps as long as each scales one thing. Muzzle and ears
    have no bones of their own and are moved as smooth parts of the head.

    Args:
        skeleton: The bones.
        vertices: (V, 3) of the rest pose [m].
        weights: (V, J) skin weights.
    """
    maps: dict[str, Callable[[str, int], np.ndarray]] = {
        "size": lambda name, bone: np.eye(3),
        "legs": lambda name, bone: _along(skeleton, bone) if name.endswith(_LEGS) else np.zeros((3, 3)),
        "trunk": lambda name, bone: np.diag([0.0, 0.0, float(name.startswith(_TRUNK))]),
        "girth": lambda name, bone: np.diag([1.0, 1.0, 0.0]) * name.startswith(_TRUNK),
        "limbs": lambda name, bone: (
            np.eye(3) - _along(skeleton, bone) if name.endswith((*_LEGS[1:], "toes")) else np.zeros((3, 3))
        ),
        "neck": lambda name, bone: _along(skeleton, bone) * name.startswith("neck"),
        "head": lambda name, bone: np.eye(3) * (name in ("head", "jaw")),
        "tail": lambda name, bone: _along(skeleton, bone) * name.startswith("tail"),
        "tail_width": lambda name, bone: (np.eye(3) - _along(skeleton, bone)) * name.startswith("tail"),
    }
    fields = {
        "muzzle": lambda points: _muzzle(skeleton, points),
        "ears": lambda points: _ears(skeleton, points, np.eye(3)),
        "ears_apart": lambda points: _ears(skeleton, points, np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 0]])),
    }
    result = []
    for name in DIRECTIONS:
        if name in maps:
            matrices = np.stack([maps[name](bone, k) for k, bone in enumerate(skeleton.names)])
            moved = _moved(skeleton, matrices, vertices, weights)
        else:
            on_head = weights[:, [skeleton.names.index(bone) for bone in ("head", "jaw")]].sum(1)
            of_head = np.isin(skeleton.carriers, [skeleton.names.index(bone) for bone in ("head", "jaw")])
            moved = np.concatenate(
                [
                    fields[name](vertices) * on_head[:, None],
                    np.zeros_like(skeleton.heads),
                    fields[name](skeleton.points) * of_head[:, None],
                ]
            )
        result.append(_DEVIATION[name] * moved)
    return np.stack(result)


def _moved(skeleton: Skeleton, maps: np.ndarray, vertices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Displacement of vertices, heads and named joints for linear maps (J, 3, 3) of the bones about their heads."""
    heads = skeleton.heads
    shift = np.zeros_like(heads)
    for bone, parent in enumerate(skeleton.parents):
        if parent < 0:
            shift[bone] = maps[bone] @ heads[bone]  # a root's map is about the origin
        else:
            shift[bone] = shift[parent] + maps[parent] @ (heads[bone] - heads[parent])
    offset = shift - np.einsum("jik,jk->ji", maps, heads)
    skin = np.einsum("vj,jik,vk->vi", weights, maps, vertices, optimize=True) + weights @ offset
    points = np.einsum("nik,nk->ni", maps[skeleton.carriers], skeleton.points) + offset[skeleton.carriers]
    return np.concatenate([skin, shift, points])


def _along(skeleton: Skeleton, bone: int) -> np.ndarray:
    """Projection (3, 3) onto the direction of a bone, towards its child or on from its parent."""
    children = np.flatnonzero(skeleton.parents == bone)
    name, heads = skeleton.names[bone], skeleton.heads
    if len(children) and not name.startswith(("torso", "pelvis")):
        axis = heads[children[0]] - heads[bone]
    elif name == "tail_21":
        axis = skeleton.joints["tail_tip"] - heads[bone]
    else:
        axis = heads[bone] - heads[skeleton.parents[bone]]
    axis = axis / np.linalg.norm(axis)
    return np.outer(axis, axis)


def _muzzle(skeleton: Skeleton, points: np.ndarray) -> np.ndarray:
    """Stretch of what lies before the eyes, forwards, starting smoothly."""
    start = skeleton.joints["left_eye"][2] + 0.005
    length = skeleton.joints["nose"][2] - start
    share = np.clip((points[:, 2] - start) / length, 0.0, None)
    return np.outer(length * share**2 / (share + 0.3) * 1.3, [0.0, -0.25, 1.0])


def _ears(skeleton: Skeleton, points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Map (3, 3) linearly about the base of the left ear, mirrored for the right one, setting in towards the tip."""
    base, tip = skeleton.joints["left_ear"], skeleton.joints["left_ear_tip"]
    axis = tip - base
    side = np.where(points[:, :1] < 0, -1.0, 1.0) * [[1.0, 0.0, 0.0]] + [[0.0, 1.0, 1.0]]
    local = points * side - base
    share = np.clip(local @ axis / (axis @ axis) + 0.25, 0.0, 1.0)
    beside = np.clip((points[:, 0] * side[:, 0] - 0.02) / 0.03, 0.0, 1.0)  # the crown stays
    amount = share * share * (3 - 2 * share) * beside
    return (local @ matrix.T) * side * amount[:, None]
