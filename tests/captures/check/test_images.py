"""Images that are not those of their joints: exchanged, late, or of something else; nothing is said of right ones."""

import json
import re
from functools import cache

import cv2
import numpy as np
import pytest
import torch

from dkp.captures import Capture
from dkp.captures.check import check_capture
from dkp.captures.check.evidence import gather
from dkp.captures.check.images import (
    BY_DETECTOR,
    BY_MASKS,
    Images,
    detector_witness,
    image_findings,
    mask_witness,
)
from dkp.surface import Surface

from .conftest import NAMES, SIZE, rig, walking

CAMERAS = ("cam1", "cam2", "cam3", "cam4")
FRAMES = 16


def write(walk, folder, shows=lambda camera, time: (camera, time)):
    """Write a walk whose images say in their colour which camera and time they show; a camera of 9 shows nobody."""
    capture = walk.write(folder)
    rows = [json.loads(line) for line in (folder / "views.jsonl").read_text().splitlines()]
    for row in rows:
        camera, time = shows(CAMERAS.index(row["camera"]), int(row["frame"][2:]))
        row["image"] = f"images/{row['camera']}_{row['frame']}.png"
        cv2.imwrite(str(folder / row["image"]), np.full((*SIZE[::-1], 3), (0, time, camera), np.uint8))
    (folder / "views.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Capture.open(capture.path)


@pytest.fixture
def detector():
    """Sees around each joint of the person whom the image's colour names the joint's coordinate."""
    rest, cameras, cells = Surface.load("human").joints, list(rig(4).values()), 64
    names = [name for name in NAMES if name in rest]

    @cache
    def places(time):
        points = walking(time)
        return torch.from_numpy(np.array([points[name] for name in names]))

    def see(squares):
        fields = []
        for image, box in squares:
            camera, time, _ = image[0, 0].tolist()
            field = np.full((cells, cells, 3), np.nan)
            if camera < len(cameras):
                pixels = cameras[camera].project(places(time))[0].numpy()
                centres = box[:2] + (np.stack(np.mgrid[:cells, :cells][::-1], -1) + 0.5) / cells * (box[2] - box[0])
                apart = np.linalg.norm(centres[:, :, None] - pixels, axis=-1)
                near = apart.min(-1) < 12
                field[near] = np.array([rest[name] for name in names])[apart.argmin(-1)][near]
            fields.append(field)
        return fields

    return see


def found(capture, witness, kind=BY_DETECTOR):
    """What the joints of a capture say of its images."""
    looks = gather(capture, [], capture.instants())
    shares, findings = image_findings(Images(capture, capture.instants(), looks, witness(capture, looks)), kind)
    return shares, [finding.sentence for finding in findings]


def seeing(detector):
    return lambda capture, looks: detector_witness(capture, detector, looks.names)


def test_a_check_looks_at_the_images(make_walk, tmp_path, detector):
    report = check_capture(write(make_walk(4, 4), tmp_path / "right"), detector=detector)
    assert report.warnings == []
    assert min(report.seen.values()) > 0.8
    assert "joints that a detector sees where they are: cam1 " in str(report)
    capture = write(make_walk(4, 4), tmp_path / "wrong", lambda c, t: ((2, 1, 0, 3)[c], t))
    assert check_capture(capture).warnings == []  # the joints agree with each other
    said = check_capture(capture, detector=detector).warnings[0]
    assert "the images of cam1 and cam3 look exchanged" in said


def test_images_are_looked_at_beside_a_camera_whose_calibration_is_off(make_walk, tmp_path, detector):
    capture = write(make_walk(4, FRAMES), tmp_path / "c", lambda c, t: ((1, 0, 2, 3)[c], t))
    sheet = json.loads((capture.path / "capture.json").read_text())
    (camera,) = [one for one in sheet["cameras"] if one["name"] == "cam4"]
    camera["intrinsics"][0][2] += 40
    (capture.path / "capture.json").write_text(json.dumps(sheet))
    first, second = check_capture(Capture.open(capture.path), detector=detector).findings
    assert (first.kind, first.cameras) == ("shifted", ["cam4"])
    assert second.sentence.startswith("the images of cam1 and cam2 look exchanged: ")


def test_images_of_their_joints_are_believed(make_walk, tmp_path, detector):
    shares, said = found(write(make_walk(4, FRAMES, noise=2.0), tmp_path / "c"), seeing(detector))
    assert said == []
    assert min(shares.values()) > 0.8


WRONG = {
    "two": (lambda c, t: ((1, 0, 2, 3)[c], t), "images of cam1 and cam2 look exchanged: .* as given, .* exchanged"),
    "three": (lambda c, t: ((0, 2, 3, 1)[c], t), "images of cam2, cam3 and cam4 look exchanged among each other: "),
    "late": (lambda c, t: (c, t + 3 if c == 2 else t), "the images of cam3 fit the joints of about 3 frames later: "),
    "nobody": (lambda c, t: (9 if c == 1 else c, t), "the images of cam2 do not show their joints: a detector sees "),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_images_of_other_joints_are_named(make_walk, tmp_path, detector, wrong):
    shows, sentence = WRONG[wrong]
    _, (said,) = found(write(make_walk(4, FRAMES, noise=2.0), tmp_path / "c", shows), seeing(detector))
    assert re.search(sentence, said), said


def test_exchanged_masks_show_in_the_joints(make_walk, tmp_path):
    walk = make_walk(4, 6)
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    for name, instants in walk.pixels.items():
        near = [[(columns - x) ** 2 + (rows - y) ** 2 < 15**2 for x, y in joints.values()] for joints in instants]
        walk.masks[name] = [np.any(one, axis=0) for one in near]
    assert found(walk.write(tmp_path / "right"), lambda capture, looks: mask_witness(capture), BY_MASKS)[1] == []
    walk.masks["cam1"], walk.masks["cam3"] = walk.masks["cam3"], walk.masks["cam1"]
    _, (said,) = found(walk.write(tmp_path / "wrong"), lambda capture, looks: mask_witness(capture), BY_MASKS)
    assert said.startswith("the images of cam1 and cam3 look exchanged: the masks hold ")
