"""dkp/metrics/sampling.py: which pixels are looked at, and quantiles."""

import numpy as np
import pytest
import torch

from dkp.metrics.sampling import choose_pixels, concatenate, quantile


def test_takes_all_pixels_below_the_bound():
    mask = torch.rand(3, 7, 5, generator=torch.Generator().manual_seed(1)) > 0.6
    index, chosen = choose_pixels(mask, None)
    for row in range(3):
        assert sorted(index[row][chosen[row]].tolist()) == mask[row].flatten().nonzero()[:, 0].tolist()


def test_bound_and_membership():
    mask = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(2)) > 0.5
    mask[2] = False
    index, chosen = choose_pixels(mask, 20)
    assert index.shape == (4, 20)
    assert chosen.sum(dim=1).tolist() == [20, 20, 0, 20]
    assert mask.flatten(1).gather(1, index)[chosen].all()
    assert all(len(set(row[keep].tolist())) == keep.sum() for row, keep in zip(index, chosen, strict=True))


def test_choice_depends_on_the_mask_alone():
    mask = torch.ones(1, 12, 12, dtype=torch.bool)
    alone = choose_pixels(mask, 10)[0]
    torch.manual_seed(99)
    beside = choose_pixels(torch.cat([~mask, mask]), 10)[0][1:]
    assert torch.equal(alone, beside)


def test_choice_is_spread_over_the_mask():
    index, _ = choose_pixels(torch.ones(1, 64, 64, dtype=torch.bool), 512)
    rows, columns = torch.bincount(index[0] // 64 // 16), torch.bincount(index[0] % 64 // 16)
    assert rows.min() > 90
    assert columns.min() > 90  # 128 expected in each quarter


@pytest.mark.parametrize("count", [1, 2, 5, 100])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0])
def test_quantile_against_numpy(count, share):
    values = np.random.default_rng(count).exponential(size=count).astype(np.float32)
    assert quantile(torch.tensor(values), share).item() == pytest.approx(np.quantile(values, share), rel=1e-5)


def test_quantile_of_nothing_and_of_infinities():
    assert quantile(torch.zeros(0), 0.5).isnan()
    assert quantile(torch.tensor([1.0, float("inf"), float("inf"), float("inf")]), 0.5).isinf()


def test_concatenate_before_and_after_synchronisation():
    assert concatenate([], torch.device("cpu")).shape == (0,)
    assert concatenate([torch.ones(2), torch.zeros(1)], torch.device("cpu")).tolist() == [1, 1, 0]
    assert concatenate(torch.ones(3), torch.device("cpu")).tolist() == [1, 1, 1]
