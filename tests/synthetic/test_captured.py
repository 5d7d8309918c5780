"""Rendering into a recorded rig: where the subject stands, the emptied background, noise, and exact labels."""

import json
import shutil

import cv2
import numpy as np
import pytest

from dkp.captures import Capture
from dkp.errors import InputError
from dkp.synthetic import synthesize
from dkp.synthetic.captured import CapturedRig, _emptied, _nearest_to_lines, _noise

from .test_synthesis import project, seen_points

SMALL = {"subjects": 2, "frames": 2, "clip": 1, "size": 64, "workers": 1, "seed": 5}


@pytest.fixture(scope="module")
def into(rendered, tmp_path_factory):
    """A capture rendered into the rig of another one."""
    return synthesize(tmp_path_factory.mktemp("rig") / rendered.surface.name, rig=f"{rendered.path}#train", **SMALL)


def require_exact_labels(capture):
    for view in capture.views:
        rows, columns, points = seen_points(capture, view)
        pixels, depth = project(capture.camera(view), points)
        assert len(rows) > 150
        assert np.abs(pixels - np.stack([columns + 0.5, rows + 0.5], 1)).max() < 0.1
        assert (depth > 0.5).all()


def test_labels_are_exact_in_the_cameras_of_the_capture(rendered, into):
    assert into.surface.name == rendered.surface.name
    assert into.cameras.keys() == rendered.cameras.keys()
    for name, camera in into.cameras.items():
        np.testing.assert_allclose(camera.rotation, rendered.cameras[name].rotation)
        np.testing.assert_allclose(camera.translation, rendered.cameras[name].translation)
    require_exact_labels(into)
    assert len(into.views) == 2 * 2 * len(rendered.cameras)


def test_the_subject_stands_where_that_of_the_capture_stood(rendered, into):
    truth = np.concatenate([rendered.truth(frame) for frame in rendered.splits["train"]])
    for frame in into.frames:
        vertices = into.truth(frame)
        assert abs(vertices[:, 2].min()) < {"human": 0.2, "dog": 0.3}[into.surface.name]  # the nearest paw looks lowest
        assert (vertices.mean(0)[:2] > truth.min(0)[:2] - 0.3).all()
        assert (vertices.mean(0)[:2] < truth.max(0)[:2] + 0.3).all()


def test_the_background_is_that_of_the_capture(rendered, into):
    """Off the subject, an image looks more like those of its own camera than like those of the other cameras."""

    def colours(capture, camera):
        views = [view for view in capture.views if view.camera == camera]
        return np.mean([capture.image(view)[~capture.mask(view)].mean(0) for view in views], 0)

    names = list(rendered.cameras)
    apart = [[np.abs(colours(into, one) - colours(rendered, other)).mean() for other in names] for one in names]
    assert np.diag(apart).mean() < 12
    assert np.diag(apart).mean() < 0.7 * np.mean(apart)


def test_crops_that_are_turned_upright_are_so_in_what_is_rendered(rendered, tmp_path):
    shutil.copytree(rendered.path, tmp_path / "askew")
    rows = [json.loads(line) for line in (tmp_path / "askew/views.jsonl").read_text().splitlines()]
    name = next(iter(rendered.cameras))
    for row in (row for row in rows if row["camera"] == name):  # the images of a camera, turned by a right angle
        for kind in ("image", "mask"):
            path = str(tmp_path / "askew" / row[kind])
            cv2.imwrite(path, cv2.rotate(cv2.imread(path, cv2.IMREAD_UNCHANGED), cv2.ROTATE_90_CLOCKWISE))
        turn = np.array([[0.0, -1.0, row["size"][1]], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        row |= {"crop": (turn @ np.vstack([row["crop"], [0, 0, 1]]))[:2].tolist(), "label": None, "joints": {}}
    (tmp_path / "askew/views.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    into = synthesize(tmp_path / "into", rig=str(tmp_path / "askew"), **SMALL)
    require_exact_labels(into)
    for view in into.views:
        across, down = np.array(view.crop)[:, :2] / np.linalg.norm(np.array(view.crop)[:, 0])
        expected = ([0, -1], [1, 0]) if view.camera == name else ([1, 0], [0, 1])
        np.testing.assert_allclose((across, down), expected, atol=1e-6)


def test_cameras_that_move_and_images_without_masks(rendered, tmp_path):
    shutil.copytree(rendered.path, tmp_path / "moving")
    cameras = {one["name"]: one for one in json.loads((tmp_path / "moving/capture.json").read_text())["cameras"]}
    rows = [json.loads(line) for line in (tmp_path / "moving/views.jsonl").read_text().splitlines()]
    for row in rows:
        row["mask"] = None
        own = cameras[row["camera"]]
        row["override"] = {"translation": [value + 0.01 * row["time"] for value in own["translation"]]}
    (tmp_path / "moving/views.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = synthesize(tmp_path / "out", rig=str(tmp_path / "moving"), **SMALL | {"subjects": 1})
    assert all("translation" in view.override for view in result.views)
    require_exact_labels(result)


def test_what_moves_is_taken_out_and_what_is_always_hidden_is_filled_in():
    rng = np.random.default_rng(0)
    picture = np.full((40, 40, 3), 90, np.uint8)
    picture[:, 20:] = rng.integers(100, 200, (40, 20, 3))
    images, hidden = np.stack([picture] * 9), np.zeros((9, 40, 40), bool)
    for k in range(9):
        images[k, 10:30, 18 + 2 * k : 22 + 2 * k] = 0  # passes by, and no mask tells
        hidden[k, 15:25, 5:15] = True
    images[hidden] = 255
    sensor = np.ones((40, 40), bool)
    sensor[:, :2] = False
    found = _emptied(images, hidden, sensor)
    expected = np.where(sensor[..., None], picture, 0)
    assert np.abs(found.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("sigma", [0.01, 0.04])
def test_the_noise_of_an_image_is_found_beside_its_texture(sigma):
    rng = np.random.default_rng(1)
    columns, rows = np.meshgrid(np.arange(128), np.arange(128))
    picture = 120 + 40 * np.sin(columns / 9) + 30 * ((rows // 32) % 2)
    noisy = np.clip(picture[..., None] + 255 * sigma * rng.standard_normal((128, 128, 3)), 0, 255).astype(np.uint8)
    assert _noise(noisy) == pytest.approx(sigma, rel=0.2)
    assert _noise(np.zeros((8, 8, 3), np.uint8)) == 0


def test_the_point_nearest_to_lines():
    rng = np.random.default_rng(2)
    point, directions = rng.normal(size=3), rng.normal(size=(4, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    origins = point - directions * rng.uniform(1, 3, (4, 1))
    np.testing.assert_allclose(_nearest_to_lines(origins, directions), point, atol=1e-9)


def test_what_cannot_be_rendered_into_is_said(rendered, tmp_path):
    path, other = str(rendered.path), {"human": "dog", "dog": "human"}[rendered.surface.name]
    for options, message in (
        ({"cameras": 3}, "cameras is 3 and rig"),
        ({"species": other}, f"is on the surface {rendered.surface.name}, expected {other}"),
        ({"rig": f"{path}#nowhere"}, "has no split 'nowhere'"),
    ):
        with pytest.raises(InputError, match=message):
            synthesize(tmp_path / "out", **{"rig": path} | options)


def test_a_split_without_two_views_of_an_instant_is_refused(rendered, tmp_path):
    shutil.copytree(rendered.path, tmp_path / "single")
    frame = rendered.splits["test"][0]
    rows = [json.loads(line) for line in (tmp_path / "single/views.jsonl").read_text().splitlines()]
    kept = [row for row in rows if row["frame"] != frame or row["camera"] == "cam_00"]
    (tmp_path / "single/views.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    head = json.loads((tmp_path / "single/capture.json").read_text())
    head["splits"] = {"one": [frame]}
    (tmp_path / "single/capture.json").write_text(json.dumps(head))
    assert Capture.open(tmp_path / "single")
    with pytest.raises(InputError, match="has no instant of two views"):
        CapturedRig(f"{tmp_path / 'single'}#one", 64)
