"""Surfaces that several tests share, and a cache folder of the tests' own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from dkp.surface import Surface


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("DKP_CACHE")
    os.environ.setdefault("DKP_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    if before is None:
        os.environ.pop("DKP_CACHE", None)


@pytest.fixture(scope="session")
def human() -> Surface:
    return Surface.load("human")


def sphere_mesh(rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """A unit sphere: an octahedron whose faces are cut in four ``rounds`` times."""
    vertices = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=float)
    faces = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])
    for _ in range(rounds):
        edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
        unique, inverse = np.unique(edges, axis=0, return_inverse=True)
        ab, bc, ca = len(vertices) + inverse.reshape(3, -1)
        middle = vertices[unique].mean(1)
        vertices = np.concatenate([vertices, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
        a, b, c = faces.T
        faces = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))])
    return vertices, faces


def torus_mesh(major: int = 32, minor: int = 12) -> tuple[np.ndarray, np.ndarray]:
    u, v = (np.linspace(0, 2 * np.pi, n, endpoint=False) for n in (major, minor))
    u, v = np.meshgrid(u, v, indexing="ij")
    ring = 1.0 + 0.3 * np.cos(v)
    vertices = np.stack([ring * np.cos(u), ring * np.sin(u), 0.3 * np.sin(v)], axis=-1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(major), np.arange(minor), indexing="ij")
    at = lambda a, b: ((a % major) * minor + b % minor).ravel()  # noqa: E731
    p, q, r, s = at(i, j), at(i + 1, j), at(i + 1, j + 1), at(i, j + 1)
    return vertices, np.concatenate([np.stack([p, q, r], 1), np.stack([p, r, s], 1)])


def random_points(surface: Surface, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Faces (by area) and barycentric coordinates of points spread evenly over a surface."""
    rng = np.random.default_rng(seed)
    corners = surface.vertices[surface.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    return rng.choice(len(area), count, p=area / area.sum()), rng.dirichlet(np.ones(3), count)


@pytest.fixture(scope="session")
def sphere() -> Surface:
    return Surface.from_mesh(*sphere_mesh(4), "sphere")
