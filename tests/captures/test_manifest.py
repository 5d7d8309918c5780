"""Opening a capture refuses what cannot be used, in one sentence; damaged files never end in another error."""

import copy
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from dkp.captures import Capture
from dkp.captures.check import check_capture
from dkp.errors import InputError


@pytest.fixture
def folder(board_capture, tmp_path) -> Path:
    return Path(shutil.copytree(board_capture, tmp_path / "capture"))


def edit(folder: Path, change_head=None, change_rows=None) -> None:
    head = json.loads((folder / "capture.json").read_text())
    rows = [json.loads(line) for line in (folder / "views.jsonl").read_text().splitlines()]
    if change_head:
        head = change_head(head) or head
    if change_rows:
        rows = change_rows(rows) or rows
    (folder / "capture.json").write_text(json.dumps(head))
    (folder / "views.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def camera(key, value):
    return lambda head: head["cameras"][1].__setitem__(key, value)


MIRRORED = [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]
HEADS = {
    "format": (lambda head: {**head, "format": "other"}, "format is 'other', expected 'dkp-capture'"),
    "version": (lambda head: {**head, "version": 2}, "version is 2, expected 1"),
    "no format": (lambda head: {"name": "x"}, "format is None, expected 'dkp-capture'"),
    "a list": (lambda head: [head], "expected 'dkp-capture'"),
    "unknown key": (lambda head: {**head, "licens": ""}, "has the unknown key 'licens'"),
    "missing key": (lambda head: {k: v for k, v in head.items() if k != "unit"}, "has no key 'unit'"),
    "unit": (lambda head: {**head, "unit": "inch"}, "unit is 'inch', expected one of m, cm, mm"),
    "fps": (lambda head: {**head, "fps": 0}, "fps is 0, expected a number of frames per second above 0"),
    "name": (lambda head: {**head, "name": 3}, "name is 3, expected a string"),
    "surface file": (lambda head: {**head, "surface": "mesh.npz"}, "surface is 'mesh.npz' but there is no such file"),
    "surface outside": (lambda head: {**head, "surface": "../mesh.npz"}, "expected a relative path inside the capture"),
    "one camera": (lambda head: {**head, "cameras": head["cameras"][:1]}, "has 1 camera.s., expected at least two"),
    "no cameras": (lambda head: {**head, "cameras": {}}, "cameras is {}, expected a list"),
    "twice": (lambda head: {**head, "cameras": head["cameras"][:1] * 2}, "names the camera 'cam_0' twice"),
    "nameless": (lambda head: head["cameras"][0].pop("name") and None, "cameras.0. is .*, expected an object with a n"),
    "camera name": (camera("name", "../a"), "name is '../a', expected a name"),
    "size": (camera("size", [96, 0]), "cam_1: size is 0, expected a whole number of at least 1"),
    "size of too many digits": (
        camera("size", [10**400, 3]),
        "cam_1: size is 1000.*, expected a whole number .* 64 bits",
    ),
    "truth value": (camera("translation", [0, True, 1.5]), "cam_1: translation is .*, expected 3 finite numbers"),
    "size of three": (camera("size", [1, 2, 3]), "cam_1: size is .*, expected .width, height."),
    "nan": (camera("translation", [0, float("nan"), 1]), "cam_1: translation is .*, expected 3 finite numbers"),
    "infinite": (camera("translation", [0, 1e999, 1]), "cam_1: translation is .*, expected 3 finite numbers"),
    "words": (camera("translation", ["0", "0", "1"]), "cam_1: translation is .*, expected 3 finite numbers"),
    "ragged": (camera("intrinsics", [[1, 2], [3]]), "cam_1: intrinsics is .*, expected 3x3 finite numbers"),
    "huge": (camera("translation", [10**400, 0, 0]), "cam_1: translation is .*, expected 3 finite numbers"),
    "skewed": (camera("intrinsics", [[9, 0, 4], [1, 9, 4], [0, 0, 1]]), "cam_1: intrinsics is .*, expected ..fx, s"),
    "last row": (camera("intrinsics", [[9, 0, 4], [0, 9, 4], [0, 0, 2]]), "cam_1: intrinsics is .*, expected ..fx, s"),
    "focal": (camera("intrinsics", [[-9, 0, 4], [0, 9, 4], [0, 0, 1]]), "focal lengths -9 and 9, expected both posi"),
    "mirror": (camera("rotation", MIRRORED), "cam_1: rotation has determinant -1 .* expected a rotation"),
    "not orthonormal": (camera("rotation", (np.eye(3) * 1.01).tolist()), "cam_1: rotation has determinant 1.03"),
    "distortion": (camera("distortion", [0.1, 0.2]), "cam_1: distortion is .*, expected 5 finite numbers"),
    "camera key": (camera("fov", 3), "cam_1 has the unknown key 'fov'"),
    "splits": (lambda head: {**head, "splits": ["f_000"]}, "splits is .*, expected an object"),
    "split": (lambda head: {**head, "splits": {"train": "f_000"}}, "train is 'f_000', expected a list of frame ids"),
    "unknown frame": (lambda head: {**head, "splits": {"train": ["f_999"]}}, "train lists the frame 'f_999', expected"),
    "frame twice": (lambda head: {**head, "splits": {"a": ["f_001", "f_001"]}}, "a lists the frame 'f_001' twice"),
}


def row(key, value):
    return lambda rows: rows[4].__setitem__(key, value)


ROWS = {
    "unknown camera": (row("camera", "cam_9"), ":5: camera is 'cam_9', expected one of cam_0, cam_1, cam_2"),
    "missing file": (row("image", "images/x.png"), ":5: image is 'images/x.png' but there is no such file"),
    "missing mask": (row("mask", "masks/x.png"), ":5: mask is 'masks/x.png' but there is no such file"),
    "missing label": (row("label", "labels"), ":5: label is 'labels' but there is no such file"),
    "absolute": (row("image", "/etc/passwd"), ":5: image is '/etc/passwd', expected a relative path inside"),
    "outside": (row("points", "../p.npz"), ":5: points is '../p.npz', expected a relative path inside"),
    "no image": (row("image", None), ":5: image is None, expected the path of an image"),
    "no frame": (lambda rows: rows[4].pop("frame") and None, ":5 has no key 'frame'"),
    "typing error": (row("lable", "x"), ":5 has the unknown key 'lable'"),
    "twice": (lambda rows: [*rows, rows[4]], ":13 repeats frame 'f_001' of camera 'cam_1' from line 5"),
    "time differs": (row("time", 3), r":5: sequence and time are \('all', 3\), expected \('all', 1\)"),
    "same moment": (
        lambda rows: [r | {"time": 0} if r["frame"] == "f_001" else r for r in rows],
        ":4: frame is 'f_001', expected 'f_000', which has the same sequence and time",
    ),
    "time": (row("time", 1.5), ":5: time is 1.5, expected a whole number"),
    "truth value": (row("time", True), ":5: time is True, expected a whole number"),
    "size": (row("size", "96x80"), ":5: size is '96x80', expected .width, height."),
    "size of the camera": (row("size", [95, 80]), r":5: size is .95, 80. without a crop, expected .96, 80. as of the"),
    "time of too many digits": (row("time", 10**400), ":5: time is 1000.*, expected a whole number .* that 64 bits"),
    "half a character": (row("domain", "\ud800"), ":5: domain is .*, expected text that UTF-8 can hold"),
    "half a character in a path": (row("image", "\ud800/a.png"), ":5: image is .*, expected text that UTF-8 can"),
    "truth values": (row("crop", [[True, 0, 0], [0, 1, 0]]), ":5: crop is .*, expected 2x3 finite numbers"),
    "huge crop": (row("crop", [[1e200, 0, 0], [0, 1e200, 0]]), r":5: crop is .*, expected 2x3 .* of at most 1e.18"),
    "crop": (row("crop", [[1, 0, 0], [1, 0, 0]]), ":5: crop is .*, expected an affine map that can be inverted"),
    "crop shape": (row("crop", np.eye(3).tolist()), ":5: crop is .*, expected 2x3 finite numbers"),
    "undistorted": (row("undistorted", "yes"), ":5: undistorted is 'yes', expected true or false"),
    "joints": (row("joints", {"nose": [1, 2]}), ":5: joints: nose is .*, expected 3 finite numbers"),
    "joint list": (row("joints", [1, 2, 3]), ":5: joints is .*, expected an object"),
    "override": (row("override", {"focal": 3}), ":5: override has the unknown key 'focal'"),
    "override values": (row("override", {"rotation": MIRRORED}), ":5: override: rotation has determinant -1"),
    "domain": (row("domain", 3), ":5: domain is 3, expected a string"),
    "list": (lambda rows: rows.__setitem__(4, [1]), r":5 is \[1\], expected an object"),
    "empty": (lambda rows: rows.clear(), "views.jsonl has no lines"),
    "one view each": (
        lambda rows: [{**r, "label": None} for r in rows if r["camera"] == "cam_0"],
        "has 4 views of 4 frames, expected fr",
    ),
}


def one_sentence(message: str) -> bool:
    return "\n" not in message and "expected" in message


@pytest.mark.parametrize("case", HEADS)
def test_capture_json_is_checked(folder, case):
    change, match = HEADS[case]
    edit(folder, change_head=change)
    with pytest.raises(InputError, match=match) as caught:
        Capture.open(folder)
    assert str(folder / "capture.json") in str(caught.value)
    assert one_sentence(str(caught.value))


@pytest.mark.parametrize("case", ROWS)
def test_views_are_checked(folder, case):
    change, match = ROWS[case]
    edit(folder, change_rows=change)
    with pytest.raises(InputError, match=match) as caught:
        Capture.open(folder)
    assert str(folder / "views.jsonl") in str(caught.value)
    assert one_sentence(str(caught.value))


def test_what_is_not_a_capture_is_named(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for path, match in (
        (tmp_path / "nowhere", "is not there, expected the folder of a capture$"),
        (f"{folder}#test", "#test is not there, expected the folder of a capture, without a split$"),
        (folder / "capture.json", "is a file, expected the folder of a capture"),
        (tmp_path / "empty", "has no capture.json, expected the folder of a capture"),
    ):
        with pytest.raises(InputError, match=match) as caught:
            Capture.open(path)
        assert str(path) in str(caught.value)
    (folder / "views.jsonl").unlink()
    with pytest.raises(InputError, match=r"has no views.jsonl, expected one line of JSON per image"):
        Capture.open(folder)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"{", "is not valid JSON"),
        (b"\xff\xfe{}", "cannot be read"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not valid JSON"),
        (b'{"name": 1, "name": 2}', "has the key 'name' twice"),
    ],
)
@pytest.mark.parametrize("file", ["capture.json", "views.jsonl"])
def test_what_is_not_json_is_named(folder, file, content, match):
    (folder / file).write_bytes(content)
    with pytest.raises(InputError, match=match) as caught:
        Capture.open(folder)
    assert re.search(rf"{re.escape(str(folder / file))}(:1)?", str(caught.value))


def outcome(function, *arguments):
    """The sentence of an InputError or the result; any other error passes."""
    try:
        return None, function(*arguments)
    except InputError as error:
        return str(error), None


def places(value, path=()):
    """Every place in a JSON document."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([0, -1, 1e300, "m"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def fuzzed(board_capture, tmp_path_factory) -> Path:
    return Path(shutil.copytree(board_capture, tmp_path_factory.mktemp("fuzz") / "capture"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(data=st.data())
def test_any_value_anywhere_opens_or_is_an_input_error(fuzzed, board_capture, data):
    head = json.loads((board_capture / "capture.json").read_text())
    rows = [json.loads(line) for line in (board_capture / "views.jsonl").read_text().splitlines()]
    document = {"head": copy.deepcopy(head), "rows": rows}
    path = data.draw(st.sampled_from([path for path in places(document) if len(path) >= 2]))
    target = document
    for key in path[:-1]:
        target = target[key]
    if data.draw(st.booleans()) and isinstance(target, dict):
        del target[path[-1]]
    else:
        target[path[-1]] = data.draw(JSON)
    (fuzzed / "capture.json").write_text(json.dumps(document["head"]))
    (fuzzed / "views.jsonl").write_text("".join(json.dumps(row) + "\n" for row in document["rows"]))
    error, capture = outcome(Capture.open, fuzzed)
    assert error is None or "expected" in error
    for view in capture.views if capture else ():
        camera = capture.camera(view)
        assert all(part.isfinite().all() for part in (camera.intrinsics, camera.rotation, camera.translation))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(data=st.data())
def test_any_damaged_file_is_a_problem_or_harmless(fuzzed, board_capture, data):
    shutil.rmtree(fuzzed)
    shutil.copytree(board_capture, fuzzed)
    kind = data.draw(st.sampled_from(["images", "masks", "labels", "truth"]))
    file = data.draw(st.sampled_from(sorted(path for path in (fuzzed / kind).rglob("*") if path.is_file())))
    content = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content)
    report = check_capture(Capture.open(fuzzed), instants=1)
    assert len(report.problems) <= 1
    assert all(str(file) in problem and "expected" in problem for problem in report.problems)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_encodings_and_line_ends_do_not_matter(folder, encoding, newline):
    """Also where a text holds what Python takes for the end of a line and JSON does not."""
    plain = Capture.open(folder)

    def spoken(rows):
        rows[4]["domain"] = "a\u2028b\x85c\x0bd"

    edit(folder, change_rows=spoken)
    for file in ("capture.json", "views.jsonl"):
        content = (folder / file).read_text(encoding="utf-8")
        if file == "views.jsonl":
            content = content.replace("\\u2028", "\u2028").replace("\\x85", "\x85").replace("\\u0085", "\x85")
            assert "\u2028" in content
        (folder / file).write_bytes(content.replace("\n", newline).encode(encoding))
    capture = Capture.open(folder)
    assert capture.views[4].domain == "a\u2028b\x85c\x0bd"
    assert len(capture.views) == len(plain.views)
    for name, camera in capture.cameras.items():
        points = torch.tensor([[0.1, -0.2, 0.3], [0.0, 0.4, -0.2]], dtype=torch.float64)
        assert camera.project(points)[0].equal(plain.cameras[name].project(points)[0])


def test_names_of_all_scripts(folder):
    def renamed(text):
        return json.loads(json.dumps(text).replace("cam_1", "K\u00fcche"))

    edit(folder, lambda head: renamed(head), lambda rows: [row | {"camera": renamed(row["camera"])} for row in rows])
    assert list(Capture.open(folder).cameras) == ["cam_0", "K\u00fcche", "cam_2"]
