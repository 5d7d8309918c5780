"""Fields drawn over whole images: between cells by interpolation, as sharp as the image."""

from collections.abc import Sequence

import cv2
import numpy as np

from dkp.inference.prediction import THRESHOLD, Prediction
from dkp.viz.colours import CoordinateColours

OPACITY = 0.7
"""Of the colours over the image."""

EDGE = 0.12
"""Half the width of the foreground's soft edge, as a difference of its probability."""


def draw_overlay(image: np.ndarray, predictions: Sequence[Prediction], colours: CoordinateColours) -> np.ndarray:
    """Draw fields over their image: the colours of the surface, and a thin line around the foreground.

    Args:
        image: (h, w, 3) uint8 RGB.
        predictions: of the image's subjects; the last one is drawn on top.
        colours: of the surface.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    drawn = image.copy()
    for one in predictions:
        # A cell counts as much as it is foreground, so that what a background cell says does not show.
        weighted = np.dstack([colours(one.coordinate), np.ones_like(one.foreground)]) * one.foreground[..., None]
        values, (left, top) = one.enlarged(weighted)
        if not values.size:
            continue
        chance = values[..., 3]
        colour = 255 * values[..., :3] / np.maximum(chance, 1e-3)[..., None]
        share = OPACITY * np.clip((chance - THRESHOLD) / (2 * EDGE) + 0.5, 0, 1)[..., None]
        region = drawn[top : top + len(values), left : left + values.shape[1]]
        region[:] = (region + share * (colour - region)).astype(np.uint8)
        lines, _ = cv2.findContours((chance > THRESHOLD).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        thickness = max(1, round(max(image.shape) / 900))
        outlined = np.ascontiguousarray(region)
        cv2.drawContours(outlined, lines, -1, (255, 255, 255), thickness, cv2.LINE_AA)
        region[:] = outlined
    return drawn
