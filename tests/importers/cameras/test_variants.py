"""Odd files of real programs: several images of a camera in COLMAP, angles of view and no sizes in transforms.json."""

import json

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dkp.errors import InputError
from dkp.importers.cameras.registry import read_cameras

POINTS = np.random.default_rng(0).uniform(-0.4, 0.4, (30, 3))


def pose(index):
    """Rotation, translation and centre of a camera that looks at the middle."""
    angle = 2 * np.pi * index / 3 + 0.3
    centre = np.array([3 * np.cos(angle), 3 * np.sin(angle), 1.2 + 0.2 * index])
    forward = -centre / np.linalg.norm(centre)
    right = np.cross(forward, [0, 0, 1]) / np.linalg.norm(np.cross(forward, [0, 0, 1]))
    rotation = np.stack([right, np.cross(forward, right), forward])
    return rotation, -rotation @ centre, centre


def seen(index, focal_x, focal_y):
    """Where a camera of 960 x 540 px without distortion sees the points, one after the other."""
    rotation, translation, _ = pose(index)
    found = []
    for point in POINTS:
        x, y, z = rotation @ point + translation
        found.append([focal_x * x / z + 480, focal_y * y / z + 270])
    return torch.tensor(found, dtype=torch.float64)


def write_colmap(folder, images):
    """Images (name, camera 0 to 2, turn in degrees) of three cameras."""
    folder.mkdir()
    lines = [f"{number} PINHOLE 960 540 {700 + number} {650 + number} 480 270" for number in (1, 2, 3)]
    (folder / "cameras.txt").write_text("\n".join(lines) + "\n")
    lines = []
    for number, (name, index, turn) in enumerate(images, start=1):
        rotation, translation, _ = pose(index)
        extra = Rotation.from_rotvec([0, np.radians(turn), 0])
        quaternion = (extra * Rotation.from_matrix(rotation)).as_quat()
        values = [*np.roll(quaternion, 1), *extra.apply(translation)]
        lines += [f"{number} {' '.join(map(str, map(float, values)))} {index + 1} {name}", "1 2 -1"]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_folders_of_images_of_cameras_that_stand_still_are_cameras(tmp_path):
    images = [(f"day/cam{index}/frame_{n}.png", index, 0.3 * n) for index in (2, 0, 1) for n in range(3)]
    cameras = read_cameras(write_colmap(tmp_path / "still", images), unit="m")
    assert list(cameras) == ["cam0", "cam1", "cam2"]
    for index, camera in enumerate(cameras.values()):
        pixels = camera.project(torch.from_numpy(POINTS))[0]
        torch.testing.assert_close(pixels, seen(index, 701 + index, 651 + index), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("name", "turn"), [("cam{}/frame_{}.png", 5.0), ("frame_{}_{}.png", 0.0)])
def test_other_images_are_a_camera_each(tmp_path, name, turn):
    images = [(name.format(index, n), index, turn * n) for index in range(3) for n in range(2)]
    cameras = read_cameras(write_colmap(tmp_path / "other", images), unit="m")
    assert len(cameras) == 6


def test_a_line_of_points_that_is_missing(tmp_path):
    folder = write_colmap(tmp_path / "c", [(f"c{index}.png", index, 0.0) for index in range(3)])
    lines = (folder / "images.txt").read_text().splitlines()
    (folder / "images.txt").write_text("\n".join(lines[::2]))
    with pytest.raises(InputError, match=r"images.txt:2 is .*, expected the points of c0.png, or an empty line"):
        read_cameras(folder, unit="m")


def write_transforms(path, **top):
    axes = np.diag([1, -1, -1])
    frames = []
    for index in range(3):
        rotation, _, centre = pose(index)
        matrix = np.vstack([np.column_stack([rotation.T @ axes, centre]), [0, 0, 0, 1]])
        frames.append({"file_path": f"./train/r_{index}", "transform_matrix": matrix.tolist()})
    path.write_text(json.dumps({**top, "frames": frames}))
    return path


def test_angles_of_view_stand_for_focal_lengths(tmp_path):
    angles = {"camera_angle_x": 2 * np.arctan(480 / 700), "camera_angle_y": 2 * np.arctan(270 / 650)}
    for index, camera in enumerate(
        read_cameras(write_transforms(tmp_path / "a.json", w=960, h=540, **angles), unit="1").values()
    ):
        torch.testing.assert_close(
            camera.project(torch.from_numpy(POINTS))[0], seen(index, 700, 650), atol=1e-6, rtol=0
        )


def test_a_file_of_blender_takes_the_size_of_its_images(tmp_path):
    path = write_transforms(tmp_path / "transforms.json", camera_angle_x=2 * np.arctan(480 / 700))
    with pytest.raises(InputError, match="has no key 'fl_x', expected fl_x, fl_y, cx, cy, w and h"):
        read_cameras(path, unit="1")
    (tmp_path / "train").mkdir()
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"train/r_{index}.png"), np.zeros((540, 960), np.uint8))
    cameras = read_cameras(path, unit="1")
    for index, camera in enumerate(cameras.values()):
        torch.testing.assert_close(
            camera.project(torch.from_numpy(POINTS))[0], seen(index, 700, 700), atol=1e-6, rtol=0
        )


def write_one_subject(path, **more):
    entries = {}
    for index in range(3):
        rotation, translation, _ = pose(index)
        inner = {"f": [700.0, 650.0], "c": [479.5, 269.5]}  # the first pixel's centre is at 0
        entries[str(index + 1)] = {"R": rotation.tolist(), "t": (1000 * translation).tolist(), **inner, **more}
    path.write_text(json.dumps(entries))
    return path


def test_human36m_of_one_subject(tmp_path, caplog):
    path = write_one_subject(tmp_path / "Human36M_subject9_camera.json")
    cameras = read_cameras(path)
    assert "has no lenses: images of Human3.6M have distortion" in caplog.text
    assert list(cameras) == ["ca_01", "ca_02", "ca_03"]
    for index, camera in enumerate(cameras.values()):
        pixels = camera.project(torch.from_numpy(POINTS))[0]
        torch.testing.assert_close(pixels, seen(index, 700, 650), atol=1e-6, rtol=0)
    assert read_cameras(path, subject="S9").keys() == cameras.keys()
    with pytest.raises(InputError, match=r"subject is 'S1' but .*subject9_camera.json has the rig of one"):
        read_cameras(path, subject="S1")
    for key, value, match in (("f", [700.0], "1: f is .*, expected 2"), ("R", [[2, 0, 0]] * 3, "1: R has det")):
        with pytest.raises(InputError, match=match):
            read_cameras(write_one_subject(tmp_path / "bad.json", **{key: value}))


def test_the_kinects_own_file_of_the_panoptic_studio(tmp_path):
    path = tmp_path / "kcalibration_171204_pose1.json"
    path.write_text(json.dumps({"sensors": [{"K_color": [], "M_color": [], "M_world2sensor": []}]}))
    with pytest.raises(InputError, match=r"has sensors, .* expected the calibration_\*.json of the same recording"):
        read_cameras(path)
