"""Masks, lenses and cameras that cannot be are named; a strict check ends with status 1."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from dkp.captures import Capture
from dkp.captures.check import check_capture
from dkp.captures.check.lens_folds import fold_radius, fold_sentences
from dkp.geometry import Camera
from dkp.pipeline.check import CaptureDoubted, check

ROWS, COLUMNS = np.mgrid[:480, :640]


def drawn(walk):
    """Masks of the joints, each a disc."""
    for name, instants in walk.pixels.items():
        walk.masks[name] = []
        for joints in instants:
            mask = np.zeros((480, 640), bool)
            for x, y in joints.values():
                mask |= (COLUMNS - x) ** 2 + (ROWS - y) ** 2 < 18**2
            walk.masks[name].append(mask)


def test_inverted_and_full_masks_are_named(make_walk, tmp_path):
    walk = make_walk(frames=4)
    drawn(walk)
    assert check_capture(walk.write(tmp_path / "right")).warnings == []
    walk.masks["cam2"] = [~mask for mask in walk.masks["cam2"]]
    (said,) = check_capture(walk.write(tmp_path / "inverted")).warnings
    assert "the masks of cam2 hold 9" in said
    assert "they look inverted" in said
    walk.masks["cam2"] = [mask | True for mask in walk.masks["cam2"]]
    (said,) = check_capture(walk.write(tmp_path / "full")).warnings
    assert "the masks of cam2 hold 100 %" in said
    assert "the whole frame is the subject" in said


def test_masks_that_do_not_hold_the_joints_are_named(make_walk, tmp_path):
    walk = make_walk(frames=4)
    drawn(walk)
    walk.masks["cam3"] = [np.roll(mask, 300, axis=1) for mask in walk.masks["cam3"]]
    (said,) = check_capture(walk.write(tmp_path / "c")).warnings
    assert "the masks of cam3 hold" in said
    assert "% of the joints" in said


def test_masks_that_are_boxes_are_named(make_walk, tmp_path):
    walk = make_walk(frames=4)
    drawn(walk)
    for name in ("cam1", "cam3"):
        for mask in walk.masks[name]:
            rows, columns = (slice(found.min(), found.max() + 1) for found in np.nonzero(mask))
            mask[rows, columns] = True
    (said,) = check_capture(walk.write(tmp_path / "c")).warnings
    assert said.startswith("the masks of cam1, cam3 fill 100 % of the boxes around them: they look like boxes")


@pytest.mark.parametrize("joints", [True, False])
def test_masks_of_a_part_of_the_subject_show_in_their_outlines(make_walk, tmp_path, joints):
    walk = make_walk(frames=4)
    drawn(walk)
    walk.joints = joints
    walk.masks["cam2"] = [mask & (np.median(np.nonzero(mask)[0]) < ROWS) for mask in walk.masks["cam2"]]
    (said,) = check_capture(walk.write(tmp_path / "c")).warnings
    assert re.match(r"the outlines of the masks of cam2 lie \d+ % of their size off the epipolar lines that ", said), (
        said
    )


def test_exchanged_cameras_show_in_silhouettes_alone(make_walk, tmp_path):
    walk = make_walk(frames=8)
    drawn(walk)
    walk.joints = False
    assert check_capture(walk.write(tmp_path / "right")).warnings == []
    names = list(walk.cameras)
    walk.cameras = dict(zip(names, [walk.cameras[name] for name in ("cam2", "cam1", "cam3")], strict=True))
    warnings = check_capture(walk.write(tmp_path / "wrong")).warnings
    assert "cam1 and cam2 look exchanged" in warnings[0]
    assert "outlines of the masks" in warnings[0]


def test_copies_are_named(make_walk, tmp_path):
    walk = make_walk(frames=4)
    rng = np.random.default_rng(0)
    walk.images = {name: rng.integers(0, 255, (480, 640, 3), np.uint8) for name in walk.cameras}
    assert check_capture(walk.write(tmp_path / "right")).warnings == []
    walk.images["cam3"] = walk.images["cam1"]
    assert check_capture(walk.write(tmp_path / "images")).warnings == ["cam1 and cam3 show the same images"]
    walk.cameras["cam3"] = walk.cameras["cam1"]
    warnings = check_capture(walk.write(tmp_path / "poses")).warnings
    assert "cam1 and cam3 have the same pose: one of them looks like a copy of the other" in warnings
    walk = make_walk(frames=4)
    walk.pixels["cam3"] = walk.pixels["cam1"]
    warnings = check_capture(walk.write(tmp_path / "joints")).warnings
    assert warnings[0] == "cam1 and cam3 have the same joints: one of them looks like a copy of the other"
    walk = make_walk(frames=4)
    walk.pixels["cam2"] = walk.pixels["cam2"][:1] * 4
    assert check_capture(walk.write(tmp_path / "still")).warnings[0] == "cam2 has the same joints in all of 4 instants"


def test_cameras_with_poses_of_their_views_are_no_copies(make_walk, tmp_path):
    walk = make_walk(frames=4)
    folder = walk.write(tmp_path / "c").path
    sheet, views = folder / "capture.json", folder / "views.jsonl"
    rows = [json.loads(line) for line in views.read_text().splitlines()]
    for row in rows:
        camera = walk.cameras[row["camera"]]
        row["override"] = {"rotation": camera.rotation.tolist(), "translation": camera.translation.tolist()}
    views.write_text("".join(json.dumps(row) + "\n" for row in rows))
    head = json.loads(sheet.read_text())
    for camera in head["cameras"]:
        camera |= {"rotation": np.eye(3).tolist(), "translation": [0, 0, 0]}
    sheet.write_text(json.dumps(head))
    assert check_capture(Capture.open(folder)).warnings == []


@pytest.mark.parametrize(
    ("lens", "folds"),
    [((-0.05, 0.01, 0.0, 0.0, 0.0), False), ((0.0,) * 5, False), ((0.3, 0.1, 0.0, 0.0, 0.0), False),
     ((-0.9, 0.0, 0.0, 0.0, 0.0), True)],
)  # fmt: skip
def test_a_lens_that_folds_is_named(make_walk, tmp_path, lens, folds):
    walk = make_walk(frames=4)
    camera = walk.cameras["cam2"]
    changed = Camera.create(
        camera.intrinsics, camera.rotation, camera.translation, torch.tensor(lens).double(), camera.image_size
    )
    fold, frame = fold_radius(changed)
    assert frame == pytest.approx(np.hypot(323, 245), abs=1.0)
    assert np.isfinite(fold) == folds
    if folds:  # r (1 + k r^2) is largest where 1 + 3 k r^2 is zero
        radius = 1 / np.sqrt(-3 * lens[0])
        focal = float(camera.intrinsics[0, 0])
        assert fold == pytest.approx(focal * radius * 2 / 3, rel=1e-2)
    walk.cameras["cam2"] = changed
    capture = walk.write(tmp_path / "c")
    said = " ".join(check_capture(capture).warnings)
    assert ("the lens of cam2 folds" in said) == folds
    inside = ((0.0, 1.0, -190.0), (-1.0, 0.0, 370.0))  # turned to its side
    assert fold_sentences(capture, [replace(view, crop=inside, size=(100, 100)) for view in capture.views]) == []


def test_a_strict_check_fails_on_a_warning(make_walk, tmp_path, capsys):
    walk = make_walk(frames=4)
    walk.write(tmp_path / "right")
    assert check(tmp_path / "right", strict=True).warnings == []
    drawn(walk)
    walk.masks["cam2"] = [~mask for mask in walk.masks["cam2"]]
    walk.write(tmp_path / "wrong")
    assert len(check(tmp_path / "wrong").warnings) == 1
    with pytest.raises(CaptureDoubted, match=r"wrong has 1 warning.s., the first: the masks of cam2 hold"):
        check(tmp_path / "wrong", strict=True)
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith("warning: the masks of cam2 hold")
    command = [sys.executable, "-m", "dkp", "check", str(tmp_path / "wrong")]
    assert subprocess.run(command, capture_output=True).returncode == 0
    done = subprocess.run([*command, "--strict"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("dkp: error: ")
    assert "1 warning" in done.stderr
