"""Raw frames from videos and image folders, found by camera name."""

import re

import cv2
import numpy as np
import pytest

from dkp.errors import InputError
from dkp.importers.media import video
from dkp.importers.media.video import FrameSource, match_names, natural_key, open_media, report_bad


def write_video(path, count, size=(64, 48)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, size)
    assert writer.isOpened()
    for index in range(count):
        writer.write(np.full((size[1], size[0], 3), (20 * index, 0, 255 - 20 * index), np.uint8))
    writer.release()


def write_folder(path, count, size=(64, 48)):
    path.mkdir()
    for index in range(count):
        frame = np.full((size[1], size[0], 3), (20 * index, 0, 255 - 20 * index), np.uint8)
        cv2.imwrite(str(path / f"frame_{index}.png"), frame)  # unpadded: frame_10 after frame_9
    (path / "notes.txt").write_text("not an image")


@pytest.mark.parametrize("kind", ["video", "folder"])
def test_frames_are_found_by_number(tmp_path, kind):
    path = tmp_path / ("a.avi" if kind == "video" else "a")
    (write_video if kind == "video" else write_folder)(path, 12)
    source = FrameSource(path)
    assert (source.count, source.size) == (12, (64, 48))
    found = dict(source.frames([0, 1, 5, 11]))
    assert list(found) == [0, 1, 5, 11]
    for index, frame in found.items():
        assert frame.shape == (48, 64, 3)
        assert abs(int(frame[20, 30, 2]) - 20 * index) <= 6  # RGB: blue grows
        assert abs(int(frame[20, 30, 0]) - (255 - 20 * index)) <= 6
    with pytest.raises(InputError, match=r"expected one for frame 12"):
        list(source.frames([0, 12]))


def test_a_video_that_is_cut_short_is_named(tmp_path):
    write_video(tmp_path / "a.avi", 12)
    content = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"a\.avi(: frame 11 of 12 cannot be decoded| cannot be opened| has no frame)"):
        list(FrameSource(tmp_path / "a.avi").frames([0, 11]))


def damage(path, *numbers):
    """Overwrites what frames of an MJPEG video hold."""
    content = bytearray(path.read_bytes())
    places = [match.start() for match in re.finditer(b"00dc", content) if match.start() > content.index(b"movi")]
    for number in numbers:
        start = places[number] + 8
        length = int.from_bytes(content[start - 4 : start], "little")
        content[start : start + length] = bytes(length)
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["video", "folder"])
def test_frames_that_cannot_be_decoded_are_left_out_and_counted_or_end_it(tmp_path, kind, caplog):
    path = tmp_path / ("a.avi" if kind == "video" else "a")
    (write_video if kind == "video" else write_folder)(path, 12)
    if kind == "video":
        damage(path, 0, 5, 6)
    else:
        for number in (0, 5, 6):
            (path / f"frame_{number}.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"cannot be .*|has no frame"):
        list(FrameSource(path).frames([4, 5]))
    source = FrameSource(path, on_bad="skip")
    assert (source.count, source.size) == (12, (64, 48))
    found = dict(source.frames(range(12)))
    assert list(found) == [1, 2, 3, 4, 7, 8, 9, 10, 11]
    for index, frame in found.items():  # what follows a gap is still told by its number
        assert abs(int(frame[20, 30, 2]) - 20 * index) <= 6
    assert list(source.bad) == [0, 5, 6]
    report_bad("mine", [source])
    assert "mine: skipped 3 of its frames, which cannot be used; the first: " in caplog.text
    assert str(path) in caplog.text


def test_a_damaged_frame_that_nobody_wants_does_not_matter(tmp_path):
    write_video(tmp_path / "a.avi", 12)
    damage(tmp_path / "a.avi", 5)
    ((_, frame),) = FrameSource(tmp_path / "a.avi").frames([8])
    assert abs(int(frame[20, 30, 2]) - 160) <= 6


def test_frames_after_a_gap_that_have_no_times_are_left_out(tmp_path, monkeypatch):
    """Without times, nobody can tell whether a decoder dropped more than it said."""
    write_video(tmp_path / "a.avi", 12)
    damage(tmp_path / "a.avi", 5)
    monkeypatch.setattr(video, "_in_time", lambda *_: False)
    source = FrameSource(tmp_path / "a.avi", on_bad="skip")
    assert [index for index, _ in source.frames(range(12))] == [0, 1, 2, 3, 4]
    assert "cannot be told from its neighbours" in source.bad[6]


def test_images_of_another_size_are_refused(tmp_path):
    write_folder(tmp_path / "a", 3)
    cv2.imwrite(str(tmp_path / "a" / "frame_1.png"), np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(InputError, match=r"frame_1.png is 10x10, expected an image of 64x48"):
        list(FrameSource(tmp_path / "a").frames([0, 1, 2]))


def test_what_is_no_video_is_named(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    (tmp_path / "empty").mkdir()
    for name, match in (("a.mp4", "cannot be opened|no frame"), ("none.mp4", "is not there"), ("empty", "no images")):
        with pytest.raises(InputError, match=match):
            FrameSource(tmp_path / name)


def test_natural_order():
    names = ["img_10.png", "img_2.png", "IMG_1.png", "img_02b.png"]
    assert sorted(names, key=natural_key)[-1] == "img_10.png"


@pytest.mark.parametrize(
    ("files", "cameras", "found"),
    [
        (["cam_1.avi", "cam_10.avi"], ["cam_1", "cam_10"], ["cam_1.avi", "cam_10.avi"]),
        (["cam01.avi", "cam02.avi", "calib.toml"], ["cam_01", "cam_02"], ["cam01.avi", "cam02.avi"]),
        (["take-B-left.avi", "take-B-right.avi"], ["left", "right"], ["take-B-left.avi", "take-B-right.avi"]),
        (["Cam-1.avi", "old_cam_1.avi", "cam2.avi"], ["cam_1", "cam_2"], ["Cam-1.avi", "cam2.avi"]),
    ],
)
def test_names_are_matched(tmp_path, files, cameras, found):
    for file in files:
        (tmp_path / file).write_bytes(b"")
    paths = match_names(tmp_path, cameras, "a video", lambda path: path.suffix == ".avi")
    assert [path.name for path in paths.values()] == found
    assert list(paths) == cameras


@pytest.mark.parametrize(
    ("files", "match"),
    [
        (["cam_1.avi"], "has cam_1.avi for camera 'cam_2', expected a video with its name"),
        ([], "has nothing for camera 'cam_1'"),
        (["a_cam_1.avi", "b_cam_1.avi"], "has a_cam_1.avi, b_cam_1.avi for camera 'cam_1'"),
        (["cam_1_cam_2.avi"], "fits camera 'cam_2' and another one"),
    ],
)
def test_doubt_is_an_error(tmp_path, files, match):
    for file in files:
        (tmp_path / file).write_bytes(b"")
    with pytest.raises(InputError, match=match):
        match_names(tmp_path, ["cam_1", "cam_2"], "a video")


def test_paths_may_be_given_in_order_or_by_name(tmp_path):
    write_folder(tmp_path / "x", 1)
    write_folder(tmp_path / "y", 2)
    by_order = open_media([tmp_path / "y", tmp_path / "x"], ["a", "b"])
    by_name = open_media({"b": tmp_path / "x", "a": str(tmp_path / "y")}, ["a", "b"])
    assert [source.count for source in by_order.values()] == [source.count for source in by_name.values()] == [2, 1]
    for given, match in (
        ([tmp_path / "x"], "1 paths are given for 2 cameras"),
        ({"a": tmp_path / "x"}, "camera 'b' has no path"),
        ({"a": "x", "b": "y", "c": "z"}, "'c' is given a video or a folder of images but is no camera"),
        (tmp_path / "none", "is not there, expected a folder"),
    ):
        with pytest.raises(InputError, match=match):
            open_media(given, ["a", "b"])
