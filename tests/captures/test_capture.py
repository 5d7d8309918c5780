"""Reading what was written: images, masks, labels, cameras, units, splits."""

import json
import pickle

import numpy as np
import pytest
import torch

from dkp.captures import Capture, CaptureWriter, DenseLabel, SparseLabel
from dkp.captures.crops import apply_affine
from dkp.errors import InputError


def test_everything_comes_back(scene, tmp_path):
    cameras = scene.cameras()
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (80, 96, 3), dtype=np.uint8) for name in cameras}
    label = scene.label(cameras["cam_0"], 0)
    known = rng.random(label.face.shape) < 0.5
    points = SparseLabel(np.array([[3.5, 4.25]]), np.array([2], np.int32), np.array([[0.25, 0.25, 0.5]], np.float32))
    with CaptureWriter(
        tmp_path / "c", name="n", surface=scene.surface, cameras=cameras, source="s", licence="l", fps=60
    ) as w:
        for name in cameras:
            w.add_view(
                "f1",
                name,
                images[name],
                sequence="take",
                time=1,
                mask=label.foreground,
                label=DenseLabel(label.face, label.barycentric, known),
                points=points,
                joints={"nose": (1.25, 2.5, 0.75)},
                domain="source",
            )
        w.splits = {"train": ["f1"]}
    capture = Capture.open(tmp_path / "c")
    assert (capture.name, capture.source, capture.licence, capture.unit, capture.fps) == ("n", "s", "l", "m", 60.0)
    assert list(capture.cameras) == list(cameras)
    (instant,) = capture.instants("train")
    assert (instant.frame, instant.sequence, instant.time) == ("f1", "take", 1)
    assert [view.camera for view in instant.views] == list(cameras)
    for view in instant.views:
        np.testing.assert_array_equal(capture.image(view), images[view.camera])
        np.testing.assert_array_equal(capture.mask(view), label.foreground)
        read = capture.label(view)
        np.testing.assert_array_equal(read.face, label.face)
        np.testing.assert_array_equal(read.known, known)
        np.testing.assert_allclose(read.barycentric, label.barycentric, atol=5e-4)
        np.testing.assert_allclose(read.barycentric[label.face >= 0].sum(-1), 1, atol=1e-6)
        np.testing.assert_array_equal(read.foreground, (label.face >= 0) & known)
        np.testing.assert_array_equal(capture.points(view).pixels, points.pixels)
        np.testing.assert_array_equal(capture.points(view).barycentric, points.barycentric)
        assert view.joints == {"nose": (1.25, 2.5, 0.75)}
        assert (view.domain, view.size, view.crop, view.undistorted) == ("source", (96, 80), None, False)
    assert len(capture.surface.faces) == len(scene.surface.faces)
    assert capture.truth("f1") is None


def test_what_is_missing_is_none(scene, tmp_path):
    with CaptureWriter(tmp_path / "c", name="n", surface="human", cameras=scene.cameras()) as writer:
        for name in ("cam_0", "cam_2"):
            writer.add_view("f1", name, np.zeros((80, 96, 3), np.uint8), time=0)
    capture = Capture.open(tmp_path / "c")
    view = capture.views[0]
    assert capture.mask(view) is None
    assert capture.label(view) is None
    assert capture.points(view) is None
    assert view.joints is None
    assert capture.surface.name == "human"


@pytest.mark.parametrize("unit", ["m", "cm", "mm"])
def test_lengths_are_metres_whatever_the_unit(scene, tmp_path, unit):
    capture = scene.write(tmp_path / "c", unit=unit)
    scale = {"m": 1, "cm": 100, "mm": 1000}[unit]
    for name, camera in scene.cameras().items():
        torch.testing.assert_close(capture.cameras[name].translation, camera.translation)
        torch.testing.assert_close(capture.cameras[name].rotation, camera.rotation)
        torch.testing.assert_close(capture.cameras[name].intrinsics, camera.intrinsics)
    entry = json.loads((tmp_path / "c" / "capture.json").read_text())["cameras"][1]
    np.testing.assert_allclose(entry["translation"], scene.cameras()["cam_1"].translation * scale)
    np.testing.assert_allclose(capture.truth("f_002"), scene.vertices(2), atol=1e-6)


def test_camera_of_a_crop_sees_what_the_crop_shows(make_scene, tmp_path):
    scene = make_scene(distortion=(-0.2, 0.05, 0.002, -0.001, 0.01))
    cameras = scene.cameras()
    crop = np.array([[-1.5, 0.0, 90.0], [0.0, 1.25, -20.0]])
    with CaptureWriter(tmp_path / "c", name="n", surface=scene.surface, cameras=cameras) as writer:
        for name in cameras:
            writer.add_view("a", name, np.zeros((64, 72, 3), np.uint8), time=0, crop=crop, undistorted=True)
            writer.add_view("b", name, np.zeros((64, 72, 3), np.uint8), time=1, crop=crop, undistorted=False)
            writer.add_view("c", name, np.zeros((80, 96, 3), np.uint8), time=2)
    capture = Capture.open(tmp_path / "c")
    points = torch.from_numpy(scene.vertices(0))
    for view in capture.views:
        rig = cameras[view.camera]
        raw = rig.project(points)[0]
        expected = {
            "a": apply_affine(crop, rig.undistort(raw).numpy()),
            "b": apply_affine(crop, raw.numpy()),
            "c": raw.numpy(),
        }[view.frame]
        camera = capture.camera(view)
        np.testing.assert_allclose(camera.project(points)[0], expected, atol=1e-6)
        assert tuple(camera.image_size.tolist()) == view.size
        assert camera.dtype == torch.float64


def test_a_view_may_have_a_camera_of_its_own(scene, tmp_path):
    cameras = scene.cameras()
    moved = cameras["cam_2"]
    with CaptureWriter(tmp_path / "c", name="n", surface="human", cameras=cameras, unit="mm") as writer:
        for frame, override in (("a", None), ("b", moved)):
            for name in ("cam_0", "cam_1"):
                writer.add_view(frame, name, np.zeros((80, 96, 3), np.uint8), time=ord(frame), override=override)
    capture = Capture.open(tmp_path / "c")
    for view in capture.views:
        expected = moved if view.frame == "b" else cameras[view.camera]
        for key in ("intrinsics", "rotation", "translation"):
            torch.testing.assert_close(getattr(capture.camera(view), key), getattr(expected, key))


def test_instants_follow_the_split(board_capture):
    capture = Capture.open(board_capture)
    assert [instant.frame for instant in capture.instants()] == ["f_000", "f_001", "f_002", "f_003"]
    assert [instant.frame for instant in capture.instants("train")] == ["f_000", "f_001", "f_002"]
    assert [len(instant.views) for instant in capture.instants("test")] == [3]
    with pytest.raises(InputError, match="no split 'val', expected one of train, test"):
        capture.instants("val")


def test_some_instants_of_a_split(board_capture):
    capture = Capture.open(board_capture)
    split = next(iter(capture.splits))
    every, some = capture.instants(), capture.instants(split)
    assert capture.instants(f"{split}:1:") == some[1:]
    assert capture.instants(":0:3:2") == every[:3:2]
    for wrong, words in (
        ("nowhere:0:2", "no split 'nowhere'"),
        (f"{split}:999:", "none of"),
        (":a", "start:stop:step"),
    ):
        with pytest.raises(InputError, match=words):
            capture.instants(wrong)


def test_a_capture_can_be_sent_to_a_worker(board_capture):
    capture = pickle.loads(pickle.dumps(Capture.open(board_capture)))
    assert capture.image(capture.views[0]).shape == (80, 96, 3)
    assert capture.views == Capture.open(board_capture).views


def test_a_capture_written_by_hand_needs_few_keys(scene, board_capture, tmp_path):
    head = json.loads((board_capture / "capture.json").read_text())
    for camera in head["cameras"]:
        del camera["distortion"]
    del head["source"], head["licence"]
    (tmp_path / "images").mkdir()
    rows = []
    for row in (board_capture / "views.jsonl").read_text().splitlines():
        row = json.loads(row)
        file = f"images/{row['camera']}_{row['frame']}.png"
        (tmp_path / file).write_bytes((board_capture / row["image"]).read_bytes())
        rows.append({"frame": row["frame"], "camera": row["camera"], "image": file, "size": row["size"]})
    head["surface"] = "human"
    (tmp_path / "capture.json").write_text(json.dumps(head))
    (tmp_path / "views.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    capture = Capture.open(tmp_path)
    assert [(instant.frame, instant.time, len(instant.views)) for instant in capture.instants("test")] == [
        ("f_003", 3, 3)
    ]
    torch.testing.assert_close(capture.camera(capture.views[1]).intrinsics, scene.cameras()["cam_1"].intrinsics)
