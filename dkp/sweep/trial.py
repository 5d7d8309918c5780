"""One trial: a `dkp fit` in a process of its own, watched while it trains."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dkp.errors import InputError
from dkp.metrics.names import is_detail
from dkp.pipeline.runner import Runner, StageFailed
from dkp.pipeline.stages import read_curves, read_metrics
from dkp.workers import cores


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        value: the metric at its end; of a trial that was stopped, its last one; None where it failed.
        stopped: whether it was stopped early because others were better.
        reason: why it failed, or "".
        refused: whether it failed because of its input, before or in training.
    """

    value: float | None
    stopped: bool = False
    reason: str = ""
    refused: bool = False


def run_trial(
    runner: Runner, words: Sequence[str], folder: Path, metric: str, going_on: Callable[[int, float], bool]
) -> Outcome:
    """Run a trial to its end, or until it is not worth going on.

    Args:
        runner: runs it.
        words: the command, without "dkp".
        folder: the run's folder, which the command makes; the log lies beside it.
        metric: name of the metric.
        going_on: asked with the number (from 1) and value of every new value of the metric.

    Raises:
        InputError: the run has no such metric.
    """
    seen: list[float] = []
    stopped = False

    def look() -> bool:
        nonlocal stopped
        for value in values_of(folder / "metrics.csv", metric)[len(seen) :]:
            if stopped:
                break
            seen.append(value)
            stopped = not going_on(len(seen), value)
        return not stopped

    try:
        runner.process(words, folder, folder.with_name(f"{folder.name}.log"), cores(), folder.name, look)
    except StageFailed as error:
        if stopped:
            return Outcome(seen[-1], stopped=True)
        return Outcome(None, reason=f"status {error.status}: {error.last}", refused=error.status == 2)
    return _result(folder / "metrics.json", metric)


def _result(path: Path, metric: str) -> Outcome:
    metrics = read_metrics(path)
    if metric not in metrics:
        known = ", ".join(name for name in metrics if name.startswith("val/") and not is_detail(name))
        raise InputError(f"{path} has no metric {metric!r}, expected one of {known or ', '.join(metrics)}")
    value = metrics[metric]
    if value is None:
        return Outcome(None, reason=f"{metric} is no number")
    return Outcome(float(value))


def values_of(path: Path, metric: str) -> list[float]:
    """Return the finite values of a metric so far."""
    return [value for _, value in read_curves(path).get(metric, ()) if math.isfinite(value)]
