"""Runs the cells of a study: one process for each core, again where it stopped, on where a cell fails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from dkp.commit import commit
from dkp.config_files import run_config
from dkp.errors import InputError
from dkp.pipeline.runner import Runner, Task
from dkp.pipeline.stages import read_metrics, to_do
from dkp.progress import Progress
from dkp.study.plan import Cell, Plan
from dkp.study.recipe import Folders, detector, keys, shipped, stages, test_folder
from dkp.study.record import FILE, Record, machine, measured, portable


def record_path(runs: Path, cell: Cell) -> Path:
    """Return the file of a cell's record."""
    return runs / cell.name / FILE


def is_done(plan: Plan, cell: Cell, folders: Folders) -> bool:
    """Whether a cell has been run by its present recipe."""
    path = record_path(folders.runs, cell)
    if not path.is_file():
        return False
    record = Record.read(path)
    return record.state == "done" and record.key == keys(plan, cell, folders.overrides)["test"]


@dataclass
class Cells:
    """Runs cells.

    Attributes:
        plan: theirs.
        folders: where they read and write; captures that could not be had are missing there.
        jobs: how many processes at a time.
        progress: shows how far they are.
        unavailable: why a capture is missing, by capture setting and seed.
    """

    plan: Plan
    folders: Folders
    jobs: int
    progress: Progress
    unavailable: Mapping[tuple[str, int], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.runner = Runner(self.progress, self._portable)

    def run(self, cells: Sequence[Cell]) -> dict[str, str]:
        """Run cells, each after the one that it starts from.

        Returns:
            Cell -> why it failed, for those that did; a cell whose start failed is among them.
        """
        left = {cell.name: cell for cell in cells if not is_done(self.plan, cell, self.folders)}
        if len(left) < len(cells):
            self.progress.say(f"{len(cells) - len(left)} of {len(cells)} cells are done already")
        failed: dict[str, str] = {}

        def ended(task: Task, error: InputError | None) -> None:
            path = record_path(self.folders.runs, left[task.name])
            record = Record.read(path) if path.is_file() else Record.new(left[task.name])
            if error is None:
                self.progress.say(f"{task.name}: done, {record.minutes:.1f} minutes")
                return
            failed[task.name] = str(error)
            record.state, (record.error,) = "failed", self._portable([str(error)])
            record.write(path)
            self.progress.say(f"{task.name}: failed: {error}")

        tasks = []
        for cell in left.values():
            start = self.plan.start(cell)
            tasks.append(Task(cell.name, partial(self._run, cell), None if start is None else start.name))
        self.runner.run_tasks(tasks, self.jobs, ended)
        return failed

    def _run(self, cell: Cell, threads: int) -> None:
        """Run the stages of a cell that have not been run by their present recipe."""
        self.progress.say(f"{cell.name}: begins")
        missing = self.unavailable.get((cell.capture.name, cell.seed))
        if missing is not None:
            raise InputError(missing)
        folder, path = self.folders.folder(cell), record_path(self.folders.runs, cell)
        recipe = stages(self.plan, cell, self.folders)
        before = Record.read(path) if path.is_file() else Record.new(cell)
        left = to_do(recipe, before)
        record = Record.new(cell)
        record.stages, record.begun = before.stages, before.begun
        record.key, record.commit, record.machine = recipe[-1].key, commit(), machine()
        record.started = datetime.now(UTC).isoformat(timespec="seconds")
        for stage in left:
            self.runner.run(stage, record, path, threads, f"{cell.name} {stage.name}")
        record.metrics = measured(read_metrics(test_folder(folder, cell) / "metrics.json"))
        if shipped(cell) is None:
            record.steps = cell.method.rounds * int(run_config(detector(folder, cell)[0])["trainer"]["max_steps"])
        record.state = "done"
        record.write(path)

    def _portable(self, words: Sequence[str]) -> list[str]:
        """Words with names for this machine's folders."""
        found = {self.folders.runs: "runs/study"}
        for captures in (self.folders.sources, self.folders.targets):
            found |= {path: f"captures/{path.name}" for path in captures.values()}
        return portable(words, found)
