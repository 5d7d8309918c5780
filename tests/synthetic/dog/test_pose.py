"""Poses of the dog: paws where they are wanted, joints within their limits, controls that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from dkp.synthetic.body import load_body
from dkp.synthetic.dog.activities import ODD, standing
from dkp.synthetic.dog.pose import (
    CONTROLS,
    JOINT_LIMITS,
    LEGS,
    RANGES,
    SPREAD_LIMITS,
    Build,
    dog_rotations,
)
from dkp.synthetic.motion import mirrored

STANDING = {"front": 0.96, "rear": 1.0} | {f"{leg}_forward": -0.03 if "fore" in leg else -0.27 for leg in LEGS}


def joints_of(shape: np.ndarray | None = None, **controls: float) -> dict[str, np.ndarray]:
    pose = dict.fromkeys(CONTROLS, 0.0) | STANDING | controls
    rotations, root = dog_rotations(np.array([[pose[name] for name in CONTROLS]]), Build.of_shape(shape))
    return load_body("dog").joint_positions(shape, rotations[0], root[0])


@pytest.mark.parametrize("leg", LEGS)
def test_a_paw_goes_where_it_is_wanted(leg: str) -> None:
    side, kind = leg.split("_")
    start = f"{side}_{'shoulder' if kind == 'fore' else 'hip'}"
    build = Build.of_shape(None)
    height = build.height(leg)
    middle = STANDING[f"{leg}_forward"]
    for forward, lift, out in ((0.0, 0.0, 0.0), (0.1, 0.1, 0.0), (-0.15, 0.0, 0.05)):
        controls = {f"{leg}_forward": middle + forward, f"{leg}_lift": lift, f"{leg}_out": out}
        joints = joints_of(**controls)
        paw, rest = joints[f"{leg}_paw"], build.at[f"{side}_{kind}_toes"]
        assert paw[1] == pytest.approx(rest[1] - build.floor + lift * height, abs=0.004)
        sign = 1.0 if side == "left" else -1.0
        assert paw[0] == pytest.approx(rest[0] + sign * out * height, abs=0.004)
        # The shoulder itself follows the paw; the paw is measured from where it would be otherwise.
        slack = 0.06 if kind == "fore" else 0.004
        assert paw[2] - joints[start][2] == pytest.approx((middle + forward) * height, abs=slack)


def test_shoulders_and_hips_have_the_heights_asked_for() -> None:
    build = Build.of_shape(None)
    for front, rear in ((0.96, 1.0), (0.6, 0.98), (0.98, 0.35)):
        joints = joints_of(front=front, rear=rear)
        assert joints["left_hip"][1] == pytest.approx(rear * build.height("left_hind"), abs=1e-4)
    joints = joints_of(front=0.9, **{f"{leg}_forward": 0.0 for leg in LEGS if "fore" in leg})
    assert joints["left_shoulder"][1] == pytest.approx(0.9 * build.height("left_fore"), abs=1e-4)


def test_controls_mean_what_their_names_say() -> None:
    still = joints_of()
    assert joints_of(neck_pitch=60)["nose"][1] < still["nose"][1] - 0.1
    assert joints_of(neck_yaw=50)["nose"][0] > 0.1
    assert joints_of(head_pitch=30)["nose"][1] < still["nose"][1]
    assert joints_of(jaw=-12)["chin"][1] > still["chin"][1]
    assert joints_of(tail_lift=50)["tail_tip"][1] > still["tail_tip"][1] + 0.1
    assert abs(joints_of(tail_wag=40)["tail_tip"][0]) > 0.1
    assert joints_of(side=15)["mid_hip"][0] > still["mid_hip"][0] + 0.01
    assert joints_of(roll=6)["withers"][0] < -0.005
    assert joints_of(front=0.55)["neck"][1] < still["neck"][1] - 0.15
    sitting = joints_of(rear=0.32, arch=28, left_hind_forward=0.42, left_hind_foot=-45)
    assert sitting["left_knee"][2] > sitting["left_hip"][2] + 0.03
    assert sitting["left_knee"][1] > sitting["left_hock"][1] + 0.08
    assert sitting["left_hock"][1] < 0.08


def test_joints_stay_within_their_limits() -> None:
    rng = np.random.default_rng(0)
    low, high = np.array(list(RANGES.values())).T
    controls = rng.uniform(low, high, (400, len(CONTROLS)))
    rotations, _ = dog_rotations(controls, Build.of_shape(None))
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-5)
    index = load_body("dog").bone_index
    reached = []
    for bone, (least, greatest) in JOINT_LIMITS.items():
        for side in ("left", "right"):
            r = rotations[:, index[f"{side}_{bone}"]]
            if bone in ("upper_arm", "thigh"):  # Rz(spread) Rx(swing)
                swing, spread = np.arctan2(r[:, 2, 1], r[:, 2, 2]), np.arctan2(r[:, 1, 0], r[:, 0, 0])
                outwards = np.degrees(spread) * (1 if side == "left" else -1)
                assert outwards.min() > SPREAD_LIMITS[0] - 0.01
                assert outwards.max() < SPREAD_LIMITS[1] + 0.01
            else:
                swing = np.arctan2(r[:, 2, 1] - r[:, 1, 2], r[:, 1, 1] + r[:, 2, 2])
            assert np.degrees(swing).min() > least - 0.5, bone
            assert np.degrees(swing).max() < greatest + 0.5, bone
            reached.append(np.ptp(np.degrees(swing)) / (greatest - least))
    assert max(reached) > 0.9, "the limits are those that hold"


def test_mirrored_controls_give_the_mirror_image() -> None:
    rng = np.random.default_rng(3)
    drawn = standing(rng) | {"left_fore_lift": 0.3, "left_fore_paw": 40.0, "neck_yaw": 40.0}
    there, back = joints_of(**drawn), joints_of(**mirrored(drawn, ODD))
    for name in ("left_fore_paw", "left_hind_paw", "left_elbow", "left_hock", "left_ear"):
        other = name.replace("left", "right")
        np.testing.assert_allclose(there[name] * [-1, 1, 1], back[other], atol=1e-4)
    np.testing.assert_allclose(there["tail_tip"] * [-1, 1, 1], back["tail_tip"], atol=1e-4)
    assert mirrored(mirrored(drawn, ODD), ODD) == drawn


def test_paws_reach_the_floor_for_any_proportions() -> None:
    body = load_body("dog")
    for direction in range(body.shape_dim):
        for amount in (-2.5, 2.5):
            shape = np.zeros(body.shape_dim)
            shape[direction] = amount
            pose = dict.fromkeys(CONTROLS, 0.0) | STANDING
            controls = np.array([[pose[name] for name in CONTROLS]])
            rotations, root = dog_rotations(controls, Build.of_shape(shape))
            vertices, joints = body.pose(shape, rotations[0], root[0])
            assert abs(vertices[:, 1].min()) < 0.004
            heights = [joints[f"{leg}_paw"][1] for leg in LEGS]
            assert max(heights) < 0.06
