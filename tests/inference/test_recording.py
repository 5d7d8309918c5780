"""Several cameras at once: where one loses the subject, the others say where it is; what is written, and going on."""

import json

import cv2
import numpy as np
import pytest
import torch

from dkp.captures import Capture
from dkp.errors import InputError
from dkp.geometry import Camera, upright
from dkp.inference import command
from dkp.inference.prediction import load_predictions
from dkp.inference.rig import Ball, RigSubject
from dkp.inference.search import overlap

from .conftest import SIDE, looking, paint

MIDDLE = np.array([SIDE / 2, SIDE / 2, 0.0])
CAMERAS = {"left": looking(-0.8), "middle": looking(0.3, [-0.1, 0.02, 0, 0]), "right": looking(1.2)}


def moved(step):
    return MIDDLE + np.array([0.01 * step, 0, 0])


def seen_at(camera, place):
    """Pixel of a place, and half the side [px] of a ball of 10 cm there."""
    pixel, depth = camera.project(torch.from_numpy(place)[None])
    return pixel[0].numpy(), float(0.1 * camera.intrinsics[0, 0] / depth[0])


def frame(camera, place=MIDDLE, side=1.0):
    image = np.zeros((480, 640, 3), np.uint8)
    (x, y), half = seen_at(camera, place)
    return paint(image, x - side * half, y - side * half, 2 * side * half, 2 * side * half)


def square(camera, place=MIDDLE):
    (x, y), half = seen_at(camera, place)
    return np.array([x - half, y - half, x + half, y + half])


def test_a_ball_is_where_the_boxes_agree():
    boxes = {name: square(camera) for name, camera in CAMERAS.items()}
    ball = Ball.of_boxes(CAMERAS, boxes)
    np.testing.assert_allclose(ball.centre, MIDDLE, atol=1e-3)
    assert ball.radius == pytest.approx(0.1, rel=0.02)
    wrong = Ball.of_boxes(CAMERAS, boxes | {"right": np.array([10.0, 10, 60, 60])})
    np.testing.assert_allclose(wrong.centre, MIDDLE, atol=0.02)
    for name, camera in CAMERAS.items():
        assert overlap(ball.box(camera), boxes[name]) > 0.9
    assert Ball.of_boxes(CAMERAS, {"left": boxes["left"]}) is None


@pytest.mark.parametrize("shown", ["nothing", "something else"])
def test_a_camera_that_loses_the_subject_is_told_by_the_others(predictor, shown):
    subject = RigSubject(predictor, CAMERAS, 0.15)
    images = {name: frame(camera) for name, camera in CAMERAS.items()}
    elsewhere = np.zeros((480, 640, 3), np.uint8)
    images["right"] = elsewhere if shown == "nothing" else paint(elsewhere, 20, 330, 90, 90)
    for _ in range(2):
        seen = subject.look(images)
        for name, camera in CAMERAS.items():
            assert overlap(seen[name].box, square(camera)) > 0.45, name
        assert not seen["right"].inside.any()
    images["right"] = frame(CAMERAS["right"])
    assert subject.look(images)["right"].inside.mean() > 0.3


def write_recording(folder, ahead=None, rates=None, cameras=CAMERAS):
    """Videos of a card that moves, which may begin frames later or have other rates, and their calibration."""
    (folder / "videos").mkdir()
    lines = []
    for name, camera in cameras.items():
        path, rate = str(folder / "videos" / f"{name}.avi"), (rates or {}).get(name, 20)
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), rate, (640, 480))
        for step in range(4):
            writer.write(frame(camera, moved(step - (ahead or {}).get(name, 0)))[..., ::-1])
        writer.release()
        turn = cv2.Rodrigues(camera.rotation.double().numpy())[0].ravel()
        matrix = camera.intrinsics.double().numpy() - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
        lines += [f'[{name}]\nname = "{name}"\nsize = [640, 480]\nmatrix = {matrix.tolist()}']
        lines += [f"distortions = {camera.distortion.tolist()}\nrotation = {turn.tolist()}"]
        lines += [f"translation = {camera.translation.double().tolist()}"]
    (folder / "rig.toml").write_text("\n".join(lines))
    return folder / "videos", {"calibration": str(folder / "rig.toml"), "unit": "m", "out": folder / "out"}


@pytest.fixture(autouse=True)
def colours(monkeypatch, predictor):
    monkeypatch.setattr(command, "load", lambda *_, **__: predictor)


def read(folder, name, number, surface):
    return load_predictions(folder / name / "npz" / f"{number:06d}.npz", surface)[0]


def test_a_recording_becomes_a_folder_of_each_camera_and_a_capture(tmp_path, predictor):
    media, words = write_recording(tmp_path)
    said = command.predict(media, **words)
    assert "left 4, middle 4, right 4 of 4 images" in said
    for name, camera in CAMERAS.items():
        for step in range(4):
            assert (
                overlap(read(tmp_path / "out", name, step, predictor.surface).box, square(camera, moved(step))) > 0.45
            )
        assert (tmp_path / "out" / name / "overlay.webm").is_file()
    capture = Capture.open(tmp_path / "out" / "capture")
    assert (len(capture.views), capture.fps) == (12, 20)
    for view in capture.views:
        pixel, _ = capture.camera(view).project(torch.from_numpy(moved(view.time))[None])
        column, row = pixel[0].round().int().tolist()
        shown = capture.image(view)[row, column].astype(int)  # the middle of a card is half red, half green
        np.testing.assert_allclose(shown, [128, 128, 255], atol=25)
    assert "is complete" in command.predict(media, **words)
    with pytest.raises(InputError, match=r"boxes is 'whole' with a calibration, expected auto, a \.json or \.csv file"):
        command.predict(media, **words, boxes="whole")


def test_the_views_of_a_camera_that_is_askew_are_turned_upright(tmp_path, predictor):
    askew, turn = CAMERAS["right"], torch.eye(3)
    turn[:2, :2] = torch.from_numpy(cv2.getRotationMatrix2D((0, 0), 30, 1)[:, :2])
    askew = Camera.create(
        askew.intrinsics, turn @ askew.rotation, turn @ askew.translation, askew.distortion, askew.image_size
    )
    media, words = write_recording(tmp_path, cameras=CAMERAS | {"right": askew})
    command.predict(media, **words | {"out": tmp_path / "as-it-is"}, overlay=False, up="none")
    assert all(view.crop[0][1] == 0 for view in Capture.open(tmp_path / "as-it-is" / "capture").views)
    command.predict(media, **words, overlay=False)
    capture = Capture.open(tmp_path / "out" / "capture")
    assert len(capture.views) == 12
    for view in capture.views:
        middle = torch.from_numpy(moved(view.time))
        up = torch.tensor(upright(capture.cameras.values())) * 0.01
        (x0, y0), (x1, y1) = capture.camera(view).project(torch.stack([middle, middle + up]))[0].tolist()
        assert y0 - y1 > 20 * abs(x1 - x0)
        assert 60 < x0 < 132
        assert 60 < y0 < 132


def test_it_goes_on_after_an_interruption(tmp_path, predictor, monkeypatch):
    media, words = write_recording(tmp_path)
    whole = tmp_path / "whole"
    command.predict(media, **words | {"out": whole})
    look, count = RigSubject.look, 0

    def interrupted(self, *args):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return look(self, *args)

    monkeypatch.setattr(RigSubject, "look", interrupted)
    with pytest.raises(KeyboardInterrupt):
        command.predict(media, **words)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npz")}
    assert len(kept) == 2 * len(CAMERAS)
    assert not (tmp_path / "out" / "capture").exists()
    said = command.predict(media, **words)
    assert count == 5  # two of four moments were looked at before
    assert "left 4, middle 4, right 4 of 4 images" in said
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for name in CAMERAS:
        for number in range(4):
            one, other = (read(folder, name, number, predictor.surface) for folder in (whole, tmp_path / "out"))
            np.testing.assert_allclose(one.box, other.box)
    one, other = (Capture.open(folder / "capture") for folder in (whole, tmp_path / "out"))
    assert [view.frame for view in one.views] == [view.frame for view in other.views]
    for view, same in zip(one.views, other.views, strict=True):
        np.testing.assert_array_equal(one.image(view), other.image(same))


def test_videos_that_began_at_other_moments(tmp_path, predictor):
    media, words = write_recording(tmp_path, ahead={"right": 1}, rates={"right": 25})
    said = command.predict(media, **words, sync={"right": 1}, overlay=False)
    assert "of 3 images" in said
    for number in range(3):
        seen = read(tmp_path / "out", "right", number, predictor.surface)
        assert overlap(seen.box, square(CAMERAS["right"], moved(number))) > 0.45
    with pytest.raises(InputError, match="sync names the camera 'top'"):
        command.predict(media, **words | {"out": tmp_path / "other"}, sync={"top": 1})


def test_boxes_of_a_recording(tmp_path, predictor):
    media, words = write_recording(tmp_path)
    rows = [["camera", "frame", "x0", "y0", "x1", "y1"]]
    rows += [[name, 0, *square(CAMERAS[name]).round(1)] for name in ("left", "right")]
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("\n".join(",".join(map(str, row)) for row in rows))
    command.predict(media, **words, boxes=str(boxes), overlay=False)
    for name, camera in CAMERAS.items():
        assert overlap(read(tmp_path / "out", name, 3, predictor.surface).box, square(camera, moved(3))) > 0.45
    for name in CAMERAS:  # the same as a folder of each camera's
        (tmp_path / "each").mkdir(exist_ok=True)
        x0, y0, x1, y1 = square(CAMERAS[name])
        (tmp_path / "each" / f"{name}.json").write_text(json.dumps([{"frame": 0, "box": [x0, y0, x1, y1]}]))
    command.predict(media, **words | {"out": tmp_path / "second"}, boxes=str(tmp_path / "each"), overlay=False)
    assert overlap(read(tmp_path / "second", "left", 0, predictor.surface).box, square(CAMERAS["left"])) > 0.45


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "expected auto, a .json or .csv file of boxes with camera"),
        ("frame,x0,y0,x1,y1\n0,1,2,3,4", "box 1: camera is None, expected left, middle, right"),
        ("camera,frame,x0,y0,x1,y1\nleft,77,1,2,3,4", "boxes of none of the frames of left, middle, right"),
        ("camera,frame,x0,y0,x1,y1\nleft,0,1,2,3,4\nleft,0,5,5,9,9", "2 people in frame 0 of left, expected one"),
    ],
)
def test_bad_boxes_of_a_recording(tmp_path, text, message):
    media, words = write_recording(tmp_path)
    if text is not None:
        (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        command.predict(media, **words, boxes=str(tmp_path / "boxes.csv"))
