"""The shipped dog as a surface and as a skinned body."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dkp.surface import Surface
from dkp.surface.geodesics import HeatGeodesics
from dkp.synthetic.body import SkinnedBody

from .conftest import random_points


@pytest.fixture(scope="module")
def dog() -> Surface:
    return Surface.load("dog")


@pytest.fixture(scope="module")
def body() -> SkinnedBody:
    return SkinnedBody.load("dog")


def test_dog_is_one_closed_surface_of_a_dogs_size(dog: Surface) -> None:
    edges = np.unique(
        np.sort(np.concatenate([dog.faces[:, [0, 1]], dog.faces[:, [1, 2]], dog.faces[:, [2, 0]]]), 1), axis=0
    )
    assert len(dog.vertices) - len(edges) + len(dog.faces) == 2
    assert 5000 < len(dog.vertices) < 8192
    _, half_extent = dog.bounds
    assert 0.7 < 2 * half_extent[1] < 0.9
    assert 1.1 < 2 * half_extent[2] < 1.3
    corners = dog.vertices[dog.faces]
    volume = np.einsum("ni,ni->n", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 0.012 < volume < 0.04, "faces must wind anticlockwise seen from outside"


def test_dog_axes_and_joints(dog: Surface) -> None:
    joints = dog.joints
    for side, sign in (("left", 1), ("right", -1)):
        for name in ("shoulder", "elbow", "wrist", "fore_paw", "hip", "knee", "hock", "hind_paw", "eye", "ear"):
            assert sign * joints[f"{side}_{name}"][0] > 0.02, name
        assert joints[f"{side}_fore_paw"][2] > joints[f"{side}_hind_paw"][2] + 0.5
    assert (
        joints["nose"][2] > joints["left_eye"][2] > joints["neck"][2] > joints["tail_base"][2] > joints["tail_tip"][2]
    )
    assert joints["left_shoulder"][1] > joints["left_elbow"][1] > joints["left_wrist"][1] > joints["left_fore_paw"][1]
    assert joints["left_hip"][1] > joints["left_knee"][1] > joints["left_hock"][1] > joints["left_hind_paw"][1]
    on_skin = np.stack([joints[name] for name in ("nose", "chin", "left_ear_tip", "tail_tip")])
    assert dog.locate(on_skin)[2].max() < 0.005
    assert dog.locate(np.stack(list(joints.values())))[2].max() < 0.09


def test_dog_charts_do_not_fold_fill_the_square_and_round_trip(dog: Surface) -> None:
    first, second = dog.corner_uv[:, 1] - dog.corner_uv[:, 0], dog.corner_uv[:, 2] - dog.corner_uv[:, 0]
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    assert area.min() > 0
    assert dog.parts == 24
    for part in range(1, 25):
        assert 0.7 < area[dog.face_part == part].sum() / 2 < 1.0
    face, barycentric = random_points(dog, 20_000)
    points = dog.coordinates(face, barycentric)
    error = np.linalg.norm(points - dog.coordinates(*dog.from_charts(*dog.charts(face, barycentric))), axis=1)
    assert (error < 0.01).mean() > 0.999
    assert np.median(error) < 1e-9


def test_dog_parts_lie_where_their_names_say(dog: Surface) -> None:
    at = {name: dog.vertices[dog.faces[dog.face_part == k + 1]].mean((0, 1)) for k, name in enumerate(dog.part_names)}
    for side, sign in (("left", 1), ("right", -1)):
        assert all(sign * centre[0] > 0 for name, centre in at.items() if name.startswith(side))
        assert (
            at[f"{side}_ear"][1]
            > at[f"{side}_head"][1]
            > at[f"{side}_thorax"][1]
            > at[f"{side}_lower_foreleg_outer"][1]
        )
        assert at[f"{side}_head"][2] > at[f"{side}_neck"][2] > at[f"{side}_loin"][2] > at[f"{side}_tail"][2]
        for leg in ("fore", "hind"):
            outer, inner = (at[f"{side}_lower_{leg}leg_{face}"] for face in ("outer", "inner"))
            assert sign * outer[0] > sign * inner[0] + 0.01


def test_dog_mirror_is_an_exact_reflection_that_swaps_parts(dog: Surface) -> None:
    assert dog.mirror is not None
    np.testing.assert_array_equal(dog.vertices[dog.mirror], dog.vertices * [-1, 1, 1])
    face, barycentric = random_points(dog, 4000)
    mirrored = dog.mirror_coordinates(dog.coordinates(face, barycentric))
    other, _, distance = dog.locate(mirrored)
    assert distance.max() < 1e-6
    sides = {"left": "right", "right": "left"}
    swapped = ["_".join([sides[side], rest]) for side, rest in (name.split("_", 1) for name in dog.part_names)]
    expected = np.array([0] + [dog.part_names.index(name) + 1 for name in swapped])[dog.face_part[face]]
    assert (dog.face_part[other] == expected).mean() > 0.999


def test_ways_over_the_dog_are_longer_than_straight_ones(dog: Surface) -> None:
    names = ["left_fore_paw", "right_fore_paw", "left_hind_paw", "nose", "tail_tip"]
    vertices = dog.nearest_vertex(np.stack([dog.joints[name] for name in names]))
    distance = HeatGeodesics(dog.vertices, dog.faces)(vertices)[:, vertices]
    way = {(a, b): distance[i, j] for i, a in enumerate(names) for j, b in enumerate(names)}
    assert 0.55 < way["left_fore_paw", "right_fore_paw"] < 1.1  # up one leg and down the other
    assert 0.9 < way["left_fore_paw", "left_hind_paw"] < 1.7
    assert 1.2 < way["nose", "tail_tip"] < 1.7
    assert abs(way["nose", "tail_tip"] / way["tail_tip", "nose"] - 1) < 0.05


def test_rest_pose_is_the_surface(dog: Surface, body: SkinnedBody) -> None:
    rest = np.tile(np.eye(3), (len(body.bone_names), 1, 1))
    vertices, joints = body.pose(None, rest)
    np.testing.assert_allclose(vertices, dog.vertices, atol=1e-5)
    np.testing.assert_array_equal(body.faces, dog.faces)
    assert set(joints) == set(dog.joints)
    for name, at in joints.items():
        np.testing.assert_allclose(at, dog.joints[name], atol=1e-5)


def test_a_knee_carries_shank_and_paw_only(dog: Surface, body: SkinnedBody) -> None:
    rotations = np.tile(np.eye(3), (len(body.bone_names), 1, 1))
    still, joints = body.pose(None, rotations)
    turn = Rotation.from_rotvec([0.8, 0, 0]).as_matrix()
    rotations[body.bone_index["left_shank"]] = turn
    moved, moved_joints = body.pose(None, rotations)
    expected = turn @ (joints["left_hind_paw"] - joints["left_knee"]) + joints["left_knee"]
    np.testing.assert_allclose(moved_joints["left_hind_paw"], expected, atol=1e-5)
    for part in ("left_head", "left_thorax", "right_thigh", "right_lower_hindleg_outer", "left_lower_foreleg_outer"):
        on = np.unique(dog.faces[dog.face_part == dog.part_names.index(part) + 1])
        np.testing.assert_allclose(moved[on], still[on], atol=1e-5)


def test_shapes_are_symmetric_dogs_of_many_sizes(body: SkinnedBody) -> None:
    rng = np.random.default_rng(0)
    mirror = Surface.load("dog").mirror
    heights, lengths = [], []
    for _ in range(100):
        vertices, heads, _ = body.rest(np.clip(rng.normal(size=body.shape_dim), -3, 3))
        np.testing.assert_allclose(vertices[mirror], vertices * [-1, 1, 1], atol=2e-4)
        heights.append(heads[body.bone_index["torso"]][1] - vertices[:, 1].min())
        lengths.append(np.ptp(vertices[:, 2]))
    assert 0.03 < np.std(heights) < 0.12
    assert min(heights) > 0.25
    assert max(heights) < 0.75
    assert 0.05 < np.std(lengths) < 0.3


def test_every_direction_of_shape_scales_what_it_is_named_for(body: SkinnedBody) -> None:
    def length(shape: np.ndarray, first: str, second: str) -> float:
        at = dict(zip(body.joint_names, body.rest(shape)[2], strict=True))
        return float(np.linalg.norm(at[first] - at[second]))

    spans = {
        1: ("left_elbow", "left_wrist"),
        2: ("neck", "tail_base"),
        5: ("neck", "left_ear"),
        7: ("left_eye", "nose"),
        8: ("left_ear", "left_ear_tip"),
        10: ("tail_base", "tail_tip"),
    }
    for direction, (first, second) in spans.items():
        shape = np.zeros(body.shape_dim)
        before = length(shape, first, second)
        shape[direction] = 1.0
        assert 1.02 < length(shape, first, second) / before < 1.25, direction
