"""Surface points in space from the fields of several views: observations, triangulation, visibility."""

from dkp.reconstruction.keypoints import keypoint_weights, keypoints
from dkp.reconstruction.observations import Observations, observe
from dkp.reconstruction.reconstructor import RELATIVE_SIGMA, ReconstructionSettings, Reconstructor
from dkp.reconstruction.samples import SurfaceSamples, random_samples, sample_surface
from dkp.reconstruction.visibility import depth_map, in_sight

__all__ = [
    "RELATIVE_SIGMA",
    "Observations",
    "ReconstructionSettings",
    "Reconstructor",
    "SurfaceSamples",
    "depth_map",
    "in_sight",
    "keypoint_weights",
    "keypoints",
    "observe",
    "random_samples",
    "sample_surface",
]
