"""What is up in the world of a rig."""

import numpy as np
import pytest
import torch

from dkp.geometry import Camera, upright


def looking(forward, right) -> Camera:
    """A camera that looks along one axis, with another to the right in its image."""
    forward, right = np.array(forward, float), np.array(right, float)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return Camera.create(torch.eye(3).double(), rotation=torch.from_numpy(rotation))


def pitched(angle: float, pitch: float) -> Camera:
    """A level camera above a ring that looks down into it [degrees]."""
    a, p = np.radians([angle, pitch])
    right = np.array([-np.sin(a), np.cos(a), 0])
    return looking([-np.cos(a) * np.cos(p), -np.sin(a) * np.cos(p), -np.sin(p)], right)


def test_an_axis_of_the_world_by_hand():
    assert upright([looking([0, 1, 0], [1, 0, 0]), looking([1, 0, 0], [0, -1, 0])]).tolist() == [0, 0, 1]
    assert upright([looking([0, 0, 1], [1, 0, 0]), looking([1, 0, 0], [0, 0, -1])]).tolist() == [0, -1, 0]


@pytest.mark.parametrize("pitch", [0.0, 25.0, 60.0])
def test_it_does_not_depend_on_how_steeply_cameras_look_down(pitch):
    """A half ring, whose images' own directions lean to one side on average, in a world that lies as it likes."""
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    cameras = [pitched(angle, pitch) for angle in (0, 40, 80, 120)]
    moved = [Camera.create(one.intrinsics, one.rotation @ torch.from_numpy(turn.T)) for one in cameras]
    assert upright(moved) @ turn[:, 2] > np.cos(np.radians(3))


def test_cameras_side_by_side_say_it_by_their_images():
    up = upright([looking([0, 1, 0], [1, 0, 0])] * 3)
    assert up.tolist() == [0, 0, 1]


def test_cameras_near_each_other_that_are_not_quite_level_do_not_tip_the_world():
    """Square to both rows is far from up there."""
    first, second = pitched(0, 10), pitched(12, 10)
    askew = torch.eye(3, dtype=torch.float64)
    angle = np.radians(5)
    askew[:2, :2] = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    second = Camera.create(second.intrinsics, askew @ second.rotation)
    square = torch.linalg.cross(first.rotation[0], second.rotation[0])
    assert abs(square[2]) / square.norm() < np.cos(np.radians(20))
    assert upright([first, second])[2] > np.cos(np.radians(12))
