"""A recording with known geometry, through the whole import: lens, crop, joints, masks, synchronisation."""

import json
import os
import re
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dkp.captures import Capture
from dkp.captures.arrays import parse_slice
from dkp.captures.check import check_capture
from dkp.captures.crops import apply_affine, invert_affine
from dkp.captures.joints import LAYOUTS
from dkp.errors import InputError
from dkp.importers.cameras.lens import OpenCVCamera
from dkp.importers.masks import LIMBS
from dkp.importers.media.synchronise import frame_maps
from dkp.importers.media.video import FrameSource
from dkp.importers.recording import import_recording
from dkp.surface import Surface

LENS = (-0.2, 0.06, 0.002, -0.001, 0.0)
FRAMES = 8
NAMES = [name for name in LAYOUTS["body_25b"] if name != "_"]


@cache
def rest_joints() -> np.ndarray:
    """(J, 3) m, x to the person's left, y up."""
    joints = Surface.load("human").joints
    return np.array([joints[name] for name in NAMES])


@dataclass
class Recording:
    """Files of a recording and what they show."""

    calibration: Path
    media: Path
    detections: Path
    masks: Path
    cameras: dict

    def joints(self, time: int) -> np.ndarray:
        """(J, 3) m in the world: the rest pose, turned and moving."""
        points = rest_joints()
        turn = 0.1 * time
        x, y, z = points.T
        turned = np.stack([np.cos(turn) * x - np.sin(turn) * z, -np.sin(turn) * x - np.cos(turn) * z, y], -1)
        return np.add(turned, [0.2 * time - 0.7, 0.0, 0.0])

    def arguments(self, out: Path, **changes) -> dict:
        return {"calibration": self.calibration, "media": self.media, "out": out, "unit": "mm", "workers": 1, **changes}


def draw(joints: dict[str, np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    size = float(np.ptp(np.array(list(joints.values())), axis=0).max())
    for first, second, thickness in LIMBS:
        if first in joints and second in joints:
            start, end = (tuple(np.round((joints[n] - 0.5) * 16).astype(int).tolist()) for n in (first, second))
            cv2.line(mask, start, end, 1, max(2, round(size * thickness * 1.4)), cv2.LINE_8, 4)
    return mask.astype(bool)


def build(folder: Path, scene, frame_maps=None, lens=(), askew=0.0) -> Recording:
    """Writes a recording: calibration, frames, detections and masks; cam_1 is held askew [degrees]."""
    cameras = {}
    for name, camera in scene.cameras().items():  # 2 m is too near for a person: 3 m further back
        back = camera.translation + torch.tensor([0.0, 0.0, 3.0])
        turn = torch.eye(3, dtype=torch.float64)
        if name == "cam_1":
            turn[:2, :2] = torch.from_numpy(cv2.getRotationMatrix2D((0, 0), -askew, 1)[:, :2])
        cameras[name] = type(camera).create(
            camera.intrinsics, turn @ camera.rotation, turn @ back, camera.distortion, camera.image_size
        )
        if lens:
            cameras[name] = OpenCVCamera(cameras[name], torch.tensor(lens).double())
    recording = Recording(folder / "calibration.toml", folder / "media", folder / "pose", folder / "masks", cameras)
    recording.calibration.write_text("\n".join(table(name, camera) for name, camera in cameras.items()))
    rng = np.random.default_rng(0)
    for name, camera in cameras.items():
        write_camera(recording, name, camera, rng, (frame_maps or {}).get(name))
    return recording


FRAME_MAP = np.array([[1.25, 0.0, 0.0], [0.0, 1.25, -9.0]])  # frames made smaller and cut: to calibrated pixels


@pytest.fixture(scope="module")
def recording(make_scene, tmp_path_factory) -> Recording:
    return build(tmp_path_factory.mktemp("recording"), make_scene(size=(320, 240), distortion=LENS))


@pytest.fixture(scope="module")
def odd_recording(make_scene, tmp_path_factory) -> Recording:
    """Frames of camera 1 are not as calibrated."""
    scene = make_scene(size=(320, 240), distortion=LENS)
    return build(tmp_path_factory.mktemp("odd"), scene, {"cam_1": FRAME_MAP})


@pytest.fixture(scope="module")
def askew_recording(make_scene, tmp_path_factory) -> Recording:
    """Camera 1 is held askew."""
    return build(tmp_path_factory.mktemp("askew"), make_scene(size=(320, 240), distortion=LENS), askew=90.0)


def table(name, camera) -> str:
    matrix = camera.intrinsics.clone()
    matrix[:2, 2] -= 0.5
    lens = getattr(camera, "coefficients", camera.distortion).tolist()
    vector = cv2.Rodrigues(camera.rotation.numpy())[0].ravel()
    return (
        f"[{name}]\nname = '{name}'\nsize = [320, 240]\nmatrix = {matrix.tolist()}\n"
        f"distortions = {lens}\nfisheye = {str(len(lens) == 4).lower()}\nrotation = {vector.tolist()}\n"
        f"translation = {(camera.translation * 1000).tolist()}\n"
    )


def write_camera(recording, name, camera, rng, frame_map) -> None:
    size = (320, 240) if frame_map is None else (256, 206)
    still = rng.integers(70, 140, (size[1] // 4 + 1, size[0] // 4 + 1, 3), dtype=np.uint8)
    still = cv2.resize(still, (size[0] // 4 * 4 + 4, size[1] // 4 * 4 + 4))[: size[1], : size[0]]
    for kind in (recording.media, recording.detections, recording.masks):
        (kind / name).mkdir(parents=True)
    for time in range(FRAMES):
        pixels = camera.project(torch.from_numpy(recording.joints(time)))[0].numpy()
        if frame_map is not None:
            pixels = apply_affine(invert_affine(frame_map), pixels)
        joints = dict(zip(NAMES, pixels, strict=True))
        mask = draw(joints, (size[1], size[0]))
        frame = np.where(mask[..., None], np.array([20, 60, 230], np.uint8), still)
        cv2.imwrite(str(recording.media / name / f"img_{time}.png"), frame)
        cv2.imwrite(str(recording.masks / name / f"mask_{time}.png"), mask.astype(np.uint8) * 255)
        values = [(*(joints[n] - 0.5), 0.9) if n != "_" else (0.0, 0.0, 0.0) for n in LAYOUTS["body_25b"]]
        people = [{"pose_keypoints_2d": [float(v) for value in values for v in value]}]
        (recording.detections / name / f"{name}.{time:04d}.json").write_text(json.dumps({"people": people}))


def assert_joints_lie_where_the_camera_puts_them(capture, recording) -> None:
    for view in capture.views:
        points = torch.from_numpy(recording.joints(view.time))
        expected, _ = capture.camera(view).project(points)
        found = np.array([view.joints[name][:2] for name in NAMES])
        np.testing.assert_allclose(found, expected.numpy(), atol=2e-3)


def overlap(mask, other):
    return (mask & other).sum() / (mask | other).sum()


def true_mask(capture, view, recording) -> np.ndarray:
    points = torch.from_numpy(recording.joints(view.time))
    pixels = capture.camera(view).project(points)[0].numpy()
    return draw(dict(zip(NAMES, pixels, strict=True)), (view.size[1], view.size[0]))


@pytest.mark.parametrize("mode", ["crop", "whole"])
@pytest.mark.parametrize("odd", [False, True])
def test_joints_and_cameras_agree_through_lens_crop_and_frame_map(request, tmp_path, mode, odd):
    recording = request.getfixturevalue("odd_recording" if odd else "recording")
    capture = import_recording(
        **recording.arguments(tmp_path / "c", detections=recording.detections, mode=mode),
        **({"size": 96} if mode == "crop" else {}),
        frame_map={"cam_1": FRAME_MAP.tolist()} if odd else "same",
    )
    assert len(capture.views) == 3 * FRAMES
    assert_joints_lie_where_the_camera_puts_them(capture, recording)
    for view in capture.views:
        assert overlap(capture.mask(view), true_mask(capture, view, recording)) > 0.7
        assert view.undistorted == (mode == "crop")
    sizes = {view.camera: view.size for view in capture.views}
    whole = {"cam_0": (320, 240), "cam_1": (256, 206) if odd else (320, 240), "cam_2": (320, 240)}
    assert sizes == (dict.fromkeys(whole, (96, 96)) if mode == "crop" else whole)
    report = check_capture(capture)
    assert not report.problems
    for pair in report.pairs:
        assert list(pair.residuals) == ["joints"]
        assert pair.residuals["joints"].median < 1e-3
        assert (
            pair.residuals["joints"].mean < 0.02
        )  # mid_hip, the middle of two pixels, is not quite the middle in space


@pytest.mark.parametrize("boxes", ["detections", "masks", "background"])
@pytest.mark.parametrize("up", ["auto", "z", "none"])
def test_people_stand_upright_in_crops_of_a_camera_that_is_askew(askew_recording, tmp_path, caplog, boxes, up):
    recording = askew_recording
    given = {"masks": recording.masks} if boxes == "masks" else {}
    capture = import_recording(
        **recording.arguments(tmp_path / "c", detections=recording.detections, boxes=boxes, up=up, **given)
    )
    assert ("crops are turned upright: cam_1 (+90°)" in caplog.text) == (up == "auto")
    assert_joints_lie_where_the_camera_puts_them(capture, recording)
    assert not check_capture(capture).problems
    for view in capture.views:
        assert overlap(capture.mask(view), true_mask(capture, view, recording)) > 0.6
        (x0, y0), (x1, y1) = (view.joints[name][:2] for name in ("mid_hip", "head"))
        upright = y0 - y1 > 2 * abs(x1 - x0)
        assert upright == (view.camera != "cam_1" or up != "none")
        if upright:  # the crop is as large as it is tall
            low, high = (limit([joint[1] for joint in view.joints.values()]) for limit in (min, max))
            assert 0.6 * 192 < high - low < 192


@pytest.mark.parametrize("boxes", ["detections", "masks"])
def test_cameras_that_began_at_different_times(recording, tmp_path, boxes):
    """Frames, masks and detections of cam_1 are numbered two ahead of the others."""
    for kind in ("media", "masks", "detections"):
        shutil.copytree(getattr(recording, kind), tmp_path / kind)
        folder = tmp_path / kind / "cam_1"
        for path in sorted(folder.iterdir(), reverse=True):
            time = int(re.findall(r"\d+", path.stem)[-1])
            new = path.name.replace(
                f"{time:04d}" if kind == "detections" else f"_{time}.",
                f"{time + 2:04d}" if kind == "detections" else f"_{time + 2}.",
            )
            path.rename(folder / new)
    given = {"masks": tmp_path / "masks"} if boxes == "masks" else {}
    arguments = recording.arguments(
        tmp_path / "c", media=tmp_path / "media", detections=tmp_path / "detections", size=96
    )
    capture = import_recording(**{**arguments, **given}, boxes=boxes, sync={"cam_1": 2})
    assert len(capture.views) == 3 * FRAMES
    for view in capture.views:
        assert overlap(capture.mask(view), true_mask(capture, view, recording)) > 0.7
    if boxes == "detections":
        assert_joints_lie_where_the_camera_puts_them(capture, recording)


@pytest.mark.parametrize("told", [True, False])
def test_mirrored_frames_are_turned_back_by_a_frame_map(recording, tmp_path, told):
    """As docs/faq.md has it; without the map the camera does not fit its views."""
    for kind in ("media", "masks"):
        shutil.copytree(getattr(recording, kind), tmp_path / kind)
        for file in (tmp_path / kind / "cam_1").iterdir():
            cv2.imwrite(str(file), cv2.flip(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), 1))
    arguments = recording.arguments(tmp_path / "c", media=tmp_path / "media", masks=tmp_path / "masks", size=96)
    capture = import_recording(**arguments, frame_map={"cam_1": [[-1, 0, 320], [0, 1, 0]]} if told else "same")
    fits = [overlap(capture.mask(view), true_mask(capture, view, recording)) for view in capture.views]
    assert (min(fits) > 0.7) == told


@pytest.mark.parametrize(
    "lens", [(0.1, -0.05, 0.01, 0.0), (-0.2, 0.1, 0.001, -0.002, 0.02, 0.05, 0.03, 0.004, 0.01, -0.01, 0.01, 0.0)]
)
def test_lenses_that_a_capture_cannot_hold_are_undone(make_scene, tmp_path, lens):
    recording = build(tmp_path, make_scene(size=(320, 240)), lens=lens)
    arguments = recording.arguments(tmp_path / "c", detections=recording.detections, size=96)
    capture = import_recording(**arguments, frames="0:3")
    assert_joints_lie_where_the_camera_puts_them(capture, recording)
    assert len(capture.views) == 9
    for view in capture.views:
        shown = capture.image(view)[..., 0].astype(int) - capture.image(view)[..., 2] > 80
        assert overlap(shown, true_mask(capture, view, recording)) > 0.8
    with pytest.raises(InputError, match=r"expected at most k1 k2 p1 p2 k3 in a capture of whole frames; mode crop"):
        import_recording(**{**arguments, "out": tmp_path / "d"}, mode="whole")


def test_a_camera_file_without_sizes_takes_those_of_the_frames(recording, tmp_path):
    entries = {}
    for name, camera in recording.cameras.items():
        matrix = camera.intrinsics.clone()
        matrix[:2, 2] -= 0.5
        entries[name] = matrix.tolist(), camera.distortion.tolist(), camera.rotation.tolist(), camera.translation * 1000
    inner = {name: {"calibration_matrix": k, "distortion": d} for name, (k, d, _, _) in entries.items()}
    outer = {name: {"R": r, "t": t.tolist()} for name, (_, _, r, t) in entries.items()}
    (tmp_path / "rig.json").write_text(json.dumps({"intrinsics": inner, "extrinsics": {"S1": outer}}))
    arguments = recording.arguments(tmp_path / "c", detections=recording.detections, size=96, unit=None)
    chosen = ["cam_2", "cam_0"]
    media = {name: recording.media / name for name in chosen}
    detections = {name: recording.detections / name for name in chosen}
    arguments |= {"calibration": tmp_path / "rig.json", "media": media, "detections": detections}
    capture = import_recording(**arguments, cameras=chosen, frames="0:2")
    assert list(capture.cameras) == chosen
    assert capture.cameras["cam_2"].image_size.tolist() == [320, 240]
    assert_joints_lie_where_the_camera_puts_them(capture, recording)
    with pytest.raises(InputError, match="cameras is 'cam_7', expected one of cam_0, cam_1, cam_2"):
        import_recording(**{**arguments, "out": tmp_path / "d"}, cameras=["cam_7"])


@pytest.mark.parametrize("boxes", ["detections", "masks", "background"])
def test_every_source_of_boxes_puts_the_person_in_the_crop(recording, tmp_path, boxes):
    given = {
        "detections": {"detections": recording.detections},
        "masks": {"masks": recording.masks},
        "background": {},
    }[boxes]
    capture = import_recording(**recording.arguments(tmp_path / "c", size=96, **given))
    assert len(capture.views) == 3 * FRAMES
    for view in capture.views:
        points = torch.from_numpy(recording.joints(view.time))
        pixels = capture.camera(view).project(points)[0].numpy()
        assert (pixels > 4).all()
        assert (pixels < 92).all()
        assert np.ptp(pixels, axis=0).max() > 50
        mask, truth = capture.mask(view), true_mask(capture, view, recording)
        assert overlap(mask, truth) > {"detections": 0.7, "masks": 0.8, "background": 0.6}[boxes]
        image = capture.image(view)
        shown = image[..., 0].astype(int) - image[..., 2] > 80  # the figure is red
        assert overlap(shown, truth) > 0.8
    assert check_capture(capture).problems == []


@pytest.mark.parametrize("boxes", ["masks", "background"])
def test_detections_count_whatever_the_boxes_are_from(recording, tmp_path, boxes):
    given = {"detections": recording.detections, "masks": recording.masks, "boxes": boxes}
    capture = import_recording(**recording.arguments(tmp_path / "c", **given))
    assert_joints_lie_where_the_camera_puts_them(capture, recording)
    assert len(capture.views) == 3 * FRAMES


def test_the_capture_is_complete_and_repeatable(recording, tmp_path):
    for name, workers in (("a", 1), ("b", 2)):
        capture = import_recording(
            **recording.arguments(
                tmp_path / name / "c", detections=recording.detections, size=48, name="mine", sequence="walk",
                source="a test", licence="CC0", frames="1:7:2", splits={"early": ":4", "late": "4:"}, workers=workers,
            )
        )  # fmt: skip
    assert (capture.name, capture.source, capture.licence, capture.unit) == ("mine", "a test", "CC0", "m")
    assert list(capture.frames) == ["walk_000001", "walk_000003", "walk_000005"]
    assert capture.splits == {"early": ["walk_000001", "walk_000003"], "late": ["walk_000005"]}
    assert [instant.time for instant in capture.instants()] == [1, 3, 5]
    for path in sorted((tmp_path / "a").rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_masks_can_be_left_out_and_frames_split_by_default(recording, tmp_path):
    capture = import_recording(
        **recording.arguments(tmp_path / "c", detections=recording.detections, masks="none", size=32)
    )
    assert all(view.mask is None for view in capture.views)
    assert {split: len(frames) for split, frames in capture.splits.items()} == {"train": 6, "test": 2}
    assert capture.splits["train"][-1] < capture.splits["test"][0]


def test_whole_frames_need_no_subject(recording, tmp_path):
    capture = import_recording(**recording.arguments(tmp_path / "c", mode="whole", frames="0:2"))
    view = capture.views[0]
    assert (view.crop, view.mask, view.joints, view.undistorted) == (None, None, None, False)
    frame = cv2.imread(str(recording.media / view.camera / "img_0.png"))[..., ::-1]
    np.testing.assert_array_equal(capture.image(view), frame)


def test_frames_that_one_camera_alone_sees_are_left_out(recording, tmp_path):
    pose = tmp_path / "pose"
    for name in recording.cameras:
        (pose / name).mkdir(parents=True)
        for time in range(FRAMES):
            people = (recording.detections / name / f"{name}.{time:04d}.json").read_text()
            missing = (time == 2 and name != "cam_1") or (time == 3 and name == "cam_0")
            (pose / name / f"{time}.json").write_text('{"people": []}' if missing else people)
    capture = import_recording(**recording.arguments(tmp_path / "c", detections=pose, size=32))
    seen = {instant.time: len(instant.views) for instant in capture.instants()}
    assert seen == {0: 3, 1: 3, 3: 2, 4: 3, 5: 3, 6: 3, 7: 3}


def test_frames_resized_as_a_whole_can_be_stretched(recording, tmp_path, caplog):
    media = tmp_path / "media"
    for name in recording.cameras:
        (media / name).mkdir(parents=True)
        for path in (recording.media / name).iterdir():
            frame = cv2.resize(cv2.imread(str(path)), (640, 480), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(media / name / path.name), frame)
    arguments = recording.arguments(tmp_path / "c", media=media, masks="none", size=96)
    with pytest.raises(InputError, match=r"has frames of 640x480 pixels, expected 320x240 as camera 'cam_0' is cal"):
        import_recording(**arguments, frame_map="same")
    assert not (tmp_path / "c").exists()
    for told in ({"frame_map": "stretch"}, {}):  # what the sizes say is taken without a word of the user's
        capture = import_recording(**arguments, **told, overwrite=True)
        for view in capture.views:
            image = capture.image(view)
            shown = image[..., 0].astype(int) - image[..., 2] > 80
            assert overlap(shown, true_mask(capture, view, recording)) > 0.8
    assert caplog.text.count("640x480 pixels are taken as those of 320x240 resized") == 3
    said = "frames of cam_0, cam_1, cam_2 have 640x480 pixels, calibrated for 320x240 (640/320 and 480/240)"
    assert f"source: {said}\n" in str(check_capture(capture))


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("mm", None),
        ("m", r"the subject is 1\d00 m large, the surface human 1\.\d m: is --unit mm, not m meant\?"),
        ("cm", r"the subject is 1\d m large, the surface human 1\.\d m: is --unit mm, not cm meant\?"),
        ("1e-5", "is another --unit or --surface meant"),
    ],
)
@pytest.mark.parametrize("kind", ["detections", "masks"])
def test_a_wrong_unit_is_doubted(recording, tmp_path, caplog, unit, said, kind):
    given = {kind: getattr(recording, kind)}
    import_recording(**(recording.arguments(tmp_path / "c") | {"unit": unit, "frames": ":2", **given}))
    assert re.search(said, caplog.text) if said else "large, the surface" not in caplog.text


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((320, 240), None),
        ((160, 120), [[2, 0, 0], [0, 2, 0]]),
        ((240, 180), [[4 / 3, 0, 0], [0, 4 / 3, 0]]),
        ((320, 200), [[1, 0, 0], [0, 1, 20]]),
        ((300, 240), [[1, 0, 10], [0, 1, 0]]),
        ((240, 320), "refused"),
        ((200, 200), "refused"),
    ],
)
def test_what_sizes_say_of_frames(recording, tmp_path, size, expected):
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((size[1], size[0], 3), np.uint8))
    cameras, sources = {"a": recording.cameras["cam_0"]}, {"a": FrameSource(tmp_path)}
    if expected == "refused":
        with pytest.raises(InputError, match="expected 320x240 as camera 'a' is calibrated") as caught:
            frame_maps(cameras, sources, "auto")
        assert ("(were they turned by a quarter?)" in str(caught.value)) == (size == (240, 320))
        way = """, or --frame-map stretch if they were squeezed, '{"a": [[1, 0, LEFT], [0, 1, TOP]]}' if so many"""
        assert way in str(caught.value)
        with pytest.raises(InputError, match=r", or --frame-map auto if they were resized, or cut on two sides alike$"):
            frame_maps(cameras, sources, "same")
    else:
        found = frame_maps(cameras, sources, "auto")["a"]
        assert (found is None) == (expected is None)
        assert expected is None or found.tolist() == expected


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"unit": "feet"}, "unit is 'feet'"),
        ({"media": "nowhere"}, "nowhere is not there, expected a folder with a video or a folder of images per camera"),
        ({"mode": "half"}, "mode is 'half', expected one of crop, whole"),
        ({"boxes": "magic"}, "boxes is 'magic', expected one of auto"),
        ({"boxes": "detections"}, "boxes is 'detections' but detections is not given"),
        ({"boxes": "masks"}, "boxes is 'masks' but masks is not a folder"),
        ({"masks": "grabcut"}, "masks is 'grabcut' but detections is not given"),
        ({"masks": "background", "mode": "whole"}, "masks is 'background' but boxes is 'none'"),
        ({"frames": "9:"}, "frames is '9:', which selects none of 8 frames"),
        ({"frames": "3"}, "frames is '3', expected start:stop:step"),
        ({"frames": "a:b"}, "frames is 'a:b', expected start:stop:step"),
        ({"frames": "::-1"}, "frames is '::-1', expected start:stop:step with a step of at least 1"),
        ({"frames": "20"}, "frames is '20', expected start:stop:step, such as 20:21 for this one"),
        ({"frame_map": "guess"}, "--frame-map is 'guess', expected one of same, stretch"),
        ({"frame_map": {"cam_7": np.eye(3)[:2]}}, "--frame-map names the camera 'cam_7'"),
        ({"frame_map": {"cam_0": np.eye(3)}}, "--frame-map: cam_0 is .*, expected 2x3"),
        ({"splits": {"train": "0:2", "test": "50:60"}}, "splits: test is '50:60', which selects no imported frame"),
        ({"size": 0}, "size is 0, expected a whole number of at least 8"),
        ({"margin": -0.6}, "margin is -0.6, expected a number from 0 to 5"),
        ({"smooth": 0}, "smooth is 0, expected a whole number of at least 1"),
        ({"smooth": 4}, "smooth is 4, expected an odd number of frames"),
        ({"confidence": -0.1}, "confidence is -0.1, expected a number from 0"),
        ({"cameras": ["cam_0"]}, "cameras are cam_0, expected at least two different ones"),
        ({"cameras": {"cam_0": "a", "cam_1": "a"}}, "cameras are called a, a, expected a different name for each"),
        ({"cameras": ["cam_0", "cam_1", "cam_0"]}, "cameras are cam_0, cam_1, cam_0, expected at least two different"),
        ({"surface": "cat"}, "surface: found 'cat', expected one of dog, human"),
        ({"sync": '{"cam_1": 0.5}'}, 'sync is {"cam_1": 0.5}, expected a whole number of frames for each camera'),
        # What nothing would use
        ({"mode": "whole", "size": 96}, "size is 96 but mode is 'whole'"),
        ({"mode": "whole", "smooth": 3}, "smooth is 3 but mode is 'whole'"),
        ({"mode": "whole", "up": "z"}, "up is z but mode is 'whole'"),
        ({"up": "w"}, "up is 'w', expected one of auto, none, x, -x, y, -y, z, -z"),
        ({"layout": "body_25"}, "layout is 'body_25' but detections is not given"),
        ({"mode": "whole", "floor": 0.0}, "floor is 0 but boxes is 'none', expected boxes from the background"),
    ],
)
def test_bad_options_are_named_and_write_nothing(recording, tmp_path, changes, match):
    with pytest.raises(InputError, match=match):
        import_recording(**recording.arguments(tmp_path / "c", **changes))
    assert os.listdir(tmp_path) == []


def test_recordings_of_different_length_are_refused_unless_cut(recording, tmp_path):
    media = tmp_path / "media"
    for name in recording.cameras:
        (media / name).mkdir(parents=True)
        for path in sorted((recording.media / name).iterdir())[: 6 if name == "cam_2" else 8]:
            (media / name / path.name).write_bytes(path.read_bytes())
    arguments = recording.arguments(tmp_path / "c", media=media, mode="whole")
    with pytest.raises(InputError, match=r"different numbers of frames .cam_0 8, cam_1 8, cam_2 6., expected synchron"):
        import_recording(**arguments)
    with pytest.raises(InputError, match=r"a stop of at most 6"):
        import_recording(**arguments, frames=":7")
    assert len(import_recording(**arguments, frames=":6").frames) == 6


def test_masks_must_fit_the_frames(recording, tmp_path):
    for name in recording.cameras:
        (tmp_path / "masks" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "masks" / name / "m_0.png"), np.zeros((240, 320), np.uint8))
    with pytest.raises(InputError, match=r"has 1 masks of 320x240 pixels, expected 8 of 320x240 as the frames"):
        import_recording(**recording.arguments(tmp_path / "c", masks=tmp_path / "masks"))


@pytest.mark.parametrize("boxes", ["detections", "masks", "background"])
def test_frames_and_masks_that_cannot_be_decoded_are_left_out_and_counted(recording, tmp_path, boxes, caplog):
    for kind in ("media", "masks"):
        shutil.copytree(getattr(recording, kind), tmp_path / kind)
    bad = {("cam_0", 2), ("cam_1", 2), ("cam_2", 2), ("cam_1", 5)}
    for name, time in bad:
        (tmp_path / "media" / name / f"img_{time}.png").write_bytes(b"nothing")
    (tmp_path / "masks" / "cam_2" / "mask_7.png").write_bytes(b"nothing")
    given = {"detections": {"detections": recording.detections}, "masks": {"masks": tmp_path / "masks"}}
    arguments = recording.arguments(
        tmp_path / "c", media=tmp_path / "media", size=64, splits={"all": ":"}, **given.get(boxes, {})
    )
    with pytest.raises(InputError, match=r"(img_2|mask_7).png cannot be decoded.*--on-bad skip leaves such frames out"):
        import_recording(**arguments)
    assert not (tmp_path / "c").exists()
    capture = import_recording(**arguments, on_bad="skip")
    lost = bad | ({("cam_2", 7)} if boxes == "masks" else set())
    every = {(name, time) for name in recording.cameras for time in range(FRAMES)}
    assert {(view.camera, view.time) for view in capture.views} == every - lost
    assert len(capture.splits["all"]) == FRAMES - 1
    assert f"skipped {len(lost)} of its frames" in caplog.text
    for view in capture.views:  # frames, masks and joints still belong together
        assert overlap(capture.mask(view), true_mask(capture, view, recording)) > 0.6
    assert check_capture(capture).problems == []


def pose_files(recording, folder, change, number=lambda time: time):
    """Writes the detections anew: ``change(camera, time, keypoints (25, 3))`` gives the people's keypoints."""
    for name in recording.cameras:
        (folder / name).mkdir(parents=True)
        for time in range(FRAMES):
            data = json.loads((recording.detections / name / f"{name}.{time:04d}.json").read_text())
            keypoints = np.array(data["people"][0]["pose_keypoints_2d"]).reshape(-1, 3)
            people = change(name, time, keypoints)
            if people is not None:
                people = [{"pose_keypoints_2d": person.ravel().tolist()} for person in people]
                (folder / name / f"{number(time)}.json").write_text(json.dumps({"people": people}))
    return folder


def test_without_a_subject_there_is_no_capture_and_the_reason_is_said(recording, tmp_path):
    nobody = pose_files(recording, tmp_path / "nobody", lambda *_: [])
    unsure = pose_files(recording, tmp_path / "unsure", lambda *given: [given[2] * [1, 1, 0]])
    doubtful = pose_files(recording, tmp_path / "doubtful", lambda *given: [given[2] * [1, 1, 0.1]])
    dark = tmp_path / "dark"
    for name in recording.cameras:
        (dark / name).mkdir(parents=True)
        for time in range(FRAMES):
            cv2.imwrite(str(dark / name / f"{time}.png"), np.full((240, 320), 38, np.uint8))
    for changes, reason in (
        ({"detections": nobody}, "nobody/cam_0 has 8 frames with 0 people;"),
        ({"detections": unsure}, "unsure/cam_2 has 8 frames with 8 people, the highest confidence is 0$"),
        ({"detections": doubtful}, r"doubtful/cam_2 has 8 frames with 8 people, the highest confidence is 0\.09$"),
        (
            {"masks": dark},
            "dark/cam_0 has 8 masks, of which 0 show something; the values of the first go up to 38, exp",
        ),
    ):
        with pytest.raises(InputError, match=rf"was found by two cameras in none of 8 frames, expected .*: .*{reason}"):
            import_recording(**recording.arguments(tmp_path / "c", **changes))
    assert not (tmp_path / "c").exists()


def test_a_camera_without_a_view_is_named(recording, tmp_path, caplog):
    pose = pose_files(recording, tmp_path / "pose", lambda name, *given: [] if name == "cam_1" else [given[-1]])
    capture = import_recording(**recording.arguments(tmp_path / "c", detections=pose, masks="none"))
    assert {view.camera for view in capture.views} == {"cam_0", "cam_2"}
    assert "cam_1 has no view, the subject was found in none: " in caplog.text
    assert "pose/cam_1 has 8 frames with 0 people" in caplog.text


@pytest.mark.parametrize("first", [0, 1])
def test_detections_are_paired_with_frames_by_number(recording, tmp_path, first, caplog):
    """Frames count from 0, detections from 0 or from 1; some are missing, at the beginning, too."""
    gaps = {"cam_0": {0, 3}, "cam_1": {0}, "cam_2": {0, 5}}
    pose = pose_files(
        recording, tmp_path / "pose", lambda name, time, person: None if time in gaps[name] else [person],
        number=lambda time: time + first,
    )  # fmt: skip
    capture = import_recording(**recording.arguments(tmp_path / "c", detections=pose, masks="none", size=32))
    assert_joints_lie_where_the_camera_puts_them(capture, recording)
    assert sorted(capture.frames) == [f"take_{time:06d}" for time in range(1, FRAMES)]
    assert f"cam_0: no detections for 2 of 8 frames ({first}, {first + 3})" in caplog.text
    assert f"cam_2: no detections for 2 of 8 frames ({first}, {first + 5})" in caplog.text


def test_detections_of_another_part_of_the_recording_are_refused(recording, tmp_path):
    pose = pose_files(recording, tmp_path / "pose", lambda *given: [given[2]], number=lambda time: time + 100)
    with pytest.raises(InputError, match=r"cam_0 has files numbered 100 to 107, expected the numbers .*cam_0, 0 to 7"):
        import_recording(**recording.arguments(tmp_path / "c", detections=pose))


def test_the_detections_of_one_camera_alone_are_refused(recording, tmp_path):
    with pytest.raises(
        InputError, match=r"pose.cam_0 has detections of single frames, such as cam_0.0000.json, expected a folder "
        r"with one such folder for each camera \(cam_0, cam_1, cam_2\)$",
    ):  # fmt: skip
        import_recording(**recording.arguments(tmp_path / "c", detections=recording.detections / "cam_0"))


def test_what_is_longer_than_its_video_needs_frames_to_stop_at(recording, tmp_path):
    media = shutil.copytree(recording.media, tmp_path / "media")
    for name in recording.cameras:
        for time in (6, 7):
            (media / name / f"img_{time}.png").unlink()
    for kind in ("detections", "masks"):
        arguments = recording.arguments(tmp_path / kind, media=media, **{kind: getattr(recording, kind)})
        with pytest.raises(InputError, match=r"numbered 0 to 7, expected .*cam_0, 0 to 5, or --frames START:STOP if"):
            import_recording(**arguments)
        assert len(import_recording(**arguments, frames="0:6").frames) == 6


def test_images_masks_and_detections_are_paired_by_number(recording, tmp_path, caplog):
    """A camera has lost a frame, another one a mask; images and masks count from 1."""
    lost = {("media", "cam_0", 3), ("masks", "cam_1", 5), ("pose", "cam_2", 6)}
    for kind, folder in (("media", recording.media), ("masks", recording.masks)):
        for name in recording.cameras:
            (tmp_path / kind / name).mkdir(parents=True)
            for path in (folder / name).iterdir():
                time = int(path.stem.split("_")[1])
                if (kind, name, time) not in lost:
                    shutil.copy(path, tmp_path / kind / name / f"x_{time + 1:03d}.png")
    pose = pose_files(
        recording, tmp_path / "pose", lambda name, time, p: None if ("pose", name, time) in lost else [p],
        number=lambda time: time + 1,
    )  # fmt: skip
    capture = import_recording(
        **recording.arguments(
            tmp_path / "c", media=tmp_path / "media", masks=tmp_path / "masks", detections=pose, size=48
        )
    )
    every = {(name, time + 1) for name in recording.cameras for time in range(FRAMES)}
    assert {(view.camera, view.time) for view in capture.views} == every - {(name, t + 1) for _, name, t in lost}
    for view in capture.views:
        points = torch.from_numpy(recording.joints(view.time - 1))
        expected = capture.camera(view).project(points)[0].numpy()
        np.testing.assert_allclose([view.joints[name][:2] for name in NAMES], expected, atol=2e-3)
        image = capture.image(view)
        shown = image[..., 0].astype(int) - image[..., 2] > 80  # the figure is red
        assert overlap(capture.mask(view), shown) > 0.7
    assert "cam_0: no image for 1 of 8 frames (4)" in caplog.text
    assert "cam_1: no mask for 1 of 8 frames (6)" in caplog.text
    assert "cam_2: no detections for 1 of 8 frames (7)" in caplog.text


@pytest.mark.parametrize(("rates", "fine"), [((30, 30, 60), False), ((30, 30, 30), True), ((30, 30.01, 30), True)])
def test_videos_of_different_rates_are_refused(recording, tmp_path, rates, fine):
    (tmp_path / "media").mkdir()
    for name, rate in zip(recording.cameras, rates, strict=True):
        writer = cv2.VideoWriter(
            str(tmp_path / "media" / f"{name}.avi"), cv2.VideoWriter_fourcc(*"MJPG"), rate, (320, 240)
        )
        for time in range(FRAMES):
            writer.write(cv2.imread(str(recording.media / name / f"img_{time}.png")))
        writer.release()
    arguments = recording.arguments(tmp_path / "c", media=tmp_path / "media", mode="whole")
    if not fine:
        with pytest.raises(InputError, match=r"different frame rates .cam_0 30, cam_1 30, cam_2 60 frames per second"):
            import_recording(**arguments)
        arguments["rates"] = "any"
    assert len(import_recording(**arguments).frames) == FRAMES


def test_inverted_masks_are_named(recording, tmp_path, caplog):
    for name in recording.cameras:
        (tmp_path / "masks" / name).mkdir(parents=True)
        for path in (recording.masks / name).iterdir():
            cv2.imwrite(str(tmp_path / "masks" / name / path.name), 255 - cv2.imread(str(path)))
    import_recording(**recording.arguments(tmp_path / "c", masks=tmp_path / "masks", size=32))
    for name in recording.cameras:
        assert f"masks/{name}: half of the masks or more have foreground along 100 % of the frame's edge" in caplog.text
    caplog.clear()
    import_recording(**recording.arguments(tmp_path / "c", masks=recording.masks, size=32, overwrite=True))
    assert caplog.text == ""


def test_people_of_nan_beside_the_real_one_are_passed_over(recording, tmp_path):
    pose = pose_files(recording, tmp_path / "pose", lambda *given: [given[2] * np.nan, given[2], given[2] * 0])
    capture = import_recording(**recording.arguments(tmp_path / "c", detections=pose, masks="none", size=32))
    assert len(capture.views) == 3 * FRAMES
    assert_joints_lie_where_the_camera_puts_them(capture, recording)


def test_an_existing_capture_is_kept_unless_told(recording, tmp_path):
    arguments = recording.arguments(tmp_path / "c", mode="whole", frames=":1")
    import_recording(**arguments, name="first")
    with pytest.raises(InputError, match="exists and is not empty"):
        import_recording(**arguments)
    assert Capture.open(tmp_path / "c").name == "first"
    assert import_recording(**arguments, name="second", overwrite=True).name == "second"


def test_slices():
    assert parse_slice("", "x") == (None, None, 1)
    assert parse_slice("3:", "x") == (3, None, 1)
    assert parse_slice(":5", "x") == (None, 5, 1)
    assert parse_slice("1:10:3", "x") == (1, 10, 3)
    for bad in ("1:2:3:4", "1:2:0", "1.5:2", "x"):
        with pytest.raises(InputError, match="x is"):
            parse_slice(bad, "x")


@pytest.mark.skipif("DKP_DATA" not in os.environ, reason="DKP_DATA names no folder with the person recording")
def test_a_real_recording(tmp_path):
    person = Path(os.environ["DKP_DATA"]) / "person"
    if not person.is_dir():
        pytest.skip("DKP_DATA has no person recording")
    scale = 1088 / 1080
    frame_map = [[scale, 0, 0], [0, scale, -7.05 * scale]]
    capture = import_recording(
        person / "calib_refined.toml", person, tmp_path / "c", unit="m", detections=person / "pose", frames="::25",
        frame_map={"cam_01": frame_map, "cam_02": frame_map},
    )  # fmt: skip
    report = check_capture(capture)
    assert not report.problems
    assert len(report.pairs) == 6
    for pair in report.pairs:
        assert pair.residuals["joints"].matches > 10
        assert pair.residuals["joints"].median < 3.0
    assert [pair.eligible > 0.5 for pair in report.pairs] == [True, False, True, True, False, True]
