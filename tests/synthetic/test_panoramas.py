"""Pictures cut from panoramas."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dkp.errors import InputError
from dkp.synthetic.panoramas import crop_panoramas, perspective, read_panorama


class Fixed:
    """A generator with known draws: field of view 90°, the given yaw and pitch, no roll, no change of exposure."""

    def __init__(self, yaw: float, pitch: float) -> None:
        self.draws = iter((90.0, yaw, pitch))

    def uniform(self, low: float, high: float) -> float:
        return next(self.draws)

    def normal(self, mean: float, deviation: float) -> float:
        return mean


def sphere(height: int = 128) -> np.ndarray:
    """A panorama whose red is the height above the horizon and whose green is the side, both from 0 to 1."""
    up = 1 - (np.arange(height) + 0.5) / height
    round_about = (np.arange(2 * height) + 0.5) / (2 * height)
    colours = np.broadcast_arrays(up[:, None], round_about[None], 0.5)
    return np.stack(colours, -1).astype(np.float32)


@pytest.mark.parametrize(("yaw", "pitch"), [(0.0, 0.0), (0.7, 0.0), (0.0, 30.0), (-1.2, -20.0)])
def test_the_middle_of_a_picture_is_where_it_looks(yaw, pitch):
    picture = perspective(sphere(), Fixed(yaw, pitch), 65)
    red, green = (picture[32, 32, :2] / 255.0) ** 2.2
    assert red == pytest.approx(0.5 - pitch / 180, abs=0.01)
    assert green == pytest.approx(0.5 + yaw / (2 * np.pi), abs=0.01)


def test_right_is_right_and_up_is_up():
    picture = (perspective(sphere(), Fixed(0.0, 0.0), 65) / 255.0) ** 2.2
    assert picture[32, 60, 1] > picture[32, 4, 1]
    assert picture[4, 32, 0] > picture[60, 32, 0]
    edge = 0.5 + np.arctan(64 / 65) / (2 * np.pi)
    assert picture[32, 64, 1] == pytest.approx(edge, abs=0.01)


def test_nothing_breaks_where_the_panorama_ends():
    even = np.full((64, 128, 3), 0.18, np.float32)
    picture = perspective(even, Fixed(np.pi, 0.0), 48)
    assert np.ptp(picture) == 0


def test_folder(tmp_path):
    source = tmp_path / "panoramas"
    source.mkdir()
    cv2.imwrite(str(source / "room.png"), (sphere(64) * 255).astype(np.uint8))
    cv2.imwrite(str(source / "street.hdr"), sphere(64))
    (source / "notes.txt").write_text("not a picture")
    crop_panoramas(source, tmp_path / "a", count=3, size=48, seed=5)
    crop_panoramas(source, tmp_path / "b", count=2, size=48, seed=5)
    names = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert names == [f"{name}-{number:03d}.jpg" for name in ("room", "street") for number in range(3)]
    for file in (tmp_path / "b").iterdir():
        assert file.read_bytes() == (tmp_path / "a" / file.name).read_bytes()
    first, second = (cv2.imread(str(tmp_path / "a" / f"room-00{number}.jpg")) for number in range(2))
    assert first.shape == (48, 48, 3)
    assert np.abs(first.astype(int) - second).mean() > 2


def test_exposure_is_brought_to_a_middle_grey(tmp_path):
    cv2.imwrite(str(tmp_path / "dark.hdr"), sphere(32) * 1e-2)
    image = read_panorama(tmp_path / "dark.hdr")
    assert np.exp(np.log(image.mean(-1)).mean()) == pytest.approx(0.18, rel=0.02)


def test_bad_input(tmp_path):
    with pytest.raises(InputError, match="no panorama in it"):
        crop_panoramas(tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="count is 0"):
        crop_panoramas(tmp_path, tmp_path / "out", count=0)
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(InputError, match="60 x 40 px, expected an equirectangular"):
        crop_panoramas(tmp_path, tmp_path / "out")
    (tmp_path / "photo.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match="no picture can be read"):
        crop_panoramas(tmp_path, tmp_path / "out")


def test_open_exr(tmp_path):
    exr = pytest.importorskip("OpenEXR")
    image = sphere(32)
    exr.File({"type": exr.scanlineimage}, {"RGB": image}).write(str(tmp_path / "room.exr"))
    cv2.imwrite(str(tmp_path / "room.hdr"), image[..., ::-1])
    np.testing.assert_allclose(read_panorama(tmp_path / "room.exr"), read_panorama(tmp_path / "room.hdr"), atol=0.02)
    (tmp_path / "torn.exr").write_bytes((tmp_path / "room.exr").read_bytes()[:300])
    with pytest.raises(InputError, match="no colours can be read"):
        read_panorama(tmp_path / "torn.exr")
