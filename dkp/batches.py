"""What a batch holds, and a multiview batch as flat lists of views and of view pairs.

Lengths: B samples, V views (slots) of an instant, P pairs of them, N network input side [px], H = W = N / stride cells.
"""

import warnings
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import torch
from torch import Tensor

from dkp.geometry import Camera, fundamental_matrix

LEAST_CONFIDENCE = 0.3
"""Detected joints below it take no part in losses, metrics and registration."""


class LabelledBatch(TypedDict):
    """Single labelled views.

    Attributes:
        image: (B, 3, N, N) in [0, 1].
        camera: (B,), without distortion, of the crop.
        foreground: (B, H, W) bool, cells that show the surface.
        known: (B, H, W) bool, cells that are labelled at all.
        coordinate: (B, 3, H, W) [m], read on known foreground.
        part: (B, H, W) long, 1..K on known foreground; for detectors of charts.
        uv: (B, 2, H, W) in [0, 1]; for detectors of charts.
        frame: B names of instants.
        camera_name: B names.
    """

    image: Tensor
    camera: Camera
    foreground: Tensor
    known: Tensor
    coordinate: Tensor
    part: NotRequired[Tensor]
    uv: NotRequired[Tensor]
    frame: list[str]
    camera_name: list[str]


class MultiviewBatch(TypedDict):
    """Instants with several views; slots without a view are zero and not `present`.

    Attributes:
        image: (B, V, 3, N, N) in [0, 1].
        camera: (B, V), without distortion, of the crops.
        present: (B, V) bool, slots that hold a view.
        pairs: (B, P, 2) long, slots of the eligible pairs.
        pair_valid: (B, P) bool, false for padding.
        frame: B names of instants.
        camera_name: B lists of V names, "" where there is no view.
        origin: B lists x, y, z [m], where the world of the cameras has its origin in the capture's.
        mask: (B, V, N, N) bool, the captured mask; all false where a view has none.
        has_label: (B, V) bool, views with a label; then there are foreground, known and coordinate, and for charts part
            and uv, as in a `LabelledBatch` but with axes (B, V).
        joints: (B, V, J, 3), x, y [px] and confidence.
        next_image: (B, V, 3, N, N), the next frame of the same camera.
        flow: (B, V, 2, H, W) [px], from each cell to its pixel in the next image.
        flow_valid: (B, V, H, W) bool, cells whose flow is known.
        posed: (B,) bool, instants whose posed surface is known.
        vertices: (B, S, 3) [m], the posed surface's S vertices.
    """

    image: Tensor
    camera: Camera
    present: Tensor
    pairs: Tensor
    pair_valid: Tensor
    frame: list[str]
    camera_name: list[list[str]]
    origin: list[list[float]]
    mask: NotRequired[Tensor]
    has_label: NotRequired[Tensor]
    foreground: NotRequired[Tensor]
    known: NotRequired[Tensor]
    coordinate: NotRequired[Tensor]
    part: NotRequired[Tensor]
    uv: NotRequired[Tensor]
    joints: NotRequired[Tensor]
    next_image: NotRequired[Tensor]
    flow: NotRequired[Tensor]
    flow_valid: NotRequired[Tensor]
    posed: NotRequired[Tensor]
    vertices: NotRequired[Tensor]


class TrainingBatch(TypedDict, total=False):
    """What a training step gets: either part or both."""

    labelled: LabelledBatch
    unlabelled: MultiviewBatch


@dataclass
class ViewPairs:
    """The valid view pairs of a batch, as indices into its flattened (B·V) views.

    Attributes:
        first: (N,) long, index of the first view.
        second: (N,) long, index of the second view.
        fundamental: (N, 3, 3), x'ᵀ F x = 0 with x in the first view, pixels of the network's input.
    """

    first: Tensor
    second: Tensor
    fundamental: Tensor

    def __len__(self) -> int:
        return int(self.first.shape[0])


def flatten_views(batch: MultiviewBatch, key: str = "image") -> Tensor:
    """(B, V, ...) -> (B·V, ...) for one entry of a multiview batch."""
    value: Tensor = batch[key]  # type: ignore[literal-required]
    return value.flatten(0, 1)


def shown_views(batch: MultiviewBatch, most: int) -> tuple[Tensor, Tensor | None]:
    """Return at most so many present views of the first instant of a batch, to be looked at: (V,) long.

    Where two of them are an eligible pair, one pair comes first, and its fundamental matrix (1, 3, 3) comes along.
    """
    present, pairs = batch["present"][0].nonzero()[:, 0], view_pairs(batch)
    own = (pairs.first < batch["present"].shape[1]).nonzero()[:1, 0]
    if not len(own):
        return present[:most], None
    pair = torch.cat([pairs.first[own], pairs.second[own]])
    return torch.cat([pair, present[~torch.isin(present, pair)]])[: max(2, most)], pairs.fundamental[own]


def view_pairs(batch: MultiviewBatch) -> ViewPairs:
    """Return the pairs of a multiview batch whose two views are present; those without epipolar lines are left out."""
    pairs, present = batch["pairs"], batch["present"]
    count, views = present.shape
    instant = torch.arange(count, device=pairs.device)[:, None].expand(pairs.shape[:2])
    index = pairs.clamp(0, views - 1) + (instant * views)[..., None]
    there = present.flatten()[index.flatten()].view(index.shape).all(-1)
    keep = (batch["pair_valid"] & there).flatten().nonzero()[:, 0]
    first, second = index.flatten(0, 1)[keep].unbind(-1)
    camera = batch["camera"].reshape(count * views)
    fundamental = fundamental_matrix(camera[first], camera[second])
    sound = fundamental.isfinite().all(-1).all(-1) & (fundamental != 0).any(-1).any(-1)
    if not bool(sound.all()):
        warnings.warn(
            f"left out {int((~sound).sum())} of {len(sound)} pairs of views of a batch: their cameras stand at one "
            "place or are not finite",
            stacklevel=2,
        )
        first, second, fundamental = first[sound], second[sound], fundamental[sound]
    return ViewPairs(first, second, fundamental)
