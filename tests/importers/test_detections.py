"""OpenPose files to named joints."""

import json

import numpy as np
import pytest

from dkp.errors import InputError
from dkp.importers.detections import LAYOUTS, main_person, middle, move_joints, read_detections
from dkp.surface import Surface


def person(points):
    return {"pose_keypoints_2d": [float(v) for point in points for v in point]}


def write(folder, name, *people):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps({"version": 1.3, "people": list(people)}))


@pytest.mark.parametrize(
    ("layout", "count"), [("body_25b", 25), ("body_25", 25), ("halpe_26", 26), ("coco_17", 17), ("coco_18", 18)]
)
def test_layouts_name_the_surface_joints(layout, count):
    names = LAYOUTS[layout]
    assert len(names) == count
    used = [name for name in names if name != "_"]
    assert len(set(used)) == len(used)
    assert set(used) <= set(Surface.load("human").joints)
    for name in used:
        if name.startswith("left_"):
            assert name.replace("left", "right") in used


def test_body_25b_order(tmp_path):
    points = [(10 * index, index, 0.5) for index in range(25)]
    write(tmp_path / "d", "cam01.0003.json", person(points))
    (joints,) = read_detections(tmp_path / "d")[3]
    order = {
        "nose": 0, "left_eye": 1, "right_eye": 2, "left_ear": 3, "right_ear": 4,
        "left_shoulder": 5, "right_shoulder": 6, "left_elbow": 7, "right_elbow": 8, "left_wrist": 9, "right_wrist": 10,
        "left_hip": 11, "right_hip": 12, "left_knee": 13, "right_knee": 14, "left_ankle": 15, "right_ankle": 16,
        "neck": 17, "head": 18, "left_toe": 19, "left_heel": 21, "right_toe": 22, "right_heel": 24,
    }  # fmt: skip
    for name, index in order.items():
        assert joints.pop(name) == (10 * index + 0.5, index + 0.5, 0.5)
    assert joints == {"mid_hip": (115.5, 12.0, 0.5)}


def test_joints_that_were_not_found_are_left_out(tmp_path):
    points = [(1, 2, 0.0)] * 11 + [(3, 4, 0.5)] * 6
    write(tmp_path / "d", "a_000000000007_keypoints.json", person(points))
    write(tmp_path / "d", "a_000000000008_keypoints.json")
    found = read_detections(tmp_path / "d", "coco_17")
    assert found[8] == []
    assert set(found[7][0]) == {*LAYOUTS["coco_17"][11:], "mid_hip"}


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a1.json", "{", "a1.json cannot be read"),
        ("a1.json", "[]", "people is None, expected a list"),
        ("a1.json", '{"people": [3]}', "pose_keypoints_2d is None, expected 75 numbers for layout body_25b"),
        ("a1.json", json.dumps({"people": [person([(1, 2, 3)] * 17)]}), "has 51 numbers, expected 75"),
        ("a1.json", json.dumps({"people": [{"pose_keypoints_2d": ["1"] * 75}]}), "expected 75 finite numbers"),
        ("a.json", '{"people": []}', "a.json has no number in its name"),
        ("a.txt", "", "has no .json files"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, match):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=match):
        read_detections(tmp_path)


def test_two_files_for_a_frame_and_unknown_layouts_are_refused(tmp_path):
    write(tmp_path / "d", "a1.json")
    write(tmp_path / "d", "b01.json")
    with pytest.raises(InputError, match="second file for frame 1"):
        read_detections(tmp_path / "d")
    with pytest.raises(InputError, match="layout is 'mpii', expected one of body_25b"):
        read_detections(tmp_path / "d", "mpii")


def figure(x, y, size, confidence=0.8):
    return {str(i): (x + size * (i % 2), y + size * i, confidence) for i in range(5)}


def test_the_large_person_is_chosen_and_then_followed():
    near, far = figure(100, 100, 40), figure(300, 100, 10)
    assert main_person([far, near]) is near
    # Later the other one is larger, but the first one is followed.
    assert main_person([figure(300, 100, 80), figure(110, 100, 40)], middle(near)) == figure(110, 100, 40)
    assert main_person([]) is None
    assert main_person([{"nose": (1.0, 2.0, 1.0)}]) is None


def test_moved_joints_keep_their_confidence():
    assert move_joints({"a": (1.0, 2.0, 0.3)}, np.array([[5.0, 6.0]])) == {"a": (5.0, 6.0, 0.3)}
