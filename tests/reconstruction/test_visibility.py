import torch

from dkp.geometry import Camera
from dkp.reconstruction import depth_map, in_sight, random_samples, sample_surface

CAMERA = Camera.create(
    torch.tensor([[[100.0, 0, 32], [0, 100.0, 32], [0, 0, 1]]]), image_size=torch.tensor([[64.0, 64.0]])
)


def test_the_nearest_point_of_each_cell_counts():
    cloud = torch.tensor([[0.01, 0.01, 2.0], [0.01, 0.01, 3.0], [0.3, 0.0, 2.0], [0, 0, -1.0], [9.0, 0, 1.0]])
    depths = depth_map(cloud, CAMERA, 8).view(8, 8)
    assert depths[4, 4] == 2
    assert depths[4, 5] == 2  # (0.3, 0, 2) is at x = 47 px
    assert depths.isfinite().sum() == 2
    assert not depth_map(torch.full((1, 3), torch.nan), CAMERA, 8).isfinite().any()


def test_points_behind_the_cloud_or_outside_are_out_of_sight():
    cloud = torch.tensor([[0.01, 0.01, 2.0]])
    points = torch.tensor([[0.02, 0.02, 2.04], [0.02, 0.02, 2.06], [0.5, 0.0, 2.5], [3.0, 0, 2.0], [0, 0, -2.0]])
    pixels, seen = in_sight(points, CAMERA, depth_map(cloud, CAMERA, 8), 0.05)
    assert seen.tolist() == [[True, False, True, False, False]]
    assert pixels[0, 2].tolist() == [52, 32]


def test_normals_tell_front_from_back(surface, scene):
    samples = sample_surface(surface, 400)
    points, normals = samples.positions(scene.vertices), samples.normals(scene.vertices)
    depths = depth_map(random_samples(surface, 5000).positions(scene.vertices), scene.camera, 32)
    seen = in_sight(points, scene.camera, depths, 10.0, normals)[1]
    assert 0.35 < seen.double().mean() < 0.5  # a little less than half of a convex body
    hidden = in_sight(points, scene.camera, depths, 0.1)[1]  # by depth alone: nearly the same
    assert (hidden == seen).double().mean() > 0.85
