"""The trials of a sweep, kept by Optuna in a SQLite file, so that a sweep goes on where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkp.errors import InputError
from dkp.sweep.file import Choice, Range, Scalar, Sweep
from dkp.sweep.trial import Outcome

if TYPE_CHECKING:
    import optuna

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
        self.optuna = _optuna()
        self.plan = plan
        self.seed = seed
        halving = plan.halving
        self.study: optuna.Study = self.optuna.create_study(
            storage=f"sqlite:///{folder / DATABASE}",
            study_name="sweep",
            direction=plan.direction,
            pruner=self.optuna.pruners.NopPruner()
            if halving is None
            else self.optuna.pruners.SuccessiveHalvingPruner(
                min_resource=halving.least, reduction_factor=halving.factor
            ),
            load_if_exists=True,
        )
        self._free = {name: kind for name, kind in plan.parameters.items() if name not in plan.fixed}
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
                    self._enqueue(values, skip=True)
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
            if values or not self._free:
                self._enqueue(values, skip=False, attributes={CONTINUES: trial.number})

    def _enqueue(self, values: dict[str, Any], skip: bool, attributes: dict[str, Any] | None = None) -> None:
        free = {name: values[name] for name in self._free}
        self.study.enqueue_trial(free, user_attrs=attributes, skip_if_exists=skip)

    def ask(self) -> tuple[optuna.Trial, dict[str, Scalar]]:
        """Return the next trial and its values, in the order of the file."""
        self.study.sampler = self._sampler(len(self.rows()))
        trial = self.study.ask({name: self._distribution(kind) for name, kind in self._free.items()})
        values = {name: self.plan.fixed.get(name, trial.params.get(name)) for name in self.plan.parameters}
        return trial, values

    def _sampler(self, count: int) -> optuna.samplers.BaseSampler:
        samplers = self.optuna.samplers
        kind = samplers.TPESampler if self.plan.method == "bayes" else samplers.RandomSampler
        return kind(seed=1000 * self.seed + count)

    def _distribution(self, kind: Choice | Range) -> optuna.distributions.BaseDistribution:
        distributions = self.optuna.distributions
        if isinstance(kind, Choice):
            return distributions.CategoricalDistribution(kind.values)
        if kind.whole:
            return distributions.IntDistribution(int(kind.low), int(kind.high))
        return distributions.FloatDistribution(kind.low, kind.high, log=kind.log, step=kind.step)

    def going_on(self, trial: optuna.Trial, count: int, value: float) -> bool:
        """Note a value of the metric; whether the trial is still among the best share.

        Args:
            trial: that runs.
            count: how many values it has had, this one included.
            value: of the metric.
        """
        trial.report(value, count)
        return not trial.should_prune()

    def tell(self, trial: optuna.Trial, outcome: Outcome, seconds: float) -> None:
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
            values = {name: self.plan.fixed.get(name, trial.params.get(name)) for name in self.plan.parameters}
            rows.append(
                Row(
                    trial.number,
                    _STATES[trial.state.name],
                    trial.value,
                    values,
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


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise InputError("dkp sweep needs the package optuna, expected dkp[sweep] to be installed") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
