"""The floor of a rig whose cameras see dirt on it: it is found where it is, and stays as said where none is seen."""

import cv2
import numpy as np
import pytest
import torch

from dkp.importers.floor import floor_plane
from dkp.importers.hull import Hull
from dkp.importers.subject import Lens, Track, packed

from .test_hull import BALL, SIZE, seen

FLOOR = np.array([0.02, -0.015, -0.2])
SAID = -0.18


@pytest.fixture(scope="module")
def rig(make_scene):
    return make_scene(size=SIZE, angles=(-80.0, -20.0, 35.0, 90.0)).cameras()


def on_floor(camera):
    """Where the rays through the pixels meet the floor: (h, w, 2) m."""
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    rays = camera.rays(torch.from_numpy(np.stack([x, y], -1).reshape(-1, 2))).numpy()
    centre = camera.centre().numpy()
    normal = np.array([*-FLOOR[:2], 1.0])
    distance = (FLOOR[2] - centre @ normal) / (rays @ normal)
    return (centre + rays * distance[:, None])[:, :2].reshape(*SIZE[::-1], 2)


def tracks(rig, dirt):
    """Cameras see a ball, and a grey floor with dirt (N, N) every 4 cm, each in its own light."""
    made = {}
    for index, (name, camera) in enumerate(rig.items()):
        cells = np.floor(on_floor(camera) / 0.04).astype(int) % len(dirt)
        noise = np.random.default_rng(index).normal(0, 1, SIZE[::-1])
        grey = 120 + 10 * index + dirt[cells[..., 1], cells[..., 0]] + noise
        image = np.repeat(cv2.GaussianBlur(grey, (0, 0), 0.7)[..., None], 3, -1).astype(np.uint8)
        made[name] = Track(masks={0: packed(seen(camera, BALL))}, background=image)
    return made


def hull_of(rig, floor):
    return Hull({name: Lens(camera) for name, camera in rig.items()}, dict.fromkeys(rig, SIZE), floor)


def test_the_floor_is_found_by_the_dirt_on_it(rig):
    dirt = np.where(np.random.default_rng(5).random((64, 64)) < 0.2, -30.0, 0.0)
    found = floor_plane(hull_of(rig, SAID), tracks(rig, dirt))
    corners = np.array([[x, y, 1.0] for x in (-0.2, 0.4) for y in (-0.2, 0.4)])
    assert abs(corners @ (found - FLOOR)).max() < 0.006
    assert abs(corners @ ([0, 0, SAID] - FLOOR)).max() > 0.02


def test_it_stays_as_said_where_nothing_shows_it(rig):
    np.testing.assert_array_equal(floor_plane(hull_of(rig, SAID), tracks(rig, np.zeros((2, 2)))), [0, 0, SAID])
    assert floor_plane(hull_of(rig, None), tracks(rig, np.zeros((2, 2)))) is None
    nothing = {name: Track(masks={0: packed(np.zeros(SIZE[::-1], bool))}) for name in rig}
    np.testing.assert_array_equal(floor_plane(hull_of(rig, SAID), nothing), [0, 0, SAID])
