"""`dkp reconstruct` of labels and of a detector, its files, and what it refuses."""

import csv
import json
import re

import numpy as np
import pytest
import torch

from dkp.captures import Capture, CaptureWriter
from dkp.cli import main
from dkp.pipeline.instants import KeptInstants
from dkp.pipeline.reconstruct import quality, rest_of
from dkp.reconstruction import Reconstruction
from dkp.synthetic.synthesis import synthesize


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    """Two instants of a rendered person at 128 px, and the reconstruction of their exact labels."""
    folder = tmp_path_factory.mktemp("reconstruct")
    synthesize(str(folder / "capture"), subjects=1, frames=2, cameras=6, clip=2, seed=3, size=128, workers=1)
    main(["reconstruct", str(folder / "capture"), str(folder / "out"), "--shrinkage", "0.02", "--workers", "1"])
    return Capture.open(folder / "capture"), folder / "out"


def test_labels_give_the_true_surface_within_millimetres(person):
    """A cell is 2 px of 128, 5 cm wide."""
    capture, out = person
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["visible_to_surface_median_mm"] < 5
    assert metrics["registered_to_surface_median_mm"] < 5
    assert metrics["registered_surface_median_mm"] < 12
    assert metrics["visible_surface_recovered"] > 0.95
    assert metrics["mpjpe_mm"] < 20
    result = Reconstruction.open(out)
    found = result.views > 0
    assert (np.isfinite(result.points).all(-1) == found).all()
    assert (result.residual[found] < 2).all()
    assert ((result.confidence > 0) == found).all()
    assert result.confidence.max() <= 1
    distance = np.linalg.norm(result.vertices - np.stack([capture.truth(frame) for frame in result.frame]), axis=-1)
    assert 1000 * np.median(distance) == pytest.approx(metrics["registered_surface_median_mm"], abs=0.1)
    head, foot = capture.surface.vertices[:, 1].argmax(), capture.surface.vertices[:, 1].argmin()
    upright = result.vertices[0, head] - result.vertices[0, foot]
    assert result.up @ upright > 0.9 * np.linalg.norm(upright)


def test_its_quality_is_said_in_figures(person):
    result = Reconstruction.open(person[1])
    (said,) = quality(result)
    share, views, pixels = map(float, re.search(r"^(\d+) % .* from (.*) views .* by (.*) px", said).groups())
    found = result.views > 0
    assert share == pytest.approx(100 * found.mean(), abs=0.5)
    assert 2 <= views == pytest.approx(result.views[found].mean(), abs=0.05)
    assert pixels == pytest.approx(np.median(result.residual[found]), abs=0.005)
    result.views[:] = 0
    assert quality(result) == ["no part of the surface is seen alike by enough views"]


def test_colours_are_those_of_the_images(person):
    capture, out = person
    result = Reconstruction.open(out)
    views = [view for view in capture.views if view.frame == result.frame[0]]
    picked = []
    for view in views:
        pixels, _ = capture.camera(view).project(torch.from_numpy(result.vertices[0]).double())
        image = capture.image(view)
        column, row = np.clip(pixels.numpy(), 0, len(image) - 1).astype(int).T
        picked.append(image[row, column])
    low, high = np.min(picked, 0).astype(int) - 30, np.max(picked, 0).astype(int) + 30
    seen = result.seen[0] > 0
    assert ((result.colour[0] >= low) & (result.colour[0] <= high)).all(-1)[seen].mean() > 0.95
    assert not result.colour[0][~seen].any()


def test_the_files_are_read_by_others(person):
    trimesh = pytest.importorskip("trimesh")
    _, out = person
    result = Reconstruction.open(out)
    (take,) = result.takes()
    mesh = trimesh.load(out / "surface" / f"{result.frame[1]}.ply", process=False)
    np.testing.assert_allclose(mesh.vertices, result.vertices[1], atol=1e-5)
    np.testing.assert_array_equal(mesh.faces, result.faces)
    np.testing.assert_array_equal(mesh.visual.vertex_colors[:, :3], result.colour[1])
    cloud = trimesh.load(out / "visible" / f"{result.frame[0]}.ply")
    np.testing.assert_allclose(cloud.vertices, result.points[0][result.views[0] > 0], atol=1e-5)
    scene = trimesh.load(out / "takes" / f"{take}.glb", process=False)
    (name,) = scene.geometry
    upright = scene.graph.get(scene.graph.nodes_geometry[0])[0]
    np.testing.assert_allclose(upright[:3, :3] @ result.up, [0, 1, 0], atol=1e-6)
    placed = trimesh.transform_points(scene.geometry[name].vertices, upright) @ upright[:3, :3]
    np.testing.assert_allclose(placed, result.vertices[0], atol=1e-5)


def test_the_animation_has_every_instant(person):
    _, out = person
    result = Reconstruction.open(out)
    (take,) = result.takes()
    raw = (out / "takes" / f"{take}.glb").read_bytes()
    length = int.from_bytes(raw[12:16], "little")
    document, binary = json.loads(raw[20 : 20 + length]), raw[28 + length :]

    def values(number):
        accessor = document["accessors"][number]
        view = document["bufferViews"][accessor["bufferView"]]
        return np.frombuffer(binary[view["byteOffset"] :][: view["byteLength"]], "<f4")

    primitive = document["meshes"][0]["primitives"][0]
    moved = values(primitive["targets"][0]["POSITION"]).reshape(-1, 3)
    np.testing.assert_allclose(moved, result.vertices[1] - result.vertices[0], atol=1e-5)
    sampler = document["animations"][0]["samplers"][0]
    np.testing.assert_allclose(values(sampler["input"]), [0, 1 / 15])
    assert values(sampler["output"]).tolist() == [0, 1]
    assert document["extras"]["frames"] == result.frame.tolist()


def test_keypoints_are_tables(person):
    _, out = person
    result = Reconstruction.open(out)
    with (out / "keypoints.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == result.keypoints.shape[0] * result.keypoints.shape[1]
    joint = result.keypoint_names.tolist().index(rows[0]["keypoint"])
    np.testing.assert_allclose([float(rows[0][axis]) for axis in "xyz"], result.keypoints[0, joint], atol=1e-5)
    (take,) = result.takes()
    lines = [line.split("\t") for line in (out / "takes" / f"{take}.trc").read_text().splitlines()]
    assert [line[0] for line in lines[6:]] == sorted({row["time"] for row in rows}) == ["0", "1"]
    assert lines[2][0] == "15"
    assert lines[3][2::3] == result.keypoint_names.tolist()
    np.testing.assert_allclose(np.array(lines[7][2:], float), result.keypoints[1].ravel(), atol=1e-5)


def test_an_interrupted_command_goes_on(person, tmp_path, monkeypatch, capsys):
    capture, out = person
    words = [
        "reconstruct",
        f"{capture.path}#:0:2",
        str(tmp_path / "out"),
        "--shrinkage",
        "0.02",
        "--workers",
        "1",
    ]
    add = KeptInstants.add

    def interrupted(self, found):
        add(self, found[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr(KeptInstants, "add", interrupted)
    with pytest.raises(SystemExit):
        main(words)
    assert not (tmp_path / "out").exists()
    added = []
    monkeypatch.setattr(KeptInstants, "add", lambda self, found: added.extend(found) or add(self, found))
    with pytest.raises(SystemExit):
        main([*words, "--threshold", "0.1"])
    assert "was begun with triangulation" in capsys.readouterr().err
    main([*words, "--fps", "100"])
    whole, result = Reconstruction.open(out), Reconstruction.open(tmp_path / "out")
    assert [one["frame"] for one in added] == whole.frame[1:].tolist()
    np.testing.assert_array_equal(result.frame, whole.frame)
    np.testing.assert_allclose(result.vertices, whole.vertices, atol=1e-4)
    assert result.meta["fps"] == 100
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize(
    ("split", "rest"), [("", ":3:10:1"), ("test", "test:3:4:1"), (":1:9:2", ":7:9:2"), ("test:-3:", "test:4:4:1")]
)
def test_the_rest_follows_what_is_done(split, rest):
    capture = type("Capture", (), {"instants": lambda _, name: range(4 if name == "test" else 10)})()
    assert rest_of(capture, split, 0) == split
    assert rest_of(capture, split, 3) == rest


def test_detected_keypoints_pull_the_surface(person, tmp_path):
    """With few nodes and the joints of the renderings, wrists come nearer to where they are."""
    capture, _ = person
    errors = []
    for number, further in enumerate(([], ["--keypoints", "[left_wrist,right_wrist]"])):
        out, few = tmp_path / str(number), ["--registration.nodes", "60", "--registration.keypoint", "5"]
        main(["reconstruct", str(capture.path), str(out), "--workers", "1", *few, *further])
        result = Reconstruction.open(out)
        wrists = [result.keypoint_names.tolist().index(f"{side}_wrist") for side in ("left", "right")]
        pixels = []
        for row, frame in enumerate(result.frame):
            for view in capture.frames[frame].views:
                seen = capture.camera(view).project(torch.from_numpy(result.keypoints[row, wrists]).double())[0]
                truth = [view.joints[f"{side}_wrist"][:2] for side in ("left", "right")]
                pixels.append(np.linalg.norm(seen.numpy() - truth, axis=-1).mean())
        errors.append(np.mean(pixels))
    assert result.meta["keypoints"] == ["left_wrist", "right_wrist"]
    assert errors[1] < errors[0]


def test_smoothing_keeps_even_motion_and_removes_jitter(person):
    result = Reconstruction.open(person[1])
    count = 30
    rng = np.random.default_rng(0)
    steady = result.vertices[:1] + 0.02 * np.arange(count)[:, None, None]
    shaken = steady + 0.01 * rng.standard_normal((count, 1, 1))
    still = dict.fromkeys(("points", "confidence", "residual", "views", "seen", "colour"), np.zeros((count, 1)))
    whole = vars(result) | still | {"frame": np.arange(count).astype(str), "sequence": np.full(count, "s")}
    whole |= {"time": np.arange(count), "agreement": np.ones(count)}
    even = Reconstruction(**whole | {"vertices": steady}).smoothed(3.0)
    np.testing.assert_allclose(even.vertices, steady, atol=1e-6)
    smooth = Reconstruction(**whole | {"vertices": shaken}).smoothed(3.0)
    assert np.abs(smooth.vertices - steady).mean() < 0.6 * np.abs(shaken - steady).mean()
    gap = shaken.copy()
    gap[10] = np.nan
    kept = Reconstruction(**whole | {"vertices": gap}).smoothed(3.0).vertices
    assert np.isnan(kept[10]).all()
    assert np.isfinite(np.delete(kept, 10, 0)).all()


def test_what_cannot_be_reconstructed_is_refused(person, planes, tmp_path, capsys):
    capture, out = person
    words = ["--ckpt_path", "human-small", "--workers", "1"]
    plane = Capture.open(planes / "mine")
    with CaptureWriter(
        tmp_path / "single", name="x", surface=planes / "mine" / "surface.npz", cameras=plane.cameras
    ) as one:
        for view in plane.views[:4]:
            one.add_view(view.frame, view.camera, plane.image(view), time=view.time)
        one.splits = {"single": ["f1"]}
    for place, target, further, expected in (
        (planes / "mine", tmp_path / "a", words, "surface is human with 7162 vertices"),
        (capture.path, out, [], "exists and is not empty"),
        (planes / "wide", tmp_path / "b", [], "no labels"),
        (f"{tmp_path / 'single'}#single", tmp_path / "c", [], "one view of each instant"),
        (capture.path, tmp_path / "d", ["--fps", "0"], "fps 0"),
        (capture.path, tmp_path / "f", ["--keypoints", "[nose,wing]"], "keypoints: found wing"),
        (capture.path, tmp_path / "e", ["--ckpt_path", "nobody"], "nobody"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["reconstruct", str(place), str(target), *further])
        said = capsys.readouterr().err
        assert stopped.value.code == 2, said
        assert expected in said
        assert said.count("\n") == 1
        assert target == out or not target.exists()
