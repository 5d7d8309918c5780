"""Tests of instants with several views."""

import logging

import numpy as np
import pytest
import torch

from dkp.data import Augmentation, CaptureImages, MultiviewInstants, Pairing, collate
from dkp.errors import InputError
from dkp.geometry import epipolar_distance, fundamental_matrix

GEOMETRIC = Augmentation(rotate=60, scale=(0.9, 1.2), shift=0.05, geometric=1.0, photometric=0)


@pytest.fixture(scope="module")
def images(capture):
    return CaptureImages(capture, "train", 128, joints=("nose", "neck"))


def test_evaluation_gives_all_views_and_pairs(images):
    instants = MultiviewInstants([images], 64, 2)
    batch = collate([instants[0], instants[1]])
    assert batch["image"].shape == (2, 4, 3, 64, 64)
    assert batch["camera"].shape == (2, 4)
    assert bool(batch["present"].all())
    assert batch["pairs"].shape == (2, 4, 2)
    assert bool(batch["pair_valid"].all())
    assert batch["mask"].shape == (2, 4, 64, 64)
    assert batch["has_label"].dtype == torch.bool
    assert batch["coordinate"].shape == (2, 4, 3, 32, 32)
    assert batch["joints"][0, 0].tolist() == [[15, 20, pytest.approx(0.9)], [0, 0, 0]]
    assert batch["frame"] == ["f00", "f01"]
    assert batch["camera_name"][0] == ["cam_0", "cam_1", "cam_2", "cam_3"]
    assert batch["image"].dtype == torch.float32
    assert 0.3 < float(batch["image"].max()) <= 1.0


@pytest.mark.parametrize("augmentation", [GEOMETRIC, Augmentation(perspective=0.15, photometric=0), None])
def test_labels_of_a_pair_satisfy_its_epipolar_geometry(images, augmentation):
    """The strongest check of images' cameras: equal labelled points lie on each other's epipolar lines."""
    instants = MultiviewInstants([images], 64, 1, views_per_instant=2, augmentation=augmentation)
    worst = []
    for serial in range(8):
        batch = collate([instants[serial % 2, serial]])
        assert bool(batch["pair_valid"].all())
        coordinate = batch["coordinate"][0].flatten(2).mT
        shown = batch["foreground"][0].flatten(1)
        first, second = coordinate[0][shown[0]], coordinate[1][shown[1]]
        y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
        pixels = torch.stack([x, y], -1).reshape(-1, 2)
        distance, nearest = torch.cdist(first, second).min(1)
        close = distance < 0.012
        assert int(close.sum()) > 15
        f = fundamental_matrix(batch["camera"][0, 0], batch["camera"][0, 1])
        residual = epipolar_distance(pixels[shown[0]][close], pixels[shown[1]][nearest[close]], f)
        worst.append(float(residual.median()))
    assert max(worst) < 0.6, worst


def test_training_draws_eligible_pairs_anew(images):
    instants = MultiviewInstants([images], 64, 2, views_per_instant=2, augmentation=GEOMETRIC)
    seen = set()
    for serial in range(40):
        sample = instants[0, serial]
        assert sample["pairs"].tolist() == [[0, 1]]
        assert sample["pair_valid"].all()
        seen.add(tuple(sample["camera_name"]))
    assert seen == {("cam_0", "cam_1"), ("cam_0", "cam_2"), ("cam_1", "cam_2"), ("cam_2", "cam_3")}
    a, b = instants[0, 3], instants[0, 3]
    assert (a["image"] == b["image"]).all()


def test_views_of_an_instant_are_changed_independently(images):
    sample = MultiviewInstants([images], 64, 2, views_per_instant=2, augmentation=GEOMETRIC)[0, 1]
    assert np.abs(sample["intrinsics"][0] - sample["intrinsics"][1]).max() > 1


def test_instants_with_fewer_views_are_padded(make_capture, tmp_path):
    capture = make_capture(tmp_path / "gap", frames=2, skip=[("f00", "cam_1"), ("f00", "cam_2")])
    instants = MultiviewInstants([CaptureImages(capture, None, 64)], 64, 2)
    batch = collate([instants[0], instants[1]])
    assert batch["present"].tolist() == [[True, True, False, False], [True] * 4]
    assert batch["camera_name"][0] == ["cam_0", "cam_3", "", ""]
    assert not bool(batch["pair_valid"][0].any()), "0 and 180 degrees form no pair"
    assert bool(batch["pair_valid"][1].all())
    assert not bool(batch["has_label"][0, 2])
    assert float(batch["image"][0, 2:].abs().max()) == 0
    f = fundamental_matrix(batch["camera"][:, 0], batch["camera"][:, 3])
    assert bool(torch.isfinite(batch["camera"].intrinsics).all())
    assert f.shape == (2, 3, 3)


def test_a_capture_without_pairs_still_gives_batches(images, caplog):
    with caplog.at_level(logging.WARNING):
        instants = MultiviewInstants([images], 64, 2, views_per_instant=2, pairing=Pairing(1, 2))
    assert "2 of 2 instants have no eligible pair" in caplog.text
    batch = collate([instants[0, 0], instants[1, 1]])
    assert not bool(batch["pair_valid"].any())
    assert bool(batch["present"].all())


def test_single_views_have_no_pair(images):
    batch = collate([MultiviewInstants([images], 64, 2, views_per_instant=1)[0]])
    assert batch["image"].shape[1] == 1
    assert batch["pairs"].shape == (1, 1, 2)
    assert not bool(batch["pair_valid"].any())


def test_labels_can_be_withheld(images):
    sample = MultiviewInstants([images], 64, 2, labels=False, masks=False)[0]
    assert not {"coordinate", "foreground", "known", "has_label", "mask"} & sample.keys()


def test_the_background_is_hidden_by_the_masks(images):
    hidden = MultiviewInstants([images], 64, 2, hide_background="constant")[0]
    assert (hidden["image"][~hidden["mask"]] == 0).all()
    assert hidden["image"][hidden["mask"]].mean() > 60


@pytest.mark.parametrize("bare", [1, 8])
def test_views_without_a_mask_keep_their_background_and_are_counted(capture, caplog, bare):
    images = CaptureImages(capture, "train", 128)
    images.mask_row[:bare] = -1
    hidden = MultiviewInstants([images], 64, 2, hide_background="constant")[0]["image"]
    plain = MultiviewInstants([images], 64, 2)[0]["image"]
    assert (hidden[0] == plain[0]).all()
    assert (hidden[1] == plain[1]).all() == (bare == 8)
    assert f"{bare} of 8 views have no mask and keep their background" in caplog.text


def test_several_captures(images, make_capture, tmp_path):
    other = CaptureImages(make_capture(tmp_path / "two", frames=1, angles=(0, 40)), None, 64, joints=("nose", "neck"))
    instants = MultiviewInstants([images, other], 64, 2)
    assert len(instants) == 3
    assert instants[2]["present"].tolist() == [True, True, False, False]
    plain = CaptureImages(make_capture(tmp_path / "three", frames=1, angles=(0, 40)), None, 64)
    with pytest.raises(InputError, match="need the same joints"):
        MultiviewInstants([images, plain], 64, 2)


@pytest.mark.parametrize("option", ["mirror", "without_background"])
def test_what_is_for_labelled_images_is_an_error_for_others(images, option):
    with pytest.raises(InputError, match=rf"augmentation\.{option} is for labelled images"):
        MultiviewInstants([images], 64, 2, augmentation=Augmentation(**{option: 0.5}))


def test_posed_surfaces_come_where_they_were_read(capture, images):
    read = MultiviewInstants([CaptureImages(capture, "train", 64, truth=True)], 64, 2)
    batch = collate([read[0], read[1]])
    assert batch["posed"].tolist() == [True, True]
    for row, frame in enumerate(batch["frame"]):
        np.testing.assert_allclose(batch["vertices"][row], capture.truth(frame), atol=1e-6)
    # they are in the world of the cameras: what the first view shows in its middle lies at the projected vertices
    pixels = batch["camera"].project(batch["vertices"][:, None])[0][0, 0]
    label = batch["coordinate"][0, 0, :, 16, 16]
    assert bool(batch["foreground"][0, 0, 16, 16])
    nearest = capture.surface.nearest_vertex(label.double().numpy())
    assert (pixels[int(nearest)] - 33).abs().max() < 5
    assert not {"vertices", "posed"} & MultiviewInstants([images], 64, 2)[0].keys()


def test_instants_without_a_known_surface(make_capture, tmp_path):
    capture = make_capture(tmp_path / "half", frames=2)
    (capture.path / "truth" / "f01.npz").unlink()
    instants = MultiviewInstants([CaptureImages(capture, None, 64, truth=True)], 64, 2)
    batch = collate([instants[0], instants[1]])
    assert batch["posed"].tolist() == [True, False]
    assert batch["vertices"].shape == (2, len(capture.surface.vertices), 3)
    assert not batch["vertices"][1].any()
    bare = make_capture(tmp_path / "bare", frames=1, truth=False)
    assert "posed" not in MultiviewInstants([CaptureImages(bare, None, 64, truth=True)], 64, 2)[0]
