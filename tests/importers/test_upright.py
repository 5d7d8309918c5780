"""Images of cameras that are askew are turned so that what is up in the world is up in them."""

import numpy as np
import pytest
import torch

from dkp.captures.crops import apply_affine
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.importers.subject import Lens
from dkp.importers.upright import roll, turns

UP = np.array([0.0, 0.0, 1.0])


def camera_at(angle: float, askew: float, pitch: float = 20.0) -> Camera:
    """A camera that looks at the origin from 4 m, from above by `pitch` and held askew, clockwise [degrees]."""
    a, p, r = np.radians([angle, pitch, askew])
    forward = -np.array([np.cos(a) * np.cos(p), np.sin(a) * np.cos(p), np.sin(p)])
    right = np.cross(forward, UP)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    right, down = np.cos(r) * right + np.sin(r) * down, np.cos(r) * down - np.sin(r) * right
    intrinsics = [[900.0, 0, 640], [0, 900, 360], [0, 0, 1]]
    rotation = np.stack([right, down, forward])
    return Camera.create(
        torch.tensor(intrinsics).double(),
        rotation=torch.from_numpy(rotation),
        translation=torch.tensor([0.0, 0.0, 4.0]).double(),
        image_size=torch.tensor([1280.0, 720.0]).double(),
    )


def rig(*askew: float, pitch: float = 20.0) -> dict[str, Camera]:
    return {f"c{i}": camera_at(360 * i / len(askew), one, pitch) for i, one in enumerate(askew)}


def direction_of_up(camera: Camera, affine: np.ndarray) -> np.ndarray:
    """Which way up is in a crop at the origin of the world, of unit length; (0, -1) = upwards."""
    pixels = camera.project(torch.from_numpy(np.stack([0 * UP, 0.01 * UP])))[0].numpy()
    first, second = apply_affine(affine, pixels)
    return (second - first) / np.linalg.norm(second - first)


@pytest.mark.parametrize("askew", [-170.0, -90.0, -26.0, 12.0, 45.0, 180.0])
def test_up_is_up_in_the_crop_of_a_camera_that_is_askew(askew):
    cameras = rig(askew, 0.0, 3.0, -3.0)
    found = turns(cameras, "z")
    lens = Lens(cameras["c0"], turn=found["c0"])
    square = lens.square(np.array([[600.0, 300.0], [650.0, 420.0]]), 0.1)
    np.testing.assert_allclose(direction_of_up(lens.camera, lens.crop(square, 64)), [0, -1], atol=1e-6)
    assert abs(roll(found["c0"])) == pytest.approx(abs(askew))
    assert [found[name] for name in ("c1", "c2", "c3")] == [None] * 3


@pytest.mark.parametrize("askew", [(0, 0, 0, 30), (0, 70, 0, 0), (13, -3, -2, -26), (180, 0, 0, 0), (0, 2, 90, -1, 3)])
@pytest.mark.parametrize("pitch", [0.0, 20.0, 40.0])
def test_what_is_up_is_found_where_most_images_agree(askew, pitch):
    cameras = rig(*map(float, askew), pitch=pitch)
    for name, turn in turns(cameras, "z").items():
        found = turns(cameras)[name]
        assert (found is None) == (turn is None)
        assert turn is None or np.allclose(turn, found)


@pytest.mark.parametrize("pitch", [10.0, 40.0])
def test_the_world_may_lie_as_it_likes(pitch):
    """As in calibrations whose world is the first camera: its y points down only in its own image."""
    cameras = rig(0.0, 3.0, -25.0, -3.0, 0.0, pitch=pitch)
    first = cameras["c0"]
    moved = {
        name: Camera.create(one.intrinsics, one.rotation @ first.rotation.T, one.translation, image_size=one.image_size)
        for name, one in cameras.items()
    }
    found = turns(moved)
    assert [found[name] for name in ("c0", "c1", "c3", "c4")] == [None] * 4
    assert roll(found["c2"]) == pytest.approx(25, abs=7)


def test_where_images_do_not_agree_none_is_turned():
    assert set(turns(rig(90.0, 90.0, 90.0, 90.0)).values()) == {None}  # all on their side: nothing says what is up
    assert all(turn is not None for turn in turns(rig(90.0, 90.0, 90.0, 90.0), "z").values())
    assert set(turns(rig(0.0, 0.0, 0.0, 30.0), "none").values()) == {None}


def test_a_world_whose_axis_points_down():
    """All cameras stand on their heads in a world with z up; with z down they stand upright."""
    cameras = rig(180.0, 180.0, 180.0)
    assert set(turns(cameras, "-z").values()) == {None}
    assert {round(abs(roll(turn))) for turn in turns(cameras, "z").values()} == {180}


def test_nothing_is_up_seen_from_above():
    assert set(turns(rig(40.0, 40.0, 40.0, pitch=75.0), "z").values()) == {None}
    assert all(turn is not None for turn in turns(rig(40.0, 40.0, 40.0, pitch=50.0), "z").values())


def test_a_word_that_is_no_axis():
    with pytest.raises(InputError, match="up is 'w', expected one of auto, none, x, -x"):
        turns(rig(0.0, 0.0), "w")


def test_the_square_holds_the_points_in_the_turned_image():
    quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])
    points = np.array([[10.0, 20.0], [30.0, 20.0], [30.0, 100.0]])
    straight, turned = (Lens(camera_at(0.0, 0.0), turn=turn) for turn in (None, quarter))
    np.testing.assert_allclose(straight.square(points, 0.0), turned.square(points, 0.0))
    eighth = np.array([[1.0, 1.0], [-1.0, 1.0]]) / np.sqrt(2)
    lens = Lens(camera_at(0.0, 0.0), turn=eighth)
    line = np.array([[0.0, 0.0], [30.0, 30.0]])  # lies flat in the turned image
    square = lens.square(line, 0.1)
    assert square[2] - square[0] == pytest.approx(1.2 * 30 * np.sqrt(2))
    np.testing.assert_allclose((square[:2] + square[2:]) / 2, [15, 15])
    np.testing.assert_allclose(apply_affine(lens.crop(square, 120), line), [[10, 60], [110, 60]], atol=1e-9)
