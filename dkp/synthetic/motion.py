"""Plausible, smooth human motion without any recorded data: activities made of key poses within joint limits.

A pose is a vector of anatomical angles [degrees], all zero for a person standing upright with the arms hanging. Key
poses are drawn from an activity, joined by monotone cubic curves (so no angle leaves the range of its key poses) and
turned into the local bone rotations of :class:`dkp.synthetic.body.SkinnedBody`. The ranges were set by eye.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation

from dkp.errors import InputError
from dkp.synthetic.body import SkinnedBody

SOLE = 0.025
"""How far the skin of the sole lies below the joints of heel and toe [m]."""

LIMITS: dict[str, tuple[float, float]] = {
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
        "arm_forward": (-35, 115),  # direction of the raise: 0 sideways, 90 forwards
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

Pose = dict[str, float]


def sample_motion(
    rng: np.random.Generator, frames: int, fps: float, activity: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Samples a motion of the human body.

    Args:
        rng: source of all randomness.
        frames: number T of frames.
        fps: frames per second.
        activity: a name in :data:`ACTIVITIES`; by default drawn at random, changing every few seconds.

    Returns:
        Local rotations (T, J, 3, 3) for ``SkinnedBody.pose`` and root maps (T, 4, 4) [m] into a world with y up and
        the floor at y = 0. The person stays near the origin and faces any way.

    Raises:
        InputError: for a count, rate or name that makes no sense.
    """
    if frames < 1 or not fps > 0:
        raise InputError(
            f"motion: found {frames} frames at {fps} per second, expected at least one and a positive rate"
        )
    if activity is not None and activity not in ACTIVITIES:
        raise InputError(f"motion: found activity '{activity}', expected one of {', '.join(ACTIVITIES)}")
    times = np.arange(frames) / fps
    angles = _sample_angles(rng, times, activity)
    return _with_root(rng, angles, times)


def bone_rotations(angles: np.ndarray) -> np.ndarray:
    """Local rotations (T, J, 3, 3) of the human body for anatomical angles (T, A) [degrees] in the order ANGLES."""
    body, axes = _body(), _axes()
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
    """The smallest rotations that turn ``start`` (3,) into the unit vectors ``goal`` (T, 3)."""
    quaternion = np.column_stack([np.cross(start, goal), 1.0 + goal @ start])
    return Rotation.from_quat(quaternion)


@cache
def _body() -> SkinnedBody:
    return SkinnedBody.load("human")


@cache
def _axes() -> dict[str, np.ndarray]:
    """Unit directions of the rest pose: upper arm, palm, hand and leg of both sides."""
    body = _body()
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


def _with_root(rng: np.random.Generator, angles: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bone rotations, and root maps that turn the person some way and put the lower foot on the floor."""
    rotations = bone_rotations(angles)
    span = max(float(times[-1]), 1.0)
    keys = np.linspace(0.0, span, max(2, int(np.ceil(span / 1.5)) + 1))
    turn = rng.uniform(-np.pi, np.pi) + np.cumsum(rng.normal(0.0, 0.25, len(keys)))
    wander = np.clip(
        rng.uniform(-0.15, 0.15, (1, 2)) + np.cumsum(rng.normal(0.0, 0.04, (len(keys), 2)), axis=0), -0.35, 0.35
    )
    root = np.tile(np.eye(4, dtype=np.float32), (len(times), 1, 1))
    root[:, :3, :3] = _about("y", PchipInterpolator(keys, turn)(times)).as_matrix()
    root[:, [0, 2], 3] = PchipInterpolator(keys, wander)(times)
    for k in range(len(times)):
        joints = _body().joint_positions(None, rotations[k])
        lowest = min(float(joints[f"{side}_{name}"][1]) for side in ("left", "right") for name in ("heel", "toe"))
        root[k, 1, 3] = SOLE - lowest
    return rotations, root


def _sample_angles(rng: np.random.Generator, times: np.ndarray, activity: str | None) -> np.ndarray:
    """Angles (T, A) [degrees]: key poses of one or several activities, joined; walking adds its own rhythm."""
    span = float(times[-1])
    at, keys, walking = [], [], []
    now = -rng.uniform(0.0, 0.5)
    while now <= span or len(at) < 2:
        name = activity or str(rng.choice(list(ACTIVITIES), p=_SHARES))
        side = bool(rng.integers(2))
        style = ACTIVITIES[name](rng)
        until = now + rng.uniform(2.5, 6.0)
        pace = rng.uniform(0.45, 1.1)
        while now < until:
            keys.append(_acceptable_pose(rng, style, side))
            at.append(now)
            walking.append(1.0 if name == "walk" else 0.0)
            now += pace * rng.uniform(0.7, 1.3)
    table = np.array([[pose[name] for name in ANGLES] for pose in keys])
    angles = PchipInterpolator(at, table)(times)
    stride = PchipInterpolator(at, walking)(times)
    if stride.any():
        _add_steps(rng, angles, times, stride)
    low, high = np.array(list(LIMITS.values())).T
    return np.clip(angles, low, high)


def _add_steps(rng: np.random.Generator, angles: np.ndarray, times: np.ndarray, amount: np.ndarray) -> None:
    """Adds walking on the spot, as on a treadmill, to angles (T, A) in place; ``amount`` (T,) in [0, 1] scales it."""
    column = {name: k for k, name in enumerate(ANGLES)}
    phase = 2 * np.pi * (rng.uniform(0.6, 1.1) * times + rng.uniform())
    swing, lift, arms = rng.uniform(16, 30), rng.uniform(40, 65), rng.uniform(5, 30)
    for side, shift in (("left", 0.0), ("right", np.pi)):
        at = phase + shift
        flex = swing * np.sin(at) + 6
        knee = 6 + lift * np.clip(np.cos(at + 0.35), 0, None) ** 2 + 8 * np.clip(np.sin(at), 0, None)
        angles[:, column[f"{side}_hip_flex"]] += amount * flex
        angles[:, column[f"{side}_knee"]] += amount * knee
        push = 14 * np.clip(-np.sin(at - 0.4), 0, None) ** 3
        angles[:, column[f"{side}_ankle"]] += amount * (0.6 * (knee - flex) * (np.cos(at) < 0) * 0 - push + 4)
        angles[:, column[f"{side}_arm_forward"]] += amount * 0.0
        forward = arms * -np.sin(at)
        raised = angles[:, column[f"{side}_arm_raise"]]
        hanging = amount * np.clip(1.0 - raised / 45.0, 0.0, 1.0)
        direction = np.radians(angles[:, column[f"{side}_arm_forward"]])
        sideways = np.radians(raised)
        x = np.sin(sideways) * np.cos(direction)
        z = np.sin(sideways) * np.sin(direction) + hanging * np.sin(np.radians(forward))
        angles[:, column[f"{side}_arm_raise"]] = np.degrees(np.arcsin(np.clip(np.hypot(x, z), 0, 1))) * (
            raised < 90
        ) + raised * (raised >= 90)
        angles[:, column[f"{side}_arm_forward"]] = np.where(
            raised < 90, np.degrees(np.arctan2(z, x)), np.degrees(direction)
        )
    angles[:, column["spine_twist"]] += amount * 0.2 * arms * np.sin(phase)


def _acceptable_pose(rng: np.random.Generator, style: Callable[[], Pose], mirrored: bool) -> Pose:
    """A pose of the style within the limits, drawn again (at most 20 times) while limbs run through the body."""
    best, best_gap = {}, -np.inf
    for _ in range(20):
        drawn = _standing(rng) | style()
        pose = {name: float(np.clip(drawn[name], *LIMITS[name])) for name in ANGLES}
        if mirrored:
            pose = _mirrored(pose)
        gap = _clearance(pose)
        if gap > best_gap:
            best, best_gap = pose, gap
        if gap > 0.0:
            break
    return best


def _mirrored(pose: Pose) -> Pose:
    odd = {"list", "spine_side", "spine_twist", "head_yaw", "head_roll"}
    swap = {"left": "right", "right": "left"}
    result = {}
    for name, value in pose.items():
        side, _, rest = name.partition("_")
        result[f"{swap[side]}_{rest}" if side in swap else name] = -value if name in odd else value
    return result


def _clearance(pose: Pose) -> float:
    """How far forearms and hands keep from trunk, head, thighs and each other [m]; negative where they meet."""
    angles = np.array([[pose[name] for name in ANGLES]])
    joints = _body().joint_positions(None, bone_rotations(angles)[0])
    chest = 0.5 * (joints["left_shoulder"] + joints["right_shoulder"])
    across = joints["left_shoulder"] - joints["right_shoulder"]
    across = across / np.linalg.norm(across)
    share = np.linspace(0.0, 1.0, 5)[:, None]
    blocks = [(joints["mid_hip"] + s * across * 0.07, chest + s * across * 0.07, 0.125) for s in (-1.0, 1.0)]
    blocks.append((joints["neck"], joints["head"], 0.10))
    for side in ("left", "right"):
        blocks.append((joints[f"{side}_hip"], joints[f"{side}_knee"], 0.085))
        blocks.append((joints[f"{side}_knee"], joints[f"{side}_ankle"], 0.06))
    gap = np.inf
    forearms = {}
    for side in ("left", "right"):
        elbow, wrist = joints[f"{side}_elbow"], joints[f"{side}_wrist"]
        tip = wrist + 0.6 * (wrist - elbow)
        points = np.concatenate([elbow + share[1:] * (wrist - elbow), wrist + share[1:] * (tip - wrist)])
        forearms[side] = points
        for start, end, radius in blocks:
            gap = min(gap, float(_distance_to_segment(points, start, end).min()) - radius - 0.04)
    between = np.linalg.norm(forearms["left"][:, None] - forearms["right"][None], axis=-1)
    gap = min(gap, float(between.min()) - 0.07)
    shins = [
        joints[f"{side}_ankle"] + share * (joints[f"{side}_knee"] - joints[f"{side}_ankle"])
        for side in ("left", "right")
    ]
    return min(gap, float(np.linalg.norm(shins[0][:, None] - shins[1][None], axis=-1).min()) - 0.10)


def _distance_to_segment(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    axis = end - start
    along = np.clip((points - start) @ axis / max(float(axis @ axis), 1e-9), 0.0, 1.0)
    return np.linalg.norm(points - start - along[:, None] * axis, axis=1)


def _standing(rng: np.random.Generator) -> Pose:
    """Upright, arms hanging, a little different every time: the base that activities write over."""
    pose = dict.fromkeys(ANGLES, 0.0)
    pose |= {
        "lean": rng.normal(2, 3),
        "list": rng.normal(0, 2),
        "spine_flex": rng.normal(4, 5),
        "spine_side": rng.normal(0, 4),
        "spine_twist": rng.normal(0, 7),
        "head_pitch": rng.normal(4, 12),
        "head_yaw": rng.normal(0, 22),
        "head_roll": rng.normal(0, 5),
    }
    for side in ("left", "right"):
        hip, knee = rng.normal(4, 4), abs(rng.normal(5, 4))
        pose |= {
            f"{side}_shrug": rng.normal(2, 3),
            f"{side}_arm_raise": rng.uniform(8, 24),
            f"{side}_arm_forward": rng.uniform(-20, 60),
            f"{side}_arm_twist": rng.normal(0, 12),
            f"{side}_elbow": rng.uniform(8, 40),
            f"{side}_forearm_twist": rng.normal(10, 20),
            f"{side}_wrist": rng.normal(0, 12),
            f"{side}_wrist_side": rng.normal(0, 6),
            f"{side}_curl": rng.beta(1.3, 2.5) * 75,
            f"{side}_thumb": rng.uniform(0, 25),
            f"{side}_hip_flex": hip,
            f"{side}_hip_out": rng.normal(4, 3),
            f"{side}_hip_turn": rng.normal(6, 6),
            f"{side}_knee": knee,
            f"{side}_ankle": knee - hip - pose["lean"],
        }
    return pose


def _free_arm(rng: np.random.Generator, side: str) -> Pose:
    return {
        f"{side}_arm_raise": rng.uniform(10, 165),
        f"{side}_arm_forward": rng.uniform(-25, 105),
        f"{side}_arm_twist": rng.uniform(-40, 40),
        f"{side}_elbow": 130 * rng.beta(1.0, 1.6) + 3,
        f"{side}_forearm_twist": rng.uniform(-60, 60),
        f"{side}_wrist": rng.normal(0, 20),
        f"{side}_shrug": rng.uniform(0, 15),
    }


def _bent_legs(rng: np.random.Generator, hip: float, knee: float, lean: float) -> Pose:
    pose: Pose = {}
    for side in ("left", "right"):
        own_hip, own_knee = hip + rng.normal(0, 3), knee + rng.normal(0, 3)
        pose |= {
            f"{side}_hip_flex": own_hip,
            f"{side}_knee": own_knee,
            f"{side}_ankle": own_knee - own_hip + lean,
        }
    return pose


def _stand(rng: np.random.Generator) -> Callable[[], Pose]:
    return dict


def _walk(rng: np.random.Generator) -> Callable[[], Pose]:
    held = _free_arm(rng, "left") if rng.random() < 0.3 else {}
    return lambda: held | {f"{side}_hip_flex": rng.normal(2, 2) for side in ("left", "right")}


def _reach(rng: np.random.Generator) -> Callable[[], Pose]:
    both = rng.random() < 0.4

    def pose() -> Pose:
        raised, forward = rng.uniform(40, 160), rng.uniform(20, 105)
        reach: Pose = {}
        for side in ("left", "right") if both else ("left",):
            reach |= {
                f"{side}_arm_raise": raised + rng.normal(0, 8),
                f"{side}_arm_forward": forward + rng.normal(0, 8),
                f"{side}_elbow": rng.uniform(3, 60),
                f"{side}_shrug": rng.uniform(0, 18),
            }
        return reach | {
            "spine_flex": rng.uniform(-10, 40) if raised < 100 else rng.uniform(-12, 8),
            "spine_side": rng.normal(0, 9),
            "head_pitch": (90 - raised) * 0.3 + rng.normal(0, 8),
        }

    return pose


def _raise_arms(rng: np.random.Generator) -> Callable[[], Pose]:
    def pose() -> Pose:
        raised, forward = rng.uniform(60, 168), rng.uniform(-20, 80)
        result: Pose = {"spine_flex": rng.normal(-4, 5)}
        for side in ("left", "right"):
            result |= {
                f"{side}_arm_raise": raised + rng.normal(0, 8),
                f"{side}_arm_forward": forward + rng.normal(0, 10),
                f"{side}_elbow": rng.uniform(3, 90),
                f"{side}_shrug": raised / 10,
            }
        return result

    return pose


def _squat(rng: np.random.Generator) -> Callable[[], Pose]:
    arms_forward = rng.random() < 0.6

    def pose() -> Pose:
        depth = rng.uniform(0.1, 1.0)
        result = _bent_legs(rng, 100 * depth, 112 * depth, 0.0)
        result |= {"lean": 28 * depth, "spine_flex": 10 + 18 * depth, "head_pitch": -22 * depth}
        for side in ("left", "right"):
            result[f"{side}_ankle"] = 22 * depth
            result[f"{side}_hip_out"] = 8 + 14 * depth + rng.normal(0, 3)
            result[f"{side}_hip_turn"] = 10 + 12 * depth
            if arms_forward:
                result |= {
                    f"{side}_arm_raise": 30 + 55 * depth + rng.normal(0, 8),
                    f"{side}_arm_forward": rng.uniform(60, 95),
                    f"{side}_elbow": rng.uniform(5, 50),
                }
        return result

    return pose


def _sit(rng: np.random.Generator) -> Callable[[], Pose]:
    lap = rng.random() < 0.6

    def pose() -> Pose:
        result: Pose = {"lean": rng.normal(-2, 4), "spine_flex": rng.uniform(0, 30)}
        for side in ("left", "right"):
            hip, knee = rng.uniform(78, 96), rng.uniform(60, 105)
            result |= {
                f"{side}_hip_flex": hip,
                f"{side}_knee": knee,
                f"{side}_ankle": knee - hip + rng.normal(0, 4),
                f"{side}_hip_out": rng.uniform(0, 18),
            }
            if lap:
                result |= {
                    f"{side}_arm_raise": rng.uniform(25, 50),
                    f"{side}_arm_forward": rng.uniform(60, 95),
                    f"{side}_elbow": rng.uniform(30, 90),
                }
            else:
                result |= _free_arm(rng, side)
        return result

    return pose


def _balance(rng: np.random.Generator) -> Callable[[], Pose]:
    hip, knee, out = rng.uniform(-15, 85), rng.uniform(15, 105), rng.uniform(0, 25)
    raised = rng.uniform(45, 105)

    def pose() -> Pose:
        result: Pose = {
            "left_hip_flex": hip + rng.normal(0, 6),
            "left_knee": knee + rng.normal(0, 6),
            "left_hip_out": out + rng.normal(0, 3),
            "left_ankle": rng.uniform(-25, 5),
            "right_hip_out": rng.normal(-4, 2),
            "spine_side": rng.normal(0, 8),
            "list": rng.normal(3, 3),
        }
        for side in ("left", "right"):
            result |= {
                f"{side}_arm_raise": raised + rng.normal(0, 14),
                f"{side}_arm_forward": rng.uniform(-10, 45),
                f"{side}_elbow": rng.uniform(3, 55),
            }
        return result

    return pose


def _twist(rng: np.random.Generator) -> Callable[[], Pose]:
    def pose() -> Pose:
        turn = rng.uniform(-42, 42)
        result: Pose = {
            "spine_twist": turn,
            "head_yaw": 0.8 * turn + rng.normal(0, 12),
            "spine_flex": rng.uniform(-8, 30),
        }
        for side in ("left", "right"):
            result |= {
                f"{side}_arm_raise": rng.uniform(30, 110),
                f"{side}_arm_forward": rng.uniform(0, 80),
                f"{side}_elbow": rng.uniform(20, 120),
            }
        return result

    return pose


def _bend(rng: np.random.Generator) -> Callable[[], Pose]:
    def pose() -> Pose:
        depth = rng.uniform(0.2, 1.0)
        lean = 48 * depth
        result = {"lean": lean, "spine_flex": 50 * depth, "head_pitch": rng.uniform(-30, 15)}
        for side in ("left", "right"):
            knee = rng.uniform(3, 35)
            result |= {
                f"{side}_hip_flex": lean + 0.5 * knee,
                f"{side}_knee": knee,
                f"{side}_ankle": 0.5 * knee,
                f"{side}_arm_raise": rng.uniform(45, 100) * depth + 15,
                f"{side}_arm_forward": rng.uniform(70, 100),
                f"{side}_elbow": rng.uniform(5, 50),
            }
        return result

    return pose


def _lunge(rng: np.random.Generator) -> Callable[[], Pose]:
    def pose() -> Pose:
        depth = rng.uniform(0.2, 1.0)
        return {
            "left_hip_flex": 15 + 60 * depth,
            "left_knee": 12 + 72 * depth,
            "left_ankle": 5 * depth,
            "right_hip_flex": -20 * depth,
            "right_knee": 8 + 50 * depth,
            "right_ankle": -15 * depth,
            "right_toes": 20 * depth,
            "lean": 8 * depth,
        } | (_free_arm(rng, "left") | _free_arm(rng, "right") if rng.random() < 0.7 else {})

    return pose


def _free(rng: np.random.Generator) -> Callable[[], Pose]:
    def pose() -> Pose:
        result = _free_arm(rng, "left") | _free_arm(rng, "right")
        result |= {
            "spine_flex": rng.uniform(-15, 40),
            "spine_side": rng.uniform(-22, 22),
            "spine_twist": rng.uniform(-35, 35),
            "head_pitch": rng.uniform(-30, 35),
            "head_yaw": rng.uniform(-55, 55),
            "lean": rng.uniform(-6, 22),
        }
        for side in ("left", "right"):
            hip, knee = rng.uniform(-10, 50), rng.uniform(3, 60)
            result |= {
                f"{side}_hip_flex": hip,
                f"{side}_knee": knee,
                f"{side}_ankle": knee - hip,
                f"{side}_hip_out": rng.uniform(-2, 25),
                f"{side}_hip_turn": rng.uniform(-10, 25),
            }
        return result

    return pose


ACTIVITIES: dict[str, Callable[[np.random.Generator], Callable[[], Pose]]] = {
    "stand": _stand,
    "walk": _walk,
    "reach": _reach,
    "raise_arms": _raise_arms,
    "squat": _squat,
    "sit": _sit,
    "balance": _balance,
    "twist": _twist,
    "bend": _bend,
    "lunge": _lunge,
    "free": _free,
}
"""Activities by name: each draws a style of its own and then key poses of that style."""

_SHARES = np.array([1.0, 2.0, 1.5, 1.0, 1.0, 1.0, 1.5, 1.0, 0.6, 0.6, 2.0])
_SHARES = _SHARES / _SHARES.sum()
