"""The likelihood of labels: formula, gradient, minimum, and its place in the labelled loss."""

import numpy as np
import torch

from dkp.fields import EmbeddingField
from dkp.losses import LabelledTerm
from dkp.losses.likelihood import SMOOTH, laplace_loss


def test_formula_and_gradient():
    generator = torch.Generator().manual_seed(0)
    difference = 0.3 * torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    log_scale = torch.randn(2, 4, 5, generator=generator, dtype=torch.float64) - 2
    found = laplace_loss(difference, log_scale, 0.1).numpy()
    distance = np.sqrt((difference.numpy() ** 2).sum(1) + SMOOTH)
    np.testing.assert_allclose(found, distance / np.exp(log_scale.numpy()) + log_scale.numpy() - np.log(0.1), rtol=1e-9)
    difference[0, :, 0, 0] = 0  # the root has a gradient there, too
    leaves = difference.requires_grad_(), log_scale.requires_grad_()
    assert torch.autograd.gradcheck(lambda d, s: laplace_loss(d, s, 0.1), leaves)


def test_least_where_the_scale_is_the_distance():
    difference = torch.tensor([[[0.03]], [[0.04]], [[0.0]]]).unsqueeze(0)  # 5 cm
    scales = torch.linspace(0.01, 0.2, 191)
    values = torch.stack([laplace_loss(difference, scale.log().view(1, 1, 1), 0.1).squeeze() for scale in scales])
    expected = float(np.sqrt(0.05**2 + SMOOTH))
    assert abs(float(scales[values.argmin()]) - expected) < 2e-3


def test_labelled_loss_is_the_likelihood_where_the_field_has_a_scale():
    generator = torch.Generator().manual_seed(1)
    coordinate = torch.randn(1, 3, 4, 4, generator=generator)
    log_scale = torch.randn(1, 4, 4, generator=generator)
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
