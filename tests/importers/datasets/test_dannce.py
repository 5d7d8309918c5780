"""A project of DANNCE: a ball before a still background, and labelled frames."""

import shutil

import cv2
import numpy as np
import pytest
import scipy.io

from dkp.captures.check import check_capture
from dkp.errors import InputError
from dkp.importers.datasets.dannce import import_dannce

from .conftest import look, seen

SIZE = (160, 120)
CAMERAS = {f"Camera{index}": look(angle, SIZE, 190.0) for index, angle in enumerate((-40, 0, 35), 1)}
FRAMES = 16
LABELLED = (3, 9)
POINTS = np.random.default_rng(1).normal(size=(60, 3))
POINTS = 0.25 * POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)


def points(time):
    return POINTS + np.array([0.09 * (time - FRAMES / 2), 0.1, 0.05 * np.sin(time)])


def write(folder):
    for part in ("calibration", "labels", "labelled"):
        (folder / part).mkdir(parents=True)
    for index, (name, camera) in enumerate(CAMERAS.items(), 1):
        matrix = camera.intrinsics.numpy().copy()
        matrix[:2, 2] += 0.5  # MATLAB counts from 1
        scipy.io.savemat(
            folder / "calibration" / f"cam{index}_params.mat",
            {
                "K": matrix.T, "r": camera.rotation.numpy().T, "t": 1000 * camera.translation.numpy()[None],
                "RDistort": np.zeros((1, 2)), "TDistort": np.zeros((1, 2)),
            },
        )  # fmt: skip
        (folder / "videos" / name).mkdir(parents=True)
        writer = cv2.VideoWriter(str(folder / "videos" / name / "0.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 30, SIZE)
        still = cv2.resize(np.random.default_rng(index).integers(60, 120, (15, 20, 3), dtype=np.uint8), SIZE)
        for time in range(FRAMES):
            frame = still.copy()
            outline = cv2.convexHull(seen(camera, points(time)).astype(np.int32))
            cv2.drawContours(frame, [outline], -1, (20, 60, 250), -1)
            writer.write(frame)
            if time in LABELLED and index < 3:
                cv2.imwrite(str(folder / "labelled" / f"{name}_{time:05d}.jpg"), frame)
        writer.release()
        pixels = np.array([seen(camera, points(time)[:12]) + 0.5 for time in LABELLED])
        pixels[0, 5] = np.nan
        scipy.io.savemat(
            folder / "labels" / f"cam{index}_labels.mat",
            {"data_2d": pixels.reshape(2, -1), "data_frame": np.array([LABELLED], np.uint16)},
        )
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return write(tmp_path_factory.mktemp("dannce") / "project")


def options(**changes):
    return {"surface": "dog", "names": list(CAMERAS), "size": 64, "workers": 1, **changes}


def assert_right(capture, test_views):
    unlabelled = [view for view in capture.views if view.sequence == "take"]
    labelled = [view for view in capture.views if view.sequence == "labelled"]
    assert {view.frame for view in labelled} == set(capture.splits["test"])
    assert {view.frame for view in unlabelled} == set(capture.splits["train"])
    assert len(capture.splits["train"]) >= FRAMES - 2
    assert len(labelled) == test_views
    for view in unlabelled:
        mask = capture.mask(view)
        pixels = seen(capture.camera(view), points(view.time))
        truth = np.zeros((64, 64), np.uint8)
        cv2.drawContours(truth, [cv2.convexHull(np.round(pixels - 0.5).astype(np.int32))], -1, 1, -1)
        assert (mask & (truth > 0)).sum() / (mask | (truth > 0)).sum() > 0.8
    for view in labelled:
        names = list(view.joints)
        assert len(names) == (11 if view.time == LABELLED[0] else 12)
        indices = [int(name.removeprefix("keypoint_")) for name in names if name != "snout"]
        expected = seen(capture.camera(view), points(view.time)[indices])
        found = [view.joints[name][:2] for name in names if name != "snout"]
        np.testing.assert_allclose(found, expected, atol=0.02)


def test_videos_for_training_and_labelled_frames_of_the_videos_for_testing(project, tmp_path):
    capture = import_dannce(project, tmp_path / "out", **options())
    assert list(capture.cameras) == list(CAMERAS)
    assert_right(capture, 6)
    report = check_capture(capture)
    assert not report.problems
    assert not report.findings
    assert report.residuals["joints"].median < 0.05
    assert not list(tmp_path.glob(".out*"))


def test_labelled_images_and_names_of_keypoints(project, tmp_path):
    names = tmp_path / "names.yaml"
    names.write_text("\n".join(f"{index}: {'snout' if index == 2 else f'keypoint_{index}'}" for index in range(12)))
    capture = import_dannce(
        project, tmp_path / "out", **options(labelled_frames=project / "labelled", layout=names, frames="::2")
    )
    labelled = [view for view in capture.views if view.sequence == "labelled"]
    assert {view.camera for view in labelled} == {"Camera1", "Camera2"}
    assert all("snout" in view.joints for view in labelled)
    assert len(capture.splits["train"]) >= FRAMES // 2 - 1


def test_cameras_are_called_as_the_user_does_and_a_folder_that_is_there_is_refused_first(project, tmp_path, caplog):
    names = [f"Lens{index}" for index in (1, 2, 3)]
    shutil.copytree(project, tmp_path / "project")
    for name, camera in zip(names, CAMERAS, strict=True):
        (tmp_path / "project/videos" / camera).rename(tmp_path / "project/videos" / name)
    still = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    writer = cv2.VideoWriter(str(tmp_path / "project/videos/Lens3/0.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 30, SIZE)
    for _ in range(FRAMES):
        writer.write(still)
    writer.release()
    capture = import_dannce(tmp_path / "project", tmp_path / "out", **options(names=names))
    assert list(capture.cameras) == names
    assert "Lens3 has no view, the subject was found in none" in caplog.text
    assert "cam3" not in caplog.text
    shutil.rmtree(tmp_path / "project")
    with pytest.raises(
        InputError, match="out exists and is not empty, expected a new folder or the option --overwrite"
    ):
        import_dannce(tmp_path / "project", tmp_path / "out", **options(names=names))


def remove(*parts):
    def edit(folder):
        path = folder.joinpath(*parts)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return edit


@pytest.mark.parametrize(
    ("edit", "changes", "match"),
    [
        (remove("calibration"), {}, r"has no calibration/.*params.mat and 0 \*dannce.mat"),
        (remove("videos", "Camera2"), {}, "for camera 'Camera2', expected a video"),
        (remove("labels", "cam2_labels.mat"), {}, "has 2 .*_labels.mat, expected one for each of 3 cameras"),
        (lambda folder: None, {"names": ["A", "B"]}, "expected a different one for each of cam1"),
        (lambda folder: None, {"labelled_frames": "nowhere"}, "nowhere is no folder"),
        (
            lambda folder: shutil.copy(folder / "videos/Camera1/0.mp4", folder / "videos/Camera1/9.mp4"),
            {},
            "has 2 videos",
        ),
    ],
)
def test_bad_projects_are_one_sentence(project, tmp_path, edit, changes, match):
    shutil.copytree(project, tmp_path / "copy")
    edit(tmp_path / "copy")
    with pytest.raises(InputError, match=match):
        import_dannce(tmp_path / "copy", tmp_path / "out", **options(**changes))
    assert not (tmp_path / "out").exists()
