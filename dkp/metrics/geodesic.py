"""Geodesic error of a dense keypoint field against labels: median, mean, coverage, recall curve, AUC, PCK."""

import copy
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import rank_zero_warn

from dkp.fields import gather_cells
from dkp.metrics.sampling import choose_pixels, concatenate, quantile
from dkp.metrics.snapping import onto_surface

if TYPE_CHECKING:
    from dkp.surface import Surface


class SurfaceMetric(Metric):
    """A metric that measures on a surface; copies share the surface, whose distance matrix may be hundreds of MB."""

    full_state_update = False

    def __init__(self, surface: "Surface", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.surface = surface

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self.surface)] = self.surface
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return copied


def geodesic_errors(
    surface: "Surface",
    coordinate: Tensor,
    foreground: Tensor,
    label_coordinate: Tensor,
    label_foreground: Tensor,
    known: Tensor | None = None,
    *,
    points_per_view: int | None = 500,
    threshold: float = 0.5,
) -> tuple[Tensor, Tensor, Tensor]:
    """Distance over the surface between the predicted and the labelled point of every labelled pixel.

    Args:
        surface: The template.
        coordinate: (..., 3, H, W) [m], predicted; points off the surface are moved onto it by ``onto_surface``.
        foreground: (..., H, W), predicted probability or bool.
        label_coordinate: (..., 3, H, W) [m].
        label_foreground: (..., H, W) bool.
        known: (..., H, W) bool, where there is a label at all; None means everywhere.
        points_per_view: At most this many labelled pixels of a view are measured, chosen by ``choose_pixels``.
        threshold: A pixel is predicted as foreground above this probability.

    Returns:
        error: (B, N) [m], B the product of the leading dimensions; inf where the pixel is predicted as background or
            its coordinate is not finite.
        index: (B, N) long, flat indices into H * W.
        chosen: (B, N) bool, False on entries that only fill up a row.
    """
    height, width = foreground.shape[-2:]
    coordinate = coordinate.reshape(-1, 3, height, width)
    label_coordinate = label_coordinate.reshape(-1, 3, height, width)
    labelled = label_foreground.reshape(-1, height, width).bool()
    if known is not None:
        labelled = labelled & known.reshape(-1, height, width).bool()
    predicted = foreground.reshape(-1, height, width) > threshold

    index, chosen = choose_pixels(labelled, points_per_view)
    found = gather_cells(coordinate.detach(), index)
    truth = gather_cells(label_coordinate, index)
    covered = chosen & predicted.flatten(1).gather(1, index) & found.isfinite().all(dim=-1)

    error = torch.full(chosen.shape, float("inf"), device=coordinate.device)
    if covered.any():
        predicted_point, label_point = (points[covered].double().cpu().numpy() for points in (found, truth))
        distance = surface.geodesic_distance(onto_surface(surface, predicted_point), label_point)
        error[covered] = torch.as_tensor(distance, dtype=error.dtype).to(error.device)
    return error, index, chosen


def recall_curve(error: Tensor, thresholds: Tensor) -> Tensor:
    """RCP(t): share of labelled points whose error is below t; uncovered points, inf, count as misses.

    Args:
        error: (N,), inf where uncovered.
        thresholds: (T,), in the unit of the error.

    Returns:
        (T,) in [0, 1]; NaN without points.

    Examples:
        >>> import torch
        >>> recall_curve(torch.tensor([1.0, 4.0, float("inf"), 20.0]), torch.tensor([2.0, 10.0, 30.0]))
        tensor([0.2500, 0.5000, 0.7500])
    """
    below = torch.searchsorted(error.sort().values, thresholds.to(error).contiguous(), right=False)
    return below / error.new_tensor(float("nan") if error.numel() == 0 else float(error.numel()))


def area_under_recall(error: Tensor, limit: float) -> Tensor:
    """AUC_a = (1/a) ∫₀ᵃ RCP(t) dt, in closed form: the mean of max(0, 1 - error / a).

    Args:
        error: (N,), inf where uncovered.
        limit: a, in the unit of the error.

    Returns:
        Scalar in [0, 1]; NaN without points.

    Examples:
        >>> import torch
        >>> area_under_recall(torch.tensor([0.0, 5.0, float("inf")]), 10.0)
        tensor(0.5000)
    """
    return (1 - error.double() / limit).clamp(min=0).mean().to(error.dtype)


class GeodesicError(SurfaceMetric):
    """Geodesic error over labelled pixels, pooled over views, in cm.

    A labelled pixel that is predicted as background has error inf: it lowers coverage, PCK and AUC and stays out of
    the median and the mean, which therefore always stand beside the coverage.

    ``compute`` returns scalars: ``geodesic_median_cm`` and ``geodesic_mean_cm`` (over covered points), ``coverage``,
    ``auc10``, ``auc30`` (area under the recall curve up to 10 and 30 cm, 1 is best), ``pck5``, ``pck10`` (share with an
    error below 5 and 10 cm) and ``geodesic_points`` (how many were measured). Without points all but the last are NaN,
    with a warning.

    The one state is a list of float32 errors, because a median needs them all: 500 points of 10,000 views are 20 MB.

    Args:
        surface: The template; its ``geodesic_distance`` measures.
        points_per_view: At most this many labelled pixels of a view are measured; None measures all.
        threshold: A pixel is predicted as foreground above this probability.

    Examples:
        >>> import torch
        >>> from dkp.surface import Surface
        >>> metric = GeodesicError(Surface.plane(width=1.0, height=1.0, spacing=0.1))
        >>> label = torch.zeros(1, 3, 2, 2)
        >>> predicted = label + torch.tensor([0.0, 0.04, 0.0])[:, None, None]
        >>> foreground = torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])
        >>> metric.update(predicted, foreground, label, torch.ones(1, 2, 2, dtype=torch.bool))
        >>> {name: round(value.item(), 2) for name, value in metric.compute().items()}  # doctest: +NORMALIZE_WHITESPACE
        {'geodesic_median_cm': 4.0, 'geodesic_mean_cm': 4.0, 'coverage': 0.75, 'auc10': 0.45, 'auc30': 0.65,
         'pck5': 0.75, 'pck10': 0.75, 'geodesic_points': 4.0}
    """

    higher_is_better = False
    errors: list[Tensor]

    def __init__(
        self, surface: "Surface", points_per_view: int | None = 500, threshold: float = 0.5, **kwargs: Any
    ) -> None:
        super().__init__(surface, **kwargs)
        self.points_per_view = points_per_view
        self.threshold = threshold
        self.add_state("errors", default=[], dist_reduce_fx="cat")

    def update(
        self,
        coordinate: Tensor,
        foreground: Tensor,
        label_coordinate: Tensor,
        label_foreground: Tensor,
        known: Tensor | None = None,
    ) -> None:
        """Add views; any leading dimensions. Shapes and units as in ``geodesic_errors``."""
        error, _, chosen = geodesic_errors(
            self.surface,
            coordinate,
            foreground,
            label_coordinate,
            label_foreground,
            known,
            points_per_view=self.points_per_view,
            threshold=self.threshold,
        )
        self.errors.append(error[chosen])
        self.add_instances(error, chosen, foreground, label_foreground, known)

    def add_instances(
        self, error: Tensor, chosen: Tensor, foreground: Tensor, label_foreground: Tensor, known: Tensor | None
    ) -> None:
        """Add what the errors (B, N) of chosen pixels (B, N) say of each view; here nothing."""

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed above."""
        error = 100 * concatenate(self.errors, self.device)
        if error.numel() == 0:
            rank_zero_warn("GeodesicError saw no labelled foreground pixel: its values are NaN.")
        covered = error[error.isfinite()]
        recall = recall_curve(error, error.new_tensor([5.0, 10.0]))
        return {
            "geodesic_median_cm": quantile(covered, 0.5),
            "geodesic_mean_cm": covered.double().mean().to(error.dtype),
            "coverage": error.isfinite().to(error.dtype).mean(),
            "auc10": area_under_recall(error, 10.0),
            "auc30": area_under_recall(error, 30.0),
            "pck5": recall[0],
            "pck10": recall[1],
            "geodesic_points": error.new_tensor(float(error.numel())),
        }
