"""dkp/metrics/similarity.py against NumPy."""

import numpy as np
import pytest
import torch

from dkp.metrics.similarity import (
    PointSimilarity,
    average_precision,
    geodesic_point_similarity,
)
from dkp.surface import Surface

BOARD = Surface.plane(width=2.0, height=2.0, spacing=0.5)


def scene(seed, batch=3, size=7):
    rng = torch.Generator().manual_seed(seed)
    label = torch.rand(batch, 3, size, size, generator=rng) * 2
    label[:, 2] = 0
    noise = torch.rand(batch, 1, 1, 1, generator=rng) * 0.4
    predicted = label + noise * torch.randn(batch, 3, size, size, generator=rng)
    inside, known = (torch.rand(2, batch, size, size, generator=rng) > 0.2).unbind()
    foreground = (inside * 0.6 + 0.5 * torch.rand(batch, size, size, generator=rng)).clamp(max=1)
    return predicted, foreground, label, inside, known


def reference_gps(predicted, foreground, label, inside, known, kappa=0.255):
    similarity = []
    for r, c in np.argwhere((inside & known).numpy()):
        gap = np.hypot(*(predicted[:2, r, c] - label[:2, r, c]).double().numpy())
        similarity.append(np.exp(-(gap**2) / (2 * kappa**2)) if foreground[r, c] > 0.5 else 0.0)
    return np.mean(similarity)


def reference_precision(similarity, score, threshold):
    """101-point interpolated average precision, by the book."""
    levels = sorted(set(score[np.isfinite(score)]), reverse=True)
    points = []
    for level in levels:
        taken = score >= level
        right = (taken & (similarity >= threshold)).sum()
        points.append((right / len(similarity), right / taken.sum()))
    read = [max([p for r, p in points if r >= level - 1e-9], default=0.0) for level in np.linspace(0, 1, 101)]
    return np.mean(read)


def test_gps_and_gpsm_against_numpy():
    metric, gps, gpsm = PointSimilarity(BOARD, points_per_view=None), [], []
    for seed in range(3):
        batch = scene(seed)
        metric.update(*batch)
        for view in range(3):
            gps.append(reference_gps(*(value[view] for value in batch)))
            _, foreground, _, inside, known = (value[view].numpy() for value in batch)
            a, b = (foreground > 0.5)[known], inside[known]
            gpsm.append(np.sqrt(gps[-1] * (a & b).sum() / (a | b).sum()))
    value = metric.compute()
    assert value["gps"].item() == pytest.approx(np.mean(gps), rel=1e-4)
    assert value["gpsm"].item() == pytest.approx(np.mean(gpsm), rel=1e-4)
    assert value["ar"].item() == pytest.approx(
        np.mean([(np.array(gpsm) >= t).mean() for t in np.arange(0.5, 0.96, 0.05)])
    )


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_against_numpy(seed):
    rng = np.random.default_rng(seed)
    similarity = rng.random(23)
    score = np.round(rng.random(23), 1)  # with ties
    score[rng.random(23) < 0.15] = -np.inf
    similarity[~np.isfinite(score)] = 0
    thresholds = np.array([0.3, 0.5, 0.75, 0.999])
    precision, recall = average_precision(*(torch.tensor(value) for value in (similarity, score, thresholds)))
    expected = [reference_precision(similarity, score, threshold) for threshold in thresholds]
    np.testing.assert_allclose(precision, expected, atol=1e-6)
    np.testing.assert_allclose(recall, [(similarity >= threshold).mean() for threshold in thresholds], atol=1e-6)


def test_order_of_equal_scores_does_not_matter():
    similarity = torch.tensor([0.9, 0.1, 0.8, 0.2])
    score, threshold = torch.tensor([1.0, 1.0, 0.5, 0.5]), torch.tensor([0.5])
    turned = average_precision(similarity[[1, 0, 3, 2]], score, threshold)
    assert average_precision(similarity, score, threshold) == turned


def test_ranking_matters():
    similarity, threshold = torch.tensor([0.9, 0.1]), torch.tensor([0.5])
    good = average_precision(similarity, torch.tensor([0.9, 0.1]), threshold)[0]
    bad = average_precision(similarity, torch.tensor([0.1, 0.9]), threshold)[0]
    assert good > bad


def test_a_view_without_foreground_is_a_miss():
    _, foreground, label, inside, known = scene(0, batch=2)
    foreground[1] = 0
    metric = PointSimilarity(BOARD)
    metric.update(label, foreground, label, inside, known)
    value = metric.compute()
    assert value["gps"] <= 0.5
    assert value["ar"] <= 0.5
    assert value["ap50"].item() == pytest.approx(51 / 101)


def test_uncovered_points_add_nothing():
    chosen = torch.tensor([[True, True], [False, False]])
    gps = geodesic_point_similarity(torch.tensor([[0.0, float("inf")], [0.0, 0.0]]), chosen)
    assert gps[0] == 0.5
    assert gps[1].isnan()


def test_nothing_labelled_is_nan_and_says_so():
    predicted, foreground, label, inside, known = scene(0)
    metric = PointSimilarity(BOARD)
    metric.update(predicted, foreground, label, inside, torch.zeros_like(known))
    with pytest.warns(UserWarning, match="no labelled instance"):
        assert metric.compute()["ap"].isnan()


def test_two_processes(assert_same_in_two_processes):
    assert_same_in_two_processes(lambda: PointSimilarity(BOARD), [scene(seed) for seed in range(3)])
