from types import SimpleNamespace

import numpy as np
import torch

from dkp.reconstruction import keypoint_weights, keypoints, sample_surface


def test_weights_are_of_the_skin_around_the_joint(surface):
    samples = sample_surface(surface, 300)
    joints = SimpleNamespace(joints={"middle": np.array([0.0, 0.0, 0.0]), "top": np.array([0.0, 0.7, 0.0])})
    weights = keypoint_weights(joints, samples, 0.05)
    assert weights.shape == (2, 300)
    np.testing.assert_allclose(weights.sum(1), 1)
    assert (weights[1] @ samples.coordinate)[1] > 0.65
    # the nearest skin to the middle is in front of it and behind it
    assert abs((weights[0] @ samples.coordinate)[2]) < 0.1
    assert np.abs(samples.coordinate[weights[0].argmax()])[2] > 0.3


def test_missing_points_move_the_truth_as_well():
    weights = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.0, 0.0, 0.4, 0.6]])
    truth = torch.eye(4, 3).double()
    points = truth + torch.tensor([0.1, 0.0, 0.0])
    points[1] = torch.nan  # a quarter of the first keypoint
    points[3] = torch.nan  # more than half of the second
    found, true = keypoints(points[None], truth[None], weights)
    torch.testing.assert_close(found[0, 0] - true[0, 0], torch.tensor([0.1, 0, 0]).double())
    torch.testing.assert_close(true[0, 0], (2 * truth[0] + truth[2]) / 3)
    assert found[0, 1].isnan().all()
    torch.testing.assert_close(true[0, 1], weights[1].double() @ truth)
