"""The compact engine: only pairs that can matter, found by sorting pixels along the surface.

Rows and candidates are sorted along a Z-order curve through their surface coordinates and cut into blocks. A block of
rows then looks at the blocks of candidates near it and at no others. Which blocks may be left out is decided by an
upper bound of the share of the matchability that they hold, so the error is bounded, not hoped for:

* a block J of n_J candidates with mean μ_J and radius ρ_J holds at most A_iJ = n_J exp(-max(0, |u_i - μ_J| - ρ_J)²)
  of row i's Σ_j M_ij (fields scaled so that the exponent has no factor);
* by Jensen's inequality, exp(-x) being convex, it holds at least B_iJ = n_J exp(-|u_i - μ_J|² - v_J), where v_J is the
  mean squared distance of its candidates from μ_J.

For a block I of rows, blocks J are left out in ascending order of max_{i in I} A_iJ / max(Σ_K B_iK, floor) as long as
these add up to less than the tolerance τ. So every row with Σ_j M_ij >= floor (any row whose best candidate lies within
`REACH` sigma) loses a share of at most τ of its weights, and

    |ē_i - ē_i(compact)| <= τ (max_j d_ij - min_j d_ij).

The gradient is twice the covariance of d and v under the weights; by the law of total covariance it errs by at most
3 τ times the ranges of both (see docs/speed.md). Rows without a candidate within reach may lose more, up to all: then
they count as having no candidates. The losses leave rows beyond 2 sigma out in any case.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dkp.losses.costs import PairCost

Expectation = Callable[
    [Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None, PairCost],
    tuple[Tensor, Tensor],
]

TOLERANCE = 1e-3
"""Greatest share τ of a row's weights that may be left out."""

REACH = 3.0
"""Rows whose best candidate is within so many sigma have the stated bound."""

BLOCK = 32

_GATHERED = 2**22  # candidates copied at a time


@dataclass(frozen=True)
class Blocks:
    """Elements of a batch of views, sorted along the surface and cut into K blocks of L.

    Attributes:
        index: (B, K, L) long, places of the elements in the view.
        valid: (B, K, L) bool, false for padding and for elements that take no part.
        mean: (B, K, D), of the valid elements.
        radius: (B, K), greatest distance of one from the mean.
        variance: (B, K), mean squared distance from it.
        count: (B, K), number of valid elements.
    """

    index: Tensor
    valid: Tensor
    mean: Tensor
    radius: Tensor
    variance: Tensor
    count: Tensor


def z_order(field: Tensor, mask: Tensor | None) -> Tensor:
    """Places (B, N) along a Z-order curve through the first three axes of a field (B, N, D), masked elements last."""
    axes = field[..., :3]
    bits = 62 // (2 * axes.shape[-1])
    low = axes.amin(1, keepdim=True)
    extent = (axes.amax(1, keepdim=True) - low).amax(-1, keepdim=True)
    cell = ((axes - low) * ((2**bits - 1) / extent.clamp_min(1e-30))).long()
    code = torch.zeros_like(cell[..., 0])
    for bit in range(bits):
        for axis in range(axes.shape[-1]):
            code |= ((cell[..., axis] >> bit) & 1) << (bit * axes.shape[-1] + axis)
    return code if mask is None else torch.where(mask, code, torch.iinfo(code.dtype).max)


def cut(field: Tensor, mask: Tensor | None, size: int = BLOCK) -> Blocks:
    """Sort the elements of a field (B, N, D) and cut them into blocks of ``size``; the mask (B, N) says which count."""
    batch, count, _ = field.shape
    order = z_order(field, mask).argsort(1)
    blocks = math.ceil(count / size)
    valid = field.new_ones(batch, count, dtype=torch.bool) if mask is None else mask.gather(1, order)
    padding = (0, blocks * size - count)
    order = functional.pad(order, padding).view(batch, blocks, size)
    valid = functional.pad(valid, padding).view(batch, blocks, size)
    image = torch.arange(batch, device=field.device)[:, None, None]
    weight = valid.unsqueeze(-1).to(field.dtype)
    number = weight.sum(2).clamp_min(1.0)
    members = field[image, order]
    mean = (members * weight).sum(2) / number
    squared = ((members - mean.unsqueeze(2)) * weight).square().sum(-1)
    radius, variance = squared.amax(2).sqrt(), squared.sum(2) / number[..., 0]
    return Blocks(order, valid, mean, radius, variance, valid.sum(2).to(field.dtype))


def needed(field: Tensor, rows: Blocks, columns: Blocks, tolerance: float, reach: float) -> Tensor:
    """Which blocks of columns each block of rows has to visit, (B, K, K') bool.

    Args:
        field: (B, N, D) of the rows, scaled.
        rows: Blocks of the rows, K of them.
        columns: Blocks of the candidates, K' of them.
        tolerance: Greatest share of a row's weights that may be left out.
        reach: Rows with a candidate within so many sigma have the bound [sigma].
    """
    floor = math.exp(-0.5 * reach**2)
    batch, blocks, size = rows.index.shape
    step = max(1, 2**20 // max(1, size * columns.count.shape[1]))
    image = torch.arange(batch, device=field.device)[:, None, None]
    # Rounding must not turn a bound into less than one.
    count = columns.count.unsqueeze(1) * (1 + 1e-4)
    radius = columns.radius.unsqueeze(1) * (1 + 1e-4)
    result = []
    for start in range(0, blocks, step):
        stop = min(start + step, blocks)
        members = field[image, rows.index[:, start:stop]].flatten(1, 2)
        distance = torch.cdist(members, columns.mean, compute_mode="donot_use_mm_for_euclid_dist")
        least = (count * (-distance.square() - columns.variance.unsqueeze(1)).exp()).sum(-1, keepdim=True)
        share = count * (-(distance - radius).clamp_min(0.0).square()).exp() / least.clamp_min(floor)
        share = share.masked_fill(~rows.valid[:, start:stop].flatten(1, 2).unsqueeze(-1), 0.0)
        share = share.unflatten(1, (-1, size)).amax(2)
        ascending, order = share.sort(-1)
        kept = ascending.cumsum(-1) > tolerance
        result.append(torch.zeros_like(kept).scatter(-1, order, kept))
    return torch.cat(result, 1)


def groups(visits: Tensor) -> Iterator[Tensor]:
    """Cut blocks of rows, (P,) visits each, into groups of similar numbers; each an index (p,) of `visits`."""
    counts, order = visits.sort(descending=True)
    start, total = 0, len(counts)
    values = counts.tolist()
    while start < total and values[start] > 0:
        most = values[start]
        stop = start + 1
        while stop < total and values[stop] > 0.8 * most and (stop + 1 - start) * most * BLOCK <= _GATHERED:
            stop += 1
        yield order[start:stop]
        start = stop


def compact_expectation(
    field: Tensor,
    other_field: Tensor,
    parts: Tensor | None,
    other_parts: Tensor | None,
    other_mask: Tensor | None,
    cost: PairCost,
    *,
    inner: Expectation,
    mask: Tensor | None = None,
    tolerance: float = TOLERANCE,
    reach: float = REACH,
) -> tuple[Tensor, Tensor]:
    """The same as `tiled_expectation`, over the pairs that can matter; see the top of this file for the bound.

    Args:
        field: (B, N, D), scaled so that the exponent needs no factor.
        other_field: (B, M, D).
        parts: (B, N, K) probabilities, or None. Blocks are chosen by the fields alone: with parts, the share left out
            of a row is at most τ times the ratio of its Σ_j M_ij without parts to that with them.
        other_parts: (B, M, K) probabilities, or None.
        other_mask: (B, M) bool, candidates that take part, or None for all.
        cost: What to average.
        inner: Engine for a block of rows and its candidates.
        mask: (B, N) bool, rows that take part, or None for all.
        tolerance: Greatest share of a row's weights that may be left out.
        reach: Rows with a candidate within so many sigma have the bound [sigma].

    Returns:
        As `tiled_expectation`; rows without a candidate in sight have zeros.
    """
    batch, count, _ = field.shape
    with torch.no_grad():
        rows, columns = cut(field, mask), cut(other_field, other_mask)
        visits = needed(field, rows, columns, tolerance, reach)
        visits &= (columns.count > 0).unsqueeze(1) & (rows.count > 0).unsqueeze(2)
        number = visits.sum(-1)
    blocks = number.shape[1]
    averages, bests, places = [], [], []
    for group in groups(number.flatten()):
        with torch.no_grad():
            images, block = group // blocks, group % blocks
            most = int(number[images, block].max())
            # The needed blocks first; the rest are masked.
            chosen = visits[images, block].to(torch.uint8).sort(dim=-1, descending=True)
            seen, visited = chosen.values[:, :most].bool(), chosen.indices[:, :most]
            image = images.unsqueeze(-1)
            candidates = columns.index[image, visited].flatten(1)
            candidate_mask = (columns.valid[image, visited] & seen.unsqueeze(-1)).flatten(1)
            members = rows.index[images, block]
            places.append((members + image * count)[rows.valid[images, block]])
            valid = rows.valid[images, block]
        average, best = inner(
            field[image, members],
            other_field[image, candidates],
            None if parts is None else parts[image, members],
            None if other_parts is None else other_parts[image, candidates],
            candidate_mask,
            cost.pick(images, members, candidates),
        )
        averages.append(average[valid])
        bests.append(best[valid])
    zero = 0.0 * (field.sum() + other_field.sum())
    average = zero + field.new_zeros(batch * count, cost.channels)
    best = field.new_zeros(batch * count)
    if places:
        place = torch.cat(places)
        average = average.index_put((place,), torch.cat(averages))
        best = best.index_put((place,), torch.cat(bests))
    return average.view(batch, count, -1), best.view(batch, count)
