"""Ski-Pose PTZ-Camera: a camera for every image."""

import shutil

import h5py
import numpy as np
import pytest

from dkp.captures.check import check_capture
from dkp.errors import InputError
from dkp.importers.datasets.skipose import IMAGE, JOINTS, import_skipose

from .conftest import Subject, assert_joints_meet, draw, look, seen

SUBJECT = Subject(JOINTS)
FRAMES = 4


def camera(index, frame):
    """It pans around the skier and zooms."""
    return look(40 * index + 3 * frame, (IMAGE, IMAGE), 280 + 10 * frame)


def write(folder):
    for split in ("train", "test"):
        rows = {key: [] for key in ("seq", "cam", "frame", "2D", "cam_intrinsic", "cam_position", "R_cam_2_world")}
        for index in range(3):
            for frame in range(FRAMES):
                taken = camera(index, frame)
                pixels = seen(taken, SUBJECT.points(frame))
                draw(folder / split / "seq_000" / f"cam_{index:02d}" / f"image_{frame:06d}.png", pixels, (IMAGE, IMAGE))
                values = {
                    "seq": 0, "cam": index, "frame": frame, "2D": pixels.ravel() / IMAGE,
                    "cam_intrinsic": np.diag([1 / IMAGE, 1 / IMAGE, 1]) @ taken.intrinsics.numpy(),
                    "cam_position": taken.centre().numpy(), "R_cam_2_world": taken.rotation.T.numpy(),
                }  # fmt: skip
                for key, value in values.items():
                    rows[key].append(value)
        with h5py.File(folder / split / "labels.h5", "w") as file:
            for key, column in rows.items():
                file[key] = np.array(column)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("ski"))


def test_a_camera_for_every_image(source, tmp_path):
    capture = import_skipose(source, tmp_path / "out", size=64, workers=1)
    assert_joints_meet(capture, lambda view: dict(zip(JOINTS, SUBJECT.points(view.time), strict=True)))
    assert {name: len(frames) for name, frames in capture.splits.items()} == {"train": FRAMES, "test": FRAMES}
    assert sum(view.override is not None for view in capture.views) == len(capture.views) - 3 * 2
    report = check_capture(capture)
    assert not report.problems
    assert not report.findings


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("2D", np.zeros((12, 32)), r"2D has shape \(12, 32\), expected \(12, 34\)"),
        ("R_cam_2_world", np.tile(2 * np.eye(3), (12, 1, 1)), "row 0: R_cam_2_world has determinant 8"),
        ("cam_intrinsic", np.tile(np.eye(3)[::-1], (12, 1, 1)), "row 0: cam_intrinsic is"),
        ("cam_position", np.full((12, 3), np.nan), "cam_position is .* finite numbers"),
        ("frame", np.arange(12) + 50, "image_000050.png, which is not there"),
        ("seq", None, "has no data set 'seq'"),
    ],
)
def test_bad_labels_are_one_sentence(source, tmp_path, key, value, match):
    shutil.copytree(source, tmp_path / "copy")
    with h5py.File(tmp_path / "copy/train/labels.h5", "r+") as file:
        del file[key]
        if value is not None:
            file[key] = value
    with pytest.raises(InputError, match=match):
        import_skipose(tmp_path / "copy", tmp_path / "out", workers=1)
    (tmp_path / "copy/train/labels.h5").unlink()
    with pytest.raises(InputError, match="is not there, expected the labels of the split train"):
        import_skipose(tmp_path / "copy", tmp_path / "out", workers=1)
