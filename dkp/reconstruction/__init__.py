"""Surface points in space from the fields of several views: observations, triangulation, registration, visibility."""

from dkp.reconstruction.deformation import Deformation, DeformationGraph
from dkp.reconstruction.keypoints import keypoint_weights, keypoints
from dkp.reconstruction.observations import Observations, observe
from dkp.reconstruction.reconstructor import RELATIVE_SIGMA, ReconstructionSettings, Reconstructor, confidence
from dkp.reconstruction.registration import Registration, SurfaceRegistration, rigid_motion
from dkp.reconstruction.result import Reconstruction, keypoint_mixture
from dkp.reconstruction.samples import SurfaceSamples, random_samples, sample_surface, vertex_samples
from dkp.reconstruction.scene import RegistrationSettings
from dkp.reconstruction.visibility import depth_map, in_sight

__all__ = [
    "RELATIVE_SIGMA",
    "Deformation",
    "DeformationGraph",
    "Observations",
    "Reconstruction",
    "ReconstructionSettings",
    "Reconstructor",
    "Registration",
    "RegistrationSettings",
    "SurfaceRegistration",
    "SurfaceSamples",
    "confidence",
    "depth_map",
    "in_sight",
    "keypoint_mixture",
    "keypoint_weights",
    "keypoints",
    "observe",
    "random_samples",
    "rigid_motion",
    "sample_surface",
    "vertex_samples",
]
