"""Tests of labels at the cells of a field."""

import numpy as np

from dkp.data.cells import DenseCoordinates, PointCoordinates, cell_centres, place_points, sample_dense


def ramp(size=16):
    """Coordinates that equal the pixel centre, so that a sampled value tells where it was read."""
    y, x = np.mgrid[0:size, 0:size] + 0.5
    coordinate = np.stack([x, y, 0 * x], -1).astype(np.float32)
    everywhere = np.ones((size, size), bool)
    return DenseCoordinates(coordinate, everywhere.copy(), everywhere.copy())


def test_cell_centres():
    assert cell_centres(3, 2)[1, 2].tolist() == [5.0, 3.0]


def test_coordinates_are_read_where_asked():
    label = ramp()
    pixels = np.random.default_rng(0).uniform(1, 15, (40, 2))
    sampled = sample_dense(label, pixels, gap=2.0)
    np.testing.assert_allclose(sampled.coordinate[:, :2], pixels, atol=1e-5)
    at_stride = sample_dense(label, cell_centres(8, 2), gap=2.0)
    np.testing.assert_allclose(at_stride.coordinate[..., :2], cell_centres(8, 2), atol=1e-5)


def test_interpolation_stays_on_one_side_of_a_jump():
    label = ramp()
    label.coordinate[:, 8:, 2] = 5.0
    sampled = sample_dense(label, np.array([[7.9, 4.0], [8.1, 4.0]]), gap=2.0)
    np.testing.assert_allclose(sampled.coordinate[:, 2], [0, 5])
    sampled = sample_dense(label, np.array([[8.1, 4.0]]), gap=9.0)
    assert 0.5 < sampled.coordinate[0, 2] < 4.5


def test_background_does_not_bleed_into_coordinates():
    label = ramp()
    label.foreground[:, 8:] = False
    label.coordinate[:, 8:] = -1.0
    sampled = sample_dense(label, np.array([[7.9, 4.0], [8.1, 4.0]]), gap=99.0)
    assert sampled.foreground.tolist() == [True, False]
    np.testing.assert_allclose(sampled.coordinate[0], [7.5, 4.0, 0.0], atol=1e-5)


def test_outside_is_known_background():
    label = ramp()
    label.known[:] = False
    sampled = sample_dense(label, np.array([[-0.1, 4.0], [4.0, 16.0], [4.0, 4.0]]), gap=2.0)
    assert sampled.foreground.tolist() == [False, False, True]
    assert sampled.known.tolist() == [True, True, False]


def test_charts_come_from_the_nearest_pixel():
    label = ramp()
    label.part = np.arange(256, dtype=np.uint8).reshape(16, 16)
    label.uv = label.coordinate[..., :2].astype(np.float16) / 16
    label.foreground[0, 0] = False
    sampled = sample_dense(label, np.array([[3.9, 0.1], [0.5, 0.5]]), gap=2.0)
    assert sampled.part.tolist() == [3, 0]
    np.testing.assert_allclose(sampled.uv[0], [3.5 / 16, 0.5 / 16], atol=1e-3)


def test_points_go_to_their_cells():
    points = PointCoordinates(np.zeros((4, 2)), np.arange(12.0).reshape(4, 3))
    pixels = np.array([[0.2, 0.2], [1.1, 0.9], [5.0, 3.0], [9.0, 1.0]])
    label = place_points(points, pixels, cells=4, stride=2, background=None)
    assert label.foreground.sum() == 2
    assert label.coordinate[0, 0].tolist() == [3, 4, 5], "the point nearer to the cell's centre stays"
    assert label.coordinate[1, 2].tolist() == [6, 7, 8]
    assert (label.known == label.foreground).all()


def test_points_with_known_background():
    points = PointCoordinates(np.zeros((1, 2)), np.ones((1, 3)))
    background = np.zeros((4, 4), bool)
    background[3] = True
    label = place_points(points, np.array([[1.0, 1.0]]), 4, 2, background)
    assert label.known.sum() == 5
    assert label.foreground.sum() == 1
    label = place_points(points, np.array([[1.0, 6.5]]), 4, 2, background)
    assert (label.known == background).all()
    assert not label.foreground.any(), "a cell whose centre is background stays so, with a point on its rim or without"


def test_no_points():
    label = place_points(PointCoordinates(np.zeros((0, 2)), np.zeros((0, 3))), np.zeros((0, 2)), 4, 2, None)
    assert not label.known.any()
