"""Activities: each draws a style of its own and then key poses of that style. The ranges were set by eye."""

import numpy as np

from dkp.synthetic.human.anatomy import ANGLES
from dkp.synthetic.motion import Activities, Pose, Style


def standing(rng: np.random.Generator) -> Pose:
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
            f"{side}_ankle": pose["lean"] - hip + knee,  # keeps the sole level
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


def _bent_legs(rng: np.random.Generator, hip: float, knee: float) -> Pose:
    pose: Pose = {}
    for side in ("left", "right"):
        pose |= {f"{side}_hip_flex": hip + rng.normal(0, 3), f"{side}_knee": knee + rng.normal(0, 3)}
    return pose


def _stand(rng: np.random.Generator) -> Style:
    return dict


def _walk(rng: np.random.Generator) -> Style:
    held = _free_arm(rng, "left") if rng.random() < 0.3 else {}
    return lambda: held | {f"{side}_hip_flex": rng.normal(2, 2) for side in ("left", "right")}


def _reach(rng: np.random.Generator) -> Style:
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


def _raise_arms(rng: np.random.Generator) -> Style:
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


def _squat(rng: np.random.Generator) -> Style:
    arms_forward = rng.random() < 0.6

    def pose() -> Pose:
        depth = rng.uniform(0.1, 1.0)
        result = _bent_legs(rng, 114 * depth, 110 * depth)
        result |= {"lean": 28 * depth, "spine_flex": 10 + 18 * depth, "head_pitch": -22 * depth}
        for side in ("left", "right"):
            result[f"{side}_ankle"] = 24 * depth
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


def _sit(rng: np.random.Generator) -> Style:
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


def _balance(rng: np.random.Generator) -> Style:
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


def _twist(rng: np.random.Generator) -> Style:
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


def _bend(rng: np.random.Generator) -> Style:
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


def _lunge(rng: np.random.Generator) -> Style:
    def pose() -> Pose:
        depth = rng.uniform(0.2, 1.0)
        return {
            "left_hip_flex": 15 + 60 * depth,
            "left_knee": 12 + 72 * depth,
            "left_ankle": 20 * depth - 3,
            "right_hip_flex": -20 * depth,
            "right_knee": 8 + 50 * depth,
            "right_ankle": 10 * depth,
            "right_toes": 25 * depth,
            "lean": 8 * depth,
        } | (_free_arm(rng, "left") | _free_arm(rng, "right") if rng.random() < 0.7 else {})

    return pose


def _free(rng: np.random.Generator) -> Style:
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
                f"{side}_ankle": result["lean"] - hip + knee,
                f"{side}_hip_out": rng.uniform(-2, 25),
                f"{side}_hip_turn": rng.uniform(-10, 25),
            }
        return result

    return pose


def _stumble(rng: np.random.Generator) -> Style:
    def pose() -> Pose:
        aside = rng.uniform(-1, 1)
        result = _free_arm(rng, "left") | _free_arm(rng, "right")
        result |= {
            "list": 15 * aside + rng.normal(0, 2),
            "spine_side": 26 * aside + rng.normal(0, 5),
            "lean": rng.uniform(-10, 50),
            "spine_flex": rng.uniform(-10, 45),
            "spine_twist": rng.uniform(-35, 35),
            "head_pitch": rng.uniform(-35, 25),
            "head_yaw": rng.uniform(-40, 40),
            "left_hip_flex": rng.uniform(-20, 100),
            "left_knee": rng.uniform(5, 90),
            "left_hip_out": rng.uniform(0, 40),
            "left_ankle": rng.uniform(-30, 10),
            "right_knee": rng.uniform(3, 40),
        }
        result["right_hip_flex"] = result["lean"] + rng.normal(0, 8)
        return result

    return pose


ACTIVITIES: Activities = {
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
    "stumble": _stumble,
}
"""Activities by name: each draws a style of its own and then key poses of that style."""

SHARES = np.array([1.0, 2.0, 1.5, 1.0, 1.0, 1.0, 1.5, 1.0, 0.6, 0.6, 2.0, 0.0])
SHARES = SHARES / SHARES.sum()
"""How often each activity is drawn where none is named."""

ODD = frozenset({"list", "spine_side", "spine_twist", "head_yaw", "head_roll"})
"""What changes its sign in the mirror image."""
