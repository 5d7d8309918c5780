"""Cameras, epipolar geometry and the choice of camera pairs: pure functions on tensors."""

from dkp.geometry.camera import Camera, pixel_grid
from dkp.geometry.epipolar import (
    DistanceKind,
    epipolar_distance,
    epipolar_lines,
    epipole,
    fundamental_matrix,
    pairwise_epipolar_distance,
)
from dkp.geometry.pairs import baseline_angle, eligible_pairs
from dkp.geometry.precision import full_precision, promote

__all__ = [
    "Camera",
    "DistanceKind",
    "baseline_angle",
    "eligible_pairs",
    "epipolar_distance",
    "epipolar_lines",
    "epipole",
    "full_precision",
    "fundamental_matrix",
    "pairwise_epipolar_distance",
    "pixel_grid",
    "promote",
]
