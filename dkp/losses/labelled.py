"""The labelled loss L_L: dense labels of whole images, or sparse labels of single pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dkp.fields import ChartField, Field
from dkp.geometry import full_precision, promote
from dkp.losses.distillation import coordinate_penalty
from dkp.losses.likelihood import laplace_loss
from dkp.losses.term import LossTerm, Mean, masked_mean

Losses = tuple[Tensor, Tensor, Tensor | None]


@full_precision
def sample_cells(values: Tensor, pixels: Tensor, stride: int) -> Tensor:
    """Sample the cells of a field bilinearly.

    Args:
        values: (B, C, H, W).
        pixels: (B, N, 2) [px] in the input image; beyond the outermost cell centres the border value holds.
        stride: Input pixels per cell.

    Returns:
        (B, N, C).
    """
    values, pixels = promote(values, pixels)
    size = pixels.new_tensor([values.shape[3], values.shape[2]]) * stride
    grid = (2 * pixels / size - 1).unsqueeze(2)
    sampled = nn.functional.grid_sample(values, grid, padding_mode="border", align_corners=False)
    return sampled.squeeze(3).mT


class LabelledLoss(nn.Module):
    """Foreground on every known cell plus surface coordinates on every known cell of the surface.

    Embeddings: binary cross entropy, and smooth L1 of the coordinate; of a field that says how far it may be off, the
    negative log-likelihood instead (`laplace_loss`). Charts: cross entropy over background and parts,
    and smooth L1 of (u, v) of the true part.
    """

    def __init__(
        self,
        *,
        beta: float = 0.03,
        scale: float = 0.1,
        uv_beta: float = 0.05,
        uv_scale: float = 0.1,
        coordinate_weight: float = 1.0,
        foreground_weight: float = 1.0,
    ) -> None:
        """Choose the form of the loss.

        Args:
            beta: Where smooth L1 turns from square to linear [m].
            scale: Coordinate difference that makes a loss of one [m].
            uv_beta: The same as ``beta`` for charts, in chart units.
            uv_scale: The same as ``scale`` for charts, in chart units.
            coordinate_weight: Weight of the coordinate (or uv) part.
            foreground_weight: Weight of the foreground (or part) part.
        """
        super().__init__()
        self.beta = beta
        self.scale = scale
        self.uv_beta = uv_beta
        self.uv_scale = uv_scale
        self.coordinate_weight = coordinate_weight
        self.foreground_weight = foreground_weight

    def forward(
        self,
        field: Field,
        *,
        foreground: Tensor,
        coordinate: Tensor | None = None,
        known: Tensor | None = None,
        part: Tensor | None = None,
        uv: Tensor | None = None,
        labelled: Tensor | None = None,
    ) -> LossTerm:
        """Compute the loss from dense labels.

        Args:
            field: Batch B.
            foreground: (B, H, W) bool, cells that show the surface.
            coordinate: (B, 3, H, W) [m], read on known foreground; needed for embeddings.
            known: (B, H, W) bool, cells that are labelled at all; default all.
            part: (B, H, W) integers 1..K, read on known foreground; needed for charts.
            uv: (B, 2, H, W) in [0, 1], read on known foreground; needed for charts.
            labelled: (B,) bool, images that are labelled; default all.

        Returns:
            The loss, the share of cells that are known, and ``coordinate`` and ``foreground``, the two parts without
            their weights, and for embeddings ``error``, the mean distance from the label [m].

        Raises:
            ValueError: The labels that this type of field needs are not there.
        """
        known = torch.ones_like(foreground) if known is None else known
        if labelled is not None:
            known = known & labelled[:, None, None]
        surface = known & foreground
        if isinstance(field, ChartField):
            if part is None or uv is None:
                raise ValueError("the labels have no part or no uv, which charts need")
            values = self._charts(field.part_logits, field.uv, surface, part, uv)
        else:
            if coordinate is None:
                raise ValueError("the labels have no coordinate, which embeddings need")
            values = self._embedding(field.foreground, field.coordinate, field.log_scale, surface, coordinate)
        return self._reduce(*values, known=known, surface=surface)

    def sparse(
        self,
        field: Field,
        pixels: Tensor,
        mask: Tensor,
        *,
        coordinate: Tensor | None = None,
        part: Tensor | None = None,
        uv: Tensor | None = None,
    ) -> LossTerm:
        """Compute the loss from labels of single pixels, all on the surface; the field is sampled bilinearly there.

        Args:
            field: Batch B.
            pixels: (B, N, 2) [px].
            mask: (B, N) bool, false for padding.
            coordinate: (B, N, 3) [m]; needed for embeddings.
            part: (B, N) integers 1..K; needed for charts.
            uv: (B, N, 2) in [0, 1]; needed for charts.

        Returns:
            As `forward`; the share is that of images with any label.

        Raises:
            ValueError: The labels that this type of field needs are not there.
        """
        pixels = torch.where(mask.unsqueeze(-1), pixels, torch.zeros_like(pixels))
        surface = mask.unsqueeze(1)  # (B, 1, N): an image of one row
        if isinstance(field, ChartField):
            if part is None or uv is None:
                raise ValueError("the labels have no part or no uv, which charts need")
            logits = sample_cells(field.part_logits, pixels, field.stride).mT.unsqueeze(2)
            sampled = sample_cells(field.uv.flatten(1, 2), pixels, field.stride).mT.unflatten(1, (-1, 2)).unsqueeze(3)
            values = self._charts(logits, sampled, surface, part.unsqueeze(1), uv.mT.unsqueeze(2))
        else:
            if coordinate is None:
                raise ValueError("the labels have no coordinate, which embeddings need")
            logit = sample_cells(field.foreground.unsqueeze(1), pixels, field.stride).mT
            sampled = sample_cells(field.coordinate, pixels, field.stride).mT.unsqueeze(2)
            scale = field.log_scale
            if scale is not None:
                scale = sample_cells(scale.unsqueeze(1), pixels, field.stride).mT
            values = self._embedding(logit, sampled, scale, surface, coordinate.mT.unsqueeze(2))
        term = self._reduce(*values, known=surface, surface=surface)
        term.valid_share = mask.any(1).sum() / max(1, mask.shape[0])
        return term

    def _embedding(
        self, logit: Tensor, predicted: Tensor, log_scale: Tensor | None, surface: Tensor, coordinate: Tensor
    ) -> Losses:
        """Coordinate loss, foreground loss and coordinate error, each (B, H, W)."""
        target = torch.where(surface.unsqueeze(1), coordinate.float(), torch.zeros_like(predicted, dtype=torch.float32))
        difference = predicted.float() - target
        if log_scale is None:
            loss = coordinate_penalty(difference, "smooth_l1", self.beta, self.scale)
        else:
            loss = laplace_loss(difference, log_scale.float(), self.scale)
        foreground = nn.functional.binary_cross_entropy_with_logits(logit.float(), surface.float(), reduction="none")
        return loss, foreground, difference.detach().norm(dim=1)

    def _charts(self, logits: Tensor, predicted: Tensor, surface: Tensor, part: Tensor, uv: Tensor) -> Losses:
        """Loss of (u, v) and of the part, each (B, H, W)."""
        part = torch.where(surface, part.long(), torch.zeros_like(part, dtype=torch.long))
        index = (part - 1).clamp_min(0)[:, None, None].expand(-1, 1, 2, -1, -1)
        own = predicted.float().gather(1, index)[:, 0]
        target = torch.where(surface.unsqueeze(1), uv.float(), torch.zeros_like(own))
        loss = coordinate_penalty(own - target, "smooth_l1", self.uv_beta, self.uv_scale)
        return loss, nn.functional.cross_entropy(logits.float(), part, reduction="none"), None

    def _reduce(
        self, coordinate: Tensor, foreground: Tensor, error: Tensor | None, *, known: Tensor, surface: Tensor
    ) -> LossTerm:
        coordinate_mean, foreground_mean = Mean.of((coordinate, surface)), Mean.of((foreground, known))
        parts = {"coordinate": coordinate_mean.value.detach(), "foreground": foreground_mean.value.detach()}
        if error is not None:
            parts["error"] = masked_mean(error, surface)
        return LossTerm(
            self.coordinate_weight * coordinate_mean.value + self.foreground_weight * foreground_mean.value,
            known.sum() / max(1, known.numel()),
            parts,
            (coordinate_mean.times(self.coordinate_weight), foreground_mean.times(self.foreground_weight)),
        )
