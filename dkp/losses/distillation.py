"""The distillation loss L_R: the student's field stays near a frozen teacher's on the same image."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dkp.batches import ViewPairs
from dkp.fields import ChartAtlas, ChartField, EmbeddingField, Field
from dkp.geometry.arguments import blank_cells
from dkp.losses.multiview import epipolar_residuals
from dkp.losses.penalty import UV_BETA, UV_SCALE, CoordinateTerm, coordinate_penalty
from dkp.losses.schedule import SigmaSchedule
from dkp.losses.term import LossContext
from dkp.losses.value import LossValue


@dataclass(kw_only=True)
class DistillationTerm(SigmaSchedule, CoordinateTerm):
    """L_R: coordinate penalty on the teacher's foreground plus agreement with its foreground probability everywhere.

    Embeddings: penalty on the coordinate, and binary cross entropy against the teacher's probability. Charts: penalty
    on (u, v) of each part, weighted by the teacher's part probability, and Kullback-Leibler divergence of the student's
    part distribution (background included) from the teacher's.

    Attributes:
        trust_radius: Distance from the epipolar line [px] at which a teacher's cell counts half, judged in the other
            view that agrees best, by matches of width σ; None = every cell counts fully, and σ is not used.
    """

    symbol = "L_R"
    needs = ("views", "pairs", "teacher")
    hint = "check that the teacher finds any foreground in the unlabelled images"

    trust_radius: float | None = None

    def __call__(self, context: LossContext) -> LossValue:
        """L_R against the teacher's field of the same views."""
        field, target, present = context.field, context.teacher_field, context.present
        confidence = self.confidence(target, context.pairs, self.sigma_at(context.step), context.atlas)
        if not bool(present.all()):
            field, target = field[present], target[present]
            confidence = None if confidence is None else confidence[present]
        return self.loss(field, target, confidence=confidence)

    def confidence(
        self, target: Field, pairs: ViewPairs, sigma: float, atlas: ChartAtlas | None = None
    ) -> Tensor | None:
        """(B, H, W) in (0, 1]: 1 / (1 + (d / trust_radius)²), d the least epipolar distance over the pairs of a view.

        A cell that no other view can judge keeps full confidence.
        """
        if self.trust_radius is None or not len(pairs):
            return None
        forth, back = epipolar_residuals(
            target[pairs.first], target[pairs.second], pairs.fundamental, sigma, atlas=atlas
        )
        distance = torch.full_like(target.foreground, torch.inf, dtype=forth.dtype)
        found, view = torch.cat([forth, back]), torch.cat([pairs.first, pairs.second])
        distance.scatter_reduce_(0, view[:, None, None].expand_as(found), found, "amin")
        confidence = 1 / (1 + (distance / self.trust_radius).square())
        return confidence.masked_fill(distance.isinf(), 1.0)

    def loss(self, student: Field, teacher: Field, *, confidence: Tensor | None = None) -> LossValue:
        """Compute the loss of a batch of images.

        Args:
            student: Batch B.
            teacher: Batch B, of the same type and size; no gradient reaches it.
            confidence: (B, H, W) non-negative weights of the teacher's coordinates; default one.

        Returns:
            The loss, the share of cells in the teacher's foreground, and ``coordinate`` and ``foreground``, the two
            parts without their weights.

        Raises:
            TypeError: One field is an embedding and the other consists of charts.
        """
        teacher = teacher.detach()
        probability = teacher.foreground_probability.float()
        every = torch.ones_like(probability)
        weight = every if confidence is None else confidence.detach().float()
        on_body = (probability > 0.5) & (weight > 0)
        if isinstance(student, ChartField) and isinstance(teacher, ChartField):
            coordinate, foreground = self._charts(student, teacher, on_body)
        elif isinstance(student, EmbeddingField) and isinstance(teacher, EmbeddingField):
            coordinate, foreground = self._embedding(student, teacher, on_body)
        else:
            raise TypeError(f"the student gives {type(student).__name__}, the teacher {type(teacher).__name__}")
        return self.both((coordinate, weight * on_body), (foreground, every), on_body)

    def _embedding(self, student: EmbeddingField, teacher: EmbeddingField, on_body: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinate and foreground loss, each (B, H, W)."""
        difference = blank_cells(student.coordinate.float() - teacher.coordinate.float(), on_body)
        target = teacher.foreground_probability.float()
        return (
            coordinate_penalty(difference, self.beta, self.scale),
            nn.functional.binary_cross_entropy_with_logits(student.foreground.float(), target, reduction="none"),
        )

    def _charts(self, student: ChartField, teacher: ChartField, on_body: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of (u, v) and of the part distribution, each (B, H, W)."""
        difference = blank_cells(student.uv.float() - teacher.uv.float(), on_body).movedim(1, 2)  # (B, 2, K, H, W)
        each = coordinate_penalty(difference, UV_BETA, UV_SCALE)
        log_teacher = teacher.part_logits.float().log_softmax(1)
        log_student = student.part_logits.float().log_softmax(1)
        divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(1)
        return (teacher.part_probability.float() * each).sum(1), divergence
