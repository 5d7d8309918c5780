"""Foreground overlap and chart (body part) accuracy."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassStatScores


def intersection_union(
    foreground: Tensor, label_foreground: Tensor, known: Tensor | None = None, threshold: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Pixels in the intersection and in the union of the predicted and the labelled foreground, per view.

    Args:
        foreground: (..., H, W), probability or bool.
        label_foreground: (..., H, W) bool.
        known: (..., H, W) bool, where there is a label; None means everywhere.
        threshold: A pixel is predicted as foreground above this probability.

    Returns:
        intersection, union: (...,) float32 [pixels].

    Examples:
        >>> import torch
        >>> intersection_union(torch.tensor([[0.9, 0.8, 0.1]]), torch.tensor([[True, False, True]]))
        (tensor(1.), tensor(3.))
    """
    predicted = foreground > threshold
    label = label_foreground.bool()
    if known is not None:
        predicted, label = predicted & known.bool(), label & known.bool()
    return (predicted & label).sum(dim=(-2, -1)).float(), (predicted | label).sum(dim=(-2, -1)).float()


class ForegroundIoU(Metric):
    """Intersection over union of the foreground: ``iou`` pooled over pixels, ``iou_view`` the mean over views.

    A view in which neither label nor prediction has foreground takes no part; without any other both are NaN.

    Args:
        threshold: A pixel is predicted as foreground above this probability.

    Examples:
        >>> import torch
        >>> metric = ForegroundIoU()
        >>> metric.update(torch.tensor([[[0.9, 0.8, 0.1]]]), torch.tensor([[[True, False, True]]]))
        >>> metric.update(torch.tensor([[[0.9]]]), torch.tensor([[[True]]]))
        >>> {name: round(value.item(), 3) for name, value in metric.compute().items()}
        {'iou': 0.5, 'iou_view': 0.667}
    """

    full_state_update = False
    higher_is_better = True
    intersection: Tensor
    union: Tensor
    share: Tensor
    views: Tensor

    def __init__(self, threshold: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threshold = threshold
        for name in ("intersection", "union", "views"):
            self.add_state(name, default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("share", default=torch.zeros(()), dist_reduce_fx="sum")

    def update(self, foreground: Tensor, label_foreground: Tensor, known: Tensor | None = None) -> None:
        """Add views; any leading dimensions. Shapes as in ``intersection_union``."""
        intersection, union = intersection_union(foreground, label_foreground, known, self.threshold)
        self.intersection += intersection.sum().long()
        self.union += union.sum().long()
        self.share += (intersection / union.clamp(min=1)).sum()
        self.views += (union > 0).sum()

    def compute(self) -> dict[str, Tensor]:
        """``iou`` and ``iou_view``."""
        return {"iou": self.intersection / self.union, "iou_view": self.share / self.views}


class PartAccuracy(MulticlassStatScores):
    """Share of labelled foreground pixels whose part is right; predicted background counts as wrong.

    ``compute`` returns ``part_accuracy``, over all pixels, and ``part_accuracy_mean``, the mean over parts that occur.

    Args:
        parts: K, without the background.

    Examples:
        >>> import torch
        >>> metric = PartAccuracy(parts=2)
        >>> metric.update(torch.tensor([[[1, 1, 0]]]), torch.tensor([[[1, 1, 2]]]))
        >>> {name: round(value.item(), 3) for name, value in metric.compute().items()}
        {'part_accuracy': 0.667, 'part_accuracy_mean': 0.5}
    """

    def __init__(self, parts: int = 24, **kwargs: Any) -> None:
        super().__init__(parts + 1, average=None, ignore_index=0, validate_args=False, **kwargs)

    def update(self, part: Tensor, label_part: Tensor, known: Tensor | None = None) -> None:
        """Add views.

        Args:
            part: (..., H, W) long, or logits (..., K+1, H, W).
            label_part: (..., H, W) long in 0..K; pixels with 0 take no part.
            known: (..., H, W) bool or None.
        """
        if part.ndim == label_part.ndim + 1:
            part = part.argmax(dim=-3)
        super().update(part.long(), label_part.long() if known is None else label_part.long() * known)

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        """``part_accuracy`` and ``part_accuracy_mean``."""
        correct, total = super().compute()[1:, [0, 4]].T
        occurs = total > 0
        return {
            "part_accuracy": correct.sum() / total.sum(),
            "part_accuracy_mean": (correct[occurs] / total[occurs]).mean(),
        }
