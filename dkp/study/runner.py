"""Runs the cells of a study: one process for each core, again where it stopped, on where a cell fails."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

import yaml
from filelock import FileLock

from dkp.errors import InputError
from dkp.pipeline.job import RUNTIME, StageFailed
from dkp.study.plan import Cell, Plan
from dkp.study.recipe import Places, Stage, detector, keys, stages, test_folder
from dkp.study.record import FILE, Record, StageRecord, commit, machine, measured, portable

Report = Callable[[str], None]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def record_path(runs: Path, cell: Cell) -> Path:
    """The file of a cell's record."""
    return runs / cell.name / FILE


def is_done(plan: Plan, cell: Cell, places: Places) -> bool:
    """Whether a cell has been run by its present recipe."""
    path = record_path(places.runs, cell)
    if not path.is_file():
        return False
    record = Record.read(path)
    return record.state == "done" and record.key == keys(plan, cell, places.overrides)["test"]


class Runner:
    """Runs cells.

    Args:
        plan: theirs.
        places: where they read and write; captures that could not be had are missing there.
        jobs: how many processes at a time.
        report: takes a line about each cell.
        unavailable: why a capture is missing, by capture setting and seed.
    """

    def __init__(
        self,
        plan: Plan,
        places: Places,
        jobs: int,
        report: Report,
        unavailable: dict[tuple[str, int], str] | None = None,
    ) -> None:
        self.plan = plan
        self.places = places
        self.jobs = jobs
        self.report = report
        self.unavailable = unavailable or {}
        self._processes: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, cells: Sequence[Cell]) -> dict[str, str]:
        """Run cells, each after the one that it starts from.

        Args:
            cells: with those that they start from.

        Returns:
            Cell -> why it failed, for those that did; a cell whose start failed is among them.
        """
        done = {cell.name for cell in cells if is_done(self.plan, cell, self.places)}
        waiting = [cell for cell in cells if cell.name not in done]
        failed: dict[str, str] = {}
        running: dict[Future[None], Cell] = {}
        if done:
            self.report(f"{len(done)} of {len(cells)} cells are done already")
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                while waiting or running:
                    ready = [cell for cell in waiting if self._start_name(cell) in {None, *done}]
                    side_by_side = min(self.jobs, len(running) + len(ready))
                    for cell in ready[: self.jobs - len(running)]:
                        waiting.remove(cell)
                        self.report(f"{cell.name}: begins")
                        running[pool.submit(self._cell, cell, max(1, cores() // side_by_side))] = cell
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        self._settle(running.pop(future), future, done, failed)
                    for cell in [cell for cell in waiting if self._start_name(cell) in failed]:
                        waiting.remove(cell)
                        self._fail(cell, f"{self._start_name(cell)}, which it starts from, failed", failed)
            except BaseException:
                self.stop()
                raise
        return failed

    def stop(self) -> None:
        """End the processes that run."""
        with self._lock:
            self._stopped = True
            processes = list(self._processes)
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()

    def _start_name(self, cell: Cell) -> str | None:
        start = self.plan.start(cell)
        return None if start is None else start.name

    def _settle(self, cell: Cell, future: Future[None], done: set[str], failed: dict[str, str]) -> None:
        error = future.exception()
        if error is None:
            done.add(cell.name)
            record = Record.read(record_path(self.places.runs, cell))
            self.report(f"{cell.name}: done, {record.minutes:.1f} minutes")
        elif isinstance(error, InputError):
            self._fail(cell, str(error), failed)
        else:
            raise error

    def _fail(self, cell: Cell, error: str, failed: dict[str, str]) -> None:
        failed[cell.name] = error
        path = record_path(self.places.runs, cell)
        record = Record.read(path) if path.is_file() else Record.new(cell)
        record.state, record.error, record.begun = "failed", self._plain(error), {}
        record.write(path)
        self.report(f"{cell.name}: failed: {error}")

    def _cell(self, cell: Cell, threads: int) -> None:
        """Run the stages of a cell that have not been run by their present recipe."""
        missing = self.unavailable.get((cell.capture.name, cell.seed))
        if missing is not None:
            raise InputError(missing)
        folder, path = self.places.folder(cell), record_path(self.places.runs, cell)
        todo = stages(self.plan, cell, self.places)
        record = Record.read(path) if path.is_file() else Record.new(cell)
        done = takewhile(lambda stage: stage.name in record.stages and record.stages[stage.name].key == stage.key, todo)
        kept = {stage.name: record.stages[stage.name] for stage in done}
        begun = record.begun
        record = Record.new(cell)
        record.stages = kept
        record.key, record.commit, record.machine = todo[-1].key, commit(), machine()
        record.started = datetime.now(UTC).isoformat(timespec="seconds")
        for stage in todo[len(kept) :]:
            interrupted = stage.words[0] == "fit" and begun.get(stage.name) == stage.key
            resumed = interrupted and (stage.output / "config.yaml").is_file()
            record.begun = {stage.name: stage.key}
            record.write(path)
            record.stages[stage.name] = (
                self._once(stage, folder, threads) if stage.shared else self._timed(stage, folder, threads, resumed)
            )
            record.begun = {}
            record.write(path)
        record.metrics = measured(read_metrics(test_folder(folder, cell)))
        record.steps = cell.method.rounds * int(settings(detector(folder, cell)[0])["trainer"]["max_steps"])
        record.state = "done"
        record.write(path)

    def _once(self, stage: Stage, folder: Path, threads: int) -> StageRecord:
        """Run a stage that other cells have, too, or wait for the one that runs it; the record is that of its run."""
        path = stage.output.with_suffix(".json")
        with FileLock(stage.output.with_suffix(".lock")):
            if path.is_file():
                return StageRecord(**{**json.loads(path.read_text()), "key": stage.key})
            made = self._timed(stage, folder, threads)
            part = path.with_suffix(".part")
            part.write_text(json.dumps(asdict(made)))
            part.replace(path)
        return made

    def _timed(self, stage: Stage, folder: Path, threads: int, resumed: bool = False) -> StageRecord:
        """Run a stage."""
        if not resumed:
            move_aside(stage.output)
        began = time.monotonic()
        self._stage(stage.name, ["resume", str(stage.output)] if resumed else stage.words, folder, threads)
        minutes = round((time.monotonic() - began) / 60, 3)
        command = shlex.join(["dkp", *portable(stage.words, self._folders())])
        return StageRecord(stage.key, command, minutes, threads, resumed)

    def _stage(self, name: str, words: Sequence[str], folder: Path, threads: int) -> None:
        environment = {**RUNTIME, **os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        log = folder / f"{name}.log"
        with log.open("a") as stream:
            with self._lock:
                if self._stopped:
                    raise InputError(f"{name} was stopped")
                process = subprocess.Popen(
                    [sys.executable, "-m", "dkp", *words],
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    env=environment,
                )
                self._processes.add(process)
            try:
                status = process.wait()
            finally:
                with self._lock:
                    self._processes.discard(process)
        if status:
            raise StageFailed(name, status, log)

    def _folders(self) -> dict[Path, str]:
        """This machine's folders and their names in records."""
        found = {self.places.runs: "runs/study"}
        for captures in (self.places.sources, self.places.targets):
            found |= {path: f"captures/{path.name}" for path in captures.values()}
        return found

    def _plain(self, error: str) -> str:
        return portable([error], self._folders())[0]


def move_aside(folder: Path) -> None:
    """Give what is left of a stage that did not end another name: NAME.1, NAME.2, ..."""
    if folder.exists():
        count = 1
        while (older := folder.with_name(f"{folder.name}.{count}")).exists():
            count += 1
        folder.rename(older)


def read_metrics(folder: Path) -> dict[str, float | None]:
    """The metrics that a test wrote.

    Raises:
        InputError: there are none.
    """
    try:
        metrics: dict[str, float | None] = yaml.safe_load((folder / "metrics.json").read_text())["metrics"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / 'metrics.json'}: found {type(error).__name__}, expected a test's metrics"
        ) from error
    return metrics


def settings(config: Path) -> dict:
    """A run's saved configuration."""
    held: dict = yaml.safe_load(config.read_text())
    return held
