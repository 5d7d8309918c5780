"""Runs stages: each in a process of its own, with a log beside its ledger, side by side, and again where it stopped."""

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from dkp.config_files import run_config
from dkp.errors import InputError
from dkp.files import move_aside, write_text
from dkp.pipeline.stages import Stage, StageLedger, StageRecord
from dkp.progress import Progress
from dkp.workers import cores

RUNTIME = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 31),
    "MALLOC_TOP_PAD_": str(1 << 28),
}
"""Idle threads sleep instead of spinning on the core that the data loader needs, and glibc keeps freed blocks: training
small networks on a CPU allocates the same large blocks in every step."""

POLL = 1.0
"""Time between two looks at what a process has written [s]."""

PATIENCE = 30.0
"""Time that a process gets to end by itself [s]."""

INTERRUPTED = (130, 143)
"""Statuses of a `dkp` that was ended by Ctrl-C or SIGTERM."""


class StageFailed(InputError):
    """A command ended with another status than 0.

    Attributes:
        status: 2 where its input is not usable; less than 0 where a signal ended it; else it broke.
        last: the last line of its log.
    """

    def __init__(self, name: str, status: int, log: Path) -> None:
        self.status = status
        self.last = last_line(log)
        super().__init__(f"{name} ended with status {status}; the end of {log}: {self.last}")


@dataclass(frozen=True)
class Task:
    """Stages that run one after the other, beside those of other tasks.

    Attributes:
        name: for people.
        work: runs them, with so many threads for each process.
        after: name of the task that has to end well before.
    """

    name: str
    work: Callable[[int], None]
    after: str | None = None


class Runner:
    """Runs stages.

    Args:
        progress: shows how far they are.
        portable: how words of a command are recorded.
    """

    def __init__(self, progress: Progress, portable: Callable[[Sequence[str]], Sequence[str]] = list) -> None:
        self.progress = progress
        self.portable = portable
        self._processes: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run_tasks(self, tasks: Sequence[Task], jobs: int, ended: Callable[[Task, InputError | None], None]) -> None:
        """Run tasks side by side, each after the one that it waits for.

        Args:
            tasks: in the order in which they are begun, where there is a choice.
            jobs: how many at a time; they divide the cores between them.
            ended: told of each task that ended, and of why it failed; what it raises ends all others.
        """
        waiting, running = list(tasks), dict[Future[None], Task]()
        names = {task.name for task in tasks}
        done, failed = set[str | None](), set[str | None]()
        with ThreadPoolExecutor(jobs) as pool:
            try:
                while waiting or running:
                    ready = [task for task in waiting if task.after not in names or task.after in done]
                    side_by_side = min(jobs, len(running) + len(ready))
                    for task in ready[: jobs - len(running)]:
                        waiting.remove(task)
                        running[pool.submit(task.work, max(1, cores() // side_by_side))] = task
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        task, error = running.pop(future), future.exception()
                        if error is not None and not isinstance(error, InputError):
                            raise error
                        (done if error is None else failed).add(task.name)
                        ended(task, error)
                    while hopeless := [task for task in waiting if task.after in failed]:
                        for task in hopeless:
                            waiting.remove(task)
                            failed.add(task.name)
                            ended(task, InputError(f"{task.after}, which it starts from, failed"))
            except BaseException:
                self.stop()
                raise

    def run(self, stage: Stage, ledger: StageLedger, file: Path, threads: int, title: str = "") -> None:
        """Run a stage, or go on with it, and note it in a ledger.

        Args:
            stage: which the ledger does not have.
            ledger: of it.
            file: of the ledger; the log lies beside it.
            threads: of the process.
            title: of the stage, for people; by default its name.

        Raises:
            StageFailed: the command ended with another status than 0.
        """
        resumed = (
            stage.words[0] == "fit"
            and ledger.begun.get(stage.name) == stage.key
            and (stage.output / "config.yaml").is_file()
        )
        if not (resumed or stage.shared):
            move_aside(stage.output)
        with self._lock:
            ledger.begun[stage.name] = stage.key
            ledger.write(file)
        log = file.with_name(f"{stage.name.replace(' ', '-')}.log")
        try:
            run = self._run_shared if stage.shared else self._run
            made = run(stage, log, threads, title or stage.name, resumed)
        except StageFailed as error:
            if error.status > 0 and error.status not in INTERRUPTED and not self._stopped:
                with self._lock:
                    del ledger.begun[stage.name]
                    ledger.write(file)
            raise
        with self._lock:
            del ledger.begun[stage.name]
            ledger.stages[stage.name] = made
            ledger.write(file)

    def _run_shared(self, stage: Stage, log: Path, threads: int, title: str, resumed: bool) -> StageRecord:
        """Run a stage that others have, too, or wait for the one that runs it; the record is that of its run."""
        path = stage.output.with_suffix(".json")
        with FileLock(stage.output.with_suffix(".lock")):
            if path.is_file():
                return StageRecord(**{**json.loads(path.read_text()), "key": stage.key})
            move_aside(stage.output)
            made = self._run(stage, log, threads, title, resumed)
            write_text(path, json.dumps(asdict(made)))
        return made

    def _run(self, stage: Stage, log: Path, threads: int, title: str, resumed: bool) -> StageRecord:
        began = time.monotonic()
        words = ["resume", str(stage.output)] if resumed else stage.words
        self.process(words, stage.output, log, threads, title)
        minutes = round((time.monotonic() - began) / 60, 3)
        command = shlex.join(["dkp", *self.portable(stage.words)])
        return StageRecord(stage.key, command, minutes, threads, resumed)

    def process(
        self,
        words: Sequence[str],
        output: Path,
        log: Path,
        threads: int,
        title: str,
        going_on: Callable[[], bool] = lambda: True,
    ) -> None:
        """Run a command and show how far it is.

        Args:
            words: of the command, without "dkp".
            output: the folder that it makes.
            log: what it prints is added to this file.
            threads: of the process.
            title: for people.
            going_on: asked every now and then whether it is worth going on; else the process is ended.

        Raises:
            StageFailed: it ended with another status than 0, or was ended.
        """
        environment = {**RUNTIME, **os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        with log.open("a") as stream:
            with self._lock:
                if self._stopped:
                    raise InputError(f"{title} was stopped")
                command = [sys.executable, "-m", "dkp", *words]
                process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment)
                self._processes.add(process)
            try:
                with self.progress.shown(title) as show:
                    while (status := status_of(process, POLL)) is None:
                        show(*steps_of(output))
                        if not going_on():
                            end([process])
            finally:
                end([process])
                with self._lock:
                    self._processes.discard(process)
        if status:
            raise StageFailed(title, status, log)

    def stop(self) -> None:
        """End the processes that run; no further one is begun."""
        with self._lock:
            self._stopped = True
            processes = list(self._processes)
        end(processes)


def status_of(process: subprocess.Popen, seconds: float) -> int | None:
    """Wait for a process; its status, or None where it still runs after so long [s]."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def end(processes: Sequence[subprocess.Popen]) -> None:
    """End processes: politely, and then not."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.terminate()
    limit = time.monotonic() + PATIENCE
    for process in running:
        if status_of(process, max(0.0, limit - time.monotonic())) is None:
            process.kill()
            process.wait()


def steps_of(run: Path) -> tuple[int, int | None]:
    """Return the steps that a run has done, from its metrics.csv, and its steps in all, from its configuration."""
    try:
        lines = (run / "metrics.csv").read_text().splitlines()
        column = lines[0].split(",").index("step")
        return int(lines[-1].split(",")[column]) + 1, max_steps(run / "config.yaml")
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return 0, None


@cache
def max_steps(config: Path) -> int:
    """Return the steps in all of a run, from its configuration."""
    return int(run_config(config)["trainer"]["max_steps"])


def last_line(log: Path) -> str:
    """Return the last line of a log that says anything, without the mark of an error."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("dkp: error: ") if lines else "nothing was printed"


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a folder, which need not be there; a process that dies gives it back.

    Raises:
        InputError: another process holds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(f"{folder} is in use by another dkp, expected it to have ended") from error
    try:
        yield
    finally:
        lock.release()
