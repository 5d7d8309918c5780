"""One trial: a `dkp fit` in a process of its own, watched while it trains."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dkp.errors import InputError

_PATIENCE = 30.0  # s that a process gets to end by itself
_INTERVAL = 0.5  # s between two looks at its metrics


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
    words: Sequence[str], folder: Path, log: Path, metric: str, going_on: Callable[[int, float], bool]
) -> Outcome:
    """Runs a trial to its end, or until it is not worth going on.

    Args:
        words: the command.
        folder: the run's folder, which the command makes.
        log: file for what the command prints.
        metric: name of the metric.
        going_on: asked with the number (from 1) and value of every new value of the metric.

    Raises:
        InputError: the run has no such metric.
    """
    with log.open("w") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT)
        try:
            count = 0
            while process.poll() is None:
                time.sleep(_INTERVAL)
                for value in values_of(folder / "metrics.csv", metric)[count:]:
                    count += 1
                    if not going_on(count, value) and process.poll() is None:
                        return Outcome(value, stopped=True)
        finally:
            end(process)
    if process.returncode != 0:
        reason = f"status {process.returncode}: {last_line(log)}"
        return Outcome(None, reason=reason, refused=process.returncode == 2)
    return _result(folder / "metrics.json", metric)


def _result(path: Path, metric: str) -> Outcome:
    try:
        metrics = json.loads(path.read_text())["metrics"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error}), expected the metrics of a trial") from error
    if metric not in metrics:
        known = ", ".join(name for name in metrics if name.startswith("val/") and "/pair/" not in name)
        raise InputError(f"{path} has no metric {metric!r}, expected one of {known or ', '.join(metrics)}")
    value = metrics[metric]
    if value is None:
        return Outcome(None, reason=f"{metric} is no number")
    return Outcome(float(value))


def end(process: subprocess.Popen) -> None:
    """Ends a process: politely, then not."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def values_of(path: Path, metric: str) -> list[float]:
    """The values of a metric so far; the file may just be written, so what is not complete is left out."""
    try:
        with path.open(newline="") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    if not rows or metric not in rows[0]:
        return []
    column = rows[0].index(metric)
    cells = [row[column] for row in rows[1:] if len(row) == len(rows[0])]
    numbers = []
    for cell in cells:
        try:
            number = float(cell)
        except ValueError:
            continue
        if math.isfinite(number):
            numbers.append(number)
    return numbers


def last_line(log: Path) -> str:
    """The last line of a log that says anything."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("dkp: error: ") if lines else "nothing was printed"
