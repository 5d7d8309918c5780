"""About where the subject of a capture stands, from what its views are centred on."""

from collections.abc import Sequence

import numpy as np
import torch

from dkp.captures.capture import Capture
from dkp.captures.manifest import Instant, View


def spread(instants: Sequence[Instant], count: int) -> list[Instant]:
    """Return at most ``count`` instants, evenly spread."""
    if len(instants) <= count:
        return list(instants)
    return [instants[i] for i in np.linspace(0, len(instants) - 1, count).round().astype(int)]


def instant_point(capture: Capture, instant: Instant) -> np.ndarray | None:
    """Return the point nearest to the lines of sight through the middle of the subject in every view.

    The middle is the median of the joints where there are some, else the mean of the mask, else of the labelled pixels,
    else the middle of the image. The posed surface, where it is known, gives the point by itself.

    Returns:
        (3,) [m] in the world, or None where the lines of sight fix none.
    """
    truth = capture.truth(instant.frame)
    if truth is not None:
        return truth.mean(axis=0)
    normal, right = np.zeros((3, 3)), np.zeros(3)
    for view in instant.views:
        camera = capture.camera(view)
        direction = camera.rays(torch.as_tensor(_middle(capture, view)[None])).numpy()[0]
        across = np.eye(3) - np.outer(direction, direction)
        normal += across
        right += across @ camera.centre().numpy()
    if len(instant.views) < 2 or np.linalg.cond(normal) > 1e4:
        return None
    return np.linalg.solve(normal, right)


def _middle(capture: Capture, view: View) -> np.ndarray:
    if view.joints:
        return np.median([value[:2] for value in view.joints.values()], axis=0)
    shown = capture.mask(view)
    if shown is None:
        label = capture.label(view)
        shown = None if label is None else label.foreground
    if shown is None or not shown.any():
        return np.array(view.size) / 2.0
    rows, columns = np.nonzero(shown)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])
