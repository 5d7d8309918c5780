from types import SimpleNamespace

import numpy as np
import torch

from dkp.reconstruction import keypoint_weights, keypoints, sample_surface, vertex_samples
from dkp.reconstruction.keypoints import posed_joints
from dkp.surface import Surface
from dkp.synthetic.body import load_body
from dkp.synthetic.species import SPECIES


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


def test_joints_go_where_the_skin_around_them_goes():
    """Exactly with a surface that is turned as a whole; within 2 cm with a person who moves."""
    human = Surface.load("human")
    weights = keypoint_weights(human, vertex_samples(human), 0.05)
    rest = np.stack(list(human.joints.values()))
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    found = posed_joints(human, human.vertices @ turn.T + [1.0, 2.0, 3.0], weights)
    np.testing.assert_allclose(found, rest @ turn.T + [1.0, 2.0, 3.0], atol=1e-5)
    body, rng = load_body("human"), np.random.default_rng(5)
    shape = np.zeros(body.shape_dim)
    rotations, roots = SPECIES["human"].sample_motion(rng, 4, 1.0, None, shape)
    for rotation, root in zip(rotations, roots, strict=True):
        posed, joints = body.pose(shape, rotation, root)
        off = np.linalg.norm(
            posed_joints(human, posed, weights) - np.stack([joints[one] for one in human.joints]), axis=1
        )
        assert np.median(off) < 0.01
        assert off.max() < 0.05
        assert np.linalg.norm(posed.mean(0) - human.vertices.mean(0)) + np.abs(posed - human.vertices).max() > 0.1
