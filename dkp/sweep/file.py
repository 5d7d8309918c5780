"""A sweep's file, in the format of Weights & Biases: what is varied, what is measured, which command runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dkp.errors import InputError
from dkp.recipes import read_recipe

Scalar = bool | int | float | str | None

METHODS = ("grid", "random", "bayes")
KEYS = ("program", "command", "method", "metric", "parameters", "early_terminate", "run_cap", "name", "description")
"""What a file may say; ``project`` and ``entity``, which mean something to a server only, may stand there, too."""
COMMAND = ["${interpreter}", "-m", "dkp", "fit"]


def optuna() -> Any:
    """Return the package Optuna.

    Raises:
        InputError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError("dkp sweep needs the package optuna, expected dkp[sweep] to be installed") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@dataclass(frozen=True)
class Sweep:
    """A sweep.

    Attributes:
        name: of its folder.
        method: "grid", "random" or "bayes".
        metric: name of the metric as `metrics.json` has it.
        direction: "minimize" or "maximize".
        parameters: option -> its values, a distribution of Optuna; a single one is a constant.
        command: words of the command; "${args}" stands for the options.
        cap: number of trials; None = all of a grid.
        halving: options of Optuna's `SuccessiveHalvingPruner`, which stops trials early; None = never.
    """

    name: str
    method: str
    metric: str
    direction: Literal["minimize", "maximize"]
    parameters: Mapping[str, Any]
    command: Sequence[str]
    cap: int | None = None
    halving: Mapping[str, int] | None = None

    def grid(self) -> list[dict[str, Scalar]]:
        """All combinations, the last parameter changing first.

        Raises:
            InputError: a parameter has no list of values.
        """
        lists = []
        for name, kind in self.parameters.items():
            if isinstance(kind, optuna().distributions.FloatDistribution):
                raise InputError(f"parameters: {name} is a range, expected values: [...] with the method grid")
            lists.append(kind.choices if hasattr(kind, "choices") else range(kind.low, kind.high + 1))
        return [dict(zip(self.parameters, values, strict=True)) for values in itertools.product(*lists)]

    def words(self, values: Mapping[str, Scalar]) -> list[str]:
        """Return the command of a trial, without what stands before "fit"."""
        options = options_of({name: values[name] for name in self.parameters})
        words = self.command[self.command.index("fit") :]
        return [word for part in words for word in (options if part == "${args}" else [part])]


def options_of(values: Mapping[str, Scalar]) -> list[str]:
    """Options as the agent of Weights & Biases writes them: ``--name=value``."""
    return [f"--{name}={value}" for name, value in values.items()]


def read_sweep(path: str | Path) -> Sweep:
    """Read and checks a sweep's file.

    Raises:
        InputError: one sentence with the key, what was found and what was expected.
    """
    path = Path(path)
    data = read_recipe(path)
    for key in data:
        if key not in (*KEYS, "project", "entity"):
            raise InputError(f"{path}: {key} is not a key of a sweep, expected one of {', '.join(KEYS)}")
    method = data.get("method")
    if method not in METHODS:
        raise InputError(f"{path}: method is {method!r}, expected one of {', '.join(METHODS)}")
    metric = _mapping(data.get("metric"), f"{path}: metric", "name and goal")
    if not isinstance(metric.get("name"), str):
        raise InputError(
            f"{path}: metric: name is {metric.get('name')!r}, expected a metric such as val/geodesic_median_cm"
        )
    goal = metric.get("goal", "minimize")
    if goal not in ("minimize", "maximize"):
        raise InputError(f"{path}: metric: goal is {goal!r}, expected minimize or maximize")
    parameters = _mapping(data.get("parameters"), f"{path}: parameters", "options and their values")
    if not parameters:
        raise InputError(f"{path}: parameters is empty, expected options and their values")
    sweep = Sweep(
        name=_name(data.get("name", path.stem), f"{path}: name"),
        method=method,
        metric=metric["name"],
        direction=goal,
        parameters={name: _parameter(value, f"{path}: parameters: {name}") for name, value in parameters.items()},
        command=_command(data.get("command"), f"{path}: command"),
        cap=_whole(data["run_cap"], f"{path}: run_cap") if data.get("run_cap") is not None else None,
        halving=_halving(data.get("early_terminate"), f"{path}: early_terminate"),
    )
    if method == "grid":
        try:
            sweep.grid()
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    return sweep


def _mapping(value: Any, where: str, content: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} is {value!r}, expected a mapping of {content}")
    return value


def _whole(value: Any, where: str, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{where} is {value!r}, expected a whole number of at least {least}")
    return value


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value or value.startswith(".") or set(value) & set("/\\:"):
        raise InputError(f"{where} is {value!r}, expected the name of a folder")
    return value


def _command(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not value:
        raise InputError(f"{where} is {value!r}, expected a list of words that starts with {' '.join(COMMAND)}")
    words = [str(word) for word in value]
    start = words[1:] if words[0] == "${env}" else words
    if start[: len(COMMAND)] != COMMAND:
        raise InputError(f"{where} is {' '.join(words[:6])} ..., expected {' '.join(COMMAND)} and its options")
    for word in words:
        if word.startswith("${") and word not in ("${env}", "${interpreter}", "${args}"):
            raise InputError(
                f"{where} has {word}, expected no other macros than ${{env}}, ${{interpreter}} and ${{args}}"
            )
    if words.count("${args}") != 1:
        raise InputError(f"{where} has ${{args}} {words.count('${args}')} times, expected it once")
    return words


def _parameter(entry: Any, where: str) -> Any:
    entry = _mapping(entry, where, "value, values, or min and max")
    known = ("value", "values", "min", "max", "distribution", "q")
    for key in entry:
        if key not in known:
            raise InputError(f"{where} has the key {key}, expected some of {', '.join(known)}")
    if "value" in entry or "values" in entry:
        values = [entry["value"]] if "value" in entry else entry["values"]
        if not isinstance(values, list) or not values:
            raise InputError(f"{where}: values is {values!r}, expected a list")
        for value in values:
            if not isinstance(value, bool | int | float | str | None):
                raise InputError(f"{where} has the value {value!r}, expected a number, a string, true, false or null")
        return optuna().distributions.CategoricalDistribution(values)
    low, high = (_number(entry.get(key), f"{where}: {key}") for key in ("min", "max"))
    whole = all(isinstance(entry[key], int) for key in ("min", "max"))
    kind = entry.get("distribution", "int_uniform" if whole else "uniform")
    if kind == "log_uniform":
        low, high = math.exp(low), math.exp(high)
    elif kind not in ("int_uniform", "uniform", "q_uniform", "log_uniform_values"):
        names = "constant, categorical, int_uniform, uniform, q_uniform, log_uniform or log_uniform_values"
        raise InputError(f"{where}: distribution is {kind!r}, expected {names}")
    if low > high or (kind == "log_uniform_values" and low <= 0):
        least = "a positive min and " if kind == "log_uniform_values" else ""
        raise InputError(f"{where}: min is {low} and max is {high}, expected {least}max of at least min")
    step = _number(entry.get("q", 1), f"{where}: q") if kind == "q_uniform" else None
    if step is not None and step <= 0:
        raise InputError(f"{where}: q is {step}, expected a positive step")
    if kind == "int_uniform":
        return optuna().distributions.IntDistribution(int(low), int(high))
    return optuna().distributions.FloatDistribution(low, high, log=kind.startswith("log"), step=step)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{where} is {value!r}, expected a number")
    return value


def _halving(entry: Any, where: str) -> dict[str, int] | None:
    if entry is None:
        return None
    entry = _mapping(entry, where, "type, min_iter and eta")
    if entry.get("type") != "hyperband":
        raise InputError(f"{where}: type is {entry.get('type')!r}, expected hyperband")
    factor = _whole(entry.get("eta", 3), f"{where}: eta", least=2)
    if "min_iter" in entry:
        return {"min_resource": _whole(entry["min_iter"], f"{where}: min_iter"), "reduction_factor": factor}
    greatest, brackets = (_whole(entry.get(key), f"{where}: {key}") for key in ("max_iter", "s"))
    return {"min_resource": max(1, greatest // factor**brackets), "reduction_factor": factor}
