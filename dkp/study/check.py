"""Compares a cell that was run again with the committed one."""

from collections.abc import Mapping

from dkp.study.record import Record


class NotReproduced(Exception):
    """What was run does not show what was committed or expected; the message is one sentence."""


def differences(old: Record, new: Record, tolerance: Mapping[str, float]) -> list[tuple[str, float, float, float]]:
    """How far two records of a cell are apart.

    Returns:
        Metric, old value, new value, relative difference (infinite where a value is missing), for each of the metrics.
    """
    found = []
    for metric in tolerance:
        before, after = old.metrics.get(metric), new.metrics.get(metric)
        if before is None or after is None:
            found.append((metric, before or float("nan"), after or float("nan"), float("inf")))
        else:
            found.append((metric, before, after, abs(after - before) / max(abs(before), 1e-9)))
    return found
