"""Activities of dogs: each draws a style of its own and then key poses of that style. The ranges were set by eye."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dkp.synthetic.dog.pose import LEGS
from dkp.synthetic.motion import Activities, Pose, Style


@dataclass(frozen=True)
class Gait:
    """A rhythm of the four legs.

    Attributes:
        offset: When each leg is put down, as a share of the stride, in the order :data:`LEGS`.
        duty: Range of the share of the stride in which a paw is on the floor.
        rate: Range of the strides per second.
        step: Range of half the way of a paw along the floor, as a share of the leg's height.
        lift: Range of the height of a swinging paw, likewise.
        bob: Rise and fall of the trunk, likewise.
    """

    offset: tuple[float, float, float, float]
    duty: tuple[float, float]
    rate: tuple[float, float]
    step: tuple[float, float]
    lift: tuple[float, float]
    bob: float


GAITS: Mapping[str, Gait] = {
    # Left hind, left fore, right hind, right fore.
    "walk": Gait((0.25, 0.75, 0.0, 0.5), (0.62, 0.72), (0.7, 1.2), (0.18, 0.30), (0.08, 0.16), 0.006),
    # Diagonal pairs.
    "trot": Gait((0.0, 0.5, 0.5, 0.0), (0.44, 0.52), (1.6, 2.3), (0.22, 0.32), (0.14, 0.26), 0.018),
}
"""Gaits by the activity that has them; dogs move on the spot, as on a treadmill."""


def standing(rng: np.random.Generator) -> Pose:
    """On four legs, a little different every time: the base that activities write over."""
    pose = {
        "front": rng.uniform(0.94, 0.99),
        "rear": rng.uniform(0.97, 1.03),
        "roll": rng.normal(0, 1.2),
        "arch": rng.normal(2, 4),
        "side": rng.normal(0, 5),
        "twist": rng.normal(0, 2),
        "neck_pitch": rng.normal(10, 14),
        "neck_yaw": rng.normal(0, 16),
        "neck_roll": rng.normal(0, 4),
        "head_pitch": rng.normal(6, 8),
        "head_yaw": rng.normal(0, 5),
        "head_roll": rng.normal(0, 4),
        "jaw": rng.choice([-12.5, rng.uniform(-12, 3)]),
        "tail_lift": rng.normal(8, 20),
        "tail_curl": rng.uniform(-10, 60),
        "tail_wag": rng.normal(0, 22),
    }
    for leg in LEGS:
        middle = -0.03 if leg.endswith("fore") else -0.27
        pose |= {
            f"{leg}_forward": rng.normal(middle, 0.05),
            f"{leg}_out": rng.normal(0.02, 0.025),
            f"{leg}_lift": 0.0,
            f"{leg}_foot": rng.normal(0, 4),
            f"{leg}_paw": 0.0,
        }
    return pose


def _stand(rng: np.random.Generator) -> Style:
    return dict


def _move(rng: np.random.Generator) -> Style:
    head, jaw = rng.normal(16, 14), rng.choice([-12.5, rng.uniform(-8, 4)])
    tail = {"tail_lift": rng.normal(5, 22), "tail_curl": rng.uniform(-10, 70)}

    def pose() -> Pose:
        steps = {f"{leg}_forward": -0.04 if leg.endswith("fore") else -0.27 for leg in LEGS}
        return (
            steps
            | tail
            | {
                "front": rng.uniform(0.92, 0.95),
                "rear": rng.uniform(0.96, 0.99),
                "neck_pitch": head + rng.normal(0, 4),
                "neck_yaw": rng.normal(0, 10),
                "jaw": jaw,
            }
        )

    return pose


def _look(rng: np.random.Generator) -> Style:
    def pose() -> Pose:
        yaw = rng.uniform(-70, 70)
        return {
            "neck_yaw": yaw,
            "head_yaw": 0.2 * yaw + rng.normal(0, 4),
            "neck_pitch": rng.uniform(-28, 45),
            "head_pitch": rng.uniform(-25, 25),
            "head_roll": rng.normal(0, 9),
            "side": -0.12 * yaw + rng.normal(0, 5),
            "tail_wag": rng.uniform(-45, 45),
        }

    return pose


def _sit(rng: np.random.Generator) -> Style:
    upright, apart = rng.uniform(0.0, 1.0), rng.uniform(0.02, 0.12)

    def pose() -> Pose:
        result: Pose = {
            "front": 0.96 + 0.06 * upright,
            "rear": 0.31 + rng.normal(0, 0.01),
            "arch": 22 + 8 * upright + rng.normal(0, 3),
            "neck_pitch": 22 + rng.normal(0, 14),
            "head_pitch": 16 + rng.normal(0, 9),
            "neck_yaw": rng.normal(0, 25),
            "tail_lift": 84 + rng.normal(0, 4),
            "tail_curl": rng.uniform(45, 65),
            "tail_wag": rng.normal(0, 28),
        }
        for side in ("left", "right"):
            result |= {
                f"{side}_fore_forward": rng.normal(-0.04, 0.03),
                f"{side}_hind_forward": 0.42 + rng.normal(0, 0.03),
                f"{side}_hind_out": apart + rng.normal(0, 0.01),
                f"{side}_hind_foot": -45.0,  # with the lean of the stride: the metapodium lies on the floor
            }
        return result

    return pose


def _sniff(rng: np.random.Generator) -> Style:
    def pose() -> Pose:
        depth = rng.uniform(0.5, 1.0)
        result = {
            "front": 0.95 - 0.14 * depth,
            "neck_pitch": 95 * depth,
            "head_pitch": -28 * depth + rng.normal(0, 6),
            "neck_yaw": rng.normal(0, 20),
            "jaw": -13.0,
            "tail_lift": rng.normal(12, 20),
        }
        return result | {f"{leg}_forward": rng.normal(0.04, 0.10) for leg in ("left_fore", "right_fore")}

    return pose


def _bow(rng: np.random.Generator) -> Style:
    """Elbows near the floor, rump up, as dogs ask to play or stretch."""

    def pose() -> Pose:
        depth = rng.uniform(0.55, 1.0)
        result = {
            "front": 0.95 - 0.42 * depth,
            "rear": rng.uniform(0.97, 1.03),
            "arch": -6 * depth,
            "neck_pitch": -15 * depth + rng.normal(0, 10),
            "head_pitch": rng.normal(-4, 9),
            "neck_yaw": rng.normal(0, 22),
            "tail_lift": rng.uniform(20, 70),
            "tail_wag": rng.uniform(-60, 60),
            "jaw": rng.uniform(-8, 4),
        }
        for side in ("left", "right"):
            result |= {
                f"{side}_fore_forward": 0.30 + 0.32 * depth + rng.normal(0, 0.03),
                f"{side}_fore_out": 0.04,
                f"{side}_fore_foot": -22 * depth,
                f"{side}_hind_forward": rng.normal(-0.25, 0.05),
            }
        return result

    return pose


def _paw(rng: np.random.Generator) -> Style:
    """Return a forepaw in the air."""

    def pose() -> Pose:
        lift = rng.uniform(0.12, 0.5)
        return {
            "front": 0.94,
            "roll": rng.normal(2.5, 1),
            "left_fore_forward": rng.uniform(0.05, 0.45),
            "left_fore_lift": lift,
            "left_fore_foot": rng.uniform(15, 70),
            "left_fore_paw": rng.uniform(25, 70),
            "right_fore_forward": rng.normal(-0.02, 0.03),
            "right_fore_out": -0.06,
            "neck_yaw": rng.normal(0, 28),
            "neck_pitch": rng.uniform(-15, 30),
        }

    return pose


ACTIVITIES: Activities = {
    "stand": _stand,
    "walk": _move,
    "trot": _move,
    "look": _look,
    "sit": _sit,
    "sniff": _sniff,
    "bow": _bow,
    "paw": _paw,
}
"""Activities by name: each draws a style of its own and then key poses of that style."""

SHARES = np.array([1.0, 2.0, 1.5, 1.5, 1.5, 1.2, 0.6, 0.8])
SHARES = SHARES / SHARES.sum()
"""How often each activity is drawn."""

ODD = frozenset({"roll", "side", "twist", "neck_yaw", "neck_roll", "head_yaw", "head_roll", "tail_wag"})
"""What changes its sign in the mirror image."""
