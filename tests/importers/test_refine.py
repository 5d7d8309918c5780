"""Refining extrinsics on corresponding points."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dkp.captures.rig import camera_from_arrays
from dkp.errors import InputError
from dkp.geometry import Camera, epipolar_distance, fundamental_matrix
from dkp.importers.refine import joint_observations, refine_extrinsics


def ring(count: int = 4, shift=None, turn=None):
    cameras = {}
    for index in range(count):
        angle = 2 * np.pi * index / count + 0.3
        centre = np.array([3 * np.cos(angle), 3 * np.sin(angle), 1.5])
        forward = -centre / np.linalg.norm(centre)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        if index and shift is not None:
            rotation = Rotation.from_rotvec(turn[index]).as_matrix() @ rotation
            centre = centre + shift[index]
        intrinsics = np.array([[1000.0, 0, 500], [0, 1000, 500], [0, 0, 1]])
        cameras[f"c{index}"] = camera_from_arrays(intrinsics, rotation, -rotation @ centre, np.zeros(5), (1000, 1000))
    return cameras


def observe(cameras, rng, noise=0.5, count=300, outliers=0.05):
    points = torch.as_tensor(rng.uniform(-0.6, 0.6, (count, 3)))
    views = {}
    for name, camera in cameras.items():
        pixels = camera.project(points)[0].numpy() + rng.normal(0, noise, (count, 2))
        wrong = rng.random(count) < outliers
        pixels[wrong] += rng.normal(0, 100, (wrong.sum(), 2))
        views[name] = np.column_stack([pixels, rng.uniform(0.3, 1, count)])
    return views


@pytest.fixture
def problem():
    rng = np.random.default_rng(3)
    truth = ring()
    return truth, ring(shift=rng.normal(0, 0.03, (4, 3)), turn=rng.normal(0, 0.006, (4, 3))), observe(truth, rng)


def test_moves_cameras_back(problem):
    truth, given, views = problem
    result = refine_extrinsics(given, views)
    assert np.mean(list(result.before.values())) > 5
    assert max(result.after.values()) < 1.0
    # Points that the fit has not seen, without noise: every pair agrees, but for the pull of the prior.
    fresh = observe(truth, np.random.default_rng(9), noise=0, outliers=0)
    for first, second in combinations(truth, 2):
        pixels = [torch.as_tensor(fresh[name][:, :2]) for name in (first, second)]
        line = fundamental_matrix(result.cameras[first], result.cameras[second])
        assert epipolar_distance(*pixels, line).mean() < 1.0


def test_first_camera_and_intrinsics_stay(problem):
    _, given, views = problem
    cameras = refine_extrinsics(given, views).cameras
    torch.testing.assert_close(cameras["c0"].rotation, given["c0"].rotation)
    torch.testing.assert_close(cameras["c0"].translation, given["c0"].translation)
    for name, camera in cameras.items():
        torch.testing.assert_close(camera.intrinsics, given[name].intrinsics)
        torch.testing.assert_close(camera.rotation @ camera.rotation.T, torch.eye(3, dtype=torch.float64))


def test_focal_lengths_come_back_and_the_lens_removes_what_it_removed():
    """Cameras that do not all look at one point: there, focal lengths and distances look alike."""
    rng = np.random.default_rng(5)
    place = {"shift": rng.normal(0, 0.4, (4, 3)), "turn": rng.normal(0, 0.12, (4, 3))}
    truth, lens = ring(**place), torch.tensor([-0.1, 0.03, 0.001, -0.002, 0.005], dtype=torch.float64)
    given = {}
    for name, factor in zip(truth, (1.02, 0.975, 1.03, 0.985), strict=True):
        camera = truth[name]
        matrix = camera.intrinsics * torch.tensor([[factor, 1, 1], [1, factor, 1], [1, 1, 1]])
        given[name] = Camera.create(matrix, camera.rotation, camera.translation, lens, camera.image_size)
    views = observe(truth, rng, count=2000)
    result = refine_extrinsics(given, views, focal=True)
    assert np.mean(list(result.before.values())) > 2
    assert max(result.after.values()) < 1.0
    pixels = torch.rand((50, 2), dtype=torch.float64) * 1000
    for name, camera in result.cameras.items():
        assert float(camera.intrinsics[0, 0]) == pytest.approx(1000, rel=0.01)
        torch.testing.assert_close(camera.undistort(pixels), given[name].undistort(pixels), atol=1e-6, rtol=0)


def test_exact_cameras_stay_where_they_are():
    truth = ring()
    result = refine_extrinsics(truth, observe(truth, np.random.default_rng(0), noise=0, outliers=0))
    for name, camera in result.cameras.items():
        torch.testing.assert_close(camera.translation, truth[name].translation, atol=1e-6, rtol=0)


def test_points_below_the_confidence_do_not_count(problem):
    _, given, views = problem
    for view in views.values():
        view[:, 2] = 0.1
    with pytest.raises(InputError, match="0 points are seen by two cameras"):
        refine_extrinsics(given, views)


def test_one_camera_is_an_error(problem):
    _, given, views = problem
    with pytest.raises(InputError, match="1 camera"):
        refine_extrinsics({"c0": given["c0"]}, views)


def test_observations_line_up_and_leave_out_the_face():
    joints = {
        "a": {0: {"left_knee": (1.0, 2.0, 0.5), "nose": (3.0, 4.0, 0.9)}, 1: {"neck": (5.0, 6.0, 0.7)}},
        "b": {1: {"left_knee": (7.0, 8.0, 0.6)}},
    }
    found = joint_observations(joints)
    assert found["a"].tolist() == [[1, 2, 0.5], [0, 0, 0], [0, 0, 0], [5, 6, 0.7]]
    assert found["b"].tolist() == [[0, 0, 0], [0, 0, 0], [7, 8, 0.6], [0, 0, 0]]
