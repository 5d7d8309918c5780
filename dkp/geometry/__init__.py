"""Cameras, epipolar geometry, the choice of camera pairs and triangulation: pure functions on tensors."""

from dkp.geometry.camera import Camera as Camera, pixel_grid as pixel_grid
from dkp.geometry.epipolar import (
    DistanceKind as DistanceKind,
    epipolar_distance as epipolar_distance,
    epipolar_lines as epipolar_lines,
    epipole as epipole,
    fundamental_matrix as fundamental_matrix,
    pairwise_epipolar_distance as pairwise_epipolar_distance,
)
from dkp.geometry.pairs import FLAT as FLAT, baseline_angle as baseline_angle, eligible_pairs as eligible_pairs
from dkp.geometry.precision import full_precision as full_precision, promote as promote
from dkp.geometry.triangulation import Triangulation as Triangulation, triangulate as triangulate
from dkp.geometry.upright import upright as upright
