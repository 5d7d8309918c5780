"""The same surface point in two views."""

import numpy as np
import pytest
import torch

from dkp.captures import DenseLabel, SparseLabel, View
from dkp.captures.check.correspondences import CoordinateImage, dense_matches, joint_matches, sparse_matches


@pytest.mark.parametrize("lens", [(0.0,) * 5, (-0.2, 0.05, 0.002, -0.001, 0.01)])
def test_dense_matches_are_right_to_a_hundredth_of_a_pixel(make_scene, lens):
    scene = make_scene(distortion=lens)
    cameras = list(scene.cameras().values())
    images = [CoordinateImage.create(scene.label(camera, 1), scene.surface) for camera in cameras[:2]]
    pixels, other = dense_matches(*images, count=300)
    assert len(pixels) > 200
    rows, columns = (pixels[:, ::-1] - 0.5).astype(int).T
    axes, origin = scene.pose(1)
    points = images[0].coordinate[rows, columns] @ axes.T + origin
    expected, _ = cameras[1].project(torch.from_numpy(points))
    error = np.linalg.norm(other - expected.numpy(), axis=1)
    assert error.max() < 0.02
    assert np.abs(other - np.floor(other) - 0.5).mean() > 0.1  # not pixel centres


def test_points_that_the_other_view_does_not_show_are_not_matched(scene):
    cameras = list(scene.cameras().values())
    labels = [scene.label(camera, 0) for camera in cameras[:2]]
    left = scene.surface.vertices[scene.surface.faces].mean(axis=1)[:, 0] < 0.3
    hidden = labels[1].face.copy()
    hidden[(hidden >= 0) & ~left[hidden]] = -1  # the other view shows the left half only
    images = [
        CoordinateImage.create(label, scene.surface) for label in (labels[0], DenseLabel(hidden, labels[1].barycentric))
    ]
    pixels, _ = dense_matches(*images, count=10_000)
    rows, columns = (pixels[:, ::-1] - 0.5).astype(int).T
    assert len(pixels) > 100
    assert images[0].coordinate[rows, columns][:, 0].max() < 0.32
    nothing = DenseLabel(np.full_like(hidden, -1), labels[1].barycentric)
    for first, second in ((labels[0], nothing), (nothing, labels[0])):
        pair = [CoordinateImage.create(label, scene.surface) for label in (first, second)]
        assert len(dense_matches(*pair)[0]) == 0


def test_neighbours_from_another_part_of_the_surface_are_no_guide(scene):
    label = scene.label(scene.cameras()["cam_0"], 0)
    image = CoordinateImage.create(label, scene.surface)
    row, column = image.rows[len(image.rows) // 2], image.columns[len(image.rows) // 2]
    point = image.coordinate[row, column][None]
    assert image.find(point)[1].all()
    image.coordinate[row - 1, column + 1] += [0.0, 0.2, 0.0]
    assert not image.find(point)[1].any()


def test_sparse_points_match_where_they_are_the_same(scene):
    first = SparseLabel(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0, 9]), np.array([[1, 0, 0], [0.2, 0.3, 0.5]]))
    other = SparseLabel(np.array([[5.0, 6.0], [7.0, 8.0]]), np.array([9, 20]), np.array([[0.2, 0.3, 0.5], [0, 0, 1]]))
    pixels, other_pixels = sparse_matches(first, other, scene.surface)
    assert pixels.tolist() == [[3.0, 4.0]]
    assert other_pixels.tolist() == [[5.0, 6.0]]
    none = SparseLabel(np.zeros((0, 2)), np.zeros(0, int), np.zeros((0, 3)))
    assert sparse_matches(first, none, scene.surface)[0].shape == (0, 2)


def view(joints):
    return View(frame="a", sequence="s", time=0, camera="c", image="i.png", size=(9, 9), joints=joints)


def test_joints_match_by_name_where_both_are_sure():
    first = view({"nose": (1.0, 2.0, 0.9), "neck": (3.0, 4.0, 0.9), "head": (5.0, 6.0, 0.1)})
    other = view({"head": (9.0, 9.0, 0.9), "neck": (7.0, 8.0, 0.5), "left_hip": (0.0, 0.0, 1.0)})
    pixels, other_pixels = joint_matches(first, other)
    assert (pixels.tolist(), other_pixels.tolist()) == ([[3.0, 4.0]], [[7.0, 8.0]])
    assert joint_matches(first, view(None))[0].shape == (0, 2)
