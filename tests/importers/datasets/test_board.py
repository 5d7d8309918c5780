"""Import of the printed board: on a small recording drawn here, and on the real one where it is at hand."""

import csv
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dkp.captures import Capture
from dkp.captures.board import BOARD_SIZE, MARKER, SQUARE, SQUARES, BoardLabeller, board_surface
from dkp.captures.check import check_capture
from dkp.errors import InputError
from dkp.geometry import epipolar_distance, fundamental_matrix
from dkp.importers.cameras.registry import read_cameras
from dkp.importers.datasets.board import board_splits, import_board, view_homography
from dkp.importers.datasets.board_pose import Corners, read_corners, solve_pose

DATA = Path(os.environ.get("DKP_DATA", "")) / "board"
real = pytest.mark.skipif(
    not os.environ.get("DKP_DATA") or not DATA.is_dir(), reason="DKP_DATA is not set to the folder of real captures"
)

WIDTH, HEIGHT, FRAMES, FIRST = 320, 240, 12, 100
MATRIX = np.array([[300.0, 0, 158], [0, 302, 121], [0, 0, 1]])
LENS = np.array([-0.1, 0.02, 0.001, -0.001, 0.0])
CENTRES = ((0.0, 0.0, -0.6), (0.35, 0.1, -0.5), (0.1, 0.05, 0.6))  # the last camera is behind the board


def printed() -> np.ndarray:
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_1000)
    board = cv2.aruco.CharucoBoard(SQUARES, SQUARE, MARKER, dictionary)
    return 255 - board.generateImage((864, 1080))  # 4000 px a metre


def board_pose(frame: int) -> tuple[np.ndarray, np.ndarray]:
    rotation = Rotation.from_euler("xyz", [0.2 * np.sin(frame), 0.15 * np.cos(frame), 0.1 * frame]).as_matrix()
    return rotation, -rotation @ [*(BOARD_SIZE / 2), 0.0]


def rig() -> list[tuple[np.ndarray, np.ndarray]]:
    poses = []
    for centre in np.array(CENTRES):
        forward = -centre / np.linalg.norm(centre)
        right = np.cross([0.0, 1.0, 0.0], forward)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        poses.append((rotation, -rotation @ centre))
    return poses


def project(points: np.ndarray, pose: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """With OpenCV's convention: pixel centres at integers."""
    return cv2.projectPoints(points, cv2.Rodrigues(pose[0])[0], pose[1], MATRIX, LENS)[0].reshape(-1, 2)


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recording")
    tables, rows = [], []
    sheet = cv2.GaussianBlur(cv2.resize(printed(), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), (0, 0), 1.5)
    normalised = cv2.undistortPoints(
        np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), -1).reshape(-1, 1, 2).astype(float), MATRIX, LENS
    )
    rays = np.concatenate([normalised[:, 0], np.ones((WIDTH * HEIGHT, 1))], 1)
    for number, pose in enumerate(rig()):
        tables.append(
            f"[cameras.{number}]\nsize = [{WIDTH}, {HEIGHT}]\nmatrix = {MATRIX.tolist()}\n"
            f"distortions = {LENS.tolist()}\nrotation = {pose[0].tolist()}\ntranslation = {pose[1].tolist()}\n"
        )
        video = cv2.VideoWriter(str(folder / f"cam_{number}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
        for frame in range(FRAMES):
            rotation, translation = board_pose(frame)
            to_camera = pose[0] @ np.column_stack([rotation[:, :2], translation])
            to_camera[:, 2] += pose[1]
            points = rays @ np.linalg.inv(to_camera).T
            x, y = (points[:, i] / points[:, 2] * 2000 - 0.5 for i in range(2))
            shape = (HEIGHT, WIDTH)
            grey = cv2.remap(
                sheet, x.reshape(shape).astype(np.float32), y.reshape(shape).astype(np.float32), cv2.INTER_LINEAR,
                borderValue=60,
            )  # fmt: skip
            video.write(cv2.merge([grey] * 3))
            corners = [(i * SQUARE, j * SQUARE) for j in range(1, 5) for i in range(1, 4)]
            world = np.array([rotation @ [*corner, 0] + translation for corner in corners])
            for index, (corner, pixel) in enumerate(zip(corners, project(world, pose), strict=True)):
                rows.append([FIRST + frame, number, 7 + frame, index, *pixel, *corner])
        video.release()
    (folder / "camera_array.toml").write_text("\n".join(tables))
    with (folder / "xy.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        names = "sync_index cam_id frame_index keypoint_id img_loc_x img_loc_y obj_loc_x obj_loc_y"
        writer.writerows([names.split(), *rows])
    return folder


@pytest.fixture(scope="module")
def capture(recording, tmp_path_factory) -> Capture:
    return import_board(recording, tmp_path_factory.mktemp("board") / "capture", size=96, workers=1)


def positions(capture: Capture, view) -> tuple[np.ndarray, np.ndarray]:
    """Labelled board positions (N, 3) and pixels (N, 2) of a view."""
    label = capture.label(view)
    rows, columns = np.nonzero(label.face >= 0)
    coordinates = capture.surface.coordinates(label.face[rows, columns], label.barycentric[rows, columns])
    return coordinates, np.column_stack([columns, rows]) + 0.5


def correlation(capture: Capture, view) -> float:
    """Between the image and the print where the label says that it is."""
    coordinates, _ = positions(capture, view)
    x, y = (coordinates[:, :2] * 4000).clip(0, [863, 1079]).astype(int).T
    grey = capture.image(view).mean(-1)[capture.label(view).face >= 0]
    return float(np.corrcoef(cv2.blur(printed(), (15, 15))[y, x], grey)[0, 1])


def test_every_view_is_labelled_and_shows_the_print(capture):
    assert len(capture.views) == 3 * FRAMES
    for view in capture.views:
        assert correlation(capture, view) > 0.85
        np.testing.assert_array_equal(capture.mask(view), capture.label(view).face >= 0)


def test_the_back_is_stored_mirrored(capture):
    """So every stored view shows the print the same way round, and the cameras say which ones were flipped."""
    for view in capture.views:
        coordinates, pixels = positions(capture, view)
        assert np.linalg.det(cv2.findHomography(coordinates[:, :2], pixels)[0][:2, :2]) > 0
        assert (capture.camera(view).intrinsics[0, 0] < 0) == (view.camera == "cam_2")


def test_cameras_project_the_truth_onto_the_labels(capture):
    for view in capture.views[::5]:
        coordinates, pixels = positions(capture, view)
        truth = capture.truth(view.frame)
        at = np.linalg.norm(capture.surface.vertices[:, None] - coordinates[None, ::50], axis=-1).argmin(0)
        rotation, translation = Rotation.align_vectors(truth - truth.mean(0), capture.surface.vertices)[0], truth[0]
        world = rotation.as_matrix() @ coordinates[::50].T + (translation)[:, None]
        assert len(at) > 5
        projected, depth = capture.camera(view).project(torch.as_tensor(world.T))
        assert (depth > 0).all()
        # Stored weights have 11 bits and labels are for pixel centres: a hundredth of a pixel.
        np.testing.assert_allclose(projected.numpy(), pixels[::50], atol=0.05)


def test_epipolar_lines_of_labels(capture):
    instant = capture.instants()[3]
    first, second = instant.views[0], instant.views[2]
    line = fundamental_matrix(capture.camera(first), capture.camera(second))
    (ours, pixels), (theirs, others) = positions(capture, first), positions(capture, second)
    gap = np.linalg.norm(ours[::20, None, :2] - theirs[None, :, :2], axis=-1)
    nearest = gap.argmin(1)
    close = gap.min(1) < 0.001
    distance = epipolar_distance(torch.as_tensor(pixels[::20][close]), torch.as_tensor(others[nearest[close]]), line)
    assert close.sum() > 15
    assert distance.mean() < 0.5  # px; matches are to the nearest pixel


def test_corners_are_points(capture):
    """All twelve inner corners, and where the dense label has them, up to the rounding of its weights."""
    for view in capture.views[::4]:
        points = capture.points(view)
        found = capture.surface.coordinates(points.face, points.barycentric)
        expected = [(i * SQUARE, j * SQUARE, 0) for j in range(1, 5) for i in range(1, 4)]
        np.testing.assert_allclose(found, expected, atol=1e-7)
        coordinates, pixels = positions(capture, view)
        homography = cv2.findHomography(coordinates[:, :2], pixels)[0]
        placed = cv2.perspectiveTransform(found[None, :, :2], homography)[0]
        np.testing.assert_allclose(placed, points.pixels, atol=0.05)


def shifted(recording: Path, folder: Path, number: int, keep: int) -> Capture:
    """The recording with all corners of one camera 6 px lower, of which it keeps some."""
    folder.mkdir()
    for path in recording.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    with (folder / "xy.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    rows = [row for row in rows if int(row[1]) != number or int(row[3]) < keep]
    for row in rows:
        row[5] = float(row[5]) + 6 * (int(row[1]) == number)
    with (folder / "xy.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return import_board(folder, folder / "capture", size=96, workers=1)


def test_labels_disagree_where_corners_and_calibration_do(recording, capture, tmp_path):
    """As they do not with labels that all follow from one pose: those of a view with few corners."""
    exact = check_capture(capture).residuals
    assert exact["label"].source_mean < 0.1
    assert exact["points"].source_mean < 0.1
    wrong = check_capture(shifted(recording, tmp_path / "own", 1, keep=12))
    pairs = {tuple(pair.cameras): pair.residuals for pair in wrong.pairs}
    for kind in ("label", "points"):
        assert pairs["cam_0", "cam_1"][kind].source_mean > 1
        assert pairs["cam_0", "cam_2"][kind].source_mean < 0.1
    few = check_capture(shifted(recording, tmp_path / "posed", 1, keep=7))
    pairs = {tuple(pair.cameras): pair.residuals for pair in few.pairs}
    assert pairs["cam_0", "cam_1"]["points"].source_mean > 1
    assert pairs["cam_0", "cam_1"]["label"].source_mean < pairs["cam_0", "cam_1"]["points"].source_mean


def test_homography_of_a_view():
    board = np.array([(i * SQUARE, j * SQUARE) for j in range(1, 5) for i in range(1, 4)])
    true = np.array([[900.0, 80, 300], [-60, 950, 200], [0.3, -0.2, 1]])
    start = true + np.array([[20, -10, 8], [10, 15, -6], [0.05, 0.02, 0]])
    pixels = cv2.perspectiveTransform(board[None], true)[0]
    corners = BOARD_SIZE * [[0, 0], [1, 0], [0, 1], [1, 1]]
    expected = cv2.perspectiveTransform(corners[None], true)[0]

    def placed(count: int, noise: np.ndarray) -> np.ndarray | None:
        homography = view_homography(Corners(board[:count], pixels[:count] + noise[:count]), start)
        return None if homography is None else cv2.perspectiveTransform(corners[None], homography)[0]

    np.testing.assert_allclose(placed(8, np.zeros((12, 2))), expected, atol=1e-3)
    assert placed(7, np.zeros((12, 2))) is None
    one_wrong = np.zeros((12, 2))
    one_wrong[5] = [4, -3]
    plain = cv2.perspectiveTransform(corners[None], cv2.findHomography(board, pixels + one_wrong)[0])[0]
    error = np.linalg.norm(placed(12, one_wrong) - expected, axis=-1).max()
    assert error < 0.6 * np.linalg.norm(plain - expected, axis=-1).max()
    blur = np.random.default_rng(0).normal(0, 3, (12, 2))
    assert placed(8, blur) is None  # too uncertain
    assert placed(12, blur / 6) is not None


def test_splits_are_blocks():
    splits = board_splits([str(index) for index in range(48)])
    assert splits["test"][:5] == ["8", "9", "10", "11", "20"]
    assert len(splits["test"]) == 16
    assert set(splits["train"]) | set(splits["test"]) == {str(index) for index in range(48)}
    assert not set(splits["train"]) & set(splits["test"])
    assert splits["late"] == [str(index) for index in range(32, 48)]


def test_pose_survives_wrong_corners(recording):
    cameras = dict(enumerate(read_cameras(recording / "camera_array.toml", "toml", "m").values()))
    corners, indices = read_corners(recording / "xy.csv", cameras)
    assert indices[FIRST, 0] == 7
    views = {number: corners[FIRST + 4, number] for number in cameras}
    views[0].pixels[:2] += 15
    pose = solve_pose(views, cameras)
    rotation, translation = board_pose(4)
    np.testing.assert_allclose(pose.rotation, rotation, atol=0.01)
    np.testing.assert_allclose(pose.translation, translation, atol=0.003)


def test_labeller_gives_the_position_back():
    surface = board_surface()
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1, (20, 30, 2)) * BOARD_SIZE
    points[0, :3] = [[0, 0], BOARD_SIZE, [BOARD_SIZE[0], 0]]
    mask = rng.random((20, 30)) < 0.8
    mask[0, :3] = True
    label = BoardLabeller(surface).label(points, mask)
    np.testing.assert_array_equal(label.face >= 0, mask)
    found = surface.coordinates(label.face[mask], label.barycentric[mask])
    np.testing.assert_allclose(found[:, :2], points[mask], atol=1e-7)
    np.testing.assert_allclose(found[:, 2], 0, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "xy.csv").unlink(), "xy.csv is not there"),
        (lambda folder: (folder / "xy.csv").write_text("a,b\n1,2\n"), "has no column 'sync_index'"),
        (lambda folder: (folder / "cam_1.avi").unlink(), "cam_1"),
        (
            lambda folder: (folder / "xy.csv").write_text(
                (folder / "xy.csv").read_text().replace("100,2,7,", "100,9,7,", 1)
            ),
            "cam_id is 9",
        ),
        (
            lambda folder: (folder / "xy.csv").write_text(
                "\n".join((folder / "xy.csv").read_text().splitlines()[: 1 + 12 * (FRAMES - 1)])
            ),
            "has 12 frames, expected 11",
        ),
    ],
)
def test_bad_recordings_are_named(recording, tmp_path, change, words):
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in recording.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    change(folder)
    with pytest.raises(InputError, match=words):
        import_board(folder, tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_frames_that_cannot_be_decoded_are_left_out_and_counted(recording, capture, tmp_path, caplog):
    folder = tmp_path / "copy"
    shutil.copytree(recording, folder)
    path = folder / "cam_1.avi"
    content = bytearray(path.read_bytes())
    start = [found.start() for found in re.finditer(b"00dc", content) if found.start() > content.index(b"movi")][3] + 8
    content[start : start + 400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cam_1.avi: frame 3 of 12 cannot be decoded"):
        import_board(folder, tmp_path / "out", workers=1)
    partial = import_board(folder, tmp_path / "out", size=96, on_bad="skip", workers=1)
    assert "skipped 1 of its frames" in caplog.text
    lost = [view for view in capture.views if (view.camera, view.frame) == ("cam_1", f"{FIRST + 3:06d}")]
    assert len(partial.views) == len(capture.views) - len(lost) == len(capture.views) - 1
    for view in capture.views:
        if view not in lost:
            np.testing.assert_array_equal(partial.image(view), capture.image(view))
    assert partial.splits == capture.splits


def test_images_belong_to_corners_by_number_and_gaps_are_named(recording, capture, tmp_path, caplog):
    folder = tmp_path / "copy"
    shutil.copytree(recording, folder)
    video = cv2.VideoCapture(str(folder / "cam_1.avi"))
    images = [video.read()[1] for _ in range(FRAMES)]
    video.release()
    (folder / "cam_1.avi").unlink()
    (folder / "cam_1").mkdir()
    for number, image in enumerate(images, 1):
        if number != 5:
            cv2.imwrite(str(folder / "cam_1" / f"{number:04d}.png"), image)
    partial = import_board(folder, tmp_path / "out", size=96, workers=1)
    assert f"cam_1: no image for 1 of {FRAMES} frames (5)" in caplog.text
    lost = [view for view in capture.views if (view.camera, view.frame) == ("cam_1", f"{FIRST + 4:06d}")]
    assert len(lost) == 1
    assert len(partial.views) == len(capture.views) - 1
    for view in capture.views:
        if view not in lost:
            np.testing.assert_array_equal(partial.image(view), capture.image(view))


@pytest.fixture(scope="module")
def real_capture(tmp_path_factory) -> Capture:
    return import_board(DATA, tmp_path_factory.mktemp("real") / "capture")


@real
def test_real_counts(real_capture):
    assert len(real_capture.views) == 170
    assert sum(len(i.views) * (len(i.views) - 1) // 2 for i in real_capture.instants()) == 222
    assert [len(real_capture.instants(split)) for split in ("train", "test", "early", "late")] == [32, 16, 32, 16]


@real
def test_real_labels_show_the_print(real_capture):
    values = [correlation(real_capture, view) for view in real_capture.views[::3]]
    assert np.median(values) > 0.9
    assert min(values) > 0.35  # a reflection or an arm over the print, never a wrong place
    for view in real_capture.views[::3]:
        assert (real_capture.camera(view).intrinsics[0, 0] < 0) == (view.camera == "cam_1")


@real
def test_real_residuals_are_measured(real_capture):
    residuals = check_capture(real_capture).residuals
    assert sum(view.points is not None for view in real_capture.views) == 167
    assert 0.4 < residuals["label"].source_mean < 1.2  # px of the source frames
    assert 0.5 < residuals["points"].source_mean < 1.2
    assert residuals["label"].mean < 0.5 * residuals["label"].source_mean
