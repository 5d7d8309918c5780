"""Blocks of pixels that lie near each other on the surface, and the lists of pairs of blocks that have to be visited.

A view's elements are sorted along a Z-order curve and cut into stretches; each stretch is cut into `PARTS` across its
widest axis, and each of these again, until blocks of `BLOCK` elements are left. That costs little more than the curve
alone, whose stretches may jump, and gives much smaller blocks.

Which pairs of blocks have to be visited is decided by bounds over whole blocks, see `visit_excess`.
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

PARTS = 4
"""Parts into which a stretch is cut at a time. With two, blocks visit 3 % fewer others, for twice the sorting."""

_BITS = 20  # of whole coordinates
_CURVE_BITS = 10  # of those, on each axis of the curve
_THRESHOLDS = 6  # limits tried, each a quarter of the one before: enough for some hundred thousand elements
_ROUNDING = 1.001  # rounding must not turn a bound into less than one


@dataclass(frozen=True)
class Blocks:
    """Elements of a batch of B views, cut into K blocks of `BLOCK` each, and one block more in all, a filler.

    Attributes:
        place: ((B K + 1) L,) long, for every place in a block the element, counted over the batch.
        slot: (B N,) long, for every element its place in a block; for those that take no part one in the filler.
        valid: (B K + 1, L) bool, false for padding, for elements that take no part and in the filler.
        boxes: (B, 2 D, K), least and greatest coordinates of the valid elements on each axis of the field.
        moments: (B, D + 2, K), mean of the valid elements, their mean squared distance from it, and their number.
    """

    place: Tensor
    slot: Tensor
    valid: Tensor
    boxes: Tensor
    moments: Tensor

    def pack(self, values: Tensor) -> Tensor:
        """Values (F, B, N) as (F, B K + 1, L), block by block; what is in the filler has no meaning."""
        return values.flatten(1).index_select(1, self.place).view(len(values), -1, BLOCK)

    def unpack(self, values: Tensor) -> Tensor:
        """Values (F, B K + 1, L) as (B, N, F); zero for elements that take no part."""
        blank = values.masked_fill(~self.valid, 0.0)
        return blank.flatten(1).index_select(1, self.slot).T.unflatten(0, (len(self.boxes), -1))


class Visits(NamedTuple):
    """For each block of one view, the blocks of the other that it visits, cut into entries of `CHUNK`.

    Attributes:
        owner: (P,) long, which block, counted over the batch; non-descending. The last two entries are fillers.
        visited: (CHUNK, P) long, blocks of the other view, counted over the batch; the one past the last is a filler.
        ends: (B K + 1,) long, where the entries of each block begin, and where those of the last one end.
    """

    owner: Tensor
    visited: Tensor
    ends: Tensor


def z_order(cells: Tensor) -> Tensor:
    """Places (N,) along a Z-order curve through the first three of D whole coordinates (D, N) of `_BITS` bits."""
    cells = cells[:3] >> (_BITS - _CURVE_BITS)
    bits = torch.arange(_CURVE_BITS, device=cells.device)
    numbers = torch.arange(2**_CURVE_BITS, device=cells.device).unsqueeze(1)
    spread = (((numbers >> bits) & 1) << (len(cells) * bits)).sum(1, dtype=torch.int32)
    code = torch.zeros_like(cells[0])
    for axis, one in enumerate(cells):
        code += spread.index_select(0, one) << axis
    return code


def order(numbers: Tensor) -> Tensor:
    """Places of whole numbers (..., N) of 31 bits in ascending order, equal ones in the order that they have."""
    packed = (numbers.long() << 32) | torch.arange(numbers.shape[-1], device=numbers.device)
    if packed.device.type == "cpu":
        packed.numpy().sort()  # in place, and several times faster than torch finds an order
    else:
        packed = packed.sort().values
    return packed & (2**32 - 1)


def cut(field: Tensor, mask: Tensor | None) -> Blocks:
    """Cut the elements of a field (B, N, D), of which a mask (B, N) may say which take part, into blocks."""
    batch, count, size = field.shape
    mask = torch.ones(batch, count, dtype=torch.bool, device=field.device) if mask is None else mask
    axes = field.movedim(-1, 0).flatten(1).contiguous()
    low, high = axes.amin(1, keepdim=True), axes.amax(1, keepdim=True)
    cells = ((axes - low) * ((2**_BITS - 1) / (high - low).amax().clamp_min(1e-30))).int()
    curve = torch.where(mask, z_order(cells).view(batch, count), torch.iinfo(torch.int32).max)
    number = mask.sum(1, keepdim=True)
    along = torch.arange(count + -count % STRETCH, device=field.device)
    first = (torch.arange(batch, device=field.device) * count).unsqueeze(1)
    # The last element that takes part stands for the padding behind it: it leaves all boxes as they are.
    place = order(curve).gather(1, along.minimum(number - 1).clamp_min(0)) + first
    place = place.view(-1, STRETCH)
    valid = (along < number).view(-1, STRETCH)
    while place.shape[1] > BLOCK:
        here = cells.index_select(1, place.flatten()).view(size, *place.shape)
        axis = (here.amax(2) - here.amin(2)).argmax(0).view(1, -1, 1).expand(1, *place.shape)
        ascending = order(here.gather(0, axis)[0])
        parts = -1, place.shape[1] // PARTS
        place, valid = place.gather(1, ascending).view(parts), valid.gather(1, ascending).view(parts)
    points = axes.index_select(1, place.flatten()).view(size, -1, BLOCK)
    members = valid.sum(1).to(field.dtype)
    share = valid / members.clamp_min(1.0).unsqueeze(1)
    mean = (points * share).sum(2)
    variance = ((points - mean.unsqueeze(2)).square() * share).sum((0, 2))

    def by_image(*values: Tensor) -> Tensor:
        return torch.cat(values).unflatten(1, (batch, -1)).movedim(1, 0).contiguous()

    place = functional.pad(place.flatten(), (0, BLOCK))
    valid = functional.pad(valid, (0, 0, 0, 1))
    every = torch.arange(len(place), device=field.device)
    slot = every[-1:].repeat(batch * count + 1)
    slot.scatter_(0, torch.where(valid.flatten(), place, batch * count), every)
    moments = by_image(mean, torch.stack([variance, members]))
    return Blocks(place, slot[:-1], valid, by_image(points.amin(2), points.amax(2)), moments)


def visit_excess(rows: Tensor, columns: Tensor, tolerance: Tensor, floor: Tensor) -> Tensor:
    """Which blocks of candidates each block of rows has to visit; written to be compiled.

    With weights 2^(-|u_i - v_j|²) and G the gap between the boxes of two blocks, block J holds at most n_J 2^(-G²) of
    any row's sum of weights; with R the greatest distance of the box of rows from the mean of J and w_J the variance of
    J, it holds at least n_J 2^(-R² - w_J), by Jensen's inequality. The first over the sum of the second (at least the
    floor) bounds the share of J. The blocks of the smallest bounds are left out, as many as add up to the tolerance.

    Args:
        rows: (2 D + 1, K), boxes of the blocks of rows, least and greatest, and their numbers of elements.
        columns: (3 D + 2, K'), boxes, means, variances and numbers of elements of the blocks of candidates.
        tolerance: Scalar, greatest share of a row's weights that may be left out.
        floor: Scalar, least sum of weights for which that holds.

    Returns:
        (K', K), positive where a visit is needed: by how much the bounded share is more than what may be left out.
        (On CPU the compiler writes truth values one by one.)
    """
    *ends, members = rows.unsqueeze(1).unbind(0)
    *other_ends, far, count = columns.unsqueeze(2).unbind(0)
    size = len(ends) // 2
    gap = 0.0 * far
    for axis in range(size):
        low, high = ends[axis], ends[axis + size]
        other_low, other_high, middle = other_ends[axis::size]
        gap = gap + torch.maximum(other_low - high, low - other_high).relu().square()
        far = far + torch.maximum(middle - low, high - middle).square()
    # An empty block of rows has no share anywhere.
    total = torch.maximum((count * _weight(far)).sum(0), floor / members.squeeze(0).clamp_max(1.0))
    share = (_ROUNDING * count * _weight(gap)) / total
    limit = torch.zeros_like(total)
    for power in reversed(range(_THRESHOLDS)):
        threshold = tolerance * 4.0**-power
        left = torch.where(share <= threshold, share, 0.0).sum(0)
        limit = torch.where(left <= tolerance, threshold, limit)
    return share - limit


def _weight(squared: Tensor) -> Tensor:
    """2^-x, 2^-60 at least."""
    return power_of_two((squared + LEAST_EXPONENT).neg().relu()) * 2.0**LEAST_EXPONENT


def find_visits(
    rows: Blocks, columns: Blocks, tolerance: float, floor: float, bound: Callable[..., Tensor] = visit_excess
) -> Tensor:
    """Which blocks of candidates each block of rows visits, (B, K', K) bool, image by image.

    Args:
        rows: Blocks of the rows.
        columns: Blocks of the candidates.
        tolerance: Greatest share of a row's weights that may be left out.
        floor: Least sum of a row's weights for which that has to hold.
        bound: `visit_excess` or its compiled form.
    """
    limits = [columns.boxes.new_full((), value) for value in (tolerance, floor)]
    of_rows = torch.cat([rows.boxes, rows.moments[:, -1:]], 1)
    of_columns = torch.cat([columns.boxes, columns.moments], 1)
    pairs = zip(of_rows, of_columns, strict=True)
    return torch.stack([bound(one, other, *limits) > 0 for one, other in pairs])


def list_visits(visits: Tensor) -> Visits:
    """The list of what (B, K, K') bool says."""
    batch, blocks, others = visits.shape
    counts = visits.sum(2)
    entries = (counts + CHUNK - 1) // CHUNK
    # Visits to fillers, at the end of each block's, make its number of visits a multiple of CHUNK.
    spare = torch.arange(1, CHUNK, device=visits.device) <= (entries * CHUNK - counts).unsqueeze(2)
    there = torch.cat([visits, spare], 2).flatten().nonzero().view(-1, CHUNK)
    width = others + CHUNK - 1
    owner = there[:, 0] // width
    visited = there - (owner * width).unsqueeze(1)
    image = (owner // blocks * others).unsqueeze(1)
    visited = torch.where(visited < others, visited + image, batch * others)
    return Visits(
        functional.pad(owner, (0, 2), value=batch * blocks),
        functional.pad(visited.T, (0, 2), value=batch * others),
        functional.pad(entries.flatten().cumsum(0), (1, 0)),
    )
