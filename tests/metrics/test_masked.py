"""Entries that take no part in a metric may hold anything."""

import pytest
import torch
from torch import Tensor

from dkp.geometry import Camera
from dkp.metrics import (
    ForegroundIoU,
    GeodesicError,
    JointError,
    KeypointError3D,
    MultiviewConsistency,
    PartAccuracy,
    PointSimilarity,
    ReprojectionResidual,
    SurfaceError3D,
    procrustes,
)
from dkp.surface import Surface

BAD = [torch.nan, torch.inf, -torch.inf]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, equal_nan=True, msg=name)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("metric", [GeodesicError, PointSimilarity])
def test_labels_that_are_not_known(metric, bad):
    surface = Surface.plane(1.0, 1.0, 0.1)
    inside, known = draw(2, 6, 6) > 0.3, draw(2, 6, 6, seed=1) > 0.3
    label, found, foreground = (draw(2, *shape, 6, 6, seed=seed) for shape, seed in (((3,), 2), ((3,), 3), ((), 4)))
    results = []
    for spoil in (False, True):
        one = metric(surface)
        spoilt = torch.where((inside & known)[:, None], label, bad) if spoil else label
        one.update(found, foreground, spoilt, inside, known)
        results.append(one.compute())
    same(*results)


@pytest.mark.parametrize("bad", BAD)
def test_predictions_where_there_is_no_label(bad):
    inside, known = draw(2, 6, 6) > 0.5, draw(2, 6, 6, seed=1) > 0.5
    foreground = draw(2, 6, 6, seed=2)
    results, parts = [], []
    for values in (foreground, torch.where(known, foreground, bad)):
        one, other = ForegroundIoU(), PartAccuracy(parts=3)
        one.update(values, inside, known)
        logits = torch.stack([values, 1 - values, values / 2, values**2], 1)
        other.update(logits, (3 * draw(2, 6, 6, seed=3)).long() + 1, known)
        results.append(one.compute())
        parts.append(other.compute())
    same(*results)
    same(*parts)


@pytest.mark.parametrize("bad", BAD)
def test_points_that_were_not_found(bad):
    truth, points = draw(2, 8, 3).double(), draw(2, 8, 3, seed=1).double()
    found, known = draw(2, 8, seed=2) > 0.3, draw(2, 8, seed=3) > 0.2
    both = (found & known)[..., None]
    moved, again = (
        procrustes(torch.where(both, points, fill), torch.where(both, truth, fill), found & known)
        for fill in (0.0, bad)
    )
    torch.testing.assert_close(again[found & known], moved[found & known])
    results = []
    for fill in (torch.nan, bad):
        metric, surface = KeypointError3D(), SurfaceError3D()
        seen, place = torch.where(found[..., None], points, fill), torch.where(known[..., None], truth, fill)
        metric.update(seen, place)
        surface.update(seen, place, known, truth, torch.tensor([[0, 1, 2], [2, 3, 4]]))
        results.append(metric.compute() | surface.compute())
    assert all(bool(value.isfinite()) for value in results[0].values())
    same(*results)
    with pytest.raises(ValueError, match=r"mask is of type torch\.float32, expected torch\.bool"):
        procrustes(points, truth, found.float())


@pytest.mark.parametrize("bad", BAD)
def test_residuals_of_points_that_were_not_triangulated(bad):
    views = torch.tensor([[2, 0, 3]])
    results = []
    for fill in (0.0, bad):
        metric = ReprojectionResidual()
        metric.update(torch.tensor([[0.5, fill, 1.0]]), views)
        results.append(metric.compute())
    same(*results)


@pytest.mark.parametrize("bad", BAD)
def test_joints_that_were_not_detected(bad):
    surface = Surface.load("human")
    name = next(iter(surface.joints))
    results = []
    for fill in (0.0, bad):
        metric = JointError(surface, names=[name])
        joints = torch.tensor([[[4.0, 4.0, 0.9]], [[fill, fill, 0.0]]])
        metric.update(draw(2, 3, 4, 4), torch.ones(2, 4, 4), joints, torch.full((2, 2), 8.0))
        results.append(metric.compute())
    same(*results)


@pytest.mark.parametrize("bad", BAD)
def test_pairs_and_views_that_are_not_there(bad):
    intrinsics = torch.tensor([[50.0, 0.0, 32.0], [0.0, 50.0, 32.0], [0.0, 0.0, 1.0]])
    translation = torch.tensor([[[0.0, 0.0, 2.0], [-0.5, 0.0, 2.0], [0.5, 0.1, 2.0]]])
    camera = Camera.create(
        intrinsics.expand(1, 3, 3, 3), translation=translation, image_size=torch.tensor([64.0, 64.0])
    )
    pairs, valid = torch.tensor([[[0, 1], [0, 2]]]), torch.tensor([[True, False]])
    there = torch.tensor([[True, True, False]])
    field = draw(1, 3, 3, 8, 8)
    results = []
    for fill in (None, bad):
        one, cameras, foreground = field, camera, torch.ones(1, 3, 8, 8)
        if fill is not None:
            one = torch.where(there[..., None, None, None], field, fill)
            foreground = torch.where(there[..., None, None], foreground, fill)
            parts = {}
            for name in ("intrinsics", "rotation", "translation", "distortion", "image_size"):
                value = getattr(camera, name)
                parts[name] = torch.where(there.view(1, 3, *(1,) * (value.ndim - 2)), value, fill)
            cameras = Camera(**parts)
        metric = MultiviewConsistency(gate=0.5)
        metric.update(one, foreground, cameras, pairs, valid)
        results.append(metric.compute())
    assert results[0]["matched_share"] > 0
    same(*results)
