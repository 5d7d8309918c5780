"""Choice of camera pairs."""

import math

import pytest
import torch

from dkp.geometry import Camera, baseline_angle, eligible_pairs, epipole


def ring(count: int, radius: float = 3.0, size: int = 128, focal: float = 200.0) -> Camera:
    """Cameras on a circle around the origin, looking inwards, y down."""
    cameras = []
    for index in range(count):
        angle = 2 * math.pi * index / count
        forward = torch.tensor([-math.cos(angle), -math.sin(angle), 0.0], dtype=torch.float64)
        down = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
        rotation = torch.stack([torch.linalg.cross(down, forward), down, forward])
        intrinsics = [[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]
        intrinsics = torch.tensor(intrinsics, dtype=torch.float64)
        cameras.append(Camera.create(intrinsics, rotation, rotation @ (radius * forward), None, (size, size)))
    return Camera.stack(cameras)


@pytest.mark.parametrize("point", [None, torch.zeros(3)])
def test_angles_around_a_ring(point):
    cameras = ring(6)
    point = None if point is None else point.double()
    angles = baseline_angle(cameras[:1], cameras, point)
    assert angles.tolist() == pytest.approx([0, 60, 120, 180, 120, 60], abs=1e-4)


def test_angle_at_a_point_by_hand():
    cameras = ring(2)
    point = torch.tensor([0.0, 3.0, 0.0], dtype=torch.float64)
    assert baseline_angle(cameras[0], cameras[1], point).item() == pytest.approx(90)


def test_angle_between_crops_follows_the_middle_of_the_crop():
    cameras = ring(4)
    crop = cameras[1].transform(
        [[1.0, 0, -128], [0, 1, -32]], 64, 64
    )  # its middle is 96 px right of the principal point
    aside = math.degrees(math.atan2(96, 200))
    assert baseline_angle(cameras[0], crop).item() == pytest.approx(90 - aside, abs=1e-6)
    assert baseline_angle(cameras[1], crop).item() == pytest.approx(aside, abs=1e-6)


def test_opposite_cameras_are_rejected_for_their_epipoles():
    """An even ring: each camera stands in the middle of the opposite one's image."""
    cameras = ring(6)
    assert epipole(cameras[0], cameras[3]).tolist() == pytest.approx([64, 64])
    pairs = eligible_pairs(cameras, torch.zeros(3), max_angle=181).tolist()
    expected = [[i, j] for i in range(6) for j in range(i + 1, 6) if j - i != 3]
    assert pairs == expected
    assert eligible_pairs(cameras, max_angle=181).tolist() == expected


def test_angle_limits():
    cameras = ring(12)
    steps = {(j - i) % 12 for i, j in eligible_pairs(cameras, None, 10, 65).tolist()}
    assert steps <= {1, 2, 10, 11}
    steps = {min((j - i) % 12, (i - j) % 12) for i, j in eligible_pairs(cameras, None, 40, 100).tolist()}
    assert steps == {2, 3}


def test_the_margin_widens_the_forbidden_zone():
    """At 150 degrees the epipole is 15 degrees aside: 64 + 200 tan 15 = 118 px; at 120 degrees it is at 179 px."""
    cameras = ring(12)
    assert epipole(cameras[0], cameras[4])[0].item() == pytest.approx(64 + 200 * math.tan(math.pi / 6))
    reach = [
        max(min((j - i) % 12, (i - j) % 12) for i, j in eligible_pairs(cameras, None, 10, 179, margin).tolist())
        for margin in (0.0, 0.25, 0.5)
    ]
    assert reach == [4, 4, 3]


def test_either_epipole_rejects_the_pair():
    """The second camera stands in the first one's image, but looks elsewhere."""
    first = ring(2)[0]
    turned = torch.tensor([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]], dtype=torch.float64)
    other = ring(2)[1]
    aside = Camera.create(other.intrinsics, turned @ other.rotation, turned @ other.translation, None, (128, 128))
    assert eligible_pairs(Camera.stack([first, aside]), None, 0, 180).tolist() == []
    assert eligible_pairs(Camera.stack([aside, first]), None, 0, 180).tolist() == []


def test_coinciding_cameras_and_lone_cameras_give_no_pair():
    cameras = ring(3)
    assert eligible_pairs(cameras[[0, 0]], torch.zeros(3), 0, 180).tolist() == []
    assert eligible_pairs(cameras[:1]).shape == (0, 2)
    assert eligible_pairs(cameras[:1]).dtype == torch.long


def test_an_unknown_image_size_leaves_the_angle_alone():
    cameras = ring(4)
    unknown = Camera.create(cameras.intrinsics, cameras.rotation, cameras.translation)
    assert len(eligible_pairs(unknown, torch.zeros(3), 10, 181)) == 6
    assert len(eligible_pairs(cameras, torch.zeros(3), 10, 181)) == 4
