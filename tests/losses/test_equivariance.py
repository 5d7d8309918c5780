import torch

from dkp.geometry import pixel_grid
from dkp.losses.equivariance import random_affine, warp_images


def transform_points(matrix: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Points (B, N, 2) where maps (B, 2, 3) take them."""
    return points @ matrix[:, :, :2].transpose(1, 2) + matrix[:, None, :, 2]


def blob(centre: torch.Tensor, size: int = 64) -> torch.Tensor:
    grid = pixel_grid(size, size)
    return torch.exp(-(grid - centre).square().sum(-1) / (2 * 2.0**2))


def centroid(image: torch.Tensor) -> torch.Tensor:
    grid = pixel_grid(*image.shape)
    return (grid * image[..., None]).sum((0, 1)) / image.sum()


def test_a_point_of_the_image_moves_as_the_map_says():
    torch.manual_seed(0)
    points = torch.tensor([[24.0, 40.0], [32.0, 32.0], [38.5, 27.25]])
    images = torch.stack([blob(point) for point in points])[:, None]
    matrix = random_affine(3, (64, 64), degrees=40, scale=0.2, shift=0.1)
    moved = warp_images(images, matrix)
    expected = transform_points(matrix, points[:, None])[:, 0]
    found = torch.stack([centroid(image[0]) for image in moved])
    assert (expected - points).norm(dim=-1).max() > 2
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)


def test_maps_keep_within_their_bounds():
    torch.manual_seed(0)
    matrix = random_affine(500, (64, 32), degrees=30, scale=0.25, shift=0.1)
    factor = torch.linalg.det(matrix[:, :, :2]).sqrt()
    angle = torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0]).rad2deg()
    centre = torch.tensor([[[16.0, 32.0]]]).expand(500, 1, 2)
    shift = (transform_points(matrix, centre) - centre)[:, 0].abs()
    assert 1.2 < factor.max() <= 1.25 + 1e-5
    assert 0.8 - 1e-5 <= factor.min() < 0.83
    assert 28 < angle.abs().max() <= 30.001
    assert shift[:, 0].max() <= 3.2 + 1e-4 < shift[:, 1].max() <= 6.4 + 1e-4
