"""Qualisys calibrations: units, axes and bad files."""

import numpy as np
import pytest
import torch

from dkp.errors import InputError
from dkp.importers.cameras.registry import read_cameras

CAMERA = """<camera serial="{serial}">
<fov_video bottom="1919" left="0" right="1087" top="0"/>
<transform r11="1" r12="0" r13="0" r21="0" r22="0" r23="1" r31="0" r32="-1" r33="0" x="{x}" y="2000" z="1000"/>
<intrinsic centerPointU="34816" centerPointV="61440" focalLengthU="102400" focalLengthV="102464"
 radialDistortion1="-0.05" radialDistortion2="0.14" radialDistortion3="0.01"
 tangentalDistortion1="0.001" tangentalDistortion2="0.002"/></camera>"""


def calibration(*cameras: str) -> str:
    return f"<?xml version='1.0' encoding='ASCII'?><calibration><cameras>{''.join(cameras)}</cameras></calibration>"


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "rig.qca.txt"
    file.write_text(calibration(CAMERA.format(serial="a", x="500"), CAMERA.format(serial="b", x="0")))
    return file


def test_units_and_axes(path):
    cameras = read_cameras(path, "qualisys")
    assert list(cameras) == ["a", "b"]
    camera = cameras["a"]
    assert camera.intrinsics.tolist() == [[1600, 0, 544.5], [0, 1601, 960.5], [0, 0, 1]]  # 1/64 px, centres at 0.5
    assert camera.distortion.tolist() == [-0.05, 0.14, 0.001, 0.002, 0.01]  # as they stand, in OpenCV's order
    assert camera.image_size.tolist() == [1088, 1920]
    torch.testing.assert_close(camera.centre(), torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64))  # mm to m
    # Rows of A are camera x, up and backwards: this camera looks along +y, so what is ahead has positive depth.
    pixels, depth = camera.without_distortion().project(torch.tensor([[0.5, 5.0, 2.0]], dtype=torch.float64))
    assert depth.item() == pytest.approx(3.0)
    assert pixels[0, 1] < 960  # higher in the world is higher in the image


def test_a_video_of_a_part_of_the_sensor(path):
    cut = path.read_text().replace('bottom="1919" left="0" right="1087" top="0"', "{}")
    path.write_text(
        cut.format('bottom="1899" left="8" right="1079" top="100"', 'bottom="1919" left="0" right="1" top="0"')
    )
    camera = read_cameras(path, "qualisys")["a"]
    assert camera.image_size.tolist() == [1072, 1800]
    assert camera.intrinsics[:2, 2].tolist() == [536.5, 860.5]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (calibration(CAMERA.format(serial="a", x="0")), "has 1 calibrated camera"),
        (calibration(*[CAMERA.format(serial="a", x="0")] * 2), "twice"),
        (calibration(*[CAMERA.format(serial=s, x="?") for s in "ab"]), "transform: x is '\\?'"),
        ("<calibration>", "not valid XML"),
        ("<!DOCTYPE a [<!ENTITY x 'y'>]>" + calibration(), "entities"),
        (calibration(*[CAMERA.format(serial=s, x="0").replace('r11="1"', 'r11="2"') for s in "ab"]), "transform"),
    ],
)
def test_bad_files_are_named(tmp_path, content, words):
    file = tmp_path / "bad.qca.txt"
    file.write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        read_cameras(file, "qualisys")
    assert str(file) in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_cameras(tmp_path / "none.qca.txt", "qualisys")


def test_rotation_is_a_rotation(path):
    for camera in read_cameras(path, "qualisys").values():
        rotation = camera.rotation.numpy()
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)
