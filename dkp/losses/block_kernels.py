"""The arithmetic of the compact engine: sums over the pairs of two blocks, written as tensor expressions and compiled.

Like `dkp.losses.kernels`, with two differences. Blocks have a fixed size, so that loops have fixed lengths and neither
tails nor masks. And exponents are not taken relative to each row's greatest: rows whose best candidate is far away
count as having none, the others are far from the limits of float32. Exponents begin at `-LEAST_EXPONENT` instead, so
that their floor is at zero; weights are 2^60 times too large, which cancels.

The first axis of every argument counts entries of a list of visits, the last one the elements of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from dkp.losses.blocks import BLOCK, CHUNK, needed_visits
from dkp.losses.costs import Form
from dkp.losses.kernels import LEAST_EXPONENT, compiled, cost_values, numbers_needed, power_of_two

BlockKernel = Literal["needed_visits", "block_row_sums", "block_column_sums"]

RAISE = -LEAST_EXPONENT
"""What exponents begin at."""


def _owner(packed: Tensor) -> list[Tensor]:
    """Numbers of the owning blocks (P, F, L) as F tensors (P, 1, 1, L)."""
    return [one[:, None, None] for one in packed.unbind(1)]


def _visited(packed: Tensor) -> list[Tensor]:
    """Numbers of the visited blocks (P, CHUNK, F, L) as F tensors (P, CHUNK, L, 1)."""
    return [one.unsqueeze(-1) for one in packed.unbind(2)]


def block_row_sums(rows: Tensor, columns: Tensor, clip: Tensor, *, form: Form, dimension: int) -> list[Tensor]:
    """Sums over visited candidates, with w_ij = 2^(bias_j - |u_i - v_j|²), at least one.

    Args:
        rows: (P, D + g, L), the fields of the owning blocks and what the cost needs of rows.
        columns: (P, CHUNK, D + 1 + h, L), those of the visited blocks, the bias, and what the cost needs of columns.
        clip: Scalar.
        form: Formula of the cost.
        dimension: Channels D of the fields.

    Returns:
        Each (P, L): the greatest exponent; Σ w; for every channel c, Σ w d_c; for every axis a, Σ w (v - u)_a; and for
        every channel and every axis Σ w d_c (v - u)_a.
    """
    row, column = _owner(rows), _visited(columns)
    offsets = [v - u for u, v in zip(row[:dimension], column[:dimension], strict=True)]
    exponent = column[dimension]
    for offset in offsets:
        exponent = exponent - offset * offset
    exponent = exponent.relu()
    weight = power_of_two(exponent)
    errors = [weight * value for value in cost_values(form, row[dimension:], column[dimension + 1 :], clip)]
    pulls = [term * offset for term in (weight, *errors) for offset in offsets]
    return [exponent.amax((1, 2)), *(term.sum((1, 2)) for term in (weight, *errors, *pulls))]


def block_column_sums(columns: Tensor, rows: Tensor, clip: Tensor, *, form: Form, dimension: int) -> list[Tensor]:
    """Σ_i w_ij Σ_c g_ic (d_ijc - ē_ic) (u_i - v_j)_a over the rows that visit a candidate.

    Args:
        columns: (P, D + h, L), the fields of the owning blocks and what the cost needs of columns.
        rows: (P, CHUNK, D + g + 2 C, L), the fields of the visited blocks, what the cost needs of rows, ē and g.
        clip: Scalar.
        form: Formula of the cost.
        dimension: Channels D of the fields.

    Returns:
        For every axis a, (P, L).
    """
    column, row = _owner(columns), _visited(rows)
    offsets = [u - v for u, v in zip(row[:dimension], column[:dimension], strict=True)]
    exponent = RAISE - offsets[0] * offsets[0]
    for offset in offsets[1:]:
        exponent = exponent - offset * offset
    channels = 2 if form == "position" else 1
    of_row, averages, slopes = row[dimension : -2 * channels], row[-2 * channels : -channels], row[-channels:]
    values = cost_values(form, of_row, column[dimension:], clip)
    pull = [(d - e) * g for d, e, g in zip(values, averages, slopes, strict=True)]
    weight = power_of_two(exponent.relu()) * sum(pull[1:], pull[0])
    return [(weight * offset).sum((1, 2)) for offset in offsets]


@cache
def block_kernel(name: BlockKernel, form: Form | None, dimension: int, device_type: str) -> Callable[..., object]:
    """The compiled form of one of the functions above, or of `needed_visits`.

    Args:
        name: Which.
        form: Formula of the cost; None for "needed_visits", which has none.
        dimension: Channels D of the fields.
        device_type: "cpu" or "cuda".

    Raises:
        Exception: Whatever stops the compiler.
    """
    example = _example(name, form, dimension, torch.device(device_type))
    if name == "needed_visits":
        return compiled(needed_visits, {}, dimension, example)
    plain = block_row_sums if name == "block_row_sums" else block_column_sums
    return compiled(plain, {"form": form, "dimension": dimension}, dimension, example, axes=1)


def _example(name: BlockKernel, form: Form | None, dimension: int, device: torch.device) -> list[Tensor | list[Tensor]]:
    """Arguments of a kernel."""
    one = torch.ones((), device=device)
    if name == "needed_visits":
        # Tensors of their own: the compiler would take it that equal ones always are one and the same.
        lists = [[torch.ones(2, size, device=device) for _ in range(dimension)] for size in (203, 203, 211, 211, 211)]
        return [*lists, *(torch.ones(2, 211, device=device) for _ in range(2)), one, one.clone()]
    assert form is not None
    of_rows, of_columns = numbers_needed(form)
    entries, channels = 1501, 2 if form == "position" else 1
    if name == "block_row_sums":
        owner, visited = dimension + of_rows, dimension + 1 + of_columns
    else:
        owner, visited = dimension + of_columns, dimension + of_rows + 2 * channels
    sizes = (entries, owner, BLOCK), (entries, CHUNK, visited, BLOCK)
    return [*(torch.ones(size, device=device) for size in sizes), one]
