"""Analysis files of SLEAP (HDF5)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dkp.errors import InputError
from dkp.importers.hdf5 import numbers, open_hdf5, words
from dkp.importers.keypoints.detections import Detections, collect


def read_sleap(path: Path) -> Detections:
    """Read ``tracks`` and ``node_names`` of an analysis file: every track is a person, frames count from 0.

    Raises:
        InputError: it is something else.
    """
    with open_hdf5(path) as file:
        names, tracks = words(file, "node_names"), numbers(file, "tracks")
        scores = numbers(file, "point_scores") if "point_scores" in file else None
    count = len(names)
    of_python = (
        tracks.ndim == 4 and tracks.shape[2:] == (count, 2) and scores is not None and scores.shape == tracks.shape[:3]
    )
    if not of_python and tracks.ndim == 4 and tracks.shape[1:3] == (2, count):  # tracks, 2, nodes, frames: as usual
        tracks = tracks.transpose(3, 0, 2, 1)
        scores = None if scores is None else scores.transpose(2, 0, 1)
    elif not (tracks.ndim == 4 and tracks.shape[2:] == (count, 2)):  # frames, tracks, nodes, 2
        raise InputError(
            f"{path}: tracks has shape {tracks.shape}, expected (tracks, 2, {count}, frames) or (frames, tracks, "
            f"{count}, 2) for {count} nodes"
        )
    if scores is None:
        scores = np.ones(tracks.shape[:3])
    if scores.shape != tracks.shape[:3]:
        raise InputError(f"{path}: point_scores has shape {scores.shape}, expected {tracks.shape[:3]} as the tracks")
    scores = np.where(np.isfinite(scores), scores, 1.0)  # points that a person has set have none
    points = np.concatenate([tracks, scores[..., None]], axis=3).astype(np.float64)
    return collect(path, ((n, f"{path}: frame {n}", list(frame)) for n, frame in enumerate(points)), tuple(names))
