"""From a pixel over the vertex that it shows to its position in space."""

import numpy as np
import pytest
import torch

import dkp
from dkp.surface import Surface

from .conftest import SIDE, looking


def exact(camera, surface, box):
    """What a detector would say that makes no error, in cells of a 64th of the box."""
    centres = (np.arange(64) + 0.5) / 64
    x, y = np.meshgrid(box[0] + centres * (box[2] - box[0]), box[1] + centres * (box[3] - box[1]))
    rays = camera.rays(torch.from_numpy(np.stack([x, y], -1).reshape(-1, 2))).numpy().reshape(64, 64, 3)
    centre = camera.centre().numpy()
    coordinate = centre - rays * (centre[2] / rays[..., 2:])
    foreground = ((coordinate[..., :2] > 0) & (coordinate[..., :2] < SIDE)).all(-1)
    return dkp.Prediction(np.array(box), foreground * 1.0, coordinate, (640, 480), surface)


@pytest.fixture(scope="module")
def views():
    """Three cameras, one with a lens that distorts, and their fields, of boxes of several sizes."""
    surface = Surface.plane(SIDE, SIDE, SIDE / 8)
    cameras = [looking(-0.8), looking(0.3, [-0.2, 0.05, 0, 0]), looking(1.2)]
    boxes = ([180.0, 100, 460, 380], [200.0, 120, 440, 360], [170.0, 90, 470, 390])
    return cameras, [exact(*one, box) for one, box in zip(((c, surface) for c in cameras), boxes, strict=True)]


def test_a_pixel_leads_to_its_position(views):
    cameras, fields = views
    found = dkp.reconstruct(fields, cameras)
    assert (found.views >= 2).mean() > 0.9
    place = torch.tensor([[0.15, 0.25, 0.0]], dtype=torch.float64)
    for one, camera in zip(fields, cameras, strict=True):
        vertex = one.at(camera.project(place)[0].numpy()).vertex
        np.testing.assert_allclose(found.at(vertex), place.numpy(), atol=0.04)  # vertices are 5 cm from each other
    known = found.views >= 2
    error = np.linalg.norm(found.position - found.surface.vertices, axis=1)[known]
    assert np.median(error) < 0.005
    assert np.isnan(found.position[~known]).all()
    assert np.isnan(found.at([-1, 0])[0]).all()
    assert ((found.confidence > 0) == known).all()


def test_what_is_no_set_of_views_is_refused(views):
    cameras, fields = views
    with pytest.raises(ValueError, match="3 fields and 2 cameras"):
        dkp.reconstruct(fields, cameras[:2])
    with pytest.raises(ValueError, match="1 fields and 1 cameras"):
        dkp.reconstruct(fields[:1], cameras[:1])
    other = exact(cameras[0], Surface.plane(SIDE, SIDE, SIDE / 4), [180.0, 100, 460, 380])
    with pytest.raises(ValueError, match="those of one detector"):
        dkp.reconstruct([*fields[:2], other], cameras)
    with pytest.raises(ValueError, match="whole numbers from -1"):
        dkp.reconstruct(fields, cameras).at([10_000])


def test_nothing_is_known_outside_of_the_image(views):
    _, (one, *_) = views
    found = one.at([[320, 240], [5, 5], [-1, 240], [320, 481], [np.nan, 0]])
    assert np.isnan(found.foreground).tolist() == [False, False, True, True, True]
    assert (found.vertex[1:] == -1).all()
    assert found.vertex[0] >= 0
    assert np.isnan(found.coordinate[1:]).all()
    assert not found.part[1:].any()
