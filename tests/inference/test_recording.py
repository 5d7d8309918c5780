"""Several cameras at once: where one loses the subject, the others say where it is; what is written, and going on."""

import cv2
import numpy as np
import pytest
import torch

from dkp.captures import Capture
from dkp.errors import InputError
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


@pytest.fixture
def recording(tmp_path):
    """Videos of three cameras of a card that moves, and their calibration."""
    (tmp_path / "videos").mkdir()
    lines = []
    for name, camera in CAMERAS.items():
        path = str(tmp_path / "videos" / f"{name}.avi")
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 20, (640, 480))
        for step in range(4):
            writer.write(frame(camera, moved(step))[..., ::-1])
        writer.release()
        turn = cv2.Rodrigues(camera.rotation.double().numpy())[0].ravel()
        matrix = camera.intrinsics.double().numpy() - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
        lines += [f'[{name}]\nname = "{name}"\nsize = [640, 480]\nmatrix = {matrix.tolist()}']
        lines += [f"distortions = {camera.distortion.tolist()}\nrotation = {turn.tolist()}"]
        lines += [f"translation = {camera.translation.double().tolist()}"]
    (tmp_path / "rig.toml").write_text("\n".join(lines))
    return tmp_path


def test_a_recording_becomes_a_folder_of_each_camera_and_a_capture(recording, predictor, monkeypatch):
    monkeypatch.setattr(command, "load", lambda *_, **__: predictor)
    words = {"calibration": str(recording / "rig.toml"), "unit": "m", "out": recording / "out"}
    said = command.predict(recording / "videos", **words)
    assert "left 4, middle 4, right 4 of 4 images" in said
    for name, camera in CAMERAS.items():
        for step in range(4):
            (one,) = load_predictions(recording / "out" / name / "npz" / f"{step:06d}.npz", predictor.surface).values()
            assert overlap(one.box, square(camera, moved(step))) > 0.45
        assert (recording / "out" / name / "overlay.webm").is_file()
    capture = Capture.open(recording / "out" / "capture")
    assert (len(capture.views), capture.fps) == (12, 20)
    for view in capture.views:
        pixel, _ = capture.camera(view).project(torch.from_numpy(moved(view.time))[None])
        column, row = pixel[0].round().int().tolist()
        shown = capture.image(view)[row, column].astype(int)  # the middle of a card is half red, half green
        np.testing.assert_allclose(shown, [128, 128, 255], atol=25)
    assert "is complete" in command.predict(recording / "videos", **words)
    with pytest.raises(InputError, match="boxes is 'whole' with a calibration"):
        command.predict(recording / "videos", **words, boxes="whole")
