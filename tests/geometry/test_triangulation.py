"""Triangulation from many views: exactness, outliers, missing observations, degenerate points, speed."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.optimize import least_squares

from dkp.geometry import Camera, triangulate

SIZE = 128


def ring(views=6, radius=4.0, away=(0.0, 0.0, 0.0), distortion=None, height=0.4):
    """Cameras on a circle, in turn above and below its plane, that look at its centre."""
    rotations, translations = [], []
    for number in range(views):
        angle = 2 * np.pi * number / views + 0.1
        centre = np.array([radius * np.sin(angle), height * (-1) ** number, radius * np.cos(angle)])
        z = -centre / np.linalg.norm(centre)
        x = np.cross(z, [0.0, 1.0, 0.0])
        x /= np.linalg.norm(x)
        rotation = np.stack([x, np.cross(z, x), z])
        rotations.append(rotation)
        translations.append(-rotation @ (centre + away))
    intrinsics = torch.tensor([[200.0, 0.5, 66.0], [0.0, 210.0, 61.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    return Camera.create(
        intrinsics.expand(views, 3, 3),
        np.stack(rotations),
        np.stack(translations),
        distortion,
        torch.full((views, 2), float(SIZE), dtype=torch.float64),
    )


def cloud(count, seed=0, spread=0.8):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(count, 3, generator=generator, dtype=torch.float64) - 0.5) * 2 * spread


def seen(cameras, points):
    return cameras.project(points.expand(*cameras.shape, *points.shape))[0]


def test_exact_points_come_back():
    cameras, points = ring(), cloud(500)
    found = triangulate(cameras, seen(cameras, points))
    assert found.points.dtype == torch.float64
    assert (found.points - points).abs().max() < 1e-9
    assert found.residual.max() < 1e-6
    assert (found.views == 6).all()
    assert found.inliers.all()
    assert (found.angle > 60).all()


def test_exact_points_through_a_lens_and_far_from_the_origin():
    away = (3000.0, -800.0, 500.0)
    cameras = ring(away=away, distortion=[0.1, -0.02, 0.001, -0.002, 0.0])
    points = cloud(200) + torch.tensor(away, dtype=torch.float64)
    assert (triangulate(cameras, seen(cameras, points)).points - points).abs().max() < 1e-6


def test_float32_observations_are_solved_in_float64():
    cameras, points = ring(), cloud(100)
    found = triangulate(cameras.to(torch.float32), seen(cameras, points).float())
    assert found.points.dtype == torch.float64
    assert (found.points - points).abs().max() < 1e-5


def test_batches_equal_single_instants():
    points = torch.stack([cloud(20, seed) for seed in range(3)])
    cameras = Camera.stack([ring(5, radius) for radius in (3.0, 4.0, 5.0)])
    pixels = cameras.project(points[:, None])[0] + 0.3 * torch.randn(3, 5, 20, 2, dtype=torch.float64)
    weights = torch.rand(3, 5, 20)
    together = triangulate(cameras, pixels, weights)
    for number in range(3):
        alone = triangulate(cameras[number], pixels[number], weights[number])
        torch.testing.assert_close(together.points[number], alone.points)
        torch.testing.assert_close(together.residual[number], alone.residual)
        assert torch.equal(together.inliers[number], alone.inliers)


def test_a_third_of_one_view_grossly_wrong_costs_nothing():
    """The other views are exact, so what is left of an outlier would show at once."""
    cameras, points = ring(), cloud(2000)
    pixels = seen(cameras, points)
    generator = torch.Generator().manual_seed(1)
    wrong = torch.rand(2000, generator=generator) < 0.3
    pixels[2, wrong] = torch.rand(int(wrong.sum()), 2, generator=generator, dtype=torch.float64) * SIZE
    found = triangulate(cameras, pixels)
    assert (found.points - points).abs().max() < 1e-6
    moved = (pixels[2] - seen(cameras, points)[2]).norm(dim=-1) > 5
    assert not found.inliers[2, moved].any()
    assert (found.views[moved] == 5).all()


def test_outliers_in_any_view_under_noise():
    """Each of the six observations of a point is wrong with probability 0.2: no single view can be trusted."""
    cameras, points = ring(), cloud(2000)
    generator = torch.Generator().manual_seed(2)
    noise = 0.5 * torch.randn(6, 2000, 2, generator=generator, dtype=torch.float64)
    clean = seen(cameras, points) + noise
    wrong = torch.rand(6, 2000, generator=generator) < 0.2
    pixels = torch.where(wrong[..., None], torch.rand(6, 2000, 2, generator=generator) * SIZE, clean).double()
    enough = (~wrong).sum(0) >= 4
    reference = (triangulate(cameras, clean, (~wrong).double()).points - points).norm(dim=-1)[enough]
    error = (triangulate(cameras, pixels).points - points).norm(dim=-1)[enough]
    assert error.isfinite().all()
    assert error.median() < 1.2 * reference.median()
    assert error.quantile(0.99) < 2 * reference.quantile(0.99)


def test_the_weighted_reprojection_error_is_least():
    """Against scipy's minimiser; a wide threshold makes the robust loss nearly a square."""
    cameras, points = ring(4), cloud(5, spread=0.3)
    generator = torch.Generator().manual_seed(3)
    pixels = seen(cameras, points) + 2 * torch.randn(4, 5, 2, generator=generator, dtype=torch.float64)
    weights = torch.rand(4, 5, generator=generator, dtype=torch.float64) + 0.1
    found = triangulate(cameras, pixels, weights, threshold=1e5)
    for number in range(5):

        def residuals(point, number=number):
            there = seen(cameras, torch.from_numpy(point)[None])[:, 0] - pixels[:, number]
            return (weights[:, number, None].sqrt() * there).flatten().numpy()

        best = least_squares(residuals, points[number].numpy(), xtol=1e-14, ftol=1e-14, gtol=1e-14)
        np.testing.assert_allclose(found.points[number], best.x, atol=1e-6)
        mean = np.sqrt(2 * best.cost / weights[:, number].sum().item())
        assert found.residual[number].item() == pytest.approx(mean, rel=1e-6)


def test_a_heavier_view_pulls_the_point():
    cameras, points = ring(3), cloud(50, spread=0.3)
    pixels = seen(cameras, points) + torch.randn(
        3, 50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4)
    )
    distances = []
    for weight in (0.1, 1.0, 10.0):
        weights = torch.ones(3, 50)
        weights[0] = weight
        found = triangulate(cameras, pixels, weights, threshold=50.0)
        distances.append((seen(cameras, found.points)[0] - pixels[0]).norm(dim=-1).mean().item())
    assert distances[0] > 1.5 * distances[1] > 1.5**2 * distances[2]


def test_missing_observations_take_no_part():
    cameras, points = ring(), cloud(100)
    pixels = seen(cameras, points)
    weights = torch.ones(6, 100)
    weights[3:, :50] = 0
    pixels[3:, :50] = torch.nan
    pixels[0, 50:] = torch.nan
    found = triangulate(cameras, pixels, weights)
    assert (found.points - points).abs().max() < 1e-9
    assert (found.views[:50] == 3).all()
    assert (found.views[50:] == 5).all()
    assert not found.inliers[3:, :50].any()


def test_one_view_or_none_gives_no_point():
    cameras, points = ring(), cloud(3)
    weights = torch.zeros(6, 3)
    weights[0, 1] = 1
    weights[:2, 2] = 1
    found = triangulate(cameras, seen(cameras, points), weights)
    assert found.valid.tolist() == [False, False, True]
    assert found.points.isfinite().all(-1).tolist() == [False, False, True]
    assert found.residual.isnan().tolist() == [True, True, False]
    assert found.angle.isnan().tolist() == [True, True, False]
    assert found.views.tolist() == [0, 0, 2]
    assert not triangulate(cameras, seen(cameras, points), min_views=7).valid.any()


def test_a_narrow_angle_is_refused():
    near = ring(240, height=0.0)[:3]  # 1.5 degrees apart
    points = cloud(10, spread=0.1)
    assert triangulate(near, seen(near, points), min_angle=2.5).valid.all()
    assert not triangulate(near, seen(near, points), min_angle=3.2).valid.any()
    found = triangulate(near, seen(near, points), min_angle=2.5)
    rays = torch.nn.functional.normalize(points - near.centre()[:, None], dim=-1)
    expected = torch.rad2deg(torch.acos((rays[0] * rays[2]).sum(-1)))
    torch.testing.assert_close(found.angle, expected, rtol=1e-6, atol=1e-6)


def test_a_camera_twice_gives_no_point():
    twice = ring()[torch.tensor([0, 0])]
    assert not triangulate(twice, seen(twice, cloud(5)), min_angle=0.0).points.abs().gt(1e6).any()
    assert not triangulate(twice, seen(twice, cloud(5))).valid.any()


def test_a_point_behind_the_cameras_is_refused():
    cameras = ring(3)
    behind = cameras.centre()[0] * 3  # in front of the others, behind the first
    pixels = seen(cameras, behind[None])
    found = triangulate(cameras, pixels)
    assert found.inliers[:, 0].tolist() == [False, True, True]
    assert not triangulate(cameras[:2], pixels[:2]).valid.any()


def test_views_that_disagree_give_no_point():
    cameras = ring(2 + 1)[:2]
    pixels = seen(cameras, cloud(20, spread=0.2))
    pixels[1, :, 1] += 30  # off the epipolar lines, which are nearly horizontal
    assert not triangulate(cameras, pixels).valid.any()


def test_views_of_very_different_scale():
    """A camera close by and one far away: their pixels stand for lengths that differ twentyfold."""
    near, far = ring(8, radius=1.0)[:1], ring(8, radius=20.0)[2:3]
    cameras = Camera.stack([near[0], far[0]])
    points = cloud(50, spread=0.1)
    generator = torch.Generator().manual_seed(5)
    pixels = seen(cameras, points) + 0.5 * torch.randn(2, 50, 2, generator=generator, dtype=torch.float64)
    assert triangulate(cameras, pixels).valid.all()


def test_bad_arguments():
    cameras, pixels = ring(), seen(ring(), cloud(4))
    for options, message in (
        ({"pixels": pixels[:5]}, "pixels have shape"),
        ({"weights": torch.ones(6, 5)}, "weights have shape"),
        ({"threshold": 0.0}, "threshold"),
        ({"min_angle": -1.0}, "min_angle"),
        ({"min_views": 1}, "min_views"),
    ):
        with pytest.raises(ValueError, match=message):
            triangulate(**{"cameras": cameras, "pixels": pixels} | options)


def test_autocast_changes_nothing():
    cameras, points = ring(), cloud(50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = triangulate(cameras, seen(cameras, points))
    assert (found.points - points).abs().max() < 1e-9


@pytest.mark.slow
def test_a_hundred_thousand_points_take_seconds():
    cameras, points = ring(), cloud(100_000)
    pixels = seen(cameras, points)
    start = time.process_time()
    found = triangulate(cameras, pixels)
    assert (found.points - points).abs().max() < 1e-6
    assert time.process_time() - start < 30


@given(
    seed=st.integers(0, 2**31 - 1),
    turn=st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3)),
    shift=st.tuples(*[st.floats(-50, 50)] * 3),
    views=st.integers(2, 6),
)
@settings(deadline=None, max_examples=25)
def test_points_move_with_the_world(seed, turn, shift, views):
    """Any rigid motion of the cameras' world moves the points with it, whatever the rig; errors in pixels stay."""
    cameras, points = ring(views), cloud(20, seed)
    noise = torch.randn(views, 20, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pixels = seen(cameras, points) + 0.1 * noise
    x, y, z = turn
    rotation = torch.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64))
    offset = torch.tensor(shift, dtype=torch.float64)
    moved = Camera.create(
        cameras.intrinsics,
        cameras.rotation @ rotation.mT,
        cameras.translation - (cameras.rotation @ rotation.mT @ offset),
        image_size=cameras.image_size,
    )
    before, after = triangulate(cameras, pixels), triangulate(moved, pixels)
    assert (before.valid == after.valid).all()
    found = before.valid
    torch.testing.assert_close(after.points[found], before.points[found] @ rotation.mT + offset, rtol=0, atol=1e-6)
    torch.testing.assert_close(after.residual[found], before.residual[found], rtol=0, atol=1e-6)
