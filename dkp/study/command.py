"""The commands `dkp study run`, `status`, `report` and `check`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from dkp.errors import InputError
from dkp.pipeline.captures import prepare_source, prepare_target
from dkp.progress import Progress
from dkp.study.cells import Cells, is_done, record_path
from dkp.study.check import NotReproduced, differences
from dkp.study.plan import Cell, Plan, read_plan
from dkp.study.recipe import Folders, keys
from dkp.study.record import Record, read_records
from dkp.study.report import collect, write_report
from dkp.study.summary import ordering_holds
from dkp.workers import cores

Missing = dict[tuple[str, int], str]


def run(
    plan: str = "full",
    *,
    only: str | None = None,
    cut: str | None = None,
    jobs: int | None = None,
    runs: str = "runs/study",
    captures: str = "captures",
    results: str | None = None,
    data: str | None = None,
    accelerator: str | None = None,
    overrides: list[str] | None = None,
) -> None:
    """Run the cells of a study that have not been run, one process for each core, and report.

    A cell is a method on a capture with a seed. Cells that were run by the plan's present recipe are not run again; one
    that fails is recorded and the others go on.

    Args:
        plan: A file, or the name of one in configs/study.
        only: Cells, separated by commas: CAPTURE/METHOD/seedN or a beginning of it, with * and ? as wildcards. The
            teachers that they need are added.
        cut: A named part of the plan; fails where the plan's ordering of methods is not found.
        jobs: Processes at a time; default one for each core.
        runs: Folder of the cells.
        captures: Folder of the captures that are rendered or imported; an existing one is used again.
        results: Folder to write results to.
        data: Folder that holds the recording `board/`; by default the environment variable DKP_DATA.
        accelerator: "cpu" or "gpu"; by default what the recipes say, the GPU where there is one.
        overrides: Further options for all fits, such as --trainer.max_steps=100. Such cells count as another recipe.
    """
    study = read_plan(plan)
    cells = chosen(study, only, cut)
    folders, missing = prepared(study, cells, Path(runs), Path(captures), data, accelerator, overrides)
    with Progress(Console()) as progress:
        failed = Cells(study, folders, jobs or cores(), progress, missing).run(cells)
    if results is not None:
        found = write_report(study, folders, Path(results))
        print(f"dkp: results are in {results}")
        for where, holds in ordering_holds(found):
            said = "not complete" if holds is None else "holds" if holds else "does not hold"
            print(f"ordering {', '.join(study.ordering)} on {where}: {said}")
        if cut is not None and any(holds is False for _, holds in ordering_holds(found)):
            raise NotReproduced(f"the ordering {', '.join(study.ordering)} was not found; see {results}/methods.md")
    if failed:
        raise NotReproduced(f"{len(failed)} of {len(cells)} cells failed: {'; '.join(failed)}")


def status(
    plan: str = "full", *, only: str | None = None, runs: str = "runs/study", results: str = "docs/results"
) -> None:
    """List the cells of a study and whether there is a result of each.

    Args:
        plan: A file, or the name of one in configs/study.
        only: Cells, as for `dkp study run`.
        runs: Folder of the cells.
        results: Folder of the results.
    """
    study = read_plan(plan)
    own, kept = read_records(Path(runs)), read_records(Path(results) / "cells")
    table = Table(box=None)
    for head in ("cell", "in runs", "in results", "minutes"):
        table.add_column(head, justify="right" if head == "minutes" else "left")
    for cell in chosen(study, only, None):
        record = own.get(cell.name) or kept.get(cell.name)
        minutes = f"{record.minutes:.1f}" if record else ""
        table.add_row(cell.name, state(study, cell, own), state(study, cell, kept), minutes)
    Console(width=120).print(table)


def state(study: Plan, cell: Cell, records: dict[str, Record]) -> str:
    """Return a cell's state in a word."""
    record = records.get(cell.name)
    if record is None:
        return "-"
    if record.state == "done" and record.key != keys(study, cell, {})["test"]:
        return "other recipe"
    return record.state


def report(
    plan: str = "full",
    *,
    runs: str = "runs/study",
    results: str = "docs/results",
    overrides: list[str] | None = None,
) -> None:
    """Collect the results of a study's cells and write summary.json, tables and pictures.

    Args:
        plan: A file, or the name of one in configs/study.
        runs: Folder of the cells.
        results: Folder of the results; records that are there already count as well.
        overrides: The options that `dkp study run` was given.
    """
    study = read_plan(plan)
    folders = Folders(Path(runs), {}, {}, overrides=options_of(overrides))
    found = write_report(study, folders, Path(results))
    print(
        f"dkp: {len(found.records)} of {len(study.cells())} cells have a result, {len(found.failed)} failed, "
        f"{len(found.stale)} were run by another recipe; written to {results}"
    )


def check(
    plan: str = "full",
    *,
    cell: str | None = None,
    runs: str = "runs/study-check",
    captures: str = "captures",
    results: str = "docs/results",
    data: str | None = None,
    accelerator: str | None = None,
    overrides: list[str] | None = None,
) -> None:
    """Run a cell again and compare it with the committed result.

    Args:
        plan: A file, or the name of one in configs/study; its tolerances count.
        cell: CAPTURE/METHOD/seedN; default the one that the plan names.
        runs: Folder of the run; a cell that is there already is not run again.
        captures: Folder of the captures that are rendered or imported; an existing one is used again.
        results: Folder of the committed results.
        data: Folder that holds the recording `board/`; by default the environment variable DKP_DATA.
        accelerator: "cpu" or "gpu"; by default what the recipes say, the GPU where there is one.
        overrides: The options that the committed cell was run with.

    Raises:
        NotReproduced: the cell fails or lies outside the tolerance.
    """
    study = read_plan(plan)
    name = cell or study.check.get("cell")
    tolerance = study.check.get("tolerance") or {}
    if not name or not tolerance:
        raise InputError(f"plan {study.path}: check has no cell or no tolerance; expected both, or --cell")
    cells = study.select((name,))
    wanted = [one for one in cells if one.name == name]
    if not wanted:
        raise InputError(f"--cell {name} is no whole name of a cell, expected CAPTURE/METHOD/seedN")
    given = options_of(overrides)
    committed = collect(study, Path(runs) / "none", Path(results), given).records.get(name)
    if committed is None:
        raise InputError(f"{results}/cells/{name}.json: no result of the plan's present recipe to compare with")
    folders, missing = prepared(study, cells, Path(runs), Path(captures), data, accelerator, overrides)
    with Progress(Console()) as progress:
        failed = Cells(study, folders, cores(), progress, missing).run(cells)
    if failed:
        raise NotReproduced(f"{name} could not be run: {'; '.join(failed.values())}")
    again = Record.read(record_path(Path(runs), wanted[0]))
    table = Table("metric", "committed", "again", "difference", "tolerance", box=None)
    found = differences(committed, again, tolerance)
    for metric, before, after, difference in found:
        table.add_row(metric, f"{before:.4g}", f"{after:.4g}", f"{difference:.2%}", f"{tolerance[metric]:.0%}")
    Console(width=120).print(table)
    outside = [metric for metric, _, _, difference in found if not difference <= tolerance[metric]]
    if outside:
        raise NotReproduced(f"{name} lies outside the tolerance in {', '.join(outside)}")
    print(f"dkp: {name} was run again and lies within the tolerance (commits {committed.commit} and {again.commit})")


def chosen(study: Plan, only: str | None, cut: str | None) -> list[Cell]:
    """Return the cells that options name."""
    patterns = tuple(part.strip() for part in (only or "").split(",") if part.strip())
    if cut is not None:
        if cut not in study.cuts:
            raise InputError(f"--cut {cut} is not one of the plan's cuts: {', '.join(study.cuts) or 'it has none'}")
        patterns += study.cuts[cut]
    return study.select(patterns)


def options_of(overrides: Sequence[str] | None) -> dict[str, Any]:
    """Options like --trainer.max_steps=100 as keys and values.

    Raises:
        InputError: one has no value.
    """
    found = {}
    for word in overrides or ():
        name, equals, value = word.removeprefix("--").partition("=")
        if not equals:
            raise InputError(f"override {word!r} has no value, expected --NAME=VALUE")
        found[name] = yaml.safe_load(value)
    return found


def prepared(
    study: Plan,
    cells: Sequence[Cell],
    runs: Path,
    captures: Path,
    data: str | None,
    accelerator: str | None,
    overrides: Sequence[str] | None,
) -> tuple[Folders, Missing]:
    """Render and import the captures that cells still need, and say which could not be had."""
    console = Console()
    sources: dict[tuple[str, int], Path] = {}
    targets: dict[tuple[str, int], Path] = {}
    missing: Missing = {}
    pictures = frozenset(
        Cell(capture, study.methods[method], study.seeds[0]).name
        for capture in study.captures.values()
        for method in study.pictures
    )
    folders = Folders(runs, sources, targets, accelerator, options_of(overrides), pictures)
    for cell in cells:
        setting, key = cell.capture, (cell.capture.name, cell.seed)
        if key in targets or key in missing or is_done(study, cell, folders):
            continue
        try:
            target = (
                Path(setting.target)
                if setting.target
                else prepare_target(setting.kind, captures, cell.seed, data, console)
            )
            if setting.labels == "target":
                source = target
            elif setting.source:
                source = Path(setting.source)
            else:
                source = prepare_source(setting.kind, captures, cell.seed, None, target, setting.teacher, console)
            targets[key], sources[key] = target, source
        except InputError as error:
            missing[key] = str(error)
    return folders, missing
