"""Sampled motion: proper rotations, smooth, on the floor, within limits, varied."""

from __future__ import annotations

import numpy as np
import pytest

from dkp.errors import InputError
from dkp.synthetic.body import load_body
from dkp.synthetic.human.activities import ACTIVITIES, ODD
from dkp.synthetic.human.anatomy import ANGLES, LIMITS, bone_rotations
from dkp.synthetic.human.motion import sample_motion
from dkp.synthetic.motion import mirrored


def pose(**angles: float) -> np.ndarray:
    return bone_rotations(np.array([[angles.get(name, 0.0) for name in ANGLES]]))[0]


def joints_of(**angles: float) -> dict[str, np.ndarray]:
    return load_body("human").joint_positions(None, pose(**angles))


@pytest.mark.parametrize("activity", list(ACTIVITIES))
def test_motion_is_proper_smooth_and_on_the_floor(activity: str) -> None:
    body = load_body("human")
    rotations, root = sample_motion(np.random.default_rng(3), 60, 30.0, activity)
    assert rotations.shape == (60, len(body.bone_names), 3, 3)
    assert root.shape == (60, 4, 4)
    np.testing.assert_allclose(
        rotations @ rotations.swapaxes(-1, -2), np.broadcast_to(np.eye(3), rotations.shape), atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-5)
    np.testing.assert_allclose(root[:, :3, :3] @ [0, 1, 0], np.tile([0, 1, 0], (60, 1)), atol=1e-6)
    at = np.array([list(body.joint_positions(None, r, m).values()) for r, m in zip(rotations, root, strict=True)])
    speed = np.linalg.norm(np.diff(at, axis=0), axis=-1) * 30
    assert speed.max() < 9.0, "no joint of a person is faster than that [m/s]"
    assert speed.max() > 0.05, "something moves"
    assert np.abs(root[:, [0, 2], 3]).max() < 0.5
    for k in (0, 30, 59):
        vertices, _ = body.pose(None, rotations[k], root[k])
        assert abs(vertices[:, 1].min()) < 0.05


def test_same_seed_same_motion_and_other_seed_another() -> None:
    first, again, other = (sample_motion(np.random.default_rng(seed), 10, 30.0)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_shape_decides_where_the_floor_is() -> None:
    body = load_body("human")
    tall = np.zeros(body.shape_dim)
    tall[0] = 2.0
    for shape in (tall, -tall):
        rotations, root = sample_motion(np.random.default_rng(0), 3, 30.0, "stand", shape)
        vertices, _ = body.pose(shape, rotations[1], root[1])
        assert abs(vertices[:, 1].min()) < 0.02


def test_poses_are_varied() -> None:
    body = load_body("human")
    wrists, heads = [], []
    for seed in range(40):
        rotations, _ = sample_motion(np.random.default_rng(seed), 2, 1.0)
        for r in rotations:
            joints = body.joint_positions(None, r)
            wrists.append(joints["left_wrist"])
            heads.append(joints["head"])
    assert np.std(wrists, axis=0).min() > 0.12
    assert np.ptp(np.array(wrists)[:, 1]) > 0.9, "hands both hang and reach up"
    assert np.ptp(np.array(heads)[:, 1]) > 0.2


def test_facing_covers_all_directions() -> None:
    facing = [sample_motion(np.random.default_rng(seed), 1, 30.0, "stand")[1][0, [0, 2], 2] for seed in range(24)]
    quadrants = {(x > 0, z > 0) for x, z in facing}
    assert len(quadrants) == 4


def test_angles_mean_what_their_names_say() -> None:
    hanging = joints_of()
    assert hanging["left_wrist"][1] < hanging["left_elbow"][1] < hanging["left_shoulder"][1]
    assert abs(hanging["left_ankle"][0] - hanging["left_hip"][0]) < 0.03
    sideways = joints_of(left_arm_raise=90)
    assert sideways["left_wrist"][0] > sideways["left_shoulder"][0] + 0.4
    forwards = joints_of(left_arm_raise=90, left_arm_forward=90)
    assert forwards["left_wrist"][2] > forwards["left_shoulder"][2] + 0.4
    assert joints_of(left_arm_raise=165)["left_wrist"][1] > hanging["head"][1]
    assert joints_of(left_elbow=90)["left_wrist"][2] > hanging["left_elbow"][2] + 0.2
    assert joints_of(right_hip_flex=90)["right_knee"][2] > 0.3
    assert joints_of(right_knee=90)["right_ankle"][2] < -0.3
    assert joints_of(right_hip_out=30)["right_ankle"][0] < hanging["right_ankle"][0] - 0.3
    assert joints_of(left_ankle=20)["left_toe"][1] > hanging["left_toe"][1] + 0.03
    assert joints_of(spine_flex=40)["head"][2] > hanging["head"][2] + 0.2
    assert joints_of(head_yaw=60)["nose"][0] > 0.05
    assert joints_of(head_pitch=30)["nose"][1] < hanging["nose"][1]


def test_fingers_curl_towards_the_palm() -> None:
    body = load_body("human")
    still, _ = body.pose(None, pose())
    curled, _ = body.pose(None, pose(left_curl=45.0, right_curl=45.0))
    moved = np.linalg.norm(curled - still, axis=1) > 0.03
    # With hanging arms the palms face the thighs.
    for sign in (1, -1):
        side = moved & (sign * still[:, 0] > 0)
        assert side.sum() > 50
        assert np.mean(sign * (curled[side, 0] - still[side, 0])) < -0.01


def test_mirrored_pose_is_the_mirror_image() -> None:
    rng = np.random.default_rng(0)
    drawn = {name: float(rng.uniform(*limits)) for name, limits in LIMITS.items()}
    there, back = joints_of(**drawn), joints_of(**mirrored(drawn, ODD))
    for name in ("wrist", "elbow", "knee", "toe"):
        np.testing.assert_allclose(there[f"left_{name}"] * [-1, 1, 1], back[f"right_{name}"], atol=1e-4)
    np.testing.assert_allclose(there["nose"] * [-1, 1, 1], back["nose"], atol=1e-4)
    assert mirrored(mirrored(drawn, ODD), ODD) == drawn


def test_level_soles_when_bending_the_knees() -> None:
    joints = joints_of(lean=20, left_hip_flex=70, left_knee=70, left_ankle=20)
    level = joints_of()
    assert joints["left_toe"][1] - joints["left_heel"][1] == pytest.approx(
        level["left_toe"][1] - level["left_heel"][1], abs=0.02
    )


def test_walking_legs_alternate() -> None:
    body = load_body("human")
    rotations, _ = sample_motion(np.random.default_rng(1), 120, 30.0, "walk")
    apart = []
    for r in rotations:
        joints = body.joint_positions(None, r)
        apart.append(joints["left_ankle"][2] - joints["right_ankle"][2])
    assert max(apart) > 0.15
    assert min(apart) < -0.15


@pytest.mark.parametrize(
    ("frames", "fps", "activity", "message"),
    [(0, 30.0, None, "0 frames"), (5, 0.0, None, "at 0.0 per second"), (5, 30.0, "fly", "activity 'fly'")],
)
def test_bad_requests(frames: int, fps: float, activity: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sample_motion(np.random.default_rng(0), frames, fps, activity)
