"""Labels by triangulation, from exact and from partly wrong fields of a plane."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dkp.callbacks import PseudoLabelWriter
from dkp.callbacks.fields import sample_cells
from dkp.callbacks.pseudo_labels import InstantLabeller
from dkp.captures import Capture, CaptureWriter
from dkp.data import CaptureImages, MultiviewInstants, collate
from dkp.geometry import Camera, pixel_grid
from dkp.reconstruction import ReconstructionSettings, RegistrationSettings
from dkp.surface import Surface
from dkp.workers import Workers

SIDE, SIZE, CELLS = 0.4, 48, 16
ANGLES = {"a": -0.6, "b": -0.2, "c": 0.2, "d": 0.6}


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    """Four cameras, one with a lens, before the plane z = 0; the images are blank, their content plays no part."""
    cameras = {}
    for name, angle in ANGLES.items():
        cos, sin = np.cos(angle), np.sin(angle)
        rotation = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        cameras[name] = Camera.create(
            torch.tensor([[90.0, 0, SIZE / 2], [0, 90.0, SIZE / 2], [0, 0, 1]], dtype=torch.float64),
            rotation,
            np.array([0, 0, 1.0]) - rotation @ [SIDE / 2, SIDE / 2, 0],
            [-0.1, 0.02, 0, 0] if name == "d" else None,
            torch.tensor([SIZE, SIZE]),
        )
    path = tmp_path_factory.mktemp("plane") / "capture"
    with CaptureWriter(path, name="plane", surface=Surface.plane(SIDE, SIDE, 0.05), cameras=cameras) as writer:
        for time, frame in enumerate(("f0", "f1")):
            for name in cameras:
                joints = {"nose": (1.0, 2.0, 0.5)}
                image = np.full((SIZE, SIZE, 3), 40 * time, np.uint8)
                writer.add_view(frame, name, image, time=time, sequence="s", joints=joints, domain="x")
    return Capture.open(path)


def predicted(capture):
    """A batch of both instants at 32 px, and the exact field of each view."""
    instants = MultiviewInstants([CaptureImages(capture, None, 2 * SIZE, labels=False)], 32, 2)
    batch = collate([instants[0], instants[1]])
    camera = batch["camera"]
    pixels = pixel_grid(CELLS, CELLS, 2).reshape(1, 1, -1, 2).expand(2, 4, -1, 2)
    near, far = (camera.unproject(pixels, torch.full(pixels.shape[:3], depth)) for depth in (0.5, 2.0))
    share = near[..., 2:] / (near[..., 2:] - far[..., 2:])
    point = near + share * (far - near)
    inside = ((point[..., :2] >= 0) & (point[..., :2] <= SIDE)).all(-1)
    coordinate = point.mT.unflatten(-1, (CELLS, CELLS)).contiguous()
    return batch, {"coordinate": coordinate, "foreground": inside.unflatten(-1, (CELLS, CELLS)).float()}


def write(capture, out, batch, prediction, *method, count=1, points=300, **settings):
    """Labels that one process, or several, write."""
    chosen = ReconstructionSettings(points=points, **settings)
    writing = CaptureWriter(out, name="pseudo", surface=capture.path / "surface.npz", cameras=capture.cameras)
    with writing as writer:
        make = partial(InstantLabeller, capture.path, writer.folder, chosen, *method)
        with Workers(make, count) as workers:
            labels = PseudoLabelWriter(workers, writer)
            labels.write_on_batch_end(SimpleNamespace(), SimpleNamespace(), prediction, None, batch, 0, 0)
            labels.on_predict_end(SimpleNamespace(), SimpleNamespace())
        writer.splits = {"train": labels.frames}
    return Capture.open(out), labels


def triangulate(capture, out, batch, prediction, **settings):
    return write(capture, out, batch, prediction, **{"shrinkage": 0.05, "min_views": 3} | settings)


def distances(capture, written):
    """Distance [px] of every label from where its surface point is truly seen, by camera."""
    result = {name: [] for name in ANGLES}
    for view in written.views:
        points = written.points(view)
        place = torch.from_numpy(capture.surface.coordinates(points.face, points.barycentric))
        pixels, _ = capture.camera(view).project(place)
        result[view.camera] += np.linalg.norm(points.pixels - pixels.numpy(), axis=1).tolist()
    return {name: np.array(values) for name, values in result.items()}


def test_labels_lie_where_the_surface_is_seen(capture, tmp_path):
    written, labels = triangulate(capture, tmp_path / "out", *predicted(capture))
    found = distances(capture, written)
    assert sum(map(len, found.values())) == labels.points
    for name, distance in found.items():  # also through the lens of camera d
        assert len(distance) > 2 * 200, name
        assert np.median(distance) < 0.4, name  # a cell of the field has 3 px of the image
        assert distance.max() < 3, name
    assert labels.frames == ["f0", "f1"]
    assert written.splits == {"train": ["f0", "f1"]}


def test_labels_do_not_depend_on_where_the_world_begins(capture, tmp_path):
    """A capture whose cameras stand kilometres from its origin; the detector's batches have one of their own."""
    shift = torch.tensor([3000.0, -2000.0, 500.0], dtype=torch.float64)
    cameras = {name: camera.about(-shift) for name, camera in capture.cameras.items()}
    with CaptureWriter(tmp_path / "far", name="far", surface=capture.surface, cameras=cameras) as writer:
        for view in capture.views:
            writer.add_view(view.frame, view.camera, capture.image(view), time=view.time)
    batch, prediction = predicted(capture)
    near, _ = triangulate(capture, tmp_path / "near", batch, prediction)
    far = Capture.open(tmp_path / "far")
    found, _ = triangulate(far, tmp_path / "out", batch | {"origin": [shift.tolist()] * 2}, prediction)
    for one, other in zip(near.views, found.views, strict=True):
        np.testing.assert_allclose(found.points(other).pixels, near.points(one).pixels, atol=1e-3)


def test_views_keep_their_images_and_lose_nothing_else(capture, tmp_path):
    written, _ = triangulate(capture, tmp_path / "out", *predicted(capture))
    assert len(written.views) == len(capture.views)
    for old, new in zip(capture.views, written.views, strict=True):
        assert (old.frame, old.camera, old.joints, old.domain) == (new.frame, new.camera, new.joints, new.domain)
        np.testing.assert_array_equal(capture.image(old), written.image(new))
        assert new.label is None


def test_the_mask_is_the_predicted_foreground(capture, tmp_path):
    batch, prediction = predicted(capture)
    written, _ = triangulate(capture, tmp_path / "out", batch, prediction)
    for view in written.views:
        pixels = pixel_grid(SIZE, SIZE, dtype=torch.float64).reshape(-1, 2)
        camera = capture.camera(view)
        near, far = (camera.unproject(pixels, torch.full((SIZE * SIZE,), z).double()) for z in (0.5, 2.0))
        point = near + near[:, 2:] / (near[:, 2:] - far[:, 2:]) * (far - near)
        true = ((point[:, :2] >= 0) & (point[:, :2] <= SIDE)).all(-1).reshape(SIZE, SIZE).numpy()
        mask = written.mask(view)
        assert (mask & true).sum() / (mask | true).sum() > 0.87  # its outline is that of cells of 3 px


def test_a_view_that_is_wrong_is_labelled_right(capture, tmp_path):
    """Camera b takes every place for one 15 cm further on: the other three overrule it."""
    batch, prediction = predicted(capture)
    wrong = prediction["coordinate"].clone()
    wrong[:, 1, 0] += 0.15
    written, _ = triangulate(capture, tmp_path / "out", batch, prediction | {"coordinate": wrong})
    distance = distances(capture, written)["b"]
    assert len(distance) > 200
    assert np.quantile(distance, 0.9) < 1.5  # what the view itself says is 13 px off


def test_views_that_do_not_agree_are_left_unlabelled(capture, tmp_path):
    batch, prediction = predicted(capture)
    prediction["foreground"][:, 1:] = 0
    written, labels = triangulate(capture, tmp_path / "out", batch, prediction)
    assert labels.points == 0
    assert all(view.points is None for view in written.views)
    assert len(written.views) == 8


def register(capture, out, batch, prediction, least_agreement=0.28, captured_masks=True, count=1, least_region=0.4):
    settings = RegistrationSettings(nodes=40, stiffness_final=10.0)
    method = "registration", settings, least_agreement, least_region, captured_masks
    return write(capture, out, batch, prediction, *method, count=count)


@pytest.mark.parametrize("method", [triangulate, register])
def test_processes_beside_this_one_write_the_same(capture, tmp_path, method):
    batch, prediction = predicted(capture)
    found = [method(capture, tmp_path / str(count), batch, prediction, count=count)[1] for count in (1, 2)]
    assert found[0].points == found[1].points > 0
    assert found[0].frames == found[1].frames == ["f0", "f1"]
    files = [path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*") if path.is_file()]
    assert len(files) > 20
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes(), file


def test_a_registered_surface_labels_what_it_shows(capture, tmp_path):
    written, labels = register(capture, tmp_path / "out", *predicted(capture))
    assert labels.frames == ["f0", "f1"]
    for name, distance in distances(capture, written).items():
        assert len(distance) > 2 * 200, name
        assert np.quantile(distance, 0.95) < 1.5, name  # half a cell
    for frame in ("f0", "f1"):
        posed = written.truth(frame)
        assert posed is not None
        assert np.quantile(np.linalg.norm(posed - written.surface.vertices, axis=1), 0.9) < 0.02


def test_a_registered_surface_is_seen_where_a_view_saw_nothing(capture, tmp_path):
    """Camera c finds no foreground; the others say where the surface is, and so what c shows."""
    batch, prediction = predicted(capture)
    prediction["foreground"][:, 2] = 0
    written, _ = register(capture, tmp_path / "out", batch, prediction)
    distance = distances(capture, written)["c"]
    assert len(distance) > 2 * 200
    assert np.quantile(distance, 0.95) < 1.5


def test_captured_masks_outline_the_registered_surface(capture, tmp_path):
    batch, prediction = predicted(capture)
    outline = prediction["foreground"].repeat_interleave(2, -2).repeat_interleave(2, -1) > 0.5
    batch = batch | {"mask": outline}
    spoilt = prediction | {"foreground": torch.ones_like(prediction["foreground"])}
    written, _ = register(capture, tmp_path / "out", batch, spoilt)
    for name, distance in distances(capture, written).items():
        assert np.quantile(distance, 0.95) < 1.5, name


def test_captured_masks_can_be_left_unseen(capture, tmp_path):
    """Also where there are some: the predicted foreground takes their place."""
    batch, prediction = predicted(capture)
    nothing = torch.zeros(*batch["present"].shape, 32, 32, dtype=torch.bool)
    nothing[..., 14:18, 14:18] = True
    written, _ = register(capture, tmp_path / "out", batch | {"mask": nothing}, prediction, captured_masks=False)
    plain, _ = register(capture, tmp_path / "plain", batch, prediction)
    for view, other in zip(written.views, plain.views, strict=True):
        np.testing.assert_array_equal(written.mask(view), plain.mask(other))
        np.testing.assert_array_equal(written.points(view).pixels, plain.points(other).pixels)


def test_instants_that_do_not_agree_with_a_surface_are_left_out(capture, tmp_path):
    batch, prediction = predicted(capture)
    generator = torch.Generator().manual_seed(0)
    prediction["coordinate"][0] += 0.2 * torch.randn(prediction["coordinate"][0].shape, generator=generator)
    written, labels = register(capture, tmp_path / "out", batch, prediction, least_agreement=0.4)
    assert (labels.frames, labels.refused) == (["f1"], ["f0"])
    assert {view.frame for view in written.views} == {"f1"}


def test_a_part_that_no_view_agrees_with_labels_nothing(capture, tmp_path):
    """The upper third of the plane is noise in all views: what the rest says of where it is, is not believed."""
    batch, prediction = predicted(capture)
    generator = torch.Generator().manual_seed(0)
    noise = 0.3 * torch.randn(prediction["coordinate"].shape, generator=generator)
    there = prediction["coordinate"][:, :, 1:2] > 0.67 * SIDE
    prediction["coordinate"] = prediction["coordinate"] + there * noise
    heights = {}
    for least in (0.0, 0.4):
        written, _ = register(capture, tmp_path / str(least), batch, prediction, least_region=least)
        points = [written.points(view) for view in written.views]
        found = [written.surface.coordinates(one.face, one.barycentric)[:, 1] for one in points]
        heights[least] = np.concatenate(found)
    assert (heights[0.0] > 0.85 * SIDE).mean() > 0.1
    assert (heights[0.4] > 0.85 * SIDE).mean() < 0.02
    assert (heights[0.4] < 0.5 * SIDE).sum() > 0.9 * (heights[0.0] < 0.5 * SIDE).sum()


def test_sample_cells():
    field = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    pixels = torch.tensor([[[2.0, 2.0], [4.0, 2.0], [4.0, 4.0], [6.0, 6.0], [7.9, 0.1], [8.1, 4.0]]])
    values = sample_cells(field, pixels, torch.tensor([[8.0, 8.0]]))
    assert values[0].tolist() == pytest.approx([0, 0.5, 1.5, 3, 1, 0], abs=1e-5)
