"""The compact engine: only pairs that can matter, found by sorting pixels along the surface.

Rows and candidates are cut into blocks of near neighbours on the surface (`dkp.losses.blocks`), and a block of rows
looks at the blocks of candidates near it and at no others. Which blocks may be left out is decided by an upper bound
of the share of the matchability that they hold, so the error is bounded, not hoped for: every row with Σ_j M_ij >=
floor (any row whose best candidate lies within `REACH` sigma) loses a share of at most τ = `TOLERANCE` of its weights,
and

    |ē_i - ē_i(compact)| <= τ (max_j d_ij - min_j d_ij).

The gradient is twice the covariance of d and v under the weights; by the law of total covariance it errs by at most
3 τ times the ranges of both (see docs/speed.md). Rows without a candidate within reach have none at all: zeros, and no
gradient. The losses leave rows beyond 2 sigma out in any case.

As in `dkp.losses.fused`, the forward loop already collects the gradient to the rows. The backward loop is one over the
same pairs, with the roles of rows and candidates exchanged.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from dkp.geometry import full_precision
from dkp.losses.block_kernels import RAISE, block_kernel
from dkp.losses.blocks import CHUNK, Blocks, cut, find_visits, list_visits
from dkp.losses.costs import PairCost
from dkp.losses.kernels import SHUT_OUT

TOLERANCE = 5e-4
"""Greatest share τ of a row's weights that may be left out."""

REACH = 3.0
"""Rows whose best candidate is within so many sigma have the stated bound; others have no candidates."""

_ROOT = math.sqrt(math.log2(math.e))  # fields times this have exponents to base two
_ENTRIES = 2**14  # of a list of visits, copied at a time


def compact_expectation(
    field: Tensor,
    other_field: Tensor,
    parts: Tensor | None,
    other_parts: Tensor | None,
    other_mask: Tensor | None,
    cost: PairCost,
    *,
    mask: Tensor | None = None,
    tolerance: float = TOLERANCE,
    reach: float = REACH,
) -> tuple[Tensor, Tensor]:
    """The same as `tiled_expectation`, over the pairs that can matter; see the top of this file for the bound.

    Args:
        field: (B, N, D) float32, scaled so that the exponent needs no factor.
        other_field: (B, M, D).
        parts: Expected to be None.
        other_parts: Expected to be None.
        other_mask: (B, M) bool, candidates that take part, or None for all.
        cost: What to average.
        mask: (B, N) bool, rows that take part, or None for all.
        tolerance: Greatest share of a row's weights that may be left out.
        reach: Rows with a candidate within so many sigma have the bound [sigma].

    Returns:
        As `tiled_expectation`; rows without a candidate within reach have zeros.

    Raises:
        ValueError: Parts are given.
        Exception: Whatever stops the compiler, at the first call for a formula and a number of channels.
    """
    if parts is not None:
        raise ValueError("the compact engine takes no part probabilities")
    result = _CompactExpectation.apply(field, other_field, mask, other_mask, cost, tolerance, reach)
    return result[0], result[1]


class _CompactExpectation(torch.autograd.Function):
    @staticmethod
    @full_precision
    def forward(
        ctx: Any,
        field: Tensor,
        other_field: Tensor,
        mask: Tensor | None,
        other_mask: Tensor | None,
        cost: PairCost,
        tolerance: float,
        reach: float,
    ) -> tuple[Tensor, Tensor]:
        u, v = field * _ROOT, other_field * _ROOT
        size, device = u.shape[-1], field.device.type
        rows, columns = cut(u, mask), cut(v, other_mask)
        floor = math.exp(-0.5 * reach**2)
        bound: Any = block_kernel("needed_visits", None, size, device)
        visits = find_visits(rows, columns, tolerance, floor, bound)
        form, of_rows, of_columns, clip = cost.values()
        packed_rows = rows.pack(torch.cat([u.movedim(-1, 0), of_rows]))
        packed_columns = columns.pack(torch.cat([v.movedim(-1, 0), of_columns]))
        bias = torch.where(columns.valid, RAISE, SHUT_OUT).to(u.dtype).flatten(0, 1)
        bias = functional.pad(bias, (0, 0, 0, 1), value=SHUT_OUT).unsqueeze(1)
        with_bias = torch.cat([packed_columns[:, :size], bias, packed_columns[:, size:]], 1)
        kernel = block_kernel("block_row_sums", form, size, device)
        peak, total, *sums = _over_visits(kernel, visits, packed_rows, with_bias, clip, greatest=1)
        best = (peak - RAISE).exp2()
        present = best >= floor
        inverse = torch.where(present, 1.0 / total.clamp_min(1e-30), 0.0)
        errors, offsets, moments = sums[: cost.channels], sums[cost.channels :][:size], sums[cost.channels + size :]
        averages = [error * inverse for error in errors]
        gradients = [
            (moment - averages[number // size] * offsets[number % size]) * inverse
            for number, moment in enumerate(moments)
        ]
        ctx.rows, ctx.columns, ctx.form = rows, columns, form
        ctx.shape, ctx.other_count = field.shape, other_field.shape[1]
        ctx.save_for_backward(
            visits, clip, packed_rows, packed_columns, inverse, torch.stack(averages), torch.stack(gradients)
        )
        result = rows.unpack([*averages, torch.where(present, best, 0.0)], field.shape[1])
        average, best = result[..., :-1].contiguous(), result[..., -1].contiguous()
        ctx.mark_non_differentiable(best)
        return average, best

    @staticmethod
    @once_differentiable
    @full_precision
    def backward(ctx: Any, grad_average: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        visits, clip, packed_rows, packed_columns, inverse, average, gradients = ctx.saved_tensors
        rows: Blocks = ctx.rows
        columns: Blocks = ctx.columns
        size = ctx.shape[-1]
        slopes = rows.pack(grad_average.movedim(-1, 0)).movedim(1, 0)  # (C, B K + 1, L)
        grad_field = grad_other = None
        if ctx.needs_input_grad[0]:
            each = (gradients.unflatten(0, (-1, size)) * slopes.unsqueeze(1)).sum(0)
            grad_field = (2 / _ROOT) * rows.unpack([*each], ctx.shape[1])
        if ctx.needs_input_grad[1]:
            valid = functional.pad(rows.valid.flatten(0, 1), (0, 0, 0, 1))
            pulled = torch.cat([packed_rows, average.movedim(0, 1), (slopes * inverse * valid).movedim(0, 1)], 1)
            kernel = block_kernel("block_column_sums", ctx.form, size, grad_average.device.type)
            sums = _over_visits(kernel, visits.mT, packed_columns, pulled, clip)
            grad_other = (2 / _ROOT) * columns.unpack(sums, ctx.other_count)
        return grad_field, grad_other, None, None, None, None, None


def _over_visits(
    kernel: Any, visits: Tensor, owners: Tensor, others: Tensor, clip: Tensor, greatest: int = 0
) -> list[Tensor]:
    """Run a kernel over a list of visits and put together what belongs to one block.

    Args:
        kernel: Takes packed owners (P, F, L), packed others (P, CHUNK, F', L) and the clip; returns tensors (P, L).
        visits: (B, K, K') bool.
        owners: (B K + 1, F, L).
        others: (B K' + 1, F', L).
        clip: Scalar.
        greatest: So many of the kernel's results are maxima, the others sums.

    Returns:
        For each of the results (B K + 1, L), zero where nothing is visited.
    """
    owner, visited = list_visits(visits)
    totals: list[Tensor] = []
    starts = range(0, len(owner) - 1, _ENTRIES)
    for start in starts:
        # A last slice of one, a filler, would get a graph of its own: the one before takes it.
        part = slice(start, len(owner) if start == starts[-1] else start + _ENTRIES)
        place = owner[part]
        there = others.index_select(0, visited[part].flatten()).view(-1, CHUNK, *others.shape[1:])
        found: list[Tensor] = kernel(owners.index_select(0, place), there, clip)
        totals = totals or [owners.new_zeros(len(owners), owners.shape[-1]) for _ in found]
        for number, (total, one) in enumerate(zip(totals, found, strict=True)):
            if number < greatest:
                total.scatter_reduce_(0, place.unsqueeze(1).expand_as(one), one, "amax")
            else:
                total.index_add_(0, place, one)
    return totals
