"""DensePose-COCO: labelled points of people in pictures, that a teacher learns from."""

import csv
import json

import cv2
import numpy as np
import pytest

from dkp.captures import Capture
from dkp.captures.check import check_capture
from dkp.cli import main
from dkp.errors import InputError
from dkp.importers.datasets.densepose_coco import import_densepose_coco
from dkp.recipes import recipe_folder
from dkp.surface import Surface

BOX = (30.0, 12.0, 60.0, 110.0)


@pytest.fixture(scope="module")
def human():
    return Surface.load("human")


def points_of(human, count, seed=0):
    """Vertices of the rest pose as an annotator places them in a box: numbers of DensePose-COCO and the vertices."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(human.vertices), count, replace=False)
    corners = [np.argwhere(human.faces == vertex)[0] for vertex in chosen]
    part, uv = human.charts(np.array([face for face, _ in corners]), np.eye(3)[[corner for _, corner in corners]])
    low, high = human.vertices.min(0), human.vertices.max(0)
    x, y = ((human.vertices[chosen] - low) / (high - low))[:, :2].T * 255
    found = {"dp_x": x, "dp_y": 255 - y, "dp_I": part, "dp_U": uv[:, 0], "dp_V": uv[:, 1]}
    return {key: values.tolist() for key, values in found.items()}, chosen


def write(folder, human, people=4, change=None):
    """Annotations, pictures and a table of charts."""
    folder.mkdir()
    annotations = []
    for number in range(people):
        points, _ = points_of(human, 60, number)
        corners = [30, 12, 90, 12, 90, 122, 30, 122]
        own = {"id": 7 + number, "image_id": number % 2, "bbox": BOX, "segmentation": [corners], **points}
        annotations.append(own)
    annotations.append({"id": 99, "image_id": 0, "bbox": BOX})  # nobody labelled this one
    data = {"images": [{"id": n, "file_name": f"COCO_{n:012}.jpg"} for n in range(2)], "annotations": annotations}
    if change is not None:
        change(data)
    (folder / "densepose.json").write_text(json.dumps(data))
    for number in range(2):
        picture = np.random.default_rng(number).integers(0, 255, (140, 160, 3), np.uint8)
        cv2.imwrite(str(folder / f"COCO_{number:012}.jpg"), picture)
    every = [np.argwhere(human.faces == vertex)[0] for vertex in range(0, len(human.vertices), 3)]
    part, uv = human.charts(np.array([face for face, _ in every]), np.eye(3)[[corner for _, corner in every]])
    np.savez(folder / "charts.npz", part=part, uv=uv, vertex=np.arange(0, len(human.vertices), 3))
    return folder


def test_points_lie_where_they_were_labelled(human, tmp_path):
    folder = write(tmp_path / "coco", human)
    words = [str(folder / "densepose.json"), str(folder), str(tmp_path / "c"), "--charts", str(folder / "charts.npz")]
    main(["import", "densepose-coco", *words, "--size", "64"])
    capture = Capture.open(tmp_path / "c")
    seen = [(view.frame, view.camera) for view in capture.views]
    assert seen == [(f"people_00000{n}", f"picture_{n % 2}") for n in range(4)]
    assert capture.splits == {"train": [f"people_00000{n}" for n in range(4)]}
    report = check_capture(capture)  # nobody is compared with anybody else
    assert not report.pairs
    assert report.warnings == ["4 of 4 instants have one view only: they give no pair"]
    label = capture.points(capture.views[0])
    points, chosen = points_of(human, 60)
    coordinates = human.coordinates(label.face, label.barycentric)
    distance = np.linalg.norm(coordinates - human.vertices[chosen], axis=-1)
    assert np.median(distance) < 0.02  # the table has every third vertex
    assert distance.max() < 0.1
    scale = 64 / (110 * 1.3)  # the box's longer side and the room around it
    expected = np.array([points["dp_x"], points["dp_y"]]).T / 255 * BOX[2:] + BOX[:2]
    expected = (expected - [60, 67]) * scale + 32
    np.testing.assert_allclose(label.pixels, expected, atol=1e-6)
    mask = capture.mask(capture.views[0])
    assert mask.mean() == pytest.approx(61 * 111 * scale**2 / 64**2, rel=0.05)  # the outline belongs to it


def test_a_teacher_learns_from_points(human, tmp_path):
    folder = write(tmp_path / "coco", human)
    out = tmp_path / "c"
    import_densepose_coco(folder / "densepose.json", folder, out, charts=folder / "charts.npz", size=32)
    small = [
        "--trainer.accelerator=cpu", "--trainer.max_steps=2", "--trainer.enable_progress_bar=false", "--size=32",
        "--data.num_workers=0", "--data.steps_per_epoch=2", "--model.detector.width=8", "--model.detector.levels=3",
    ]  # fmt: skip
    words = ["--source", f"{out}#train", "--target", f"{out}#train", "--root", str(tmp_path / "runs"), *small]
    main(["fit", "--config", str(recipe_folder() / "person/teacher.yaml"), *words])
    (table,) = (tmp_path / "runs").glob("*/metrics.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    losses = [float(row["train/labelled/coordinate"]) for row in rows]
    assert losses
    assert all(0 < loss < 10 for loss in losses)  # a term that finds no point ends the run


def wrong(key, value):
    def change(data):
        data["annotations"][1][key] = value

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (wrong("dp_I", [30.0] * 60), r"annotation 8: dp_I goes from 30.0 to 30.0, expected 1 to 24"),
        (wrong("dp_U", [0.5] * 59), "annotation 8: dp_U is .*, expected 60 finite numbers"),
        (wrong("dp_x", [300.0] * 60), "dp_x goes from 300.0 to 300.0, expected 0 to 256"),
        (wrong("bbox", [0, 0, 0, 5]), "bbox is .* expected x, y and a width and height of at least 1"),
        (wrong("bbox", [0, 0, 1e9, 5]), "bbox is .* expected x, y and a width and height"),
        (wrong("segmentation", [[]]), "segmentation has 0 numbers up to 0"),
        (wrong("segmentation", [[1, 2, 3, 4, 5, 1e30]]), "segmentation"),
        (wrong("image_id", [5]), r"image_id is \[5\], expected the id of an image"),
        (wrong("image_id", 5), "image_id is 5, expected the id of an image"),
        (wrong("segmentation", [["x"]]), "segmentation is .* expected"),
        (lambda data: data["images"][0].update(file_name="../x.jpg"), "expected a file"),
        (lambda data: data.update(annotations=[]), "none of them with dp_x"),
        (lambda data: data.pop("images"), "has no lists of images and annotations"),
    ],
)
def test_what_is_wrong_is_named(human, tmp_path, change, match):
    folder = write(tmp_path / "coco", human, people=2, change=change)
    with pytest.raises(InputError, match=match):
        import_densepose_coco(folder / "densepose.json", folder, tmp_path / "c", charts=folder / "charts.npz")
    assert not (tmp_path / "c").exists()
