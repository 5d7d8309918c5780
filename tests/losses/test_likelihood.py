"""The likelihood of labels: formula, gradient, minimum, and its place in the labelled loss."""

import numpy as np
import torch

from dkp.fields import EmbeddingField
from dkp.losses import LabelledTerm
from dkp.losses.likelihood import SMOOTH, laplace_loss


def test_formula_and_gradient():
    generator = torch.Generator().manual_seed(0)
    difference = 0.3 * torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    log_scale = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64) - 2
    found = laplace_loss(difference, log_scale, 0.1).numpy()
    distance, scale = np.sqrt(difference.numpy() ** 2 + SMOOTH), np.exp(log_scale.numpy())
    np.testing.assert_allclose(found, (distance / scale + np.log(scale / 0.1)).mean(1), rtol=1e-9)
    difference[0, :, 0, 0] = 0  # the root has a gradient there, too
    leaves = difference.requires_grad_(), log_scale.requires_grad_()
    assert torch.autograd.gradcheck(lambda d, s: laplace_loss(d, s, 0.1), leaves)


def test_least_where_the_scale_is_the_distance():
    scales = torch.linspace(0.01, 0.2, 191)
    for distance in (0.05, 0.12):
        difference = torch.full((1, 1, 191), distance)
        values = laplace_loss(difference, scales.log().view(1, 1, -1), 0.1)[0]
        assert abs(float(scales[values.argmin()]) - np.sqrt(distance**2 + SMOOTH)) < 2e-3


def test_each_axis_has_its_own_scale():
    """The gradient along an axis does not depend on how wrong the others are."""
    difference = torch.tensor([0.4, 0.02, 0.02]).view(1, 3, 1).requires_grad_()
    scale = torch.tensor([0.4, 0.02, 0.02]).log().view(1, 3, 1)
    (gradient,) = torch.autograd.grad(laplace_loss(difference, scale, 0.1).sum(), difference)
    assert 10 < float(gradient[0, 1] / gradient[0, 0]) < 20


def test_labelled_loss_is_the_likelihood_where_the_field_has_a_scale():
    generator = torch.Generator().manual_seed(1)
    coordinate = torch.randn(1, 3, 4, 4, generator=generator)
    log_scale = torch.randn(1, 3, 4, 4, generator=generator)
    labels = {
        "foreground": torch.rand(1, 4, 4, generator=generator) > 0.4,
        "coordinate": torch.randn(1, 3, 4, 4, generator=generator),
    }
    loss = LabelledTerm(scale=0.2).loss
    with_scale = loss(EmbeddingField(torch.zeros(1, 4, 4), coordinate, 2, log_scale), **labels)
    without = loss(EmbeddingField(torch.zeros(1, 4, 4), coordinate, 2), **labels)
    expected = laplace_loss(coordinate - labels["coordinate"], log_scale, 0.2)[labels["foreground"]].mean()
    torch.testing.assert_close(with_scale.parts["coordinate"], expected)
    assert float((without.parts["coordinate"] - expected).abs()) > 0.1
    torch.testing.assert_close(with_scale.parts["error"], without.parts["error"])
