"""Raw frames from videos and image folders, found by camera name."""

import re
import struct

import cv2
import numpy as np
import pytest

from dkp.errors import InputError
from dkp.importers.media import video
from dkp.importers.media.clocks import synchronise
from dkp.importers.media.names import match_names
from dkp.importers.media.video import FrameSource, natural_key, open_media, report_bad


def write_video(path, count, size=(64, 48), rate=30.0):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, size)
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
    assert (list(source.numbers), source.size) == (list(range(12)), (64, 48))
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
    assert (list(source.numbers), source.size) == (list(range(12)), (64, 48))
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


PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}


def write_mp4(path, boxes, count=12):
    """An MP4 of 20 frames per second with a bright corner at its upper left, in which boxes are edited."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 20.0, (64, 48))
    for index in range(count):
        frame = np.full((48, 64, 3), 15 * index, np.uint8)
        frame[:12, :24] = 255
        writer.write(frame)
    writer.release()

    def edited(content):
        out, start = b"", 0
        while start < len(content):
            size, kind = struct.unpack_from(">I4s", content, start)
            body = content[start + 8 : start + size]
            body = boxes.get(kind, bytes)(edited(body) if kind in PARENTS else body)
            out += struct.pack(">I4s", len(body) + 8, kind) + body
            start += size
        return out

    path.write_bytes(edited(path.read_bytes()).replace(b"edts", b"free"))  # no list of edits that cuts the end


def turned(body):
    """A track's head whose matrix turns the picture by a quarter, clockwise."""
    return body[:40] + struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30) + body[76:]


def late(body):
    """Durations of frames, the seventh of which is shown five times as long."""
    step = struct.unpack_from(">I", body, 12)[0]
    return body[:4] + struct.pack(">7I", 3, 6, step, 1, 5 * step, 5, step)


def test_a_video_is_turned_as_its_file_says(tmp_path):
    write_mp4(tmp_path / "a.mp4", {b"tkhd": turned})
    source = FrameSource(tmp_path / "a.mp4")
    assert source.size == (48, 64)
    ((_, frame),) = source.frames([3])
    assert frame.shape == (64, 48, 3)
    assert frame[4:20, 40:44].min() > 200  # the corner is at the upper right
    assert frame[4:20, :30].max() < 100


def test_frames_that_are_not_evenly_spaced_are_said_and_paired_by_their_times(tmp_path, caplog):
    write_mp4(tmp_path / "even.mp4", {})
    write_mp4(tmp_path / "uneven.mp4", {b"stts": late})
    sources = open_media(tmp_path, ["even", "uneven"])
    for source in sources.values():
        assert len(list(source.frames(range(12)))) == 12
    report_bad("mine", list(sources.values()))
    assert re.findall(r"(\w+)\.mp4: frames are not evenly spaced in time", caplog.text) == ["uneven"]
    assert "--sync times pairs them" in caplog.text
    synchronise(sources, "times")
    assert sources["uneven"].numbers == [0, 1, 2, 3, 4, 5, 6, 11]  # five frames' time is missing, then 0.55 s
    shown = {number: int(frame[40, 40, 0]) for number, frame in sources["uneven"].frames([6, 11])}
    assert abs(shown[6] - 6 * 15) <= 5
    assert abs(shown[11] - 7 * 15) <= 5
    write_folder(tmp_path / "images", 3)
    with pytest.raises(InputError, match="images has images, which have no times, expected a video"):
        synchronise({"a": FrameSource(tmp_path / "images")}, "times")


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
        (["cam01.avi", "cam02.avi"], ["int_cam01_img", "int_cam02_img"], ["cam01.avi", "cam02.avi"]),
        (["vid1-camA.avi", "vid1-camB.avi"], ["A", "B"], ["vid1-camA.avi", "vid1-camB.avi"]),
        (["2.avi", "1.avi"], ["cam1", "cam2"], ["1.avi", "2.avi"]),
        (["take_1_x.avi", "take_2_x.avi"], ["Camera1", "Camera2"], ["take_1_x.avi", "take_2_x.avi"]),
        (["Küche.avi", "前.avi"], ["前", "Küche"], ["前.avi", "Küche.avi"]),
        (["Ku\u0308che.avi", "b.avi"], ["K\u00fcche", "b"], ["Ku\u0308che.avi", "b.avi"]),
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
        (["vid11.avi", "vid12.avi"], "or the paths in the order of the cameras .cam_1, cam_2.: .*vid11.avi"),
        (["left.avi", "right.avi"], "or the paths in the order of the cameras .cam_1, cam_2.: .*left.avi"),
    ],
)
def test_doubt_is_an_error(tmp_path, files, match):
    for file in files:
        (tmp_path / file).write_bytes(b"")
    with pytest.raises(InputError, match=match):
        match_names(tmp_path, ["cam_1", "cam_2"], "a video")


def test_cameras_without_a_video_can_be_left_out(tmp_path):
    for number in (1, 3):
        (tmp_path / f"hd_00_{number:02d}.avi").write_bytes(b"")
    with pytest.raises(InputError, match=r"""; or as cameras those that have one: '\["00_01", "00_03"\]'"""):
        match_names(tmp_path, [f"00_{number:02d}" for number in range(31)], "a video")


def test_paths_may_be_given_in_order_or_by_name(tmp_path):
    write_folder(tmp_path / "x", 1)
    write_folder(tmp_path / "y", 2)
    by_order = open_media([tmp_path / "y", tmp_path / "x"], ["a", "b"])
    by_name = open_media({"b": tmp_path / "x", "a": str(tmp_path / "y")}, ["a", "b"])
    for opened in (by_order, by_name):
        assert [len(source.numbers) for source in opened.values()] == [2, 1]
    for given, match in (
        ([tmp_path / "x"], "1 paths are given for 2 cameras"),
        ({"a": tmp_path / "x"}, "camera 'b' has no path"),
        ({"a": "x", "b": "y", "c": "z"}, "'c' is given a video or a folder of images but is no camera"),
        (tmp_path / "none", "is not there, expected a folder"),
    ):
        with pytest.raises(InputError, match=match):
            open_media(given, ["a", "b"])


class Header:
    """A video whose header says something else than it holds."""

    def __init__(self, video, count):
        self.video, self.count = video, count

    def __getattr__(self, name):
        return getattr(self.video, name)

    def get(self, key):
        return self.count if key == cv2.CAP_PROP_FRAME_COUNT else self.video.get(key)


@pytest.mark.parametrize("claimed", [-2.8e17, 0.0, float("nan"), 1.0, 7.0, 12.0, 1e17])
def test_the_header_of_a_video_is_not_believed(tmp_path, monkeypatch, claimed):
    """Browsers write videos without a duration; others count wrongly."""
    write_video(tmp_path / "a.avi", 12)
    opened = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda path: Header(opened(path), claimed))
    source = FrameSource(tmp_path / "a.avi")
    assert list(source.numbers) == list(range(12))
    assert [number for number, _ in source.frames([0, 11])] == [0, 11]


def test_images_have_the_number_in_their_name(tmp_path):
    for number in (3, 4, 7, 10):
        (tmp_path / "a").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "a" / f"2024_cam1_{number}_left2.png"), np.full((8, 9, 3), number, np.uint8))
    source = FrameSource(tmp_path / "a")
    assert (list(source.numbers), source.span) == ([3, 4, 7, 10], "3 to 10")
    assert 5 not in source
    assert {number: int(frame.max()) for number, frame in source.frames([3, 5, 7])} == {3: 3, 7: 7}  # 5 is a gap
    with pytest.raises(InputError, match=r"a has 4 frames, 3 to 10, expected one for frame 2"):
        list(source.frames([2]))


@pytest.mark.parametrize("kind", ["video", "folder"])
def test_cameras_with_the_same_frames_are_named(tmp_path, caplog, kind):
    for name, count in (("a", 3), ("b", 3), ("c", 4)):
        path = tmp_path / (f"{name}.avi" if kind == "video" else name)
        (write_video if kind == "video" else write_folder)(path, count)
    if kind == "folder":
        cv2.imwrite(str(tmp_path / "c" / "frame_0.png"), np.full((48, 64, 3), 9, np.uint8))
    open_media(tmp_path, ["a", "b", "c"])
    (record,) = caplog.records
    assert "begin with the same bytes" in record.message
    assert str(tmp_path / "a") in record.message
    assert str(tmp_path / "b") in record.message


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["a_1", "cover"], "cover.png has no number in its name as the other files have"),
        (["a_1", "b_01"], "b_01.png and a_1.png both have the number 1"),
    ],
)
def test_images_that_cannot_be_told_apart_are_refused(tmp_path, names, match):
    (tmp_path / "a").mkdir()
    for name in names:
        cv2.imwrite(str(tmp_path / "a" / f"{name}.png"), np.zeros((8, 9, 3), np.uint8))
    with pytest.raises(InputError, match=match):
        FrameSource(tmp_path / "a")


def test_images_without_numbers_are_counted(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("left", "right"):
        cv2.imwrite(str(tmp_path / "a" / f"{name}.png"), np.zeros((8, 9, 3), np.uint8))
    assert FrameSource(tmp_path / "a").numbers == [0, 1]


def test_images_of_twelve_bits_are_bright_and_do_not_flicker(tmp_path, caplog):
    """A camera of 12 bits writes files of 16; one of its images is dark."""
    (tmp_path / "a").mkdir()
    for number, value in enumerate((4000, 200)):
        cv2.imwrite(str(tmp_path / "a" / f"{number}.png"), np.full((8, 9), value, np.uint16))
    assert [int(frame.max()) for _, frame in FrameSource(tmp_path / "a").frames([0, 1])] == [250, 12]
    assert "values go up to 12 bits in images of 16" in caplog.text
