"""Sampled motion of dogs: proper rotations, smooth, on the floor, varied."""

from __future__ import annotations

import numpy as np
import pytest

from dkp.errors import InputError
from dkp.synthetic.body import load_body
from dkp.synthetic.dog.activities import ACTIVITIES
from dkp.synthetic.dog.motion import sample_dog_motion
from dkp.synthetic.dog.pose import LEGS


def joints_over_time(activity: str | None, seed: int, frames: int, fps: float) -> dict[str, np.ndarray]:
    rotations, root = sample_dog_motion(np.random.default_rng(seed), frames, fps, activity)
    each = [load_body("dog").joint_positions(None, r, m) for r, m in zip(rotations, root, strict=True)]
    return {name: np.array([joints[name] for joints in each]) for name in each[0]}


@pytest.mark.parametrize("activity", list(ACTIVITIES))
def test_motion_is_proper_smooth_and_on_the_floor(activity: str) -> None:
    body = load_body("dog")
    rotations, root = sample_dog_motion(np.random.default_rng(3), 60, 30.0, activity)
    assert rotations.shape == (60, len(body.bone_names), 3, 3)
    assert root.shape == (60, 4, 4)
    np.testing.assert_allclose(
        rotations @ rotations.swapaxes(-1, -2), np.broadcast_to(np.eye(3), rotations.shape), atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-5)
    at = np.array([list(body.joint_positions(None, r, m).values()) for r, m in zip(rotations, root, strict=True)])
    speed = np.linalg.norm(np.diff(at, axis=0), axis=-1) * 30
    assert speed.max() < 9.0, "no joint of a trotting dog is faster than that [m/s]"
    assert speed.max() > 0.05, "something moves"
    assert np.abs(root[:, [0, 2], 3]).max() < 0.6
    for k in range(0, 60, 6):
        vertices, _ = body.pose(None, rotations[k], root[k])
        assert abs(vertices[:, 1].min()) < 0.04


def test_same_seed_same_motion_and_other_seed_another() -> None:
    first, again, other = (sample_dog_motion(np.random.default_rng(seed), 10, 30.0)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_walking_keeps_at_least_two_paws_on_the_floor_and_lifts_each() -> None:
    joints = joints_over_time("walk", 1, 90, 30.0)
    heights = np.stack([joints[f"{leg}_paw"][:, 1] for leg in LEGS], 1)
    grounded = heights < heights.min(0) + 0.012
    assert (grounded.sum(1) >= 2).mean() > 0.98
    assert (np.ptp(heights, axis=0) > 0.025).all()


def test_trotting_moves_diagonal_legs_together() -> None:
    joints = joints_over_time("trot", 2, 90, 30.0)
    heights = {leg: joints[f"{leg}_paw"][:, 1] for leg in LEGS}
    together = np.corrcoef(heights["left_fore"], heights["right_hind"])[0, 1]
    against = np.corrcoef(heights["left_fore"], heights["left_hind"])[0, 1]
    assert together > 0.5
    assert against < 0.0


def test_a_sitting_dog_has_its_rump_low_and_its_chest_high() -> None:
    for seed in range(4):
        joints = joints_over_time("sit", seed, 2, 1.0)
        assert joints["mid_hip"][:, 1].max() < 0.2
        assert joints["withers"][:, 1].min() > joints["mid_hip"][:, 1].max() + 0.2


def test_poses_and_headings_are_varied() -> None:
    noses, facing = [], []
    for seed in range(40):
        rotations, root = sample_dog_motion(np.random.default_rng(seed), 1, 1.0)
        joints = load_body("dog").joint_positions(None, rotations[0], root[0])
        noses.append(joints["nose"])
        facing.append(root[0, [0, 2], 2])
    assert np.ptp(np.array(noses)[:, 1]) > 0.4, "heads are both high and at the floor"
    assert len({(x > 0, z > 0) for x, z in facing}) == 4


def test_shape_decides_where_the_floor_is() -> None:
    body = load_body("dog")
    legs = np.zeros(body.shape_dim)
    legs[1] = 2.0
    for shape in (legs, -legs):
        rotations, root = sample_dog_motion(np.random.default_rng(0), 3, 30.0, "stand", shape)
        vertices, _ = body.pose(shape, rotations[1], root[1])
        assert abs(vertices[:, 1].min()) < 0.01


@pytest.mark.parametrize(
    ("frames", "fps", "activity", "message"),
    [(0, 30.0, None, "0 frames"), (5, 0.0, None, "at 0.0 per second"), (5, 30.0, "fly", "activity 'fly'")],
)
def test_bad_requests(frames: int, fps: float, activity: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sample_dog_motion(np.random.default_rng(0), frames, fps, activity)
