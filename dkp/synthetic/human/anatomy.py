"""Anatomical joint angles and the bone rotations they stand for."""

from collections.abc import Mapping
from functools import cache

import numpy as np
from scipy.spatial.transform import Rotation

from dkp.synthetic.body import load_body

LIMITS: Mapping[str, tuple[float, float]] = {
    "lean": (-15, 60),  # pelvis forwards
    "list": (-15, 15),  # pelvis towards the right
    "spine_flex": (-25, 60),
    "spine_side": (-28, 28),
    "spine_twist": (-42, 42),
    "head_pitch": (-45, 45),
    "head_yaw": (-65, 65),
    "head_roll": (-25, 25),
} | {
    f"{side}_{name}": limit
    for side in ("left", "right")
    for name, limit in {
        "shrug": (-5, 22),
        "arm_raise": (0, 170),  # 0 hanging, 90 horizontal
        "arm_forward": (-90, 115),  # direction of the raise: 0 sideways, 90 forwards
        "arm_twist": (-45, 45),
        "elbow": (2, 140),
        "forearm_twist": (-70, 70),
        "wrist": (-50, 50),
        "wrist_side": (-18, 18),
        "curl": (0, 85),
        "thumb": (-5, 35),
        "hip_flex": (-22, 115),
        "hip_out": (-12, 40),
        "hip_turn": (-25, 35),
        "knee": (1, 130),
        "ankle": (-38, 25),  # positive lifts the toes
        "toes": (-30, 25),
    }.items()
}
"""Range of every angle [degrees]."""

ANGLES: tuple[str, ...] = tuple(LIMITS)


def bone_rotations(angles: np.ndarray) -> np.ndarray:
    """Local rotations (T, J, 3, 3) of the human body for anatomical angles (T, A) [degrees] in the order ANGLES."""
    body, axes = load_body("human"), _axes()
    angle = {name: np.radians(angles[:, k]) for k, name in enumerate(ANGLES)}
    local = {
        "pelvis": _about("z", angle["list"]) * _about("x", angle["lean"]),
        "neck": _head(angle, 0.45),
        "head": _head(angle, 0.55),
    }
    for bone, share in (("spine_1", 0.35), ("spine_2", 0.35), ("spine_3", 0.3)):
        local[bone] = (
            _about("y", share * angle["spine_twist"])
            * _about("z", share * angle["spine_side"])
            * _about("x", share * angle["spine_flex"])
        )
    for side, sign in (("left", 1.0), ("right", -1.0)):
        of = {name.removeprefix(f"{side}_"): value for name, value in angle.items() if name.startswith(side)}
        local |= _arm(side, sign, of, axes) | _leg(side, sign, of, axes)
    result = np.tile(np.eye(3, dtype=np.float32), (len(angles), len(body.bone_names), 1, 1))
    for bone, rotation in local.items():
        result[:, body.bone_index[bone]] = rotation.as_matrix()
    return result


def _head(angle: dict[str, np.ndarray], share: float) -> Rotation:
    return (
        _about("y", share * angle["head_yaw"])
        * _about("z", share * angle["head_roll"])
        * _about("x", share * angle["head_pitch"])
    )


def _arm(side: str, sign: float, of: dict[str, np.ndarray], axes: dict[str, np.ndarray]) -> dict[str, Rotation]:
    rest, palm, hand = (axes[f"{side}_{name}"] for name in ("arm", "palm", "hand"))
    raised, forward = of["arm_raise"], of["arm_forward"]
    goal = np.column_stack([sign * np.sin(raised) * np.cos(forward), -np.cos(raised), np.sin(raised) * np.sin(forward)])
    forwards = np.array([0.0, 0.0, 1.0])
    curl_axis = np.cross(hand, palm)
    # The shoulder girdle takes part in raising the arm from the horizontal on.
    girdle = _about("z", sign * (of["shrug"] + 0.25 * np.clip(raised - np.radians(70), 0, None)))
    local = {
        f"{side}_clavicle": girdle,
        f"{side}_upper_arm": girdle.inv() * _between(rest, goal) * _about(rest, sign * of["arm_twist"]),
        f"{side}_lower_arm": _about(np.cross(rest, forwards), of["elbow"]),
        f"{side}_forearm_twist": _about(hand, sign * of["forearm_twist"]),
        f"{side}_hand": _about(palm, sign * of["wrist_side"]) * _about(curl_axis, of["wrist"]),
        f"{side}_thumb_1": _about(curl_axis, 0.6 * of["thumb"]),
        f"{side}_thumb_2": _about(curl_axis, of["thumb"]),
    }
    for finger, share in (("index", 0.85), ("middle", 1.0), ("ring", 1.05), ("little", 1.1)):
        local[f"{side}_{finger}_1"] = _about(curl_axis, 0.8 * share * of["curl"])
        local[f"{side}_{finger}_2"] = _about(curl_axis, share * of["curl"])
    return local


def _leg(side: str, sign: float, of: dict[str, np.ndarray], axes: dict[str, np.ndarray]) -> dict[str, Rotation]:
    rest = axes[f"{side}_leg"]
    spread = np.arctan2(abs(rest[0]), -rest[1])
    out = of["hip_out"] - spread
    hinge = np.cross(rest, [0.0, 0.0, -1.0])
    # The ankle undoes the leg's sideways tilt, as far as an ankle can, so that the sole stays level.
    level = np.clip(-out, spread - np.radians(18), spread + np.radians(18))
    return {
        f"{side}_upper_leg": _about("x", -of["hip_flex"])
        * _about("z", sign * out)
        * _about(-rest, sign * of["hip_turn"]),
        f"{side}_lower_leg": _about(hinge, of["knee"]),
        f"{side}_foot": _about("z", sign * level) * _about("x", -of["ankle"]),
        f"{side}_toes": _about("x", -of["toes"]),
    }


def _about(axis: str | np.ndarray, angle: np.ndarray) -> Rotation:
    """Rotations by ``angle`` (T,) [rad] about one axis."""
    direction = np.eye(3)["xyz".index(axis)] if isinstance(axis, str) else axis / np.linalg.norm(axis)
    return Rotation.from_rotvec(angle[:, None] * direction)


def _between(start: np.ndarray, goal: np.ndarray) -> Rotation:
    """Return the smallest rotations that turn ``start`` (3,) into the unit vectors ``goal`` (T, 3)."""
    quaternion = np.column_stack([np.cross(start, goal), 1.0 + goal @ start])
    return Rotation.from_quat(quaternion)


@cache
def _axes() -> dict[str, np.ndarray]:
    """Return unit directions of the rest pose: upper arm, palm, hand and leg of both sides."""
    body = load_body("human")
    _, heads, _ = body.rest()
    at = {name: heads[k].astype(np.float64) for name, k in body.bone_index.items()}
    axes: dict[str, np.ndarray] = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        hand = at[f"{side}_middle_1"] - at[f"{side}_hand"]
        across = at[f"{side}_index_1"] - at[f"{side}_little_1"]
        axes[f"{side}_arm"] = at[f"{side}_lower_arm"] - at[f"{side}_upper_arm"]
        axes[f"{side}_hand"] = hand
        axes[f"{side}_palm"] = sign * np.cross(hand, across)
        axes[f"{side}_leg"] = at[f"{side}_lower_leg"] - at[f"{side}_upper_leg"]
    return {name: value / np.linalg.norm(value) for name, value in axes.items()}
