"""Foreground overlap and chart (body part) accuracy."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


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


def part_counts(part: Tensor, label_part: Tensor, parts: int, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Per labelled part: its pixels, and those predicted as it.

    Args:
        part: (..., H, W) long, predicted, 0 is the background.
        label_part: (..., H, W) long in 0..K; pixels with 0 take no part.
        parts: K.
        known: (..., H, W) bool, where there is a label; None means everywhere.

    Returns:
        correct, total: (K,) long, for the parts 1..K.

    Examples:
        >>> import torch
        >>> part_counts(torch.tensor([[1, 2, 0]]), torch.tensor([[1, 1, 2]]), parts=2)
        (tensor([1, 0]), tensor([2, 1]))
    """
    used = label_part > 0
    if known is not None:
        used = used & known.bool()
    label = label_part[used].long() - 1
    correct = label[part[used] == label_part[used]]
    return torch.bincount(correct, minlength=parts)[:parts], torch.bincount(label, minlength=parts)[:parts]


class PartAccuracy(Metric):
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

    full_state_update = False
    higher_is_better = True
    correct: Tensor
    total: Tensor

    def __init__(self, parts: int = 24, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts = parts
        for name in ("correct", "total"):
            self.add_state(name, default=torch.zeros(parts, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, part: Tensor, label_part: Tensor, known: Tensor | None = None) -> None:
        """Add views.

        Args:
            part: (..., H, W) long, or logits (..., K+1, H, W).
            label_part: (..., H, W) long.
            known: (..., H, W) bool or None.
        """
        if part.ndim == label_part.ndim + 1:
            part = part.argmax(dim=-3)
        correct, total = part_counts(part, label_part, self.parts, known)
        self.correct += correct
        self.total += total

    def compute(self) -> dict[str, Tensor]:
        """``part_accuracy`` and ``part_accuracy_mean``."""
        occurs = self.total > 0
        return {
            "part_accuracy": self.correct.sum() / self.total.sum(),
            "part_accuracy_mean": (self.correct[occurs] / self.total[occurs]).mean(),
        }
