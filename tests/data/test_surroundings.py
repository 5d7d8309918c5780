"""Other surroundings of labelled views, on images whose colours are the labels."""

import cv2
import numpy as np
import pytest

from dkp.data import Augmentation, CaptureImages, LabelledViews, SemiSupervisedDataModule
from dkp.data.surroundings import Surroundings, read_pictures
from dkp.errors import InputError

GREEN = (0, 255, 0)
STILL = {"geometric": 0.0, "photometric": 0.0}


@pytest.fixture
def folder(tmp_path):
    """Two pictures, all green, one of them below the folder."""
    (tmp_path / "sub").mkdir()
    for path, shape in ((tmp_path / "a.png", (40, 70, 3)), (tmp_path / "sub" / "b.jpg", (300, 200, 3))):
        cv2.imwrite(str(path), np.full(shape, GREEN, np.uint8))
    return str(tmp_path)


@pytest.fixture(scope="module")
def images(capture):
    return CaptureImages(capture, "train", 128, require_labels=True)


def sample(images, count=16, **options):
    """Images (N, S, S, 3) and labelled foregrounds (N, S, S) at stride 1."""
    views = LabelledViews([images], 128, 1, Augmentation(**STILL, **options))
    made = [views[i % len(views), i] for i in range(count)]
    return np.stack([one["image"] for one in made]).astype(float), np.stack([one["foreground"] for one in made])


def greenness(image):
    """How much greener than red and blue, of 255."""
    return image[..., 1] - np.maximum(image[..., 0], image[..., 2])


def eroded(mask):
    return cv2.erode(mask.astype(np.uint8), np.ones((5, 5))).astype(bool)


def test_background_is_replaced_and_subject_is_not(images, folder):
    plain, foreground = sample(images)
    image, same = sample(images, backgrounds=[folder], other_background=1.0)
    np.testing.assert_array_equal(foreground, same)
    for before, after, shown in zip(plain, image, foreground, strict=True):
        assert np.abs(after - before)[eroded(shown)].max() <= 1
        assert (greenness(after)[eroded(~shown)] > 60).all()


def test_what_stands_before_the_subject_is_background(images, folder):
    plain, foreground = sample(images, 32)
    image, visible = sample(images, 32, backgrounds=[folder], obstacles=1.0)
    assert not (visible & ~foreground).any()
    hidden = foreground & ~visible
    assert hidden.any(axis=(1, 2)).mean() > 0.5
    for before, after, seen, away in zip(plain, image, visible, hidden, strict=True):
        assert np.abs(after - before)[eroded(seen)].max(initial=0) <= 1
        assert (greenness(after)[eroded(away)] > 60).all()


def test_other_subjects_are_background(images):
    plain, foreground = sample(images, 32)
    image, visible = sample(images, 32, others=1.0)
    assert not (visible & ~foreground).any()
    changed = np.abs(image - plain).max(-1) > 30
    assert (changed & ~foreground).any(axis=(1, 2)).mean() > 0.8
    for differs, shown in zip(changed, visible, strict=True):
        assert not (differs & eroded(shown)).any()


def test_on_black_the_surroundings_are_black(images, folder):
    image, visible = sample(
        images, 32, backgrounds=[folder], other_background=1.0, obstacles=1.0, without_background=1.0
    )
    assert (image[~dilated(visible)] == 0).all()


def dilated(masks):
    return np.stack([cv2.dilate(one.astype(np.uint8), np.ones((3, 3))).astype(bool) for one in masks])


def test_pictures_are_squares(folder):
    pictures = read_pictures([folder])
    assert pictures.shape == (2, 192, 192, 3)
    assert np.abs(pictures.astype(int) - GREEN).max() <= 3
    part = Surroundings([folder], 1.0, 0.0, 0.0, 48).picture(np.random.default_rng(0))
    assert part.shape == (48, 48, 3)


def test_bad_input(tmp_path, folder):
    with pytest.raises(InputError, match=r"no picture found"):
        read_pictures([str(tmp_path / "sub" / "none")])
    (tmp_path / "sub" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken\.png: not a picture"):
        read_pictures([folder])
    with pytest.raises(InputError, match="backgrounds"):
        Augmentation(other_background=0.5)


def test_unlabelled_views_keep_their_surroundings(folder):
    given = Augmentation(backgrounds=[folder], other_background=1.0, others=1.0, obstacles=1.0)
    other = SemiSupervisedDataModule("nowhere", augmentation=given).unlabelled_augmentation
    assert (other.other_background, other.others, other.obstacles) == (0, 0, 0)
