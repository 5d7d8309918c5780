"""dkp/metrics/geodesic.py against NumPy and against known geodesics."""

import copy

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid

from dkp.metrics.geodesic import GeodesicError, area_under_recall, geodesic_errors, recall_curve
from dkp.surface import Surface

BOARD = Surface.plane(width=2.0, height=2.0, spacing=0.5)


def scene(seed, batch=2, size=9, noise=0.15):
    """Random fields and labels on the board, as a batch of the metric."""
    rng = torch.Generator().manual_seed(seed)
    label = torch.rand(batch, 3, size, size, generator=rng) * 2
    label[:, 2] = 0
    predicted = label + noise * torch.randn(batch, 3, size, size, generator=rng)
    foreground = torch.rand(batch, size, size, generator=rng)
    inside, known = (torch.rand(2, batch, size, size, generator=rng) > 0.3).unbind()
    return predicted, foreground, label, inside, known


def reference(batches):
    """The metric in NumPy, pixel by pixel."""
    errors = []
    for predicted, foreground, label, inside, known in batches:
        for b, r, c in np.argwhere((inside & known).numpy()):
            gap = (predicted[b, :2, r, c] - label[b, :2, r, c]).double().numpy()
            errors.append(100 * np.hypot(*gap) if foreground[b, r, c] > 0.5 else np.inf)
    error = np.array(errors)
    covered = error[np.isfinite(error)]
    grid = np.linspace(0, 1, 20_001)
    return {
        "geodesic_median_cm": np.median(covered),
        "geodesic_mean_cm": covered.mean(),
        "coverage": len(covered) / len(error),
        "auc10": trapezoid([(error < 10 * t).mean() for t in grid], grid),
        "auc30": trapezoid([(error < 30 * t).mean() for t in grid], grid),
        "pck5": (error < 5).mean(),
        "pck10": (error < 10).mean(),
        "geodesic_points": len(error),
    }


def test_against_numpy():
    batches = [scene(seed) for seed in range(3)]
    metric = GeodesicError(BOARD, points_per_view=None)
    for batch in batches:
        metric.update(*batch)
    found = {name: value.item() for name, value in metric.compute().items()}
    assert found == pytest.approx(reference(batches), rel=2e-4)


def test_leading_dimensions_do_not_matter():
    predicted, foreground, label, inside, known = scene(0, batch=6)
    flat, nested = GeodesicError(BOARD), GeodesicError(BOARD)
    flat.update(predicted, foreground, label, inside, known)
    nested.update(*(value.unflatten(0, (2, 3)) for value in (predicted, foreground, label, inside, known)))
    assert flat.compute() == nested.compute()


def test_two_processes(assert_same_in_two_processes):
    assert_same_in_two_processes(lambda: GeodesicError(BOARD, points_per_view=20), [scene(seed) for seed in range(5)])


def test_uncovered_pixels_lower_coverage_and_recall_and_leave_the_mean():
    _, foreground, label, inside, known = scene(1)
    values = []
    for probability in (torch.ones_like(foreground), torch.zeros_like(foreground)):
        probability[:, :, :5] = 1
        metric = GeodesicError(BOARD, points_per_view=None)
        metric.update(label, probability, label, inside, known)
        values.append({name: value.item() for name, value in metric.compute().items()})
    everywhere, part = values
    assert everywhere["coverage"] == everywhere["auc30"] == everywhere["pck10"] == 1
    assert part["coverage"] == part["auc30"] == part["pck10"] < 0.8
    assert everywhere["geodesic_mean_cm"] == part["geodesic_mean_cm"] == pytest.approx(0, abs=1e-4)


def test_a_coordinate_that_is_not_finite_is_a_miss():
    predicted, _, label, inside, known = scene(2)
    predicted[:, :, 0] = float("nan")
    error, index, chosen = geodesic_errors(BOARD, predicted, torch.ones(2, 9, 9), label, inside, known)
    missed = chosen & (index < 9)
    assert missed.any()
    assert error[missed].isinf().all()
    assert error[chosen & ~missed].isfinite().all()


def test_subsampling_is_repeatable_and_close():
    batch = scene(3, batch=4, size=48)
    values = {}
    for points in (None, 500, 501):
        metric = GeodesicError(BOARD, points_per_view=points)
        metric.update(*batch)
        values[points] = metric.compute()
        again = GeodesicError(BOARD, points_per_view=points)
        again.update(*batch)
        assert again.compute() == values[points]
    assert values[500]["geodesic_points"] == 2000
    some, every = (values[points]["geodesic_median_cm"].item() for points in (500, None))
    assert some == pytest.approx(every, rel=0.05)
    assert some != every


def test_follows_the_surface_and_moves_predictions_onto_it(ball):
    label = torch.tensor([[0.5, 0.0, 0.0], [0.5, 0.0, 0.0]]).T.reshape(1, 3, 1, 2)
    predicted = torch.tensor([[0.0, 0.6, 0.0], [-0.4, 0.0, 0.0]]).T.reshape(1, 3, 1, 2)
    foreground = torch.ones(1, 1, 2)
    error, index, _ = geodesic_errors(ball, predicted, foreground, label, foreground.bool())
    quarter_and_half = error[0][index[0].argsort()]
    np.testing.assert_allclose(quarter_and_half, [np.pi / 4, np.pi / 2], rtol=0.06)


def test_nothing_labelled_is_nan_and_says_so():
    predicted, foreground, label, inside, known = scene(0)
    metric = GeodesicError(BOARD)
    metric.update(predicted, foreground, label, inside, torch.zeros_like(known))
    with pytest.warns(UserWarning, match="no labelled foreground"):
        value = metric.compute()
    assert value["geodesic_points"] == 0
    assert all(value[name].isnan() for name in value if name != "geodesic_points")


def test_area_under_recall_is_the_integral_of_the_curve():
    error = torch.rand(500, generator=torch.Generator().manual_seed(0)) * 40
    error[::7] = float("inf")
    grid = torch.linspace(0, 30, 20_001)
    integral = torch.trapezoid(recall_curve(error, grid), grid) / 30
    assert area_under_recall(error, 30.0).item() == pytest.approx(integral.item(), abs=1e-4)


def test_recall_counts_errors_below_the_threshold_only():
    assert recall_curve(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([2.0])).tolist() == [0.25]


def test_a_copy_shares_the_surface_and_not_the_state():
    metric = GeodesicError(BOARD)
    metric.update(*scene(0))
    copied = copy.deepcopy(metric)
    assert copied.surface is metric.surface
    copied.update(*scene(1))
    assert copied.compute()["geodesic_points"] > metric.compute()["geodesic_points"]
    assert metric.clone().compute() == metric.compute()
