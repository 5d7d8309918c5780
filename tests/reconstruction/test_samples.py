import numpy as np
import pytest
import torch

from dkp.reconstruction import sample_surface
from dkp.surface import Surface


def test_points_lie_on_the_surface_and_are_the_same_each_time(surface):
    first, second = sample_surface(surface, 200), sample_surface(surface, 200)
    assert len(first) == 200
    np.testing.assert_array_equal(first.coordinate, second.coordinate)
    np.testing.assert_allclose(first.barycentric.sum(1), 1)
    assert first.barycentric.min() >= 0
    assert surface.locate(first.coordinate)[2].max() < 1e-9


def test_points_are_spread_evenly():
    """No point of a square is far from a sample, and no two samples are close."""
    plane = Surface.plane(1.0, 1.0, 0.5)
    found = sample_surface(plane, 100).coordinate
    gap = np.linalg.norm(found[:, None] - found[None], axis=-1) + np.eye(100)
    assert gap.min() > 0.06  # 0.1 m apart on a square grid
    everywhere = np.random.default_rng(3).random((500, 3)) * [1, 1, 0]
    assert np.linalg.norm(everywhere[:, None] - found[None], axis=-1).min(1).max() < 0.12


def test_positions_and_normals_follow_the_pose(surface):
    samples = sample_surface(surface, 50)
    rest = torch.from_numpy(surface.vertices)
    torch.testing.assert_close(samples.positions(rest), torch.from_numpy(samples.coordinate))
    moved = torch.stack([rest, 2 * rest + 1])
    torch.testing.assert_close(samples.positions(moved)[1], 2 * torch.from_numpy(samples.coordinate) + 1)
    outwards = (samples.normals(moved) * torch.from_numpy(samples.coordinate)).sum(-1)
    assert outwards.shape == (2, 50)
    assert (outwards > 0).all()


def test_no_points_are_refused(surface):
    with pytest.raises(ValueError, match="1 or more points"):
        sample_surface(surface, 0)
