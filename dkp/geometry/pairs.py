"""Which pairs of cameras give useful epipolar lines.

A narrow baseline barely constrains depth; cameras that face each other share no surface and have their epipoles inside
the images, where the lines of neighbouring pixels point in all directions.
"""

import torch
from torch import Tensor

from dkp.geometry.camera import Camera
from dkp.geometry.epipolar import epipole
from dkp.geometry.precision import full_precision

FLAT = {"max_angle": 180.0, "epipole_margin": -1.0}
"""Limits of `eligible_pairs` for something flat: even cameras that face each other see the same side of it."""


@full_precision
def baseline_angle(camera: Camera, other: Camera, point: Tensor | None = None) -> Tensor:
    """Angle under which two cameras see a point.

    Args:
        camera: Batch shape (...).
        other: Batch shape (...), broadcast against the first.
        point: (..., 3) [m]; without it, the angle between the rays through the middles of the two images.

    Returns:
        (...) [degrees], between the rays from the camera centres to the point.
    """
    if point is None:
        first, second = camera.viewing_direction(), other.viewing_direction()
    else:
        first, second = point - camera.centre(), point - other.centre()
    first, second = torch.broadcast_tensors(first, second)
    cross = torch.linalg.cross(first, second).norm(dim=-1)
    return torch.rad2deg(torch.atan2(cross, (first * second).sum(-1)))


def eligible_pairs(
    cameras: Camera,
    point: Tensor | None = None,
    min_angle: float = 10.0,
    max_angle: float = 130.0,
    epipole_margin: float = 0.25,
) -> Tensor:
    """Unordered pairs of cameras whose views constrain each other.

    Args:
        cameras: Batch shape (V,), with their image sizes.
        point: (3,) [m], about where the subject stands; without it, the middles of the images are taken.
        min_angle: Least baseline angle [degrees].
        max_angle: Greatest baseline angle [degrees].
        epipole_margin: A pair is rejected when the epipole lies in either image, enlarged on each side by this share of
            its width and height. Where the image size is unknown, this test is left out.

    Returns:
        (P, 2) integers i < j, in lexicographic order.
    """
    if len(cameras.shape) != 1:
        raise ValueError(f"cameras have batch shape {tuple(cameras.shape)}, expected (V,)")
    if point is not None:
        point = point.to(device=cameras.device, dtype=cameras.dtype)
    rows, columns = cameras[:, None], cameras[None, :]
    angle = baseline_angle(rows, columns, point)
    size = cameras.image_size[:, None]
    position = epipole(rows, columns)
    margin = epipole_margin * size
    # A NaN (coinciding centres) counts as inside.
    outside = (position < -margin) | (position > size + margin)
    inside = ~outside.any(-1) & (size > 0).all(-1)
    allowed = (angle >= min_angle) & (angle <= max_angle) & ~(inside | inside.mT)
    return torch.triu(allowed, diagonal=1).nonzero()
