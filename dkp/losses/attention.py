"""Costs that are linear in a few functions of x', by one call of scaled dot-product attention.

With queries (2 u_i, 1) and keys (v_j, -|v_j|²), the softmax of their products is p_ij, since |u_i|² is the same for all
j. The squared distance from a line, (l_i · x̃'_j)², is linear in the six monomials x², y², xy, x, y, 1 of x'_j, so with
these as value channels Σ_j p_ij (l_i · x̃'_j)² is a product of six numbers of row i with what attention returns. The
squared distance from a place needs four channels, the expected position two. A clip is not linear.

Precision: exponents are differences of products, so they err by about 2^-23 max(|u|², |v|²) [in units of 2 σ²] after
the fields are centred, and the weights by as much relatively; squared distances err by about 2^-23 max(x'²) px².
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dkp.losses.costs import PairCost, PairValues
from dkp.losses.kernels import SHUT_OUT

_WIDTH = 8  # channels of queries, keys and values: fused implementations want equal numbers, and multiples of eight

_PRECISION = 2.0**-10  # greatest error of an exponent that is accepted


def attention_refuses(values: PairValues) -> str | None:
    """Why a cost cannot be averaged by attention; None if it can."""
    if values.form not in ("squared", "euclidean_squared", "position"):
        return f"the distance {values.form!r} is not linear in a few functions of the pixel"
    if bool(torch.isfinite(values.clip)):
        return "a clipped distance is not linear in a few functions of the pixel"
    return None


def attention_expectation(
    field: Tensor,
    other_field: Tensor,
    parts: Tensor | None,
    other_parts: Tensor | None,
    other_mask: Tensor | None,
    cost: PairCost,
) -> tuple[Tensor, Tensor]:
    """The same as `tiled_expectation`, for the costs of `attention_refuses` and without parts.

    Raises:
        ValueError: The cost is none of them, the fields have more than seven channels, or they reach so far that the
            exponents would err by more than a thousandth.
    """
    values = cost.values()
    reason = attention_refuses(values)
    if reason is None and parts is not None:
        reason = "part probabilities do not enter as a sum"
    if reason is None and field.shape[-1] >= _WIDTH:
        reason = f"the fields have {field.shape[-1]} channels, expected {_WIDTH - 1} at most"
    if reason is not None:
        raise ValueError(f"engine is 'attention', but {reason}")
    shift = other_field.detach().mean(1, keepdim=True)
    query, key = field - shift, other_field - shift
    reach = max(float(tensor.detach().square().sum(-1).amax()) for tensor in (query, key))
    error = torch.finfo(field.dtype).eps * reach
    if error > _PRECISION:
        raise ValueError(
            f"engine is 'attention', but sigma is so small against the fields that exponents would err by {error:.1g}"
        )
    bias = -key.square().sum(-1, keepdim=True)
    if other_mask is not None:
        bias = torch.where(other_mask.unsqueeze(-1), bias, bias.new_full((), SHUT_OUT))
    channels, middle = _monomials(values)
    averages = functional.scaled_dot_product_attention(
        _padded(functional.pad(2 * query, (0, 1), value=1.0)),
        _padded(torch.cat([key, bias], -1)),
        _padded(channels),
        scale=1.0,
    )[:, 0]
    return _combined(values, averages, middle), nearest_matchability(query, key, other_mask)


def _padded(tensor: Tensor) -> Tensor:
    """(B, L, C) to (B, 1, L, 8)."""
    return functional.pad(tensor, (0, _WIDTH - tensor.shape[-1])).unsqueeze(1)


def _monomials(values: PairValues) -> tuple[Tensor, Tensor]:
    """Value channels (B, M, C) of the columns, about their middle (2, B, 1), which is the second result."""
    middle = values.columns[:2].mean(-1, keepdim=True)
    x, y = (values.columns[:2] - middle).unbind(0)
    if values.form == "position":
        return torch.stack([x, y], -1), middle
    if values.form == "euclidean_squared":
        return torch.stack([x * x + y * y, x, y], -1), middle
    return torch.stack([x * x, y * y, x * y, x, y], -1), middle


def _combined(values: PairValues, averages: Tensor, middle: Tensor) -> Tensor:
    """The averaged cost (B, N, C) from averaged monomials (B, N, 8)."""
    if values.form == "position":
        return averages[..., :2] + middle.movedim(0, -1)
    if values.form == "euclidean_squared":
        across, down = (values.rows - middle).unbind(0)
        squared, x, y = averages[..., :3].unbind(-1)
        result = squared - 2 * (across * x + down * y) + across.square() + down.square()
    else:
        a, b, c = values.rows.unbind(0)
        c = c + a * middle[0] + b * middle[1]
        xx, yy, xy, x, y = averages[..., :5].unbind(-1)
        result = a * a * xx + b * b * yy + c * c + 2 * (a * b * xy + c * (a * x + b * y))
    return result.clamp_min(0.0).unsqueeze(-1)


@torch.no_grad()
def nearest_matchability(field: Tensor, other_field: Tensor, other_mask: Tensor | None) -> Tensor:
    """Greatest exp(-|u_i - v_j|²) of each row (B, N), by products over blocks of rows."""
    bias = -other_field.square().sum(-1).unsqueeze(1)
    if other_mask is not None:
        bias = bias.masked_fill(~other_mask.unsqueeze(1), SHUT_OUT)
    step = max(1, 2**20 // max(1, other_field.shape[0] * other_field.shape[1]))
    best = [torch.baddbmm(bias, block, other_field.mT, alpha=2.0).amax(-1) for block in field.split(step, 1)]
    return (torch.cat(best, 1) - field.square().sum(-1)).clamp_max(0.0).exp()
