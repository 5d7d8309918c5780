"""What holds for every loss whatever it is given: finite values and gradients, shares, parts of a batch."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from dkp.fields import EmbeddingField
from dkp.losses import (
    DistillationTerm,
    LabelledTerm,
    Mean,
    MultiviewTerm,
    SilhouetteTerm,
    TemporalTerm,
    masked_mean,
    warp_from_affine,
)

ROWS, COLUMNS, STRIDE = 4, 5, 2
LOSSES = ("labelled", "distillation", "multiview", "silhouette", "warp")
seeds = st.integers(0, 2**31 - 1)


def fields(generator, batch, logit, extent):
    """Two fields with leaves that take gradients: logits up to ± `logit`, coordinates up to ± `extent` [m]."""
    made, leaves = [], []
    for _ in range(2):
        foreground = ((torch.rand(batch, ROWS, COLUMNS, generator=generator) * 2 - 1) * logit).requires_grad_()
        coordinate = ((torch.rand(batch, 3, ROWS, COLUMNS, generator=generator) * 2 - 1) * extent).requires_grad_()
        made.append(EmbeddingField(foreground, coordinate, STRIDE))
        leaves += [foreground, coordinate]
    return made, leaves


def term_of(kind, first, second, fundamental, generator):
    """A term of two fields; labels and warps are made up."""
    batch = len(first.foreground)
    shape = (batch, ROWS, COLUMNS)
    if kind == "labelled":
        truth = torch.rand(batch, 3, ROWS, COLUMNS, generator=generator)
        inside, known = (torch.rand(shape, generator=generator) < share for share in (0.5, 0.7))
        truth[~inside[:, None].expand_as(truth)] = torch.nan  # is never read
        return LabelledTerm().loss(first, foreground=inside, coordinate=truth, known=known)
    if kind == "distillation":
        return DistillationTerm().loss(first, second)
    if kind == "multiview":
        return MultiviewTerm(sigma=0.2, engine="dense").loss(first, second, fundamental)
    if kind == "silhouette":
        return SilhouetteTerm().loss(first, second, fundamental)
    matrix = torch.eye(2, 3).expand(batch, 2, 3) + 0.3 * torch.rand(batch, 2, 3, generator=generator)
    return TemporalTerm(sigma=0.2, engine="dense").loss(first, second, warp_from_affine(matrix, ROWS, COLUMNS, STRIDE))


@pytest.mark.parametrize("kind", LOSSES)
@given(
    seed=seeds,
    batch=st.integers(0, 3),
    logit=st.sampled_from([0.0, 1.0, 100.0]),
    extent=st.sampled_from([0.0, 0.3, 1e4]),
    degenerate=st.booleans(),
)
@settings(deadline=None, max_examples=15)
def test_values_and_gradients_are_finite_whatever_is_valid(kind, seed, batch, logit, extent, degenerate):
    """No instant, no foreground, hopeless coordinates, views without epipolar lines: never a NaN, always a graph."""
    generator = torch.Generator().manual_seed(seed)
    (first, second), leaves = fields(generator, batch, logit, extent)
    fundamental = torch.randn(batch, 3, 3, generator=generator) * (0.0 if degenerate else 1.0)
    term = term_of(kind, first, second, fundamental, generator)
    assert term.value.isfinite()
    assert term.value >= 0
    assert 0 <= term.valid_share <= 1
    assert all(part.isfinite() for part in term.parts.values())
    term.value.backward()
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in leaves)


@pytest.mark.parametrize("kind", ["distillation", "multiview", "silhouette"])
@given(seed=seeds, cut=st.integers(0, 3))
@settings(deadline=None, max_examples=15)
def test_a_batch_is_the_sum_of_its_parts(kind, seed, cut):
    """Sums and weights add up over any division of a batch, which is what several processes rest on."""
    generator = torch.Generator().manual_seed(seed)
    (first, second), _ = fields(generator, 3, 3.0, 0.3)
    fundamental = torch.randn(3, 3, 3, generator=generator)
    whole = term_of(kind, first, second, fundamental, generator)
    parts = [
        term_of(kind, first[chosen], second[chosen], fundamental[chosen], generator)
        for chosen in (torch.arange(cut), torch.arange(cut, 3))
    ]
    for place, mean in enumerate(whole.means):
        one, two = (part.means[place] for part in parts)
        torch.testing.assert_close(one.sums + two.sums, mean.sums, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(one.weights + two.weights, mean.weights)
    total = sum(mean.value for mean in whole.means)
    torch.testing.assert_close(total, whole.value, rtol=1e-5, atol=1e-6)


@given(seed=seeds)
@settings(deadline=None, max_examples=15)
def test_the_multiview_loss_does_not_know_which_view_is_first(seed):
    generator = torch.Generator().manual_seed(seed)
    (first, second), _ = fields(generator, 2, 3.0, 0.3)
    fundamental = torch.randn(2, 3, 3, generator=generator)
    loss = MultiviewTerm(sigma=0.2, engine="dense", distance="sampson").loss
    forth, back = loss(first, second, fundamental).value, loss(second, first, fundamental.mT).value
    torch.testing.assert_close(forth, back, rtol=1e-4, atol=1e-5)


@given(values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=8), data=st.data())
@settings(deadline=None, max_examples=30)
def test_a_masked_mean_lies_among_its_values_and_reads_no_other(values, data):
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    given_values = torch.tensor(values)
    kept = given_values[mask]
    result = masked_mean(given_values.masked_fill(~mask, torch.nan), mask)
    if len(kept):
        assert kept.min() - 1e-3 <= result <= kept.max() + 1e-3
    else:
        assert result == 0
    assert Mean.of((given_values, mask)).weights.item() == len(kept)
