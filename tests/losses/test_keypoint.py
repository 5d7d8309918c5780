"""L_K: keypoints say where named points of the surface are."""

import math

import numpy as np
import pytest
import torch

from dkp.errors import InputError
from dkp.fields import EmbeddingField
from dkp.losses import KeypointTerm, LossContext
from dkp.surface import Surface

NAMES = ["left_wrist", "right_wrist", "nose"]
SIZE, STRIDE = 16, 2


def context(field, joints, present=(True, True)):
    """A step with one instant of two views whose field is given."""
    views = {
        "image": torch.zeros(1, 2, 3, SIZE, SIZE),
        "present": torch.tensor([present]),
        "joints": torch.as_tensor(joints, dtype=torch.float32)[None],
    }
    return LossContext(
        batch={"unlabelled": views}, step=0, student=lambda images: field, labelled_student=None, teacher=None
    )


def a_field(coordinate=0.0, logit=0.0):
    cells = SIZE // STRIDE
    return EmbeddingField(
        torch.full((2, cells, cells), float(logit)), torch.full((2, 3, cells, cells), float(coordinate)), STRIDE
    )


def rest(name):
    return torch.from_numpy(Surface.load("human").joints[name]).float()


def test_a_field_that_says_the_named_point_costs_nothing_but_its_doubt():
    field = a_field(logit=2.0)
    field.coordinate[0, :, 2, 3] = rest("left_wrist")  # pixel (7.9, 4.1) lies in row 2, column 3
    joints = np.zeros((2, 3, 3))
    joints[0, 0] = (7.9, 4.1, 0.8)
    value = KeypointTerm(names=NAMES, foreground_weight=0.5)(context(field, joints))
    assert float(value.value) == pytest.approx(0.5 * math.log1p(math.exp(-2.0)), abs=1e-6)
    assert float(value.parts["distance"]) == pytest.approx(0.0, abs=2e-4)
    assert float(value.valid_share) == pytest.approx(1 / 6)


def test_the_distance_beyond_the_depth_of_the_joint_by_hand():
    surface = Surface.load("human")
    depth = float(surface.locate(surface.joints["nose"][None])[2][0])
    field = a_field()
    field.coordinate[1, :, 0, 0] = rest("nose") + torch.tensor([0.0, 0.0, depth + 0.2])
    joints = np.zeros((2, 3, 3))
    joints[1, 2] = (0.5, 0.5, 1.0)
    value = KeypointTerm(names=NAMES, scale=0.1, foreground_weight=0.0)(context(field, joints))
    assert float(value.value) == pytest.approx(math.log(1 + (0.2 / 0.1) ** 2), rel=1e-3)


def test_confidence_weighs_and_what_is_doubtful_outside_or_absent_takes_no_part():
    field = a_field()
    field.coordinate[0, :, 0, 0] = rest("nose") + 1.0
    field.coordinate[0, :, 4, 4] = rest("left_wrist")
    joints = np.zeros((2, 3, 3))
    joints[0, 2], joints[0, 0] = (0.5, 0.5, 0.4), (8.5, 8.5, 0.8)
    term = KeypointTerm(names=NAMES, foreground_weight=0.0)
    alone = np.zeros((2, 3, 3))
    alone[0, 2] = (0.5, 0.5, 0.4)
    both, one = term(context(field, joints)), term(context(field, alone))
    assert float(both.value) == pytest.approx(float(one.value) / 3, rel=1e-5)
    for row in ((0.5, 0.5, 0.29), (-0.1, 0.5, 1.0), (0.5, 16.1, 1.0), (np.nan, np.nan, 1.0)):
        alone[0, 2] = row
        silent = term(context(field, alone))
        assert float(silent.value) == float(silent.valid_share) == 0
    alone[0, 2] = (0.5, 0.5, 1.0)
    assert float(term(context(field, alone, present=(False, True))).valid_share) == 0


def test_a_step_against_the_gradient_brings_the_field_to_the_keypoint_and_the_foreground_up():
    field = a_field(coordinate=0.3)
    field.coordinate.requires_grad_(), field.foreground.requires_grad_()
    joints = np.zeros((2, 3, 3))
    joints[0, 1] = (5.0, 5.0, 1.0)
    value = KeypointTerm(names=NAMES)(context(field, joints)).value
    towards, up = torch.autograd.grad(value, (field.coordinate, field.foreground))
    assert torch.dot(-towards[0, :, 2, 2], rest("right_wrist") - 0.3) > 0
    assert up[0, 2, 2] < 0
    towards[0, :, 2, 2] = 0
    up[0, 2, 2] = 0
    assert not towards.any()
    assert not up.any()


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"L_K names tail, expected joints of the surface human: .*nose"):
        KeypointTerm(names=["tail", "nose", "neck"])(context(a_field(), np.zeros((2, 3, 3))))
    with pytest.raises(InputError, match="L_K names 1 keypoints where the data gives 3"):
        KeypointTerm(names=["nose"])(context(a_field(), np.zeros((2, 3, 3))))
