"""Camera files of Anipose, Pose2Sim and caliscope."""

import logging
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from dkp.errors import InputError
from dkp.importers.cameras.registry import read_cameras

VECTOR = np.array([0.3, -0.8, 0.2])
MATRIX = cv2.Rodrigues(VECTOR)[0]
DISTORTIONS = [-0.2, 0.1, 0.001, -0.002, 0.03]

ANIPOSE = """
[cam_0]
name = "left side"
size = [ 640, 480,]
matrix = [ [ 500.0, 0.0, 319.5,], [ 0.0, 510.0, 239.5,], [ 0.0, 0.0, 1.0,],]
distortions = [ -0.2, 0.1, 0.001, -0.002, 0.03,]
rotation = [ 0.3, -0.8, 0.2,]
translation = [ 100.0, -200.0, 3000.0,]

[cam_1]
name = "B"
size = [ 640.0, 480.0,]
matrix = [ [ 500.0, 0.0, 319.5,], [ 0.0, 510.0, 239.5,], [ 0.0, 0.0, 1.0,],]
distortions = [ -0.2, 0.1, 0.001, -0.002,]
rotation = [ 0.0, 0.0, 0.0,]
translation = [ 0.0, 0.0, 0.0,]
fisheye = false

[metadata]
adjusted = false
error = 0.5
"""

CALISCOPE = f"""
[cameras.0]
cam_id = 0
rotation_count = 1
ignore = false
size = [640, 480]
matrix = [[500.0, 0.0, 319.5], [0.0, 510.0, 239.5], [0.0, 0.0, 1.0]]
distortions = [-0.2, 0.1, 0.001, -0.002, 0.03]
translation = [0.1, -0.2, 3.0]
rotation = {MATRIX.tolist()}

[cameras.1]
size = [640, 480]
matrix = [[500.0, 0.0, 319.5], [0.0, 510.0, 239.5], [0.0, 0.0, 1.0]]
distortions = [0.0, 0.0, 0.0, 0.0, 0.0]
translation = [0.0, 0.0, 0.0]
rotation = [0.0, 0.0, 0.0]

[cameras.2]
ignore = true
size = [640, 480]
matrix = [[500.0, 0.0, 319.5], [0.0, 510.0, 239.5], [0.0, 0.0, 1.0]]
"""


@pytest.mark.parametrize(
    ("content", "unit", "names"),
    [(ANIPOSE, "mm", ["left_side", "B"]), (CALISCOPE, "m", ["cam_0", "cam_1"])],
)
def test_cameras_project_as_opencv_does_half_a_pixel_on(tmp_path, content, unit, names):
    path = tmp_path / "calibration.toml"
    path.write_text(content)
    cameras = read_cameras(path, "toml", unit)
    assert list(cameras) == names
    camera = cameras[names[0]]
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
    matrix = np.array([[500.0, 0, 319.5], [0, 510, 239.5], [0, 0, 1]])
    expected, _ = cv2.projectPoints(points, VECTOR, np.array([0.1, -0.2, 3.0]), matrix, np.array(DISTORTIONS))
    pixels, _ = camera.project(torch.from_numpy(points))
    np.testing.assert_allclose(pixels.numpy(), expected[:, 0] + 0.5, atol=1e-9)
    assert camera.image_size.tolist() == [640, 480]
    assert camera.dtype == torch.float64


def test_four_coefficients_leave_the_fifth_zero(tmp_path):
    (tmp_path / "c.toml").write_text(ANIPOSE)
    assert read_cameras(tmp_path / "c.toml", "toml", "mm")["B"].distortion.tolist() == [-0.2, 0.1, 0.001, -0.002, 0.0]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("size = [ 640.0, 480.0,]", "", "cam_1 has no key 'size'"),
        ("size = [ 640.0, 480.0,]", "size = [640.5, 480]", "cam_1: size is 640.5, expected a whole number"),
        ("rotation = [ 0.0, 0.0, 0.0,]", "rotation = [0.0, 0.0]", "cam_1: rotation is .*, expected 3x3"),
        ("rotation = [ 0.0, 0.0, 0.0,]", "rotation = [[1,0,0],[0,1,0],[0,0,-1]]", "rotation has determinant -1"),
        ("translation = [ 0.0, 0.0, 0.0,]", "translation = [0.0, nan, 0.0]", "cam_1: translation is .*, expected 3 f"),
        ("distortions = [ -0.2, 0.1, 0.001, -0.002,]", "distortions = [0,0,0,0,0,0.1]", "has 6 coefficients, expected"),
        ("distortions = [ -0.2, 0.1, 0.001, -0.002,]", "distortions = 3", "distortions is 3, expected 4 or 5"),
        ('name = "B"', 'name = "left side"', "names the camera 'left_side' twice"),
        ('name = "B"', "name = true", "cam_1: name is True, expected a name"),
        ("[cam_1]", "[cam_1", "cannot be read"),
        ("fisheye = false", 'fisheye = "maybe"', "cam_1: fisheye is 'maybe', expected true or false"),
        ("distortions = [ -0.2, 0.1, 0.001, -0.002,]", "distortion = [0.1, 0, 0, 0]", "'distortion', expected 'distor"),
        ("distortions = [ -0.2, 0.1, 0.001, -0.002,]", "dist = [0.1, 0, 0, 0]", "key 'dist', expected 'distortions'"),
        ("distortions = [ -0.2, 0.1, 0.001, -0.002,]", "D = [0.1, 0, 0, 0]", "key 'D', expected 'distortions'"),
        ("rotation = [ 0.0, 0.0, 0.0,]", "rotations = [0.0, 0.0, 0.0]", "key 'rotations', expected 'rotation'"),
        ("rotation = [ 0.0, 0.0, 0.0,]", "rotation = [0.0, 90.0, 0.0]", "rotation is .*, expected .* in radians"),
        ("translation = [ 0.0, 0.0, 0.0,]", "tanslation = [0, 0, 0]", "key 'tanslation', expected 'translation'"),
    ],
)
def test_bad_files_are_named(tmp_path, old, new, match):
    path = tmp_path / "calibration.toml"
    assert old in ANIPOSE
    path.write_text(ANIPOSE.replace(old, new))
    with pytest.raises(InputError, match=match) as caught:
        read_cameras(path, "toml", "mm")
    assert str(path) in str(caught.value)


def test_one_camera_or_none_is_refused(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(ANIPOSE.split("[cam_1]")[0])
    with pytest.raises(InputError, match=r"has 1 calibrated camera.s., expected at least two"):
        read_cameras(path, "toml", "mm")
    with pytest.raises(InputError, match="cannot be read"):
        read_cameras(tmp_path / "none.toml", "toml", "mm")
    with pytest.raises(InputError, match="unit is 'feet', expected m, cm, mm or a positive number of metres"):
        read_cameras(path, "toml", "feet")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_spellings_that_are_read(tmp_path, encoding, newline):
    """Notepad writes a byte order mark, some programs write false as a string."""
    (tmp_path / "plain.toml").write_text(ANIPOSE)
    changed = ANIPOSE.replace("fisheye = false", 'fisheye = "false"\nignore = "False"').replace("\n", newline)
    (tmp_path / "c.toml").write_bytes(changed.encode(encoding))
    plain, found = (read_cameras(tmp_path / name, "toml", "mm") for name in ("plain.toml", "c.toml"))
    points = torch.rand(5, 3, dtype=torch.float64)
    assert list(found) == list(plain)
    for name, camera in found.items():
        assert torch.equal(camera.project(points)[0], plain[name].project(points)[0])


def test_names_of_all_scripts_are_kept(tmp_path):
    content = ANIPOSE.replace('"left side"', '"Ku\u0308che"').replace('"B"', '"\u524d"')
    (tmp_path / "c.toml").write_text(content, encoding="utf-8")
    assert list(read_cameras(tmp_path / "c.toml", "toml", "mm")) == ["K\u00fcche", "\u524d"]


def test_a_camera_does_not_vanish(tmp_path, caplog):
    """Without its matrix a table that has a pose is a mistake; one without a pose was not calibrated."""
    path = tmp_path / "c.toml"
    matrix = "matrix = [ [ 500.0, 0.0, 319.5,], [ 0.0, 510.0, 239.5,], [ 0.0, 0.0, 1.0,],]"
    third = ANIPOSE.split("[cam_1]")[1].split("[metadata]")[0].replace('"B"', '"C"')
    misspelled = matrix.replace("matrix", "matirx")
    for new, match in (("", "has no key 'matrix'"), (misspelled, "'matirx', expected 'matrix'")):
        path.write_text(f"{ANIPOSE}[cam_2]{third.replace(matrix, new)}")
        with pytest.raises(InputError, match=match):
            read_cameras(path, "toml", "mm")
    path.write_text(f"{ANIPOSE}[cam_2]\nsize = [640, 480]")
    assert len(read_cameras(path, "toml", "mm")) == 2
    assert "cam_2 has no key 'matrix', so it is not calibrated and left out" in caplog.text


@settings(max_examples=60, deadline=None)
@given(
    key=st.sampled_from(["name", "size", "matrix", "distortions", "rotation", "translation", "fisheye"]),
    place=st.integers(0, 10),
    edit=st.sampled_from(["drop", "double", "upper"]),
)
def test_a_misspelt_key_never_changes_the_geometry_in_silence(tmp_path_factory, key, place, edit):
    at = place % len(key)
    letter = {"drop": "", "double": key[at] * 2, "upper": key[at].upper()}[edit]
    path = tmp_path_factory.mktemp("toml") / "c.toml"
    path.write_text(ANIPOSE)
    right = read_cameras(path, "toml", "mm")
    path.write_text(ANIPOSE.replace(f"\n{key} =", f"\n{key[:at]}{letter}{key[at + 1 :]} ="))
    try:
        found = read_cameras(path, "toml", "mm")
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017
        return
    points = torch.tensor([[0.1, -0.2, 0.3], [0.0, 0.4, -0.2]], dtype=torch.float64)
    for camera, its in zip(right.values(), found.values(), strict=True):
        assert torch.equal(camera.project(points)[0], its.project(points)[0])


KINDS = ["true", '"text"', "[]", "{}", "nan", "inf", "-inf", "[[1.0]]", "1979-05-27", "1e999", "[1.0, 2.0]"]
"""Values of another kind or count than any of a camera's keys."""


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_value_of_another_kind_or_a_damaged_text(tmp_path_factory, data):
    """It gives the same geometry, fewer cameras or one sentence with the file, never another geometry."""
    path = tmp_path_factory.mktemp("toml") / "c.toml"
    path.write_text(ANIPOSE)
    right = read_cameras(path, "toml", "mm")
    lines = ANIPOSE.splitlines()
    edit = data.draw(st.sampled_from(["kind", "number", "cut", "remove", "twice"]))
    if edit == "cut":
        content = ANIPOSE[: data.draw(st.integers(0, len(ANIPOSE) - 1))]
    else:
        at = data.draw(st.sampled_from([index for index, line in enumerate(lines[:16]) if " = " in line]))
        key, value = lines[at].split(" = ")
        if edit == "kind":
            lines[at] = f"{key} = {data.draw(st.sampled_from(KINDS))}"
        elif edit == "number":
            numbers = [
                part
                for part in value.replace("[", " ").replace("]", " ").replace(",", " ").split()
                if part[-1].isdigit()
            ]
            if not numbers:
                return
            other = data.draw(st.sampled_from(["nan", "inf", '"7"', "true", "[1.0]"]))
            lines[at] = f"{key} = {value.replace(data.draw(st.sampled_from(numbers)), other, 1)}"
        else:
            lines[at : at + 1] = [] if edit == "remove" else [lines[at]] * 2
        content = "\n".join(lines)
    path.write_text(content)
    with warnings_of("dkp.importers.cameras.toml") as warned:
        try:
            found = read_cameras(path, "toml", "mm")
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            return
    points = torch.tensor([[0.1, -0.2, 0.3], [0.0, 0.4, -0.2]], dtype=torch.float64)
    assert len(found) <= len(right)
    for camera, its in zip(right.values(), found.values(), strict=False):
        same = torch.equal(camera.project(points)[0], its.project(points)[0])
        assert same or any("free of distortion" in text for text in warned)


@contextmanager
def warnings_of(name):
    """Collect the warnings of a logger; hypothesis has no caplog for each example."""
    texts = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: texts.append(record.getMessage())
    logging.getLogger(name).addHandler(handler)
    try:
        yield texts
    finally:
        logging.getLogger(name).removeHandler(handler)
