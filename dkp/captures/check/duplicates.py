"""Cameras that are one camera: with one pose, with the same images or with the same joints."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from dkp.captures.capture import Capture
from dkp.captures.manifest import Instant

_THUMB = 16  # px a side of the images that are compared
_CONTRAST = 2.0  # grey levels of standard deviation that an image must have to say something
_SAME = 0.02  # grey levels by which copies may differ on average
_LEAST_MOMENTS = 3
_SAME_PIXEL = 0.02  # px by which copied points may differ


def duplicate_sentences(capture: Capture, instants: Sequence[Instant]) -> list[str]:
    """Say which cameras have one pose, or show the same images."""
    sentences = []
    moving = {view.camera for instant in instants for view in instant.views if view.override is not None}
    for first, second in combinations([name for name in capture.cameras if name not in moving], 2):
        one, other = capture.cameras[first], capture.cameras[second]
        apart = float((one.centre() - other.centre()).norm())
        if apart < 1e-6 and bool((one.rotation - other.rotation).abs().max() < 1e-6):
            sentences.append(f"{first} and {second} have the same pose: one of them looks like a copy of the other")
    small: dict[str, dict[str, np.ndarray]] = {name: {} for name in capture.cameras}
    for view in (view for instant in instants for view in instant.views):
        image = capture.image(view)
        rows, columns = (np.linspace(0, n - 1, _THUMB).round().astype(int) for n in image.shape[:2])
        thumb = image[rows[:, None], columns].astype(np.float64)
        if thumb.std() > _CONTRAST:
            small[view.camera][view.frame] = thumb
    for first, second in combinations(capture.cameras, 2):
        both = small[first].keys() & small[second].keys()
        if len(both) >= _LEAST_MOMENTS:
            apart = np.mean([np.abs(small[first][frame] - small[second][frame]).mean() for frame in both])
            if apart < _SAME:
                sentences.append(f"{first} and {second} show the same images")
    for name, thumbs in small.items():
        known = list(thumbs.values())
        if len(known) >= _LEAST_MOMENTS and max(np.abs(thumb - known[0]).mean() for thumb in known) < _SAME:
            others = [list(own.values()) for other, own in small.items() if other != name]
            if any(np.abs(thumb - own[0]).mean() > 1.0 for own in others if own for thumb in own):
                sentences.append(f"{name} shows the same image in all of {len(known)} instants that were looked at")
    return sentences


def same_points(pixels: np.ndarray, cameras: Sequence[str], kind: str) -> list[str]:
    """Say which cameras show the same points at the same pixels, and which have the same joints all the time.

    Args:
        pixels: (T, C, P, 2) [px]; NaN where not seen.
        cameras: their names.
        kind: what the points are.
    """
    sentences = []
    for first, second in combinations(range(len(cameras)), 2):
        apart = np.abs(pixels[:, first] - pixels[:, second]).max(axis=-1)
        seen = np.isfinite(apart)
        if seen.any(axis=1).sum() >= _LEAST_MOMENTS and np.quantile(apart[seen], 0.9) < _SAME_PIXEL:
            names = f"{cameras[first]} and {cameras[second]}"
            sentences.append(f"{names} have the same {kind}: one of them looks like a copy of the other")
    for camera, name in enumerate(cameras if kind == "joints" else ()):
        own = pixels[:, camera][np.isfinite(pixels[:, camera]).any(axis=(1, 2))]
        if len(own) >= _LEAST_MOMENTS and np.nanmax(np.abs(own - own[0]), initial=0.0) < _SAME_PIXEL:
            sentences.append(f"{name} has the same joints in all of {len(own)} instants")
    return sentences
