"""Human3.6M in the layout of its usual fetch script."""

import json
import shutil

import h5py
import numpy as np
import pytest

from dkp.captures.check import check_capture
from dkp.errors import InputError
from dkp.importers.cameras.human36m import CAMERAS
from dkp.importers.datasets.human36m import JOINTS, import_human36m

from .conftest import Subject, assert_joints_meet, draw, look, seen

SUBJECT = Subject(tuple(JOINTS.get(index) for index in range(32)))
LENS = (-0.2, 0.1, 0.001, -0.001, 0.0)
TURNED = {"S1": 0.0, "S9": 20.0}  # each subject has another rig


def cameras(subject):
    sizes = dict.fromkeys(CAMERAS, (100, 100)) | {CAMERAS[0]: (100, 102)}
    return {
        name: look(angle + TURNED[subject], sizes[name], distortion=LENS)
        for name, angle in zip(CAMERAS, (-60, 0, 35, 90), strict=True)
    }


def write(folder):
    rigs = {subject: cameras(subject) for subject in TURNED}
    intrinsics = {}
    for name, camera in rigs["S1"].items():
        matrix = camera.intrinsics.clone()
        matrix[:2, 2] -= 0.5
        intrinsics[name] = {"calibration_matrix": matrix.tolist(), "distortion": list(LENS)}
    extrinsics = {
        subject: {
            name: {"R": camera.rotation.tolist(), "t": (1000 * camera.translation[:, None]).tolist()}
            for name, camera in rig.items()
        }
        for subject, rig in rigs.items()
    }
    folder.mkdir()
    (folder / "cameras.json").write_text(json.dumps({"intrinsics": intrinsics, "extrinsics": extrinsics}))
    for subject, rig in rigs.items():
        action = folder / "processed" / subject / "Phoning-1"
        rows = []
        for name, camera in rig.items():
            for frame in (1, 5, 9):
                pixels = seen(camera, SUBJECT.points(frame))
                size = (100, 102) if name == CAMERAS[0] else (100, 100)
                draw(action / "imageSequence" / name / f"img_{frame:06d}.jpg", pixels, size)
                rows.append((pixels - 0.5, frame, int(name)))
        with h5py.File(action / "annot.h5", "w") as file:
            file["pose/2d"] = np.array([row[0] for row in rows])
            file["frame"] = np.array([row[1] for row in rows])
            file["camera"] = np.array([row[2] for row in rows])
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("h36m") / "data")


def options(**changes):
    return {"size": 64, "workers": 1, **changes}


def test_images_cameras_joints_and_splits(source, tmp_path):
    capture = import_human36m(source, tmp_path / "out", **options())
    assert_joints_meet(capture, lambda view: dict(zip(SUBJECT.names, SUBJECT.points(view.time), strict=True)))
    assert list(capture.cameras) == list(CAMERAS)
    assert {name: len(frames) for name, frames in capture.splits.items()} == {"train": 3, "test": 3}
    assert len(capture.views) == 24
    assert any(view.mask for view in capture.views)
    report = check_capture(capture)
    assert not report.problems
    assert not report.findings


def test_every_second_frame_of_one_subject(source, tmp_path):
    capture = import_human36m(source / "processed", tmp_path / "out", **options(subjects=["S9"], step=2, masks=False))
    assert (capture.splits["train"], len(capture.splits["test"])) == ([], 2)
    assert {view.time for view in capture.views} == {1, 9}


def change(source, tmp_path, edit):
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    edit(copy)
    return copy


def replaced(key, value):
    def edit(folder):
        with h5py.File(folder / "processed/S1/Phoning-1/annot.h5", "r+") as file:
            del file[key]
            if value is not None:
                file[key] = value

    return edit


def cut(folder):
    path = folder / "processed/S1/Phoning-1/annot.h5"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (replaced("pose/2d", None), "has no data set 'pose/2d'"),
        (replaced("pose/2d", np.zeros((12, 17, 2))), r"expected \(N, 32, 2\)"),
        (replaced("camera", np.full(12, 7)), "camera is 7, expected one of 54138969"),
        (replaced("pose/2d", np.full((12, 32, 2), np.nan)), "none|expected"),
        (cut, "cannot be read"),
        (lambda folder: (folder / "cameras.json").unlink(), "no metadata.xml and no .json file"),
        (lambda folder: (folder / "processed/S1/Phoning-1/annot.h5").unlink(), "no folder with annot.h5"),
        (lambda folder: (folder / "processed").rename(folder / "other"), "gives the subjects none"),
    ],
)
def test_bad_input_is_one_sentence(source, tmp_path, edit, match):
    copy = change(source, tmp_path, edit)
    with pytest.raises(InputError, match=match):
        import_human36m(copy, tmp_path / "out", **options(subjects=["S1"] if (copy / "processed").is_dir() else None))
    assert not (tmp_path / "out").exists()
