"""Files named by a pattern."""

import cv2
import numpy as np
import pytest

from dkp.errors import InputError
from dkp.importers.media.video import open_media


def write(folder, *names):
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.full((20, 30, 3), index, np.uint8))


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("cam{camera}/frame_{frame}.png", "cam{camera:02}/frame_{frame}.png"),
        ("{frame}_cam{camera}.jpg", "{frame:06}_cam{camera}.jpg"),
        ("take (1)/{camera}/{camera}_f{frame}_*.png", "take (1)/Cam-{camera}/Cam-{camera}_f{frame}_x{frame}.png"),
    ],
)
def test_images_are_found_by_a_pattern(tmp_path, pattern, name):
    write(tmp_path, *(name.format(camera=camera, frame=frame) for camera in (1, 2, 10) for frame in (9, 10, 11)))
    write(tmp_path, "cam1/notes_1.png", "other.png")
    sources = open_media(tmp_path / pattern, ["cam_1", "cam_2", "cam_10"])
    for index, source in enumerate(sources.values()):
        assert source.numbers == [9, 10, 11]
        found = {number: int(frame.mean().round()) for number, frame in source.frames([9, 11])}
        assert found == {9: 3 * index, 11: 3 * index + 2}


def test_a_pattern_of_folders(tmp_path):
    write(tmp_path, *(f"c{camera}/images/{frame}.png" for camera in "ab" for frame in range(3)))
    sources = open_media(str(tmp_path / "c{camera}/images"), ["b", "a"])
    assert [source.path for source in sources.values()] == [tmp_path / "cb/images", tmp_path / "ca/images"]
    assert all(source.numbers == [0, 1, 2] for source in sources.values())


@pytest.mark.parametrize(
    ("pattern", "match"),
    [
        ("{camera}/x{frame}.jpg", "fits no file, expected files of a, b"),
        ("{camera}/{number}.png", r"has \{number\}, expected \{camera\}, \{frame\}"),
        ("{camera}/*{frame}.png", "expected one file for each camera and frame"),
        ("a{camera}/{frame}.png", "fits no file"),
    ],
)
def test_patterns_that_fit_badly_are_named(tmp_path, pattern, match):
    write(tmp_path, "a/1.png", "a/x01.png", "b/1.png", "b/x2.png")
    with pytest.raises(InputError, match=match):
        open_media(tmp_path / pattern, ["a", "b"])
    with pytest.raises(InputError, match="for camera 'c', expected files with its name"):
        open_media(tmp_path / "{camera}/{frame}.png", ["a", "b", "c"])
