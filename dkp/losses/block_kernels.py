"""The arithmetic of the compact engine: sums over the pairs of two blocks, written as tensor expressions and compiled.

Like `dkp.losses.kernels`, with two differences. Blocks have a fixed size, so that loops have fixed lengths and neither
tails nor masks. And exponents are not taken relative to each row's greatest: rows whose best candidate is far away
count as having none, the others are far from the limits of float32. Exponents begin at `-LEAST_EXPONENT` instead, so
that their floor is at zero; weights are 2^60 times too large, which cancels.

An entry of a list of visits has an owner, for whose elements there are sums, and `CHUNK` visited blocks. Numbers of
owners have the elements of a block as their last axis; numbers of visited blocks have not, nor has their list the
entry's blocks as its last axis. The compiler runs its vectors over an axis that is contiguous wherever it occurs: so
that is the owner's elements, and no sum has to be collected across a vector.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from dkp.losses.blocks import BLOCK, CHUNK, visit_excess
from dkp.losses.costs import Form
from dkp.losses.kernels import LEAST_EXPONENT, compiled, cost_values, numbers_needed, power_of_two

BlockKernel = Literal["visit_excess", "block_row_sums", "block_column_sums"]

RAISE = -LEAST_EXPONENT
"""What exponents begin at."""


def _owners(packed: Tensor, owner: Tensor) -> list[Tensor]:
    """Numbers (F, K + 1, L) of the owning blocks (P,) as F tensors (P, 1, 1, L)."""
    return [_at(one, owner).unsqueeze(1).unsqueeze(1) for one in packed.unbind(0)]


def _visited(packed: Tensor, visited: Tensor) -> list[Tensor]:
    """Numbers (K' + 1, L, F) of the visited blocks (CHUNK, P) as F tensors (P, CHUNK, L, 1)."""
    return [one.unsqueeze(-1) for one in _at(packed, visited.mT).unbind(-1)]


def _at(blocks: Tensor, index: Tensor) -> Tensor:
    """Blocks by number, without a check of the numbers: they come from `dkp.losses.blocks.list_visits`."""
    result: Tensor = torch.ops.aten._unsafe_index(blocks, [index])
    return result


def block_row_sums(
    rows: Tensor, columns: Tensor, owner: Tensor, visited: Tensor, clip: Tensor, *, form: Form, dimension: int
) -> tuple[Tensor, Tensor]:
    """Sums over visited candidates, with w_ij = 2^(bias_j - |u_i - v_j|²), at least one.

    Args:
        rows: (D + g, K + 1, L), the fields of the blocks of rows and what the cost needs of rows.
        columns: (K' + 1, L, D + h + 1), the fields of the blocks of candidates, what the cost needs of columns, and the
            bias.
        owner: (P,), which block of rows an entry belongs to.
        visited: (CHUNK, P), which blocks of candidates it names.
        clip: Scalar.
        form: Formula of the cost.
        dimension: Channels D of the fields.

    Returns:
        The greatest exponent (P, L), and (P, F, L): Σ w; for every channel c, Σ w d_c; for every axis a, Σ w (v - u)_a;
        and for every channel and every axis Σ w d_c (v - u)_a.
    """
    row, column = _owners(rows, owner), _visited(columns, visited)
    offsets = [v - u for u, v in zip(row[:dimension], column[:dimension], strict=True)]
    exponent = column[-1]
    for offset in offsets:
        exponent = exponent - offset.square()
    exponent = exponent.relu()
    weight = power_of_two(exponent)
    errors = [weight * value for value in cost_values(form, row[dimension:], column[dimension:-1], clip)]
    pulls = [term * offset for term in (weight, *errors) for offset in offsets]
    return exponent.amax((1, 2)), torch.stack([term.sum((1, 2)) for term in (weight, *errors, *pulls)], 1)


def block_column_sums(
    columns: Tensor, rows: Tensor, owner: Tensor, visited: Tensor, clip: Tensor, *, form: Form, dimension: int
) -> Tensor:
    """Σ_i w_ij Σ_c g_ic (d_ijc - ē_ic) (u_i - v_j)_a over the rows that visit a candidate.

    Args:
        columns: (D + h, K' + 1, L), the fields of the blocks of candidates and what the cost needs of columns.
        rows: (K + 1, L, D + g + 2 C), the fields of the blocks of rows, what the cost needs of rows, ē and g.
        owner: (P,), which block of candidates an entry belongs to.
        visited: (CHUNK, P), which blocks of rows it names.
        clip: Scalar.
        form: Formula of the cost.
        dimension: Channels D of the fields.

    Returns:
        (P, D, L).
    """
    column, row = _owners(columns, owner), _visited(rows, visited)
    offsets = [u - v for u, v in zip(row[:dimension], column[:dimension], strict=True)]
    exponent = RAISE - offsets[0].square()
    for offset in offsets[1:]:
        exponent = exponent - offset.square()
    channels = 2 if form == "position" else 1
    of_row, averages, slopes = row[dimension : -2 * channels], row[-2 * channels : -channels], row[-channels:]
    values = cost_values(form, of_row, column[dimension:], clip)
    pull = [(d - e) * g for d, e, g in zip(values, averages, slopes, strict=True)]
    weight = power_of_two(exponent.relu()) * sum(pull[1:], pull[0])
    return torch.stack([(weight * offset).sum((1, 2)) for offset in offsets], 1)


@cache
def block_kernel(name: BlockKernel, form: Form | None, dimension: int, device_type: str) -> Callable[..., object]:
    """The compiled form of one of the functions above, or of `visit_excess`.

    Args:
        name: Which.
        form: Formula of the cost; None for "visit_excess", which has none.
        dimension: Channels D of the fields.
        device_type: "cpu" or "cuda".

    Raises:
        Exception: Whatever stops the compiler.
    """
    example = _example(name, form, dimension, torch.device(device_type))
    if name == "visit_excess":
        return compiled(visit_excess, {}, dimension, example, changing=LEAST_SIZE)
    plain = block_row_sums if name == "block_row_sums" else block_column_sums
    return compiled(plain, {"form": form, "dimension": dimension}, dimension, example, changing=LEAST_SIZE)


LEAST_SIZE = 100
"""Axes of an example that are at least so long count blocks or entries and may change."""


def _example(name: BlockKernel, form: Form | None, dimension: int, device: torch.device) -> list[Tensor]:
    """Arguments of a kernel."""
    clip = torch.ones((), device=device)
    if name == "visit_excess":
        boxes = [torch.ones(size, device=device) for size in ((2 * dimension + 1, 203), (3 * dimension + 2, 211))]
        return [*boxes, clip, clip.clone()]
    assert form is not None
    of_rows, of_columns = numbers_needed(form)
    if name == "block_row_sums":
        owner, visited = dimension + of_rows, dimension + of_columns + 1
    else:
        owner, visited = dimension + of_columns, dimension + of_rows + 2 * (2 if form == "position" else 1)
    packed = [torch.ones(size, device=device) for size in ((owner, 203, BLOCK), (211, BLOCK, visited))]
    lists = [torch.zeros(size, device=device, dtype=torch.long) for size in ((1501,), (CHUNK, 1501))]
    return [*packed, *lists, clip]
