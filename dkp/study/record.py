"""What is kept of a cell: its state while it runs, and its result with all that is needed to judge it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from dkp.bench.machine import describe_machine
from dkp.metrics.names import is_detail
from dkp.pipeline.stages import StageLedger
from dkp.recipes import recipe_folder
from dkp.study.plan import Cell

FILE = "cell.json"

State = Literal["unfinished", "done", "failed"]


@dataclass
class Record(StageLedger):
    """A cell's file.

    Attributes:
        cell: CAPTURE/METHOD/seedN.
        capture, method, seed: the same in parts.
        state: "done" with metrics, "failed" with an error, or "unfinished".
        key: fingerprint of the whole recipe.
        error: why it failed.
        started: when, ISO 8601.
        commit: of the code.
        machine: that it ran on.
        steps: of its fits together, its teacher's not counted.
        metrics: of the test.
    """

    cell: str
    capture: str
    method: str
    seed: int
    state: State = "unfinished"
    key: str = ""
    error: str | None = None
    started: str = ""
    commit: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    metrics: dict[str, float | None] = field(default_factory=dict)

    @property
    def minutes(self) -> float:
        """Wall time of its stages together."""
        return sum(stage.minutes for stage in self.stages.values())

    @classmethod
    def new(cls, cell: Cell) -> Record:
        """Return the record of a cell of which nothing has been run."""
        return cls(cell.name, cell.capture.name, cell.method.name, cell.seed)


def read_records(folder: Path) -> dict[str, Record]:
    """Return the records below a folder, by the cell's name."""
    records = (Record.read(path) for path in sorted(folder.glob("*/*/*.json")) + sorted(folder.glob(f"*/*/*/{FILE}")))
    return {record.cell: record for record in records}


def measured(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """Metrics of a test under their bare names, without those of single camera pairs and joints."""
    bare = {name.removeprefix("test/"): value for name, value in metrics.items()}
    return {name: value for name, value in bare.items() if not is_detail(name)}


def portable(words: Sequence[str], folders: Mapping[Path, str]) -> list[str]:
    """Return a command without this machine's folders.

    Args:
        words: of a command.
        folders: paths and what is written instead.
    """
    replaced = {str(place): name for place, name in {recipe_folder(): "configs", **folders}.items()}
    paths = "|".join(re.escape(path) for path in sorted(replaced, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w./-])({paths})(?![\w.-])")
    return [pattern.sub(lambda match: replaced[match[1]], word) for word in words]


@cache
def machine() -> dict[str, Any]:
    """Return the machine, without what changes from minute to minute."""
    return {key: value for key, value in describe_machine().items() if key not in ("load", "threads")}
