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
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from dkp.geometry import full_precision
from dkp.losses.block_kernels import RAISE, block_kernel
from dkp.losses.blocks import Blocks, cut, find_visits, list_visits
from dkp.losses.costs import PairCost
from dkp.losses.kernels import SHUT_OUT

TOLERANCE = 2.5e-4
"""Greatest share τ of a row's weights that may be left out."""

REACH = 3.0
"""Rows whose best candidate is within so many sigma have the stated bound; others have no candidates."""

_ROOT = math.sqrt(math.log2(math.e))  # fields times this have exponents to base two


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
        bound: Any = block_kernel("visit_excess", None, size, device)
        visits = find_visits(rows, columns, tolerance, floor, bound)
        form, of_rows, of_columns, clip = cost.values()
        packed_rows = rows.pack(torch.cat([u.movedim(-1, 0), of_rows]))
        packed_columns = columns.pack(torch.cat([v.movedim(-1, 0), of_columns]))
        bias = torch.where(columns.valid, RAISE, SHUT_OUT).to(u.dtype)
        kernel: Any = block_kernel("block_row_sums", form, size, device)
        owner, visited, ends = list_visits(visits.mT)
        visiting = _by_block(torch.cat([packed_columns, bias.unsqueeze(0)]))
        peaks, found = kernel(packed_rows, visiting, owner, visited, clip)
        best = (_of_owners(peaks.unsqueeze(1), ends, "max")[0] - RAISE).exp2()
        sums = _of_owners(found, ends, "sum")
        present = best >= floor
        inverse = torch.where(present, 1.0 / sums[0].clamp_min(1e-30), 0.0)
        average, offset, moment = (sums[1:] * inverse).split([cost.channels, size, cost.channels * size])
        gradients = moment.unflatten(0, (-1, size)) - average.unsqueeze(1) * offset  # (C, D, B K + 1, L)
        ctx.rows, ctx.columns, ctx.form = rows, columns, form
        ctx.save_for_backward(visits, clip, packed_rows, packed_columns, inverse, average, gradients)
        result = rows.unpack(torch.cat([average, torch.where(present, best, 0.0).unsqueeze(0)]))
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
        slopes = rows.pack(grad_average.movedim(-1, 0))  # (C, B K + 1, L)
        grad_field = grad_other = None
        if ctx.needs_input_grad[0]:
            grad_field = (2 / _ROOT) * rows.unpack((gradients * slopes.unsqueeze(1)).sum(0))
        if ctx.needs_input_grad[1]:
            kernel: Any = block_kernel("block_column_sums", ctx.form, gradients.shape[1], grad_average.device.type)
            owner, visited, ends = list_visits(visits)
            visiting = _by_block(torch.cat([packed_rows, average, slopes * inverse * rows.valid]))
            found = kernel(packed_columns, visiting, owner, visited, clip)
            grad_other = (2 / _ROOT) * columns.unpack(_of_owners(found, ends, "sum"))
        return grad_field, grad_other, None, None, None, None, None


def _by_block(packed: Tensor) -> Tensor:
    """Packed numbers (F, K + 1, L) as a visited block is read, (K + 1, L, F)."""
    return packed.movedim(0, -1).contiguous()


def _of_owners(found: Tensor, ends: Tensor, mode: Literal["sum", "max"]) -> Tensor:
    """What a kernel found for every entry of a list (P, F, L), put together by owners: (F, K + 1, L), the filler zero.

    Args:
        found: (P, F, L).
        ends: (K + 1,), see `dkp.losses.blocks.Visits`.
        mode: How to put together.
    """
    entries = torch.arange(len(found) - 2, device=found.device)
    bags = functional.embedding_bag(entries, found.flatten(1), ends, mode=mode, include_last_offset=True)
    return functional.pad(bags, (0, 0, 0, 1)).unflatten(1, found.shape[1:]).movedim(1, 0)
