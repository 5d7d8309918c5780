"""Views that are not there may hold anything."""

import pytest
import torch

from dkp.geometry import Camera, triangulate
from dkp.reconstruction import ReconstructionSettings, Reconstructor, RegistrationSettings, SurfaceRegistration

BAD = [torch.nan, torch.inf]


def spoilt(camera: Camera, present: torch.Tensor, bad: float) -> Camera:
    """The cameras with all numbers bad where the views are not there."""
    values = {}
    for name in ("intrinsics", "rotation", "translation", "distortion", "image_size"):
        value = getattr(camera, name)
        values[name] = torch.where(present.view(*present.shape, *(1,) * (value.ndim - present.ndim)), value, bad)
    return Camera(**values)


@pytest.mark.parametrize("bad", BAD)
def test_triangulation(scene, bad):
    camera, points = scene.camera, torch.rand(1, 30, 3, dtype=torch.float64) * 0.3
    pixels = camera.project(points[:, None])[0]
    present = torch.ones(camera.shape, dtype=torch.bool)
    present[:, 2] = False
    weights = present[..., None].expand(pixels.shape[:-1]).double()
    clean = triangulate(camera, pixels, weights)
    dirty = triangulate(spoilt(camera, present, bad), torch.where(present[..., None, None], pixels, bad), weights)
    torch.testing.assert_close(dirty.points, clean.points)
    torch.testing.assert_close(dirty.residual, clean.residual)
    assert clean.valid.all()


@pytest.mark.parametrize("bad", BAD)
def test_reconstruction_and_registration(scene, surface, bad):
    present = torch.ones(scene.camera.shape, dtype=torch.bool)
    present[:, 1] = False
    there = present[..., None, None]
    given = (scene.coordinate, scene.foreground, scene.camera)
    dirty = (
        torch.where(there[..., None], scene.coordinate, bad),
        torch.where(there, scene.foreground.float(), bad),
        spoilt(scene.camera, present, bad),
    )
    reconstructor = Reconstructor(surface, ReconstructionSettings(points=60))
    one, two = reconstructor(*given, present), reconstructor(*dirty, present)
    assert one.valid.float().mean() > 0.5
    torch.testing.assert_close(two.points, one.points, equal_nan=True)
    registration = SurfaceRegistration(surface, RegistrationSettings(nodes=60, steps=4))
    torch.testing.assert_close(registration(*dirty, present).vertices, registration(*given, present).vertices)
    for call in (reconstructor, registration):
        with pytest.raises(ValueError, match=r"present is of type torch\.float32, expected torch\.bool"):
            call(*given, present.float())
