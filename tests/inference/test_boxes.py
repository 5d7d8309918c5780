"""Boxes from files, masks, detections and a still background."""

import json

import cv2
import numpy as np
import pytest

from dkp.captures.images import write_image, write_mask
from dkp.errors import InputError
from dkp.inference.boxes import moving_boxes, read_boxes
from dkp.inference.frames import Frames


@pytest.fixture
def frames(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(3):
        write_image(tmp_path / "images" / f"im_{number}.png", np.zeros((40, 60, 3), np.uint8))
    return Frames(tmp_path / "images")


def as_lists(boxes):
    return {frame: {person: box.tolist() for person, box in people.items()} for frame, people in boxes.items()}


def test_files_of_boxes(frames, tmp_path):
    rows = [{"frame": 0, "box": [1, 2, 3, 4]}, {"frame": 0, "box": [5, 6, 7, 8]}, {"image": "im_2.png", "person": 4,
            "box": [1, 1, 2, 2]}, {"frame": 77, "box": [1, 1, 2, 2]}]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(rows))
    expected = {0: {0: [1, 2, 3, 4], 1: [5, 6, 7, 8]}, 2: {4: [1, 1, 2, 2]}, 77: {0: [1, 1, 2, 2]}}
    assert as_lists(read_boxes(tmp_path / "a.json", frames)) == expected
    (tmp_path / "a.csv").write_text("frame,person,x0,y0,x1,y1\n0,,1,2,3,4\n0,,5,6,7,8\n2,4,1,1,2,2\n77,0,1,1,2,2\n")
    assert as_lists(read_boxes(tmp_path / "a.csv", frames)) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "cannot be read"),
        ("a.json", "{}", "a.json"),
        ("nowhere.json", None, "which is not there, expected auto, whole"),
        ("a.json", '[{"frame": 0}]', "box 1: found .* expected frame or image"),
        ("a.json", '[{"frame": 0, "box": [1, 2, 1, 4]}]', "x0 < x1"),
        ("a.json", '[{"frame": 9, "box": [1, 2, 3, 4]}]', "boxes of none of the frames 0 to 2"),
        ("a.csv", "frame,x0\n0,1\n", "box 1"),
        ("a.txt", "", "is no format of detections"),
    ],
)
def test_bad_files_are_said_in_one_sentence(frames, tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_boxes(tmp_path / name, frames)


def test_masks_and_detections(frames, tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:40] = True
    write_mask(folder / "m_1.png", mask)
    write_mask(folder / "m_2.png", ~(mask | ~mask))
    assert as_lists(read_boxes(folder, frames)) == {1: {0: [20.5, 10.5, 39.5, 29.5]}}

    folder = tmp_path / "openpose"
    folder.mkdir()
    keypoints = [5, 6, 0.9, 15, 26, 0.9, 10, 10, 0.8, 0, 0, 0, 50, 30, 0.1] + [0, 0, 0] * 20
    people = {"people": [{"pose_keypoints_2d": keypoints}, {"pose_keypoints_2d": [0, 0, 0] * 25}]}
    (folder / "take_000000000001_keypoints.json").write_text(json.dumps(people))
    assert as_lists(read_boxes(folder, frames)) == {1: {0: [5.5, 6.5, 15.5, 26.5]}}

    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        read_boxes(tmp_path / "empty", frames)


def test_what_moves_before_a_still_camera(frames, tmp_path):
    with pytest.raises(InputError, match="is no video"):
        moving_boxes(frames)
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (160, 120))
    for step in range(12):
        image = np.full((120, 160, 3), 90, np.uint8)
        image[40:80, 10 * step : 10 * step + 24] = 240
        writer.write(image)
    writer.release()
    video = Frames(tmp_path / "a.mp4")
    find = moving_boxes(video)
    for number, image in video.read([3, 9]):
        np.testing.assert_allclose(find(image), [10 * number, 40, 10 * number + 24, 80], atol=3)
