"""Which one of the things that may be wrong with a rig explains how far its views disagree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dkp.captures.check.delays import small_delay
from dkp.captures.check.fitting import fitted
from dkp.captures.check.hypotheses import SEEN, Hypothesis, Looks, hypotheses
from dkp.captures.check.sight import pair_medians

EXPLAINS = 0.6
"""A hypothesis explains the disagreement if it leaves less than this share of it, between the views that it is about.
On right captures (detector noise of 2 px, real detections and corners) nothing left less than 0.75."""
EXPLAINS_OUTLINES = 0.5
"""The same for silhouettes and what a detector sees, which disagree more by themselves."""
_MOST_SEEN = 0.04  # share of a frame's width that may be left of what a detector sees (right captures: 0.013)
_LEAST = 0.0005  # share of a frame's width by which the disagreement must fall
_LEAST_OUTLINES = 0.003
_SIMPLER = 1.25  # a simpler hypothesis is preferred if it leaves less than so many times as much
_MOST_FAULTS = 3
_LEAST_MATCHES = 20


@dataclass(frozen=True)
class Finding:
    """A hypothesis that explains the disagreement.

    Attributes:
        kind: one word.
        cameras: names.
        sentence: what looks wrong, with figures.
        before: mean over the pairs of views concerned of the median distance as given [px of the camera]; of images
            that are not those of their joints, the share of the joints that they show (where they are late, how far
            they are from showing them, from 0 to 1).
        after: the same if the hypothesis holds.
    """

    kind: str
    cameras: list[str]
    sentence: str
    before: float
    after: float


def judge(looks: Looks, cameras: Sequence[str]) -> list[Finding]:
    """Return what explains the disagreement, in the order in which it was found: the rest is tried on what remains."""
    findings: list[Finding] = []
    for _ in range(_MOST_FAULTS):
        found = _explained(looks, cameras) or late(looks, cameras)
        if found is None:
            break
        finding, looks = found
        if any((one.kind, one.cameras) == (finding.kind, finding.cameras) for one in findings):
            break  # no explanation, but a fit of what nothing explains
        findings.append(finding)
    return findings


def _explained(looks: Looks, cameras: Sequence[str]) -> tuple[Finding, Looks] | None:
    count = len(cameras)
    if looks.matches() < _LEAST_MATCHES and looks.cut is None:
        return None
    looks = looks.through_lens()
    sight = looks.sight()
    given = pair_medians(looks.compared(sight), count)
    width = float(looks.sizes[:, 0].max())
    share, least = (EXPLAINS_OUTLINES, _LEAST_OUTLINES * width) if looks.rough else (EXPLAINS, _LEAST * width)
    most = _MOST_SEEN * width if looks.kind == SEEN else np.inf
    if not given or max(given.values()) < least:
        return None
    best: tuple[float, Finding, Looks] | None = None
    for hypothesis in _tried(looks, given, count):
        changed = hypothesis.looks()
        seen_then = changed.compared(changed.sight(sight, hypothesis.cameras))
        after = pair_medians(seen_then, count, set(hypothesis.cameras))
        before = {pair: given[pair] for pair in after if pair in given}
        about = [pair for pair in given if set(pair) & set(hypothesis.cameras)]
        if not before or len(before) < len(about) or not _enough(looks, changed):
            continue
        first, second = (_mean(list(distances.values())) for distances in (before, after))
        if not (second < min(share * first, most) and first - second > least):
            continue
        total = _mean([after.get(pair, distance) for pair, distance in given.items()])
        if best is None or total * _SIMPLER + 0.1 * least < best[0]:
            names = [cameras[index] for index in hypothesis.cameras]
            sentence = hypothesis.says.format(listed(names, len(cameras)))
            figures = f"{_pixels(first)} as given, {_pixels(second)} {_AFTER.get(hypothesis.kind, 'otherwise')}"
            sentence = f"{sentence}: {figures} (median distance of {looks.kind} from their epipolar lines)"
            finding = Finding(hypothesis.kind, names, sentence, _rounded(first), _rounded(second))
            best = (total, finding, changed)
    return None if best is None else best[1:]


def late(looks: Looks, cameras: Sequence[str]) -> tuple[Finding, Looks] | None:
    """Return one camera's delay where it shows in less than the median distance, and what holds in step."""
    found = small_delay(looks)
    if found is None:
        return None
    hypothesis, first, second = found
    names = [cameras[index] for index in hypothesis.cameras]
    says = hypothesis.says.replace(" look ", " look about ") if looks.rough else hypothesis.says
    sentence = (
        f"{says.format(listed(names, len(cameras)))}: {_pixels(first)} as given, {_pixels(second)} in step "
        f"(mean distance of {looks.kind} from their epipolar lines, less what stays over time)"
    )
    return Finding(hypothesis.kind, names, sentence, _rounded(first), _rounded(second)), hypothesis.looks()


_AFTER = {"exchanged": "exchanged", "transposed": "transposed", "delay": "in step", "moved": "then"}


def _tried(looks: Looks, given: dict[tuple[int, int], float], count: int) -> Iterator[Hypothesis]:
    yield from hypotheses(looks)
    if not looks.rough:
        by_camera = {index: _mean([d for pair, d in given.items() if index in pair] or [0.0]) for index in range(count)}
        yield from fitted(looks, (max(by_camera, key=lambda index: by_camera[index]),))
        yield from fitted(looks, tuple(range(count)))


def _enough(looks: Looks, changed: Looks) -> bool:
    """Whether a hypothesis leaves at least half of what was seen, as a delay does not where instants are few."""
    return bool(2 * np.isfinite(changed.pixels[..., 0]).sum() >= np.isfinite(looks.pixels[..., 0]).sum())


def _mean(values: Sequence[float]) -> float:
    """Mean of distances, each of them bounded: behind a camera they are infinite."""
    return float(np.mean(np.minimum(values, 1e4)))


def _rounded(value: float) -> float:
    return round(value, 3)


def _pixels(value: float) -> str:
    return "most of it behind a camera" if value >= 1e4 else f"{value:.1f} px"


def listed(names: Sequence[str], count: int) -> str:
    """Return names of cameras as a phrase, of ``count`` cameras in all."""
    if len(names) == count and count > 2:
        return "all cameras"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
