"""Tests of the in-memory views."""

import logging

import numpy as np
import pytest
import torch

from dkp.captures import Capture, DenseLabel
from dkp.captures.images import write_image
from dkp.captures.labels import write_dense_label, write_npz
from dkp.data.cache import CaptureImages
from dkp.errors import InputError
from dkp.geometry import Camera


def colours(surface, coordinate):
    """Coordinates as the fixture paints them."""
    centre, extent = surface.bounds
    return 127.5 + (coordinate - centre) / extent * 87.5


def worst_colour(images, index):
    """Greatest difference between the image and the colours of its label, away from the border."""
    label = images.label(index)
    shown = label.foreground
    inner = shown.copy()
    inner[1:-1, 1:-1] &= shown[:-2, 1:-1] & shown[2:, 1:-1] & shown[1:-1, :-2] & shown[1:-1, 2:]
    expected = colours(images.surface, label.coordinate[inner].astype(float))
    return np.abs(images.images[index][inner] - expected).max()


def test_reads_everything(capture):
    images = CaptureImages(capture, "train", joints=("nose", "neck"))
    assert images.images.shape == (8, 128, 128, 3)
    assert images.images.dtype == np.uint8
    assert len(images.instants) == 2
    assert images.frame[:4] == ["f00"] * 4
    assert images.camera_name[:4] == ["cam_0", "cam_1", "cam_2", "cam_3"]
    assert images.joints[0].tolist() == [[30, 40, pytest.approx(0.9)], [0, 0, 0]]
    assert images.labelled.all()
    view = capture.instants("train")[0].views[1]
    assert (images.images[1] == capture.image(view)).all()
    assert (images.mask(1) == capture.mask(view)).all()
    np.testing.assert_allclose(images.intrinsics[1], capture.camera(view).intrinsics.numpy())
    assert worst_colour(images, 1) < 1.5


def test_a_long_reading_says_how_far_it_is(capture, monkeypatch, capsys):
    CaptureImages(capture, "train")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("dkp.progress.FIRST", 0.0)
    monkeypatch.setattr("dkp.data.cache.CHUNK", 3)
    CaptureImages(capture, "train")
    said = capsys.readouterr().err
    assert f"reading {capture.path} split 'train': view 3 of 8" in said
    assert said.endswith("split 'train': done, 0.0 minutes\n")


def test_smaller_images_keep_label_and_camera(capture):
    images = CaptureImages(capture, "train", 48)
    whole = CaptureImages(capture, "train")
    assert images.images.shape == (8, 48, 48, 3)
    np.testing.assert_allclose(images.intrinsics[0][:2], whole.intrinsics[0][:2] * 48 / 128)
    assert worst_colour(images, 0) < 4
    assert abs(images.foreground.mean() - whole.foreground.mean()) < 0.01
    rows, columns = images.foreground[0].nonzero()
    all_rows, all_columns = whole.foreground[0].nonzero()
    assert abs((rows + 0.5).mean() * 128 / 48 - (all_rows + 0.5).mean()) < 0.3
    assert abs((columns + 0.5).mean() * 128 / 48 - (all_columns + 0.5).mean()) < 0.3


def test_side_does_not_enlarge(capture):
    assert CaptureImages(capture, "train", 500).side == 128


def test_cameras_and_frames_are_chosen(capture):
    images = CaptureImages(capture, None, 32, cameras=["cam_2", "cam_0"], frames=["f01", "f03"])
    assert images.frame == ["f01", "f01", "f03", "f03"]
    assert images.camera_name == ["cam_0", "cam_2"] * 2
    with pytest.raises(InputError, match="no camera 'cam_9', expected one of cam_0"):
        CaptureImages(capture, None, cameras=["cam_9"])
    with pytest.raises(InputError, match="no split 'other'"):
        CaptureImages(capture, "other")


def test_labels_can_be_left_out(capture):
    images = CaptureImages(capture, "train", labels=False)
    assert not images.labelled.any()
    assert images.label(0) is None
    assert images.nbytes() < 0.5 * CaptureImages(capture, "train").nbytes()


def test_charts(capture):
    images = CaptureImages(capture, "train", 64, charts=True)
    label = images.label(0)
    shown = label.foreground
    assert (label.part[shown] >= 1).all()
    assert (label.part[~shown] == 0).all()
    surface = capture.surface
    face, barycentric = surface.from_charts(label.part[shown], label.uv[shown].astype(float))
    error = np.linalg.norm(surface.coordinates(face, barycentric) - label.coordinate[shown], axis=-1)
    assert np.median(error) < 0.03


def test_views_without_foreground_are_skipped(make_capture, tmp_path, caplog):
    capture = make_capture(tmp_path / "some", frames=2, empty=[("f00", "cam_1")])
    with caplog.at_level(logging.WARNING):
        images = CaptureImages(capture, None, 64, require_labels=True)
    assert images.skipped == 1
    assert len(images) == 7
    assert ("f00", "cam_1") not in zip(images.frame, images.camera_name, strict=True)
    assert "skipped 1 of 8 views" in caplog.text
    assert CaptureImages(capture, None, 64, labels=False).skipped == 1
    assert CaptureImages(capture, None, 64, min_foreground=0).skipped == 0


def test_no_view_with_foreground_is_an_error(make_capture, tmp_path):
    capture = make_capture(tmp_path / "none", frames=1, angles=(0, 40), empty=[("f00", "cam_0"), ("f00", "cam_1")])
    with pytest.raises(InputError, match="none of its 2 views has a label with 16 or more"):
        CaptureImages(capture, None, 64, require_labels=True)
    with pytest.raises(InputError, match="none of its 2 views has a mask"):
        CaptureImages(capture, None, 64, labels=False)


def test_captures_without_labels(make_capture, tmp_path):
    capture = make_capture(tmp_path / "bare", frames=1, labels="none")
    assert not CaptureImages(capture, None, 64).labelled.any()
    with pytest.raises(InputError, match="none of its 4 views has a label"):
        CaptureImages(capture, None, 64, require_labels=True)


def test_sparse_labels(make_capture, tmp_path):
    capture = make_capture(tmp_path / "sparse", frames=1, labels="sparse")
    images = CaptureImages(capture, None, 64)
    assert images.labelled.all()
    assert (images.label_row == -1).all()
    points = images.points[0]
    expected = colours(images.surface, points.coordinate)
    column, row = np.floor(points.pixels).astype(int).T
    seen = images.images[0][row, column]
    assert np.median(np.abs(seen - expected)) < 4


def test_distorted_views_are_undistorted(make_capture, tmp_path, surface):
    """Colours are rendered without the lens: calling them distorted and undistorting moves image and label alike."""
    distortion = torch.tensor([-0.4, 0.1, 0.01, 0.0, 0.0])
    capture = make_capture(tmp_path / "lens", frames=1, labels="dense", distortion=distortion)
    images = CaptureImages(capture, None, 128)
    straight = capture.camera(capture.views[0])
    assert bool(straight.distortion.any())
    assert worst_colour(images, 0) < 8
    # A pixel of the stored image shows what the distorted image shows at the place the lens puts it.
    place = torch.tensor([[90.5, 40.5], [64.5, 30.5]], dtype=torch.float64)
    source = straight.distort(place).numpy()
    assert np.abs(source - place.numpy()).max() > 0.3
    original = capture.label(capture.views[0])
    for (x, y), (u, v) in zip(place.numpy(), source, strict=True):
        face = original.face[int(v), int(u)]
        expected = surface.coordinates(np.array([face]), original.barycentric[int(v), int(u)][None])[0]
        np.testing.assert_allclose(images.coordinate[0, int(y), int(x)].astype(float), expected, atol=1e-2)
    assert Camera.create(torch.from_numpy(images.intrinsics[0])).intrinsics.allclose(straight.intrinsics)


def test_views_that_are_not_square_are_padded(tmp_path, surface):
    from dkp.captures import Capture, CaptureWriter

    camera = Camera.create(torch.tensor([[100.0, 0, 40], [0, 100, 30], [0, 0, 1]]), image_size=torch.tensor([80.0, 60]))
    image = np.full((60, 80, 3), 90, np.uint8)
    with CaptureWriter(tmp_path / "wide", name="wide", surface=surface, cameras={"c": camera, "d": camera}) as writer:
        writer.add_view("f", "c", image, time=0)
        writer.add_view("f", "d", image, time=0)
    images = CaptureImages(Capture.open(tmp_path / "wide"), None, 40)
    assert images.images.shape == (2, 40, 40, 3)
    assert (images.images[0, :30] == 90).all()
    assert (images.images[0, 30:] == 0).all()
    np.testing.assert_allclose(images.intrinsics[0], [[50, 0, 20], [0, 50, 15], [0, 0, 1]])


def damage(capture, view, fault):
    """Spoil a file of a view."""
    image, label, mask = (capture.path / name for name in (view.image, view.label, view.mask))
    if fault == "image cut":
        image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    elif fault == "image empty":
        image.write_bytes(b"")
    elif fault == "image missing":
        image.unlink()
    elif fault == "image of another size":
        write_image(image, np.zeros((16, 16, 3), np.uint8))
    elif fault == "mask cut":
        mask.write_bytes(mask.read_bytes()[:60])
    elif fault == "label cut":
        label.write_bytes(label.read_bytes()[: label.stat().st_size // 2])
    elif fault == "label not a number":
        dense = capture.label(view)
        write_dense_label(label, DenseLabel(dense.face, np.where(dense.foreground[..., None], np.nan, 0)))


FAULTS = ["image cut", "image empty", "image missing", "image of another size", "mask cut", "label cut"]
FAULTS += ["label not a number"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_view_with_a_bad_file_is_left_out_and_counted(make_capture, tmp_path, caplog, fault):
    capture = make_capture(tmp_path / "c", frames=2, size=32)
    clean = CaptureImages(capture, None, 32)
    view = capture.views[5]
    damage(capture, view, fault)
    with caplog.at_level(logging.WARNING):
        images = CaptureImages(capture, None, 32)
    assert "skipped 1 of 8 views that cannot be used; the first: " in caplog.text
    assert len(images) == 7
    assert len(images.bad) == 1
    assert [len(views) for views in images.instants] == [4, 3]
    kept = [index for index in range(8) if index != 5]
    assert (images.images == clean.images[kept]).all()
    assert (images.coordinate == clean.coordinate[kept]).all()
    with pytest.raises(InputError, match=r"expected .*; data\.on_bad skip leaves such data out"):
        CaptureImages(capture, None, 32, on_bad="raise")


def test_a_posed_surface_that_is_no_number_is_unknown(make_capture, tmp_path, caplog):
    capture = make_capture(tmp_path / "c", frames=2, size=32)
    write_npz(capture.path / "truth" / "f01.npz", {"vertices": np.full((len(capture.surface.vertices), 3), np.nan)})
    with caplog.at_level(logging.WARNING):
        images = CaptureImages(capture, None, 32, truth=True)
    assert "skipped 1 of 2 posed surfaces" in caplog.text
    assert [vertices is None for vertices in images.vertices] == [False, True]


def test_a_capture_without_any_good_view_is_an_error(make_capture, tmp_path):
    capture = make_capture(tmp_path / "c", frames=1, size=32)
    for view in capture.views:
        (capture.path / view.image).unlink()
    with pytest.raises(InputError, match=r"none of its 4 views can be read; the first: .*cam_0"):
        CaptureImages(capture, None, 32)


def test_joints_are_kept_of_captures_that_have_any(people):
    names = [
        CaptureImages(Capture.open(people / name), None, joints=("nose",)).joint_names for name in ("joints", "bare")
    ]
    assert names == [("nose",), ()]
