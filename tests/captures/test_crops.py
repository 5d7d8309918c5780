"""Crops show what their camera says they show."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from dkp.captures.crops import CropMap, apply_affine, crop_affine, invert_affine, square_box, undistorted
from dkp.geometry import Camera

LENS = (-0.25, 0.08, 0.003, -0.002, 0.01)


def rig_camera(size=(640, 480)) -> Camera:
    width, height = size
    return Camera.create(
        torch.tensor([[600.0, 0, width / 2 + 3], [0, 610, height / 2 - 5], [0, 0, 1]]).double(),
        distortion=torch.tensor(LENS).double(),
        image_size=torch.tensor(size).double(),
    )


def scene_at(rays: np.ndarray) -> np.ndarray:
    """A smooth picture over directions (..., 2) -> grey level; its waves are some 13 to 30 raw pixels long."""
    x, y = rays[..., 0], rays[..., 1]
    return 127 + 60 * np.sin(150 * x + 20 * y) + 55 * np.cos(130 * y - 90 * x * y)


def picture(camera: Camera, size: tuple[int, int]) -> np.ndarray:
    """What a camera (lens included) sees of the scene, sampled at pixel centres."""
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    rays = camera.rays(torch.from_numpy(np.stack([x, y], -1).reshape(-1, 2))).numpy()
    grey = scene_at(rays[:, :2] / rays[:, 2:]).reshape(size[1], size[0])
    return np.repeat(grey[..., None], 3, -1).round().clip(0, 255).astype(np.uint8)


def box_around(x, y, half):
    return np.array([x - half, y - half, x + half, y + half])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("half", "tolerance"), [(40.0, 2.0), (64.0, 3.0), (96.3, 6.0), (160.0, 10.0)])
def test_a_crop_is_the_picture_of_its_camera(half, tolerance, flip):
    camera = rig_camera()
    frame = picture(camera, (640, 480))
    affine = crop_affine(box_around(330.0, 230.0, half), 128, flip=flip)
    crop = CropMap.create(camera, affine, 128).image(frame).astype(float)
    expected = picture(camera.without_distortion().transform(affine, 128, 128), (128, 128)).astype(float)
    error = np.abs(crop - expected)[2:-2, 2:-2].mean()
    assert error < tolerance
    # The picture is not shifted: no shift by a quarter of a pixel fits better than none.
    for dx, dy in ((0.25, 0), (-0.25, 0), (0, 0.25), (0, -0.25)):
        shifted = camera.without_distortion().transform(np.add(affine, [[0, 0, dx], [0, 0, dy]]), 128, 128)
        other = picture(shifted, (128, 128)).astype(float)
        gain, offset = np.polyfit(other[2:-2, 2:-2].ravel(), crop[2:-2, 2:-2].ravel(), 1)
        straight = np.polyfit(expected[2:-2, 2:-2].ravel(), crop[2:-2, 2:-2].ravel(), 1)
        worse = np.abs(crop - gain * other - offset)[2:-2, 2:-2].mean()
        assert worse > np.abs(crop - np.polyval(straight, expected))[2:-2, 2:-2].mean()


def test_frames_that_were_resized_and_cut_give_the_same_crop():
    camera = rig_camera()
    frame_map = np.array([[1.5, 0.0, 8.0], [0.0, 1.5, -6.0]])  # frame pixels to calibrated pixels
    frame = picture(camera.transform(np.vstack([invert_affine(frame_map), [0, 0, 1]]), 420, 320), (420, 320))
    affine = crop_affine(box_around(330.0, 230.0, 60), 64)
    crop = CropMap.create(camera, affine, 64, frame_map=frame_map).image(frame).astype(float)
    expected = picture(camera.without_distortion().transform(affine, 64, 64), (64, 64)).astype(float)
    assert np.abs(crop - expected).mean() < 4


def test_small_crops_do_not_alias():
    camera = rig_camera()
    frame = np.zeros((480, 640, 3), np.uint8)
    frame[:, ::2] = 255  # stripes of one pixel: grey from afar
    crop = CropMap.create(camera, crop_affine(box_around(320.0, 240.0, 200), 64), 64).image(frame)
    assert np.abs(crop.astype(float) - 127.5).max() < 40
    assert np.abs(crop.astype(float) - 127.5).mean() < 8


def test_outside_the_frame_is_black_and_background():
    camera = rig_camera().without_distortion()
    frame = np.full((480, 640, 3), 200, np.uint8)
    cut = CropMap.create(camera, crop_affine(box_around(0.0, 240.0, 32), 64), 64)
    crop, mask = cut.image(frame), cut.mask(np.ones((480, 640), bool))
    assert (crop[:, :31] == 0).all()
    assert (crop[:, 33:] == 200).all()
    np.testing.assert_array_equal(mask, cut.inside(640, 480))
    assert (CropMap.create(camera, crop_affine(box_around(-500.0, 240.0, 32), 64), 64).image(frame) == 0).all()


def test_masks_follow_images():
    camera = rig_camera()
    x, y = np.meshgrid(np.arange(640) + 0.5, np.arange(480) + 0.5)
    disc = (x - 330) ** 2 + (y - 230) ** 2 < 50**2
    cut = CropMap.create(camera, crop_affine(box_around(330.0, 230.0, 80), 128), 128)
    mask, image = cut.mask(disc), cut.image(np.repeat(disc[..., None], 3, -1).astype(np.uint8) * 255)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, image[..., 0] > 127)
    inside = ((cut.pixels - (330, 230)) ** 2).sum(-1) < 50**2
    assert (mask != inside).mean() < 0.01


COORDINATE = st.floats(-500, 500)


@settings(max_examples=50, deadline=None)
@given(x=COORDINATE, y=COORDINATE, width=st.floats(1, 500), height=st.floats(1, 500), flip=st.booleans())
def test_boxes_fill_their_image(x, y, width, height, flip):
    box = np.array([x, y, x + width, y + height])
    affine = crop_affine(box, 40, flip=flip)
    left, right = (40.0, 0.0) if flip else (0.0, 40.0)
    corners = apply_affine(affine, box.reshape(2, 2))
    np.testing.assert_allclose(corners, [[left, 0.0], [right, 40.0]], atol=1e-6)
    np.testing.assert_allclose(apply_affine(invert_affine(affine), corners), box.reshape(2, 2), atol=1e-6)


def test_a_box_can_be_turned_about_its_middle():
    turned = crop_affine(np.array([10.0, 20.0, 30.0, 40.0]), 40, turn=np.array([[0.0, 1.0], [-1.0, 0.0]]))
    corners = apply_affine(turned, np.array([[20.0, 30.0], [10.0, 20.0], [30.0, 20.0]]))
    np.testing.assert_allclose(corners, [[20, 20], [0, 40], [0, 0]], atol=1e-9)


def test_square_boxes_have_a_margin_on_each_side():
    np.testing.assert_allclose(square_box(np.array([10.0, 20.0, 30.0, 60.0]), 0.25), [-10.0, 10.0, 50.0, 70.0])


def test_undistorted_points():
    camera = rig_camera()
    pixels = np.array([[10.0, 20.0], [600.0, 400.0]])
    moved = undistorted(camera, pixels)
    np.testing.assert_allclose(camera.distort(torch.from_numpy(moved)).numpy(), pixels, atol=1e-6)
    assert np.abs(moved - pixels).max() > 2
    assert undistorted(camera, np.zeros((0, 2))).shape == (0, 2)
