"""From a multiview batch to flat lists of views and of view pairs, without loops."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dkp.geometry import Camera, fundamental_matrix


@dataclass
class ViewPairs:
    """The valid view pairs of a batch, as indices into its flattened (B·V) views.

    Attributes:
        first: (N,) long, index of the first view.
        second: (N,) long, index of the second view.
        fundamental: (N, 3, 3), x'ᵀ F x = 0 with x in the first view, pixels of the network's input.
        instant: (N,) long, index of the instant in the batch.
        pair: (N, 2) long, camera slots within the instant.
    """

    first: Tensor
    second: Tensor
    fundamental: Tensor
    instant: Tensor
    pair: Tensor

    def __len__(self) -> int:
        return int(self.first.shape[0])


def flatten_views(batch: Mapping[str, Any], key: str = "image") -> Tensor:
    """(B, V, ...) -> (B·V, ...) for one entry of a multiview batch."""
    value: Tensor = batch[key]
    return value.flatten(0, 1)


def present_views(batch: Mapping[str, Any]) -> Tensor:
    """(B·V,) bool: slots of the batch that hold a view."""
    present: Tensor = batch["present"]
    return present.flatten()


def view_pairs(batch: Mapping[str, Any]) -> ViewPairs:
    """The pairs of a multiview batch whose two views are present; those without epipolar lines are left out.

    Args:
        batch: "pairs" (B, P, 2) long, "pair_valid" (B, P) bool, "present" (B, V) bool, "camera" Camera (B, V) without
            distortion.
    """
    pairs: Tensor = batch["pairs"]
    present: Tensor = batch["present"]
    count, views = present.shape
    instant = torch.arange(count, device=pairs.device)[:, None].expand(pairs.shape[:2])
    index = pairs.clamp(0, views - 1) + (instant * views)[..., None]
    there = present.flatten()[index.flatten()].view(index.shape).all(-1)
    keep = (batch["pair_valid"] & there).flatten().nonzero()[:, 0]
    first, second = index.flatten(0, 1)[keep].unbind(-1)
    camera: Camera = batch["camera"].reshape(count * views)
    fundamental = fundamental_matrix(camera[first], camera[second])
    sound = fundamental.isfinite().all(-1).all(-1) & (fundamental != 0).any(-1).any(-1)
    if not bool(sound.all()):
        warnings.warn(
            f"left out {int((~sound).sum())} of {len(sound)} pairs of views of a batch: their cameras stand at one "
            "place or are not finite",
            stacklevel=2,
        )
        keep, first, second, fundamental = keep[sound], first[sound], second[sound], fundamental[sound]
    return ViewPairs(
        first=first,
        second=second,
        fundamental=fundamental,
        instant=instant.flatten()[keep],
        pair=pairs.flatten(0, 1)[keep],
    )
