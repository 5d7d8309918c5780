"""The same person in every view, by the rig's geometry."""

import numpy as np
import pytest
import torch

from dkp.captures.joints import LAYOUTS
from dkp.importers.people import same_person
from dkp.importers.subject import Lens
from dkp.surface import Surface

NAMES = LAYOUTS["coco_17"]


@pytest.fixture(scope="module")
def lenses(make_scene):
    scene = make_scene(size=(320, 240), distortion=(-0.2, 0.06, 0.002, -0.001, 0.0))
    cameras = {}
    for name, camera in scene.cameras().items():  # 3 m further back: a person is larger than the scene's board
        back = camera.translation + torch.tensor([0.0, 0.0, 3.0])
        cameras[name] = Lens(
            type(camera).create(camera.intrinsics, camera.rotation, back, camera.distortion, camera.image_size)
        )
    return cameras


def seen(lens, x, time, noise=0.0, seed=0):
    """The joints of a person who stands at x [m], as a camera sees them."""
    joints = Surface.load("human").joints
    points = np.array([joints[name] for name in NAMES])[:, [0, 2, 1]] * [1, -1, 1] + [x, 0.05 * time, 0.0]
    pixels = lens.camera.project(torch.from_numpy(points))[0].numpy()
    pixels = pixels + np.random.default_rng(seed).normal(0, noise, pixels.shape)
    return {name: (*pixel, 0.9) for name, pixel in zip(NAMES, pixels.tolist(), strict=True)}


def chosen(people, lenses, frames):
    return same_person(people, lenses, range(frames), 0.2)


def test_one_person_is_followed_though_views_order_people_differently(lenses, caplog):
    """Without the geometry, the nearer person would be taken in each view: not the same one."""
    people = {
        name: {
            time: sorted(
                [seen(lens, -0.5, time, 0.5, time), seen(lens, 0.6, time, 0.5, time)],
                key=lambda p: -p["nose"][0] * sign,
            )
            for time in range(5)
        }
        for sign, (name, lens) in zip((1, -1, 1), lenses.items(), strict=True)
    }
    found = chosen(people, lenses, 5)
    stands = {np.sign(found[name][time]["nose"][0] - middle_of(lens, time)) for name, lens in lenses.items()
              for time in range(5)}  # fmt: skip
    assert len(stands) == 1
    assert "several people are seen in 5 of 5 frames (the first: 0)" in caplog.text


def middle_of(lens, time):
    return np.mean([seen(lens, x, time)["nose"][0] for x in (-0.5, 0.6)])


def test_a_detection_of_somebody_else_is_outvoted_and_counted(lenses, caplog):
    people = {name: {time: [seen(lens, 0.0, time)] for time in range(6)} for name, lens in lenses.items()}
    people["cam_1"][4] = [seen(lenses["cam_1"], 1.5, 4)]
    found = chosen(people, lenses, 6)
    assert [len(frames) for frames in found.values()] == [6, 5, 6]
    assert 4 not in found["cam_1"]
    assert "cam_1: its detections fit no person of the other cameras in 1 of 6 frames (the first: 4)" in caplog.text


def test_a_camera_that_never_agrees_keeps_what_it_sees(lenses, caplog):
    """Its calibration may be wrong, not its detections: the check has to see them."""
    people = {name: {time: [seen(lens, 0.0, time)] for time in range(6)} for name, lens in lenses.items()}
    for time, (person,) in people["cam_1"].items():
        people["cam_1"][time] = [{joint: (x, y + 40, c) for joint, (x, y, c) in person.items()}]
    found = chosen(people, lenses, 6)
    assert [len(frames) for frames in found.values()] == [6, 6, 6]
    assert "all are kept: `dkp check` looks for what is wrong" in caplog.text


def test_two_cameras_cannot_outvote_each_other(lenses):
    two = dict(list(lenses.items())[:2])
    people = {name: {0: [seen(lens, x, 0)]} for x, (name, lens) in zip((0.0, 1.5), two.items(), strict=True)}
    assert [len(frames) for frames in chosen(people, two, 1).values()] == [1, 1]


def test_a_shadow_is_no_person(lenses):
    """Somebody of two joints only, and nobody at all."""
    people = {name: {0: [seen(lens, 0.0, 0)], 1: []} for name, lens in lenses.items()}
    for frames in people.values():
        frames[0].insert(0, {"nose": (5.0, 5.0, 1.0), "neck": (9.0, 9.0, 1.0)})
    found = chosen(people, lenses, 3)
    for name, lens in lenses.items():
        assert list(found[name]) == [0]
        assert found[name][0]["nose"] == seen(lens, 0.0, 0)["nose"]
