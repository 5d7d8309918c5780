"""What the check of a capture measures and what it finds wrong."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
import torch

from dkp.captures import Capture, CaptureWriter, DenseLabel, SparseLabel
from dkp.captures.check import check_capture
from dkp.captures.check.subject_point import instant_point
from dkp.captures.images import write_image, write_mask
from dkp.captures.labels import read_dense_label, write_dense_label
from dkp.errors import InputError
from dkp.geometry import Camera, epipolar_distance, fundamental_matrix
from dkp.pipeline.check import check
from dkp.surface import Surface

LENS = (-0.2, 0.05, 0.002, -0.001, 0.01)


@pytest.mark.parametrize("lens", [(0.0,) * 5, LENS])
@pytest.mark.parametrize("unit", ["m", "mm"])
def test_exact_labels_have_no_residual(make_scene, tmp_path, lens, unit):
    report = check_capture(make_scene(distortion=lens).write(tmp_path / "c", unit=unit))
    assert report.problems == []
    assert report.warnings == []
    assert [pair.cameras for pair in report.pairs] == [["cam_0", "cam_1"], ["cam_0", "cam_2"], ["cam_1", "cam_2"]]
    for pair in report.pairs:
        assert (list(pair.residuals), pair.instants) == (["label"], 4)
        assert pair.residuals["label"].matches > 400
        assert pair.residuals["label"].mean < 0.01
    assert report.labels.pixels > 5000
    assert report.labels.max_px < 0.1  # barycentric coordinates are stored as float16
    assert report.labels.max_cm < 0.2
    assert report.subject == pytest.approx([0.03, 0.0, 0.0], abs=0.05)


def test_counts(board_capture):
    report = check_capture(Capture.open(board_capture))
    assert [(row.name, row.size, row.views) for row in report.cameras] == [
        (f"cam_{index}", [96, 80], 4) for index in range(3)
    ]
    assert [row.focal for row in report.cameras] == [153.6] * 3
    assert report.cameras[0].distance == pytest.approx(2.0, abs=0.1)
    assert [
        (row.name, row.instants, row.views, row.masks, row.labels, row.points, row.joints) for row in report.splits
    ] == [
        ("(all)", 4, 12, 12, 12, 0, 0),
        ("train", 3, 9, 9, 9, 0, 0),
        ("test", 1, 3, 3, 3, 0, 0),
    ]


@pytest.mark.parametrize(
    ("angle", "flat", "eligible", "inside"),
    [(4.0, True, False, False), (60.0, False, True, False), (178.0, False, False, True), (178.0, True, True, True)],
)
def test_pairs_are_judged_by_angle_and_epipole(make_scene, tmp_path, monkeypatch, angle, flat, eligible, inside):
    """Of something flat, cameras that face each other see the same side."""
    monkeypatch.setattr(Surface, "is_flat", flat)
    report = check_capture(make_scene(angles=(0.0, angle)).write(tmp_path / "c", frames=2))
    (pair,) = report.pairs
    assert pair.angle == pytest.approx(min(angle, 150), abs=8)
    assert (pair.eligible, pair.epipole_inside) == (eligible, inside)
    assert bool([warning for warning in report.warnings if "no camera pair suits training" in warning]) != eligible


def moved(camera: Camera, metres: float) -> Camera:
    shift = torch.tensor([0.0, metres, 0.0], dtype=torch.float64)
    return Camera.create(
        camera.intrinsics, camera.rotation, camera.translation + shift, camera.distortion, camera.image_size
    )


def test_a_wrong_calibration_shows(scene, tmp_path):
    cameras = scene.cameras()
    cameras["cam_2"] = moved(cameras["cam_2"], 0.1)  # some 8 px in the image
    scene.write(tmp_path / "c", cameras=cameras)
    report = check_capture(Capture.open(tmp_path / "c"))
    residual = {tuple(pair.cameras): pair.residuals["label"].median for pair in report.pairs}
    assert residual["cam_0", "cam_1"] < 0.01
    assert residual["cam_0", "cam_2"] > 3
    assert residual["cam_1", "cam_2"] > 3
    (finding,) = report.findings
    assert finding.cameras == ["cam_2"]
    assert report.warnings == [finding.sentence]  # which explains the residuals of its pairs
    assert report.labels.max_px > 3


def test_labels_half_a_pixel_off_show(scene, tmp_path):
    capture = scene.write(tmp_path / "c")
    half = torch.tensor([[1.0, 0, 0.5], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    for view in capture.views:
        off = scene.label(scene.cameras()[view.camera].transform(half, *view.size), view.time)
        write_dense_label(capture.path / view.label, off)
    report = check_capture(Capture.open(tmp_path / "c"))
    assert report.labels.mean_px == pytest.approx(0.5, abs=0.02)
    assert report.labels.mean_cm == pytest.approx(100 * 0.5 * 2.0 / 153.6, rel=0.15)


def spoil_label(folder, change):
    path = folder / "labels" / "cam_1" / "f_002.npz"
    label = read_dense_label(path)
    write_dense_label(path, change(label.face.copy(), label.barycentric.astype(np.float32)))
    return path


SPOILERS = {
    "image": (lambda f: (f / "images/cam_1/f_002.png").write_bytes(b"png"), "f_002.png cannot be decoded"),
    "image size": (
        lambda f: shutil.copy(f.parent / "small.png", f / "images/cam_1/f_002.png"),
        "f_002.png is 8x8, expected an image of 96x80 pixels",
    ),
    "mask": (lambda f: (f / "masks/cam_1/f_002.png").write_bytes(b""), "f_002.png cannot be decoded, expected a mask"),
    "empty mask": (
        lambda f: shutil.copy(f.parent / "black.png", f / "masks/cam_1/f_002.png"),
        "masks/cam_1/f_002.png has no foreground pixel",
    ),
    "label": (lambda f: (f / "labels/cam_1/f_002.npz").write_bytes(b"PK"), "f_002.npz cannot be read"),
    "empty label": (
        lambda f: spoil_label(f, lambda face, barycentric: DenseLabel(face * 0 - 1, barycentric)),
        "f_002.npz has no foreground pixel",
    ),
    "face": (
        lambda f: spoil_label(f, lambda face, barycentric: DenseLabel(face + 90 * (face > 5), barycentric)),
        "has the face 185, expected 0 to 95 or -1",
    ),
    "weights": (
        lambda f: spoil_label(f, lambda face, barycentric: DenseLabel(face, barycentric * 0.9)),
        "expected three weights that are not negative and sum to one",
    ),
    "truth": (lambda f: (f / "truth/f_002.npz").write_bytes(b"PK"), "truth/f_002.npz cannot be read"),
}


@pytest.mark.parametrize("case", SPOILERS)
def test_every_bad_file_is_a_problem_and_the_rest_is_still_checked(board_capture, tmp_path, case, capsys):
    folder = shutil.copytree(board_capture, tmp_path / "with space" / "c")
    write_image(folder.parent / "small.png", np.zeros((8, 8, 3), np.uint8))
    write_mask(folder.parent / "black.png", np.zeros((80, 96), bool))
    spoil, expected = SPOILERS[case]
    spoil(folder)
    report = check_capture(Capture.open(folder))
    assert len(report.problems) == 1
    assert expected in report.problems[0]
    assert str(folder) in report.problems[0]
    assert {pair.instants for pair in report.pairs} <= {3, 4}
    assert all(pair.residuals["label"].mean < 0.01 for pair in report.pairs)
    with pytest.raises(InputError) as caught:
        check(folder)
    assert expected in str(caught.value)
    assert "problem: " in capsys.readouterr().out


def test_warnings(scene, tmp_path):
    cameras = {
        name: Camera.create(camera.intrinsics, camera.rotation, 1000 * camera.translation, image_size=camera.image_size)
        for name, camera in scene.cameras().items()
    }
    with CaptureWriter(tmp_path / "c", name="n", surface=scene.surface, cameras=cameras) as writer:
        for time, names in enumerate((["cam_0", "cam_1", "cam_2"], ["cam_0", "cam_1"], ["cam_0"])):
            for name in names:
                writer.add_view(f"f{time}", name, np.zeros((80, 96, 3), np.uint8), time=time)
        writer.splits = {"train": ["f0", "f1"], "test": ["f1"]}
    warnings = check_capture(Capture.open(tmp_path / "c")).warnings
    for match in (
        "different numbers of views: cam_0 3, cam_1 2, cam_2 1",
        "1 of 3 instants have one view only",
        "the splits train and test share 1 frames",
        "m apart: where --unit m was given, --unit mm makes it ",
    ):
        assert [warning for warning in warnings if match in warning], match


def test_a_check_looks_at_one_instant_at_least(board_capture):
    with pytest.raises(InputError, match="instants is 0, expected a whole number of at least 1"):
        check_capture(Capture.open(board_capture), instants=0)


def test_the_report_prints_and_is_json(board_capture):
    report = check(board_capture)
    text = str(report)
    for word in (
        "cam_0 cam_2",
        "mean px",
        "median source px",
        "all pairs",
        "96x80",
        "153.6",
        "train",
        "labels against the posed surface",
        "every file",
    ):
        assert word in text
    assert max(len(line) for line in text.splitlines()[1:]) <= 150
    data = json.loads(check(board_capture, json=True))
    assert data == json.loads(json.dumps(asdict(report)))
    assert data["pairs"][0]["residuals"]["label"]["mean"] < 0.01
    assert data["residuals"]["label"]["source_mean"] == data["residuals"]["label"]["mean"]  # whole frames are stored
    assert data["labels"]["pixels"] == report.labels.pixels


def test_residuals_of_crops_are_shown_in_source_pixels_too(scene, tmp_path):
    """One view is stored a quarter as large, another mirrored and half as large, the third whole."""
    point = torch.tensor([[0.05, 0.02, 0.0]], dtype=torch.float64)
    crops = {"cam_0": [[0.25, 0, -3], [0, 0.25, -2]], "cam_1": [[-0.5, 0, 40], [0, 0.5, -5]], "cam_2": None}
    found = {}
    for off in (0.0, 4.0):
        with CaptureWriter(tmp_path / f"c{off}", name="n", surface=scene.surface, cameras=scene.cameras()) as writer:
            for name, camera in scene.cameras().items():
                pixel = camera.project(point)[0].numpy()[0] + [0, off * (name == "cam_0")]
                if crops[name] is not None:
                    pixel = np.array(crops[name]) @ [*pixel, 1]
                image = np.zeros((80, 96, 3), np.uint8)
                joints = {"nose": (*pixel.tolist(), 1.0)}
                writer.add_view("f0", name, image, time=0, crop=crops[name], joints=joints)
        report = check_capture(Capture.open(tmp_path / f"c{off}"))
        found[off] = {tuple(pair.cameras): pair.residuals["joints"] for pair in report.pairs}
        assert report.residuals["joints"].matches == 3
        assert report.residuals["joints"].source_mean == pytest.approx(
            np.mean([residual.source_mean for residual in found[off].values()]), abs=1e-3
        )
    assert max(residual.source_mean for residual in found[0.0].values()) < 0.01
    exact = Capture.open(tmp_path / "c4.0")
    for other in ("cam_1", "cam_2"):
        residual = found[4.0]["cam_0", other]
        first, second = exact.cameras["cam_0"], exact.cameras[other]
        pixels = first.project(point)[0] + torch.tensor([[0, 4.0]]), second.project(point)[0]
        expected = float(epipolar_distance(*pixels, fundamental_matrix(first, second), kind="symmetric"))
        assert residual.source_mean == pytest.approx(expected, abs=2e-3)
        assert expected > 2
    assert found[4.0]["cam_0", "cam_1"].mean == pytest.approx(
        found[4.0]["cam_0", "cam_1"].source_mean * (0.25 + 0.5) / 2, rel=0.1
    )
    assert found[4.0]["cam_1", "cam_2"].source_mean < 0.01


def test_where_the_subject_is(scene, board_capture):
    capture = Capture.open(board_capture)
    for instant in capture.instants():
        known = instant_point(capture, instant)
        np.testing.assert_allclose(known, [0.03, 0, 0], atol=0.05)
        capture.truth = lambda frame: None  # from masks alone
        np.testing.assert_allclose(instant_point(capture, instant), known, atol=0.05)
        del capture.truth


def test_points_and_joints_are_compared_too(scene, tmp_path):
    """Sparse labels and joints that were measured say more about the cameras than labels that follow from them."""
    vertices = torch.from_numpy(scene.vertices(0))
    corner_face, corner = np.nonzero(scene.surface.faces == 8)
    weights = np.eye(3)[corner[:1]]
    with CaptureWriter(tmp_path / "c", name="n", surface=scene.surface, cameras=scene.cameras()) as writer:
        for index, (name, camera) in enumerate(scene.cameras().items()):
            pixel = np.add(camera.project(vertices[8:9])[0].numpy(), [[0.0, 3.0 * (index == 2)]])
            writer.add_view(
                "f0",
                name,
                np.zeros((80, 96, 3), np.uint8),
                time=0,
                label=scene.label(camera, 0),
                points=SparseLabel(pixel, corner_face[:1], weights),
                joints={"nose": (*pixel[0].tolist(), 0.9)},
            )
    residuals = {tuple(pair.cameras): pair.residuals for pair in check_capture(Capture.open(tmp_path / "c")).pairs}
    assert {kind: found.matches for kind, found in residuals["cam_0", "cam_1"].items()}.keys() == {
        "label",
        "points",
        "joints",
    }
    for kind in ("points", "joints"):
        assert residuals["cam_0", "cam_1"][kind].matches == 1
        assert residuals["cam_0", "cam_1"][kind].mean < 0.01
        assert residuals["cam_0", "cam_2"][kind].mean > 2
    assert residuals["cam_0", "cam_2"]["label"].mean < 0.01
