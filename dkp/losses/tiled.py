"""The streaming engine: soft assignment averages without a matrix of all pairs.

Rows are taken in blocks that fit the cache. The forward pass keeps only the log-sum-exp and the average of each row;
the backward pass computes the block anew and uses the exact ∂ē_i/∂s_ij = p_ij (d_ij - ē_i). Memory is O(N + M).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dkp.geometry import full_precision
from dkp.losses.costs import PairCost
from dkp.losses.sides import Sides

Expectation = Callable[[Sides, PairCost], tuple[Tensor, Tensor]]
"""What all engines are: see `tiled_expectation`."""

PART_FLOOR = 1e-12
"""Least probability that two pixels show the same part: keeps a row of disagreeing parts finite."""

_LEAST_EXPONENT = -60.0  # to base two: exp2 takes half the time of exp

# Elements of one block. On CPU a few float32 blocks of 2 MB stay near the core (tried 2**15 to 2**22 at N = 1024 and
# 4096); on an accelerator a block has to be large enough to fill it.
_CPU_BLOCK = 2**19
_ACCELERATOR_BLOCK = 2**24


def tiled_expectation(sides: Sides, cost: PairCost) -> tuple[Tensor, Tensor]:
    """Average a cost under p = softmax_j(-|u_i - u'_j|² + log Σ_p π_ip π'_jp).

    Args:
        sides: Fields, scaled so that the exponent needs no factor, parts, and candidates that take part.
        cost: What to average.

    Returns:
        Averages (B, N, C) and the largest matchability (B, N) of each row, which carries no gradient; both meaningless
        (but finite) in an image without candidates. Gradients reach both fields and both parts.
    """
    result = _TiledExpectation.apply(
        sides.field, sides.other_field, sides.parts, sides.other_parts, sides.other_mask, cost
    )
    return result[0], result[1]


def row_blocks(batch: int, rows: int, columns: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Cut (batch, rows) into blocks of about equal work; a block spans several images only if it has all their rows."""
    block = _CPU_BLOCK if device.type == "cpu" else _ACCELERATOR_BLOCK
    if rows * columns <= block:
        step, row_step = max(1, block // max(1, rows * columns)), max(1, rows)
    else:
        step, row_step = 1, max(1, block // columns)
    for start in range(0, batch, step):
        for row in range(0, rows, row_step):
            yield slice(start, min(start + step, batch)), slice(row, min(row + row_step, rows))


class BlockBuffers:
    """Reusable memory for blocks of changing shape; allocating anew for each block costs more than the arithmetic."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._held: dict[str, Tensor] = {}

    def get(self, name: str, *shape: int) -> Tensor:
        """Return an uninitialised buffer of this shape, valid until the name is asked for again."""
        size = 1
        for side in shape:
            size *= side
        held = self._held.get(name)
        if held is None or held.numel() < size:
            held = self._held[name] = self._like.new_empty(size)
        return held[:size].view(shape)


class _TiledExpectation(torch.autograd.Function):
    @staticmethod
    @full_precision
    def forward(
        ctx: Any,
        field: Tensor,
        other_field: Tensor,
        parts: Tensor | None,
        other_parts: Tensor | None,
        other_mask: Tensor | None,
        cost: PairCost,
    ) -> tuple[Tensor, Tensor]:
        batch, rows, _ = field.shape
        columns = other_field.shape[1]
        average = field.new_zeros(batch, rows, cost.channels)
        log_total = field.new_zeros(batch, rows)
        best = field.new_zeros(batch, rows)
        buffers = BlockBuffers(field)
        scaled, other_scaled, bias = _prepare(field, other_field, other_mask)
        for block in row_blocks(batch, rows, columns, field.device) if columns else ():
            weight = _exponent(scaled, other_scaled, bias, block, buffers)
            peak = weight.amax(-1)
            peak = torch.where(peak == -torch.inf, torch.zeros_like(peak), peak)
            _exponentiate(weight, peak)
            if parts is not None and other_parts is not None:
                weight.mul_(_agreement(parts, other_parts, block, buffers))
            total = weight.sum(-1)
            for channel in range(cost.channels):
                value = cost.fill(
                    channel, *block, buffers.get("cost", *weight.shape), buffers.get("scratch", *weight.shape)
                )
                average[(*block, channel)] = value.mul_(weight).sum(-1) / total
            best[block] = weight.amax(-1) * peak.exp2()
            log_total[block] = peak + total.log2()
        ctx.save_for_backward(field, other_field, parts, other_parts, other_mask, average, log_total)
        ctx.cost = cost
        ctx.mark_non_differentiable(best)
        return average, best

    @staticmethod
    @once_differentiable
    @full_precision
    def backward(ctx: Any, grad_average: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        field, other_field, parts, other_parts, other_mask, average, log_total = ctx.saved_tensors
        cost: PairCost = ctx.cost
        batch, rows, size = field.shape
        columns = other_field.shape[1]
        grad_field, grad_other = torch.zeros_like(field), field.new_zeros(batch, size + 1, columns)
        grad_parts = None if parts is None else torch.zeros_like(parts)
        grad_other_parts = None if parts is None else torch.zeros_like(other_parts.mT)
        # A column of ones yields Σ_j w_ij and Σ_i w_ij along with the weighted sums of the fields.
        one = torch.nn.functional.pad(field, (0, 1), value=1.0)
        other_one = torch.nn.functional.pad(other_field, (0, 1), value=1.0).mT.contiguous().mT
        buffers = BlockBuffers(field)
        scaled, other_scaled, bias = _prepare(field, other_field, other_mask)
        for block in row_blocks(batch, rows, columns, field.device) if columns else ():
            images = block[0]
            weight = _exponent(scaled, other_scaled, bias, block, buffers)
            _exponentiate(weight, log_total[block])
            shape = weight.shape
            slope: Tensor | None = None
            for channel in range(cost.channels):
                value = cost.fill(
                    channel, *block, buffers.get(f"cost {channel}", *shape), buffers.get("scratch", *shape)
                )
                value.sub_(average[(*block, channel)].unsqueeze(-1)).mul_(grad_average[(*block, channel)].unsqueeze(-1))
                slope = value if slope is None else slope.add_(value)
            assert slope is not None
            weight.mul_(slope)
            if grad_parts is not None and grad_other_parts is not None:
                agreement = _agreement(parts, other_parts, block, buffers)
                kept = weight.masked_fill(agreement <= PART_FLOOR, 0.0)
                grad_parts[block] = torch.matmul(kept, other_parts[images])
                grad_other_parts[images] += torch.matmul(parts[block].mT, kept)
                weight.mul_(agreement)
            # w (rows x columns) is only ever the right factor of a product or met by a matrix stored by columns: the
            # other orders are several times slower on CPU.
            pulled = _weighted_sum(weight, other_one[images])
            grad_field[block] = 2 * (pulled[..., :size] - pulled[..., size:] * field[block])
            grad_other[images] += _weighted_sum_by_column(weight, one[block])
        grad_other_field = 2 * (grad_other[:, :size] - grad_other[:, size:] * other_field.mT).mT
        return (
            grad_field,
            grad_other_field,
            grad_parts,
            None if grad_other_parts is None else grad_other_parts.mT,
            None,
            None,
        )


def _prepare(field: Tensor, other_field: Tensor, other_mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Fields for exponents to base two, (B, N, D) and (B, D, M), and the bias (B, 1, M) that shuts candidates out."""
    root = math.sqrt(math.log2(math.e))
    bias = field.new_zeros(other_field.shape[0], 1, other_field.shape[1])
    if other_mask is not None:
        bias.masked_fill_(~other_mask.unsqueeze(1), -torch.inf)
    return field * root, (other_field * root).mT.contiguous(), bias


def _exponent(
    field: Tensor, other_field: Tensor, bias: Tensor, block: tuple[slice, slice], buffers: BlockBuffers
) -> Tensor:
    """-|u_i - u'_j|² + bias_j of one block, (b, n, M), from fields (B, N, D) and (B, D, M), by differences.

    The expanded square would be a matrix product, but loses every digit for a small sigma, and on an accelerator with
    TF32 switched on it loses most of them for any sigma.
    """
    rows, columns = field[block], other_field[block[0]]
    shape = (*rows.shape[:2], columns.shape[-1])
    out, scratch = buffers.get("exponent", *shape), buffers.get("scratch", *shape)
    out.copy_(bias[block[0]].expand(shape))
    for axis in range(field.shape[-1]):
        torch.sub(rows[..., axis, None], columns[:, axis, None, :], out=scratch)
        out.addcmul_(scratch, scratch, value=-1.0)
    return out


def _exponentiate(exponent: Tensor, offset: Tensor) -> None:
    """Replace s_ij by 2^(s_ij - offset_i), in place, and by 2^-60 at least.

    Without the floor far pairs become denormal numbers or infinite exponents, on which a CPU computes ten times slower;
    with it they weigh 1e-18 of the best candidate.
    """
    exponent.sub_(offset.unsqueeze(-1)).clamp_(min=_LEAST_EXPONENT).exp2_()


def _agreement(parts: Tensor, other_parts: Tensor, block: tuple[slice, slice], buffers: BlockBuffers) -> Tensor:
    """Σ_p π_ip π'_jp of one block, at least `PART_FLOOR`."""
    rows, columns = parts[block], other_parts[block[0]].mT
    out = buffers.get("agreement", *rows.shape[:2], columns.shape[-1])
    return torch.matmul(rows, columns, out=out).clamp_min_(PART_FLOOR)


def _weighted_sum(weight: Tensor, values: Tensor) -> Tensor:
    """Σ_j w_ij v_j: (b, n, M) and (b, M, C) to (b, n, C)."""
    if _matmul_rounds(weight):
        return torch.stack(
            [(weight * values[..., channel].unsqueeze(1)).sum(2) for channel in range(values.shape[-1])], -1
        )
    return torch.matmul(weight, values)


def _weighted_sum_by_column(weight: Tensor, values: Tensor) -> Tensor:
    """Σ_i w_ij v_i: (b, n, M) and (b, n, C) to (b, C, M)."""
    if _matmul_rounds(weight):
        return torch.stack([(weight * values[..., channel, None]).sum(1) for channel in range(values.shape[-1])], 1)
    return torch.matmul(values.mT, weight)


def _matmul_rounds(tensor: Tensor) -> bool:
    """Whether float32 products may be computed in TF32 or bfloat16, which loses the difference v_j - u_i."""
    if tensor.dtype != torch.float32:
        return False
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # the precision was set per backend, which this query refuses to sum up
        return True
