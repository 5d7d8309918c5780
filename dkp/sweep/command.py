"""``dkp sweep``: trials one after the other, a table, and the best configuration."""

import csv
import shutil
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dkp.errors import InputError
from dkp.files import whole_file, write_text
from dkp.pipeline.runner import Runner, only_one
from dkp.progress import Progress
from dkp.sweep.file import Sweep, options_of, read_sweep
from dkp.sweep.study import CONTINUES, Row, Study
from dkp.sweep.trial import run_trial

TABLE = "trials.csv"
BEST = "best.yaml"


def sweep(
    file: str,
    *,
    trials: int | None = None,
    root: str = "runs",
    name: str | None = None,
    seed: int = 0,
    overrides: list[str] | None = None,
) -> None:
    """Run the trials of a sweep one after the other, without any account; started again, it goes on.

    ROOT/NAME gets a folder and a log for every trial, `trials.csv`, and `best.yaml`, the configuration of the best.

    Args:
        file: YAML file in the format of Weights & Biases, such as configs/sweep/grid.yaml.
        trials: How many trials in all; default: the file's run_cap, or all of a grid.
        root: Folder of all runs.
        name: Name of the sweep's folder below root; default: the file's name.
        seed: Of the random choices of values; a run's own seed is --seed_everything.
        overrides: Further options for all trials, such as --trainer.max_steps=100.

    Raises:
        InputError: the file is wrong, or a trial refuses its options.
    """
    plan = read_sweep(file)
    name = name or plan.name
    total = _total(plan, file, trials)
    folder = Path(root) / name
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    with only_one(folder), Progress(console) as progress:
        study = Study(folder, plan, seed, overrides or [])
        shutil.copyfile(file, folder / "sweep.yaml")
        runner = Runner(progress)
        rows = study.rows()
        if rows:
            progress.say(f"{folder}: {len(rows)} of {total} trials are done")
        while len(rows) < total:
            _one_trial(study, plan, runner, folder, Path(root), overrides or [])
            rows = study.rows()
            write_table(folder / TABLE, plan, rows)
            progress.say(_line(rows, plan, total))
        best = study.best()
        if best is None:
            raise InputError(f"{folder}: none of {len(rows)} trials ended with a number; the last: {rows[-1].reason}")
        write_table(folder / TABLE, plan, rows)
        write_text(folder / BEST, (folder / run_name(best.number) / "config.yaml").read_text())
    console.print(_shown(rows, best, plan, f"{folder}: {plan.metric}, {plan.direction}"))
    console.print(f"best: trial {best.number}, {' '.join(options_of(best.values))}", soft_wrap=True, highlight=False)
    console.print(f"its configuration: {folder / BEST}, all trials: {folder / TABLE}", soft_wrap=True)


def _total(plan: Sweep, file: str, trials: int | None) -> int:
    wanted = trials if trials is not None else plan.cap
    if wanted is not None and wanted < 1:
        raise InputError(f"trials is {wanted}, expected at least 1")
    if plan.method == "grid":
        size = len(plan.grid())
        return size if wanted is None else min(size, wanted)
    if wanted is None:
        raise InputError(f"{file} has no run_cap, expected one or --trials with the method {plan.method}")
    return wanted


def run_name(number: int) -> str:
    """Name of a trial's folder."""
    return f"trial-{number:03d}"


def _one_trial(study: Study, plan: Sweep, runner: Runner, folder: Path, root: Path, overrides: list[str]) -> None:
    trial, values = study.ask()
    name = run_name(trial.number)
    run = folder / name
    # The last words win: only metrics.csv is written, into a folder of the sweep.
    last = ["--trainer.logger=true", f"--root={root}", f"--name={folder.name}/{name}"]
    words = [*plan.words(values), *overrides, *last]
    if CONTINUES in trial.user_attrs:
        interrupted = folder / run_name(trial.user_attrs[CONTINUES])
        if (interrupted / "config.yaml").is_file():
            interrupted.rename(run)
            words = ["resume", str(run)]
    started = time.monotonic()
    outcome = run_trial(runner, words, run, plan.metric, lambda count, value: study.going_on(trial, count, value))
    study.tell(trial, outcome, time.monotonic() - started)
    if outcome.refused and study.best() is None:
        # Most likely the file is wrong, and every further trial would fail like this one.
        raise InputError(f"trial {trial.number} was refused ({outcome.reason}), expected options that dkp fit takes")


def write_table(path: Path, plan: Sweep, rows: list[Row]) -> None:
    """Write a line for every trial."""
    with whole_file(path) as partial, partial.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["trial", "state", plan.metric, "seconds", *plan.parameters, "reason"])
        for row in rows:
            value = "" if row.value is None else row.value
            writer.writerow([row.number, row.state, value, f"{row.seconds:.1f}", *row.values.values(), row.reason])


def _line(rows: list[Row], plan: Sweep, total: int) -> str:
    row = rows[-1]
    value = row.reason if row.value is None else f"{plan.metric} {row.value:.5g}"
    return f"{len(rows)} of {total}: trial {row.number} {row.state}, {value} ({' '.join(options_of(row.values))})"


def _shown(rows: list[Row], best: Row, plan: Sweep, title: str) -> Table:
    table = Table(title=title)
    for heading in ("trial", "state", "value", *plan.parameters):
        table.add_column(heading, justify="right", overflow="fold")
    sign = 1 if plan.direction == "minimize" else -1
    for row in sorted(rows, key=lambda row: (row.value is None, sign * (row.value or 0.0))):
        value = "-" if row.value is None else f"{row.value:.5g}"
        cells = [f"{cell:.5g}" if isinstance(cell, float) else str(cell) for cell in row.values.values()]
        table.add_row(str(row.number), row.state, value, *cells, style="bold" if row.number == best.number else None)
    return table
