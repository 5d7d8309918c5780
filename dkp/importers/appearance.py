"""What a subject, the background and the subject's mirror image look like to a static camera, learned from its frames.

The floor adds its own light to what it mirrors: a mirror image or a shadow is lighter than the subject, and darker than
the floor. So pixels are told apart by their grey level, by how it compares with the background's, and by how much
redder they are; these are counted where the views say what a pixel shows (naive Bayes by histograms, Swain 1991).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from scipy import ndimage

from dkp.importers.boxes import changed
from dkp.importers.masks import disc, joined, without_small_parts

_BINS = (40, 40, 12)  # of grey level, ratio to the background and redness
_WIDTHS = (1.5, 1.5, 1.0)  # bins, by which counts are smoothed
_NEW = (3e-6, 1e-6, 1e-6)  # probability of a colour never seen: a subject has rather some that were not yet counted
_DARK = 8.0  # grey levels: below it, ratios say little
_RATIO, _RED = 128, 4  # of equal grey levels, and of a level of CIELAB's a, on a scale of 0 to 255
_INSIDE, _OUTSIDE = 0.1, 0.04  # shares of the mask's width (the root of its area) from its edge, from which is learned
_LOW, _HIGH = 0.1, 0.3  # shares of the subject's size above the floor: up to there, and from there, no mirror image
_ODDS = 4.0  # logarithmic, beyond which no pixel's colour counts
_FLOOR, _BODY, _DEEP = -2.0, 0.7, 4.0  # odds by where a pixel is: near the floor, in the mask, and deep inside
_EDGE, _DEPTH = 0.12, 0.25  # shares of the mask's width from its edge, between which it is deep inside
_BLUR = 0.015  # of the mask's width
_THIN, _PART, _HOLE = 0.03, 0.05, 0.03  # what goes: thinner, as a share of the width; smaller, as shares of the area


class Appearance:
    """What one camera has seen.

    Args:
        looks: at some moments, the frame (h, w, 3) uint8 RGB, the mask (h, w) bool that other cameras confirm, and
            heights as in `refined`.
        background: (h, w, 3) uint8, which may hold the subject where it sat for long.

    Attributes:
        background: (h, w, 3) uint8, without the subject where the other cameras have seen it elsewhere.
    """

    def __init__(self, looks: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], background: np.ndarray) -> None:
        self.background = _without_subject(looks, background)
        counts = np.zeros((3, *_BINS))
        for look in looks:
            part = _around(look[2] >= 0)
            frame, mask, heights, still = (array[part] for array in (*look, self.background))
            different = changed(frame, still)
            width = np.sqrt(mask.sum())
            inside = cv2.erode(mask.astype(np.uint8), disc(_INSIDE * width)) > 0
            outside = cv2.dilate((mask | (heights >= 0)).astype(np.uint8), disc(_OUTSIDE * width)) == 0
            colours = _colours(frame, still)
            kinds = (inside & (heights > _LOW), outside & ~different, outside & different)
            for count, shown in zip(counts, kinds, strict=True):
                np.add.at(count, tuple(index[shown] for index in colours), 1)
        self.likely = np.stack(
            [
                np.log(ndimage.gaussian_filter(count, _WIDTHS) / max(count.sum(), 1) + new)
                for count, new in zip(counts, _NEW, strict=True)
            ]
        ).astype(np.float32)

    def refined(self, image: np.ndarray, background: np.ndarray, rough: np.ndarray, heights: np.ndarray) -> np.ndarray:
        """Decide again what of an image is the subject.

        Args:
            image: (H, W, 3) uint8 RGB.
            background: (H, W, 3) uint8 RGB of the same pixels.
            rough: (H, W) bool, the subject as far as it is known.
            heights: (H, W) how high above the floor a pixel shows something at most, as a share of the subject's size;
                -1 where it shows nothing of the subject.

        Returns:
            (H, W) bool.
        """
        rough = rough | ndimage.binary_fill_holes(rough) & (heights > _LOW)
        width = np.sqrt(rough.sum())
        colours = _colours(image, background)
        subject, still, mirrored = (likely[colours] for likely in self.likely)
        body = np.clip((heights - _LOW) / (_HIGH - _LOW), 0, 1)
        other = np.where(body < 1, np.maximum(still, mirrored), still)
        odds = cv2.GaussianBlur((subject - other).clip(-_ODDS, _ODDS), (0, 0), max(_BLUR * width, 0.5))
        depth = cv2.distanceTransform(rough.astype(np.uint8), cv2.DIST_L2, 3) / max(width, 1)
        deep = np.clip((depth - _EDGE) / (_DEPTH - _EDGE), 0, 1)
        odds += _FLOOR * (1 - body) + np.where(rough, body * (_BODY + _DEEP * deep), 0)
        found = ((odds > 0) & (heights >= 0)).astype(np.uint8)
        for step in (cv2.MORPH_OPEN, cv2.MORPH_CLOSE):
            found = cv2.morphologyEx(found, step, disc(_THIN * width))
        return without_small_parts(joined(found > 0, depth > depth.max() / 2), _PART, _HOLE)


def _without_subject(looks: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], background: np.ndarray) -> np.ndarray:
    """Return the background (h, w, 3), at pixels that show the subject now and then the median of the other looks."""
    away = np.array([heights < 0 for _, _, heights in looks])
    some = away.any(0) & ~away.all(0)
    colours = np.array([frame[some] for frame, _, _ in looks], np.float32)
    colours[~away[:, some]] = np.nan
    clean = background.copy()
    clean[some] = np.nanmedian(colours, axis=0)
    return clean


def _around(shown: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns of what is shown (h, w) bool, and as much again around it."""
    x, y, width, height = cv2.boundingRect(shown.astype(np.uint8))
    reach = max(width, height) // 2
    return slice(max(0, y - reach), y + height + reach), slice(max(0, x - reach), x + width + reach)


def _colours(image: np.ndarray, background: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the bin, along each axis of the histogram, of every pixel (H, W)."""
    (grey, red), (ground, ground_red) = (
        (cv2.cvtColor(some, cv2.COLOR_RGB2GRAY).astype(np.float32), cv2.cvtColor(some, cv2.COLOR_RGB2LAB)[..., 1])
        for some in (image, background)
    )
    ratio = _RATIO * (grey + _DARK) / (ground + _DARK)
    redder = 128 + _RED * (red.astype(np.float32) - ground_red)
    axes = zip((grey, ratio, redder), _BINS, strict=True)
    return tuple((values * bins / 256).clip(0, bins - 1).astype(int) for values, bins in axes)
