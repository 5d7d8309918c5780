"""Lengths of bones: joints of several views meet in space, and what lies between them has to be a body."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dkp.captures.check.hypotheses import Looks
from dkp.captures.check.sight import Sight
from dkp.captures.joints import BONES, LAYOUTS, bone_lengths, renamed
from dkp.captures.rig import METRES_PER_UNIT

_SMALLEST, _LARGEST = 1 / 3, 3.0  # of the subject against the surface at rest: children and giants are within
_UNLIKE = 2.5  # the longest bones against the shortest, each as a share of the surface's (3.7 and 4.4 in wrong layouts)
_UNSTABLE = 0.6  # spread (80 % of the instants) of most bones' lengths, as a share of the length
_LEAST_INSTANTS = 4
_LEAST_BONES = 4
_ILL = 1e4  # condition from which lines of sight fix no point


def meeting_points(sight: Sight) -> np.ndarray:
    """Return (T, P, 3) points nearest to the lines of sight [m]; NaN where fewer than two cameras fix one."""
    seen = np.isfinite(sight.rays[..., 0])  # (T, C, P)
    rays = np.where(seen[..., None], sight.rays, 0.0)
    across = np.eye(3) * seen[..., None, None] - rays[..., :, None] * rays[..., None, :]
    origin = sight.centres[0].mean(axis=0)  # near the rig: far from the world's origin digits would be lost
    normal = across.sum(axis=1)
    right = np.einsum("tcpij,tcj->tpi", across, sight.centres - origin)
    fixed = (seen.sum(axis=1) >= 2) & np.isfinite(normal).all(axis=(-2, -1))
    normal[~fixed] = np.eye(3)
    fixed &= np.linalg.cond(normal) < _ILL
    normal[~fixed] = np.eye(3)
    points: np.ndarray = np.linalg.solve(normal, right[..., None])[..., 0] + origin
    points[~fixed] = np.nan
    return points


def lengths_of(points: np.ndarray, names: list[str]) -> np.ndarray:
    """Return the lengths (T, B) of the bones between joints (T, P, 3) [m]; NaN where one of the two is not known."""
    return bone_lengths(dict(zip(names, points.swapaxes(0, 1), strict=True)))


def bone_sentences(looks: Looks, rest: Mapping[str, np.ndarray], surface: str, unit: str) -> list[str]:
    """Say what is wrong with the sizes, proportions or the constancy of the bones; the first of them.

    Args:
        looks: at joints.
        rest: joints of the surface at rest [m].
        surface: its name.
        unit: of the capture.
    """
    points = meeting_points(looks.sight())
    lengths = lengths_of(points, looks.names)
    known = np.isfinite(lengths).sum(axis=0) >= _LEAST_INSTANTS
    at_rest = bone_lengths(rest)
    known &= np.isfinite(at_rest)
    if known.sum() < _LEAST_BONES:
        return []
    ratios = np.nanmedian(lengths[:, known], axis=0) / at_rest[known]
    size = float(np.median(ratios))
    if _unlikeness(ratios) > _UNLIKE:
        worst = int(np.abs(np.log(np.maximum(ratios, 1e-12) / size)).argmax())
        bone = BONES[np.flatnonzero(known)[worst]]
        return [_proportion_sentence(points, looks.names, at_rest, bone, float(ratios[worst] / size), surface)]
    if not _SMALLEST < size < _LARGEST:
        tall = size * float(np.ptp(list(rest.values()), axis=0).max())
        return [f"{_size_sentence(size, surface, unit)} (As given it is {tall:,.4g} m tall.)"]
    spread = _spread(lengths[:, known], looks.sequences)
    if spread is not None and spread > _UNSTABLE:
        return [
            f"the lengths of the subject's bones change by {100 * spread:.0f} % from instant to instant: the joints of "
            "the views may be of different people or moments"
        ]
    return []


def _size_sentence(size: float, surface: str, unit: str) -> str:
    given = METRES_PER_UNIT[unit]
    fitting = [name for name, metres in METRES_PER_UNIT.items() if 0.4 < size * metres / given < 2.0]
    advice = f": is the unit {fitting[0]}, not {unit}?" if fitting else ": is the scale of the calibration right?"
    return f"the subject's bones are {size:.3g} times as long as those of the surface {surface}{advice}"


def _unlikeness(ratios: np.ndarray) -> float:
    """Return by how much more the longest bones are too long than the shortest are, without the extreme ones."""
    low, high = np.quantile(ratios, (0.1, 0.9))
    return float(high / max(low, 1e-12))


def _proportion_sentence(
    points: np.ndarray, names: list[str], at_rest: np.ndarray, bone: tuple[str, str], ratio: float, surface: str
) -> str:
    """Name the worst bone, and the layout that would make a person of the joints."""
    said = (
        f"the subject's bones have impossible lengths (from {bone[0]} to {bone[1]} it is {ratio:.2g} times what the "
        "others make expect)"
    )
    if surface != "human":
        return f"{said}: are they of the surface {surface}?"
    for wrong, right in ((a, b) for a in LAYOUTS for b in LAYOUTS if a != b and len(LAYOUTS[a]) == len(LAYOUTS[b])):
        if set(names) - {"mid_hip"} <= set(LAYOUTS[wrong]):
            called = renamed(names, wrong, right)
            some = [index for index, name in enumerate(names) if name in called]
            lengths = lengths_of(points[:, some], [called[names[index]] for index in some])
            known = np.isfinite(at_rest) & (np.isfinite(lengths).sum(axis=0) >= _LEAST_INSTANTS)
            if known.sum() < _LEAST_BONES:
                continue
            if _unlikeness(np.nanmedian(lengths[:, known], axis=0) / at_rest[known]) < _UNLIKE:
                return f"{said}: the joints look like layout {right} read as {wrong}"
    return f"{said}: the joints' names may be mixed up"


def _spread(lengths: np.ndarray, sequences: np.ndarray) -> float | None:
    """Median over bones of the spread of their lengths in a recording, as a share of the length."""
    spreads = []
    for name in np.unique(sequences):
        own = lengths[sequences == name]
        own = own[:, np.isfinite(own).sum(axis=0) >= _LEAST_INSTANTS]
        if own.shape[1]:
            low, middle, high = np.nanquantile(own, (0.1, 0.5, 0.9), axis=0)
            spreads += ((high - low) / np.maximum(middle, 1e-12)).tolist()
    return float(np.median(spreads)) if spreads else None
