"""The skinned body: rest pose, rigid motion, bones that carry what they should, and adult shapes."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dkp.errors import InputError
from dkp.surface import Surface
from dkp.synthetic.body import SkinnedBody


@pytest.fixture(scope="module")
def body() -> SkinnedBody:
    return SkinnedBody.load()


@pytest.fixture
def rest(body: SkinnedBody) -> np.ndarray:
    return np.tile(np.eye(3), (len(body.bone_names), 1, 1))


def test_rest_pose_is_the_surface(body: SkinnedBody, rest: np.ndarray) -> None:
    surface = Surface.load("human")
    vertices, joints = body.pose(None, rest)
    assert vertices.dtype == np.float32
    np.testing.assert_allclose(vertices, surface.vertices, atol=1e-5)
    np.testing.assert_array_equal(body.faces, surface.faces)
    assert set(joints) == set(surface.joints)
    for name, at in joints.items():
        np.testing.assert_allclose(at, surface.joints[name], atol=1e-5)
    np.testing.assert_allclose(body.pose(np.zeros(body.shape_dim), rest)[0], vertices, atol=1e-6)


def test_parents_come_first(body: SkinnedBody) -> None:
    assert body.bone_names[0] == "pelvis"
    assert body.parents[0] == -1
    assert all(0 <= parent < k for k, parent in enumerate(body.parents) if k)


def test_root_moves_everything_rigidly(body: SkinnedBody, rest: np.ndarray) -> None:
    root = np.eye(4)
    root[:3, :3] = Rotation.from_rotvec([0.3, -1.1, 0.4]).as_matrix()
    root[:3, 3] = [1.0, 2.0, -3.0]
    still, joints = body.pose(None, rest)
    moved, moved_joints = body.pose(None, rest, root)
    np.testing.assert_allclose(moved, still @ root[:3, :3].T + root[:3, 3], atol=1e-5)
    np.testing.assert_allclose(moved_joints["left_toe"], root[:3, :3] @ joints["left_toe"] + root[:3, 3], atol=1e-5)
    turned = rest.copy()
    turned[0] = root[:3, :3]
    np.testing.assert_allclose(body.pose(None, turned)[0], still @ root[:3, :3].T, atol=1e-5)


def test_elbow_carries_forearm_and_hand_only(body: SkinnedBody, rest: np.ndarray) -> None:
    still, joints = body.pose(None, rest)
    bent = rest.copy()
    turn = Rotation.from_rotvec([0, -1.2, 0]).as_matrix()
    bent[body.bone_index["left_lower_arm"]] = turn
    moved, moved_joints = body.pose(None, bent)
    surface = Surface.load("human")
    part = {name: np.unique(surface.faces[surface.face_part == k + 1]) for k, name in enumerate(surface.part_names)}
    expected = (still[part["left_hand"]] - joints["left_elbow"]) @ turn.T + joints["left_elbow"]
    assert np.abs(moved[part["left_hand"]] - expected).max() < 0.01
    for name in ("torso_front", "right_hand", "left_foot", "left_head"):
        np.testing.assert_allclose(moved[part[name]], still[part[name]], atol=1e-5)
    np.testing.assert_allclose(moved_joints["left_elbow"], joints["left_elbow"], atol=1e-6)
    np.testing.assert_allclose(
        moved_joints["left_wrist"],
        turn @ (joints["left_wrist"] - joints["left_elbow"]) + joints["left_elbow"],
        atol=1e-5,
    )


def test_joints_stay_inside_the_skin(body: SkinnedBody) -> None:
    rng = np.random.default_rng(0)
    rotations = Rotation.from_rotvec(rng.normal(0, 0.25, (len(body.bone_names), 3))).as_matrix()
    vertices, joints = body.pose(rng.normal(size=body.shape_dim), rotations)
    for name in ("left_elbow", "right_wrist", "left_knee", "right_ankle", "neck"):
        assert np.linalg.norm(vertices - joints[name], axis=1).min() < 0.09
    only = body.joint_positions(None, rotations)
    np.testing.assert_allclose(only["left_toe"], body.pose(None, rotations)[1]["left_toe"], atol=1e-6)


def test_shapes_are_adults(body: SkinnedBody, rest: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    heights, hips = [], []
    for _ in range(200):
        vertices, joints = body.pose(rng.normal(size=body.shape_dim), rest)
        heights.append(np.ptp(vertices[:, 1]))
        hips.append(np.abs(joints["left_hip"] + joints["right_hip"]).max())
        surface_symmetry = np.abs(joints["left_wrist"] * [-1, 1, 1] - joints["right_wrist"]).max()
        assert surface_symmetry < 1e-3
    assert 1.68 < np.mean(heights) < 1.80
    assert 0.05 < np.std(heights) < 0.12
    assert min(heights) > 1.4
    assert max(heights) < 2.1
    assert max(hips) < 1e-3


def test_pose_takes_less_than_ten_milliseconds(body: SkinnedBody, rest: np.ndarray) -> None:
    shape = np.ones(body.shape_dim)
    best = np.inf
    for _ in range(20):
        start = time.process_time()
        body.pose(shape, rest)
        best = min(best, time.process_time() - start)
    assert best < 0.010


def test_bad_input_is_named(body: SkinnedBody, rest: np.ndarray) -> None:
    with pytest.raises(InputError, match="found 'robot', expected one of dog, human"):
        SkinnedBody.load("robot")
    with pytest.raises(InputError, match=r"rotations: found shape \(3, 3\)"):
        body.pose(None, np.eye(3))
    with pytest.raises(InputError, match=r"shape: found an array of shape \(2,\)"):
        body.pose(np.zeros(2), rest)
