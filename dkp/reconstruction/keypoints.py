"""Keypoints of a surface in space: each joint by the skin around it."""

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from dkp.reconstruction.samples import SurfaceSamples
from dkp.surface import Surface

LEAST_MASS = 0.5
"""A keypoint is found where the recovered points have this share of its weight."""


def keypoint_weights(surface: Surface, samples: SurfaceSamples, width: float) -> np.ndarray:
    """How much each surface point counts for each joint.

    Args:
        surface: with joints.
        samples: N points of it.
        width: of the Gaussian in the distance from the joint at rest, beyond that of the nearest point [m].

    Returns:
        (J, N), rows sum to one, in the order of ``surface.joints``.
    """
    joints = np.stack(list(surface.joints.values()))
    squared = np.square(joints[:, None] - samples.coordinate).sum(-1)
    weights = np.exp(-(squared - squared.min(1, keepdims=True)) / (2 * width**2))
    return weights / weights.sum(1, keepdims=True)


def posed_joints(surface: Surface, vertices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return where a posed surface has its joints: each moves as the skin around it does, which is taken for rigid.

    Args:
        surface: with joints.
        vertices: (V, 3) [m].
        weights: (J, V) of the vertices, from `keypoint_weights`.

    Returns:
        (J, 3) [m], in the order of ``surface.joints``.
    """
    found = np.empty((len(weights), 3))
    for number, (joint, weight) in enumerate(zip(surface.joints.values(), weights, strict=True)):
        around = weight > 1e-3 * weight.max()
        rest, posed, share = surface.vertices[around], vertices[around], weight[around] / weight[around].sum()
        middle, centre = share @ rest, share @ posed
        turn, _ = Rotation.align_vectors(posed - centre, rest - middle, weights=share)
        found[number] = turn.apply(joint - middle) + centre
    return found


def keypoints(points: Tensor, truth: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Keypoints of recovered points, and the same keypoints of the true ones.

    Both are means over the recovered points alone. So a keypoint of which only one side was recovered is compared with
    that side of the truth, and the error is that of the points, not of which ones there are.

    Args:
        points: (..., N, 3) [m], NaN where a point was not recovered.
        truth: (..., N, 3) [m].
        weights: (J, N), rows sum to one.

    Returns:
        points: (..., J, 3) float64 [m], NaN where less than `LEAST_MASS` of a keypoint's weight was recovered.
        truth: (..., J, 3) float64 [m]; where a keypoint was not found, over all points.
    """
    found = points.isfinite().all(-1)
    weights = weights.double()
    own = weights * found[..., None, :]
    mass = own.sum(-1, keepdim=True)
    there = mass >= LEAST_MASS
    mean = own @ torch.where(found[..., None], points, 0.0).double() / mass
    share = torch.where(there, own / mass, weights)
    return torch.where(there, mean, torch.nan), share @ truth.double()
