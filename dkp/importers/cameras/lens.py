"""Lenses of OpenCV that a capture cannot hold: 8 or 12 coefficients, and the fisheye."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dkp.errors import InputError
from dkp.geometry import Camera

_NEWTON_STEPS = 40
_STEP = 1e-6  # normalised coordinates, of the numerical slope


class OpenCVCamera(Camera):
    """A single camera whose lens is one of OpenCV's that dkp's own five coefficients do not express.

    It projects, distorts and undistorts as every camera does. A capture holds only its `without_distortion`: so its
    images are stored undistorted.

    Attributes:
        coefficients: (12,) k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4, or (4,) k1 k2 k3 k4 of the fisheye.
    """

    def __init__(self, camera: Camera, coefficients: Tensor) -> None:
        """Give a camera without distortion the lens."""
        super().__init__(camera.intrinsics, camera.rotation, camera.translation, camera.distortion, camera.image_size)
        self.coefficients = coefficients

    def without_distortion(self) -> Camera:
        """Return the same camera with a perfect lens, which is a plain camera."""
        return super()._map(lambda tensor, _: tensor)

    def transform(self, matrix: Any, width: Any, height: Any) -> Camera:
        """Return the camera of the image after an affine map of its pixels, as `Camera.transform` does."""
        return OpenCVCamera(super().transform(matrix, width, height), self.coefficients)

    def _map(self, function: Callable[[Tensor, int], Tensor]) -> Camera:
        return OpenCVCamera(super()._map(function), function(self.coefficients, 1))

    def _replace(self, **changes: Tensor) -> Camera:
        return OpenCVCamera(super()._replace(**changes), self.coefficients)

    def _is_linear(self) -> bool:
        return False

    def _distort(self, normalised: Tensor) -> Tensor:
        lens = _fisheye if len(self.coefficients) == 4 else _rational
        return lens(normalised, self.coefficients.to(normalised))

    def _normalised(self, pixels: Tensor) -> Tensor:
        inverse = torch.linalg.inv(self.intrinsics.to(pixels))
        target: Tensor = pixels @ inverse[:2, :2].T + inverse[:2, 2]
        solution = target.clone()
        for _ in range(_NEWTON_STEPS):
            residual = self._distort(solution) - target
            shifts = (torch.eye(2) * _STEP).to(target)
            left, right = ((self._distort(solution + e) - self._distort(solution - e)) / (2 * _STEP) for e in shifts)
            determinant = left[..., 0] * right[..., 1] - left[..., 1] * right[..., 0]
            determinant = torch.where(determinant.abs() < 1e-9, torch.full_like(determinant, 1e-9), determinant)
            x, y = residual.unbind(-1)
            step = torch.stack([right[..., 1] * x - right[..., 0] * y, left[..., 0] * y - left[..., 1] * x], -1)
            step = step / determinant.unsqueeze(-1)
            # As for dkp's own lens: short steps stay within a fold of the lens.
            limit = 0.5 * (solution.norm(dim=-1, keepdim=True) + 0.1)
            length = step.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(step.dtype).tiny)
            solution -= step * (limit / length).clamp(max=1.0)
        return solution


def plain_cameras(cameras: Mapping[str, Camera], what: str) -> dict[str, Camera]:
    """Return cameras as they are, and refuse a lens that only images which are undistorted can do without.

    Args:
        cameras: name -> camera.
        what: what cannot hold the lens, for the message.
    """
    for name, camera in cameras.items():
        if isinstance(camera, OpenCVCamera):
            kind = "fisheye" if len(camera.coefficients) == 4 else "lens of more than five coefficients"
            raise InputError(f"the camera {name!r} has a {kind}, expected at most k1 k2 p1 p2 k3 in {what}")
    return dict(cameras)


def _rational(points: Tensor, coefficients: Tensor) -> Tensor:
    """Distort (N, 2) by the rational lens with thin prism of OpenCV's calib3d."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = coefficients
    x, y = points.unbind(-1)
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return torch.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + r2 * (s1 + r2 * s2),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + r2 * (s3 + r2 * s4),
        ],
        -1,
    )


def _fisheye(points: Tensor, coefficients: Tensor) -> Tensor:
    """Distort (N, 2) by the lens of OpenCV's fisheye (Kannala and Brandt)."""
    k1, k2, k3, k4 = coefficients
    radius = points.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    angle = torch.atan(radius)
    square = angle * angle
    bent = angle * (1 + square * (k1 + square * (k2 + square * (k3 + square * k4))))
    return torch.mul(points, bent / radius)
