"""Labels of DANNCE and label3d: `cam*_labels.mat`, one a camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dkp.errors import InputError
from dkp.importers.keypoints.detections import Detections, collect
from dkp.importers.matfile import read_mat

MATLAB_TO_OPENCV = -1.0
"""MATLAB's first pixel has its middle at 1, OpenCV's at 0 [px]."""


def read_dannce_labels(path: Path) -> Detections:
    """Read ``data_2d`` (N, 2 K) [px] and ``data_frame`` (N) of one camera; the keypoints have no names.

    Raises:
        InputError: an array is missing or does not fit the other.
    """
    found = read_mat(path, ("data_2d", "data_frame"))
    points, frames = found["data_2d"], found["data_frame"].ravel()
    if points.ndim != 2 or len(points) != len(frames) or points.shape[1] % 2:
        raise InputError(f"{path}: data_2d has shape {points.shape}, expected {len(frames)} rows of x and y")
    people = points.reshape(len(points), -1, 2).astype(np.float64) + MATLAB_TO_OPENCV
    people = np.concatenate([people, np.ones((*people.shape[:2], 1))], axis=2)
    return collect(path, ((int(n), f"{path}: frame {int(n)}", [one]) for n, one in zip(frames, people, strict=True)))
