"""The arithmetic of the fused engine: sums over all pairs, written as plain tensor expressions and compiled.

Each function is one or two reductions of an expression over pairs. Run as they stand they would keep several matrices
of all pairs; compiled, each is one loop over the pairs that keeps only its sums (on CPU vectorised C++, on a GPU
Triton). The reduced axis comes first and the kept one last, so that the vector units run over the kept axis and no sum
has to be collected across them.

Graphs are made once for each formula and number of field channels, for any size: `kernel` runs a new one on a made-up
problem whose sizes are all different, since sizes that happen to be equal at the first call would be taken to be equal
for ever. Inductor keeps what it compiled on disk (``TORCHINDUCTOR_CACHE_DIR``), so that a later process only loads it.
"""

import os
import shutil
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from types import FunctionType
from typing import Any, Literal

import torch
from torch import Tensor

from dkp.losses.costs import Form

Kernel = Literal["peaks", "row_sums", "column_sums"]

LEAST_EXPONENT = -60.0
"""To base two: farther pairs weigh 1e-18, so that nothing becomes a denormal number. No exponent is positive but
by rounding, which is large where fields are far apart in units of sigma."""

SHUT_OUT = -1e30
"""Exponent of a candidate that does not take part."""

_OPTIONS: dict[str, str | int | bool | Callable[..., object]] = {
    # Recompute an expression for each of its sums instead of keeping it for all pairs.
    "realize_reads_threshold": 10**6,
    "realize_opcount_threshold": 10**6,
    "realize_acc_reads_threshold": 10**6,
    # a * b + c in one instruction
    "cpp.enable_floating_point_contract_flag": "fast",
}

# 2^f = ((a f + b)² + c) ((a f + b')² + c') for |f| <= 1/2; relative error at most 2.6e-6 (weighted least squares on 400
# Chebyshev nodes, iterated towards the least maximum, and factored). Of all forms of a polynomial of degree four, this
# one names f the fewest times, and each name costs the compiler the whole expression behind it.
_SLOPE = 0.312772911
_FACTORS = ((0.124931169, 1.26540425), (0.788830952, 0.158377937))
_ROUNDING = 12582912.0  # 1.5 * 2^23: adding it rounds a float32 to an integer, which then is in the lowest bits


def power_of_two(exponent: Tensor) -> Tensor:
    """2^x for float32 exponents of at least `LEAST_EXPONENT` and at most 127, to 4e-6; much faster than exp2 on CPU."""
    shifted = exponent + _ROUNDING
    fraction = exponent - (shifted - _ROUNDING)
    first, second = ((_SLOPE * fraction + offset).square() + rest for offset, rest in _FACTORS)
    result = first * second
    return (result.view(torch.int32) + (shifted.view(torch.int32) << 23)).view(torch.float32)


def cost_values(form: Form, rows: list[Tensor], columns: list[Tensor], clip: Tensor) -> list[Tensor]:
    """Return the channels of a cost, from numbers of rows and of columns that broadcast against each other.

    Args:
        form: The formula; see `PairCost`.
        rows: What the formula needs of rows.
        columns: What it needs of columns.
        clip: Scalar.
    """
    x, y = columns[:2]
    if form == "position":
        return [x, y]
    if form == "euclidean":
        across, down = rows[0] - x, rows[1] - y
        distance = (across.square() + down.square()).sqrt()
    else:
        distance = (rows[0] * x + rows[1] * y + rows[2]).abs()
    if form == "sampson":
        ratio = columns[2] / rows[3]
        distance = distance * (1.0 + ratio.square()).rsqrt()
    distance = torch.minimum(distance, clip)
    return [distance.square() if form == "squared" else distance]


def _kept(values: list[Tensor]) -> list[Tensor]:
    """Tensors (B, L) as (B, 1, L): their axis is kept."""
    return [value.unsqueeze(1) for value in values]


def _summed(values: list[Tensor]) -> list[Tensor]:
    """Tensors (B, L) as (B, L, 1): their axis is summed over."""
    return [value.unsqueeze(2) for value in values]


def peaks(field: list[Tensor], other_field: list[Tensor], bias: Tensor) -> Tensor:
    """Greatest exponent of each row, max_j bias_j - |u_i - v_j|².

    Args:
        field: (B, N) for each of D axes.
        other_field: (B, M) for each.
        bias: (B, M).

    Returns:
        (B, N).
    """
    exponent = bias.unsqueeze(2)
    for u, v in zip(_kept(field), _summed(other_field), strict=True):
        exponent = exponent - (v - u).square()
    return exponent.amax(1)


def row_sums(
    field: list[Tensor],
    other_field: list[Tensor],
    bias: Tensor,
    peak: Tensor,
    rows: list[Tensor],
    columns: list[Tensor],
    clip: Tensor,
    *,
    form: Form,
) -> tuple[Tensor, list[Tensor], list[Tensor], list[list[Tensor]]]:
    """Return sums over the candidates of each row with w_ij = 2^(bias_j - |u_i - v_j|² - peak_i).

    Args:
        field: (B, N) for each of D axes.
        other_field: (B, M) for each.
        bias: (B, M).
        peak: (B, N).
        rows: Of the cost, each (B, N).
        columns: Of the cost, each (B, M).
        clip: Scalar.
        form: Formula of the cost.

    Returns:
        Each (B, N): Σ w; for every channel c, Σ w d_c; for every axis a, Σ w (v - u)_a; and Σ w d_c (v - u)_a.
    """
    offsets = [v - u for u, v in zip(_kept(field), _summed(other_field), strict=True)]
    exponent = bias.unsqueeze(2) - peak.unsqueeze(1)
    for offset in offsets:
        exponent = exponent - offset.square()
    weight = power_of_two(exponent.clamp(LEAST_EXPONENT, 0.0))
    errors = [weight * value for value in cost_values(form, _kept(rows), _summed(columns), clip)]
    return (
        weight.sum(1),
        [error.sum(1) for error in errors],
        [(weight * offset).sum(1) for offset in offsets],
        [[(error * offset).sum(1) for offset in offsets] for error in errors],
    )


def column_sums(
    field: list[Tensor],
    other_field: list[Tensor],
    log_total: Tensor,
    average: list[Tensor],
    slope: list[Tensor],
    rows: list[Tensor],
    columns: list[Tensor],
    clip: Tensor,
    *,
    form: Form,
) -> list[Tensor]:
    """Σ_i p_ij Σ_c g_ic (d_ijc - ē_ic) (u_i - v_j)_a with p_ij = 2^(-|u_i - v_j|² - log_total_i).

    Args:
        field: (B, N) for each of D axes.
        other_field: (B, M) for each.
        log_total: (B, N), the logarithm to base two of each row's Σ_j 2^(-|u_i - v_j|²).
        average: ē, (B, N) for each channel.
        slope: g, (B, N) for each channel.
        rows: Of the cost, each (B, N).
        columns: Of the cost, each (B, M).
        clip: Scalar.
        form: Formula of the cost.

    Returns:
        For every axis a, (B, M).
    """
    offsets = [u - v for u, v in zip(_summed(field), _kept(other_field), strict=True)]
    exponent = -log_total.unsqueeze(2)
    for offset in offsets:
        exponent = exponent - offset.square()
    values = cost_values(form, _summed(rows), _kept(columns), clip)
    pull = [(d - e) * g for d, e, g in zip(values, _summed(average), _summed(slope), strict=True)]
    weight = power_of_two(exponent.clamp(LEAST_EXPONENT, 0.0)) * sum(pull[1:], pull[0])
    return [(weight * offset).sum(1) for offset in offsets]


_SOURCES: dict[Kernel, Callable[..., object]] = {"peaks": peaks, "row_sums": row_sums, "column_sums": column_sums}


def numbers_needed(form: Form) -> tuple[int, int]:
    """How many numbers of each row and of each column a formula needs."""
    rows: dict[Form, int] = {"sampson": 4, "euclidean": 2, "position": 0}
    return rows.get(form, 3), 3 if form == "sampson" else 2


@cache
def kernel(name: Kernel, form: Form | None, dimension: int, device_type: str) -> Callable[..., object]:
    """Compile one of the functions above and run it once, on a made-up problem.

    Args:
        name: Which.
        form: Formula of the cost; None for "peaks", which has none.
        dimension: Channels D of the fields.
        device_type: "cpu" or "cuda".

    Raises:
        Exception: Whatever stops the compiler.
    """
    import torch._inductor.config as inductor

    # torch.compile counts graphs per code object and gives up after a few; a copy has a count of its own.
    plain = _SOURCES[name]
    assert isinstance(plain, FunctionType)
    label = "_".join([name, *([] if form is None else [form]), str(dimension)])
    own = FunctionType(plain.__code__.replace(co_name=label), plain.__globals__, label)
    own.__kwdefaults__ = None if form is None else {"form": form}
    result = torch.compile(own, fullgraph=True, options=_options(inductor))
    example = _example(name, form, dimension, torch.device(device_type))
    for tensor in (one for part in example for one in (part if isinstance(part, list) else [part])):
        for axis, size in enumerate(tensor.shape):
            if size >= 2:
                torch._dynamo.mark_dynamic(tensor, axis)
    with torch.no_grad(), torch.autocast(device_type, enabled=False):
        result(*example)
    return result


def _options(config: object) -> dict[str, str | int | bool | Callable[..., object]]:
    """Return the options that this release of torch has; one that was yes or no before it got more values is yes."""
    known = {}
    for key, value in _OPTIONS.items():
        *parts, name = key.split(".")
        owner: Any = config
        for part in parts:
            owner = getattr(owner, part, None)
        if hasattr(owner, name):
            known[key] = True if isinstance(getattr(owner, name), bool) else value
    return known


def _example(name: Kernel, form: Form | None, dimension: int, device: torch.device) -> list[Tensor | list[Tensor]]:
    """Return a problem of three pairs of views whose sizes are all different.

    Few images and many cells: from these the compiler concludes that threads should share the cells, too.
    """
    images, count, other_count = 3, 1523, 1541

    def ones(number: int, *shape: int) -> list[Tensor]:
        return [torch.ones(shape, device=device) for _ in range(number)]

    row, column = ones(2, images, count), ones(1, images, other_count)[0]
    fields = [ones(dimension, images, count), ones(dimension, images, other_count)]
    if name == "peaks":
        return [*fields, column]
    assert form is not None
    of_rows, of_columns = numbers_needed(form)
    cost: list[Tensor | list[Tensor]] = [
        ones(of_rows, images, count),
        ones(of_columns, images, other_count),
        ones(1)[0],
    ]
    if name == "row_sums":
        return [*fields, column, row[0], *cost]
    channels = 2 if form == "position" else 1
    return [*fields, row[0], ones(channels, images, count), ones(channels, images, count), *cost]


def compiler_missing(device: torch.device) -> str | None:
    """Why nothing can be compiled for a device; None if it can, as far as one sees without trying."""
    if any(os.environ.get(name, "0") == "1" for name in ("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE")):
        return "torch.compile is switched off by the environment"
    if device.type == "cuda":
        return None if find_spec("triton") else "Triton is not installed"
    if device.type != "cpu":
        return f"there is no compiled form for devices of type {device.type}"
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX", usual)
    return None if shutil.which(compiler.split()[0]) else f"no C++ compiler is present ({compiler})"
