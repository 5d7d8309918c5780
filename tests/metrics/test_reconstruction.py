"""dkp/metrics/reconstruction.py against NumPy and SciPy."""

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from dkp.errors import InputError
from dkp.metrics import KeypointError3D, ReprojectionResidual, SurfaceError3D, procrustes
from dkp.surface.closest import ClosestPoint


def surface_batch(seed, ball, batch=2, count=30):
    """A scaled ball as truth, its vertices found with noise, some of them not found and some not visible."""
    generator = torch.Generator().manual_seed(seed)
    size = 0.8 + 0.4 * torch.rand(batch, 1, 1, generator=generator, dtype=torch.float64)
    vertices = size * torch.from_numpy(ball.vertices)
    chosen = torch.randperm(len(ball.vertices), generator=generator)[:count]
    truth = vertices[:, chosen]
    points = truth + 0.02 * torch.randn(truth.shape, generator=generator, dtype=torch.float64)
    points[torch.rand(batch, count, generator=generator) < 0.3] = torch.nan
    visible = torch.rand(batch, count, generator=generator) < 0.7
    return points, truth, visible, vertices, torch.from_numpy(ball.faces)


def test_surface_error_against_numpy(ball):
    batches = [surface_batch(seed, ball) for seed in range(3)]
    metric = SurfaceError3D()
    errors, gaps, visible, recovered = [], [], 0, 0
    for points, truth, seen, vertices, faces in batches:
        metric.update(points, truth, seen, vertices, faces)
        for b, n in np.ndindex(*seen.shape):
            found = bool(points[b, n].isfinite().all())
            visible += bool(seen[b, n])
            recovered += bool(seen[b, n]) and found
            if found:
                errors.append(1000 * np.linalg.norm(points[b, n] - truth[b, n]))
                radius = float(vertices[b].norm(dim=-1).max())
                gaps.append(1000 * abs(np.linalg.norm(points[b, n]) - radius))
    value = {name: found.item() for name, found in metric.compute().items()}
    assert value["surface_median_mm"] == pytest.approx(np.median(errors), rel=1e-5)
    assert value["surface_mean_mm"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert value["surface_recovered"] == pytest.approx(recovered / visible)
    assert value["surface_points"] == len(errors)
    # the mesh lies up to 5 mm inside the sphere that the reference takes
    assert value["to_surface_mean_mm"] == pytest.approx(np.mean(gaps), abs=3)
    assert value["to_surface_median_mm"] == pytest.approx(np.median(gaps), abs=3)
    assert value["to_surface_mean_mm"] < 0.8 * value["surface_mean_mm"]


def test_exact_points_have_no_error(ball):
    _, truth, visible, vertices, faces = surface_batch(0, ball)
    metric = SurfaceError3D()
    metric.update(truth, truth, visible, vertices, faces)
    value = metric.compute()
    assert value["surface_mean_mm"] == 0
    assert value["to_surface_mean_mm"] < 1e-3
    assert value["surface_recovered"] == 1


def test_nothing_recovered_is_a_warning(ball):
    points, truth, visible, vertices, faces = surface_batch(0, ball)
    metric = SurfaceError3D()
    metric.update(torch.full_like(points, torch.nan), truth, visible, vertices, faces)
    with pytest.warns(UserWarning, match="no recovered point"):
        value = metric.compute()
    assert value["surface_median_mm"].isnan()
    assert value["surface_recovered"] == 0
    with pytest.raises(InputError, match="expected"):
        metric.update(points, truth[:, 1:], visible, vertices, faces)


def test_surface_error_in_two_processes(ball, assert_same_in_two_processes):
    assert_same_in_two_processes(SurfaceError3D, [surface_batch(seed, ball) for seed in range(3)])


def test_the_closest_point_of_a_surface_has_the_least_distance(ball):
    points = np.random.default_rng(0).normal(size=(40, 3)) * 0.5
    corners = ball.vertices[ball.faces]
    rng = np.random.default_rng(1)
    weights = rng.dirichlet([0.6, 0.6, 0.6], size=150)
    dense = np.einsum("sk,fki->fsi", weights, corners).reshape(-1, 3)
    sampled = np.array([np.linalg.norm(dense - point, axis=1).min() for point in points])
    found = ClosestPoint(ball.vertices, ball.faces)(points)[2]
    assert (found <= sampled + 1e-9).all()
    np.testing.assert_allclose(found, sampled, atol=0.01)


def keypoint_batch(seed, batch=3, joints=7):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(batch, joints, 3, generator=generator)
    points = truth + 0.1 * torch.randn(batch, joints, 3, generator=generator) + 0.05
    points[torch.rand(batch, joints, generator=generator) < 0.2] = torch.nan
    points[0, 2:] = torch.nan  # two keypoints: too few for a similarity
    truth[1, 0] = torch.nan
    return points, truth


def best_similarity(points, truth):
    """By a general minimiser over rotation vector, scale and shift."""

    def moved(parameters):
        return parameters[6] * points @ Rotation.from_rotvec(parameters[:3]).as_matrix().T + parameters[3:6]

    found = least_squares(lambda p: (moved(p) - truth).ravel(), [0.0] * 6 + [1.0], xtol=1e-13, ftol=1e-13, gtol=1e-13)
    return moved(found.x)


def test_keypoint_error_against_numpy():
    batches = [keypoint_batch(seed) for seed in range(3)]
    metric = KeypointError3D()
    plain, aligned, right, known = [], [], 0, 0
    for points, truth in batches:
        metric.update(points, truth)
        for own, true in zip(points.double().numpy(), truth.double().numpy(), strict=True):
            there = np.isfinite(true).all(1)
            found = there & np.isfinite(own).all(1)
            known += there.sum()
            error = 1000 * np.linalg.norm(own[found] - true[found], axis=1)
            plain += error.tolist()
            right += (error < 150).sum()
            if found.sum() >= 3:
                fitted = best_similarity(own[found], true[found])
                aligned += (1000 * np.linalg.norm(fitted - true[found], axis=1)).tolist()
    value = {name: found.item() for name, found in metric.compute().items()}
    assert value["mpjpe_mm"] == pytest.approx(np.mean(plain), rel=1e-5)
    assert value["pa_mpjpe_mm"] == pytest.approx(np.mean(aligned), rel=1e-4)
    assert value["pck3d_150"] == pytest.approx(right / known)
    assert value["keypoints_found"] == pytest.approx(len(plain) / known)
    assert value["pa_mpjpe_mm"] < value["mpjpe_mm"]


def test_keypoint_error_in_two_processes(assert_same_in_two_processes):
    assert_same_in_two_processes(KeypointError3D, [keypoint_batch(seed) for seed in range(3)])


def test_procrustes_takes_out_a_similarity_but_no_mirroring():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(5, 8, 3, generator=generator, dtype=torch.float64)
    turn = torch.from_numpy(Rotation.random(5, random_state=0).as_matrix())
    points = 0.3 * target @ turn.mT + 4
    assert (procrustes(points, target) - target).abs().max() < 1e-9
    mirrored = points * torch.tensor([-1.0, 1, 1], dtype=torch.float64)
    assert (procrustes(mirrored, target) - target).norm(dim=-1).mean() > 0.3


def test_procrustes_fits_the_masked_points_and_moves_all():
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(1, 6, 3, generator=generator, dtype=torch.float64)
    points = 2 * target - 1
    points[0, 5] = torch.tensor([100.0, 0, 0])
    mask = torch.ones(1, 6, dtype=torch.bool)
    mask[0, 5] = False
    moved = procrustes(points, target, mask)
    assert (moved - target)[0, :5].abs().max() < 1e-9
    torch.testing.assert_close(moved[0, 5], (points[0, 5] + 1) / 2)


def residual_batch(seed):
    generator = torch.Generator().manual_seed(seed)
    views = torch.randint(0, 6, (2, 20), generator=generator)
    views[views == 1] = 0
    residual = torch.rand(2, 20, generator=generator)
    return torch.where(views > 0, residual, torch.nan), views


def test_residual_against_numpy():
    batches = [residual_batch(seed) for seed in range(3)]
    metric = ReprojectionResidual()
    for batch in batches:
        metric.update(*batch)
    residual = np.concatenate([batch[0].numpy().ravel() for batch in batches])
    views = np.concatenate([batch[1].numpy().ravel() for batch in batches])
    value = {name: found.item() for name, found in metric.compute().items()}
    assert value["reprojection_median_px"] == pytest.approx(np.nanmedian(residual), rel=1e-5)
    assert value["reprojection_mean_px"] == pytest.approx(np.nanmean(residual), rel=1e-5)
    assert value["triangulated"] == pytest.approx((views > 0).mean())
    assert value["triangulated_views"] == pytest.approx(views[views > 0].mean())


def test_no_triangulated_point_is_a_warning():
    metric = ReprojectionResidual()
    metric.update(torch.full((1, 4), torch.nan), torch.zeros(1, 4, dtype=torch.long))
    with pytest.warns(UserWarning, match="no triangulated point"):
        value = metric.compute()
    assert value["triangulated"] == 0
    assert value["reprojection_median_px"].isnan()


def test_residual_in_two_processes(assert_same_in_two_processes):
    assert_same_in_two_processes(ReprojectionResidual, [residual_batch(seed) for seed in range(3)])
