"""What is wrong with a capture is named, with figures; nothing is named in a right one."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dkp.captures.check import check_capture
from dkp.captures.check.hypotheses import later_rows
from dkp.captures.joints import LAYOUTS
from dkp.geometry import Camera


def posed(camera, rotation, translation):
    return Camera.create(camera.intrinsics, rotation, translation, camera.distortion, camera.image_size)


def exchanged(walk, order):
    names = list(walk.cameras)
    cameras = [walk.cameras[names[index]] for index in order]
    walk.cameras = dict(zip(names, cameras, strict=True))


def change_pose(walk, names, change):
    for name in names:
        camera = walk.cameras[name]
        walk.cameras[name] = posed(camera, *change(camera.rotation, camera.translation))


def change_pixels(walk, names, change):
    for name in names:
        walk.pixels[name] = [{joint: change(joint, xy) for joint, xy in joints.items()} for joints in walk.pixels[name]]


def delayed(walk, name, frames):
    """Frame n shows what the others show in frame n - frames."""
    walk.pixels[name] = walk.pixels[name][:1] * frames + walk.pixels[name][:-frames]


OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))


def opengl(rotation, translation):
    return rotation.T @ OPENGL, -rotation.T @ translation


ALL = ("cam1", "cam2", "cam3")
FAULTS = {
    "two exchanged": (lambda w: exchanged(w, (1, 0, 2)), "cam1 and cam2 look exchanged: .* px as given, .* px exch"),
    "two others exchanged": (lambda w: exchanged(w, (0, 2, 1)), "cam2 and cam3 look exchanged: "),
    "three exchanged": (lambda w: exchanged(w, (1, 2, 0)), "all cameras look exchanged among each other: "),
    "one transposed": (
        lambda w: change_pose(w, ["cam2"], lambda r, t: (r.T, t)),
        "the rotation of cam2 looks transposed: ",
    ),
    "all transposed": (lambda w: change_pose(w, ALL, lambda r, t: (r.T, t)), "rotation of all cameras looks transpo"),
    "one to world": (
        lambda w: change_pose(w, ["cam3"], lambda r, t: (r.T, -r.T @ t)),
        "the pose of cam3 looks given from camera to world: ",
    ),
    "all to world": (
        lambda w: change_pose(w, ALL, lambda r, t: (r.T, -r.T @ t)),
        "the pose of all cameras looks given from camera to world: ",
    ),
    "all in OpenGL": (lambda w: change_pose(w, ALL, opengl), "from camera to world with the axes of OpenGL"),
    "centres": (
        lambda w: change_pose(w, ALL, lambda r, t: (r, -r.T @ t)),
        "the translation of all cameras looks like the camera's centre in the world: ",
    ),
    "opposite": (lambda w: change_pose(w, ALL, lambda r, t: (r, -t)), "translation of all cameras looks of the oppos"),
    "one mirrored": (
        lambda w: change_pixels(w, ["cam1"], lambda joint, xy: [640 - xy[0], xy[1]]),
        "the images of cam1 look mirrored: ",
    ),
    "one upside down": (
        lambda w: change_pixels(w, ["cam2"], lambda joint, xy: [640 - xy[0], 480 - xy[1]]),
        "the images of cam2 look upside down: ",
    ),
    "late": (lambda w: delayed(w, "cam2", 2), "the frames of cam2 look 2 too late: "),
    "smaller": (
        lambda w: change_pixels(w, ["cam3"], lambda joint, xy: 0.8 * xy),
        r"the images of cam3 look 0\.(79|80|8).* times as large as calibrated: ",
    ),
    "all smaller": (
        lambda w: change_pixels(w, ALL, lambda joint, xy: 0.5 * xy),
        r"the images of all cameras look 0\.(49|50|5).* times as large as calibrated: ",
    ),
    "all cut": (
        lambda w: change_pixels(w, ALL, lambda joint, xy: xy + np.array([60, 0])),
        r"the images of all cameras look shifted by \((59|60|61)\.\d, -?\d\.\d\) px \(cut, or turned by \d\.\d deg.*: ",
    ),
    "rows before columns": (
        lambda w: change_pixels(w, ALL, lambda joint, xy: xy[::-1]),
        "x and y of all cameras look exchanged: ",
    ),
    "all axes of OpenGL": (
        lambda w: change_pose(w, ALL, lambda r, t: (OPENGL @ r, OPENGL @ t)),
        r"the axes of all cameras look like those of OpenGL \(y up, z backwards\): most of it behind",
    ),
    "cut": (
        lambda w: change_pixels(w, ["cam1"], lambda joint, xy: xy - np.array([0, 40])),
        r"the images of cam1 look shifted by \(-?\d\.\d, -(39|40|41)\.\d\) px \(cut, or turned by \d\.\d deg.*: ",
    ),
    "moved": (
        lambda w: change_pose(w, ["cam2"], lambda r, t: (r, t + torch.tensor([0.1, 0.15, -0.3]))),
        "cam2 fits if it is turned by .* degrees and moved by .* m: |images of cam2 look",
    ),
}


def mirrored(walk, name):
    """Images that are mirrored before somebody looks for joints: left is found for right."""
    sides = {"left": "right", "right": "left"}

    def other(joint):
        return "_".join(sides.get(word, word) for word in joint.split("_"))

    walk.pixels[name] = [
        {other(joint): np.array([640 - x, y]) for joint, (x, y) in joints.items()} for joints in walk.pixels[name]
    ]


FAULTS["mirrored before detection"] = (
    lambda w: mirrored(w, "cam3"),
    r"the images of cam3 look mirrored \(left and right joints, too\): ",
)


EXACT = ("two exchanged", "all to world", "late", "cut", "all smaller")


@pytest.mark.parametrize(("fault", "noise"), [*((f, 2.0) for f in FAULTS), *((f, 0.0) for f in EXACT)])
def test_the_fault_is_named_first(make_walk, tmp_path, fault, noise):
    walk = make_walk(noise=noise)
    spoil, sentence = FAULTS[fault]
    spoil(walk)
    report = check_capture(walk.write(tmp_path / "c"))
    assert re.search(sentence, report.warnings[0]), report.warnings
    assert not [said for said in report.warnings if "the order of the cameras may be wrong" in said]
    finding = report.findings[0]
    assert finding.after < 0.6 * finding.before
    assert finding.after < max(0.5, 2.5 * noise)


@pytest.mark.parametrize(("count", "noise"), [(2, 0.0), (2, 2.0), (3, 0.5), (3, 2.0), (3, 5.0), (4, 2.0), (6, 2.0)])
def test_nothing_is_named_in_a_right_capture(make_walk, tmp_path, count, noise):
    report = check_capture(make_walk(count=count, noise=noise).write(tmp_path / "c"))
    assert report.findings == []
    assert report.warnings == []


@pytest.mark.parametrize("frames", [1, 2])
def test_a_delay_less_than_the_noise_is_named(make_walk, tmp_path, frames):
    walk = make_walk(frames=24, noise=5.0)
    delayed(walk, "cam3", frames)
    (said,) = check_capture(walk.write(tmp_path / "c")).warnings
    assert re.match(rf"the frames of cam3 look {frames} too late: .* less what stays over time\)$", said), said


@pytest.mark.parametrize("count", [2, 3])
def test_nobody_is_late_where_nobody_moves(make_walk, tmp_path, count):
    walk = make_walk(count=count, frames=24)
    rng = np.random.default_rng(count)
    for name, instants in walk.pixels.items():
        walk.pixels[name] = [{joint: xy + rng.normal(0, 2, 2) for joint, xy in instants[0].items()} for _ in instants]
    assert check_capture(walk.write(tmp_path / "c")).warnings == []


def test_what_nothing_explains_is_said_of_its_pairs(make_walk, tmp_path):
    walk, rng = make_walk(), np.random.default_rng(0)
    change_pixels(walk, ["cam3"], lambda joint, xy: xy + rng.normal(0, 60, 2))
    report = check_capture(walk.write(tmp_path / "c"))
    assert report.findings == []
    found = [said.split(" have ")[0] for said in report.warnings if "the order of the cameras may be wrong" in said]
    assert found == ["cam1 and cam3", "cam2 and cam3"]


def test_two_faults_are_both_named(make_walk, tmp_path):
    walk = make_walk(count=5, frames=20, noise=1.0)
    exchanged(walk, (1, 0, 2, 3, 4))
    delayed(walk, "cam4", 3)
    said = " ".join(check_capture(walk.write(tmp_path / "c")).warnings)
    assert "cam1 and cam2 look exchanged" in said
    assert "the frames of cam4 look 3 too late" in said


def test_a_wrong_unit_shows_in_the_bones(make_walk, tmp_path):
    walk = make_walk()
    change_pose(walk, walk.cameras, lambda r, t: (r, 10 * t))
    report = check_capture(walk.write(tmp_path / "c"))
    assert "the subject's bones are 10 times as long as those of the surface human" in report.warnings[0]
    walk.unit = "m"
    change_pose(walk, walk.cameras, lambda r, t: (r, 100 * t))
    report = check_capture(walk.write(tmp_path / "d"))
    assert "bones are 1e+03 times as long as those of the surface human: is the unit mm, not m?" in report.warnings[0]
    assert re.search(r"not m\? \(As given it is 1,\d{3} m tall.\)$", report.warnings[0]), report.warnings[0]


def test_a_wrong_layout_shows_in_the_bones(make_walk, tmp_path):
    walk = make_walk(noise=1.0)
    called = dict(zip(LAYOUTS["body_25"], LAYOUTS["body_25b"], strict=True))
    for name, instants in walk.pixels.items():
        walk.pixels[name] = [
            {called[joint]: xy for joint, xy in joints.items() if called[joint] != "_"} for joints in instants
        ]
    report = check_capture(walk.write(tmp_path / "c"))
    assert report.findings == []
    assert "bones have impossible lengths" in report.warnings[0]
    assert "the joints look like layout body_25 read as body_25b" in report.warnings[0]


def test_bones_that_change_show(make_walk, tmp_path):
    """Every other instant is of somebody half as large: of a child, or of nobody."""
    walk = make_walk(frames=12)
    small = make_walk(frames=12)
    change_pose(small, small.cameras, lambda r, t: (r, t))
    for name, camera in walk.cameras.items():
        middle = camera.project(torch.tensor([[0.0, 0.0, 0.9]], dtype=torch.float64))[0][0].numpy()
        for time in range(0, 12, 2):
            walk.pixels[name][time] = {
                joint: middle + 0.4 * (xy - middle) for joint, xy in walk.pixels[name][time].items()
            }
    said = check_capture(walk.write(tmp_path / "c")).warnings
    assert any("the lengths of the subject's bones change by" in warning for warning in said), said


def test_delays_that_leave_few_instants_are_not_tried():
    looks = SimpleNamespace(sequences=np.array(["take"] * 10), times=np.arange(0, 100, 10))
    step, later = later_rows(looks)
    assert step == 10
    assert sorted(later) == [-5, -4, -3, -2, -1, 1, 2, 3, 4, 5]
    assert later[3].tolist() == [3, 4, 5, 6, 7, 8, 9, -1, -1, -1]
