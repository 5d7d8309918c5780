"""Geodesic point similarity (GPS), its masked form (GPSm) and the average precision and recall over thresholds."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics.utilities import rank_zero_warn

from dkp.metrics.geodesic import GeodesicError
from dkp.metrics.sampling import concatenate
from dkp.metrics.segmentation import intersection_union

if TYPE_CHECKING:
    from dkp.surface import Surface

KAPPA = 0.255
"""One normalising constant for the whole body [m], from the first DensePose evaluation."""

THRESHOLDS = tuple(0.5 + 0.05 * step for step in range(10))


def geodesic_point_similarity(error: Tensor, chosen: Tensor) -> Tensor:
    """GPS of each instance: the mean over its labelled points of exp(-g² / (2 κ²)); uncovered points add 0.

    Args:
        error: (B, N) [m], inf where uncovered.
        chosen: (B, N) bool, the points that exist.

    Returns:
        (B,) in [0, 1]; NaN for an instance without points.

    Examples:
        >>> import torch
        >>> error = torch.tensor([[0.0, 0.255, float("inf"), 0.0]])
        >>> geodesic_point_similarity(error, torch.tensor([[True, True, True, False]]))
        tensor([0.5355])
    """
    similarity = torch.exp(-(error**2) / (2 * KAPPA**2))
    return torch.where(chosen, similarity, 0.0).sum(dim=1) / chosen.sum(dim=1)


def average_precision(similarity: Tensor, score: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """Average precision and recall at each threshold, with one labelled instance per detection slot.

    Detections are ranked by score. Precision is made monotone and read at 101 recalls, as the COCO evaluation does;
    detections of equal score enter together, so that their order cannot matter.

    Args:
        similarity: (N,) in [0, 1].
        score: (N,); -inf says that nothing was detected in this slot: a missed instance, and no false alarm.
        thresholds: (T,).

    Returns:
        precision, recall: (T,) each, in [0, 1].

    Examples:
        >>> import torch
        >>> average_precision(torch.tensor([0.9, 0.6]), torch.tensor([1.0, 1.0]), torch.tensor([0.5, 0.8]))
        (tensor([1.0000, 0.2525]), tensor([1.0000, 0.5000]))
    """
    order = score.argsort(descending=True, stable=True)
    ranked, score = similarity[order], score[order]
    right = (ranked[None] >= thresholds[:, None]) & score.isfinite()
    hits = right.double().cumsum(dim=1)
    detections = torch.arange(1, len(score) + 1, device=score.device, dtype=torch.float64)
    last_of_tie = torch.ones_like(score, dtype=torch.bool)
    last_of_tie[:-1] = score[:-1] != score[1:]
    usable = last_of_tie & score.isfinite()
    precision = torch.where(usable, hits / detections, 0.0).flip(1).cummax(dim=1).values.flip(1)
    recall = torch.where(usable, hits, -1.0).cummax(dim=1).values.clamp(min=0) / len(score)

    levels = torch.linspace(0, 1, 101, device=score.device, dtype=torch.float64)
    first = torch.searchsorted(recall, levels.expand(len(thresholds), -1).contiguous() - 1e-9)
    padded = torch.cat([precision, precision.new_zeros(len(thresholds), 1)], dim=1)
    return padded.gather(1, first).mean(dim=1).float(), (hits[:, -1] / len(score)).float()


class PointSimilarity(GeodesicError):
    """The geodesic error, with GPS and GPSm per instance (one instance a view) and AP and AR at 0.50:0.05:0.95.

    GPSm = sqrt(GPS · IoU of the masks). The score that ranks detections is the mean foreground probability over the
    predicted foreground; a view without any is an instance missed. There are no detections beyond the labelled
    instances here, so these figures are not comparable with DensePose-COCO's, which include a person detector.

    ``compute`` returns, beside what `GeodesicError` does, ``gps``, ``gpsm`` (means over instances), and ``ap``,
    ``ap50``, ``ap75``, ``ar``, from GPSm.

    The states are lists of float32, one entry an instance: precision needs their order.

    Examples:
        >>> import torch
        >>> from dkp.surface import Surface
        >>> metric = PointSimilarity(Surface.plane(width=1.0, height=1.0, spacing=0.1))
        >>> label, foreground = torch.zeros(1, 3, 2, 2), torch.ones(1, 2, 2)
        >>> metric.update(label, foreground, label, foreground.bool())
        >>> value = metric.compute()
        >>> [round(value[name].item(), 2) for name in ("geodesic_mean_cm", "gps", "gpsm", "ap", "ar")]
        [0.0, 1.0, 1.0, 1.0, 1.0]
    """

    gps: list[Tensor]
    gpsm: list[Tensor]
    score: list[Tensor]

    def __init__(self, surface: "Surface", *args: Any, **kwargs: Any) -> None:
        super().__init__(surface, *args, **kwargs)
        for name in ("gps", "gpsm", "score"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def add_instances(
        self, error: Tensor, chosen: Tensor, foreground: Tensor, label_foreground: Tensor, known: Tensor | None
    ) -> None:
        """Add an instance for each view."""
        gps = geodesic_point_similarity(error, chosen)
        height, width = foreground.shape[-2:]
        foreground = foreground.detach().float().reshape(-1, height, width)
        intersection, union = intersection_union(
            foreground,
            label_foreground.reshape(-1, height, width),
            None if known is None else known.reshape(-1, height, width),
            self.threshold,
        )
        detected = foreground > self.threshold
        score = (foreground * detected).sum(dim=(1, 2)) / detected.sum(dim=(1, 2))
        score = torch.where(detected.any(dim=2).any(dim=1), score, float("-inf"))
        instance = chosen.any(dim=1)
        self.gps.append(gps[instance])
        self.gpsm.append((gps * intersection / union.clamp(min=1)).sqrt()[instance])
        self.score.append(score[instance])

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed above."""
        gps, gpsm, score = (concatenate(state, self.device) for state in (self.gps, self.gpsm, self.score))
        if gps.numel() == 0:
            rank_zero_warn("PointSimilarity saw no labelled instance: its values are NaN.")
            names = ("gps", "gpsm", "ap", "ap50", "ap75", "ar")
            return super().compute() | {name: gps.new_tensor(float("nan")) for name in names}
        precision, recall = average_precision(gpsm, score, gpsm.new_tensor(THRESHOLDS))
        return super().compute() | {
            "gps": gps.mean(),
            "gpsm": gpsm.mean(),
            "ap": precision.mean(),
            "ap50": precision[0],
            "ap75": precision[5],
            "ar": recall.mean(),
        }
