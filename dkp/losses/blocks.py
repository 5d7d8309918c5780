"""Blocks of pixels that lie near each other on the surface, and the lists of pairs of blocks that have to be visited.

A view's elements are sorted along a Z-order curve, cut into stretches, and each stretch is halved across its widest
axis until blocks of `BLOCK` elements are left. That costs little more than the curve alone, whose stretches may jump,
and gives much smaller blocks.

Which pairs of blocks have to be visited is decided by bounds over whole blocks, see `needed_visits`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dkp.losses.kernels import LEAST_EXPONENT, power_of_two

BLOCK = 16
"""Elements of a block: one vector of float32 where a processor has the widest."""

STRETCH = 256
"""Elements of a stretch of the curve."""

CHUNK = 8
"""Blocks that one entry of a list of visits names."""

_BITS = 10  # of the curve, on each axis
_THRESHOLDS = 8
_ROUNDING = 1.001  # rounding must not turn a bound into less than one
_MOST_BOUNDS = 2**24  # pairs of blocks that are bounded at a time


@dataclass(frozen=True)
class Blocks:
    """Elements of a batch of B views, cut into K blocks of `BLOCK` each.

    Attributes:
        index: (B, K, L) long, places of the elements in the view.
        valid: (B, K, L) bool, false for padding and for elements that take no part.
        low: (B, K) for each axis of the field, least coordinate of a valid element; zero in an empty block.
        high: The same, greatest.
        mean: The same, mean.
        variance: (B, K), mean squared distance of the valid elements from their mean.
        count: (B, K), number of valid elements, float.
    """

    index: Tensor
    valid: Tensor
    low: list[Tensor]
    high: list[Tensor]
    mean: list[Tensor]
    variance: Tensor
    count: Tensor

    def pack(self, values: Tensor) -> Tensor:
        """Values (F, B, N) as (B K + 1, F, L), block by block; the last block, a filler, is all ones."""
        image = torch.arange(values.shape[1], device=values.device)[:, None, None]
        packed = values[:, image, self.index].movedim(0, 2).flatten(0, 1)
        return functional.pad(packed, (0, 0, 0, 0, 0, 1), value=1.0)

    def unpack(self, values: list[Tensor], count: int) -> Tensor:
        """The inverse for valid elements: (B K + 1, L) for each of F values to (B, N, F), zero elsewhere."""
        batch = self.index.shape[0]
        stacked = torch.stack([one[:-1].reshape(batch, -1) for one in values], -1)
        place = torch.where(self.valid, self.index, count).flatten(1)
        result = stacked.new_zeros(batch, count + 1, len(values))
        return result.scatter(1, place.unsqueeze(-1).expand_as(stacked), stacked)[:, :count]


class Visits(NamedTuple):
    """For each block of one view, the blocks of the other that it visits, cut into entries of `CHUNK`.

    Attributes:
        owner: (P,) long, which block, counted over the batch; non-descending.
        visited: (P, CHUNK) long, blocks of the other view, counted over the batch; the one past the last is a filler.
    """

    owner: Tensor
    visited: Tensor


def z_order(axes: Tensor, mask: Tensor) -> Tensor:
    """Places (B, N) along a Z-order curve through the first three of D coordinates (D, B, N), masked elements last."""
    axes = axes[:3]
    low = axes.amin(2, keepdim=True)
    extent = (axes.amax(2, keepdim=True) - low).amax(0, keepdim=True)
    cell = ((axes - low) * ((2**_BITS - 1) / extent.clamp_min(1e-30))).long()
    bits = torch.arange(_BITS, device=axes.device)
    numbers = torch.arange(2**_BITS, device=axes.device).unsqueeze(1)
    spread = (((numbers >> bits) & 1) << (len(axes) * bits)).sum(1)
    code = torch.zeros_like(cell[0])
    for axis, one in enumerate(cell):
        code += spread[one] << axis
    return torch.where(mask, code, torch.iinfo(code.dtype).max)


def cut(field: Tensor, mask: Tensor | None) -> Blocks:
    """Cut the elements of a field (B, N, D), of which a mask (B, N) may say which take part, into blocks."""
    batch, count = field.shape[:2]
    mask = torch.ones(batch, count, dtype=torch.bool, device=field.device) if mask is None else mask
    axes = field.movedim(-1, 0).contiguous()
    image = torch.arange(batch, device=field.device)[:, None, None]
    index = functional.pad(z_order(axes, mask).argsort(1), (0, -count % STRETCH)).view(batch, -1, STRETCH)
    place = torch.arange(index.shape[1] * STRETCH, device=field.device).view(-1, STRETCH)
    valid = mask[image, index] & (place < count)
    # Coordinates for the least and for the greatest of each block; what takes no part is neither, and sorted last.
    below = torch.where(valid, axes[:, image, index], torch.inf)
    above = torch.where(valid, below, -torch.inf)
    while index.shape[2] > BLOCK:
        axis = (above.amax(3) - below.amin(3)).argmax(0)[None, ..., None].expand(1, *index.shape)
        order = below.gather(0, axis)[0].argsort(2)
        halves = batch, -1, index.shape[2] // 2
        index, valid = index.gather(2, order).view(halves), valid.gather(2, order).view(halves)
        each = order.expand_as(below)
        below, above = (one.gather(3, each).view(-1, *index.shape) for one in (below, above))
    number = valid.sum(2).to(field.dtype)
    empty = number == 0
    low, high = (one.masked_fill(empty, 0.0) for one in (below.amin(3), above.amax(3)))
    members = torch.where(valid, below, 0.0)
    mean = members.sum(3) / number.clamp_min(1.0)
    squared = torch.where(valid, members - mean.unsqueeze(3), 0.0).square().sum((0, 3))
    return Blocks(index, valid, [*low], [*high], [*mean], squared / number.clamp_min(1.0), number)


def needed_visits(
    low: list[Tensor],
    high: list[Tensor],
    other_low: list[Tensor],
    other_high: list[Tensor],
    other_mean: list[Tensor],
    other_variance: Tensor,
    other_count: Tensor,
    tolerance: Tensor,
    floor: Tensor,
) -> Tensor:
    """Which blocks of candidates each block of rows has to visit, (B, K, K') bool; written to be compiled.

    With weights 2^(-|u_i - v_j|²) and G the gap between the boxes of two blocks, block J holds at most n_J 2^(-G²) of
    any row's sum of weights; with R the greatest distance of the box of rows from the mean of J and w_J the variance of
    J, it holds at least n_J 2^(-R² - w_J), by Jensen's inequality. The first over the sum of the second (at least the
    floor) bounds the share of J. The blocks of the smallest bounds are left out, as many as add up to the tolerance.

    Args:
        low: (B, K) for each axis, boxes of the blocks of rows.
        high: The same.
        other_low: (B, K') for each axis, boxes of the blocks of candidates.
        other_high: The same.
        other_mean: The same, their means.
        other_variance: (B, K').
        other_count: (B, K').
        tolerance: Scalar, greatest share of a row's weights that may be left out.
        floor: Scalar, least sum of weights for which that holds.
    """
    gap = 0.0 * other_count.unsqueeze(1)
    far = other_variance.unsqueeze(1)
    for least, most, other_least, other_most, middle in zip(low, high, other_low, other_high, other_mean, strict=True):
        least, most, middle = least.unsqueeze(2), most.unsqueeze(2), middle.unsqueeze(1)
        apart = torch.relu(torch.maximum(other_least.unsqueeze(1) - most, least - other_most.unsqueeze(1)))
        reach = torch.maximum((least - middle).abs(), (most - middle).abs())
        gap, far = gap + apart * apart, far + reach * reach
    count = other_count.unsqueeze(1)
    total = torch.maximum((count * _weight(far)).sum(2), floor)
    share = _ROUNDING * count * _weight(gap) / total.unsqueeze(2)
    limit = torch.zeros_like(total)
    for power in reversed(range(_THRESHOLDS)):
        threshold = tolerance * 2.0**-power
        left = torch.where(share <= threshold, share, 0.0).sum(2)
        limit = torch.where(left <= tolerance, threshold, limit)
    return share > limit.unsqueeze(2)


def _weight(squared: Tensor) -> Tensor:
    """2^-x, 2^-60 at least."""
    return power_of_two((squared + LEAST_EXPONENT).neg().relu()) * 2.0**LEAST_EXPONENT


def find_visits(
    rows: Blocks, columns: Blocks, tolerance: float, floor: float, bound: Callable[..., Tensor] = needed_visits
) -> Tensor:
    """Which blocks of columns each block of rows visits, (B, K, K') bool, some rows at a time.

    Args:
        rows: Blocks of the rows.
        columns: Blocks of the candidates.
        tolerance: Greatest share of a row's weights that may be left out.
        floor: Least sum of a row's weights for which that has to hold.
        bound: `needed_visits` or its compiled form.
    """
    step = max(1, _MOST_BOUNDS // max(1, columns.count.numel()))
    # Copies: a compiler tells views of one tensor apart from tensors of their own.
    of_columns = [[one.clone() for one in axes] for axes in (columns.low, columns.high, columns.mean)]
    limits = [columns.count.new_full((), value) for value in (tolerance, floor)]
    found = []
    for start in range(0, rows.count.shape[1], step):
        part = slice(start, start + step)
        low, high = ([one[:, part].clone() for one in ends] for ends in (rows.low, rows.high))
        needed = bound(low, high, *of_columns, columns.variance, columns.count, *limits)
        found.append(needed & (rows.count[:, part] > 0).unsqueeze(2))
    return torch.cat(found, 1)


def list_visits(visits: Tensor) -> Visits:
    """The list of what (B, K, K') bool says; the last two entries are fillers, so that no list is empty."""
    batch, blocks, other_blocks = visits.shape
    there = visits.flatten().nonzero()[:, 0]
    owner = there // other_blocks
    visited = there - owner * other_blocks
    if batch > 1:
        visited += owner // blocks * other_blocks
    counts = visits.sum(-1).flatten()
    entries = (counts + CHUNK - 1) // CHUNK
    total = int(entries.sum())
    # Where the list of each block begins, and where its visits begin among all of them.
    begins, began = (entries.cumsum(0) - entries) * CHUNK, counts.cumsum(0) - counts
    place = torch.arange(len(there), device=visits.device) + (begins - began)[owner]
    table = there.new_full(((total + 2) * CHUNK,), batch * other_blocks)
    table[place] = visited
    every = torch.arange(batch * blocks, device=visits.device)
    owners = torch.repeat_interleave(every, entries, output_size=total)
    return Visits(functional.pad(owners, (0, 2), value=batch * blocks), table.view(-1, CHUNK))
