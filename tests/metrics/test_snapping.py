"""dkp/metrics/snapping.py: predicted positions onto the surface."""

import numpy as np

from dkp.metrics.snapping import onto_surface
from dkp.surface import Surface


def test_points_off_a_sphere_come_close_to_the_exact_closest_point(ball):
    rng = np.random.default_rng(0)
    face = rng.integers(0, len(ball.faces), 500)
    on = ball.coordinates(face, rng.dirichlet([1, 1, 1], 500))
    off = on * rng.uniform(0.85, 1.15, (500, 1))
    exact = ball.coordinates(*ball.locate(off)[:2])
    moved = onto_surface(ball, off)
    assert np.linalg.norm(off - exact, axis=1).mean() > 0.03
    gap = np.linalg.norm(moved - exact, axis=1)
    to_vertex = np.linalg.norm(ball.vertices[ball.nearest_vertex(off)] - exact, axis=1)
    assert np.median(gap) < 0.2 * np.median(to_vertex)
    assert gap.max() < 0.025


def test_points_on_the_surface_stay(ball):
    np.testing.assert_allclose(onto_surface(ball, ball.vertices), ball.vertices, atol=1e-12)


def test_a_far_point_stays_near_its_nearest_vertex(ball):
    far = np.array([[30.0, 1.0, 2.0]])
    vertex = ball.vertices[ball.nearest_vertex(far)]
    assert np.linalg.norm(onto_surface(ball, far) - vertex) < 0.1


def test_flat_surface_loses_the_height_only():
    board = Surface.plane(width=0.3, height=0.2, spacing=0.05)
    moved = onto_surface(board, np.array([[0.11, 0.07, 0.04], [-0.1, 0.5, -0.2]]))
    np.testing.assert_allclose(moved, [[0.11, 0.07, 0], [-0.1, 0.5, 0]])
