"""Tests of the chart atlas, on a plane (exact) and on a closed mesh."""

import numpy as np
import pytest
import torch

from dkp.fields import ChartAtlas
from dkp.surface import Surface


@pytest.fixture(scope="module")
def plane():
    return Surface.plane(0.2, 0.1, 0.02)


@pytest.fixture(scope="module")
def ball():
    steps = np.arange(12) / 12 * 2 * np.pi
    height = np.linspace(0, np.pi, 8)[1:-1]
    ring = np.stack([np.sin(height)[:, None] * np.cos(steps), np.cos(height)[:, None] + 0 * steps,
                     np.sin(height)[:, None] * np.sin(steps)], -1)  # fmt: skip
    index = np.arange(72).reshape(6, 12)
    after = np.roll(index, -1, 1)
    faces = [np.stack([index[:-1], after[:-1], index[1:]], -1), np.stack([after[:-1], after[1:], index[1:]], -1),
             np.stack([np.full(12, 72), after[0], index[0]], -1),
             np.stack([np.full(12, 73), index[-1], after[-1]], -1)]  # fmt: skip
    vertices = np.concatenate([ring.reshape(-1, 3), [[0, 1, 0], [0, -1, 0]]])
    return Surface.from_mesh(vertices, np.concatenate([part.reshape(-1, 3) for part in faces]), "ball")


def random_points(surface, count=300):
    rng = np.random.default_rng(0)
    face = rng.integers(len(surface.faces), size=count)
    barycentric = rng.dirichlet([1, 1, 1], count)
    return face, barycentric


def test_the_plane_is_exact(plane):
    atlas = ChartAtlas.from_surface(plane, 9)
    uv = torch.rand(50, 2, dtype=torch.float64)
    coordinate = atlas.encode(torch.ones(50, dtype=torch.long), uv)
    expected = torch.stack([0.2 * uv[:, 0], 0.1 * uv[:, 1], torch.zeros(50)], -1).float()
    torch.testing.assert_close(coordinate, expected, atol=1e-6, rtol=0)
    corners = atlas.encode(torch.ones(2, dtype=torch.long), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    torch.testing.assert_close(corners, torch.tensor([[0, 0, 0], [0.2, 0.1, 0]]), atol=1e-6, rtol=0)


def test_surface_points_come_back(ball):
    face, barycentric = random_points(ball)
    truth = torch.from_numpy(ball.coordinates(face, barycentric))
    part, uv = ball.charts(face, barycentric)
    errors = []
    for resolution in (16, 64):
        atlas = ChartAtlas.from_surface(ball, resolution)
        coordinate = atlas.encode(torch.from_numpy(np.asarray(part)), torch.from_numpy(uv))
        errors.append(float((coordinate - truth).norm(dim=-1).mean()))
    assert errors[1] < 0.02
    assert errors[1] < errors[0]


def test_gradient_is_that_of_the_map(plane):
    atlas = ChartAtlas.from_surface(plane, 9)
    uv = torch.tensor([[0.31, 0.52]], requires_grad=True)
    (gradient,) = torch.autograd.grad(atlas.encode(torch.tensor([1]), uv)[0, 0], uv)
    torch.testing.assert_close(gradient, torch.tensor([[0.2, 0.0]]), atol=1e-5, rtol=0)


def test_the_atlas_moves_and_saves(ball):
    atlas = ChartAtlas.from_surface(ball, 8)
    other = ChartAtlas(torch.zeros_like(atlas.images))
    other.load_state_dict(atlas.state_dict())
    assert torch.equal(other.images, atlas.images)
    with pytest.raises(ValueError, match=r"shape \(2, 3\) where"):
        ChartAtlas(torch.zeros(2, 3))
