"""Recordings that are right, however they are written: imported by command, with every joint where it was seen."""

import json
import re
import shutil
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from dkp.captures import Capture
from dkp.cli import main

from .takes import CAMERAS, FRAMES, SIZE, Take, cameras, person, pixels, table

RIGHT: dict[str, tuple[Callable[[Take], object], str]] = {}
"""Name -> what is changed in the files, and what the import says of it (nothing by default)."""


def right(name: str, said: str = ""):
    def add(change: Callable[[Take], object]) -> Callable[[Take], object]:
        RIGHT[name] = (change, said)
        return change

    return add


def options(*words: str) -> Callable[[Take], object]:
    return lambda take: take.words.extend(words)


def tables(**changes) -> Callable[[Take], object]:
    """Every camera's table with other entries, which may be functions of the camera."""

    def entries(camera):
        return {key: value(camera) if callable(value) else value for key, value in changes.items()}

    return lambda take: take.calibrate(lambda key, name, camera: table(key, name, camera, **entries(camera)))


def text(change: Callable[[str], str], encoding: str = "utf-8") -> Callable[[Take], object]:
    return lambda take: take.calibration.write_bytes(change(take.calibration.read_text()).encode(encoding))


def images(change: Callable[[np.ndarray], np.ndarray], suffix: str = ".png", kind: str = "media"):
    """Every image, or mask, changed."""

    def write(take: Take) -> None:
        for path in sorted(getattr(take, kind).rglob("*.png")):
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            path.unlink()
            cv2.imwrite(str(path.with_suffix(suffix)), change(image))
        if kind == "masks":
            masked(take)

    return write


def masked(take: Take) -> None:
    take.words += ["--masks", str(take.masks), "--boxes", "masks"]


def videos(suffix: str, codec: str) -> Callable[[Take], object]:
    def write(take: Take) -> None:
        for name in CAMERAS:
            video = cv2.VideoWriter(str(take.media / f"{name}{suffix}"), cv2.VideoWriter_fourcc(*codec), 25, SIZE)
            for path in sorted((take.media / name).iterdir()):
                video.write(cv2.imread(str(path)))
            video.release()
            shutil.rmtree(take.media / name)

    return write


def people(change: Callable[[str, int, dict], list[dict]]) -> Callable[[Take], object]:
    """Every file of detections with other people, by camera, time and the person's own entry."""

    def write(take: Take) -> None:
        for name, camera in take.cameras.items():
            for time in range(FRAMES):
                take.detect(name, time, change(name, time, person(pixels(camera, time))))

    return write


def renamed(kind: str, name: Callable[[int], str]) -> Callable[[Take], object]:
    """Every image or file of detections under another name, by its number."""

    def rename(take: Take) -> None:
        for camera in CAMERAS:
            for time, path in reversed(list(enumerate(sorted((getattr(take, kind) / camera).iterdir())))):
                path.rename(path.with_name(name(time)))

    return rename


def named(names: tuple[str, ...], media: tuple[str, ...] | None = None) -> Callable[[Take], object]:
    """Cameras of other names, and their folders."""

    def rename(take: Take) -> None:
        for kind in (take.media, take.poses):
            for old, new in zip(CAMERAS, media or names, strict=True):
                (kind / old).rename(kind / new)
        take.cameras = cameras(names)
        take.calibrate()

    return rename


def both(*changes: Callable[[Take], object]) -> Callable[[Take], object]:
    return lambda take: [change(take) for change in changes]


def folder(name: str) -> Callable[[Take], object]:
    """The recording in a folder of another name."""

    def move(take: Take) -> None:
        take.folder.rename(take.folder.with_name(name))
        take.folder = take.folder.with_name(name)
        take.__post_init__()

    return move


def somebody(name: str) -> dict:
    """Somebody else, who stands still."""
    return person({joint: 0.6 * xy + [70, 30] for joint, xy in pixels(cameras()[name], 0).items()})


right("as it is")(lambda take: None)
# Units and poses
right("millimetres")(both(tables(translation=lambda c: (1000 * c.translation).tolist()), options("--unit", "mm")))
right("centimetres")(both(tables(translation=lambda c: (100 * c.translation).tolist()), options("--unit", "cm")))
right("feet, as a number")(
    both(tables(translation=lambda c: (c.translation / 0.3048).tolist()), options("--unit", "0.3048"))
)
right("rotation as a matrix")(tables(rotation=lambda c: c.rotation.tolist()))
right("translation as a column")(tables(translation=lambda c: [[value] for value in c.translation.tolist()]))
right("rotation as a row in a matrix")(
    tables(rotation=lambda c: [cv2.Rodrigues(c.rotation.numpy())[0].ravel().tolist()])
)
right("no fisheye")(tables(fisheye=False))
right("fisheye in quotes")(tables(fisheye="false"))
right("fourteen coefficients")(tables(distortions=lambda c: c.distortion.tolist() + [0.0] * 9))
right("sizes as real numbers")(tables(size=[160.0, 120.0]))
right("a format that is named")(options("--format", "toml"))
# Spellings of the camera file
right("byte order mark")(text(lambda content: "\ufeff" + content))
right("line ends of Windows")(text(lambda content: content.replace("\n", "\r\n")))
right("comments and metadata")(text(lambda content: f"# Küche\n{content}[metadata]\nerror = 0.3\nadjusted = false\n"))
right("further keys")(tables(note="left", fps=25, rms=0.2))
right("tables called cameras.N")(text(lambda content: content.replace("[cam_", "[cameras.")))
right("a camera without images is not asked for")(
    both(
        text(
            lambda content: content + content[: content.index("[cam_1]")].replace("cam_0", "cam_9").replace("cam1", "x")
        ),
        options("--cameras", '["cam1", "cam2", "cam3"]'),
    )
)
# Names
right("cameras in another order")(options("--cameras", '["cam3", "cam1", "cam2"]'))
right("names with blanks")(named(("left side", "middle", "right side")))
right("names of any script")(named(("Küche", "前", "後")))
right("names as numbers")(named(("1", "2", "10")))
right("leading zeros and case")(named(CAMERAS, ("Cam_01", "Cam_02", "Cam_03")))
right("names with a session")(named(CAMERAS, ("day1-cam1", "day1-cam2", "day1-cam3")))
right("letters beside words")(named(("A", "B", "C"), ("vid1-camA", "vid1-camB", "vid1-camC")))
right("a folder with blanks, # and an umlaut")(folder("take #2 (müde)"))
right("a folder with brackets and a percent sign")(folder("a[1]%20{b}"))
right("further files beside the images")(
    lambda take: [(take.media / name / file).write_bytes(b"x") for name in CAMERAS for file in ("Thumbs.db", "._a.png")]
)
# Images and videos
right("JPEG")(images(lambda image: image, ".jpg"))
right("TIFF")(images(lambda image: image, ".tif"))
right("WebP")(images(lambda image: image, ".webp"))
right("capital suffix")(renamed("media", lambda time: f"IMG_{time:03d}.PNG"))
right("grey")(images(lambda image: image[..., 0]))
right("an alpha channel")(images(lambda image: np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])))
right("16 bits")(images(lambda image: image.astype(np.uint16) * 257))
right("12 bits in 16", "values go up to 12 bits")(images(lambda image: image.astype(np.uint16) * 16))
right("MP4")(videos(".mp4", "mp4v"))
right("AVI")(videos(".avi", "MJPG"))
right("MKV in capitals")(
    both(videos(".mkv", "mp4v"), lambda take: [p.rename(p.with_suffix(".MKV")) for p in take.media.iterdir()])
)
# Numbers of frames
right("images without zeros in front")(
    both(renamed("media", lambda time: f"{time + 8}.png"), renamed("poses", lambda time: f"{time + 8}.json"))
)
right("images from 1, detections from 0")(renamed("media", lambda time: f"{time + 1}.png"))
right("images by letters")(renamed("media", lambda time: f"{'abcde'[time]}.png"))
right("images by the time of day")(renamed("media", lambda time: f"2024-01-01_12-00-{time:02d}.png"))
right("gaps of ten")(
    both(renamed("media", lambda time: f"x{10 * time}.png"), renamed("poses", lambda time: f"{10 * time}.json"))
)
# Detections
right("a layout that is named")(options("--layout", "body_25"))
for _layout in ("body_25b", "halpe_26", "coco_17", "coco_18"):
    right(f"the layout {_layout}")(
        lambda take, layout=_layout: people(lambda name, time, own: [person(pixels(take.cameras[name], time), layout)])(
            take
        )
    )
right("somebody else in front", "several people are seen in 5 of 5 frames")(
    people(lambda name, time, own: [somebody(name), own])
)
right("a person of NaN")(people(lambda name, time, own: [{"pose_keypoints_2d": [None] * 75}, own]))
right("a person of zeros behind")(people(lambda name, time, own: [own, {"pose_keypoints_2d": [0.0] * 75}]))
right("face and hands")(
    people(lambda name, time, own: [{**own, "face_keypoints_2d": [], "hand_left_keypoints_2d": [1.0, 2.0, 0.5]}])
)
right("detections with a byte order mark")(
    lambda take: [p.write_bytes(b"\xef\xbb\xbf" + p.read_bytes()) for p in take.poses.rglob("*.json")]
)
# Masks
right("masks")(masked)
right("masks of 0 and 1")(images(lambda mask: mask // 255, kind="masks"))
right("masks of true and false")(images(lambda mask: (mask > 0).astype(np.uint8), kind="masks"))
right("masks of 16 bits")(images(lambda mask: mask.astype(np.uint16) * 257, kind="masks"))
right("masks of 8 bits in 16")(images(lambda mask: mask.astype(np.uint16), kind="masks"))
right("masks in colour")(images(lambda mask: np.dstack([0 * mask, 0 * mask, mask // 255 * 128]), kind="masks"))
right("masks in the alpha channel")(images(lambda mask: np.dstack([0 * mask] * 3 + [mask]), kind="masks"))
right("masks as JPEG")(images(lambda mask: mask, ".jpg", kind="masks"))
right("masks from detections")(options("--masks", "grabcut"))
# Options
right("underscores")(options("--on_bad", "skip", "--frame_map", "same"))
right("hyphens")(options("--on-bad", "skip", "--frame-map", "same"))
right("an equals sign")(options("--size=96", "--margin=0.3"))
right("smoothed boxes")(options("--smooth", "3"))
right("whole frames")(options("--mode", "whole"))
right("splits")(options("--splits", '{"train": "0:3", "test": "3:"}'))
right("one process a camera")(lambda take: take.words.extend(["--workers", "3"]))


@pytest.fixture(scope="module")
def take(tmp_path_factory) -> Take:
    return Take(tmp_path_factory.mktemp("take") / "base").write()


@pytest.mark.parametrize("kind", RIGHT)
def test_every_joint_is_where_it_was_seen(take, tmp_path, capsys, caplog, kind):
    change, said = RIGHT[kind]
    own = take.copy(tmp_path / "take")
    change(own)
    main(own.command(tmp_path / "c"))
    assert bool(caplog.messages) == bool(said), caplog.messages
    assert all(said in message for message in caplog.messages)
    main(["check", str(tmp_path / "c"), "--strict"])
    assert re.search(r"all pairs +joints +\d+ +0\.00 +0\.00 +0\.00 +0\.00", capsys.readouterr().out)
    capture = Capture.open(tmp_path / "c")
    assert len(capture.views) == 3 * FRAMES
    seen = dict(zip(capture.cameras, cameras_of(own, capture), strict=True))
    first = min(view.time for view in capture.views)
    step = max(1, (max(view.time for view in capture.views) - first) // (FRAMES - 1))
    for view in capture.views:
        wanted = pixels(capture.camera(view), (view.time - first) // step)
        assert np.allclose(capture.camera(view).rotation, seen[view.camera].rotation, atol=1e-6)
        assert len(view.joints) >= 17
        found, expected = (
            np.array([some[name][:2] for name in view.joints if name != "mid_hip"]) for some in (view.joints, wanted)
        )
        np.testing.assert_allclose(found, expected, atol=5e-3)
    with_masks = "--masks" in own.words
    assert all((view.mask is not None) == with_masks for view in capture.views)
    for view in capture.views if with_masks else ():
        mask, image = capture.mask(view), capture.image(view).astype(int)
        figure = image[..., 0] - image[..., 2] > 80
        assert (mask & figure).sum() > 0.75 * (mask | figure).sum()


def cameras_of(take: Take, capture: Capture):
    """The true cameras, in the order of the capture's."""
    words = take.words
    order = json.loads(words[words.index("--cameras") + 1]) if "--cameras" in words else list(take.cameras)
    return [take.cameras[name] for name in order]
