"""What a main job is going to do, and what is kept of it where it is stopped."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from dkp.pipeline.captures import SCRATCH
from dkp.pipeline.job import LEDGER
from dkp.pipeline.stages import StageLedger


def outline(folder: Path, teacher: str | None) -> str:
    """Return the stages of a job in the order in which they are run, a line each.

    Args:
        folder: of its runs.
        teacher: as it was asked for.
    """
    first = "trained on the source" if teacher == SCRATCH else "the shipped one tested, or else one trained"
    stages = {
        "target": "the capture that is adapted to: rendered or imported where it is not there",
        "source": "labelled renderings, where they are not there",
        "teacher": first,
        "registered": "labels of the target's training views by the teacher, where the recipe asks for them",
        "subject": "that of a recording, rendered before the target's cameras, where the recipe asks for it",
        "control, adapted": "trained side by side",
        "tests": f"of all; then table, figure and report in {folder}",
    }
    lines = [f"  {number}. {name}: {what}" for number, (name, what) in enumerate(stages.items(), start=1)]
    told = "Each says after its first steps how long it still takes. Stopped, the same command goes on."
    return "\n".join(["this job makes, what is there already left out:", *lines, told])


def command_of(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Return the `dkp train` with these values, without those that are the defaults."""
    words = ["dkp", "train"]
    for name, value in values.items():
        if value != defaults[name]:
            words += [f"--{name}", json.dumps(value) if isinstance(value, list) else str(value)]
    return shlex.join(words)


@contextmanager
def told_when_stopped(console: Console, folder: Path, made: Sequence[Path], command: str) -> Iterator[None]:
    """Say, where a signal ends the block, what is kept and how to go on.

    Args:
        console: where.
        folder: of the job's runs.
        made: captures that are whole; may grow until then.
        command: that goes on.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        console.print(
            f"dkp: {kept(folder, made)}; go on with: {command}", soft_wrap=True, highlight=False, markup=False
        )
        raise


def kept(folder: Path, made: Sequence[Path]) -> str:
    """Return what is kept of a job that was stopped, as a phrase."""
    file = folder / LEDGER
    ledger = StageLedger.read(file) if file.is_file() else StageLedger()
    resumed = [name for name in ledger.begun if any((folder / name / "checkpoints").glob("*.ckpt"))]
    anew = [name for name in ledger.begun if name not in resumed]
    whole = [*map(str, made), *(f"stage {name}" for name in ledger.stages)]
    said = f"stopped; {', '.join(whole) or 'nothing'} {'are' if len(whole) > 1 else 'is'} kept"
    if resumed:
        said += f", {' and '.join(resumed)} will go on from the last checkpoint"
    if anew:
        said += f", {' and '.join(anew)} will begin anew"
    if len(made) < 2:
        said += ", the capture that was being made will begin anew"
    return said
