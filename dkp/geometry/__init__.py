"""Cameras, epipolar geometry, the choice of camera pairs and triangulation: pure functions on tensors."""

from dkp.geometry.camera import Camera, pixel_grid
from dkp.geometry.epipolar import (
    DistanceKind,
    epipolar_distance,
    epipolar_lines,
    epipole,
    fundamental_matrix,
    pairwise_epipolar_distance,
)
from dkp.geometry.pairs import FLAT, baseline_angle, eligible_pairs
from dkp.geometry.precision import full_precision, promote
from dkp.geometry.triangulation import Triangulation, triangulate

__all__ = [
    "FLAT",
    "Camera",
    "DistanceKind",
    "Triangulation",
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
    "triangulate",
]
