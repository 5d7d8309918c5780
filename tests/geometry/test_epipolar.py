"""Fundamental matrices, epipolar distances, epipoles."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from dkp.geometry import (
    Camera,
    epipolar_distance,
    epipolar_lines,
    epipole,
    fundamental_matrix,
    pairwise_epipolar_distance,
)

KINDS = ("point_line", "symmetric", "sampson")
coordinate = st.floats(-1, 1)


def looking_at_origin(centre: list[float], size: int = 128, focal: float = 200.0, dtype=torch.float64) -> Camera:
    """A camera at ``centre`` [m] whose middle shows the origin, z up."""
    position = torch.tensor(centre, dtype=torch.float64)
    forward = -position / position.norm()
    right = torch.linalg.cross(forward, torch.tensor([0.0, 0, 1], dtype=torch.float64))
    right = right / right.norm()
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
    intrinsics = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]], dtype=torch.float64)
    return Camera.create(intrinsics, rotation, -rotation @ position, None, (size, size)).to(dtype)


def scene(count: int = 40) -> Tensor:
    """Points within 0.4 m of the origin."""
    return (torch.rand(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5) * 0.8


LEFT, RIGHT = [3.0, 0.2, 0.4], [1.5, 2.6, 0.9]


def in_unit(camera: Camera, scale: float) -> Camera:
    """The camera in a world measured in another unit."""
    return Camera.create(
        camera.intrinsics, camera.rotation, camera.translation * scale, camera.distortion, camera.image_size
    )


@given(
    first=st.tuples(coordinate, coordinate, coordinate),
    second=st.tuples(coordinate, coordinate, coordinate),
    unit=st.sampled_from([1.0, 1000.0]),
    crop=st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(10, 100)),
    mirrored=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_corresponding_points_lie_on_epipolar_lines(first, second, unit, crop, mirrored):
    """In metres or millimetres, and for a cropped, resized and mirrored second view."""
    left = looking_at_origin([3 + first[0], first[1], first[2]])
    scale = [64 / crop[2], 96 / crop[2]]
    matrix = [[scale[0], 0, -scale[0] * crop[0]], [0, scale[1], -scale[1] * crop[1]]]
    if mirrored:
        matrix[0] = [-scale[0], 0, 64 + scale[0] * crop[0]]
    right = looking_at_origin([second[0], 3 + second[1], second[2]]).transform(matrix, 64, 96)
    points = scene()
    x, other = left.project(points)[0], right.project(points)[0]
    matrix = fundamental_matrix(in_unit(left, unit), in_unit(right, unit))
    assert matrix.norm().item() == pytest.approx(1)
    for kind in KINDS:
        assert epipolar_distance(x, other, matrix, kind).max() < 1e-6
        assert epipolar_distance(other, x, matrix.mT, kind).max() < 1e-6
    homogeneous = [torch.nn.functional.pad(pixels, (0, 1), value=1.0) for pixels in (x, other)]
    assert torch.einsum("ni,ij,nj->n", homogeneous[1], matrix, homogeneous[0]).abs().max() < 1e-6
    assert torch.allclose(fundamental_matrix(right, left).mT.abs(), matrix.abs(), atol=1e-9)


def test_float32_is_exact_to_a_thousandth_of_a_pixel():
    left, right = (looking_at_origin(centre, dtype=torch.float32) for centre in (LEFT, RIGHT))
    points = scene().float()
    matrix = fundamental_matrix(left, right)
    assert matrix.dtype == torch.float32
    assert epipolar_distance(left.project(points)[0], right.project(points)[0], matrix).max() < 1e-3


def test_exchanged_views_miss_by_tens_of_pixels():
    left = looking_at_origin(LEFT, size=1024, focal=1600)
    right = looking_at_origin(RIGHT, size=1024, focal=1600)
    x, other = left.project(scene())[0], right.project(scene())[0]
    matrix = fundamental_matrix(left, right)
    assert epipolar_distance(x, other, matrix).max() < 1e-9
    assert epipolar_distance(other, x, matrix).median() > 10
    assert epipolar_distance(x, other, fundamental_matrix(right, left)).median() > 10


def test_lines_agree_with_opencv():
    left, right = looking_at_origin(LEFT), looking_at_origin(RIGHT)
    matrix = fundamental_matrix(left, right)
    x = left.project(scene())[0]
    expected = cv2.computeCorrespondEpilines(x.numpy()[:, None], 1, matrix.numpy())[:, 0]
    lines = epipolar_lines(x, matrix).numpy()
    sign = np.sign((expected * lines).sum(-1, keepdims=True))
    assert np.abs(lines - sign * expected).max() < 1e-4
    assert np.allclose(np.linalg.norm(lines[:, :2], axis=1), 1)


def test_the_three_distances_by_hand():
    """For F of a sideways motion the line of (x, y) is the row y, in both views."""
    matrix = torch.tensor([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    x, other = torch.tensor([[3.0, 5.0]]), torch.tensor([[-20.0, 9.0]])
    assert epipolar_distance(x, other, matrix).item() == pytest.approx(4)
    assert epipolar_distance(x, other, matrix, "symmetric").item() == pytest.approx(4)
    assert epipolar_distance(x, other, matrix, "sampson").item() == pytest.approx(4 / 2**0.5)


def test_sampson_is_the_nearest_exact_pair():
    """To first order: moving both pixels along the gradient by that much makes the pair exact."""
    left, right = looking_at_origin(LEFT), looking_at_origin(RIGHT)
    matrix = fundamental_matrix(left, right)
    x, other = left.project(scene())[0], right.project(scene())[0] + 0.01
    both = torch.cat([x, other], -1).requires_grad_()
    one = torch.nn.functional.pad(both[:, :2], (0, 1), value=1.0)
    two = torch.nn.functional.pad(both[:, 2:], (0, 1), value=1.0)
    residual = ((one @ matrix.T) * two).sum(-1)
    (gradient,) = torch.autograd.grad(residual.sum(), both)
    expected = residual.detach().abs() / gradient.norm(dim=-1)
    assert torch.allclose(epipolar_distance(x, other, matrix, "sampson"), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_pairwise_distances_contain_the_single_ones(kind):
    cameras = Camera.stack([looking_at_origin(LEFT), looking_at_origin(RIGHT)])
    others = Camera.stack([looking_at_origin([0.5, 3, 1]), looking_at_origin([-1.0, 2, 0])])
    matrix = fundamental_matrix(cameras, others)
    x, other = cameras.project(scene(9))[0], others.project(scene(9))[0] + 3
    pairwise = pairwise_epipolar_distance(x, other, matrix, kind)
    assert pairwise.shape == (2, 9, 9)
    assert torch.allclose(pairwise.diagonal(dim1=1, dim2=2), epipolar_distance(x, other, matrix, kind))
    moved = epipolar_distance(x[:, [2]], other[:, [5]], matrix, kind)
    assert torch.allclose(pairwise[:, 2, 5], moved[:, 0])


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="manhattan"):
        pairwise_epipolar_distance(torch.rand(3, 2), torch.rand(3, 2), torch.rand(3, 3), "manhattan")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_degenerate_geometry_stays_finite(kind):
    left = looking_at_origin(LEFT)
    assert fundamental_matrix(left, left.transform([[1.0, 0, -3], [0, 1, -4]], 50, 50)).abs().max() == 0
    x = torch.rand(5, 2, dtype=torch.float64, requires_grad=True)
    zero = epipolar_distance(x, x + 1, torch.zeros(3, 3), kind)
    (gradient,) = torch.autograd.grad(zero.sum(), x)
    assert torch.isfinite(zero).all()
    assert torch.isfinite(gradient).all()
    right = looking_at_origin(RIGHT)
    pole = epipole(left, right)[None]
    assert torch.isfinite(epipolar_distance(pole, pole + 5, fundamental_matrix(left, right), kind)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_distances(kind):
    matrix = fundamental_matrix(looking_at_origin(LEFT), looking_at_origin(RIGHT))
    x, other = (torch.rand(4, 2, dtype=torch.float64) * 100 for _ in range(2))
    inputs = (x.requires_grad_(), other.requires_grad_(), (matrix * 1.0).requires_grad_())
    assert torch.autograd.gradcheck(lambda *args: epipolar_distance(*args, kind), inputs)


def test_autocast_leaves_exact_points_exact():
    left, right = (looking_at_origin(centre, dtype=torch.float32) for centre in (LEFT, RIGHT))
    points = scene().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        matrix = fundamental_matrix(left, right)
        x, other = left.project(points)[0], right.project(points)[0]
        assert epipolar_distance(x, other, matrix).max() < 1e-3
        assert pairwise_epipolar_distance(x, other, matrix).diagonal().max() < 1e-3
        assert pairwise_epipolar_distance(x, other, matrix).dtype == torch.float32


def test_epipole_is_where_all_lines_meet():
    left, right = looking_at_origin(LEFT), looking_at_origin(RIGHT)
    matrix = fundamental_matrix(left, right)
    pole = torch.nn.functional.pad(epipole(left, right), (0, 1), value=1.0)
    assert (matrix @ pole).norm() < 1e-9 * pole.norm()
    other = torch.nn.functional.pad(epipole(right, left), (0, 1), value=1.0)
    assert (matrix.T @ other).norm() < 1e-9 * other.norm()


def test_epipole_of_a_sideways_motion_is_infinite():
    left = looking_at_origin(LEFT)
    right = Camera.create(
        left.intrinsics, left.rotation, left.translation - torch.tensor([1.0, 0, 0]), None, (128, 128)
    )
    assert torch.isinf(epipole(left, right)).all()
    assert torch.isnan(epipole(left, left)).all()
