"""Files of detections that are changed give the same joints, or fewer, or one sentence: never others in silence."""

import json
import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from dkp.captures.joints import LAYOUTS
from dkp.errors import InputError
from dkp.importers.keypoints.detections import inside_frame
from dkp.importers.keypoints.files import read_detections
from dkp.importers.keypoints.names import joint_names, named_joints
from dkp.surface import Surface

SIZE = (640, 480)
FILES = ("cam1_000000000000_keypoints.json", "cam1_000000000001_keypoints.json")
KEY = "pose_keypoints_2d"


JOINTS = Surface.load("human").joints
BODY = [JOINTS.get(name, (0.0, 0.0, 0.0)) for name in LAYOUTS["body_25"]]


def body(x):
    return [v for point in BODY for v in (x + 150 * point[0], 400 - 150 * point[1], 0.9)]


def right():
    """Two frames of two people."""
    return [
        {
            "version": 1.3,
            "people": [{"person_id": [-1], KEY: body(x + 5 * frame), "face_keypoints_2d": []} for x in (200.0, 420.0)],
        }
        for frame in range(2)
    ]


def write(folder, documents):
    for file, document in zip(FILES, documents, strict=True):
        (folder / file).write_text(json.dumps(document))


def joints(folder):
    """Frame -> people -> named joints."""
    found = inside_frame(read_detections(folder), SIZE)
    names = joint_names([found])
    return {frame: [named_joints(person, names) for person in people] for frame, people in found.frames.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("detections")


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    folder = tmp_path_factory.mktemp("right")
    write(folder, right())
    return joints(folder)


def fewer_or_refused(folder, truth):
    """Assert that every joint that is found is one of the right person's, or one sentence with the file."""
    try:
        found = joints(folder)
    except InputError as error:
        said = str(error)
        assert str(folder) in said
        assert "expected" in said
        assert not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in said)
        return
    for frame, people in found.items():
        for person in people:
            assert any(person.items() <= its.items() for its in truth[frame])


BAD = [
    None,
    float("nan"),
    float("inf"),
    float("-inf"),
    True,
    False,
    "1.0",
    10**400,
    1e300,
    -1e300,
    1e7,
    [],
    {},
    "\ud800",
]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_a_value_of_another_kind(folder, truth, data):
    documents = right()
    frame, who = data.draw(st.integers(0, 1)), data.draw(st.integers(0, 1))
    people = documents[frame]["people"]
    values = people[who][KEY]
    edit = data.draw(
        st.sampled_from(
            ["coordinate", "all", "list", "person", "people", "delete", "longer", "shorter", "wrap", "share"]
        )
    )
    bad = data.draw(st.sampled_from(BAD))
    if edit == "coordinate":
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(values) - 1))
            if at % 3 == 2 and isinstance(bad, float) and bad > 0:
                return  # a confidence beyond 1: no position
            values[at] = bad
    elif edit == "all":
        people[who][KEY] = [bad] * len(values)
    elif edit == "list":
        people[who][KEY] = bad
    elif edit == "person":
        people[who] = bad
    elif edit == "people":
        documents[frame]["people"] = bad
    elif edit == "delete":
        which = data.draw(st.integers(0, 3))
        holder, key = [(documents[frame], "people"), (people[who], KEY), (values, 0), (people, 0)][which]
        del holder[key]
    elif edit == "longer":
        people[who][KEY] = values + values[: data.draw(st.integers(1, 6))]
    elif edit == "shorter":
        people[who][KEY] = values[: -data.draw(st.integers(1, 6))]
    elif edit == "wrap":
        people[who][KEY] = [values]
    else:
        for document in documents:
            for person in document["people"]:
                person[KEY] = [v if i % 3 == 2 else v / 640 for i, v in enumerate(person[KEY])]
    write(folder, documents)
    fewer_or_refused(folder, truth)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_a_damaged_text(folder, truth, data):
    write(folder, right())
    path = folder / data.draw(st.sampled_from(FILES))
    content = path.read_bytes()
    edit = data.draw(
        st.sampled_from(["cut", "mark", "insert", "letter", "twice", "second", "utf-8-sig", "utf-16", "cp037"])
    )
    if edit == "cut":
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    elif edit == "mark":
        at = data.draw(st.sampled_from([i for i, byte in enumerate(content) if byte in b'{}[],:"']))
        content = content[:at] + content[at + 1 :]
    elif edit == "insert":
        at = data.draw(st.sampled_from([i for i, byte in enumerate(content) if byte in b" ,"]))
        what = data.draw(
            st.sampled_from([b"\xef\xbb\xbf", b"\0", b"\xff", "\u2028".encode(), b"\t", b"\r\n", b",", b"/"])
        )
        content = content[:at] + what + content[at:]
    elif edit == "letter":
        at = data.draw(st.sampled_from([i for i, byte in enumerate(content) if chr(byte).isalpha()]))
        content = content[:at] + content[at : at + 1].swapcase() + content[at + 1 :]
    elif edit == "twice":
        content = content * 2
    elif edit == "second":
        other = json.dumps(np.arange(75.0).tolist()).encode()
        content = content.replace(b'"face_keypoints_2d": []', b'"%s": %s' % (KEY.encode(), other), 1)
    else:
        content = content.decode().encode(edit)
    path.write_bytes(content)
    fewer_or_refused(folder, truth)
