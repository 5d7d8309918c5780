"""Brown and Conrady's lens on normalised coordinates, with the coefficients in the order of OpenCV."""

import torch
from torch import Tensor

_NEWTON_STEPS = 12


def apply_lens(points: Tensor, coefficients: Tensor) -> Tensor:
    """Distort normalised coordinates.

    Args:
        points: (..., N, 2) normalised coordinates.
        coefficients: (..., 5), k1 k2 p1 p2 k3.

    Returns:
        (..., N, 2).
    """
    x, y = points.unbind(-1)
    k1, k2, p1, p2, k3 = coefficients.unsqueeze(-2).unbind(-1)
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return torch.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        -1,
    )


def undo_lens(target: Tensor, coefficients: Tensor) -> Tensor:
    """Normalised coordinates that the lens maps to given ones, by Newton's method.

    The steps run without a graph; one more step from the solution carries the exact implicit gradient. Where the
    polynomial folds back, several points are mapped to the same one; short steps from the target favour the one within
    the fold.

    Args:
        target: (..., N, 2) distorted normalised coordinates.
        coefficients: (..., 5), k1 k2 p1 p2 k3.

    Returns:
        (..., N, 2).
    """
    with torch.no_grad():
        solution = target.clone()
        for _ in range(_NEWTON_STEPS):
            step = _newton_step(solution, apply_lens(solution, coefficients) - target, coefficients)
            # A step longer than half the present radius (plus a little) could leap over a fold of the polynomial.
            limit = 0.5 * (solution.norm(dim=-1, keepdim=True) + 0.1)
            length = step.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(step.dtype).tiny)
            solution = solution - step * (limit / length).clamp(max=1.0)
    return solution - _newton_step(solution, apply_lens(solution, coefficients) - target, coefficients.detach())


def _newton_step(points: Tensor, residual: Tensor, coefficients: Tensor) -> Tensor:
    """J⁻¹ residual with J the (symmetric) Jacobian of the lens at points (..., N, 2)."""
    x, y = points.unbind(-1)
    k1, k2, p1, p2, k3 = coefficients.unsqueeze(-2).unbind(-1)
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    slope = 2 * (k1 + r2 * (2 * k2 + r2 * 3 * k3))
    xx = radial + slope * x * x + 2 * p1 * y + 6 * p2 * x
    xy = slope * x * y + 2 * p1 * x + 2 * p2 * y
    yy = radial + slope * y * y + 6 * p1 * y + 2 * p2 * x
    det = xx * yy - xy * xy
    det = torch.where(det.abs() < 1e-6, torch.full_like(det, 1e-6), det)
    rx, ry = residual.unbind(-1)
    return torch.stack([(yy * rx - xy * ry) / det, (xx * ry - xy * rx) / det], -1)
