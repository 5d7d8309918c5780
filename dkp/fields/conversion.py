"""From one field representation to the other."""

from __future__ import annotations

import torch

from dkp.fields.atlas import ChartAtlas
from dkp.fields.field import ChartField, EmbeddingField, Field

CERTAIN = 20.0
"""Logit that stands for certainty between parts: a probability within 3e-9 of one."""


def to_embedding(field: Field, atlas: ChartAtlas | None = None, *, soft: bool = False) -> EmbeddingField:
    """A field as continuous surface coordinates; an embedding is returned as it is.

    Args:
        field: any field.
        atlas: the chart atlas, needed for a chart field.
        soft: see `ChartField.coordinates`.
    """
    if isinstance(field, EmbeddingField):
        return field
    return EmbeddingField(field.foreground, field.coordinates(atlas, soft=soft), field.stride)


def to_charts(field: Field, atlas: ChartAtlas) -> ChartField:
    """A field as parts and charts; a chart field is returned as it is.

    The closest surface point of every cell gives its part (with certainty) and its chart coordinates, repeated for
    every part. The foreground logit is kept. Not differentiable.
    """
    if isinstance(field, ChartField):
        return field
    part, uv = atlas.decode(field.coordinate.movedim(1, -1))
    certain = torch.full((field.foreground.shape[0], atlas.parts, *field.size), -CERTAIN, device=part.device)
    certain.scatter_(1, (part - 1).unsqueeze(1), 0.0)
    foreground = field.foreground.detach() - torch.logsumexp(certain, dim=1)
    logits = torch.cat([torch.zeros_like(foreground).unsqueeze(1), certain + foreground.unsqueeze(1)], dim=1)
    return ChartField(logits, uv.movedim(-1, 1).unsqueeze(1).expand(-1, atlas.parts, -1, -1, -1), field.stride)
