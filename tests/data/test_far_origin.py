"""A capture whose world has its origin far away, as geographic coordinates do, is read as one near its origin."""

import numpy as np
import pytest
import torch

from dkp.batches import view_pairs
from dkp.captures import Capture
from dkp.captures.writer import CaptureWriter
from dkp.data.cache import CaptureImages
from dkp.data.collate import collate
from dkp.data.multiview import MultiviewInstants
from dkp.geometry import Camera, epipole, fundamental_matrix, triangulate
from dkp.surface import Surface

FAR = np.array([3.1e6, -4.2e6, 5.0e5])


def cameras_about(origin: np.ndarray) -> dict[str, Camera]:
    """Three cameras around a point, at two metres."""
    result = {}
    for name, angle in (("a", -0.6), ("b", 0.0), ("c", 0.6)):
        cos, sin = np.cos(angle), np.sin(angle)
        rotation = torch.tensor([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], dtype=torch.float64)
        centre = torch.from_numpy(origin) - 2 * rotation[2]
        intrinsics = torch.tensor([[40.0, 0, 16], [0, 40, 16], [0, 0, 1]], dtype=torch.float64)
        size = torch.tensor([32.0, 32.0], dtype=torch.float64)
        result[name] = Camera.create(intrinsics, rotation, -rotation @ centre, image_size=size)
    return result


@pytest.fixture
def captures(tmp_path):
    """The same capture twice: about the world's origin, and about a point 5,000 km away."""
    surface = Surface.plane(0.4, 0.4, 0.05)
    for name, origin in (("near", np.zeros(3)), ("far", FAR)):
        cameras = cameras_about(origin)
        with CaptureWriter(tmp_path / name, name=name, surface=surface, cameras=cameras, splits={}) as writer:
            for time in range(2):
                writer.add_truth(f"f{time}", surface.vertices + origin + 0.01 * time)
                for camera in cameras:
                    writer.add_view(f"f{time}", camera, np.zeros((32, 32, 3), np.uint8), time=time)
    return Capture.open(tmp_path / "near"), Capture.open(tmp_path / "far")


def test_a_far_world_gives_the_pairs_and_epipolar_lines_of_a_near_one(captures):
    batches = []
    for capture in captures:
        instants = MultiviewInstants([CaptureImages(capture, truth=True)], 32, 2)
        batches.append(collate([instants[0], instants[1]]))
    near, far = batches
    assert np.allclose(far["origin"], FAR, atol=3)
    assert not np.any(near["origin"])
    found, expected = view_pairs(far), view_pairs(near)
    assert len(expected) == 6
    assert torch.equal(found.first, expected.first)
    torch.testing.assert_close(found.fundamental, expected.fundamental, rtol=1e-4, atol=1e-6)
    # The posed surface is where the cameras see it.
    pixels, depth = far["camera"].project(far["vertices"][:, None])
    wanted, wanted_depth = near["camera"].project(near["vertices"][:, None])
    torch.testing.assert_close(pixels, wanted, rtol=0, atol=1e-3)
    torch.testing.assert_close(depth, wanted_depth, rtol=0, atol=1e-4)


def test_geometry_in_float64_does_not_mind_a_far_world():
    near, far = (Camera.stack(list(cameras_about(origin).values())) for origin in (np.zeros(3), FAR))
    pairs = [(0, 1), (1, 2), (0, 2)]
    for first, second in pairs:
        matrix = fundamental_matrix(near[first], near[second])
        torch.testing.assert_close(fundamental_matrix(far[first], far[second]), matrix, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(
            epipole(far[first], far[second]), epipole(near[first], near[second]), rtol=1e-6, atol=1e-4
        )
    points = torch.rand(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.4
    pixels = near.project(points)[0]
    found = triangulate(far, pixels).points - torch.from_numpy(FAR)
    torch.testing.assert_close(found, points, rtol=0, atol=1e-6)
    torch.testing.assert_close(far.about(torch.from_numpy(FAR)).centre(), near.centre(), rtol=0, atol=1e-8)
