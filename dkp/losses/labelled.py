"""The labelled terms L_L: dense labels of labelled images, and pseudo-labels of unlabelled views."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dkp.batches import flatten_views
from dkp.fields import ChartField, EmbeddingField, Field
from dkp.geometry.arguments import blank, blank_cells, expect_mask
from dkp.losses.likelihood import laplace_loss
from dkp.losses.penalty import UV_BETA, UV_SCALE, CoordinateTerm, coordinate_penalty, thin_parts
from dkp.losses.term import LossContext, Need
from dkp.losses.value import LossValue, masked_mean

Losses = tuple[Tensor, Tensor, Tensor | None]

LABELS = ("foreground", "coordinate", "known", "part", "uv", "has_label")
"""Entries of a batch that are labels of its views."""


@dataclass(kw_only=True)
class LabelledTerm(CoordinateTerm):
    """L_L: foreground on every known cell plus surface coordinates on every known cell of the surface.

    Embeddings: binary cross entropy, and smooth L1 of the coordinate; of a field that says how far it may be off, the
    negative log-likelihood instead (`laplace_loss`). Charts: cross entropy over background and parts,
    and smooth L1 of (u, v) of the true part.

    Attributes:
        thin_weight: Further weight of the foreground of embeddings where the surface is thin (`thin_parts`).
    """

    symbol = "L_L"
    needs: ClassVar[tuple[Need, ...]] = ("labelled",)
    hint = "check that the labelled data has labels in this split (dkp check)"

    thin_weight: float = 0.0

    def __call__(self, context: LossContext) -> LossValue:
        """L_L on the labelled views."""
        labels: dict[str, Any] = {name: value for name, value in context.labelled.items() if name in LABELS}
        return self.loss(context.labelled_field, **labels)

    def loss(
        self,
        field: Field,
        *,
        foreground: Tensor,
        coordinate: Tensor | None = None,
        known: Tensor | None = None,
        part: Tensor | None = None,
        uv: Tensor | None = None,
        has_label: Tensor | None = None,
    ) -> LossValue:
        """Compute the loss from dense labels.

        Args:
            field: Batch B.
            foreground: (B, H, W) bool, cells that show the surface.
            coordinate: (B, 3, H, W) [m], read on known foreground; needed for embeddings.
            known: (B, H, W) bool, cells that are labelled at all; default all.
            part: (B, H, W) integers 1..K, read on known foreground; needed for charts.
            uv: (B, 2, H, W) in [0, 1], read on known foreground; needed for charts.
            has_label: (B,) bool, images that are labelled; default all.

        Returns:
            The loss, the share of cells that are known, and ``coordinate`` and ``foreground``, the two parts without
            their weights, and for embeddings ``error``, the mean distance from the label [m].

        Raises:
            ValueError: The labels that this type of field needs are not there, or a mask is none of that shape.
        """
        expect_mask("foreground", foreground, len(field.foreground), *field.size)
        expect_mask("known", known, *foreground.shape)
        expect_mask("has_label", has_label, len(foreground))
        known = torch.ones_like(foreground) if known is None else known
        if has_label is not None:
            known = known & has_label[:, None, None]
        surface = known & foreground
        if isinstance(field, ChartField):
            if part is None or uv is None:
                raise ValueError("the labels have no part or no uv, which charts need")
            loss, shown, error = self._charts(field.part_logits, field.uv, known, surface, part, uv)
        else:
            if coordinate is None:
                raise ValueError("the labels have no coordinate, which embeddings need")
            loss, shown, error = self._embedding(field, known, surface, coordinate)
        parts = {} if error is None else {"error": masked_mean(error, surface)}
        return self.both((loss, surface), (shown, known), known, **parts)

    def _embedding(self, field: EmbeddingField, known: Tensor, surface: Tensor, coordinate: Tensor) -> Losses:
        """Coordinate loss, foreground loss and coordinate error, each (B, H, W)."""
        difference = blank_cells(field.coordinate.float() - coordinate.float(), surface)
        if field.log_scale is None:
            loss = coordinate_penalty(difference, self.beta, self.scale)
        else:
            loss = laplace_loss(difference, blank_cells(field.log_scale.float(), surface), self.scale)
        logit = blank(field.foreground.float(), known)
        foreground = nn.functional.binary_cross_entropy_with_logits(logit, surface.float(), reduction="none")
        if self.thin_weight:
            foreground = foreground * (1 + self.thin_weight * thin_parts(surface.float()))
        return loss, foreground, difference.detach().norm(dim=1)

    def _charts(
        self, logits: Tensor, predicted: Tensor, known: Tensor, surface: Tensor, part: Tensor, uv: Tensor
    ) -> Losses:
        """Loss of (u, v) and of the part, each (B, H, W)."""
        part = torch.where(surface, part.long(), torch.zeros_like(part, dtype=torch.long))
        index = (part - 1).clamp_min(0)[:, None, None].expand(-1, 1, 2, -1, -1)
        own = predicted.float().gather(1, index)[:, 0]
        difference = blank_cells(own - uv.float(), surface)
        loss = coordinate_penalty(difference, UV_BETA, UV_SCALE)
        logits = blank_cells(logits.float(), known)
        return loss, nn.functional.cross_entropy(logits, part, reduction="none"), None


class PseudoLabelTerm(LabelledTerm):
    """L_L on the labels that unlabelled views were given (``data.pseudo_labels``); views without one do not count."""

    symbol = "L_L on pseudo-labels"
    needs = ("labels",)
    hint = "check that the unlabelled views are pseudo-labelled and that data.pseudo_labels is true"

    def __call__(self, context: LossContext) -> LossValue:
        """L_L on the unlabelled views."""
        labels = {name: flatten_views(context.views, name) for name in LABELS if name in context.views}
        return self.loss(context.field, **labels)
