"""Which engine computes an average over all pairs of pixels, and why."""

import logging
from functools import cache
from typing import Literal, get_args

import torch
from torch import Tensor

from dkp.losses.costs import Form, PairCost
from dkp.losses.fused import fused_expectation
from dkp.losses.kernels import Kernel, compiler_missing, kernel
from dkp.losses.sides import Sides
from dkp.losses.tiled import PART_FLOOR, Expectation, tiled_expectation

Engine = Literal["auto", "dense", "tiled", "fused"]

log = logging.getLogger("dkp.losses")

DENSE_PAIRS = 2**14
"""Up to so many pairs in a call, "auto" writes the matrices out: the plainest, and the quickest there."""

FUSED_PAIRS = 2**22
"""From so many pairs in a call, "auto" compiles. Compiling takes about as long as tiling such calls loses in a few
hundred steps (two CPU cores), so that short runs on small images never wait for a compiler."""

_SHUT_OUT = -1e30

_noted: set[tuple[str, str]] = set()


def dense_expectation(sides: Sides, cost: PairCost) -> tuple[Tensor, Tensor]:
    """Return what `tiled_expectation` does, with both affinity matrices written out: to read, and to test against."""
    exponent = -(sides.field.unsqueeze(2) - sides.other_field.unsqueeze(1)).square().sum(-1)
    if sides.parts is not None and sides.other_parts is not None:
        exponent = exponent + (sides.parts @ sides.other_parts.mT).clamp_min(PART_FLOOR).log()
    if sides.other_mask is not None:
        exponent = torch.where(sides.other_mask.unsqueeze(1), exponent, exponent.new_full((), _SHUT_OUT))
    matchability = torch.exp(exponent - exponent.logsumexp(-1, keepdim=True))  # M up to a factor per row
    error = matchability.unsqueeze(-1) * cost.matrix()  # E = M ⊙ d
    return error.sum(2), exponent.detach().amax(-1).exp()


EXPECTATIONS: dict[Engine, Expectation] = {
    "dense": dense_expectation,
    "tiled": tiled_expectation,
    "fused": fused_expectation,
}


def find_engine(engine: Engine, sides: Sides, cost: PairCost) -> Engine:
    """Return the engine for a call: the one asked for, or one that can stand in for it; never "auto".

    "auto" takes "dense" for very small problems, "fused" for large ones and "tiled" between. It looks at the sizes of
    the call and at nothing that went before, so that a run that is resumed takes the engines that it would have taken.
    The first time that an engine is taken, the log says which and why.

    Args:
        engine: What was asked for.
        sides: What is matched.
        cost: What to average.

    Raises:
        ValueError: The engine is unknown.
    """
    if engine not in get_args(Engine):
        raise ValueError(f"engine is {engine!r}, expected one of {', '.join(get_args(Engine))}")
    if engine == "fused":
        reason = compiling_refused(sides, cost)
        return note(engine, engine, "as asked for") if reason is None else note(engine, "tiled", reason, warn=True)
    if engine != "auto":
        return note(engine, engine, "as asked for")
    pairs = sides.field.shape[0] * sides.field.shape[1] * sides.other_field.shape[1]
    if pairs <= DENSE_PAIRS:
        return note(engine, "dense", f"up to {DENSE_PAIRS} pairs are written out")
    if pairs < FUSED_PAIRS:
        return note(engine, "tiled", f"compiling pays from {FUSED_PAIRS} pairs in a call")
    reason = compiling_refused(sides, cost)
    if reason is not None:
        return note(engine, "tiled", reason)
    return note(engine, "fused", f"compiling pays from {FUSED_PAIRS} pairs in a call")


def compiling_refused(sides: Sides, cost: PairCost) -> str | None:
    """Why a call cannot take the fused engine; None if it can, and then that is compiled."""
    if sides.parts is not None:
        return "the fused engine takes no part probabilities"
    if sides.field.dtype != torch.float32:
        return f"the fused engine takes float32, not {sides.field.dtype}"
    return compilation_failed(cost.form, sides.field.shape[-1], sides.field.device)


@cache
def compilation_failed(form: Form, dimension: int, device: torch.device) -> str | None:
    """Compile what the fused engine needs for a formula, once; why that failed, or None."""
    reason = compiler_missing(device)
    if reason is not None:
        return reason
    names: tuple[Kernel, ...] = ("peaks", "row_sums", "column_sums")
    try:
        for name in names:
            kernel(name, None if name == "peaks" else form, dimension, device.type)
    except Exception as error:  # a compiler may fail in any way
        return f"compiling failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None


def note(engine: str, taken: Engine, reason: str, *, warn: bool = False) -> Engine:
    """Log once which engine is taken."""
    if (taken, reason) not in _noted:
        _noted.add((taken, reason))
        log.log(logging.WARNING if warn else logging.INFO, "matching engine %s -> %s: %s", engine, taken, reason)
    return taken
