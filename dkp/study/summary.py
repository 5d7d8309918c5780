"""From the records of cells to means, spreads, and shares of the gap closed."""

import math
import statistics
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from dkp.study.plan import Plan
from dkp.study.recipe import keys
from dkp.study.record import Record

TRIVIAL = "trivial"
EXACT = "exact"
REFERENCES = {"trivial/": TRIVIAL, "exact_": EXACT}
"""What is measured beside a method, by how the names of its metrics begin."""
"""The field that is no detector: coordinate = position in the crop."""

FLOOR, CEILING = "labelled_only", "oracle"
"""The methods between which the gap lies."""

KEY_METRICS = (
    "geodesic_median_cm",
    "geodesic_mean_cm",
    "epipolar_median_px",
    "epipolar_mean_px",
    "surface_median_mm",
    "mpjpe_mm",
)
"""Accuracy, consistency and error in 3D."""

GAP_METRICS = (*KEY_METRICS, "auc30", "pck10", "gps", "iou", "matched_share")
"""Metrics of which the share of the gap closed is given."""

HIGHER = frozenset(
    {
        "coverage", "auc10", "auc30", "pck5", "pck10", "iou", "mask_iou", "matched_share", "gps", "gpsm", "ap", "ar",
        "surface_recovered", "pck3d_150", "keypoints_found", "triangulated", "triangulated_views", "part_accuracy",
        "iou_view", "ap50", "ap75", "joint_on_foreground",
    }
)  # fmt: skip
"""Metrics of which more is better."""


@dataclass
class Results:
    """All values of a study.

    Attributes:
        plan: the study.
        values: capture -> method -> metric -> seed -> value.
        records: of the cells that count, by name.
        stale: names of cells that were run by another recipe than the plan's present one.
        failed: cell -> why it failed.
    """

    plan: Plan
    values: dict[str, dict[str, dict[str, dict[int, float]]]] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def of(self, capture: str, method: str, metric: str) -> dict[int, float]:
        """Values of a metric by seed; empty where there are none."""
        return self.values.get(capture, {}).get(method, {}).get(metric, {})

    def mean(
        self, capture: str, method: str, metric: str, seeds: Container[int] | None = None
    ) -> tuple[float, float | None] | None:
        """Mean and spread over seeds, some or all; None where there is no value."""
        found = self.of(capture, method, metric).items()
        return mean_and_spread(value for seed, value in found if seeds is None or seed in seeds)

    def seeds(self, capture: str, method: str) -> list[int]:
        """Seeds of which there is a result."""
        found = self.values.get(capture, {}).get(method, {})
        return sorted({seed for values in found.values() for seed in values})

    def gap(self, capture: str, method: str, metric: str) -> dict[int, float]:
        """Share of the gap between labelled-only and oracle that a method closes, by seed.

        A seed counts where all three have a value and the oracle is better than labelled-only.
        """
        floor, ceiling, own = (self.of(capture, name, metric) for name in (FLOOR, CEILING, method))
        return {
            seed: (floor[seed] - value) / (floor[seed] - ceiling[seed])
            for seed, value in own.items()
            if seed in floor and seed in ceiling and sign(metric) * (floor[seed] - ceiling[seed]) > 0
        }


def sign(metric: str) -> float:
    """1 where less is better, -1 where more is."""
    return -1.0 if metric in HIGHER else 1.0


def mean_and_spread(values: Iterable[float]) -> tuple[float, float | None] | None:
    """Mean and standard deviation (of the sample; None of a single value); None of nothing.

    Examples:
        >>> mean_and_spread([1.0, 3.0])
        (2.0, 1.4142135623730951)
        >>> mean_and_spread([4.0]), mean_and_spread([])
        ((4.0, None), None)
    """
    found = list(values)
    if not found:
        return None
    return statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None


def gather(plan: Plan, records: Mapping[str, Record], overrides: Mapping[str, Any]) -> Results:
    """Return the results of a plan's cells.

    Args:
        plan: the study; cells that are not in it are passed over.
        records: by cell.
        overrides: options for every fit that the cells were run with.
    """
    results = Results(plan)
    reference = plan.ordering[-1] if plan.ordering else next(iter(plan.methods))  # whose measured references count
    for cell in plan.cells():
        record = records.get(cell.name)
        if record is None or record.state == "unfinished":
            continue
        if record.state == "failed":
            results.failed[cell.name] = record.error or ""
            continue
        if record.key != keys(plan, cell, overrides)["test"]:
            results.stale.append(cell.name)
            continue
        results.records[cell.name] = record
        methods = results.values.setdefault(cell.capture.name, {})
        for name, value in record.metrics.items():
            begin = next((begin for begin in REFERENCES if name.startswith(begin)), None)
            if value is None or not math.isfinite(value) or (begin and cell.method.name != reference):
                continue
            metrics = methods.setdefault(REFERENCES[begin] if begin else cell.method.name, {})
            metrics.setdefault(name.removeprefix(begin or ""), {})[cell.seed] = value
    return results


def summary(results: Results) -> dict[str, Any]:
    """`{capture: {method: {metric: [mean, std]}, "gap_closed": {method: {metric: share}}}}`.

    The share is the mean over seeds of each seed's share; std is None with a single seed.
    """
    found: dict[str, Any] = {}
    for capture, methods in results.values.items():
        table: dict[str, Any] = {}
        for method, metrics in methods.items():
            pairs = {name: mean_and_spread(values.values()) for name, values in sorted(metrics.items())}
            table[method] = {name: [digits(part) for part in pair] for name, pair in pairs.items() if pair is not None}
        shares: dict[str, dict[str, float | None]] = {}
        for method in methods:
            closed = {name: results.gap(capture, method, name) for name in GAP_METRICS}
            own = {name: digits(statistics.fmean(values.values())) for name, values in closed.items() if values}
            if own and method not in (FLOOR, CEILING):
                shares[method] = own
        found[capture] = {**table, "gap_closed": shares}
    return found


def digits(value: float | None) -> float | None:
    """Five significant digits."""
    return None if value is None else float(f"{value:.5g}")


def verdicts(results: Results, capture: str, method: str, rivals: Iterable[str]) -> list[str]:
    """Plain sentences: where a method is ahead of every rival, and of which it is not, over the seeds that both have.

    Args:
        results: the study.
        capture: on which.
        method: the one judged.
        rivals: methods without more labels.
    """
    ahead, behind = [], []
    for metric in KEY_METRICS:
        own, compared, better = results.of(capture, method, metric), False, []
        for name in rivals:
            other = results.of(capture, name, metric)
            seeds = sorted(own.keys() & other.keys())
            if not seeds:
                continue
            compared = True
            theirs, ours = (statistics.fmean(values[seed] for seed in seeds) for values in (other, own))
            if sign(metric) * theirs <= sign(metric) * ours:
                which = "" if len(seeds) == len(own) else f", seed {', '.join(map(str, seeds))}"
                better.append(f"{metric} ({name}: {digits(theirs)}, {method}: {digits(ours)}{which})")
        behind += better
        if compared and not better:
            ahead.append(metric)
    sentences = []
    if ahead:
        sentences.append(f"{method} is ahead of every measured baseline in {', '.join(ahead)}.")
    if behind:
        sentences.append(f"{method} is not ahead in {', '.join(behind)}.")
    return sentences


def ordering_holds(results: Results) -> list[tuple[str, bool | None]]:
    """Say whether each method of the plan's ordering is better than the one before, by capture and seed.

    Returns:
        ("CAPTURE, seed N", whether it holds) for each; None where one of the methods has no result.
    """
    found: list[tuple[str, bool | None]] = []
    metric = KEY_METRICS[0]
    for capture in results.values:
        for seed in results.plan.seeds:
            values = [results.of(capture, method, metric).get(seed) for method in results.plan.ordering]
            if all(value is None for value in values):
                continue
            known = [value for value in values if value is not None]
            better = all(sign(metric) * a > sign(metric) * b for a, b in pairwise(known))
            found.append((f"{capture}, seed {seed}", better if len(known) == len(values) else None))
    return found
