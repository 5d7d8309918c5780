"""A camera that is a little late or early: what moves says so where the median distance does not."""

from __future__ import annotations

import warnings
from itertools import groupby

import numpy as np

from dkp.captures.check.hypotheses import Hypothesis, Looks, delayed

_MOST = 5  # larger ones show in the median distance, and by chance in views of somebody who stands still
_LEAST_INSTANTS = 8
_LEAVES = 0.95  # share of the deviation that a delay may leave (at least 1.05 on right captures that move)
_SURE = 3.0  # by how many standard errors the deviation falls, over instants
_FALLS = 0.65  # share of the instants in which it falls
_ALIKE = 0.8  # share of the pairs of views and halves of the points that say about the same delay
_VALLEY, _NEAR = 0.7, 3  # least correlation of what delays leave with how far they are from the best one, so far about
_WRONG_WAY = 0.5  # by how much of its fall the deviation rises, at least, for as large a delay the other way
_LEAST_MATCHES = 10  # of two views' points


def small_delay(looks: Looks) -> tuple[Hypothesis, float, float] | None:
    """Find one camera's delay by how far what views show departs from its own middle over time.

    A wrong calibration or a point that two views take for another moves a point's epipolar distance by about as much
    at all instants; a delay moves it with the point's velocity. So the median over time of each point is taken out.
    Most other views, and halves of the points, have to say about the same delay by themselves.

    Returns:
        The delay, and the mean deviation as given and then [px]; None where nothing is sure.
    """
    looks = looks.through_lens()
    given, count = looks.sight(), looks.pixels.shape[1]
    compared = looks.compared(given)
    best: tuple[float, Hypothesis, float, float] | None = None
    hypotheses = [one for camera in range(count) for one in delayed(looks, camera)]
    for (camera,), some in groupby(hypotheses, lambda one: one.cameras):
        tried = list(some)
        others = [other for other in range(count) if other != camera]
        before = [compared.misses(camera, other) for other in others]
        groups, sums, falls = [], [], []
        for one in tried:
            changed = one.looks()
            then = changed.compared(changed.sight(given, (camera,)))
            both = [_deviations(old, then.misses(camera, other)) for old, other in zip(before, others, strict=True)]
            groups.append([_left(*(values[:, half::2] for values in pair)) for pair in both for half in (0, 1)])
            old, new = (np.concatenate(values, axis=1) for values in zip(*both, strict=True))
            sums.append((_mean(old), _mean(new)))
            falls.append(np.nansum(old - new, axis=1)[np.isfinite(old).any(axis=1)])
        left = np.array([new / max(old, 1e-9) for old, new in sums])
        if not np.isfinite(left).any():
            continue
        row = int(np.nanargmin(left))
        if (best is None or left[row] < best[0]) and _is_sure(tried, row, left, np.array(groups), falls[row]):
            best = (float(left[row]), tried[row], *sums[row])
    return None if best is None else best[1:]


def _is_sure(tried: list[Hypothesis], row: int, left: np.ndarray, groups: np.ndarray, falls: np.ndarray) -> bool:
    delays = np.array([one.delay for one in tried])
    known = np.isfinite(groups).all(axis=0)
    if abs(delays[row]) > _MOST or left[row] > _LEAVES or len(falls) < _LEAST_INSTANTS or known.sum() < 2:
        return False
    alike = np.abs(delays[groups[:, known].argmin(axis=0)] - delays[row]) <= 1
    error = falls.std() / np.sqrt(len(falls))
    away = np.abs(np.array([0, *delays]) - delays[row])
    valley = np.corrcoef(np.nan_to_num([1.0, *left], nan=1.0)[away <= _NEAR], away[away <= _NEAR])[0, 1]
    fall, wrong = 1 - left[row], left[delays == -delays[row]]
    if alike.mean() < _ALIKE or valley < _VALLEY or not (wrong > 1 + _WRONG_WAY * fall).all():
        return False
    return bool(falls.mean() > _SURE * error and (falls > 0).mean() >= _FALLS)


def _deviations(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the deviations of two tables (T, P) of distances from their points' medians, where both are known."""
    both = np.isfinite(first) & np.isfinite(second)
    found = []
    for values in (first, second):
        known = np.where(both, values, np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # points that are never known
            found.append(np.abs(known - np.nanmedian(known, axis=0)))
    return found[0], found[1]


def _left(old: np.ndarray, new: np.ndarray) -> float:
    return _mean(new) / max(_mean(old), 1e-9) if np.isfinite(old).sum() >= _LEAST_MATCHES else np.nan


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan
