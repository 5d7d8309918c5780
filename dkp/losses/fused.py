"""The fused engine: compiled sums over pairs with a backward pass of their own. Memory is O(N + M).

A forward pass takes the greatest exponent of each row and then, in one loop over the pairs, Σ_j w_ij, Σ_j w_ij d_ij and
the same weighted with (v_j - u_i). Since Σ_j p_ij (d_ij - ē_i) = 0, those already hold the gradient to the rows,

    ∂ē_i/∂u_i = 2 Σ_j p_ij (d_ij - ē_i) (v_j - u_i) = 2 (Σ_j p_ij d_ij (v_j - u_i) - ē_i Σ_j p_ij (v_j - u_i)),

so that the backward pass is one more loop, for the columns: 2 Σ_i g_i p_ij (d_ij - ē_i) (u_i - v_j).
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from dkp.geometry import full_precision
from dkp.losses.costs import PairCost
from dkp.losses.kernels import SHUT_OUT, kernel
from dkp.losses.sides import Sides
from dkp.losses.tiled import tiled_expectation

_ROOT = math.sqrt(math.log2(math.e))  # fields times this have exponents to base two


def fused_expectation(sides: Sides, cost: PairCost) -> tuple[Tensor, Tensor]:
    """Return the same as `tiled_expectation`, for float32 fields without parts.

    Raises:
        ValueError: Parts are given.
        Exception: Whatever stops the compiler, at the first call for a formula and a number of channels.
    """
    if sides.parts is not None:
        raise ValueError("the fused engine takes no part probabilities")
    field, other_field, other_mask = sides.field, sides.other_field, sides.other_mask
    images, count, size = field.shape
    if min(count, other_field.shape[1]) < 2:  # sizes of one would get graphs of their own
        return tiled_expectation(sides, cost)
    if images > 1:
        result = _FusedExpectation.apply(field, other_field, other_mask, cost)
        return result[0], result[1]
    half = max(2, (count + 1) // 2)
    rows = torch.arange(2 * half, device=field.device).clamp(max=count - 1).view(2, half)
    columns = torch.arange(other_field.shape[1], device=field.device).expand(2, -1)
    halves = functional.pad(field, (0, 0, 0, 2 * half - count)).view(2, half, size)
    mask = None if other_mask is None else other_mask.expand(2, -1)
    cost = cost.pick(torch.zeros(2, dtype=torch.long, device=field.device), rows, columns)
    average, best = _FusedExpectation.apply(halves, other_field.expand(2, -1, -1), mask, cost)
    return average.flatten(0, 1)[None, :count], best.flatten()[None, :count]


class _FusedExpectation(torch.autograd.Function):
    @staticmethod
    @full_precision
    def forward(
        ctx: Any, field: Tensor, other_field: Tensor, other_mask: Tensor | None, cost: PairCost
    ) -> tuple[Tensor, Tensor]:
        u, v = separate(field * _ROOT, -1), separate(other_field * _ROOT, -1)
        bias = torch.zeros_like(v[0])
        if other_mask is not None:
            bias = bias.masked_fill(~other_mask, SHUT_OUT)
        form, clip = cost.form, field.new_full((), torch.inf if cost.clip is None else cost.clip)
        ctx.form, ctx.device = form, field.device.type
        of_rows, of_columns = separate(cost.rows, 0), separate(cost.columns, 0)
        peak: Any = kernel("peaks", None, len(u), ctx.device)(u, v, bias)
        sums: Any = kernel("row_sums", form, len(u), ctx.device)(u, v, bias, peak, of_rows, of_columns, clip)
        total, errors, offsets, moments = sums
        average = [error / total for error in errors]
        offset = torch.stack(offsets, -1) / total.unsqueeze(-1)  # (B, N, D)
        gradients = [
            torch.stack(moment, -1) / total.unsqueeze(-1) - mean.unsqueeze(-1) * offset
            for moment, mean in zip(moments, average, strict=True)
        ]
        groups = (u, v, of_rows, of_columns, average, gradients)
        ctx.lengths = [len(group) for group in groups]
        ctx.save_for_backward(other_mask, clip, peak + total.log2(), *(one for group in groups for one in group))
        best = peak.exp2()
        ctx.mark_non_differentiable(best)
        return torch.stack(average, -1), best

    @staticmethod
    @once_differentiable
    @full_precision
    def backward(ctx: Any, grad_average: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        other_mask, clip, log_total, *saved = ctx.saved_tensors
        rest = iter(saved)
        u, v, of_rows, of_columns, average, gradients = [[next(rest) for _ in range(size)] for size in ctx.lengths]
        grad_field = grad_other = None
        if ctx.needs_input_grad[0]:
            each = [one * slope.unsqueeze(-1) for one, slope in zip(gradients, grad_average.unbind(-1), strict=True)]
            grad_field = (2 / _ROOT) * sum(each[1:], each[0])
        if ctx.needs_input_grad[1]:
            sums: Any = kernel("column_sums", ctx.form, len(u), ctx.device)(
                u, v, log_total, average, separate(grad_average, -1), of_rows, of_columns, clip
            )
            grad_other = (2 / _ROOT) * torch.stack(sums, -1)
            if other_mask is not None:  # a candidate that takes no part may lie nearer than all that do
                grad_other = torch.where(other_mask.unsqueeze(-1), grad_other, grad_other.new_zeros(()))
        return grad_field, grad_other, None, None


def separate(tensor: Tensor, axis: int) -> list[Tensor]:
    """Return the slices of a tensor along an axis, each with memory of its own."""
    return [one.clone(memory_format=torch.contiguous_format) for one in tensor.unbind(axis)]
