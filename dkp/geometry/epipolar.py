"""Epipolar geometry of two undistorted views: fundamental matrix, lines, distances, epipoles.

``x'ᵀ F x = 0`` with x in the first view. Every distance is in pixels, not squared:

* ``point_line``: distance of x' from the epipolar line F x of x, in the second view;
* ``symmetric``: mean of that and of the distance of x from the line Fᵀ x' in the first view;
* ``sampson``: first-order distance of the pair to the nearest exact pair, over both views together.
"""

from typing import Literal, get_args

import torch
from kornia.geometry.epipolar import essential_from_Rt, fundamental_from_essential
from torch import Tensor

from dkp.geometry.camera import Camera
from dkp.geometry.precision import full_precision, multiply, promote

DistanceKind = Literal["point_line", "symmetric", "sampson"]
_TINY = 1e-30


@full_precision
def fundamental_matrix(camera: Camera, other: Camera) -> Tensor:
    """Fundamental matrix from the first camera to the other one.

    It is K'⁻ᵀ [t]ₓ R K⁻¹ with (R, t) the motion between the cameras, computed in float64 and then scaled: the entries
    of the textbook determinant formula reach 1e13 for a rig in millimetres.

    Args:
        camera: First view, batch shape (...).
        other: Second view, batch shape (...) (broadcast against the first).

    Returns:
        (..., 3, 3) for undistorted pixels, Frobenius norm 1 (zero where the centres coincide), float32 or better.
    """
    dtype = torch.promote_types(torch.promote_types(camera.dtype, other.dtype), torch.float32)
    precise = torch.float32 if camera.device.type == "mps" else torch.float64
    shape = torch.broadcast_shapes(camera.shape, other.shape)
    first, second = camera.expand(*shape).to(precise), other.expand(*shape).to(precise)
    essential = essential_from_Rt(
        first.rotation.reshape(-1, 3, 3),
        first.translation.reshape(-1, 3, 1),
        second.rotation.reshape(-1, 3, 3),
        second.translation.reshape(-1, 3, 1),
    )
    reach = (1 + first.translation.norm(dim=-1) + second.translation.norm(dim=-1)).reshape(-1, 1, 1)
    scale = essential.norm(dim=(-2, -1), keepdim=True)
    # Poses in float32 are orthonormal to about 1e-7, so cameras at one point seem that share of their distance apart.
    least = 1e-9 if dtype == torch.float64 else 1e-6
    essential = torch.where(scale > least * reach, essential / scale.clamp_min(_TINY), torch.zeros_like(essential))
    fundamental = fundamental_from_essential(
        essential, first.intrinsics.reshape(-1, 3, 3), second.intrinsics.reshape(-1, 3, 3)
    )
    fundamental = fundamental / fundamental.norm(dim=(-2, -1), keepdim=True).clamp_min(_TINY)
    return fundamental.reshape(*shape, 3, 3).to(dtype)


@full_precision
def raw_epipolar_lines(pixels: Tensor, fundamental: Tensor) -> tuple[Tensor, Tensor]:
    """Epipolar lines as they come and the length of their normals.

    Args:
        pixels: (..., N, 2) [px] in the first view.
        fundamental: (..., 3, 3).

    Returns:
        Lines F x̃ (..., N, 3) and the length of their first two entries (..., N), at least 1e-15.
    """
    pixels, fundamental = promote(pixels, fundamental)
    lines = multiply(fundamental[..., :2], pixels) + fundamental[..., None, :, 2]
    return lines, (lines[..., 0].square() + lines[..., 1].square()).clamp_min(_TINY).sqrt()


@full_precision
def epipolar_lines(pixels: Tensor, fundamental: Tensor) -> Tensor:
    """Epipolar lines in the second view.

    Args:
        pixels: (..., N, 2) [px] in the first view.
        fundamental: (..., 3, 3).

    Returns:
        (..., N, 3): (a, b, c) with a x + b y + c = 0 and |(a, b)| = 1; zero for the line of the epipole itself.
    """
    lines, length = raw_epipolar_lines(pixels, fundamental)
    return lines / length.unsqueeze(-1)


@full_precision
def epipolar_distance(
    pixels: Tensor, other_pixels: Tensor, fundamental: Tensor, kind: DistanceKind = "point_line"
) -> Tensor:
    """Epipolar distance of corresponding pixels.

    Args:
        pixels: (..., N, 2) [px] in the first view.
        other_pixels: (..., N, 2) [px] in the second view.
        fundamental: (..., 3, 3).
        kind: See the head of this file.

    Returns:
        (..., N) [px], finite also for a zero matrix or a pixel at the epipole.
    """
    pixels, other_pixels, fundamental = promote(pixels, other_pixels, fundamental)
    lines, length = raw_epipolar_lines(pixels, fundamental)
    residual = (lines[..., :2] * other_pixels).sum(-1) + lines[..., 2]
    other_length = None if kind == "point_line" else raw_epipolar_lines(other_pixels, fundamental.mT)[1]
    return residual.abs() * epipolar_scale(length, other_length, kind)


@full_precision
def pairwise_epipolar_distance(
    pixels: Tensor, other_pixels: Tensor, fundamental: Tensor, kind: DistanceKind = "point_line"
) -> Tensor:
    """Epipolar distance of every pixel of one view with every pixel of another.

    Args:
        pixels: (..., N, 2) [px] in the first view.
        other_pixels: (..., M, 2) [px] in the second view.
        fundamental: (..., 3, 3).
        kind: See the head of this file.

    Returns:
        (..., N, M) [px].
    """
    pixels, other_pixels, fundamental = promote(pixels, other_pixels, fundamental)
    lines, length = raw_epipolar_lines(pixels, fundamental)
    x, y = other_pixels.unsqueeze(-3).unbind(-1)
    residual = lines[..., 0:1] * x + lines[..., 1:2] * y + lines[..., 2:]
    other_length = None if kind == "point_line" else raw_epipolar_lines(other_pixels, fundamental.mT)[1].unsqueeze(-2)
    return residual.abs() * epipolar_scale(length.unsqueeze(-1), other_length, kind)


def epipolar_scale(length: Tensor, other_length: Tensor | None, kind: DistanceKind) -> Tensor:
    """Factor from |x̃'ᵀ F x̃| to a distance in px.

    Args:
        length: Length of the normal of F x̃.
        other_length: Length of the normal of Fᵀ x̃', broadcastable against it; unused for ``point_line``.
        kind: See the head of this file.

    Raises:
        ValueError: The kind is unknown.
    """
    if kind == "point_line":
        return length.reciprocal()
    if kind not in get_args(DistanceKind) or other_length is None:
        raise ValueError(f"distance is {kind!r}, expected one of {', '.join(get_args(DistanceKind))}")
    if kind == "symmetric":
        return 0.5 * (length.reciprocal() + other_length.reciprocal())
    return (length.square() + other_length.square()).rsqrt()


@full_precision
def epipole(camera: Camera, other: Camera) -> Tensor:
    """Where the first view sees the centre of the other camera.

    Args:
        camera: First view, batch shape (...).
        other: The other camera, batch shape (...).

    Returns:
        (..., 2) undistorted pixels of the first view; infinite where the centre lies in its focal plane, and NaN where
        the centres coincide. A centre behind the camera has an epipole too: epipolar lines meet there all the same.
    """
    shape = torch.broadcast_shapes(camera.shape, other.shape)
    precise = torch.float32 if camera.device.type == "mps" else torch.float64
    first, second = camera.expand(*shape).to(precise), other.expand(*shape).to(precise)
    centre = second.centre()
    local = (first.rotation @ centre.unsqueeze(-1)).squeeze(-1) + first.translation
    seen = (first.intrinsics @ local.unsqueeze(-1)).squeeze(-1)
    size = local.norm(dim=-1, keepdim=True)
    flat = seen[..., 2:].abs() < 1e-9 * size
    position = seen[..., :2] / torch.where(flat, torch.ones_like(size), seen[..., 2:])
    position = torch.where(flat, torch.full_like(position, torch.inf), position)
    coincide = size <= 1e-9 * (1 + first.translation.norm(dim=-1, keepdim=True))
    dtype = torch.promote_types(torch.promote_types(camera.dtype, other.dtype), torch.float32)
    return torch.where(coincide, torch.full_like(position, torch.nan), position).to(dtype)
