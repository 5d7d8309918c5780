"""OpenPose files to named joints."""

import json

import numpy as np
import pytest

from dkp.captures.joints import LAYOUTS
from dkp.errors import InputError
from dkp.importers.keypoints.detections import inside_frame, main_person, middle, move_joints
from dkp.importers.keypoints.files import read_detections
from dkp.importers.keypoints.names import find_layout, named_joints
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
    (keypoints,) = read_detections(tmp_path / "d").frames[3]
    joints = named_joints(keypoints, LAYOUTS["body_25b"])
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
    found = read_detections(tmp_path / "d")
    assert found.frames[8] == []
    assert set(named_joints(found.frames[7][0], LAYOUTS["coco_17"])) == {*LAYOUTS["coco_17"][11:], "mid_hip"}


NAN = float("nan")


@pytest.mark.parametrize(
    "nobody",
    [
        person([(NAN, NAN, NAN)] * 17), person([(NAN, NAN, 0.9)] * 17), person([(3, 4, NAN)] * 17),
        person([(float("inf"), 4, 0.9)] * 17), person([(0, 0, 0)] * 17), person([(30, 40, -1)] * 17),
        {"pose_keypoints_2d": [None] * 51}, {"pose_keypoints_2d": []},
    ],
    ids=["nan", "nan but sure", "no confidence", "infinite", "zeros", "negative", "null", "empty"],
)  # fmt: skip
def test_people_without_a_keypoint_are_passed_over(tmp_path, nobody):
    write(tmp_path / "d", "a_7.json", nobody, person([(30, 40, 0.5)] * 17), nobody)
    found = read_detections(tmp_path / "d")
    assert (len(found.frames[7]), found.listed) == (1, 3)
    assert find_layout([found]) == "coco_17"
    assert named_joints(found.frames[7][0], LAYOUTS["coco_17"])["nose"] == (30.5, 40.5, 0.5)


def test_a_keypoint_that_is_nan_is_left_out_alone(tmp_path):
    write(tmp_path / "d", "a_7.json", person([(NAN, 4, 0.5), *[(30, 40, 0.5)] * 16]))
    assert set(LAYOUTS["coco_17"]) - set(
        named_joints(read_detections(tmp_path / "d").frames[7][0], LAYOUTS["coco_17"])
    ) == {"nose"}


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a1.json", "{", "a1.json is not valid JSON"),
        ("a1.json", '{"people": [], "people": []}', "a1.json has the key 'people' twice"),
        ("a1.json", "[]", "people is None, expected a list"),
        ("a1.json", '{"people": [3]}', "pose_keypoints_2d is None, expected x, y and confidence of every keypoint"),
        ("a1.json", json.dumps({"people": [{"pose_keypoints_2d": [1.0] * 76}]}), "has 76 numbers, expected x, y and"),
        ("a1.json", json.dumps({"people": [{"pose_keypoints_2d": ["1"] * 75}]}), "expected 75 numbers"),
        ("a1.json", json.dumps({"people": [{"pose_keypoints_2d": [10**400] * 75}]}), "expected 75 numbers"),
        ("a.json", '{"people": []}', "a.json has no number in its name"),
        ("a.txt", "", "has no .json files"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, match):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=match):
        read_detections(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_encodings(tmp_path, encoding, newline):
    content = json.dumps({"people": [person([(30, 40, 0.5)] * 17)]}, indent=1).replace("\n", newline)
    (tmp_path / "a1.json").write_bytes(content.encode(encoding))
    assert read_detections(tmp_path).frames[1][0].tolist() == [[30, 40, 0.5]] * 17


def test_the_number_of_a_frame_is_the_one_that_differs(tmp_path):
    for number in (3, 12):
        write(tmp_path / "d", f"cam1_frame_{number}_2d.json")
    assert sorted(read_detections(tmp_path / "d").frames) == [3, 12]


def test_two_files_for_a_frame_and_unknown_layouts_are_refused(tmp_path):
    write(tmp_path / "d", "a1.json")
    write(tmp_path / "d", "b01.json")
    with pytest.raises(InputError, match=r"b01.json and a1.json both have the number 1, expected one file per frame"):
        read_detections(tmp_path / "d")
    (tmp_path / "d" / "b01.json").unlink()
    with pytest.raises(InputError, match="layout is 'mpii', expected one of auto, body_25b"):
        find_layout([read_detections(tmp_path / "d")], "mpii")


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_shares_of_the_image_are_no_pixels(tmp_path, low):
    """OpenPose writes 0 to 1 with --keypoint_scale 3, -1 to 1 with 4."""
    points = np.linspace(low, 1, 17)
    write(tmp_path / "d", "a1.json", person([(x, y, 0.9) for x, y in zip(points, points[::-1], strict=True)]))
    with pytest.raises(InputError, match=r"all 17 keypoints have .* to 1, which look like shares .* expected pixels"):
        read_detections(tmp_path / "d")


def test_what_cannot_be_in_the_frame_is_left_out_and_counted(tmp_path, caplog):
    write(tmp_path / "d", "a1.json", person([(1e7, 1e7, 0.9), (-30, 40, 0.9), *[(30, 40, 0.5)] * 15]))
    found = inside_frame(read_detections(tmp_path / "d"), (64, 48))
    assert np.isnan(found.frames[1][0][0]).all()
    assert np.isfinite(found.frames[1][0][1:]).all()  # a little outside is what a detector may guess
    assert (
        "1 of 17 detected joints lie far outside of frames of 64x48 pixels (the first at (1e+07, 1e+07)" in caplog.text
    )
    with pytest.raises(InputError, match=r"17 of 17 detected joints lie far outside .* expected detections of these"):
        inside_frame(read_detections(tmp_path / "d"), (16, 12))


def body(layout, turn=0.0, height=200.0):
    """A standing person's keypoints [px], from the surface's joints."""
    joints = Surface.load("human").joints
    names = LAYOUTS[layout]
    points = np.array([joints.get(name, (0.0, 0.0, 0.0)) for name in names])
    x = np.cos(turn) * points[:, 0] + np.sin(turn) * points[:, 2]
    pixels = np.stack([x, -points[:, 1]], -1) * height / 1.7 + 300
    return [(*pixel, float(name != "_")) for pixel, name in zip(pixels.tolist(), names, strict=True)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("turn", [0.0, 0.8, 1.6, 3.1])
def test_the_layout_is_found(tmp_path, layout, turn):
    for frame in range(6):
        write(tmp_path / "d", f"a{frame}.json", person(body(layout, turn + 0.1 * frame)))
    found = [read_detections(tmp_path / "d")]
    assert find_layout(found) == layout
    assert find_layout(found, layout) == layout
    for other in LAYOUTS.keys() - {layout}:
        with pytest.raises(InputError, match=f"expected '{layout}'|has people of .* keypoints, expected .* for layout"):
            find_layout(found, other)


def test_cameras_of_different_layouts_are_refused(tmp_path):
    for frame in range(6):
        write(tmp_path / "a", f"a{frame}.json", person(body("body_25", 0.1 * frame)))
        write(tmp_path / "b", f"b{frame}.json", person(body("body_25b", 0.1 * frame)))
    found = [read_detections(tmp_path / name) for name in "ab"]
    with pytest.raises(
        InputError, match=r"in different orders, those of .*a in that of body_25 and .*b in that of body_25b"
    ):
        find_layout(found)


def test_a_layout_that_cannot_be_told_is_asked_for(tmp_path):
    write(tmp_path / "d", "a0.json", person([(30, 40, 0.9)] * 25))
    with pytest.raises(InputError, match="has people of 25 keypoints, expected a layout: body_25b or body_25"):
        find_layout([read_detections(tmp_path / "d")])
    assert find_layout([read_detections(tmp_path / "d")], "body_25") == "body_25"
    write(tmp_path / "d", "a0.json", person([(30, 40, 0.9)] * 21))
    with pytest.raises(InputError, match=r"has people of 21 keypoints, expected those of a known layout .body_25b 25"):
        find_layout([read_detections(tmp_path / "d")])
    write(tmp_path / "d", "a1.json", person([(30, 40, 0.9)] * 17))
    with pytest.raises(InputError, match=r"a1.json has a person of 17 keypoints, expected 21 as in a0.json"):
        read_detections(tmp_path / "d")
    write(tmp_path / "e", "a0.json", person([(30, 40, 0.9)] * 17))
    (tmp_path / "d" / "a1.json").unlink()
    with pytest.raises(InputError, match="has people of 17 and 21 keypoints, expected one number"):
        find_layout([read_detections(tmp_path / "d"), read_detections(tmp_path / "e")])


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
