"""Tests of the random changes and of the camera that follows them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from dkp.data.augmentation import (
    HALF,
    UNHALF,
    Augmentation,
    Geometric,
    Photometric,
    follow,
    map_points,
    mirrored,
    warp_image,
)
from dkp.errors import InputError
from dkp.geometry import Camera, epipolar_distance, fundamental_matrix

STRONG = Augmentation(rotate=180, scale=(0.6, 1.4), shift=0.1, shear=10, geometric=1.0, photometric=0)
PERSPECTIVE = Augmentation(rotate=40, scale=(0.8, 1.1), perspective=0.15, geometric=1.0, photometric=0)


def random_camera(seed):
    rng = np.random.default_rng(seed)
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation = q * np.sign(np.diag(r))
    rotation[:, 0] *= np.linalg.det(rotation)
    intrinsics = np.array([[150 + 20 * rng.random(), 0, 64], [0, 150, 60], [0, 0, 1.0]])
    return intrinsics, rotation, np.array([0.1, -0.2, 5.0]) + 0.2 * rng.normal(size=3)


def project(camera, points):
    intrinsics, rotation, translation = (torch.from_numpy(np.ascontiguousarray(part)) for part in camera)
    pixels, depth = Camera.create(intrinsics, rotation, translation).project(torch.from_numpy(points))
    return pixels.numpy(), depth.numpy()


def dots(pixels, size):
    """An image with a small bright blob at each of some pixels, drawn from the definition of a pixel's centre."""
    y, x = np.mgrid[0:size, 0:size] + 0.5
    image = np.zeros((size, size), np.float32)
    for px, py in pixels:
        image += np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 2.0**2)).astype(np.float32)
    return image


def centroid(image, near, radius=7):
    """Centre of mass around a pixel."""
    size = image.shape[0]
    y, x = np.mgrid[0:size, 0:size] + 0.5
    weight = image * ((x - near[0]) ** 2 + (y - near[1]) ** 2 < radius**2)
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


@pytest.mark.parametrize("settings_", [STRONG, PERSPECTIVE], ids=["affine", "perspective"])
@pytest.mark.parametrize("seed", range(8))
def test_projection_follows_the_warped_image(settings_, seed):
    """Project a point, draw it, warp the image: the new camera projects the point to where it is now seen."""
    camera = random_camera(seed)
    matrix = np.diag([0.5, 0.5, 1.0]) @ Geometric(settings_).matrix(seed, 128)
    new = follow(matrix, *camera)
    point = np.linalg.inv(camera[1]) @ (np.array([[0.3, -0.25, 5.0]]).T - camera[2][:, None])
    (before,), _ = project(camera, point.T)
    (after,), (depth,) = project(new, point.T)
    assert depth > 0
    np.testing.assert_allclose(after, map_points(matrix, before), atol=1e-8)
    if ((after > 8) & (after < 56)).all():
        warped = warp_image(dots([before], 128), matrix, 64)
        assert np.linalg.norm(centroid(warped, after) - after) < 0.3
        integer_centres = np.linalg.norm(centroid(warped, after) - (after - 0.5))
        assert integer_centres > 0.4, "the test would not notice the other pixel convention"


@given(seed=st.integers(0, 10_000), perspective=st.booleans(), flip=st.booleans())
@settings(max_examples=60, deadline=None)
def test_follow_is_exact(seed, perspective, flip):
    """The camera of the warped image projects to the mapped pixels, and stays a valid camera."""
    camera = random_camera(seed)
    matrix = Geometric(PERSPECTIVE if perspective else STRONG).matrix(seed, 128)
    matrix = mirrored(matrix, 128) if flip else matrix
    new = follow(matrix, *camera)
    if perspective:  # an affine rotation stays in the intrinsics, which are then not triangular
        np.testing.assert_allclose(new[1] @ new[1].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(new[1]) > 0
        assert np.isfinite(new[0]).all()
        np.testing.assert_allclose(new[0][[1, 2, 2, 2], [0, 0, 1, 2]], [0, 0, 0, 1], atol=1e-9)
        assert (new[0][0, 0] < 0) == flip
    inside = np.random.default_rng(seed).uniform([-1, -1, 4.5], [1, 1, 5.5], (20, 3))
    points = (inside - camera[2]) @ camera[1]
    before, _ = project(camera, points)
    keep = ((before > 0) & (before < 128)).all(1)
    after, depth = project(new, points[keep])
    assert (depth > 0).all()
    np.testing.assert_allclose(after, map_points(matrix, before[keep]), atol=1e-6)


def test_epipolar_geometry_survives_perspective():
    first, second = random_camera(1), random_camera(2)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 3))
    cameras = []
    for seed, camera in enumerate((first, second)):
        camera = (camera[0], np.eye(3) if seed == 0 else camera[1] @ first[1].T, camera[2] + [seed, 0, 0])
        matrix = Geometric(PERSPECTIVE).matrix(seed, 128)
        cameras.append(Camera.create(*(torch.from_numpy(np.ascontiguousarray(p)) for p in follow(matrix, *camera))))
    pixels = [camera.project(torch.from_numpy(points))[0] for camera in cameras]
    distance = epipolar_distance(*pixels, fundamental_matrix(*cameras))
    assert float(distance.max()) < 1e-6


def test_half_pixel_matrices_are_inverse():
    np.testing.assert_allclose(HALF @ UNHALF, np.eye(3))


def test_warp_puts_what_lies_outside_to_the_fill():
    image = np.full((8, 8, 3), 200, np.uint8)
    shifted = warp_image(image, np.array([[1, 0, 4], [0, 1, 0], [0, 0, 1.0]]), 8, (1.0, 2.0, 3.0))
    assert (shifted[:, :4] == [1, 2, 3]).all()
    assert (shifted[:, 4:] == 200).all()


def test_identity_and_halving_are_exact():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert (warp_image(image, np.eye(3), 16) == image).all()
    halved = warp_image(image, np.diag([0.5, 0.5, 1]), 8).astype(float)
    mean = image.reshape(8, 2, 8, 2, 3).astype(float).mean((1, 3))
    assert np.abs(halved - mean).max() <= 1.0


def test_geometric_is_deterministic_and_varied():
    geometric = Geometric(STRONG)
    first = geometric.matrix(5, 128)
    other = geometric.matrix(6, 128)
    assert (geometric.matrix(5, 128) == first).all()
    assert np.abs(first - other).max() > 0.01
    assert (Geometric(STRONG).matrix(5, 128) == first).all()


def test_geometric_probability():
    half = Geometric(Augmentation(geometric=0.5))
    unchanged = sum((half.matrix(seed, 64) == np.eye(3)).all() for seed in range(400))
    assert 150 < unchanged < 250


def test_geometric_keeps_its_ranges():
    geometric = Geometric(Augmentation(rotate=10, scale=(0.9, 1.5), shift=0.0, geometric=1.0))
    matrices = np.stack([geometric.matrix(seed, 100) for seed in range(300)])
    scale = np.sqrt(np.linalg.det(matrices[:, :2, :2]))
    angle = np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert 0.9 - 1e-6 <= scale.min() < 0.95
    assert 1.45 < scale.max() <= 1.5 + 1e-6
    assert 8 < np.abs(angle).max() <= 10 + 1e-6
    centre = map_points(matrices[7], np.array([50.0, 50.0]))
    np.testing.assert_allclose(centre, [50, 50], atol=1e-5)


def test_photometric_is_deterministic_and_changes_images():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    photometric = Photometric(Augmentation())
    results = [photometric(image.copy(), seed) for seed in range(20)]
    again = [Photometric(Augmentation())(image.copy(), seed) for seed in range(20)]
    assert all((a == b).all() for a, b in zip(results, again, strict=True))
    assert sum((result != image).any() for result in results) > 15
    assert all(result.shape == image.shape and result.dtype == np.uint8 for result in results)


def test_no_photometric_change_at_strength_zero():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert (Photometric(Augmentation(photometric=0))(image, 3) == image).all()


def test_stronger_photometric_changes_more():
    image = np.full((32, 32, 3), 120, np.uint8)
    change = []
    for strength in (0.3, 1.5):
        photometric = Photometric(Augmentation(photometric=strength))
        change.append(np.mean([np.abs(photometric(image, seed).astype(int) - 120).mean() for seed in range(40)]))
    assert change[1] > 2 * change[0]


def test_pipeline_file(tmp_path):
    import albumentations

    path = tmp_path / "pipeline.yaml"
    albumentations.save(albumentations.Compose([albumentations.InvertImg(p=1.0)]), path, data_format="yaml")
    image = np.full((8, 8, 3), 10, np.uint8)
    assert (Photometric(Augmentation(pipeline=str(path)))(image, 0) == 245).all()
    albumentations.save(albumentations.Compose([albumentations.HorizontalFlip(p=1.0)]), path, data_format="yaml")
    with pytest.raises(InputError, match="HorizontalFlip moves pixels"):
        Photometric(Augmentation(pipeline=str(path)))
    with pytest.raises(InputError, match=r"missing.yaml.*expected an existing"):
        Photometric(Augmentation(pipeline=str(tmp_path / "missing.yaml")))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"rotate": -1}, "rotate"),
        ({"scale": (1.2, 0.8)}, "scale"),
        ({"mirror": 2}, "mirror"),
        ({"without_background": -1}, "without_background"),
        ({"shear": 50}, "shear"),
    ],
)
def test_bad_settings(options, key):
    with pytest.raises(InputError, match=f"augmentation.{key} is"):
        Augmentation(**options)
