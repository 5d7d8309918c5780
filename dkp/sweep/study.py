"""The trials of a sweep, kept by Optuna in a SQLite file, so that a sweep goes on where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dkp.errors import InputError
from dkp.sweep.file import Scalar, Sweep, optuna
from dkp.sweep.trial import Outcome

if TYPE_CHECKING:
    from optuna import Study as Trials, Trial
    from optuna.samplers import BaseSampler

DATABASE = "study.db"
CONTINUES = "continues"
"""Attribute of a trial that goes on with the run of another one: that one's number."""
_STATES = {"COMPLETE": "done", "PRUNED": "stopped", "FAIL": "failed"}


@dataclass(frozen=True)
class Row:
    """One line of a sweep's table.

    Attributes:
        number: of the trial, from 0.
        state: "done", "stopped" (early) or "failed".
        value: of the metric at the trial's end, or None.
        values: option -> value.
        seconds: how long it ran.
        reason: why it failed, or "".
    """

    number: int
    state: str
    value: float | None
    values: dict[str, Scalar]
    seconds: float
    reason: str


class Study:
    """The trials of one sweep.

    What the n-th trial tries depends on the file, the seed and the trials before it alone, so that a sweep that was
    interrupted and goes on tries what it would have tried.

    Args:
        folder: of the sweep.
        plan: what is varied.
        seed: of the random choices.
        overrides: further options of every trial.

    Raises:
        InputError: Optuna is not installed, or the folder holds another sweep.
    """

    def __init__(self, folder: Path, plan: Sweep, seed: int, overrides: Sequence[str]) -> None:
        self.optuna = optuna()
        self.plan = plan
        self.seed = seed
        pruners = self.optuna.pruners
        self.study: Trials = self.optuna.create_study(
            storage=f"sqlite:///{folder / DATABASE}",
            study_name="sweep",
            direction=plan.direction,
            pruner=pruners.SuccessiveHalvingPruner(**plan.halving) if plan.halving else pruners.NopPruner(),
            load_if_exists=True,
        )
        self._check_same(folder, overrides)
        self._take_up_interrupted()

    def _check_same(self, folder: Path, overrides: Sequence[str]) -> None:
        """Refuse to add trials to another sweep; enter all combinations of a new grid."""
        description = json.dumps(
            {
                "method": self.plan.method,
                "metric": self.plan.metric,
                "parameters": {name: repr(kind) for name, kind in self.plan.parameters.items()},
                "command": list(self.plan.command),
                "early_terminate": repr(self.plan.halving),
                "seed": self.seed,
                "overrides": list(overrides),
            }
        )
        stored = self.study.user_attrs.get("sweep")
        if stored is None:
            if self.plan.method == "grid":
                for values in self.plan.grid():
                    self.study.enqueue_trial(values, skip_if_exists=True)
            self.study.set_user_attr("sweep", description)
        elif stored != description:
            before, now = json.loads(stored), json.loads(description)
            changed = ", ".join(key for key in now if now[key] != before[key])
            raise InputError(f"{folder} holds a sweep with another {changed}, expected the same one or another --name")

    def _take_up_interrupted(self) -> None:
        """Let another trial go on with the run and the values of one that was killed with its sweep."""
        states = self.optuna.trial.TrialState
        for trial in self.study.get_trials(states=(states.RUNNING,)):
            values = trial.params or trial.system_attrs.get("fixed_params", {})
            self.study.tell(trial.number, state=states.FAIL)
            if values:
                self.study.enqueue_trial(values, user_attrs={CONTINUES: trial.number})

    def ask(self) -> tuple[Trial, dict[str, Scalar]]:
        """Return the next trial and its values, in the order of the file."""
        self.study.sampler = self._sampler(len(self.rows()))
        trial = self.study.ask(dict(self.plan.parameters))
        return trial, self._values(trial.params)

    def _values(self, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        return {name: params.get(name) for name in self.plan.parameters}

    def _sampler(self, count: int) -> BaseSampler:
        samplers = self.optuna.samplers
        kind = samplers.TPESampler if self.plan.method == "bayes" else samplers.RandomSampler
        return kind(seed=1000 * self.seed + count)

    def going_on(self, trial: Trial, count: int, value: float) -> bool:
        """Note a value of the metric; whether the trial is still among the best share.

        Args:
            trial: that runs.
            count: how many values it has had, this one included.
            value: of the metric.
        """
        trial.report(value, count)
        return not trial.should_prune()

    def tell(self, trial: Trial, outcome: Outcome, seconds: float) -> None:
        """Note how a trial ended."""
        states = self.optuna.trial.TrialState
        trial.set_user_attr("seconds", seconds)
        if outcome.value is None:
            trial.set_user_attr("reason", outcome.reason)
            self.study.tell(trial, state=states.FAIL)
        elif outcome.stopped:
            self.study.tell(trial, state=states.PRUNED)
        else:
            self.study.tell(trial, outcome.value)

    def rows(self) -> list[Row]:
        """Return the trials that ended by themselves or were stopped early, in their order."""
        rows = []
        for trial in self.study.get_trials(deepcopy=False):
            if not trial.state.is_finished() or "seconds" not in trial.user_attrs:
                continue
            rows.append(
                Row(
                    trial.number,
                    _STATES[trial.state.name],
                    trial.value,
                    self._values(trial.params),
                    trial.user_attrs["seconds"],
                    trial.user_attrs.get("reason", ""),
                )
            )
        return rows

    def best(self) -> Row | None:
        """Return the best of the trials that ended by themselves; None where there is none."""
        done = [row for row in self.rows() if row.state == "done" and row.value is not None]
        sign = 1 if self.plan.direction == "minimize" else -1
        return min(done, key=lambda row: (sign * (row.value or 0.0), row.number), default=None)
