"""Bookkeeping of loss terms: weights, gradients, whether they ever fired, whether they are still numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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


def silence(terms: Mapping[str, LossTerm], steps: int) -> str:
    """Say which terms never fired in an epoch of so many steps, and what to look at."""
    named = [f"{term.symbol or name} (model.terms.{name}.weight): {term.hint}" for name, term in terms.items()]
    return (
        f"no valid pixel in any of the {steps} steps of this epoch for loss terms with a weight above 0: "
        f"{'; '.join(named)}; or set the weight to 0, or `optional` to true"
    )
