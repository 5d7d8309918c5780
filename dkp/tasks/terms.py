"""Bookkeeping of loss terms: weights, gradients, whether they ever fired, whether they are still numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dkp.errors import InputError
from dkp.losses import LossTerm, LossValue


class TrainingDiverged(RuntimeError):
    """A loss term is no longer a finite number; the message names the term and the step."""


@dataclass
class WeightedTerm:
    """One loss term of one step.

    Attributes:
        loss: value and share of valid pixels.
        weight: its weight at this step (ramp-up included).
    """

    loss: LossValue
    weight: float

    @property
    def contribution(self) -> Tensor:
        """What the term adds to the total."""
        return self.weight * self.loss.value


def total_loss(terms: Mapping[str, WeightedTerm]) -> Tensor:
    """Return the weighted sum of the terms."""
    parts = [entry.contribution for entry in terms.values()]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def require_finite(terms: Mapping[str, WeightedTerm], total: Tensor, step: int) -> None:
    """Stop where the total is not finite.

    Raises:
        TrainingDiverged: with the terms that are not finite and the step.
    """
    if bool(torch.isfinite(total)):
        return
    culprits = [
        f"{name} = {entry.loss.value.item()}" for name, entry in terms.items() if not torch.isfinite(entry.loss.value)
    ]
    reason = ", ".join(culprits) or f"their weighted sum = {total.item()}"
    raise TrainingDiverged(f"training stopped at step {step} because a loss is not finite: {reason}")


def require_finite_weights(module: nn.Module, step: int) -> None:
    """Stop where training has spoilt the weights.

    Raises:
        TrainingDiverged: with the first such tensor and the step.
    """
    for name, value in module.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise TrainingDiverged(
                f"training stopped at step {step} because the weights {name} are not finite; the checkpoint saved "
                "before is kept"
            )


def gradient_norms(terms: Mapping[str, WeightedTerm], parameters: Sequence[Tensor]) -> dict[str, Tensor]:
    """Norm of each weighted term's gradient with respect to a few shared parameters.

    Only the part of the graph between the loss and these parameters is walked, so the last layers of a network are
    cheap.

    Args:
        terms: the terms of this step, with their graph.
        parameters: tensors that take part in every term.
    """
    norms = {}
    for name, entry in terms.items():
        value = entry.contribution
        if not value.requires_grad:
            norms[name] = value.new_zeros(())
            continue
        gradients = torch.autograd.grad(value, list(parameters), retain_graph=True, allow_unused=True)
        squares = [gradient.float().square().sum() for gradient in gradients if gradient is not None]
        norms[name] = torch.stack(squares).sum().sqrt() if squares else value.new_zeros(())
    return norms


class TermLedger:
    """Counts in which steps of an epoch a configured term was due and in which it had any valid pixel."""

    def __init__(self) -> None:
        self.due: dict[str, int] = {}
        self.fired: dict[str, Tensor] = {}

    def reset(self) -> None:
        """Begin an epoch."""
        self.due.clear()
        self.fired.clear()

    def count(self, name: str, value: LossValue | None) -> None:
        """Record one step of a term; None where the batch had nothing for it."""
        self.due[name] = self.due.get(name, 0) + 1
        if value is None:
            return
        fired = (value.valid_share.detach() > 0).long()
        self.fired[name] = self.fired[name] + fired if name in self.fired else fired

    def silent(self) -> list[str]:
        """Terms that were due and had no valid pixel in any step (of this process)."""
        return [name for name in self.due if name not in self.fired or int(self.fired[name]) == 0]


def silent_term_error(name: str, term: LossTerm, steps: int) -> InputError:
    """Return the error for a term that never fired in an epoch."""
    return InputError(
        f"loss term {term.symbol or name} has the weight model.terms.{name}.weight > 0 but had no valid pixel in any "
        f"of the {steps} steps of this epoch: {term.hint}, or set the weight to 0 or `optional` to true"
    )
