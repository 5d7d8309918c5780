"""Import of the balancing person: the padded videos, the bystander, calibration, crops, joints and masks."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from dkp.errors import InputError
from dkp.geometry import epipolar_distance, fundamental_matrix
from dkp.importers.datasets.person import (
    fetch_demo,
    frame_map,
    import_person,
    read_person_recording,
)

DATA = Path(os.environ.get("DKP_DATA", "")) / "person"
real = pytest.mark.skipif(
    not os.environ.get("DKP_DATA") or not DATA.is_dir(), reason="DKP_DATA is not set to the folder of real captures"
)


def test_frame_map_of_a_padded_video():
    matrix = frame_map((1080, 1920), (1088, 1920))
    scale = 1088 / 1080
    # 1088 x 1920 scaled to 1080 wide is 1905.9 high; 7.06 px of padding above and below.
    np.testing.assert_allclose(matrix, [[scale, 0, 0], [0, scale, -7.06 * scale]], atol=5e-3)
    corners = np.array([[0, (1920 - 1920 / scale) / 2], [1080, 1920 - (1920 - 1920 / scale) / 2]])
    np.testing.assert_allclose(corners @ matrix[:, :2].T + matrix[:, 2], [[0, 0], [1088, 1920]], atol=1e-9)


def test_frame_map_of_an_unchanged_video_is_the_identity():
    np.testing.assert_array_equal(frame_map((1088, 1920), (1088, 1920)), [[1, 0, 0], [0, 1, 0]])


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        import_person(tmp_path / "out", source_dir=tmp_path / "none")
    with pytest.raises(InputError, match=r"neither calib_refined.toml nor a .qca.txt"):
        import_person(tmp_path / "out", source_dir=tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_folder_of_recordings_is_taken_where_none_is_named(tmp_path, monkeypatch):
    (tmp_path / "person").mkdir()
    monkeypatch.setenv("DKP_DATA", str(tmp_path))
    with pytest.raises(InputError, match=rf"{tmp_path}/person has neither calib_refined.toml"):
        import_person(tmp_path / "out")


def test_fetch_reports_what_pip_says(tmp_path, monkeypatch):
    def failing(command, **_):
        assert "pose2sim==0.6.1" in command
        return subprocess.CompletedProcess(command, 1, "", "ERROR: first\nERROR: no connection\n")

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(InputError, match=r"could not download pose2sim==0.6.1 \(ERROR: no connection\)"):
        fetch_demo(tmp_path)


def test_fetch_refuses_another_wheel(tmp_path, monkeypatch):
    def other(command, **_):
        (tmp_path / "pose2sim-0.6.1-py3-none-any.whl").write_bytes(b"something else")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", other)
    with pytest.raises(InputError, match="SHA-256"):
        fetch_demo(tmp_path)


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return import_person(tmp_path_factory.mktemp("person") / "capture", source_dir=DATA)


@real
def test_counts_and_splits(capture):
    assert len(capture.views) == 400
    assert list(capture.cameras) == ["cam_01", "cam_02", "cam_03", "cam_04"]
    assert [len(capture.instants(split)) for split in ("train", "test")] == [80, 20]
    assert not {i.frame for i in capture.instants("train")} & {i.frame for i in capture.instants("test")}
    assert all(capture.image(view).shape == (192, 192, 3) for view in capture.views[::97])


@real
def test_joints_agree_across_views(capture):
    """The bystander, the padding or a wrong crop would each cost tens of px."""
    distances, exchanged = [], []
    for instant in capture.instants()[::9]:
        for first, second in ((0, 1), (2, 3), (0, 3), (1, 2)):
            ours, theirs = instant.views[first], instant.views[second]
            line = fundamental_matrix(capture.camera(ours), capture.camera(theirs))
            for name in ("left_knee", "right_knee", "left_wrist", "right_wrist", "neck"):
                if min(v.joints.get(name, (0, 0, 0))[2] for v in (ours, theirs)) < 0.3:
                    continue
                other = name.replace("left", "?").replace("right", "left").replace("?", "right")
                for target, out in ((name, distances), (other, exchanged)):
                    if target in theirs.joints and (out is distances or name != "neck"):
                        pixels = [torch.tensor([v.joints[k][:2]]).double() for v, k in ((ours, name), (theirs, target))]
                        out.append(float(epipolar_distance(*pixels, line)))
    assert len(distances) > 100
    assert np.median(distances) < 2.25  # px of the 192 px crop
    assert np.median(exchanged) > 4 * np.median(distances)


@real
def test_crops_hold_the_whole_person(capture):
    for view in capture.views:
        pixels = np.array([value[:2] for value in view.joints.values() if value[2] >= 0.1])
        assert pixels.min() > 9
        assert pixels.max() < 183


@real
def test_masks_cover_the_joints(capture):
    inside, share = [], []
    for view in capture.views[::7]:
        mask = capture.mask(view)
        share.append(mask.mean())
        for name in ("neck", "left_knee", "right_knee", "left_shoulder"):
            x, y, confidence = view.joints.get(name, (0, 0, 0))
            if confidence > 0.3:
                inside.append(mask[int(y), int(x)])
    assert np.mean(inside) > 0.97
    assert 0.05 < np.median(share) < 0.25


@real
def test_missing_and_foreign_detections_are_counted(tmp_path, caplog):
    folder = tmp_path / "person"
    folder.mkdir()
    for path in DATA.iterdir():
        if path.name != "pose":
            (folder / path.name).symlink_to(path)
    shutil.copytree(DATA / "pose", folder / "pose", copy_function=os.symlink)
    files = sorted((folder / "pose" / "cam02_json").iterdir())
    files[7].unlink()
    moved = json.loads(files[30].read_text())
    for person in moved["people"]:  # somebody else
        person["pose_keypoints_2d"][1::3] = [value and value + 700 for value in person["pose_keypoints_2d"][1::3]]
    files[30].unlink()
    files[30].write_text(json.dumps(moved))
    joints = read_person_recording(folder).joints
    assert "cam02_json: no detections for 1 of 100 frames (7)" in caplog.text
    assert "cam_02: its detections fit no person of the other cameras in 1 of 100 frames (the first: 30)" in caplog.text
    assert sorted(set(range(100)) - set(joints["cam_02"])) == [7, 30]
    assert all(len(joints[name]) == 100 for name in joints if name != "cam_02")


@real
def test_refined_published_calibration_is_as_good_as_the_corrected_one():
    corrected = read_person_recording(DATA, refine=False)
    refined = read_person_recording(DATA, refine=True)
    assert corrected.refinement is None
    assert np.mean(list(refined.refinement.before.values())) > 8
    assert max(refined.refinement.after.values()) < 7
    for name, camera in refined.cameras.items():
        turn = camera.rotation @ corrected.cameras[name].rotation.T
        angle = torch.rad2deg(torch.arccos(((torch.trace(turn) - 1) / 2).clamp(-1, 1)))
        assert angle < 2.0
    # The detections do not see the treadmill: bolts and marks on it judge both calibrations alike.
    errors = [static_error(recording.cameras) for recording in (corrected, refined)]
    assert errors[1] < 1.2 * errors[0]
    assert errors[1] < 5.0


# Where the treadmill's four bolts (capital) and the light dots beside them show in the videos, read off by eye
# [px, centres at integers]: left or right, far or near.
STATIC = {
    "cam_01": {"LF": (67, 1057), "RF": (511, 1033), "LN": (279, 1357), "RN": (787, 1274)},
    "cam_02": {"LF": (414, 1034), "RF": (824, 1064), "LN": (283, 1210), "RN": (803, 1266)},
    "cam_03": {"RN": (140, 1267), "RF": (520, 1498), "LF": (911, 1227)},
    "cam_04": {"LN": (933, 1055), "LF": (884, 1428), "RN": (487, 1133), "RF": (325, 1463)},
}
STATIC["cam_01"] |= {"lf": (109, 1060), "rf": (519, 1065), "ln": (318, 1335), "rn": (767, 1290)}
STATIC["cam_02"] |= {"lf": (439, 1040), "rf": (789, 1084), "ln": (325, 1208), "rn": (758, 1269)}
STATIC["cam_03"] |= {"rn": (165, 1240), "rf": (486, 1432), "lf": (875, 1234)}
STATIC["cam_04"] |= {"ln": (890, 1070), "lf": (837, 1411), "rn": (520, 1117), "rf": (386, 1397)}


def static_error(cameras) -> float:
    """Mean distance of static points from the projection of their triangulation [px]."""
    distances = []
    for point in STATIC["cam_01"]:
        rows, seen = [], []
        for name, marks in STATIC.items():
            if point not in marks:
                continue
            matrix = frame_map((1080 if name in ("cam_01", "cam_02") else 1088, 1920), (1088, 1920))
            raw = matrix[:, :2] @ (np.array(marks[point]) + 0.5) + matrix[:, 2]
            pixel = cameras[name].undistort(torch.as_tensor(raw[None]))[0].numpy()
            camera = cameras[name]
            projection = (camera.intrinsics @ torch.cat([camera.rotation, camera.translation[:, None]], 1)).numpy()
            rows += [pixel[0] * projection[2] - projection[0], pixel[1] * projection[2] - projection[1]]
            seen.append((projection, pixel))
        solution = np.linalg.svd(np.array([row / np.linalg.norm(row) for row in rows]))[2][-1]
        for projection, pixel in seen:
            image = projection @ solution
            distances.append(np.linalg.norm(image[:2] / image[2] - pixel))
    return float(np.mean(distances))
