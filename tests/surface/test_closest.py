"""Closest points against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from dkp.surface import Surface
from dkp.surface.closest import ClosestPoint, closest_on_triangles


def sampled_distance(point: np.ndarray, triangle: np.ndarray) -> float:
    u, v = np.meshgrid(np.linspace(0, 1, 201), np.linspace(0, 1, 201))
    inside = u + v <= 1 + 1e-12
    weights = np.stack([1 - u[inside] - v[inside], u[inside], v[inside]], 1)
    return float(np.linalg.norm(weights @ triangle - point, axis=1).min())


def test_single_triangles() -> None:
    rng = np.random.default_rng(0)
    points, triangles = rng.normal(size=(60, 3)), rng.normal(size=(60, 3, 3))
    weights = closest_on_triangles(points, triangles)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(1), 1)
    distance = np.linalg.norm(np.einsum("nk,nki->ni", weights, triangles) - points, axis=1)
    for k in range(60):
        sampled = sampled_distance(points[k], triangles[k])
        assert distance[k] <= sampled + 1e-12
        assert distance[k] > sampled - 0.03


def test_degenerate_triangle_is_its_longest_edge() -> None:
    triangle = np.array([[[0.0, 0, 0], [1, 0, 0], [0.5, 0, 0]]])
    weights = closest_on_triangles(np.array([[0.7, 1.0, 0]]), triangle)
    np.testing.assert_allclose(np.einsum("nk,nki->ni", weights, triangle), [[0.7, 0, 0]], atol=1e-12)


@pytest.mark.parametrize(("noise", "allowed"), [(0.0, 1e-9), (0.003, 1e-9), (0.05, 2e-3), (0.5, 5e-3)])
def test_human_against_all_faces(human: Surface, noise: float, allowed: float) -> None:
    rng = np.random.default_rng(0)
    points = human.vertices[rng.integers(0, len(human.vertices), 25)] + noise * rng.normal(size=(25, 3))
    face, weights, distance = human.locate(points)
    corners = np.broadcast_to(human.vertices[human.faces], (25, *human.faces.shape, 3))
    every = np.broadcast_to(points[:, None], (25, len(human.faces), 3))
    brute = np.linalg.norm(np.einsum("nfk,nfki->nfi", closest_on_triangles(every, corners), corners) - every, axis=-1)
    excess = distance - brute.min(1)
    assert excess.min() > -1e-9
    assert excess.max() < allowed
    np.testing.assert_allclose(np.linalg.norm(human.coordinates(face, weights) - points, axis=1), distance, atol=1e-9)


def test_faces_of_very_different_size() -> None:
    vertices = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0], [0.01, -0.01, 0], [0, -0.01, 0]], dtype=float)
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 4, 3]])
    face, _, distance = ClosestPoint(vertices, faces)(np.array([[4.0, 4.0, 0.5], [0.004, -0.008, 0.1]]))
    assert face.tolist() == [0, 2]
    np.testing.assert_allclose(distance, [0.5, 0.1])
