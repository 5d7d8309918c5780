"""What the captured masks are for: the foreground's term, and images without their background."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dkp.fields import Field
from dkp.losses.term import LossTerm, Mean
from dkp.tasks.pairs import flatten_views, present_views


def mask_term(field: Field, batch: Mapping[str, Any]) -> LossTerm:
    """Binary cross-entropy of the foreground against the captured masks' share of each cell.

    A view whose mask is empty counts as one without a mask.
    """
    mask = flatten_views(batch, "mask")
    target = functional.avg_pool2d(mask.to(field.foreground.dtype), field.stride)
    there = present_views(batch) & mask.flatten(1).any(1)
    loss = functional.binary_cross_entropy_with_logits(field.foreground, target, reduction="none").mean((1, 2))
    mean = Mean.of((loss, there))
    return LossTerm(mean.value, there.float().mean(), {}, (mean,))


def without_background(images: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """Images (B, 3, H, W) of a batch, black where their captured masks are off; those without a mask as they are."""
    if batch.get("mask") is None:
        return images
    mask = flatten_views(batch, "mask").bool()
    shown = mask | ~mask.flatten(1).any(1)[:, None, None]
    return torch.where(shown.unsqueeze(1), images, images.new_zeros(()))
