"""How the learning rate changes with the training step."""

import math
from collections.abc import Iterable
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from dkp.errors import InputError

LearningRateSchedule = Literal["constant", "cosine", "onecycle"]

FLOOR = 0.01
"""Last factor of "cosine"."""


class WarmupCosine:
    """Factor of the learning rate: linear warm-up, then constant or a half cosine down to `FLOOR`."""

    def __init__(self, total_steps: int | None, warmup_steps: int) -> None:
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps

    def __call__(self, step: int) -> float:
        """Factor at an optimiser step."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        if self.total_steps is None:
            return 1.0
        share = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def learning_rate_schedule(
    optimizer: Optimizer, kind: LearningRateSchedule, total_steps: float, warmup_steps: int = 0
) -> LRScheduler:
    """Return a schedule that is stepped once per optimiser step.

    Args:
        optimizer: its learning rates are the peak values.
        kind: "constant" (after the warm-up), "cosine" or "onecycle".
        total_steps: length of the training; the last two kinds need it finite.
        warmup_steps: steps of linear warm-up ("constant" and "cosine"; "onecycle" takes it as its rising part).

    Raises:
        InputError: the schedule needs a length and the training has none, or the kind is unknown.
    """
    if kind == "constant":
        return LambdaLR(optimizer, WarmupCosine(None, warmup_steps))
    if kind not in ("cosine", "onecycle"):
        raise InputError(f"model.schedule is {kind!r} where constant, cosine or onecycle is expected")
    if not math.isfinite(total_steps) or total_steps < 1:
        raise InputError(
            f"model.schedule is {kind} and needs trainer.max_steps or trainer.max_epochs, but neither is set"
        )
    total = int(total_steps)
    if kind == "cosine":
        return LambdaLR(optimizer, WarmupCosine(total, warmup_steps))
    rising = min(0.9, max(1.0, warmup_steps) / total) if warmup_steps else 0.3
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, max_lr=peaks, total_steps=total + 1, pct_start=rising)


def forget_length(states: Iterable[dict[str, Any]]) -> None:
    """Take the training's length out of saved states of schedules, so that they keep the one they are made with."""
    for state in states:
        for entry in (state, *(factor for factor in state.get("lr_lambdas", ()) if factor)):
            for key in ("total_steps", "_schedule_phases"):
                entry.pop(key, None)
