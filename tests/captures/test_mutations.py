"""A capture whose files are changed is the same, is refused in a sentence or is warned of; never other in silence."""

import copy
import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from dkp.captures import Capture
from dkp.captures.check import check_capture
from dkp.errors import InputError

from ..scene import Scene

POINTS = torch.tensor([[0.1, -0.2, 0.3], [0.0, 0.4, -0.2], [-0.25, 0.05, 0.1]], dtype=torch.float64)
CROP = [[1.5, 0.0, -4.0], [0.0, 1.4, 3.0]]
CHOICES = {  # what the format gives a meaning of its own: no fault that anybody could see
    "delete": {"crop", "override", "undistorted", "distortion"},
    "null": {"crop", "override"},
    "true": {"undistorted"},
    "empty": {"override"},
}


@pytest.fixture(scope="module")
def right(tmp_path_factory) -> Path:
    """A capture in whose geometry every key of the format takes part."""
    folder = tmp_path_factory.mktemp("right") / "capture"
    Scene(size=(24, 20), distortion=(-0.2, 0.1, 0.002, -0.001, 0.03)).write(folder, frames=2)
    document = read(folder)
    camera = document["head"]["cameras"][2]
    document["rows"][1] |= {"crop": CROP, "undistorted": True, "joints": {"nose": [3.5, 4.25, 0.9]}}
    document["rows"][4] |= {"crop": CROP, "joints": {"nose": [2.5, 1.25, 0.9], "neck": [4.5, 9.25, 0.5]}}
    moved = [value + 0.05 for value in camera["translation"]]
    document["rows"][5]["override"] = {key: camera[key] for key in ("intrinsics", "distortion", "rotation")}
    document["rows"][5]["override"]["translation"] = moved
    write(folder, document)
    return folder


@pytest.fixture(scope="module")
def changed(right, tmp_path_factory) -> Path:
    return Path(shutil.copytree(right, tmp_path_factory.mktemp("changed") / "capture"))


def read(folder):
    rows = [json.loads(line) for line in (folder / "views.jsonl").read_text().splitlines()]
    return {"head": json.loads((folder / "capture.json").read_text()), "rows": rows}


def write(folder, document):
    (folder / "capture.json").write_text(json.dumps(document["head"]))
    (folder / "views.jsonl").write_text("".join(json.dumps(row) + "\n" for row in document["rows"]))


def paths(value, path=()):
    """The keys and indices that lead to every value of a document."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from paths(value[key], (*path, key))


def projected(capture):
    """Where the cameras see the points: camera -> whole frame, and (frame, camera) -> image; and the joints."""
    found = {name: camera.project(POINTS)[0].numpy() for name, camera in capture.cameras.items()}
    for view in capture.views:
        found[view.frame, view.camera] = capture.camera(view).project(POINTS)[0].numpy()
        for joint, values in (view.joints or {}).items():
            found[view.frame, view.camera, joint] = np.array(values)
    return found


def same_or_refused(folder, right):
    """Assert that opening gives the geometry of the right capture, or one sentence with the file."""
    try:
        capture = Capture.open(folder)
    except InputError as error:
        said = str(error)
        assert str(folder) in said
        assert "expected" in said
        assert not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in said)
        return
    truth = projected(Capture.open(right))
    for key, pixels in projected(capture).items():
        assert np.array_equal(pixels, truth[key]), key


RETYPED = {
    "null": None, "true": True, "text": "1.0", "nan": float("nan"), "infinite": float("-inf"), "digits": 10**400,
    "large": 1e300, "number": -1.5, "empty": {}, "list": [], "half": "\ud800", "line": "a\u2028b",
}  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_a_value_of_another_kind(right, changed, data):
    document = read(right)
    before = copy.deepcopy(document)
    geometry = [path for path in paths(document) if len(path) > 1]
    path = data.draw(st.sampled_from(geometry))
    edit = data.draw(st.sampled_from(["delete", "wrap", "longer", "shorter", "transpose", *RETYPED]))
    target = document
    for key in path[:-1]:
        target = target[key]
    key = path[-1]
    value = target[key]
    if key in CHOICES.get(edit, ()) or "joints" in path[:-1] or (edit == "number" and isinstance(value, float)):
        return
    if edit == "delete":
        del target[key]
        if path[-2:-1] == ("override",):
            return
    elif edit == "wrap":
        target[key] = [value]
    elif edit in ("longer", "shorter"):
        if not isinstance(value, list) or path[1:] in (("splits", "train"), ("splits", "test"), ("cameras",)):
            return
        target[key] = [*value, *value[-1:]] if edit == "longer" else value[:-1]
    elif edit == "transpose":
        if key not in ("intrinsics", "crop", "size") or value is None:
            return
        target[key] = value[::-1] if key == "size" else [list(column) for column in zip(*value, strict=True)]
    else:
        target[key] = RETYPED[edit]
    assert document != before or edit in ("null", "empty", "transpose")
    write(changed, document)
    same_or_refused(changed, right)


SPELLINGS = {
    "drop": lambda key, at: key[:at] + key[at + 1 :],
    "double": lambda key, at: key[: at + 1] + key[at:],
    "upper": lambda key, at: key[:at] + key[at:].capitalize(),
    "space": lambda key, at: key + " ",
    "line": lambda key, at: key + "\n",
    "half": lambda key, at: key + "\ud800",
}


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_a_key_of_another_name_or_twice(right, changed, data):
    document = read(right)
    objects = [document["head"], *document["head"]["cameras"], *document["rows"], document["rows"][5]["override"]]
    place = data.draw(st.integers(0, len(objects) - 1))
    key = data.draw(st.sampled_from(sorted(objects[place])))
    edit = data.draw(st.sampled_from(["twice", *SPELLINGS]))
    if edit == "twice":
        other = {"size": [48, 40], "undistorted": True}.get(key)
        marked = {**objects[place], "second": other}
    else:
        name = SPELLINGS[edit](key, data.draw(st.integers(0, len(key) - 1)))
        marked = {name if k == key else k: value for k, value in objects[place].items()}
    objects[place].clear()
    objects[place].update(marked)
    write(changed, document)
    for file in ("capture.json", "views.jsonl"):
        content = (changed / file).read_text()
        (changed / file).write_text(content.replace('"second":', f'"{key}":'))
    same_or_refused(changed, right)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_a_damaged_text(right, changed, data):
    write(changed, read(right))
    path = changed / data.draw(st.sampled_from(["capture.json", "views.jsonl"]))
    content = path.read_bytes()
    edit = data.draw(
        st.sampled_from(["cut", "mark", "insert", "utf-8-sig", "utf-16", "latin-1", "\r", "\r\n", "twice"])
    )
    if edit == "cut":
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    elif edit == "mark":
        at = data.draw(st.sampled_from([i for i, byte in enumerate(content) if byte in b'{}[],:"']))
        content = content[:at] + content[at + 1 :]
    elif edit == "insert":
        at = data.draw(st.sampled_from([i for i, byte in enumerate(content) if byte in b" ,"]))
        what = data.draw(
            st.sampled_from([b"\xef\xbb\xbf", b"\0", b"\xff", "\u2028".encode(), b"\t", b"\n", b"//", b","])
        )
        content = content[:at] + what + content[at:]
    elif edit == "twice":
        content = content * 2
    elif edit in ("\r", "\r\n"):
        content = content.replace(b"\n", edit.encode())
    else:
        content = content.decode().replace("toy", "t\u00f6y").encode(edit)
    path.write_bytes(content)
    same_or_refused(changed, right)


def scaled(value, factor):
    return (factor * np.array(value)).tolist()


def zoomed(matrix, factor):
    return [*scaled(matrix[:2], factor), matrix[2]]


VALUES = {
    "transposed": ("rotation", lambda value: np.transpose(value).tolist()),
    "rows exchanged": ("rotation", lambda value: [value[1], value[2], value[0]]),
    "farther": ("translation", lambda value: scaled(value, 1.5)),
    "a thousandth": ("translation", lambda value: scaled(value, 1e-3)),
    "a thousandfold": ("translation", lambda value: scaled(value, 1e3)),
    "enormous": ("translation", lambda value: scaled(value, 1e17)),
    "of the other sign": ("translation", lambda value: scaled(value, -1)),
    "backwards": ("translation", lambda value: value[::-1]),
    "half the focal length": ("intrinsics", lambda value: zoomed(value, 0.5)),
    "enormous focal length": ("intrinsics", lambda value: zoomed(value, 1e15)),
    "fifty": ("distortion", lambda value: [50.0, *value[1:]]),
}


@pytest.mark.parametrize("fault", VALUES)
def test_values_that_may_be_but_do_not_fit_are_warned_of(board_capture, tmp_path, fault):
    """Opening cannot see them; labels can."""
    folder = Path(shutil.copytree(board_capture, tmp_path / "capture"))
    key, change = VALUES[fault]
    document = read(folder)
    document["head"]["cameras"][0][key] = change(document["head"]["cameras"][0][key])
    write(folder, document)
    report = check_capture(Capture.open(folder), instants=2)
    assert report.problems == []
    assert any("cam_0" in warning for warning in report.warnings)
