"""Images and masks of the kinds that programs write."""

import cv2
import numpy as np
import pytest
from PIL import Image

from dkp.captures.images import image_kind, read_image, read_mask
from dkp.errors import InputError

GREY = np.add.outer(np.arange(8) * 20, np.arange(9) * 10).astype(np.uint8)
SHAPE = GREY > 120


def written(path, image):
    assert cv2.imwrite(str(path), image)
    return path


@pytest.mark.parametrize(
    ("image", "tolerance"),
    [
        (GREY, 0),
        (np.repeat(GREY[..., None], 3, axis=2), 0),
        (np.dstack([GREY, GREY, GREY, SHAPE * np.uint8(255)]), 0),
        (GREY.astype(np.uint16) * 257, 0),
        (np.repeat(GREY[..., None], 3, axis=2).astype(np.uint16) * 257, 0),
        (GREY.astype(np.uint16) * 16, 0),
        (GREY.astype(np.uint16), 0),
    ],
    ids=["grey", "colour", "alpha", "16 bits", "16 bits colour", "12 in 16 bits", "8 in 16 bits"],
)
def test_images_of_every_depth(tmp_path, image, tolerance):
    found = read_image(written(tmp_path / "a.png", image))
    assert (found.shape, found.dtype) == ((8, 9, 3), np.uint8)
    np.testing.assert_allclose(found, np.repeat(GREY[..., None], 3, axis=2), atol=tolerance)


def test_images_of_real_numbers_are_refused(tmp_path):
    path = written(tmp_path / "a.tiff", GREY.astype(np.float32))
    for read in (read_image, read_mask):
        with pytest.raises(
            InputError, match=r"holds values of type float32, expected .* of 8 or 16 bits|cannot be decoded, expected"
        ):
            read(path)


@pytest.mark.parametrize(
    "mask",
    [
        SHAPE * np.uint8(255),
        SHAPE * np.uint8(1),
        SHAPE * np.uint16(65535),
        SHAPE * np.uint16(255),
        SHAPE * np.uint16(1),
        np.dstack([SHAPE * np.uint8(255)] * 3),
        np.dstack([SHAPE * np.uint8(0), SHAPE * np.uint8(0), SHAPE * np.uint8(255)]),
        np.dstack([GREY, GREY, GREY, SHAPE * np.uint8(255)]),
        np.dstack([*[SHAPE * np.uint8(255)] * 3, np.full_like(GREY, 255)]),
        np.where(SHAPE, np.uint8(200), np.uint8(30)),
    ],
    ids=["255", "1", "16 bits", "8 in 16 bits", "1 of 16 bits", "colour", "red", "cut out", "opaque", "soft"],
)
def test_masks_of_every_kind(tmp_path, mask):
    np.testing.assert_array_equal(read_mask(written(tmp_path / "m.png", mask)), SHAPE)


@pytest.mark.parametrize("value", [0, 255])
def test_empty_and_full_masks(tmp_path, value):
    found = read_mask(written(tmp_path / "m.png", np.full((8, 9), value, np.uint8)))
    assert found.all() == found.any() == bool(value)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_images_are_turned_as_their_exif_says(tmp_path, suffix):
    stored = np.zeros((40, 60, 3), np.uint8)
    stored[:10, :10] = 255
    image = Image.fromarray(stored)
    image.getexif()[0x0112] = 6  # the camera was held upright: turn by 90 degrees to the right
    image.save(tmp_path / f"a.{suffix}", exif=image.getexif())
    found = read_image(tmp_path / f"a.{suffix}")
    assert image_kind(tmp_path / f"a.{suffix}")[:2] == (40, 60)
    assert found.shape == (60, 40, 3)
    assert found[:8, -8:].mean() > 250
    assert found[:8, :8].mean() < 5
