"""Tests of the flow to the next frame."""

import numpy as np
import pytest

from dkp.data import Augmentation, CaptureImages, MultiviewInstants, collate
from dkp.errors import InputError

GEOMETRIC = Augmentation(rotate=40, scale=(0.9, 1.2), shift=0.05, geometric=1.0, photometric=0)


def sampled(image, pixels):
    """Colours of an image (3, S, S) at pixels (N, 2), bilinear."""
    x, y = (pixels - 0.5).T
    c, r = np.floor(x).astype(int), np.floor(y).astype(int)
    u, v = x - c, y - r
    size = image.shape[-1] - 1
    c, r = c.clip(0, size - 1), r.clip(0, size - 1)
    return (
        image[:, r, c] * (1 - u) * (1 - v)
        + image[:, r, c + 1] * u * (1 - v)
        + image[:, r + 1, c] * (1 - u) * v
        + image[:, r + 1, c + 1] * u * v
    )


@pytest.mark.parametrize(("kind", "limit"), [("truth", 2.0), ("flow", 8.0)])
@pytest.mark.parametrize("augmentation", [None, GEOMETRIC])
def test_flow_leads_to_the_same_colour(capture, kind, limit, augmentation):
    """Colours are surface coordinates, so the flow has to lead from a colour to the same colour."""
    images = CaptureImages(capture, None, 128, labels=kind == "truth", next_frame=kind)
    assert images.next.view.tolist()[:4] == [4, 5, 6, 7]
    instants = MultiviewInstants([images], 64, 2, augmentation=augmentation, labels=False)
    batch = collate([instants[0, 1]])
    assert batch["flow"].shape == (1, 4, 2, 32, 32)
    assert batch["next_image"].shape == (1, 4, 3, 64, 64)
    y, x = np.mgrid[0:32, 0:32] * 2 + 1.0
    centres = np.stack([x, y], -1)
    errors, still = [], []
    for view in range(3):
        valid = batch["flow_valid"][0, view].numpy() & batch["mask"][0, view].numpy()[1::2, 1::2]
        assert valid.mean() > 0.1
        target = centres[valid] + batch["flow"][0, view].numpy().transpose(1, 2, 0)[valid]
        here = sampled(batch["image"][0, view].numpy() * 255, centres[valid])
        there = batch["next_image"][0, view].numpy() * 255
        errors.append(np.median(np.abs(here - sampled(there, target))))
        still.append(np.median(np.abs(here - sampled(there, centres[valid]))))
    assert max(errors) < limit, (errors, still)
    assert np.mean(still) > 2 * np.mean(errors), "the test would pass without any flow"


def test_the_last_frame_has_no_flow(capture):
    images = CaptureImages(capture, None, 64, next_frame="truth")
    instants = MultiviewInstants([images], 64, 2, labels=False)
    last = instants[3]
    assert not last["flow_valid"].any()
    assert (last["next_image"] == last["image"]).all()
    assert (last["flow"] == 0).all()


def test_hidden_surface_is_not_valid(capture):
    """Of the visible surface, some turns away before the next frame."""
    images = CaptureImages(capture, None, 128, next_frame="truth")
    shown = images.foreground[0]
    valid = images.next.valid[0]
    assert (valid <= shown).all()
    assert 0.7 < valid.sum() / shown.sum() < 0.99


def test_flow_needs_its_data(make_capture, tmp_path, capture):
    bare = make_capture(tmp_path / "bare", frames=2, truth=False)
    with pytest.raises(InputError, match=r"truth/f01\.npz is missing"):
        CaptureImages(bare, None, 64, next_frame="truth")
    unlabelled = make_capture(tmp_path / "unlabelled", frames=2, labels="none")
    with pytest.raises(InputError, match="view f00 of cam_0 has no dense label"):
        CaptureImages(unlabelled, None, 64, next_frame="truth")
    assert CaptureImages(unlabelled, None, 64, next_frame="flow").next.valid.any()
    with pytest.raises(InputError, match="no two views of one camera at consecutive times"):
        CaptureImages(capture, None, 64, frames=["f00", "f02"], next_frame="flow")
