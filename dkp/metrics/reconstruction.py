"""Errors in 3D of triangulated surface points and keypoints, and what can be said where no truth exists.

The metrics take points in space and do not care where they come from; `dkp.reconstruction` makes them of fields.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import rank_zero_warn

from dkp.errors import InputError
from dkp.geometry.arguments import expect_mask
from dkp.metrics.sampling import concatenate, quantile
from dkp.surface.closest import ClosestPoint

MILLIMETRES = 1000.0
REACH = 0.15
"""Error below which a keypoint counts as right [m]."""


def procrustes(points: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Move points onto others by the best similarity (rotation, scale, shift; no mirroring), least squares.

    S. Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 13 (1991).

    Args:
        points: (..., J, 3).
        target: (..., J, 3), in the same unit.
        mask: (..., J) bool, which points take part; None = all. With fewer than three the result means little.

    Returns:
        (..., J, 3) float64, all points moved, also those that take no part.

    Examples:
        >>> import torch
        >>> square = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
        >>> moved = procrustes(2 * square[:, [1, 2, 0]] + 5, square[:, [1, 2, 0]])
        >>> bool((moved - square[:, [1, 2, 0]]).abs().max() < 1e-9)
        True
    """
    points, target = points.double(), target.double()
    expect_mask("mask", mask, *points.shape[:-1])
    mask = torch.ones_like(points[..., 0], dtype=torch.bool) if mask is None else mask
    share = (mask.double() / mask.sum(-1, keepdim=True).clamp_min(1))[..., None]
    own, target = (torch.where(mask[..., None], one, 0.0) for one in (points, target))
    middle, target_middle = (share * own).sum(-2, keepdim=True), (share * target).sum(-2, keepdim=True)
    centred, target_centred = own - middle, target - target_middle
    left, size, right = torch.linalg.svd((share * target_centred).mT @ centred)
    sign = torch.ones_like(size)
    sign[..., 2] = torch.where(torch.linalg.det(left @ right) < 0, -1.0, 1.0)
    rotation = (left * sign[..., None, :]) @ right
    variance = (share * centred.square()).sum((-2, -1))
    scale = (size * sign).sum(-1) / variance.clamp_min(torch.finfo(variance.dtype).tiny)
    return scale[..., None, None] * (points - middle) @ rotation.mT + target_middle


class SurfaceError3D(Metric):
    """How far triangulated surface points are from where they should be, and how many of the visible ones there are.

    ``compute`` returns ``surface_median_mm`` and ``surface_mean_mm``, the distance of each recovered point to the true
    position of that surface point; ``to_surface_median_mm`` and ``to_surface_mean_mm``, its distance to the nearest
    point of the true surface (how good the shape is, whatever the names of the points); ``surface_recovered``, the
    share of the visible points that were recovered: the errors are over recovered points only and always stand
    beside it; and ``surface_points``, how many were recovered. Without points the errors are NaN, with a warning.

    The two list states hold float32 distances, for the medians; the rest are sums.

    Examples:
        >>> import torch
        >>> corners = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]])
        >>> metric = SurfaceError3D()
        >>> found = torch.tensor([[[0.03, 0.0, 0.04], [torch.nan] * 3]])
        >>> metric.update(found, corners[:, :2], torch.tensor([[True, True]]), corners, torch.tensor([[0, 1, 2]]))
        >>> value = metric.compute()
        >>> [round(value[name].item(), 3) for name in ("surface_mean_mm", "to_surface_mean_mm", "surface_recovered")]
        [50.0, 40.0, 0.5]
    """

    full_state_update = False
    higher_is_better = False
    distances: list[Tensor]
    gaps: list[Tensor]
    counts: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("distances", default=[], dist_reduce_fx="cat")
        self.add_state("gaps", default=[], dist_reduce_fx="cat")
        self.add_state("counts", default=torch.zeros(2, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, points: Tensor, truth: Tensor, visible: Tensor, vertices: Tensor, faces: Tensor) -> None:
        """Add instants.

        Args:
            points: (B, N, 3) [m], NaN where a point was not recovered.
            truth: (B, N, 3) [m], where each surface point is, NaN where that is not known.
            visible: (B, N) bool, points that could be recovered: seen by two views or more.
            vertices: (B, V, 3) [m], the true surface.
            faces: (F, 3) long, of all of them.

        Raises:
            InputError: Points and truth differ in number.
        """
        if points.shape != truth.shape or visible.shape != points.shape[:-1]:
            raise InputError(
                f"points: found shape {tuple(points.shape)} beside truth {tuple(truth.shape)} and visible "
                f"{tuple(visible.shape)}, expected (B, N, 3), (B, N, 3) and (B, N)."
            )
        found = points.isfinite().all(dim=-1)
        distance = (points.double() - truth.double()).norm(dim=-1)
        self.distances.append(distance[found & truth.isfinite().all(dim=-1)].float())
        corners = faces.cpu().numpy()
        for instant in range(len(points)):
            own = points[instant][found[instant]].double().cpu().numpy()
            if len(own):
                gap = ClosestPoint(vertices[instant].double().cpu().numpy(), corners)(own)[2]
                self.gaps.append(torch.as_tensor(gap, dtype=torch.float32).to(points.device))
        self.counts += torch.stack([visible.sum(), (visible & found).sum()])

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed above."""
        distance = MILLIMETRES * concatenate(self.distances, self.device)
        gap = MILLIMETRES * concatenate(self.gaps, self.device)
        if distance.numel() == 0:
            rank_zero_warn("SurfaceError3D saw no recovered point: its errors are NaN.")
        visible, recovered = self.counts.float().unbind()
        return {
            "surface_median_mm": quantile(distance, 0.5),
            "surface_mean_mm": distance.double().mean().to(distance.dtype),
            "to_surface_median_mm": quantile(gap, 0.5),
            "to_surface_mean_mm": gap.double().mean().to(gap.dtype),
            "surface_recovered": recovered / visible,
            "surface_points": distance.new_tensor(float(distance.numel())),
        }


class KeypointError3D(Metric):
    """Error of keypoints in space.

    ``compute`` returns ``mpjpe_mm``, the mean distance from the truth over the keypoints that were found;
    ``pa_mpjpe_mm``, the same after the best similarity has been taken out of each instant (instants with three
    keypoints or more); ``pck3d_150``, the share of all keypoints with an error below 150 mm, those not found being
    misses; and ``keypoints_found``, the share that was found. All states are sums.

    Examples:
        >>> import torch
        >>> truth = torch.eye(4, 3)[None]
        >>> metric = KeypointError3D()
        >>> metric.update(truth + torch.tensor([0.1, 0.0, 0.0]), truth)
        >>> {name: round(value.item(), 3) for name, value in metric.compute().items()}
        {'mpjpe_mm': 100.0, 'pa_mpjpe_mm': 0.0, 'pck3d_150': 1.0, 'keypoints_found': 1.0}
    """

    full_state_update = False
    higher_is_better = False
    sums: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("sums", default=torch.zeros(6, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, points: Tensor, truth: Tensor) -> None:
        """Add instants.

        Args:
            points: (B, J, 3) [m], NaN where a keypoint was not found.
            truth: (B, J, 3) [m], NaN where it is not known: such a keypoint takes no part.
        """
        known = truth.isfinite().all(dim=-1)
        found = known & points.isfinite().all(dim=-1)
        points, truth = points.double(), truth.double()
        distance = (points - truth).norm(dim=-1)
        enough = found & (found.sum(-1, keepdim=True) >= 3)
        aligned = (procrustes(points, truth, enough) - truth).norm(dim=-1)
        own = torch.stack(
            [
                torch.where(found, distance, 0.0).sum(),
                found.sum(),
                torch.where(enough, aligned, 0.0).sum(),
                enough.sum(),
                (found & (distance < REACH)).sum(),
                known.sum(),
            ]
        )
        self.sums += own.to(self.sums)

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed above."""
        total, found, aligned, enough, right, known = self.sums.unbind()
        return {
            "mpjpe_mm": (MILLIMETRES * total / found).float(),
            "pa_mpjpe_mm": (MILLIMETRES * aligned / enough).float(),
            "pck3d_150": (right / known).float(),
            "keypoints_found": (found / known).float(),
        }


class ReprojectionResidual(Metric):
    """Reprojection residual of triangulated points: agreement of the views, where no truth exists.

    ``compute`` returns ``reprojection_median_px`` and ``reprojection_mean_px``, over triangulated points, of the
    residual within the views that agree; ``triangulated``, the share of the points that were triangulated at all; and
    ``triangulated_views``, how many views agree on one, on average. The residual alone says little: outliers are left
    out of it, and two views that agree on a wrong point have none. Without points the residuals are NaN, with a
    warning.

    The list state holds float32 residuals, for the median; the rest are sums.

    Examples:
        >>> import torch
        >>> metric = ReprojectionResidual()
        >>> metric.update(torch.tensor([[0.5, 1.5, torch.nan, torch.nan]]), torch.tensor([[2, 4, 0, 0]]))
        >>> [value.item() for value in metric.compute().values()]
        [1.0, 1.0, 0.5, 3.0]
    """

    full_state_update = False
    higher_is_better = False
    residuals: list[Tensor]
    counts: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("residuals", default=[], dist_reduce_fx="cat")
        self.add_state("counts", default=torch.zeros(3, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, residual: Tensor, views: Tensor) -> None:
        """Add instants.

        Args:
            residual: (B, N) [px], of images of one stated size.
            views: (B, N) long, how many views agree; 0 where a point was not triangulated.
        """
        found = views > 0
        self.residuals.append(residual[found].float())
        self.counts += torch.stack([views.new_tensor(views.numel()), found.sum(), views.sum()])

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed above."""
        residual = concatenate(self.residuals, self.device)
        if residual.numel() == 0:
            rank_zero_warn("ReprojectionResidual saw no triangulated point: its residuals are NaN.")
        points, found, views = self.counts.float().unbind()
        return {
            "reprojection_median_px": quantile(residual, 0.5),
            "reprojection_mean_px": residual.double().mean().to(residual.dtype),
            "triangulated": found / points,
            "triangulated_views": views / found,
        }
