"""The examples of the documentation of captures work as printed."""

import json
import re
import shutil
from pathlib import Path

import pytest

from dkp.captures import Capture
from dkp.captures.manifest import read_row
from dkp.importers.cameras.registry import read_cameras

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.fixture
def kitchen(board_capture, tmp_path, monkeypatch) -> Path:
    """A capture where the examples look for it."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(board_capture, tmp_path / "captures" / "kitchen"))


def test_the_head_opens(kitchen):
    head = json.loads(blocks("captures.md", "json")[0])
    left = head["cameras"][0]
    head["cameras"] = [left, {**left, "name": "right"}]
    rows = [
        {"frame": frame, "camera": name, "image": "images/cam_0/f_000.png", "size": left["size"]}
        for frame in ("take_000000", "take_000001", "take_000002")
        for name in ("left", "right")
    ]
    (kitchen / "capture.json").write_text(json.dumps(head))
    (kitchen / "views.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    capture = Capture.open(kitchen)
    assert [len(capture.instants(split)) for split in ("train", "test")] == [2, 1]


def test_the_view_is_a_view():
    view = read_row(json.loads(blocks("captures.md", "json")[1]), "example")
    assert (view.time, view.undistorted, view.joints["nose"][2]) == (0, True, 0.91)


def test_the_python_example_runs(kitchen):
    (example,) = blocks("captures.md", "python")
    exec(example, {})
    copy, capture = Capture.open("captures/new"), Capture.open(kitchen)
    assert len(copy.views) == len(capture.views)
    assert copy.splits == capture.splits


def test_the_camera_table_is_read(tmp_path):
    (table,) = blocks("own-rig.md", "toml")
    second = table.replace("cam_1", "cam_2").replace('"left"', '"right"')
    (tmp_path / "calibration.toml").write_text(table + second)
    assert list(read_cameras(tmp_path / "calibration.toml", "toml", "m")) == ["left", "right"]
