"""Tests of single labelled views."""

import numpy as np
import pytest
import torch

from dkp.captures import Capture
from dkp.data import Augmentation, CaptureImages, LabelledViews, collate
from dkp.data.labelled import choose_labelled
from dkp.errors import InputError
from dkp.surface import Surface

GEOMETRIC = Augmentation(rotate=90, scale=(0.8, 1.2), shift=0.1, geometric=1.0, photometric=0)


def colours(surface, coordinate):
    """Coordinates (..., 3) as the fixture paints them."""
    centre, extent = surface.bounds
    return 127.5 + (coordinate - centre) / extent * 87.5


def cell_colours(batch, stride=2):
    """(B, H, W, 3) mean colour of each cell's pixels."""
    image = batch["image"].numpy() * 255
    b, c, h, w = image.shape
    return image.reshape(b, c, h // stride, stride, w // stride, stride).mean((3, 5)).transpose(0, 2, 3, 1)


def inner(foreground):
    """Cells whose four neighbours are foreground too."""
    kept = np.zeros_like(foreground)
    kept[:, 1:-1, 1:-1] = (
        foreground[:, 1:-1, 1:-1]
        & foreground[:, :-2, 1:-1]
        & foreground[:, 2:, 1:-1]
        & foreground[:, 1:-1, :-2]
        & foreground[:, 1:-1, 2:]
    )
    return kept


@pytest.fixture(scope="module")
def images(capture):
    return CaptureImages(capture, "train", 128, require_labels=True)


@pytest.mark.parametrize("augmentation", [None, GEOMETRIC, Augmentation(perspective=0.1, photometric=0)])
def test_image_and_label_agree(images, augmentation):
    """The colour of a cell is the coordinate that its label names."""
    views = LabelledViews([images], 64, 2, augmentation)
    batch = collate([views[i % len(views), i] for i in range(24)])
    assert batch["image"].shape == (24, 3, 64, 64)
    assert batch["coordinate"].shape == (24, 3, 32, 32)
    keep = inner(batch["foreground"].numpy())
    label = batch["coordinate"].permute(0, 2, 3, 1).numpy()
    error = np.abs(cell_colours(batch) - colours(images.surface, label))[keep].max(-1)
    one_cell = 87.5 / 0.6 * (1.6 / 32)
    assert keep.mean() > 0.15
    assert np.quantile(error, 0.99) < 0.15 * one_cell
    assert bool(batch["known"].all())


def test_camera_sees_the_labelled_point(images):
    """The batch's camera projects the labelled surface point, as posed, to the middle of its cell."""
    views = LabelledViews([images], 64, 2, GEOMETRIC)
    batch = collate([views[0, i] for i in range(12)])
    camera = batch["camera"]
    assert camera.image_size.tolist() == [[64.0, 64.0]] * 12
    # At time 0 the ellipsoid is posed as its template, so a coordinate is a world point.
    points = batch["coordinate"].flatten(2).mT
    pixels, _ = camera.project(points)
    y, x = np.mgrid[0:32, 0:32] * 2 + 1.0
    error = (pixels - torch.from_numpy(np.stack([x, y], -1).reshape(-1, 2)).float()).norm(dim=-1)
    keep = torch.from_numpy(inner(batch["foreground"].numpy())).flatten(1)
    assert float(error[keep].median()) < 0.1
    assert float(error[keep].quantile(0.99)) < 0.5


def test_samples_depend_on_seed_and_key_alone(images):
    first, again = LabelledViews([images], 64, 2, Augmentation()), LabelledViews([images], 64, 2, Augmentation())
    for key in [(3, 17), (0, 2), (3, 18), (3, 17)]:
        a, b = first[key], again[key]
        assert (a["image"] == b["image"]).all()
        assert (a["coordinate"] == b["coordinate"]).all()
    assert (first[3, 17]["image"] != first[3, 18]["image"]).any()
    other = LabelledViews([images], 64, 2, Augmentation(), seed=1)
    assert (first[3, 17]["intrinsics"] != other[3, 17]["intrinsics"]).any()


def test_the_background_may_be_missing_at_random(images):
    bare = LabelledViews([images], 64, 2, Augmentation(geometric=0, photometric=0, without_background=0.5))
    plain, hidden = LabelledViews([images], 64, 2, None)[1], LabelledViews([images], 64, 2, None, "constant")[1]
    shown = [bare[1, serial]["image"] for serial in range(40)]
    kinds = [(image == plain["image"]).all() for image in shown]
    assert all(kind or (image == hidden["image"]).all() for kind, image in zip(kinds, shown, strict=True))
    assert 8 < sum(kinds) < 32
    assert (hidden["image"] != plain["image"]).any()


def test_mirrored_images_show_the_other_side(images):
    plain = LabelledViews([images], 64, 2, None)
    flipped = LabelledViews([images], 64, 2, Augmentation(geometric=0, photometric=0, mirror=1.0))
    a, b = plain[1], flipped[1]
    assert (b["image"] == a["image"][:, ::-1]).mean() > 0.99
    assert (b["foreground"] == a["foreground"][:, ::-1]).mean() > 0.98
    both = b["foreground"] & a["foreground"][:, ::-1]
    expected = a["coordinate"][:, :, ::-1] * np.array([-1, 1, 1])[:, None, None]
    assert np.median(np.abs(b["coordinate"] - expected)[:, both]) < 0.02
    assert b["intrinsics"][0, 0] == -a["intrinsics"][0, 0]


def test_mirroring_needs_a_surface_with_sides(images, make_capture, tmp_path, surface):
    one_sided = Surface(
        "plain", surface.vertices, surface.faces, surface.face_part, surface.corner_uv, surface.part_names
    )
    make_capture(tmp_path / "c", frames=1)
    (tmp_path / "c" / "surface.npz").unlink()
    one_sided.save(tmp_path / "c" / "surface.npz")
    bare = CaptureImages(Capture.open(tmp_path / "c"), None, 64, require_labels=True)
    with pytest.raises(InputError, match=r"augmentation\.mirror needs a surface with left and right"):
        LabelledViews([bare], 64, 2, Augmentation(mirror=0.5))


@pytest.mark.parametrize("kind", ["constant", "noise"])
def test_hidden_background(images, kind):
    views = LabelledViews([images], 64, 2, None, hide_background=kind)
    plain = LabelledViews([images], 64, 2, None)
    a, b = plain[1]["image"], views[1]["image"]
    mask = plain[1]["foreground"].repeat(2, 0).repeat(2, 1)
    assert (a[mask] == b[mask]).mean() > 0.97
    outside = b[~mask]
    if kind == "constant":
        assert (outside == 0).mean() > 0.95
    else:
        assert 110 < outside.mean() < 145
        assert outside.std() > 50


def test_charts(capture):
    images = CaptureImages(capture, "train", 64, require_labels=True, charts=True)
    sample = LabelledViews([images], 64, 2, GEOMETRIC)[0]
    assert sample["part"].dtype == np.int64
    assert ((sample["part"] > 0) == sample["foreground"]).all()
    assert sample["uv"].shape == (2, 32, 32)
    with pytest.raises(InputError, match=r"augmentation\.mirror is for coordinate labels"):
        LabelledViews([images], 64, 2, Augmentation(mirror=0.5))


def test_sparse_labels(make_capture, tmp_path):
    capture = make_capture(tmp_path / "sparse", frames=1, labels="sparse")
    images = CaptureImages(capture, None, 128, require_labels=True)
    views = LabelledViews([images], 64, 2, GEOMETRIC)
    batch = collate([views[i % 4, i] for i in range(8)])
    shown = batch["foreground"].numpy()
    assert 10 < shown.sum() / 8 < 200
    background = batch["known"].numpy() & ~shown
    assert background.mean() > 0.4, "outside the mask is known background"
    assert (~batch["known"].numpy()).mean() > 0.1, "inside the mask, without a point, is unknown"
    error = np.abs(cell_colours(batch) - colours(images.surface, batch["coordinate"].permute(0, 2, 3, 1).numpy()))
    assert np.median(error[shown].max(-1)) < 8


def test_share_of_labels_is_nested_and_random(capture, make_capture, tmp_path):
    instants = make_capture(tmp_path / "many", frames=20, angles=(0, 40), size=32).instants()
    few, more = choose_labelled(instants, 0.2, 0), choose_labelled(instants, 0.5, 0)
    assert len(few) == 4
    assert len(more) == 10
    assert set(few) < set(more)
    assert choose_labelled(instants, 0.2, 1) != few
    assert choose_labelled(instants, 0.0, 0) == []
    assert choose_labelled(instants, 0.01, 0) != []
    with pytest.raises(InputError, match=r"labelled_share is 1\.5"):
        choose_labelled(instants, 1.5, 0)


def test_size_has_to_fit_the_stride(images):
    with pytest.raises(InputError, match="size is 65 where a multiple of the stride 2"):
        LabelledViews([images], 65, 2)
