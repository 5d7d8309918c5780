"""Writes a study's results: records, summary.json, tables, pictures."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dkp.files import write_text
from dkp.recipes import recipe_folder
from dkp.study.pictures import draw_curve, draw_methods, draw_training
from dkp.study.plan import Cell, Plan
from dkp.study.recipe import Folders
from dkp.study.record import Record, read_records
from dkp.study.summary import Results, gather, ordering_holds, summary
from dkp.study.tables import NOTHING, ablation_page, capture_page

WRITTEN = "Written by `dkp study report`; do not edit. Values are means ± standard deviations over seeds."


def command(plan: Plan) -> str:
    """Beginning of the command that runs cells of a plan: by its name if it is in configs/study, else by its file."""
    own = plan.path.resolve().parent != recipe_folder() / "study"
    name = shlex.quote(str(plan.path)) if own else plan.path.stem
    return f"dkp study run{'' if name == 'full' else f' {name}'} --only"


def collect(plan: Plan, runs: Path, folder: Path, overrides: Mapping[str, Any]) -> Results:
    """Copy the records of finished cells to the results, and read all that are there.

    Args:
        plan: the study.
        runs: folder of the cells.
        folder: of the results.
        overrides: options for every fit that the cells were run with.
    """
    cells = {cell.name for cell in plan.cells()}
    kept = read_records(folder / "cells")
    fresh = gather(plan, read_records(runs), overrides)
    for name, record in fresh.records.items():
        record.write(folder / "cells" / f"{name}.json")
        kept[name] = record
    for name, error in fresh.failed.items():
        if name not in kept:
            capture, method, seed = name.split("/")
            number = int(seed.removeprefix("seed"))
            kept[name] = Record(name, capture, method, number, state="failed", error=error)
    results = gather(plan, {name: record for name, record in kept.items() if name in cells}, overrides)
    results.stale = sorted({*results.stale, *fresh.stale} - results.records.keys())
    return results


def write_report(plan: Plan, folders: Folders, folder: Path) -> Results:
    """Write everything.

    Args:
        plan: the study.
        folders: where its cells are.
        folder: of the results.

    Returns:
        The results.
    """
    results = collect(plan, folders.runs, folder, folders.overrides)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "summary.json", json.dumps(summary(results), indent=1) + "\n")
    write_text(folder / "methods.md", methods_page(results, folders, folder))
    if results.plan.ablations:
        write_text(folder / "ablations.md", ablations_page(results, folder))
    return results


def methods_page(results: Results, folders: Folders, folder: Path) -> str:
    """Return the page of all captures, with its pictures."""
    plan = results.plan
    parts = ["# Methods side by side", WRITTEN]
    for capture in plan.captures:
        parts.append(capture_page(results, capture, command(plan)))
        if draw_methods(results, capture, folder / f"{capture}.png"):
            parts.append(f"![Methods on {capture}]({capture}.png)")
        for method in plan.pictures:
            cell = Cell(plan.captures[capture], plan.methods[method], plan.seeds[0])
            path = folder / f"{capture}-{method}-training.png"
            drawn = cell.name in results.records and draw_training(cell, folders.folder(cell), path)
            if drawn or (cell.name in results.records and path.exists()):
                parts.append(
                    f"Fields and epipolar error of a pair of test views in the course of the training: "
                    f"{plan.methods[method].title}, seed {cell.seed}.\n\n![{method}]({path.name})"
                )
    if plan.ordering:
        parts += ["## Ordering", *ordering_lines(results)]
    if results.failed:
        parts.append("## Failed cells")
        parts.append("\n".join(f"* {name}: {error}" for name, error in sorted(results.failed.items())))
    if results.stale:
        parts.append("## Cells run by another recipe than the present one, not counted")
        parts.append("\n".join(f"* {name}" for name in results.stale))
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def ordering_lines(results: Results) -> list[str]:
    """Return a sentence for every capture and seed about the plan's ordering."""
    titles = ", ".join(results.plan.ordering)
    said = {True: "holds", False: "does not hold", None: NOTHING}
    lines = [f"* {where}: {said[holds]}" for where, holds in ordering_holds(results)]
    return [f"From the highest median geodesic error to the lowest: {titles}.", "\n".join(lines) or NOTHING]


def ablations_page(results: Results, folder: Path) -> str:
    """Return the page of all ablations, with their curves."""
    parts = ["# Ablations", WRITTEN, "The command beside a row runs it alone, with the teachers that it needs."]
    parts.append(ablation_page(results, command(results.plan)))
    for name, ablation in results.plan.ablations.items():
        for capture in ablation.captures:
            if draw_curve(results, ablation, capture, folder / f"{capture}-{name}.png"):
                parts.append(f"![{ablation.title}]({capture}-{name}.png)")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"
