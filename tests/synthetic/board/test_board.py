"""Drawn views of the board: labels, cameras, masks and determinism."""

import cv2
import numpy as np
import pytest
import torch

from dkp.captures import Capture
from dkp.captures.board import BOARD_SIZE
from dkp.errors import InputError
from dkp.geometry import eligible_pairs
from dkp.geometry.camera import Camera
from dkp.synthetic.board import view as board_view
from dkp.synthetic.board.synthesis import MOST_TILT, sample_shot, synthesize_board
from dkp.synthetic.board.view import draw_background, draw_view, plane_coordinates

FRONTAL = np.array([[350.0, 0, 26], [0, 350.0, 17], [0, 0, 1]])  # board [m] to a 128 px image


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Capture:
    return synthesize_board(tmp_path_factory.mktemp("board") / "capture", views=40, size=96, seed=5, workers=1)


def labelled(capture, view):
    label = capture.label(view)
    rows, columns = np.nonzero(label.face >= 0)
    coordinates = capture.surface.coordinates(label.face[rows, columns], label.barycentric[rows, columns])
    return coordinates, np.column_stack([columns, rows]) + 0.5


def print_correlation(image: np.ndarray, coordinate: np.ndarray, mask: np.ndarray) -> float:
    sheet = cv2.blur(board_view._print(), (3, 3))
    x, y = (coordinate[mask][:, :2] * 1000).clip(0, [215, 269]).astype(int).T
    return float(np.corrcoef(sheet[y, x], image.mean(-1)[mask])[0, 1])


def test_layout(capture):
    assert len(capture.views) == 40
    assert [len(capture.instants(split)) for split in ("train", "test")] == [9, 1]
    for view in capture.views:
        assert view.undistorted
        assert view.size == (96, 96)


def test_labels_are_where_the_cameras_say(capture):
    vertices = capture.surface.vertices
    for view in capture.views[::3]:
        truth = capture.truth(view.frame)
        coordinates, pixels = labelled(capture, view)
        if not len(pixels):
            continue
        affine, *_ = np.linalg.lstsq(np.column_stack([vertices[:, :2], np.ones(len(vertices))]), truth, rcond=None)
        world = np.column_stack([coordinates[:, :2], np.ones(len(coordinates))]) @ affine
        projected, depth = capture.camera(view).project(torch.as_tensor(world))
        assert (depth > 0).all()
        np.testing.assert_allclose(projected.numpy(), pixels, atol=0.1)


def test_images_show_the_print_where_labels_say(capture):
    values = []
    for view in capture.views:
        coordinate = np.zeros((96, 96, 3))
        mask = capture.mask(view)
        coordinates, _ = labelled(capture, view)
        coordinate[mask] = coordinates
        values.append(print_correlation(capture.image(view), coordinate, mask))
    assert np.median(values) > 0.65
    shifted = [print_correlation(capture.image(v), np.roll(coordinate, 6, 1), mask) for v in [capture.views[-1]]]
    assert values[-1] > shifted[0] + 0.2


def test_boards_are_not_mirrored(capture):
    for view in capture.views:
        coordinates, pixels = labelled(capture, view)
        if len(pixels) > 100:
            homography = cv2.findHomography(coordinates[:, :2], pixels)[0]
            depth = homography[2, :2] @ coordinates[:, :2].mean(0) + homography[2, 2]
            assert np.linalg.det(homography) * depth > 0  # the sign of its Jacobian's determinant


def test_instants_give_pairs(capture):
    found = 0
    for instant in capture.instants():
        cameras = Camera.stack([capture.camera(view) for view in instant.views])
        found += len(eligible_pairs(cameras, torch.as_tensor(capture.truth(instant.frame).mean(0))))
    assert found >= 3 * len(capture.instants())


def test_same_arguments_give_the_same_files(tmp_path):
    first, second = (synthesize_board(tmp_path / name, views=8, size=32, seed=1, workers=1) for name in "ab")
    other = synthesize_board(tmp_path / "c", views=8, size=32, seed=2, workers=1)
    files = sorted(p.relative_to(first.path) for p in first.path.rglob("*") if p.is_file())
    assert all((first.path / file).read_bytes() == (second.path / file).read_bytes() for file in files)
    assert (first.path / first.views[0].image).read_bytes() != (other.path / other.views[0].image).read_bytes()


@pytest.mark.slow
def test_workers_do_not_change_the_files(tmp_path):
    one = synthesize_board(tmp_path / "one", views=400, size=32, workers=1)
    two = synthesize_board(tmp_path / "two", views=400, size=32, workers=2)
    for file in (p.relative_to(one.path) for p in one.path.rglob("*") if p.is_file()):
        assert (one.path / file).read_bytes() == (two.path / file).read_bytes()


def test_shots_tilt_and_turn():
    rng = np.random.default_rng(0)
    matrix = np.array([[700.0, 0, 640], [0, 700, 360], [0, 0, 1]])
    shots = [sample_shot(rng, matrix, rng.uniform(0, 2 * np.pi), 64) for _ in range(150)]
    tilts = []
    for shot in shots:
        centre = -shot.rotation.T @ shot.translation
        ray = centre - [*(BOARD_SIZE / 2), 0]
        assert ray[2] < 0  # before the print, never behind it
        tilts.append(np.degrees(np.arccos(-ray[2] / np.linalg.norm(ray))))
        np.testing.assert_allclose(shot.rotation @ shot.rotation.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(shot.rotation) > 0
    assert max(tilts) <= MOST_TILT + 1e-6
    assert max(tilts) > 60
    assert min(tilts) < 10
    angles = [np.arctan2(shot.rotation[1, 0], shot.rotation[0, 0]) for shot in shots]
    assert np.histogram(angles, 8, (-np.pi, np.pi))[0].min() > 3


def test_hands_and_what_is_cut_off_are_not_board(monkeypatch):
    rng = np.random.default_rng(0)
    left = draw_view(FRONTAL, 128, rng, np.array([0, 0, 64, 128])).mask
    assert not left[:, 64:].any()
    assert left[:, 30:60].sum() > 1000

    def hand(homography, size, rng):
        cover = np.zeros((size, size), np.float32)
        cover[40:60, 50:70] = 1
        return np.full((size, size, 3), 200, np.float32), cover

    monkeypatch.setattr(board_view, "_hand", hand)
    covered = [not draw_view(FRONTAL, 128, np.random.default_rng(seed)).mask[40:60, 50:70].any() for seed in range(20)]
    assert sum(covered) > 12  # most views have a hand


def test_coordinates_of_a_frontal_view():
    coordinate = plane_coordinates(FRONTAL, 128)
    np.testing.assert_allclose(coordinate[17, 26], [0.5 / 350, 0.5 / 350], atol=1e-6)
    assert coordinate.dtype == np.float32


def test_pixels_beyond_the_horizon_are_no_board():
    tilted = np.array([[300.0, 0, 30], [0, 300, 20], [0, 9.0, 0.2]])  # depth 0.2 + 9 y
    coordinate = plane_coordinates(tilted, 128)
    depth = 0.2 + 9 * coordinate[..., 1]
    on_board = ((coordinate >= 0) & (coordinate <= BOARD_SIZE)).all(-1)
    assert (depth[on_board] > 0).all()
    assert on_board.any()


def test_backgrounds_vary():
    images = [draw_background(64, np.random.default_rng(seed)).mean() for seed in range(12)]
    assert np.std(images) > 15


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"views": 6}, "views is 6"), ({"size": 8}, "size is 8"), ({"seed": -1}, "seed"), ({"workers": -1}, "workers")],
)
def test_bad_arguments(tmp_path, arguments, words):
    with pytest.raises(InputError, match=words):
        synthesize_board(tmp_path / "out", **arguments)
