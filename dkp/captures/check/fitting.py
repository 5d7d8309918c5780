"""Hypotheses with unknowns: images that were resized or cut after the calibration, and a camera that has moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations

import numpy as np
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from dkp.captures.check.hypotheses import Hypothesis, Looks
from dkp.geometry import Camera

_MOST_POINTS = 300  # of a camera, on which unknowns are fitted
_MOST_SCALE = 4.0
_MOST_TURN = 45.0  # degrees
_STEPS = 12  # of a fit
_FAR = 1e4  # px, what a point behind a camera counts
_SCALES = (1.0, 0.5, 2.0)  # of images against the calibration, where a fit starts
FITTED = ("resized", "shifted", "moved")
"""Kinds of what is fitted here: one camera's own calibration."""


def fitted(looks: Looks, cameras: tuple[int, ...]) -> Iterator[Hypothesis]:
    """Yield what explains cameras best that do not fit: images resized or cut alike; of one camera, another pose."""
    thin, some = _thinned(looks, cameras), list(cameras)
    starts = [np.array([scale, 0.0, 0.0]) for scale in _SCALES]
    for kind, axes in (("resized", (0,)), ("shifted", (1, 2)), ("resized", (0, 1, 2))):
        whole = _solved(thin, cameras, axes, starts)
        starts.append(whole)
        if not 1 / _MOST_SCALE < whole[0] < _MOST_SCALE or np.abs(whole[1:]).max() > looks.sizes[some].max():
            continue  # all points at one: no two views disagree on that
        scale, shift = whole[0], -whole[1:] / whole[0]
        parts = [f"{1 / scale:.4g} times as large as calibrated"] if 0 in axes else []
        parts += [f"shifted by ({shift[0]:.1f}, {shift[1]:.1f}) px"] if 1 in axes else []
        if axes == (1, 2):  # small turns and shifts look alike
            focal = float(looks.rig.intrinsics[:, some, 0, 0].mean())
            parts[-1] += f" (cut, or turned by {np.degrees(np.arctan2(np.linalg.norm(shift), focal)):.1f} degrees)"
        says = f"the images of {{}} look {' and '.join(parts)}"
        yield Hypothesis(kind, cameras, says, partial(_rescaled, looks, cameras, whole))
    if len(cameras) > 1:
        return
    pose = _solved(thin.through_lens(), cameras, None, [np.zeros(6)])
    turn, move = np.degrees(np.linalg.norm(pose[:3])), np.linalg.norm(pose[3:])
    says = f"{{}} fits if it is turned by {turn:.2f} degrees and moved by {move:.3g} m"
    if turn < _MOST_TURN:
        yield Hypothesis("moved", cameras, says, partial(_moved, looks, cameras, pose))


def _thinned(looks: Looks, cameras: tuple[int, ...]) -> Looks:
    """Keep every n-th instant, so that a fit is quick."""
    seen = int(np.isfinite(looks.pixels[:, list(cameras), :, 0]).sum())
    rows = slice(None, None, max(1, seen // _MOST_POINTS))
    return replace(
        looks,
        rig=looks.rig[rows],
        pixels=looks.pixels[rows],
        local=None,
        sequences=looks.sequences[rows],
        times=looks.times[rows],
    )


def _solved(
    thin: Looks, cameras: tuple[int, ...], axes: tuple[int, ...] | None, starts: Sequence[np.ndarray]
) -> np.ndarray:
    """Return the unknowns with the smallest robust sum of distances, from the best start.

    Args:
        thin: what the views show.
        cameras: indices.
        axes: which of scale and shift of `_rescaled` are unknown; None for the pose of `_moved`.
        starts: where to begin.
    """
    given = thin.sight()
    pairs = [pair for pair in combinations(range(thin.pixels.shape[1]), 2) if {*pair} & {*cameras}]
    known = {pair: ~np.isnan(given.misses(*pair)) for pair in pairs}
    free = slice(None) if axes is None else list(axes)

    def whole(unknowns: np.ndarray) -> np.ndarray:
        values = starts[0].copy()
        values[free] = unknowns
        return values

    def distances(unknowns: np.ndarray) -> np.ndarray:
        changed = (_moved if axes is None else _rescaled)(thin, cameras, whole(unknowns))
        sight = changed.sight(given, cameras)
        misses = [sight.misses(*pair)[known[pair]] for pair in pairs]
        clipped: np.ndarray = np.nan_to_num(np.clip(np.concatenate(misses), -_FAR, _FAR))
        return clipped

    if not sum(int(mask.sum()) for mask in known.values()):
        return starts[0]
    begin = min((start[free] for start in starts), key=lambda unknowns: float(np.abs(distances(unknowns)).mean()))
    scale = max(0.25, float(np.median(np.abs(distances(begin)))) / 2)
    return whole(least_squares(distances, begin, loss="soft_l1", f_scale=scale, x_scale="jac", max_nfev=_STEPS).x)


def _rescaled(looks: Looks, cameras: tuple[int, ...], unknowns: np.ndarray) -> Looks:
    """Calibrated pixel = scale * pixel + shift, as cameras of the images as they are, in whose pixels distances are."""
    matrices, some = looks.rig.intrinsics.clone(), list(cameras)
    changed = matrices[:, some]
    changed[..., :2, 2] -= torch.as_tensor(unknowns[1:])
    changed[..., :2, :] /= unknowns[0]
    matrices[:, some] = changed
    rig = looks.rig
    rig = Camera(matrices, rig.rotation, rig.translation, rig.distortion, rig.image_size)
    return replace(looks, rig=rig, local=None)


def _moved(looks: Looks, cameras: tuple[int, ...], unknowns: np.ndarray) -> Looks:
    """Turn a camera by a Rodrigues vector in its own axes, and move its centre [m]."""
    (camera,), rig = cameras, looks.rig
    rotation, translation = rig.rotation.clone(), rig.translation.clone()
    turned = torch.as_tensor(Rotation.from_rotvec(unknowns[:3]).as_matrix()) @ rotation[:, camera]
    centre = rig.centre()[:, camera] + torch.as_tensor(unknowns[3:])
    rotation[:, camera], translation[:, camera] = turned, -(turned @ centre[..., None])[..., 0]
    return replace(looks, rig=Camera(rig.intrinsics, rotation, translation, rig.distortion, rig.image_size))
