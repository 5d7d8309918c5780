"""Which way is up in the world of a rig, of which its calibration says nothing."""

from collections.abc import Iterable

import numpy as np
import torch

from dkp.geometry.camera import Camera

_ITERATIONS = 30  # which have settled by then
_OPEN = 0.2  # weight of the mean direction beside the rows


def upright(cameras: Iterable[Camera]) -> np.ndarray:
    """(3,): the direction that is up in most images, of unit length; an axis of the world where that fits as well.

    It is as square as can be to the rows of the images, which are level however steeply a camera looks down: least
    absolute deviations by reweighted squares, so that a camera held askew hardly counts. What rows leave open, such as
    those of cameras side by side, the mean of the images' own directions decides.
    """
    rows, columns = torch.stack([camera.rotation[:2] for camera in cameras]).double().numpy().transpose(1, 0, 2)
    mean = -columns.mean(axis=0)
    up = mean / max(float(np.linalg.norm(mean)), 1e-9)
    for _ in range(_ITERATIONS):
        weighted = rows / np.maximum(np.abs(rows @ up), 0.05)[:, None]
        up = np.linalg.solve(weighted.T @ rows / len(rows) + _OPEN * np.eye(3), _OPEN * mean)
        up = up / max(float(np.linalg.norm(up)), 1e-9)
    axis = np.eye(3)[np.abs(up).argmax()] * np.sign(up[np.abs(up).argmax()])
    off, least = (float(np.abs(rows @ direction).mean()) for direction in (axis, up))
    return np.asarray(axis if off < 1.5 * least + 0.03 and axis @ mean > 0 else up)
