"""Rigs of captures: written for other programs and read again; refined by labels, points and joints."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dkp.captures import Capture, CaptureWriter, SparseLabel
from dkp.captures.check import check_capture
from dkp.cli import main
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.importers.cameras.registry import read_cameras
from dkp.importers.rigs import export_rig, refine_rig

DATA = Path(os.environ.get("DKP_DATA", "nowhere"))
POINTS = torch.rand((20, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.4 - 0.2


@pytest.fixture(scope="module")
def scene(make_scene):
    return make_scene(distortion=(-0.1, 0.05, 0.001, -0.002, 0.01))


@pytest.fixture(scope="module")
def capture(scene, tmp_path_factory):
    return scene.write(tmp_path_factory.mktemp("capture") / "c", frames=8)


@pytest.mark.parametrize(
    ("format", "out"), [("toml", "new/rig.toml"), ("colmap", "new"), ("transforms", "transforms.json")]
)
def test_an_exported_rig_is_read_again(capture, tmp_path, format, out, capsys):
    main(["export-rig", str(capture.path), "--format", format, "--out", str(tmp_path / out)])
    assert f"wrote {tmp_path / out} (3 cameras, metres)" in capsys.readouterr().out
    cameras = read_cameras(tmp_path / out, unit="m")
    assert list(cameras) == list(capture.cameras)
    for name, camera in cameras.items():
        torch.testing.assert_close(camera.image_size, capture.cameras[name].image_size)
        expected = capture.cameras[name].project(POINTS)[0]
        torch.testing.assert_close(camera.project(POINTS)[0], expected, atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="exists, expected a new name or the option --overwrite"):
        export_rig(capture.path, out=tmp_path / out, format=format)
    export_rig(capture.path, out=tmp_path / out, format=format, overwrite=True)


def shaken(camera: Camera, index: int) -> Camera:
    """A camera that stands 2 cm away and looks 0.6 degrees past."""
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, -0.01, 0], [0.01, 0, 0.01], [0, -0.01, 0]]).double() * index)
    shift = torch.tensor([0.02, -0.01, 0.02]) * index
    return Camera.create(
        camera.intrinsics, turn @ camera.rotation, camera.translation + shift, camera.distortion, camera.image_size
    )


def write_shaken(scene, path, kind):
    """A capture with wrong poses, whose views share dense labels, labelled points or joints."""
    cameras = scene.cameras()
    given = {name: shaken(camera, index) for index, (name, camera) in enumerate(cameras.items())}
    with CaptureWriter(path, name="x", surface=scene.surface, cameras=given, unit="mm") as writer:
        for time in range(4):
            vertices = torch.from_numpy(scene.vertices(time))
            writer.add_truth(f"f{time}", vertices.numpy())
            for name, camera in cameras.items():
                pixels = camera.project(vertices)[0].numpy()
                inside = ((pixels > 0) & (pixels < scene.size)).all(1)
                options = {}
                if kind == "label":
                    options["label"] = scene.label(camera, time)
                elif kind == "points":
                    faces = scene.surface.faces
                    corner = [np.argwhere(faces == vertex)[0] for vertex in np.flatnonzero(inside)]
                    weights = np.eye(3, dtype=np.float32)[[c for _, c in corner]]
                    options["points"] = SparseLabel(pixels[inside], np.array([f for f, _ in corner], np.int32), weights)
                else:
                    options["joints"] = {f"j{i}": (*pixels[i], 0.9) for i in np.flatnonzero(inside)}
                image = np.zeros((scene.size[1], scene.size[0], 3), np.uint8)
                writer.add_view(f"f{time}", name, image, time=time, **options)
    return path


@pytest.mark.parametrize("kind", ["label", "points", "joints"])
def test_refining_brings_wrong_poses_back(scene, tmp_path, kind, capsys):
    given = write_shaken(scene, tmp_path / "given", kind)
    main(["refine-rig", str(given), "--out", str(tmp_path / "refined")])
    printed = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in printed if line.startswith("cam_")]
    assert [row[:3] for row in rows] == [["cam_0", "-", "cam_1"], ["cam_0", "-", "cam_2"], ["cam_1", "-", "cam_2"]]
    assert all(float(row[3]) > 3 * float(row[4]) for row in rows)
    before, after = (check_capture(Capture.open(path)) for path in (given, tmp_path / "refined"))
    assert after.problems == []
    found = [{tuple(pair.cameras): pair.residuals[kind].median for pair in report.pairs} for report in (before, after)]
    assert all(found[1][pair] < found[0][pair] / 3 for pair in found[0])


def test_a_refined_capture_differs_in_its_cameras_only(scene, tmp_path):
    given = write_shaken(scene, tmp_path / "given", "label")
    refine_rig(given, out=tmp_path / "refined", instants=4)
    files = sorted(path.relative_to(given) for path in given.rglob("*") if path.is_file())
    assert files == sorted(
        p.relative_to(tmp_path / "refined") for p in (tmp_path / "refined").rglob("*") if p.is_file()
    )
    for file in files:
        same = (given / file).read_bytes() == (tmp_path / "refined" / file).read_bytes()
        assert same == (file.name != "capture.json")
    one, other = (json.loads((path / "capture.json").read_text()) for path in (given, tmp_path / "refined"))
    first, its = (head.pop("cameras")[0] for head in (one, other))
    assert one == other
    np.testing.assert_allclose(first["rotation"], its["rotation"], atol=1e-12)
    assert first["intrinsics"] == its["intrinsics"]


def test_a_refined_rig_can_be_a_file(scene, tmp_path):
    given = write_shaken(scene, tmp_path / "given", "joints")
    for name in ("rig.toml", "transforms.json"):
        assert f"wrote {tmp_path / name} (3 cameras, metres)" in refine_rig(given, out=tmp_path / name)
    printed = refine_rig(given, out=tmp_path / "focal.toml", focal=True).splitlines()
    rows = [line.split() for line in printed[printed.index("focal length, px") + 1 : -1]]
    found = read_cameras(tmp_path / "focal.toml", unit="m")
    assert [row[:2] for row in rows] == [[name, "153.6"] for name in found]
    assert [row[2] for row in rows] == [f"{float(camera.intrinsics[0, 0]):.1f}" for camera in found.values()]
    one, other = (read_cameras(tmp_path / name, unit="m") for name in ("rig.toml", "transforms.json"))
    torch.testing.assert_close(one["cam_2"].project(POINTS)[0], other["cam_2"].project(POINTS)[0], atol=1e-6, rtol=0)


def test_what_cannot_be_refined_is_named(scene, capture, tmp_path):
    with CaptureWriter(tmp_path / "moving", name="x", surface="human", cameras=scene.cameras()) as writer:
        for name, camera in scene.cameras().items():
            image = np.zeros((80, 96, 3), np.uint8)
            writer.add_view("f0", name, image, time=0, override=camera)
    with pytest.raises(InputError, match="has views with cameras of their own, expected cameras that do not move"):
        refine_rig(tmp_path / "moving", out=tmp_path / "out")
    with CaptureWriter(tmp_path / "bare", name="x", surface="human", cameras=scene.cameras()) as writer:
        for name in scene.cameras():
            writer.add_view("f0", name, np.zeros((80, 96, 3), np.uint8), time=0)
    with pytest.raises(InputError, match="0 points are seen by two cameras, expected at least 50"):
        refine_rig(tmp_path / "bare", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def moving(time: float) -> torch.Tensor:
    """Points (12, 3) that move unlike each other."""
    rates = torch.linspace(0.2, 0.5, 36).reshape(12, 3).double()
    return 0.25 * torch.sin(rates * time + torch.arange(36).reshape(12, 3))


@pytest.mark.parametrize("ahead", [(0, 4, -3), (-5, 0, 0)])
def test_cameras_out_of_step_are_put_back(scene, tmp_path, ahead, capsys):
    """Also where poses are wrong, detections are, and the first camera is the one that is late."""
    rng = np.random.default_rng(0)
    cameras = scene.cameras()
    given = {name: shaken(camera, index) for index, (name, camera) in enumerate(cameras.items())}
    with CaptureWriter(tmp_path / "given", name="x", surface="human", cameras=given) as writer:
        for time in range(0, 60, 2):  # every second frame
            for index, (name, camera) in enumerate(cameras.items()):
                pixels = camera.project(moving(time - 2 * ahead[index]))[0].numpy()
                pixels += rng.normal(0, 0.3, pixels.shape) + rng.normal(0, 30, pixels.shape) * (
                    rng.random((12, 1)) < 0.1
                )
                joints = {f"j{i}": (*pixels[i], 0.9) for i in range(12)}
                writer.add_view(f"f{time}", name, np.zeros((80, 96, 3), np.uint8), time=time, joints=joints)
        writer.splits = {"train": [f"f{time}" for time in range(0, 60, 2)]}
    main(["refine-rig", str(tmp_path / "given"), "--out", str(tmp_path / "refined"), "--offsets"])
    printed = capsys.readouterr().out
    expected = {name: 2 * (n - ahead[0]) for name, n in zip(cameras, ahead, strict=True) if n != ahead[0]}
    assert f"--sync '{json.dumps(expected)}'" in printed
    refined = Capture.open(tmp_path / "refined")
    before, after = (check_capture(Capture.open(tmp_path / name)) for name in ("given", "refined"))
    assert before.residuals["joints"].median > 3 * after.residuals["joints"].median
    moved = {(view.camera, view.time): int(view.image.split("/f")[1].removesuffix(".png")) for view in refined.views}
    assert all(number - time == expected.get(name, 0) for (name, time), number in moved.items())
    assert len({name for name, _ in moved}) == 3


def test_a_camera_half_a_frame_late_is_reported_so(scene, tmp_path):
    with CaptureWriter(tmp_path / "c", name="x", surface="human", cameras=scene.cameras()) as writer:
        for time in range(40):
            for index, (name, camera) in enumerate(scene.cameras().items()):
                pixels = camera.project(moving(2 * time - 3 * (index == 2)))[0].numpy()
                joints = {f"j{i}": (*pixels[i], 0.9) for i in range(12)}
                writer.add_view(f"f{time}", name, np.zeros((80, 96, 3), np.uint8), time=time, joints=joints)
    printed = refine_rig(tmp_path / "c", out=tmp_path / "rig.toml", offsets=True)
    (found,) = [line.split() for line in printed.splitlines() if line.startswith("cam_2 ")]
    assert float(found[2]) == pytest.approx(1.5, abs=0.1)
