"""Stages: `dkp` commands in processes of their own, run once, each with a log, and gone on with where they stopped.

A stage is a command with the folder that it makes and a fingerprint of all that its result depends on. A ledger, which
is a file beside the logs, says which stages have been run by which fingerprint and which have begun. A stage that the
ledger has is not run again; a fit that was interrupted is resumed in its folder; what else is left of a stage is moved
aside.
"""

import csv
import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Self

from dkp.errors import InputError
from dkp.files import write_text


def digest(value: Any) -> str:
    """Return twelve digits that differ for different values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=list).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Stage:
    """A command and what it makes.

    Attributes:
        name: in the ledger, and of its log.
        words: of the command, without "dkp".
        output: the folder that it makes.
        key: fingerprint of everything that its result depends on but the code and the machine.
        shared: whether other ledgers have the same stage, which is then run once for all.
    """

    name: str
    words: Sequence[str]
    output: Path
    key: str
    shared: bool = False


@dataclass
class StageRecord:
    """A stage that has been run.

    Attributes:
        key: fingerprint of its recipe.
        command: as it was run.
        minutes: of wall time.
        threads: of the process.
        resumed: whether it had been interrupted; the minutes are those since then.
    """

    key: str
    command: str
    minutes: float
    threads: int
    resumed: bool = False


@dataclass(kw_only=True)
class StageLedger:
    """What has been run.

    Attributes:
        stages: by name, in order.
        begun: keys of the stages that have begun and not ended, by name.
    """

    stages: dict[str, StageRecord] = field(default_factory=dict)
    begun: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        held = asdict(self)
        held |= {key: held.pop(key) for key in ("stages", "begun")}  # long: below what a reader looks for
        write_text(path, json.dumps(held, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            InputError: it is no such file.
        """
        try:
            held = json.loads(path.read_text())
            stages = {name: StageRecord(**stage) for name, stage in held["stages"].items()}
            return cls(**{**held, "stages": stages})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path}: found {type(error).__name__}, expected a ledger of stages") from error


def has(ledger: StageLedger, stage: Stage) -> bool:
    """Whether a ledger has a stage by its present key."""
    return stage.name in ledger.stages and ledger.stages[stage.name].key == stage.key


def to_do(stages: Sequence[Stage], ledger: StageLedger) -> list[Stage]:
    """Return the stages from the first that the ledger does not have by its present key; it forgets all others."""
    done = list(takewhile(lambda stage: has(ledger, stage), stages))
    ledger.stages = {stage.name: ledger.stages[stage.name] for stage in done}
    return list(stages[len(done) :])


def read_metrics(file: Path) -> dict[str, float | None]:
    """Return the metrics of a metrics.json.

    Raises:
        InputError: there are none.
    """
    try:
        metrics: dict[str, float | None] = json.loads(file.read_text())["metrics"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: found {type(error).__name__}, expected the metrics of a run") from error
    return metrics


def read_curves(file: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the columns of a metrics.csv over the steps; it may just be written: what is not complete is left out."""
    try:
        head, *rows = list(csv.reader(file.read_text().splitlines()))
    except (OSError, ValueError, csv.Error):
        return {}
    found: dict[str, list[tuple[int, float]]] = {}
    for row in (row for row in rows if len(row) == len(head)):
        for name, cell in zip(head, row, strict=True):
            with suppress(ValueError):
                point = int(row[head.index("step")]), float(cell)
                found.setdefault(name, []).append(point)
    return found
