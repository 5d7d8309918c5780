"""Points in space from observations in two or more views: weighted, robust, in float64, all points at once.

For every point each pair of views proposes a position, a point between its two rays; the proposal that the other views
support best is kept, and refined by Gauss-Newton steps on the reprojection error with Tukey's biweight, starting from
the weighted linear solution (direct linear transform on normalised coordinates) of the views that support it. So a
point survives as long as two of its views are right and no two wrong ones agree better. Nothing loops over points.

See R. Hartley, P. Sturm, "Triangulation", CVIU 68 (1997), for the linear solution and the midpoint, and P. Torr,
A. Zisserman, "MLESAC", CVIU 78 (2000), for scoring proposals by a bounded loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor

from dkp.geometry.camera import Camera
from dkp.geometry.precision import full_precision

_ROUNDS = 10
"""Gauss-Newton steps, at most."""
_STILL = 1e-7
"""A point that a step moves by less than this share of its distance from the cameras stays: 0.3 µm at 3 m."""


@dataclass(frozen=True)
class Triangulation:
    """Triangulated points, of batch shape (...), N of them from V views.

    Attributes:
        points: (..., N, 3) [m], float64; NaN where a point is not valid.
        residual: (..., N) [px], root of the weighted mean squared reprojection distance over the point's views, in
            undistorted pixels; NaN where not valid.
        angle: (..., N) [degrees], greatest angle between the rays of two of its views; NaN where not valid.
        views: (..., N) long, how many views agree on the point; 0 where not valid.
        inliers: (..., V, N) bool, which ones.
    """

    points: Tensor
    residual: Tensor
    angle: Tensor
    views: Tensor
    inliers: Tensor

    @property
    def valid(self) -> Tensor:
        """(..., N) bool, points that were found."""
        return self.views > 0


@full_precision
@torch.no_grad()
def triangulate(
    cameras: Camera,
    pixels: Tensor,
    weights: Tensor | None = None,
    *,
    threshold: float = 4.0,
    min_angle: float = 3.0,
    min_views: int = 2,
) -> Triangulation:
    """Triangulate points from any number of views.

    The time grows with the number of pairs of views times the number of views.

    Args:
        cameras: Batch shape (..., V); lens distortion is undone.
        pixels: (..., V, N, 2) [px], where each view sees each point.
        weights: (..., V, N), confidence of each observation; 0 = the view does not see the point. Observations that are
            not finite count as missing, and the camera of a view without any may be anything. Default: all 1.
        threshold: An observation further than this from the projected point [px] takes no part.
        min_angle: Least angle that two of a point's rays have to make [degrees].
        min_views: Least number of views that have to agree, 2 or more.

    Returns:
        The points; see `Triangulation`. A point is valid where `min_views` views agree on a position in front of them,
        seen under `min_angle` or more. It carries no gradient.

    Raises:
        ValueError: A shape or an option does not fit.
    """
    _check(cameras, pixels, weights, threshold, min_angle, min_views)
    precise = torch.float32 if pixels.device.type == "mps" else torch.float64
    cameras, pixels = cameras.to(precise), pixels.to(precise)
    given = pixels.isfinite().all(-1)
    if weights is None:
        weight = given.to(precise)
    else:
        weight = torch.where(given & weights.isfinite(), weights.to(precise), 0.0).clamp_min(0.0)
    cameras = cameras.only((weight > 0).any(-1))
    pixels = torch.where(given[..., None], pixels, cameras.image_size[..., None, :] / 2)
    problem = _Problem.create(cameras, pixels, weight, threshold)
    points = problem.refined(problem.proposed(min_angle))
    return problem.result(points, min_angle, min_views)


def _check(
    cameras: Camera, pixels: Tensor, weights: Tensor | None, threshold: float, min_angle: float, min_views: int
) -> None:
    if pixels.ndim < 3 or pixels.shape[-1] != 2 or pixels.shape[:-2] != cameras.shape:
        raise ValueError(
            f"pixels have shape {tuple(pixels.shape)} and cameras {tuple(cameras.shape)}, expected (..., V, N, 2) and "
            "(..., V)"
        )
    if weights is not None and weights.shape != pixels.shape[:-1]:
        raise ValueError(f"weights have shape {tuple(weights.shape)}, expected {tuple(pixels.shape[:-1])}")
    if not threshold > 0:
        raise ValueError(f"threshold is {threshold}, expected a positive number of pixels")
    if not 0 <= min_angle < 180:
        raise ValueError(f"min_angle is {min_angle}, expected 0 to below 180 degrees")
    if min_views < 2 or cameras.shape[-1] < 2:
        raise ValueError(f"min_views is {min_views} of {cameras.shape[-1]} views, expected 2 or more of 2 or more")


@dataclass(frozen=True)
class _Problem:
    """Observations of N points in V views, and what every step needs of the cameras.

    Numbers of all points lie beside each other in memory, coordinate by coordinate, (..., 3, N): on the CPU that is
    several times as quick as point by point.

    Attributes:
        scale: (..., V, 2, 2) [px], upper left of the intrinsics: normalised coordinates to pixels.
        rotation: (..., V, 3, 3).
        translation: (..., V, 3) [m], about `origin`.
        centre: (..., V, 3) [m], about `origin`.
        origin: (..., 3) [m], mean of the centres of the cameras that see anything: numbers stay small wherever the
            world's origin is.
        observed: (..., V, 2, N) normalised coordinates.
        weight: (..., V, N).
        threshold: [px].
    """

    scale: Tensor
    rotation: Tensor
    translation: Tensor
    centre: Tensor
    origin: Tensor
    observed: Tensor
    weight: Tensor
    threshold: float

    @classmethod
    def create(cls, cameras: Camera, pixels: Tensor, weight: Tensor, threshold: float) -> _Problem:
        linear = cameras.undistort(pixels) - cameras.intrinsics[..., None, :2, 2]
        scale = cameras.intrinsics[..., :2, :2]
        centre = cameras.centre()
        used = (weight > 0).any(-1).to(centre)[..., None]
        origin = (used * centre).sum(-2) / used.sum(-2).clamp_min(1)
        centre = centre - origin[..., None, :]
        translation = -(cameras.rotation @ centre[..., None])[..., 0]
        observed = torch.linalg.inv(scale) @ linear.mT
        return cls(scale, cameras.rotation, translation, centre, origin, observed, weight, threshold)

    @property
    def views(self) -> int:
        return self.weight.shape[-2]

    @property
    def pairs(self) -> Iterator[tuple[int, int]]:
        return combinations(range(self.views), 2)

    def local(self, points: Tensor) -> Tensor:
        """Points (..., 3, N) in the axes of each camera, (..., V, 3, N)."""
        return self.rotation @ points[..., None, :, :] + self.translation[..., None]

    def distance(self, points: Tensor) -> Tensor:
        """(..., V, N) [px] of points (..., 3, N), infinite where one lies behind the camera or is not finite."""
        local = self.local(points)
        depth = local[..., 2:, :].clamp_min(torch.finfo(local.dtype).tiny)
        distance = _length(self.scale @ (self.observed - local[..., :2, :] / depth))
        return torch.where((local[..., 2, :] > 0) & distance.isfinite(), distance, torch.inf)

    def loss(self, distance: Tensor) -> Tensor:
        """(..., N): Tukey's bounded loss over the views, 1 for each unit of weight beyond the threshold."""
        share = (distance / self.threshold).square().clamp_max(1.0)
        return (self.weight * share * (3 - 3 * share + share * share)).sum(-2)  # 1 - (1 - share)³ without cancellation

    def agreement(self, distance: Tensor) -> Tensor:
        """(..., V, N): weight of each observation times Tukey's biweight of its distance."""
        return self.weight * (1 - (distance / self.threshold).square()).clamp_min(0.0).square()

    def proposed(self, min_angle: float) -> Tensor:
        """(..., 3, N): of the midpoints of all pairs of rays the one with the least loss; NaN where there is none."""
        rays = torch.cat([self.observed, torch.ones_like(self.observed[..., :1, :])], -2)
        rays = self.rotation.mT @ rays
        rays = rays / _length(rays, keepdim=True)
        best = torch.full_like(self.weight[..., 0, :], torch.inf)
        points = torch.full_like(rays[..., 0, :, :], torch.nan)
        focal = torch.linalg.det(self.scale).abs().sqrt()[..., None]
        least = math.sin(math.radians(min_angle / 2))
        for first, second in self.pairs:
            start, end = rays[..., first, :, :], rays[..., second, :, :]
            wide = _length(start - end) / 2 >= least  # half the chord is the sine of half the angle
            seen = (self.weight[..., first, :] > 0) & (self.weight[..., second, :] > 0)
            centre = self.centre[..., first, :, None]
            between = self.centre[..., second, :, None] - centre
            middle = centre + _midpoint(between, start, end, focal[..., first, :], focal[..., second, :])
            distance = self.distance(middle)
            front = torch.maximum(distance[..., first, :], distance[..., second, :]).isfinite()
            loss = torch.where(wide & seen & front, self.loss(distance), torch.inf)
            better = loss < best
            best = torch.where(better, loss, best)
            points = torch.where(better[..., None, :], middle, points)
        return points

    def linear(self, points: Tensor, distance: Tensor) -> Tensor:
        """(..., 3, N): weighted linear solution of the views that agree on given points, at these distances.

        Each view gives the two rows (m r3 - r12) X = t12 - m t3 with m its normalised coordinates; divided by the depth
        and multiplied by the focal length they measure pixels.
        """
        across, along = self._axes()
        rows = self.observed[..., None, :] * along - across
        right = self.translation[..., :2, None] - self.observed * self.translation[..., 2:, None]
        return self._solve(rows, right, self.agreement(distance) / self.local(points)[..., 2, :].square())

    def step(self, points: Tensor, distance: Tensor) -> Tensor:
        """(..., 3, N): a Gauss-Newton step with the weights of the present distances."""
        local = self.local(points)
        depth = local[..., 2:, :]
        projected = local[..., :2, :] / depth
        across, along = self._axes()
        rows = (across - projected[..., None, :] * along) / depth[..., None, :]
        return self._solve(rows, self.observed - projected, self.agreement(distance))

    def _axes(self) -> tuple[Tensor, Tensor]:
        """Return the cameras' first two axes (..., V, 2, 3, 1) and their third (..., V, 1, 3, 1)."""
        return self.rotation[..., :2, :, None], self.rotation[..., 2:, :, None]

    def _solve(self, rows: Tensor, right: Tensor, weight: Tensor) -> Tensor:
        """Least squares (..., 3, N), in pixels, of rows (..., V, 2, 3, N) and right sides (..., V, 2, N)."""
        used = (weight > 0)[..., None, :]  # False also where a point is not a number
        both = torch.where(used[..., None, :], torch.cat([rows, right[..., None, :]], -2), 0.0)
        both = (self.scale @ both.flatten(-2)).unflatten(-1, both.shape[-2:])
        weighted = torch.where(used, weight[..., None, :], 0.0)[..., None, :] * both[..., :3, :]
        solved = torch.zeros_like(both[..., 0, 0, None, :, :].expand(*both.shape[:-4], 3, -1, -1))
        for one, other in zip(weighted.flatten(-4, -3).unbind(-3), both.flatten(-4, -3).unbind(-3), strict=True):
            solved.addcmul_(one[..., :, None, :], other[..., None, :, :])
        return solve_symmetric(solved[..., :3, :], solved[..., 3, :])

    def refined(self, points: Tensor) -> Tensor:
        """(..., 3, N): the local minimum of the loss near given points."""
        found, left, problem = points, torch.arange(points.shape[-1], device=points.device), self
        distance = problem.distance(points)
        loss = problem.loss(distance)
        for number in range(_ROUNDS):
            moved = problem.linear(points, distance) if number == 0 else points + problem.step(points, distance)
            there = problem.distance(moved)
            moved_loss = problem.loss(there)
            better = moved_loss <= loss  # False for NaN
            moving = better & (_length(moved - points) > _STILL * _length(points))
            points = torch.where(better[..., None, :], moved, points)
            found = found.index_copy(-1, left, points)
            some = moving.flatten(0, -2).any(0) if moving.ndim > 1 else moving
            left, points = left[some], points[..., some]
            distance = torch.where(better[..., None, :], there, distance)[..., some]
            loss = torch.where(better, moved_loss, loss)[..., some]
            problem = replace(problem, observed=problem.observed[..., some], weight=problem.weight[..., some])
        return found

    def result(self, points: Tensor, min_angle: float, min_views: int) -> Triangulation:
        """Return what is said about the final points."""
        distance = self.distance(points)
        inliers = (distance < self.threshold) & (self.weight > 0)
        rays = points[..., None, :, :] - self.centre[..., None]
        rays = rays / _length(rays, keepdim=True)
        angle = torch.zeros_like(points[..., 0, :])
        for first, second in self.pairs:
            both = inliers[..., first, :] & inliers[..., second, :]
            chord = _length(rays[..., first, :, :] - rays[..., second, :, :])
            own = 2 * torch.asin((chord / 2).clamp(0, 1))
            angle = torch.where(both, torch.maximum(angle, own), angle)
        angle = torch.rad2deg(angle)
        count = inliers.sum(-2)
        valid = (count >= min_views) & (angle >= min_angle) & points.isfinite().all(-2)
        inliers = inliers & valid[..., None, :]
        weight = self.weight * inliers
        squared = torch.where(inliers, distance, 0.0).square()
        residual = ((weight * squared).sum(-2) / weight.sum(-2)).sqrt()
        nothing = torch.full_like(angle, torch.nan)
        return Triangulation(
            torch.where(valid[..., None], points.mT + self.origin[..., None, :], torch.nan),
            torch.where(valid, residual, nothing),
            torch.where(valid, angle, nothing),
            torch.where(valid, count, 0),
            inliers,
        )


def _length(vectors: Tensor, keepdim: bool = False) -> Tensor:
    """Lengths (..., N) of vectors (..., D, N), in a thirtieth of the time of `Tensor.norm` along that axis."""
    return vectors.square().sum(-2, keepdim=keepdim).sqrt()


def _midpoint(between: Tensor, ray: Tensor, other_ray: Tensor, focal: Tensor, other_focal: Tensor) -> Tensor:
    """Return the point between two rays where they are closest that is as many pixels off in one view as in the other.

    Args:
        between: (..., 3, 1) [m], from the centre of the first camera to that of the second.
        ray: (..., 3, N), of unit length.
        other_ray: (..., 3, N), of unit length.
        focal: (..., 1) [px].
        other_focal: (..., 1) [px].

    Returns:
        (..., 3, N) [m] from the centre of the first camera; far away or not finite for parallel rays.
    """
    cosine = (ray * other_ray).sum(-2)
    along, other_along = (between * ray).sum(-2), (between * other_ray).sum(-2)
    sine = torch.linalg.cross(ray, other_ray, dim=-2).square().sum(-2)
    depth = (along - cosine * other_along) / sine
    other_depth = (cosine * along - other_along) / sine
    share, other_share = (focal / depth).abs(), (other_focal / other_depth).abs()
    share = (share / (share + other_share))[..., None, :]
    return share * depth[..., None, :] * ray + (1 - share) * (between + other_depth[..., None, :] * other_ray)


def solve_symmetric(matrix: Tensor, target: Tensor) -> Tensor:
    """Solution (..., 3, N) of symmetric systems (..., 3, 3, N) by Cramer's rule, NaN where singular."""
    columns = matrix.unbind(-2)
    turns = (1, 2), (2, 0), (0, 1)
    adjugate = torch.stack([torch.linalg.cross(columns[one], columns[two], dim=-2) for one, two in turns], -3)
    determinant = (columns[0] * adjugate[..., 0, :, :]).sum(-2, keepdim=True)
    return (adjugate * target[..., None, :, :]).sum(-2) / determinant
