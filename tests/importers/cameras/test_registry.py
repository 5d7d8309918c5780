"""The same rig in every layout, found by its content."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from dkp.errors import InputError
from dkp.importers.cameras.colmap import write_colmap_cameras
from dkp.importers.cameras.lens import OpenCVCamera, plain_cameras
from dkp.importers.cameras.registry import FORMATS, list_formats, read_cameras, recognised
from dkp.importers.cameras.toml import write_toml_cameras
from dkp.importers.cameras.transforms import write_transforms_cameras

LAYOUTS = [
    "toml", "opencv", "colmap", "colmap binary", "transforms", "kalibr", "panoptic", "human36m", "human36m xml",
    "qualisys", "dannce", "dannce project", "dannce hdf5",
]  # fmt: skip
SUBJECT = {"human36m xml": "S1"}
RATIONAL = (-0.2, 0.1, 0.001, -0.002, 0.02, 0.05, 0.03, 0.004)
PRISM = (*RATIONAL, 0.001, -0.0005, 0.0007, 0.0002)
POINTS = np.random.default_rng(0).uniform((-0.4, -0.4, 2.6), (0.4, 0.4, 3.4), (30, 3))


def read(layout, written):
    path, unit = written
    return read_cameras(path, unit=unit, subject=SUBJECT.get(layout))


def assert_same_pixels(cameras, rig, size=(640, 480)):
    for camera, expected in zip(cameras.values(), rig.pixels(POINTS), strict=False):
        pixels, depth = camera.project(torch.from_numpy(POINTS))
        assert (depth > 0).all()
        np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-6, rtol=0)
        back = camera.without_distortion().project(torch.from_numpy(POINTS))[0]
        np.testing.assert_allclose(
            camera.undistort(torch.from_numpy(expected)).numpy(), back.numpy(), atol=1e-6, rtol=0
        )
        assert camera.image_size.tolist() == list(size)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_cameras(layout, write_rig, make_rig):
    rig = make_rig()
    written = write_rig(layout, rig)
    assert recognised(written[0]) == layout.split()[0]
    cameras = read(layout, written)
    assert len(cameras) == (4 if layout == "human36m xml" else 3)
    assert_same_pixels(cameras, rig, (0, 0) if layout.split()[0] in ("human36m", "dannce") else (640, 480))


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "dannce" not in name and "binary" not in name])
def test_text_in_utf_16_is_read(layout, write_rig, make_rig):
    """As PowerShell and some editors write it, with a byte order mark."""
    rig = make_rig()
    path, unit = write_rig(layout, rig)
    for file in [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]:
        text = file.read_bytes().decode("utf-8-sig").replace('encoding="UTF-8"', 'encoding="UTF-16"')
        file.write_bytes(text.encode("utf-16"))
    assert recognised(path) == layout.split()[0]
    assert_same_pixels(read(layout, (path, unit)), rig, (0, 0) if layout.startswith("human36m") else (640, 480))


@pytest.mark.parametrize(
    ("lens", "layouts"),
    [
        ((-0.2, 0.1, 0.001, -0.002, 0.03), ["toml", "opencv", "colmap", "transforms", "panoptic", "qualisys"]),
        (RATIONAL, ["toml", "opencv", "colmap", "colmap binary"]),
        (PRISM, ["toml", "opencv"]),
    ],
)
def test_longer_lenses(lens, layouts, write_rig, make_rig):
    rig = make_rig(lens=lens)
    for layout in layouts:
        assert_same_pixels(read(layout, write_rig(layout, rig)), rig)


@pytest.mark.parametrize("layout", ["toml", "colmap", "colmap binary", "transforms", "kalibr"])
@pytest.mark.parametrize("lens", [(0.05, -0.01, 0.004, -0.001), (0.0, 0.0, 0.0, 0.0)])
def test_fisheyes(layout, lens, write_rig, make_rig):
    rig = make_rig(lens=lens, fisheye=True)
    cameras = read(layout, write_rig(layout, rig))
    assert_same_pixels(cameras, rig)
    with pytest.raises(InputError, match="has a fisheye, expected at most k1 k2 p1 p2 k3 in TOML"):
        plain_cameras(cameras, "TOML")


def test_a_lens_stays_with_its_camera(write_rig, make_rig):
    camera = next(iter(read("toml", write_rig("toml", make_rig(lens=PRISM))).values()))
    pixels = camera.project(torch.from_numpy(POINTS))[0]
    moved = camera.transform(torch.tensor([[2.0, 0, 5], [0, 2, 7]]), 1280, 960)
    torch.testing.assert_close(moved.project(torch.from_numpy(POINTS))[0], pixels * 2 + torch.tensor([5.0, 7.0]))
    assert isinstance(camera.to(torch.float32), OpenCVCamera)
    assert isinstance(camera.about(torch.zeros(3)), OpenCVCamera)
    assert type(camera.without_distortion()).__name__ == "Camera"


def test_a_wide_fisheye_is_undone(write_rig, make_rig):
    rig = make_rig(lens=(0.05, -0.01, 0.004, -0.001), fisheye=True)
    camera = next(iter(read("toml", write_rig("toml", rig)).values()))
    points = torch.tensor([[x, 0.3 * x, 1.0] for x in (0.5, 1.0, 2.0, 4.0)], dtype=torch.float64)
    back = camera.undistort(camera.project(points)[0])
    torch.testing.assert_close(back, camera.without_distortion().project(points)[0], atol=1e-5, rtol=0)


WRITE = {
    "toml": lambda path, cameras: write_toml_cameras(path / "out.toml", cameras),
    "colmap": write_colmap_cameras,
    "transforms": lambda path, cameras: write_transforms_cameras(path / "transforms.json", cameras),
}


@pytest.mark.parametrize("format", WRITE)
@pytest.mark.parametrize("lens", [(-0.2, 0.1, 0.001, -0.002, 0.03), (0.0, 0.0, 0.0, 0.0)])
def test_round_trips(format, lens, write_rig, make_rig, tmp_path):
    rig = make_rig(lens=lens)
    cameras = read("toml", write_rig("toml", rig))
    WRITE[format](tmp_path, cameras)
    again = read_cameras(tmp_path / "out.toml" if format == "toml" else tmp_path, unit="m")
    assert list(again) == list(cameras)
    assert_same_pixels(again, rig)


@pytest.mark.parametrize("format", WRITE)
def test_what_a_format_cannot_hold_is_named(format, write_rig, make_rig, tmp_path):
    cameras = read("toml", write_rig("toml", make_rig(lens=RATIONAL)))
    with pytest.raises(InputError, match="'c0' has a lens of more than five coefficients, expected at most k1 k2 p1"):
        WRITE[format](tmp_path, cameras)
    if format != "toml":
        skewed = make_rig(matrix=np.array([[500.0, 2.0, 317], [0, 510, 241], [0, 0, 1]]))
        with pytest.raises(InputError, match="'c0' has the skew 2, expected 0"):
            WRITE[format](tmp_path, read("toml", write_rig("toml", skewed)))
    assert not list(tmp_path.iterdir())


def test_units(write_rig):
    path, _ = write_rig("toml")
    with pytest.raises(InputError, match="does not say its unit, expected --unit m, cm, mm or how many metres one is"):
        read_cameras(path)
    given, number = (read_cameras(path, unit=unit)["c1"].translation for unit in ("mm", "0.001"))
    torch.testing.assert_close(given, number)
    for unit in ("feet", "-1", "nan", "inf"):
        with pytest.raises(InputError, match=r"unit is .*, expected"):
            read_cameras(path, unit=unit)


def test_the_list_names_every_format_and_its_unit(capsys):
    lines = list_formats().splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(FORMATS)
    assert "kalibr      m       Kalibr: camchain.yaml" in lines
    assert lines[0].split()[1] == "--unit"


def test_a_format_overrides(write_rig, tmp_path):
    path, _ = write_rig("panoptic")
    with pytest.raises(InputError, match="frames is None, expected a list of cameras"):
        read_cameras(path, "transforms", "m")
    with pytest.raises(InputError, match="format is 'colmap3', expected one of auto, toml"):
        read_cameras(path, "colmap3")
    (tmp_path / "cameras.txt").touch()
    with pytest.raises(InputError, match=r"images.txt cannot be read \(No such file"):
        read_cameras(tmp_path, unit="m")
    with pytest.raises(InputError, match="subject is 'S1' but a file of panoptic has one rig"):
        read_cameras(path, subject="S1")


def test_unknown_files_are_named(tmp_path):
    unknown = "no camera file that is known"
    files = {"a.txt": (b"hello", unknown), "a.json": (b"{}", unknown), "a.bin": (bytes(2000), unknown)}
    for name, (content, what) in {**files, "b.json": (b"", "empty")}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} is {what}, expected one of toml"):
            read_cameras(tmp_path / name)
    with pytest.raises(InputError, match="is no camera file that is known"):
        read_cameras(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_cameras(tmp_path / "none.toml")


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_pickles_are_refused_with_the_way_out(tmp_path):
    for name in ("stereo_params.pickle", "cameras.toml"):
        (tmp_path / name).write_bytes(pickle.dumps({"cam1-cam2": Trap(tmp_path / "sprung")}))
        with pytest.raises(InputError, match=r"is a pickle, which can run code .* docs/own-rig.md has a script"):
            read_cameras(tmp_path / name, unit="m")
    assert not (tmp_path / "sprung").exists()


# What is wrong with a file is said

BAD = [
    ("opencv", "intri.yml", "data: [ 500,", "data: [ 500, 1,", r"K_00: data is .*, expected 9 finite numbers"),
    ("opencv", "intri.yml", "data: [ 500,", "data: [ .nan,", r"K_00: data is .*, expected 9 finite"),
    ("opencv", "intri.yml", "data: [ 500, 0, 317.25, 0, 510, 241.5, 0, 0, 1",
     "data: [ 500, 0, 0, 0, 510, 0, 317, 241, 1", r"K_00 is .*expected \[\[fx, s, cx\].*transposed"),
    ("opencv", "intri.yml", "dist_01:", "dust_01:", r"intri.yml has no key 'dist_01'"),
    ("opencv", "intri.yml", "W_00: 640", "W_00: -640", r"W_00, H_00 is -640, expected a whole number of at least 1"),
    ("opencv", "intri.yml", "rows: 3", "rows: 3000000000", r"K_00 has rows 3000000000"),
    ("opencv", "intri.yml", "---", "--- &a [*a]", "not YAML"),
    ("opencv", "extri.yml", "T_01:", "U_01:", r"extri.yml has no key 'T_01', expected Rot_01, T_01"),
    ("opencv", "extri.yml", "data: [ 1, 0,", "data: [ 1, 0.5,", r"Rot_00 has determinant"),
    ("opencv", "intri.yml", "  rows", "\trows", r"intri.yml, line \d+: not YAML \(a tab, expected spaces\), exp"),
    ("opencv", "extri.yml", "---", "--- !!python/object/apply:os.mkdir [x]", "not YAML"),
    ("colmap", "cameras.txt", "OPENCV", "FOV", "has the model FOV, expected one of SIMPLE_PINHOLE"),
    ("colmap", "cameras.txt", "OPENCV", "RADIAL", "has 8 parameters, expected f cx cy k1 k2 of the model RADIAL"),
    ("colmap", "cameras.txt", "500.0", "nan", r"cameras.txt:2 is .*nan.*, expected 3 numbers or more"),
    ("colmap", "cameras.txt", "500.0", "-500.0", "focal lengths -500 and 510"),
    ("colmap", "cameras.txt", "7 OPENCV", "8 OPENCV", "has the camera 7, expected one that cameras.txt has"),
    ("colmap", "images.txt", "7 shots/c 1.jpg", "7", r"images.txt:4 is .*, expected IMAGE_ID"),
    ("colmap", "images.txt", "c 1.jpg", "c 0.jpg", "names an image twice"),
    ("colmap", "images.txt", "1 1.0 0.0", "1 2.0 0.0", r"c 0.jpg: quaternion is .*, expected one of length 1"),
    ("transforms", "", '"w": 640', '"w": "640"', "w, h is '640', expected a whole number"),
    ("transforms", "", '"fl_x": 500.0', '"fl_x": NaN', "fl_x is .*, expected 1 finite"),
    ("transforms", "", '"fl_x"', '"fx"', "has no key 'fl_x', expected fl_x, fl_y, cx, cy"),
    ("transforms", "", '"transform_matrix": [[1.0', '"transform_matrix": [[3.0', r"frames\[0\].* has det"),
    ("transforms", "", '"transform_matrix": [[1.0', '"transform_matrix": [[true', r"is .*, expected 4x4"),
    ("transforms", "", '"OPENCV"', '"EQUIRECTANGULAR"', "camera_model is 'EQUIRECTANGULAR', expected OPENCV"),
    ("transforms", "", '"k1"', '"k4": 0.1, "k1"', "k4 is 0.1, expected 0"),
    ("transforms", "", '"./c1/0001.png"', '"."', r"frames: file_path: found '.', expected the path of an image"),
    ("transforms", "", '"file_path"', '"path"', r"frames\[0\] has no key 'file_path'"),
    ("kalibr", "", "pinhole", "omni", "cam0: camera_model is 'omni', expected 'pinhole'"),
    ("kalibr", "", "radtan", "fov", "cam0: distortion_model is 'fov', expected 'radtan'"),
    ("kalibr", "", "T_cn_cnm1", "T_cnm1_cn", "cam1 has no key 'T_cn_cnm1'"),
    ("kalibr", "", "- [0.0, 0.0, 0.0, 1.0]", "- [1.0, 0.0, 0.0, 1.0]", r"cam1: T_cn_cnm1 ends in the row \[1.0,"),
    ("kalibr", "", "resolution: [640, 480]", "resolution: [640]", "cam0: resolution is .*640.*, expected .*width"),
    ("kalibr", "", "intrinsics: [500.0", "intrinsics: [.inf", "cam0: intrinsics is .*, expected 4 finite"),
    ("kalibr", "", "cam2:", "cam1:", "has the key 'cam1' twice"),
    ("kalibr", "", "cam2:", "cam7:\n  x: &a 1\ncam2:\n  y: *a", "repeats a part by its name"),
    ("panoptic", "", '"K": [[500.0', '"K": [["500"', r"cameras\[0\].K is .*, expected 3x3 finite numbers"),
    ("panoptic", "", '"R": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]',
     '"R": [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]', r"cameras\[0\].R has determinant -1"),
    ("panoptic", "", '"name": "00_01"', '"name": "00_00"', "names the camera '00_00' twice"),
    ("panoptic", "", '"t":', '"T":', r"cameras\[0\] has no key 't'"),
    ("panoptic", "", '"distCoef": [-0.2, 0.1,', '"distCoef": [', r"distCoef is .*, expected 4 or 5 numbers"),
    ("human36m", "", '"t": [[0.0], [0.0], [0.0]]', '"t": [[0.0], [0.0]]', "S1: 54138969: t is .*, expected 3 finite"),
    ("human36m", "", '"calibration_matrix": [[500.0, 0.0, 317.25], [0.0, 510.0, 241.5], [0.0, 0.0, 1.0]]',
     '"calibration_matrix": [[500, 0, 0], [0, 510, 0], [317, 241, 1]]', "calibration_matrix is .*transposed"),
    ("human36m", "", '"S1"', '"S1": {}, "S5"', "has a rig a subject and no subject is given, expected one of S1, S5"),
    ("human36m xml", "", "<w0>[", "<w0>[1 ", "w0 is .*, expected 300 finite numbers"),
    ("human36m xml", "", "<w0>[", "<w0>[one ", "w0 is .*, expected 300 numbers"),
    ("human36m xml", "", "<metadata>", "<!DOCTYPE a [<!ENTITY x 'y'>]><metadata>", "declares a document type"),
    ("qualisys", "", "<calibration>", "<!DOCTYPE a [<!ENTITY x 'y'>]><calibration>", "declares a document type"),
    ("toml", "", "size = [640,", f"size = [{'1' * 5000},", r"toml cannot be read \(Exceeds the limit"),
    ("toml", "", "fisheye = false", "fisheye = true\nignore = 2", "ignore is 2, expected true or false"),
    ("toml", "", "distortions = [-0.2, 0.1, 0.001, -0.002]\n", "distortions = [0, 0, 0, 0, 0, 0, 0, 0, 1]\n",
     "distortions has 9 coefficients, expected 4 or 5 numbers k1 k2 p1 p2 .k3., or 8 or 12"),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "name", "old", "new", "match"), BAD)
def test_bad_values_are_named(layout, name, old, new, match, write_rig, capsys):
    path, unit = write_rig(layout)
    file = path / name if name else path
    content = file.read_text()
    assert old in content
    file.write_text(content.replace(old, new, 1))
    with pytest.raises(InputError, match=match) as caught:
        read_cameras(path, layout.split()[0], unit, SUBJECT.get(layout))
    assert str(file.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pose_of_columns_looks_transposed(write_rig):
    path, unit = write_rig("transforms")
    content = json.loads(path.read_text())
    for frame in content["frames"]:
        frame["transform_matrix"] = np.array(frame["transform_matrix"]).T.tolist()
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"frames\[1\].transform_matrix ends in the row .*: it looks transposed"):
        read_cameras(path, unit=unit)


@pytest.mark.parametrize(
    ("at", "new", "match"),
    [
        (12, b"\x63", "has the model number 99, expected 0 to 11"),
        (12, b"\x07", "has the model FOV, expected one of"),
        (0, b"\xff" * 8, "ends after .* bytes within an entry"),
        (16, b"\0" * 8, "camera 7 is 0, expected a whole number of at least 1"),
    ],
)
def test_bad_bytes_are_named(at, new, match, write_rig):
    path, unit = write_rig("colmap binary")
    file = path / "sparse" / "0" / "cameras.bin"
    content = file.read_bytes()
    file.write_bytes(content[:at] + new + content[at + len(new) :])
    with pytest.raises(InputError, match=match):
        read_cameras(path, unit=unit)


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_damaged_files_give_one_sentence(layout, data, write_rig):
    """Whatever is cut from a file, put into it or exchanged: cameras, or one sentence that names it."""
    path, unit = write_rig(layout)
    try:
        files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
        file = data.draw(st.sampled_from(files))
        content = file.read_bytes()
        at = data.draw(st.integers(0, len(content) - 1))
        edit = data.draw(st.sampled_from(["cut", "drop", "put", "swap"]))
        piece = data.draw(
            st.sampled_from([b"nan", b"1e999", b"-", b"[]", b"{", b'"', b"\xff\x00", b"\n", b"null", b"9" * 40, b"*a"])
        )
        length = data.draw(st.integers(1, 30))
        rest = {
            "cut": b"",
            "drop": content[at + length :],
            "put": piece + content[at:],
            "swap": piece + content[at + length :],
        }
        file.write_bytes(content[:at] + rest[edit])
        try:
            cameras = read_cameras(path, layout.split()[0], unit, SUBJECT.get(layout))
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            return
        for camera in cameras.values():
            assert torch.isfinite(camera.intrinsics).all()
            torch.testing.assert_close(camera.rotation @ camera.rotation.T, torch.eye(3).double())
    finally:
        shutil.rmtree(path if path.is_dir() else path.parent)
