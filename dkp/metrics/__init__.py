"""Metrics over dense keypoint fields: torchmetrics classes, each over a functional core."""

from dkp.metrics.consistency import MultiviewConsistency, mutual_matches, trivial_coordinate
from dkp.metrics.geodesic import GeodesicError, area_under_recall, geodesic_errors, recall_curve
from dkp.metrics.joints import JointError
from dkp.metrics.reconstruction import (
    KeypointError3D,
    ReprojectionResidual,
    SurfaceError3D,
    keypoint_distances,
    point_to_surface,
    procrustes,
)
from dkp.metrics.sampling import choose_pixels
from dkp.metrics.segmentation import ForegroundIoU, PartAccuracy, intersection_union, part_counts
from dkp.metrics.similarity import PointSimilarity, average_precision, geodesic_point_similarity

__all__ = [
    "ForegroundIoU",
    "GeodesicError",
    "JointError",
    "KeypointError3D",
    "MultiviewConsistency",
    "PartAccuracy",
    "PointSimilarity",
    "ReprojectionResidual",
    "SurfaceError3D",
    "area_under_recall",
    "average_precision",
    "choose_pixels",
    "geodesic_errors",
    "geodesic_point_similarity",
    "intersection_union",
    "keypoint_distances",
    "mutual_matches",
    "part_counts",
    "point_to_surface",
    "procrustes",
    "recall_curve",
    "trivial_coordinate",
]
