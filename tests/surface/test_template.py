"""The shipped human, boards and users' own meshes as surfaces."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from dkp.errors import InputError
from dkp.surface import Surface

from .conftest import random_points, sphere_mesh


def signed_uv_area(surface: Surface) -> np.ndarray:
    first = surface.corner_uv[:, 1] - surface.corner_uv[:, 0]
    second = surface.corner_uv[:, 2] - surface.corner_uv[:, 0]
    return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]


def test_human_is_one_closed_surface_of_a_persons_size(human: Surface) -> None:
    edges = np.unique(
        np.sort(np.concatenate([human.faces[:, [0, 1]], human.faces[:, [1, 2]], human.faces[:, [2, 0]]]), 1), axis=0
    )
    assert len(human.vertices) - len(edges) + len(human.faces) == 2
    assert 6000 < len(human.vertices) < 8192
    centre, half_extent = human.bounds
    assert 1.6 < 2 * half_extent[1] < 1.9
    assert np.all(human.vertices <= centre + half_extent + 1e-9)
    corners = human.vertices[human.faces]
    volume = np.einsum("ni,ni->n", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 0.04 < volume < 0.12, "faces must wind anticlockwise seen from outside"


def test_human_axes_and_joints(human: Surface) -> None:
    joints = human.joints
    assert len(joints) == 24
    for side, sign in (("left", 1), ("right", -1)):
        assert sign * joints[f"{side}_wrist"][0] > 0.4
        assert joints[f"{side}_toe"][2] > joints[f"{side}_heel"][2] + 0.15
    assert joints["nose"][2] > joints["neck"][2] + 0.08
    assert (
        joints["head"][1] > joints["neck"][1] > joints["left_hip"][1] > joints["left_knee"][1] > joints["left_ankle"][1]
    )
    np.testing.assert_allclose(joints["left_hip"] + joints["right_hip"], 0, atol=1e-6)
    _, _, distance = human.locate(np.stack([joints["nose"], joints["left_heel"], joints["left_toe"]]))
    assert distance.max() < 0.03


def test_rest_pose_keeps_limbs_apart(human: Surface) -> None:
    part = {
        name: human.vertices[human.faces[human.face_part == k + 1]].reshape(-1, 3)
        for k, name in enumerate(human.part_names)
    }
    legs = [part["left_lower_leg_front"], part["right_lower_leg_front"]]
    assert legs[0][:, 0].min() - legs[1][:, 0].max() > 0.25
    assert part["left_hand"][:, 0].min() - part["torso_front"][:, 0].max() > 0.25


def test_parts_have_the_meaning_densepose_gives_them(human: Surface) -> None:
    centre = [human.vertices[human.faces[human.face_part == k]].mean((0, 1)) for k in range(1, 25)]
    at = dict(zip(human.part_names, centre, strict=True))
    assert human.parts == 24
    assert [
        human.part_names.index(n) + 1 for n in ("right_hand", "left_hand", "left_foot", "right_foot", "left_head")
    ] == [3, 4, 5, 6, 24]
    assert at["torso_front"][2] > at["torso_back"][2] + 0.05
    for side, sign in (("left", 1), ("right", -1)):
        for name in ("hand", "foot", "upper_leg_back", "lower_leg_front", "upper_arm_inner", "lower_arm_outer", "head"):
            assert sign * at[f"{side}_{name}"][0] > 0
        assert at[f"{side}_upper_leg_front"][2] > at[f"{side}_upper_leg_back"][2]
        # With the arms at the side the inner side touches the body: below in the rest pose.
        assert at[f"{side}_upper_arm_inner"][1] < at[f"{side}_upper_arm_outer"][1]
        assert at[f"{side}_lower_arm_inner"][1] < at[f"{side}_lower_arm_outer"][1]


def test_human_charts_do_not_fold_and_fill_the_square(human: Surface) -> None:
    area = signed_uv_area(human)
    assert area.min() > 0
    for part in range(1, 25):
        assert 0.7 < area[human.face_part == part].sum() / 2 < 1.0


def test_charts_round_trip(human: Surface) -> None:
    face, barycentric = random_points(human, 20_000)
    points = human.coordinates(face, barycentric)
    back = human.coordinates(*human.from_charts(*human.charts(face, barycentric)))
    error = np.linalg.norm(points - back, axis=1)
    assert (error < 0.01).mean() > 0.999
    assert np.median(error) < 1e-9


def test_chart_coordinates_resolve_every_part(human: Surface) -> None:
    face, barycentric = random_points(human, 20_000)
    part, uv = human.charts(face, barycentric)
    points = human.coordinates(face, barycentric)
    moved = np.clip(uv + np.random.default_rng(0).normal(0, 0.01, uv.shape), 0, 1)
    error = np.linalg.norm(points - human.coordinates(*human.from_charts(part, moved)), axis=1)
    for number in range(1, 25):
        assert np.median(error[part == number]) < 0.015


def test_locate_recovers_surface_points_and_keeps_leading_shape(human: Surface) -> None:
    face, barycentric = random_points(human, 6000)
    points = human.coordinates(face, barycentric).reshape(20, 300, 3)
    found, weights, distance = human.locate(points)
    assert found.shape == distance.shape == (20, 300)
    assert weights.shape == (20, 300, 3)
    assert distance.max() < 1e-9
    np.testing.assert_allclose(human.coordinates(found, weights), points, atol=1e-9)


def test_mirror_is_an_exact_reflection_that_swaps_parts(human: Surface) -> None:
    assert human.mirror is not None
    np.testing.assert_array_equal(human.vertices[human.mirror], human.vertices * [-1, 1, 1])
    assert set(map(tuple, np.sort(human.mirror[human.faces], 1))) == set(map(tuple, np.sort(human.faces, 1)))
    face, barycentric = random_points(human, 4000)
    points = human.coordinates(face, barycentric)
    mirrored = human.mirror_coordinates(points)
    np.testing.assert_allclose(human.mirror_coordinates(mirrored), points)
    other, weights, distance = human.locate(mirrored)
    assert distance.max() < 1e-6
    part, uv = human.charts(face, barycentric)
    other_part, other_uv = human.charts(other, weights)
    swapped = [name.replace("left", "x").replace("right", "left").replace("x", "right") for name in human.part_names]
    expected = np.array([0] + [human.part_names.index(name) + 1 for name in swapped])[part]
    agree = other_part == expected
    assert agree.mean() > 0.999  # points on a border may fall on either side
    limbs = agree & ~np.isin(part, (1, 2))
    np.testing.assert_allclose(other_uv[limbs], (uv * [-1, 1] + [1, 0])[limbs], atol=1e-3)


def test_mirror_map_that_is_no_reflection_goes_through_faces() -> None:
    vertices, faces = sphere_mesh(3)
    skewed = vertices @ np.array([[1.0, 0, 0], [0.3, 1, 0], [0, 0, 1]])
    order = {tuple(np.round(v, 9) + 0.0): k for k, v in enumerate(vertices)}
    mirror = np.array([order[tuple(np.round(v * [-1, 1, 1], 9) + 0.0)] for v in vertices])
    plain = Surface.from_mesh(skewed, faces, "skewed")
    surface = Surface("skewed", skewed, faces, plain.face_part, plain.corner_uv, plain.part_names, mirror)
    np.testing.assert_allclose(surface.mirror_coordinates(skewed), skewed[mirror], atol=1e-9)


def test_surface_without_mirror_refuses(sphere: Surface) -> None:
    with pytest.raises(InputError, match="no mirror map"):
        sphere.mirror_coordinates(np.zeros(3))


def test_plane_is_the_board() -> None:
    board = Surface.plane(0.27, 0.216, 0.009)
    assert board.flat
    assert board.parts == 1
    assert len(board.vertices) == 31 * 25
    face, weights, distance = board.locate(np.array([0.1, 0.05, 0.02]))
    assert distance == pytest.approx(0.02)
    part, uv = board.charts(face, weights)
    assert part == 1
    np.testing.assert_allclose(uv, [0.1 / 0.27, 0.05 / 0.216])
    np.testing.assert_allclose(board.coordinates(*board.from_charts(np.array(1), uv)), [0.1, 0.05, 0], atol=1e-9)
    with pytest.raises(InputError, match="width = -1"):
        Surface.plane(-1, 1, 0.1)


def test_only_planes_are_flat(human: Surface, sphere: Surface) -> None:
    board = Surface.plane(0.27, 0.216, 0.009)
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    assert board.is_flat
    assert Surface.from_mesh(board.vertices @ turned + 3, board.faces, "turned").is_flat
    bent = board.vertices + [0, 0, 0.01] * (board.vertices[:, :1] > 0.1)
    assert not Surface.from_mesh(bent, board.faces, "bent").is_flat
    assert not human.is_flat
    assert not sphere.is_flat


def test_any_mesh_gets_charts(sphere: Surface) -> None:
    assert sphere.parts >= 2
    assert signed_uv_area(sphere).min() > 0
    face, barycentric = random_points(sphere, 5000)
    points = sphere.coordinates(face, barycentric)
    back = sphere.coordinates(*sphere.from_charts(*sphere.charts(face, barycentric)))
    assert np.abs(points - back).max() < 1e-6


def test_saved_files_have_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    for mask, mode in ((0o022, 0o644), (0o027, 0o640)):
        before = os.umask(mask)
        try:
            Surface.plane(1, 1, 0.5).save(tmp_path / "board.npz")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "board.npz").stat().st_mode) == mode
    assert [path.name for path in tmp_path.iterdir()] == ["board.npz"]


def test_save_and_load_keep_everything(human: Surface, tmp_path: Path) -> None:
    human.save(tmp_path / "copy.npz")
    copy = Surface.load(tmp_path / "copy.npz")
    np.testing.assert_array_equal(copy.vertices, human.vertices)
    np.testing.assert_array_equal(copy.faces, human.faces)
    np.testing.assert_array_equal(copy.face_part, human.face_part)
    np.testing.assert_array_equal(copy.mirror, human.mirror)
    np.testing.assert_allclose(copy.corner_uv, human.corner_uv, atol=1e-6)
    assert copy.part_names == human.part_names
    assert copy.name == "human"
    np.testing.assert_allclose(copy.joints["left_toe"], human.joints["left_toe"])
    assert [path.name for path in tmp_path.iterdir()] == ["copy.npz"]
    Surface.plane(1, 1, 0.5).save(tmp_path / "board.npz")
    assert Surface.load(tmp_path / "board.npz").flat


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"not a zip", "not a plain .npz"),
        ({"points": np.zeros(3)}, "expected at least vertices and faces"),
        ({"vertices": np.zeros((3, 3)), "faces": np.array([[0, 1, 5]])}, "face indices 0 to 5"),
        (
            {
                "vertices": np.eye(3),
                "faces": np.array([[0, 1, 2]]),
                "face_part": np.array([1]),
                "corner_uv": np.full((1, 3, 2), 2.0),
            },
            "within",
        ),
    ],
)
def test_bad_surface_files_are_refused(tmp_path: Path, content: bytes | dict | None, message: str) -> None:
    path = tmp_path / "bad.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.savez(path, **content)
    with pytest.raises(InputError, match=message):
        Surface.load(path)


def test_a_surface_file_with_damaged_bytes_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", vertices=np.random.default_rng(0).normal(size=(99, 3)), faces=np.eye(3))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[200:260] = bytes(60)
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"not a plain \.npz"):
        Surface.load(tmp_path / "a.npz")


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(InputError, match="expected one of dog, human"):
        Surface.load("humn")
