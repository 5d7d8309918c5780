"""The distillation loss L_R: the student's field stays near a frozen teacher's on the same image."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dkp.fields import ChartField, EmbeddingField, Field
from dkp.losses.term import LossTerm, Mean

Penalty = Literal["smooth_l1", "l2"]


def coordinate_penalty(difference: Tensor, penalty: Penalty, beta: float, scale: float) -> Tensor:
    """Penalty on a difference of coordinates, summed over its second axis.

    Args:
        difference: (B, D, ...) [m].
        penalty: "smooth_l1", a difference δ costing |δ| / scale beyond beta and δ² / (2 beta scale) within; or "l2",
            costing (δ / scale)².
        beta: Where smooth L1 turns from square to linear [m].
        scale: Difference that costs one [m].

    Returns:
        (B, ...), dimensionless.
    """
    if penalty == "l2":
        return (difference / scale).square().sum(1)
    zero = torch.zeros_like(difference)
    return nn.functional.smooth_l1_loss(difference, zero, reduction="none", beta=beta).sum(1) / scale


class DistillationLoss(nn.Module):
    """Coordinate penalty on the teacher's foreground plus agreement with its foreground probability everywhere.

    Embeddings: penalty on the coordinate, and binary cross entropy against the teacher's probability. Charts: penalty
    on (u, v) of each part, weighted by the teacher's part probability, and Kullback-Leibler divergence of the student's
    part distribution (background included) from the teacher's.
    """

    def __init__(
        self,
        *,
        penalty: Penalty = "smooth_l1",
        beta: float = 0.03,
        scale: float = 0.1,
        uv_beta: float = 0.05,
        uv_scale: float = 0.1,
        coordinate_weight: float = 1.0,
        foreground_weight: float = 1.0,
        foreground_threshold: float = 0.5,
    ) -> None:
        """Choose the form of the loss.

        Args:
            penalty: "smooth_l1" or "l2".
            beta: Where smooth L1 turns linear [m].
            scale: Coordinate difference that makes a loss of one [m].
            uv_beta: The same as ``beta`` for charts, in chart units.
            uv_scale: The same as ``scale`` for charts, in chart units.
            coordinate_weight: Weight of the coordinate (or uv) part.
            foreground_weight: Weight of the foreground (or part distribution) part.
            foreground_threshold: Least foreground probability of the teacher for its coordinate to count.

        Raises:
            ValueError: The penalty is unknown.
        """
        super().__init__()
        if penalty not in get_args(Penalty):
            raise ValueError(f"penalty is {penalty!r}, expected one of {', '.join(get_args(Penalty))}")
        self.penalty: Penalty = penalty
        self.beta = beta
        self.scale = scale
        self.uv_beta = uv_beta
        self.uv_scale = uv_scale
        self.coordinate_weight = coordinate_weight
        self.foreground_weight = foreground_weight
        self.foreground_threshold = foreground_threshold

    def forward(
        self,
        student: Field,
        teacher: Field,
        *,
        confidence: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> LossTerm:
        """Compute the loss of a batch of images.

        Args:
            student: Batch B.
            teacher: Batch B, of the same type and size; no gradient reaches it.
            confidence: (B, H, W) non-negative weights of the teacher's coordinates; default one.
            valid: (B, H, W) bool, cells that take part; default all.

        Returns:
            The loss, the share of cells in the teacher's foreground, and ``coordinate`` and ``foreground``, the two
            parts without their weights.

        Raises:
            TypeError: One field is an embedding and the other consists of charts.
        """
        teacher = teacher.detach()
        probability = teacher.foreground_probability.float()
        every = torch.ones_like(probability) if valid is None else valid.float()
        weight = every if confidence is None else every * confidence.detach().float()
        on_body = (probability > self.foreground_threshold) & (weight > 0)
        if isinstance(student, ChartField) and isinstance(teacher, ChartField):
            coordinate, foreground = self._charts(student, teacher)
        elif isinstance(student, EmbeddingField) and isinstance(teacher, EmbeddingField):
            coordinate, foreground = self._embedding(student, teacher)
        else:
            raise TypeError(f"the student gives {type(student).__name__}, the teacher {type(teacher).__name__}")
        coordinate_mean, foreground_mean = Mean.of((coordinate, weight * on_body)), Mean.of((foreground, every))
        return LossTerm(
            self.coordinate_weight * coordinate_mean.value + self.foreground_weight * foreground_mean.value,
            on_body.sum() / max(1, on_body.numel()),
            {"coordinate": coordinate_mean.value.detach(), "foreground": foreground_mean.value.detach()},
            (coordinate_mean.times(self.coordinate_weight), foreground_mean.times(self.foreground_weight)),
        )

    def _embedding(self, student: EmbeddingField, teacher: EmbeddingField) -> tuple[Tensor, Tensor]:
        """Coordinate and foreground loss, each (B, H, W)."""
        difference = student.coordinate.float() - teacher.coordinate.float()
        target = teacher.foreground_probability.float()
        return (
            coordinate_penalty(difference, self.penalty, self.beta, self.scale),
            nn.functional.binary_cross_entropy_with_logits(student.foreground.float(), target, reduction="none"),
        )

    def _charts(self, student: ChartField, teacher: ChartField) -> tuple[Tensor, Tensor]:
        """Loss of (u, v) and of the part distribution, each (B, H, W)."""
        difference = (student.uv.float() - teacher.uv.float()).movedim(1, 2)  # (B, 2, K, H, W)
        each = coordinate_penalty(difference, self.penalty, self.uv_beta, self.uv_scale)
        log_teacher = teacher.part_logits.float().log_softmax(1)
        log_student = student.part_logits.float().log_softmax(1)
        divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(1)
        return (teacher.part_probability.float() * each).sum(1), divergence
