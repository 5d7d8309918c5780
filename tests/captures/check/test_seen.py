"""Captures without joints and masks: exchanged, mirrored and late cameras show in what a detector sees."""

import json
import re
from functools import cache

import cv2
import numpy as np
import pytest
import torch

from dkp.captures import Capture
from dkp.captures.check import check_capture
from dkp.captures.check.hypotheses import other_sides
from dkp.captures.check.judge import judge, late
from dkp.captures.check.seen import followed_points, seen_points
from dkp.surface import Surface

from .conftest import NAMES, SIZE, rig, walking

CAMERAS, CELLS, SLOWER = ("cam1", "cam2", "cam3", "cam4"), 64, 8
SURFACE = Surface.load("human")
JOINTS = [name for name in NAMES if name in SURFACE.joints]
REST = np.array([SURFACE.joints[name] for name in JOINTS])


@cache
def shown(camera, time):
    """Pixels of the joints of a person who walks slowly, beside what the cameras look at."""
    points = walking(time / SLOWER)
    places = torch.from_numpy(np.array([points[name] + np.array([0.5, -0.4, 0.4]) for name in JOINTS]))
    return list(rig(4).values())[camera].project(places)[0].numpy()


def write(walk, folder, shows=lambda camera, time: (camera, time), mirrored=()):
    """Write a walk without joints whose images show a patch at each joint, and in a corner which camera and time."""
    walk.joints = False
    walk.write(folder)
    rows = [json.loads(line) for line in (folder / "views.jsonl").read_text().splitlines()]
    patches = np.random.default_rng(0).integers(0, 255, (len(JOINTS), 41, 41, 3)).astype(np.uint8)
    patches = [cv2.GaussianBlur(patch, (5, 5), 0) for patch in patches]
    for row in rows:
        camera, time = shows(CAMERAS.index(row["camera"]), int(row["frame"][2:]))
        image = np.zeros((*SIZE[::-1], 3), np.uint8)
        for patch, (x, y) in zip(patches, shown(camera, time).round().astype(int), strict=True):
            here = image[y - 20 : y + 21, x - 20 : x + 21]
            here[:] = patch[: here.shape[0], : here.shape[1]]
        if row["camera"] in mirrored:
            image = np.ascontiguousarray(image[:, ::-1])
        image[0, 0] = (row["camera"] in mirrored, time, camera)
        row["image"] = f"images/{row['camera']}_{row['frame']}.png"
        cv2.imwrite(str(folder / row["image"]), image)
    (folder / "views.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Capture.open(folder)


@pytest.fixture
def detector():
    """Sees around each joint the joint's coordinate; of a mirrored person that of the other side."""

    def see(squares):
        fields = []
        for image, box in squares:
            see.sides.append(box[2] - box[0])
            camera, time, mirrored = image[0, 0].tolist()
            pixels, rest = shown(camera, time), REST
            if mirrored:
                pixels, rest = [SIZE[0], 0] + [-1, 1] * pixels, REST[other_sides(JOINTS)]
            centres = box[:2] + (np.stack(np.mgrid[:CELLS, :CELLS][::-1], -1) + 0.5) / CELLS * (box[2] - box[0])
            apart = np.linalg.norm(centres[:, :, None] - pixels, axis=-1)
            fields.append(np.where(apart.min(-1, keepdims=True) < 12, rest[apart.argmin(-1)], np.nan))
        return fields

    see.sides = []
    return see


def test_order_and_mirrored_images_show(make_walk, tmp_path, detector):
    wrong = {
        "right": ({}, None),
        "exchanged": ({"shows": lambda c, t: ((0, 2, 1, 3)[c], t)}, "cam2 and cam3 look exchanged: "),
        "mirrored": ({"mirrored": ("cam2",)}, r"the images of cam2 look mirrored \(left and right joints, too\): "),
    }
    for name, (change, sentence) in wrong.items():
        capture = write(make_walk(4, 6), tmp_path / name, **change)
        findings = judge(seen_points(capture, capture.instants(), detector, SURFACE), CAMERAS)
        assert len(findings) == (sentence is not None)
        assert all(re.match(sentence, finding.sentence) for finding in findings), findings
    assert max(detector.sides) == SIZE[0] > 1.3 * min(detector.sides)  # a small person is looked at from near


def test_masks_are_compared_with_what_is_seen(make_walk, tmp_path, detector):
    """The hull of a subject has its outlines, but much that is none of it."""
    walk, rows, columns = make_walk(4, 4), *np.mgrid[: SIZE[1], : SIZE[0]]
    for index, name in enumerate(CAMERAS):
        discs = [[(columns - x) ** 2 + (rows - y) ** 2 < 144 for x, y in shown(index, time)] for time in range(4)]
        walk.masks[name] = [np.any(some, axis=0) for some in discs]
    assert check_capture(write(walk, tmp_path / "right"), detector=detector).warnings == []
    for name in CAMERAS[1:]:
        hulls = [cv2.convexHull(cv2.findNonZero(mask.astype(np.uint8))) for mask in walk.masks[name]]
        walk.masks[name] = [cv2.fillConvexPoly(np.zeros(SIZE[::-1]), hull, 1) > 0 for hull in hulls]
    capture = write(walk, tmp_path / "wrong")
    assert check_capture(capture).warnings == []
    (said,) = check_capture(capture, detector=detector).warnings
    assert re.match(r"the masks of cam2, cam3 and cam4 have \d+ % in common with what a detector sees there ", said), (
        said
    )


@pytest.mark.parametrize("frames", [0, 2])
def test_a_late_camera_shows_in_what_moves(make_walk, tmp_path, detector, frames):
    capture = write(make_walk(3, 30), tmp_path / "c", lambda c, t: (c, max(t - frames, 0) if c == 1 else t))
    looks = followed_points(capture, capture.instants(), detector, SURFACE)
    assert len(looks.times) == 24
    found = late(looks, CAMERAS[:3])
    assert (found is not None) == (frames > 0)
    if found is not None:
        assert found[0].sentence.startswith("the frames of cam2 look about 2 too late: ")
        assert check_capture(capture, detector=detector).findings == [found[0]]


def test_what_moves_is_followed_up_to_a_gap_in_time(make_walk, tmp_path, detector):
    capture = write(make_walk(3, 34), tmp_path / "c")
    instants = capture.instants()
    looks = followed_points(capture, instants[:8] + instants[12:], detector, SURFACE)
    known = np.isfinite(looks.pixels).any(axis=(1, 2, 3))
    assert known.tolist() == [False] * 8 + [True] * 16
