"""Lookups between cells, pictures of the image's size, DensePose's encoding and files, on fields that are known."""

import cv2
import numpy as np
import pytest
import torch

from dkp.errors import InputError
from dkp.fields import ChartAtlas, ChartField
from dkp.inference import Prediction
from dkp.inference.output import combined_iuv
from dkp.inference.prediction import load_predictions, save_predictions
from dkp.surface import Surface

CELLS = 24
BOX = np.array([10.0, -20.0, 130.0, 100.0])


def ramp(surface: Surface, size: tuple[int, int] = (150, 110)) -> Prediction:
    """A field over most of the box, whose coordinate is linear in the pixel."""
    centres = (np.arange(CELLS) + 0.5) / CELLS
    x, y = np.meshgrid(centres, centres)
    inside = (x > 0.1) & (x < 0.9) & (y > 0.25) & (y < 0.8)
    coordinate = np.stack([0.4 * x, 0.4 * y, np.zeros_like(x)], -1)
    coordinate[~inside] = 9.0
    return Prediction(BOX, np.where(inside, 0.99, 0.0), coordinate, size, surface)


@pytest.fixture
def plane() -> Surface:
    return Surface.plane(0.4, 0.4, 0.05)


def test_lookups_are_those_of_the_field(plane):
    prediction = ramp(plane)
    pixels = np.random.default_rng(0).uniform([30, 20], [110, 65], (50, 2))
    found = prediction.at(pixels)
    assert (found.foreground > 0.98).all()
    expected = np.column_stack([(pixels - BOX[:2]) / 120 * 0.4, np.zeros(50)])
    np.testing.assert_allclose(found.coordinate, expected, atol=1e-6)
    np.testing.assert_array_equal(found.vertex, plane.nearest_vertex(expected))
    np.testing.assert_allclose(found.uv, expected[:, :2] / 0.4, atol=1e-5)
    assert (found.part == 1).all()


def test_background_and_what_lies_outside_of_the_box_is_nowhere(plane):
    found = ramp(plane).at([[12, 50], [140, 50], [60, 200]])
    assert found.vertex.tolist() == [-1, -1, -1]
    assert found.part.tolist() == [0, 0, 0]
    assert np.isnan(found.coordinate).all()
    assert ramp(plane).at([60, 40]).vertex.shape == (1,)
    with pytest.raises(ValueError, match="pixels have shape"):
        ramp(plane).at([1, 2, 3])


def test_cells_of_different_limbs_are_not_mixed(plane):
    coordinate = np.zeros((2, 2, 3))
    coordinate[:, 1] = 0.4  # far from the other column on the surface
    prediction = Prediction(np.array([0.0, 0, 4, 4]), np.full((2, 2), 0.9), coordinate, (4, 4), plane)
    found = prediction.at([[x, 2.0] for x in np.linspace(0.5, 3.5, 13)]).coordinate[:, 0]
    assert set(found.round(6)) == {0.0, 0.4}


def test_pictures_have_the_images_size_and_agree_with_lookups(plane):
    prediction = ramp(plane)
    vertices, iuv = prediction.vertices(), prediction.iuv()
    assert vertices.shape == iuv.shape[:2] == (110, 150)
    np.testing.assert_array_equal(vertices >= 0, iuv[..., 0] > 0)
    rows, columns = np.nonzero(vertices >= 0)
    assert len(rows) == pytest.approx(0.8 * 0.55 * 120**2, rel=0.1)
    found = prediction.at(np.stack([columns, rows], 1) + 0.5)
    np.testing.assert_array_equal(vertices[rows, columns], found.vertex)
    np.testing.assert_array_equal(iuv[rows, columns, 1:], np.rint(255 * found.uv))


def test_iuv_file_holds_denseposes_channels(plane, tmp_path):
    """As DensePose's own files are read: OpenCV's channel 0 is the part, 1 is 255 U and 2 is 255 V."""
    prediction = ramp(plane)
    image = np.zeros((110, 150, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "iuv.png"), combined_iuv(image, [prediction]))
    part, u, v = cv2.split(cv2.imread(str(tmp_path / "iuv.png"), cv2.IMREAD_UNCHANGED))
    rows, columns = np.nonzero(part)
    assert set(np.unique(part)) == {0, 1}
    expected = (np.stack([columns, rows], 1) + 0.5 - BOX[:2]) / 120
    read = np.stack([u[rows, columns], v[rows, columns]], 1) / 255
    inner = ((expected > 0.15) & (expected < 0.75) & (expected[:, 1:] > 0.3)).all(1)
    assert inner.sum() > 2000
    np.testing.assert_allclose(read[inner], expected[inner], atol=0.5 / 255 + 1e-6)


def test_embedding_and_charts_of_one_body_agree():
    human = Surface.load("human")
    rng = np.random.default_rng(1)
    cells = (8, 8)
    face = rng.integers(0, len(human.faces), cells)
    barycentric = np.full((*cells, 3), 1 / 3)
    coordinate = human.coordinates(face, barycentric)
    part, uv = human.charts(face, barycentric)
    logits = torch.full((1, 25, *cells), -9.0)
    logits.scatter_(1, torch.from_numpy(part)[None, None], 9.0)
    places = torch.from_numpy(uv).movedim(-1, 0)[None, None].expand(1, 24, 2, *cells).float()
    box, size = np.array([0.0, 0, 8, 8]), (8, 8)
    atlas = ChartAtlas.from_surface(human, 32)
    charts = Prediction.of_field(ChartField(logits, places, 2), box, size, human, atlas)
    embedding = Prediction(box, np.full(cells, 0.99), coordinate, size, human)
    np.testing.assert_array_equal(charts.charts[0], embedding.charts[0])
    np.testing.assert_allclose(charts.charts[1], embedding.charts[1], atol=1e-3)
    assert np.median(np.linalg.norm(charts.coordinate - embedding.coordinate, axis=-1)) < 0.02
    np.testing.assert_array_equal(charts.iuv()[..., 0], part)


def test_the_file_gives_back_what_was_written(plane, tmp_path):
    prediction = ramp(plane)
    save_predictions(tmp_path / "a.npz", [3], [prediction])
    again = load_predictions(tmp_path / "a.npz", plane)[3]
    for name in ("box", "foreground", "coordinate", "cell_vertices"):
        np.testing.assert_array_equal(getattr(again, name), getattr(prediction, name))
    np.testing.assert_array_equal(again.iuv(), prediction.iuv())
    save_predictions(tmp_path / "none.npz", [], [])
    assert load_predictions(tmp_path / "none.npz", plane) == {}
    (tmp_path / "bad.npz").write_bytes(b"no file of NumPy")
    with pytest.raises(InputError, match=r"bad\.npz cannot be read"):
        load_predictions(tmp_path / "bad.npz", plane)


def test_the_subjects_box_leaves_specks_and_others_out(plane):
    foreground = np.zeros((20, 20))
    foreground[5:15, 8:12] = 1
    foreground[3, 3] = 1
    foreground[5:12, 17:] = 1  # someone else
    foreground[13:17, 15] = 1  # a hand
    prediction = Prediction(np.array([0.0, 0, 40, 40]), foreground, np.zeros((20, 20, 3)), (40, 40), plane)
    assert prediction.subject_box().tolist() == [16, 10, 32, 34]
    empty = Prediction(np.array([0.0, 0, 40, 40]), 0 * foreground, np.zeros((20, 20, 3)), (40, 40), plane)
    assert empty.subject_box() is None
    assert empty.confidence == 0
    assert (empty.vertices() == -1).all()
