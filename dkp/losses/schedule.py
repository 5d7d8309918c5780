"""What changes with the training step in a loss term: its weight, which ramps up, and σ, which is annealed."""

from dataclasses import dataclass


def ramp(step: int, steps: int) -> float:
    """Linear ramp from 1 / steps at step 0 to 1 at step `steps - 1`; 1 throughout where `steps` is 0."""
    return 1.0 if steps <= 0 else min(1.0, (step + 1) / steps)


@dataclass(kw_only=True)
class SigmaSchedule:
    """The width σ of the matchability at a step; part of every term that matches cells.

    Attributes:
        sigma: σ at the first step [m]. 5 cm was tried on people, 1 cm on a board of 0.3 m.
        sigma_final: σ at the end of the schedule [m], reached by a geometric interpolation; None = it stays.
        sigma_steps: Steps of the schedule.
    """

    sigma: float = 0.05
    sigma_final: float | None = None
    sigma_steps: int = 1000

    def sigma_at(self, step: int) -> float:
        """σ [m] at a step."""
        if self.sigma_final is None or self.sigma_final == self.sigma:
            return self.sigma
        share = min(1.0, step / self.sigma_steps) if self.sigma_steps > 0 else 1.0
        return self.sigma * (self.sigma_final / self.sigma) ** share
