"""Camera: projection, lens, image transforms, containers, checks."""

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from dkp.geometry import Camera, pixel_grid

WIDE = [
    [-0.338, 0.0967, -0.00135, 0.00316, -0.0037],
    [0.19, -0.256, 0.0028, -0.005, 0.115],
]
small = st.floats(-0.5, 0.5)


def rotation_from(vector: list[float]) -> Tensor:
    """Rotation matrix of an axis-angle vector."""
    return torch.from_numpy(cv2.Rodrigues(np.array(vector))[0])


def wide_camera(lens: int = 0, focal: float = 640.0, dtype: torch.dtype = torch.float64) -> Camera:
    """A camera of 1280 x 720 px with a strong lens."""
    intrinsics = torch.tensor([[focal, 0, 650.0], [0, focal * 1.01, 355.0], [0, 0, 1]], dtype=dtype)
    rotation = rotation_from([0.2, -0.4, 0.1]).to(dtype)
    return Camera.create(intrinsics, rotation, [0.1, -0.2, 2.0], WIDE[lens], (1280, 720))


@pytest.mark.parametrize("lens", [0, 1])
@pytest.mark.parametrize("focal", [640.0, 900.0])
def test_projection_agrees_with_opencv(lens, focal):
    camera = wide_camera(lens, focal)
    grid = pixel_grid(9, 16, 80, dtype=torch.float64).reshape(-1, 2)
    points = camera.unproject(grid, torch.linspace(1, 5, len(grid), dtype=torch.float64))
    vector, _ = cv2.Rodrigues(camera.rotation.numpy())
    expected, _ = cv2.projectPoints(
        points.numpy(), vector, camera.translation.numpy(), camera.intrinsics.numpy(), camera.distortion.numpy()
    )
    assert np.abs(camera.project(points)[0].numpy() - expected[:, 0]).max() < 1e-6


@pytest.mark.parametrize("lens", [0, 1])
@pytest.mark.parametrize("focal", [640.0, 900.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_undistortion_agrees_with_opencv(lens, focal, dtype):
    camera = wide_camera(lens, focal, dtype)
    pixels = pixel_grid(45, 80, 16, dtype=dtype).reshape(-1, 2)
    intrinsics = camera.intrinsics.double().numpy()
    undistort = getattr(cv2, "undistortPointsIter", cv2.undistortPoints)  # two functions before OpenCV 5
    expected = undistort(
        pixels.double().numpy()[:, None],
        intrinsics,
        camera.distortion.double().numpy(),
        R=None,
        P=intrinsics,
        criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 1000, 1e-12),
    )[:, 0]
    found = camera.undistort(pixels)
    assert np.abs(found.numpy() - expected).max() < 1e-3
    assert (found - pixels).norm(dim=-1).max() > 20  # the lens does something
    assert (camera.distort(found) - pixels).abs().max() < 1e-3


@given(
    vector=st.tuples(small, small, small),
    offset=st.tuples(small, small, st.floats(2, 5)),
    lens=st.sampled_from([None, *WIDE]),
    depth=st.floats(0.2, 20),
    place=st.tuples(st.floats(0, 1280), st.floats(0, 720)),
)
@settings(deadline=None, max_examples=60)
def test_unprojection_inverts_projection(vector, offset, lens, depth, place):
    camera = wide_camera()
    camera = Camera.create(camera.intrinsics, rotation_from(list(vector)), offset, lens, (1280, 720))
    pixels = torch.tensor([place], dtype=torch.float64)
    point = camera.unproject(pixels, torch.tensor([depth], dtype=torch.float64))
    again, z = camera.project(point)
    assert (again - pixels).abs().max() < 1e-6
    assert z.item() == pytest.approx(depth, rel=1e-9)
    ray = camera.rays(pixels)
    assert torch.allclose(ray * (point - camera.centre()).norm(), point - camera.centre(), atol=1e-9)


@given(
    corner=st.tuples(st.floats(-200, 900), st.floats(-200, 500)),
    size=st.tuples(st.floats(20, 800), st.floats(20, 800)),
    out=st.tuples(st.integers(8, 512), st.integers(8, 512)),
    flip=st.booleans(),
    lens=st.sampled_from([0, 1]),
)
@settings(deadline=None, max_examples=60)
def test_transformed_images_see_transformed_pixels(corner, size, out, flip, lens):
    camera = wide_camera(lens)
    points = camera.unproject(pixel_grid(5, 9, 140, dtype=torch.float64).reshape(-1, 2), torch.full((45,), 3.0))
    pixels = camera.project(points)[0]
    scale = torch.tensor(out, dtype=torch.float64) / torch.tensor(size, dtype=torch.float64)
    shift = -scale * torch.tensor(corner, dtype=torch.float64)
    matrix = torch.cat([torch.diag(scale), shift[:, None]], 1)
    if flip:
        matrix[0] = torch.tensor([0, 0, out[0]]) - matrix[0]
    crop = camera.transform(matrix, *out)
    assert (crop.intrinsics[0, 0] < 0) == flip
    expected = pixels @ matrix[:, :2].T + matrix[:, 2]
    assert torch.allclose(crop.project(points)[0], expected, atol=1e-6)
    assert crop.image_size.tolist() == pytest.approx(out)
    assert torch.allclose(crop.undistort(expected), crop.without_distortion().project(points)[0], atol=1e-5)


@given(angle=st.floats(-3, 3), scale=st.floats(0.3, 3), shift=st.tuples(st.floats(-90, 90), st.floats(-90, 90)))
@settings(deadline=None, max_examples=40)
def test_affine_transform_with_rotation(angle, scale, shift):
    camera = wide_camera()
    points = camera.unproject(pixel_grid(5, 9, 140, dtype=torch.float64).reshape(-1, 2), torch.full((45,), 3.0))
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    matrix = torch.tensor([[c, -s, shift[0]], [s, c, shift[1]]], dtype=torch.float64)
    turned = camera.transform(matrix, 300, 200)
    expected = camera.project(points)[0] @ matrix[:, :2].T + matrix[:, 2]
    found, depth = turned.project(points)
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.allclose(turned.unproject(found, depth), points, atol=1e-8)


def test_a_pixel_centre_stays_one_under_resizing():
    """Convention: centres at integer + 0.5, so the middle of a 2 x 2 block is the centre of the halved pixel."""
    camera = Camera.create([[100.0, 0, 1.0], [0, 100.0, 1.0], [0, 0, 1]], image_size=(4, 4))
    assert camera.transform([[0.5, 0, 0], [0, 0.5, 0]], 2, 2).intrinsics[:2, 2].tolist() == [0.5, 0.5]
    assert camera.transform([[-1.0, 0, 4], [0, 1, 0]], 4, 4).intrinsics[0].tolist() == [-100.0, 0.0, 3.0]


def test_pixel_grid_places_cells():
    grid = pixel_grid(2, 3, 4)
    assert grid.shape == (2, 3, 2)
    assert grid[0, 0].tolist() == [2.0, 2.0]
    assert grid[1, 2].tolist() == [10.0, 6.0]


def test_points_at_and_behind_the_camera_are_finite():
    camera = Camera.create([[100.0, 0, 1.0], [0, 100.0, 1.0], [0, 0, 1]], distortion=WIDE[0])
    pixels, depth = camera.project(torch.tensor([[0.0, 0, 0], [0.0, 0, -1], [0.1, 0.2, -2]]))
    assert torch.isfinite(pixels).all()
    assert depth.tolist() == [0.0, -1.0, -2.0]


def test_gradients():
    camera = wide_camera(1)

    def run(pixels: Tensor, distortion: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        lens = Camera.create(camera.intrinsics, camera.rotation, camera.translation, distortion, (1280, 720))
        return lens.undistort(pixels), lens.project(lens.unproject(pixels, depth) * 1.05)[0]

    pixels = torch.tensor([[30.0, 40.0], [900.0, 600.0]], dtype=torch.float64, requires_grad=True)
    depth = torch.tensor([2.0, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (pixels, camera.distortion.clone().requires_grad_(), depth), atol=1e-3)


def test_autocast_does_not_round_pixels():
    camera = wide_camera(dtype=torch.float32)
    points = camera.unproject(pixel_grid(5, 9, 140).reshape(-1, 2), torch.full((45,), 3.0))
    expected = camera.project(points)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = camera.project(points)[0]
        half = camera.project(points.bfloat16())[0]
    assert torch.equal(found, expected)
    assert half.dtype == torch.float32


def test_batches_of_any_shape():
    single = [wide_camera(lens, focal) for lens in (0, 1) for focal in (600.0, 700.0, 800.0)]
    cameras = Camera.stack(single).reshape(2, 3)
    assert cameras.shape == (2, 3)
    assert cameras[1].shape == (3,)
    assert cameras[:, 1:].shape == (2, 2)
    assert cameras[..., 0].shape == (2,)
    assert cameras[None].shape == (1, 2, 3)
    assert cameras[torch.tensor([True, False])].shape == (1, 3)
    assert len(cameras[0]) == 3
    assert [camera.shape for camera in cameras] == [(3,), (3,)]
    points = single[0].unproject(torch.tensor([[500.0, 300.0], [700.0, 400.0]]).double(), torch.tensor([2.0, 3.0]))
    pixels, depth = cameras.project(points)
    assert pixels.shape == (2, 3, 2, 2)
    assert depth.shape == (2, 3, 2)
    for index, camera in enumerate(single):
        expected = camera.project(points)[0]
        assert torch.allclose(pixels[index // 3, index % 3], expected)
        assert torch.allclose(cameras[index // 3, index % 3].project(points)[0], expected)
    assert Camera.stack([cameras[0], cameras[1]]).shape == (2, 3)
    shifts = torch.eye(3)[:2].repeat(2, 3, 1, 1)
    shifts[..., 0, 2] = -torch.arange(6.0).view(2, 3)
    assert cameras.transform(shifts, 64, 64).intrinsics[1, 2, 0, 2] == 645
    assert cameras[:, :1].expand(2, 5).shape == (2, 5)


def test_indexing_stays_off_the_matrices():
    cameras = Camera.stack([wide_camera(), wide_camera(1)])
    with pytest.raises(IndexError):
        cameras[0, 1]
    with pytest.raises(IndexError):
        cameras[0][0]
    with pytest.raises(TypeError):
        len(cameras[0])


def test_moving_and_converting():
    camera = wide_camera().to(torch.float32)
    assert camera.dtype == torch.float32
    assert camera.to("meta").device.type == "meta"


def test_the_centre_is_the_origin_of_the_axes():
    camera = wide_camera()
    assert torch.allclose(camera.rotation @ camera.centre() + camera.translation, torch.zeros(3).double(), atol=1e-12)


def test_defaults_and_shapes():
    camera = Camera.create(np.eye(3, dtype=np.float32), distortion=[0.1, 0.2, 0.3, 0.4])
    assert camera.distortion.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0])
    assert camera.image_size.tolist() == [0, 0]
    with pytest.raises(ValueError, match="intrinsics"):
        Camera.create(torch.eye(4))
    with pytest.raises(ValueError, match="coefficients"):
        Camera.create(torch.eye(3), distortion=[1.0, 2.0])
