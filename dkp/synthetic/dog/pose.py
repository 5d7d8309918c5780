"""From what a dog does with trunk, head, tail and paws to the rotations of its bones.

A pose is a vector of *controls*. Those of the spine, head and tail are angles [degrees]; the trunk is placed by the
heights of shoulders and hips, and each leg by where its paw is: the bones of the legs follow by inverse kinematics for
the very proportions of a dog, so that paws stand on the floor whatever the trunk does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from dkp.synthetic.body import load_body

LEGS = ("left_fore", "right_fore", "left_hind", "right_hind")

RANGES: Mapping[str, tuple[float, float]] = {
    "front": (0.42, 1.02),  # height of the shoulders as a share of that in the rest pose
    "rear": (0.27, 1.08),  # of the hips
    "roll": (-8, 8),  # of the trunk, to the dog's right
    "arch": (-18, 45),  # of the loin, up
    "side": (-22, 22),  # of the loin, pelvis to the left
    "twist": (-10, 10),
    "neck_pitch": (-35, 100),  # positive lowers the head
    "neck_yaw": (-70, 70),  # positive to the left
    "neck_roll": (-25, 25),
    "head_pitch": (-35, 40),
    "head_yaw": (-20, 20),
    "head_roll": (-20, 20),
    "jaw": (-14, 4),  # -14 closed
    "tail_lift": (-50, 95),
    "tail_curl": (-60, 200),
    "tail_wag": (-75, 75),
} | {
    f"{leg}_{name}": limit
    for leg in LEGS
    for name, limit in {
        "forward": (-0.9, 0.9),  # of the paw before shoulder or hip, as a share of the height of shoulder or hip
        "out": (-0.2, 0.3),  # beyond where it is in the rest pose
        "lift": (0.0, 0.6),
        "foot": (-100, 100),  # of the metapodium, positive moves wrist or hock forwards over the paw
        "paw": (-20, 80),  # positive points the toes down
    }.items()
}
"""Range of every control."""

CONTROLS: tuple[str, ...] = tuple(RANGES)

JOINT_LIMITS: Mapping[str, tuple[float, float]] = {
    "scapula": (-24, 24),
    "upper_arm": (-60, 60),
    "forearm": (-115, 12),
    "fore_foot": (-45, 95),
    "fore_toes": (-75, 80),
    "thigh": (-95, 60),
    "shank": (-15, 122),
    "hind_foot": (-105, 55),
    "hind_toes": (-75, 90),
}
"""Range of the bones of the legs about the axis from right to left, from the rest pose [degrees]: near those of
dm-control's joints. Positive swings the lower end backwards."""

SPREAD_LIMITS = (-22.0, 35.0)
"""Range of upper arm and thigh about the axis from tail to head, positive outwards [degrees]."""

_NECK = tuple(f"neck_{k}" for k in range(1, 8))
_LUMBAR = tuple(f"lumbar_{k}" for k in range(1, 8))
_TAIL = tuple(f"tail_{k}" for k in range(1, 22))
_CHAINS = {
    "fore": ("scapula", "upper_arm", "forearm", "fore_foot", "fore_toes"),
    "hind": ("pelvis", "thigh", "shank", "hind_foot", "hind_toes"),
}


@dataclass(frozen=True)
class Build:
    """One dog's proportions: the heads (3,) of its bones in the rest pose and the height of the floor there [m]."""

    at: Mapping[str, np.ndarray]
    floor: float

    @classmethod
    def of_shape(cls, shape: np.ndarray | None) -> Build:
        """Return the proportions for shape parameters (S,)."""
        body = load_body("dog")
        vertices, heads, _ = body.rest(shape)
        at = {name: heads[k].astype(np.float64) for name, k in body.bone_index.items()}
        return cls(at, float(vertices[:, 1].min()))

    def height(self, leg: str) -> float:
        """Of the leg's uppermost joint above the floor in the rest pose [m]."""
        bone = "upper_arm" if leg.endswith("fore") else "thigh"
        return float(self.at[f"{leg.split('_')[0]}_{bone}"][1]) - self.floor


def dog_rotations(controls: np.ndarray, build: Build) -> tuple[np.ndarray, np.ndarray]:
    """Bone rotations and trunk of a dog that heads along +z and stands on the floor y = 0.

    Args:
        controls: (T, C) in the order :data:`CONTROLS`.
        build: Whose bones.

    Returns:
        Local rotations (T, J, 3, 3) for ``SkinnedBody.pose`` and root maps (T, 4, 4) [m].
    """
    value = {name: controls[:, k] for k, name in enumerate(CONTROLS)}
    angle = {name: np.radians(column) for name, column in value.items()}
    local = _spine(angle) | _tail(angle)
    pelvis, hips = _carried(build, local, [*_LUMBAR, "pelvis"], ("left_thigh", "right_thigh"))
    hip = hips.mean(0)
    shoulder = np.broadcast_to(0.5 * (build.at["left_upper_arm"] + build.at["right_upper_arm"]), hip.shape)

    # The trunk pitches so that shoulders and hips get their heights.
    front, rear = value["front"] * build.height("left_fore"), value["rear"] * build.height("left_hind")
    along = shoulder - hip
    length = np.hypot(along[:, 1], along[:, 2])
    pitch = np.arctan2(along[:, 1], along[:, 2]) - np.arcsin(np.clip((front - rear) / length, -0.98, 0.98))
    trunk = _about("x", pitch) @ _about("z", angle["roll"])
    offset = -np.einsum("tij,tj->ti", trunk, 0.5 * (shoulder + hip))
    offset[:, 1] = front - np.einsum("tij,tj->ti", trunk, shoulder)[:, 1]
    for leg in LEGS:
        local |= _leg(leg, value, build, trunk, offset, pelvis, hips)

    body = load_body("dog")
    rotations = np.tile(np.eye(3, dtype=np.float32), (len(controls), len(body.bone_names), 1, 1))
    for bone, rotation in local.items():
        rotations[:, body.bone_index[bone]] = rotation
    root = np.tile(np.eye(4, dtype=np.float32), (len(controls), 1, 1))
    root[:, :3, :3], root[:, :3, 3] = trunk, offset
    return rotations, root


def _spine(angle: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Loin, neck, head and jaw; angles are shared by the bones of a chain."""
    share = 1.0 / len(_LUMBAR)
    # The chain of the loin runs backwards: its bones turn the hindquarters.
    loin = (
        _about("y", -share * angle["side"]) @ _about("z", share * angle["twist"]) @ _about("x", -share * angle["arch"])
    )
    local = dict.fromkeys(_LUMBAR, loin)
    for bone, part in zip(_NECK, (0.16, 0.18, 0.17, 0.15, 0.13, 0.11, 0.10), strict=True):
        local[bone] = (
            _about("y", part * angle["neck_yaw"])
            @ _about("z", part * angle["neck_roll"])
            @ _about("x", part * angle["neck_pitch"])
        )
    local["head"] = _about("y", angle["head_yaw"]) @ _about("z", angle["head_roll"]) @ _about("x", angle["head_pitch"])
    local["jaw"] = _about("x", angle["jaw"])
    return local


def _tail(angle: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tail: lifted and wagged mostly near its base, curled along all of it."""
    base = np.exp(-np.arange(len(_TAIL)) / 5.0)
    base /= base.sum()
    curl = np.linspace(0.5, 1.5, len(_TAIL)) / len(_TAIL)
    return {
        bone: _about("y", base[k] * angle["tail_wag"])
        @ _about("x", base[k] * angle["tail_lift"] + curl[k] * angle["tail_curl"])
        for k, bone in enumerate(_TAIL)
    }


def _carried(
    build: Build, local: Mapping[str, np.ndarray], chain: list[str], ends: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (T, 3, 3) of the end of a chain that starts at the torso, and where it takes bone heads (E, T, 3)."""
    turned = np.tile(np.eye(3), (len(local[chain[0]]), 1, 1))
    before, reached = np.zeros(3), np.zeros((len(turned), 3))
    for bone in chain:
        reached = reached + turned @ (build.at[bone] - before)
        before = build.at[bone]
        if bone in local:
            turned = turned @ local[bone]
    return turned, np.stack([reached + turned @ (build.at[end] - before) for end in ends])


def _leg(
    leg: str,
    value: Mapping[str, np.ndarray],
    build: Build,
    trunk: np.ndarray,
    offset: np.ndarray,
    pelvis: np.ndarray,
    hips: np.ndarray,
) -> dict[str, np.ndarray]:
    """Local rotations of the bones of a leg whose paw is to be at a point."""
    side, kind = leg.split("_")
    sign = 1.0 if side == "left" else -1.0
    first, upper, lower, foot, toes = (f"{side}_{bone}" if bone != "pelvis" else bone for bone in _CHAINS[kind])
    at = build.at
    forward, lift = value[f"{leg}_forward"], value[f"{leg}_lift"]
    local: dict[str, np.ndarray] = {}
    if kind == "fore":
        start = trunk @ at[upper] + offset
        # The shoulder blade follows the paw, which lengthens the step.
        swing = np.clip(np.radians(-70.0 * forward), *np.radians(JOINT_LIMITS["scapula"]))
        local[first] = _about("x", swing)
        parent = trunk @ local[first]
        joint = trunk @ at[first] + parent @ (at[upper] - at[first]) + offset
    else:
        parent = trunk @ pelvis
        start = joint = np.einsum("tij,tj->ti", trunk, hips[0 if side == "left" else 1]) + offset
    height = build.height(leg)
    paw = np.empty_like(start)
    paw[:, 0] = start[:, 0] + (at[toes] - at[upper])[0] + sign * value[f"{leg}_out"] * height
    paw[:, 1] = at[toes][1] - build.floor + lift * height
    paw[:, 2] = start[:, 2] + forward * height
    # In a stride the metapodium leans back when the paw is put down and forward when it pushes off.
    lean = (-45.0 * forward if kind == "fore" else -60.0 * (forward + 0.2)) + value[f"{leg}_foot"]
    metapodium = _about("x", np.radians(lean))
    ankle = paw - metapodium @ (at[toes] - at[foot])
    local[upper], local[lower] = _reach(
        np.einsum("tji,tj->ti", parent, ankle - joint), at[lower] - at[upper], at[foot] - at[lower], upper, lower, sign
    )
    shin = parent @ local[upper] @ local[lower]
    local[foot] = _limited(shin.swapaxes(1, 2) @ metapodium, JOINT_LIMITS[_bare(foot)])
    flat = _about("x", np.radians(value[f"{leg}_paw"]))
    local[toes] = _limited((shin @ local[foot]).swapaxes(1, 2) @ flat, JOINT_LIMITS[_bare(toes)])
    return local


def _reach(
    goal: np.ndarray, first: np.ndarray, second: np.ndarray, upper: str, lower: str, sign: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rotations of two bones that bring the end of the second to a point, or as near as it can be.

    The lower joint is a hinge about x; the upper one turns about x and then about z.

    Args:
        goal: (T, 3) from the upper joint, in the axes of its parent [m].
        first: (3,) the first bone in the rest pose, ``second`` (3,) the second [m].
        second: See ``first``.
        upper: Name of the upper bone, ``lower`` of the lower one.
        lower: See ``upper``.
        sign: 1 for a left leg, -1 for a right one.

    Returns:
        Local rotations (T, 3, 3) of both bones.
    """
    # first . Rx(t) second = c + a cos(t - straight): the leg is longest at t = straight, and bends to one side of it.
    cosine = first[1] * second[1] + first[2] * second[2]
    sine = first[2] * second[1] - first[1] * second[2]
    reach, straight = np.hypot(cosine, sine), np.arctan2(sine, cosine)
    wanted = 0.5 * ((goal**2).sum(1) - first @ first - second @ second) - first[0] * second[0]
    bend = np.arccos(np.clip(wanted / reach, -1.0, 0.9995))
    hinge = np.clip(straight - np.sign(straight) * bend, *np.radians(JOINT_LIMITS[_bare(lower)]))
    reached = first + _about("x", hinge) @ second
    # Rz(spread) Rx(swing) takes ``reached`` into the direction of the goal.
    length = np.linalg.norm(reached, axis=1) / np.maximum(np.linalg.norm(goal, axis=1), 1e-9)
    aim = goal * length[:, None]
    depth = np.hypot(reached[:, 1], reached[:, 2])
    swing = np.arcsin(np.clip(aim[:, 2] / depth, -1.0, 1.0)) - np.arctan2(reached[:, 2], -reached[:, 1])
    swing = np.clip(-swing, *np.radians(JOINT_LIMITS[_bare(upper)]))
    swung = np.einsum("tij,tj->ti", _about("x", swing), reached)
    spread = np.arctan2(aim[:, 0], -aim[:, 1]) - np.arctan2(swung[:, 0], -swung[:, 1])
    spread = sign * np.clip(sign * spread, *np.radians(SPREAD_LIMITS))
    return _about("z", spread) @ _about("x", swing), _about("x", hinge)


def _limited(rotation: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Rotations (T, 3, 3) whose part about x is brought into limits [degrees]."""
    x = np.arctan2(rotation[:, 2, 1] - rotation[:, 1, 2], rotation[:, 1, 1] + rotation[:, 2, 2])
    return rotation @ _about("x", np.clip(x, *np.radians(limits)) - x)


def _about(axis: str, angle: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3) by ``angle`` (T,) [rad] about a coordinate axis."""
    return Rotation.from_euler(axis, angle[:, None]).as_matrix()


def _bare(bone: str) -> str:
    return bone.removeprefix("left_").removeprefix("right_")
