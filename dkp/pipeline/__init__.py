"""The main job: labelled source and unlabelled target in; teacher, control, adapted detector and their table out."""

import inspect
import json
import time
from pathlib import Path

from rich.console import Console

from dkp.captures import Capture
from dkp.files import write_text
from dkp.pipeline.captures import (
    BUILT_IN,
    RENDERED,
    SCRATCH,
    check_same_surface,
    choose_teacher,
    prepare_fields,
    prepare_source,
    prepare_target,
)
from dkp.pipeline.figure import draw_figure
from dkp.pipeline.job import SUMMARY, Job, evaluated_on, recipes_of
from dkp.pipeline.outline import command_of, outline, told_when_stopped
from dkp.pipeline.report import report
from dkp.pipeline.runner import only_one
from dkp.progress import Progress
from dkp.viz import summary_markdown, summary_table
from dkp.weights import card

__all__ = ["train"]


def train(
    capture: str = "synthetic",
    seed: int = 0,
    source: str | None = None,
    domain: str | None = None,
    data: str | None = None,
    runs: str = "runs",
    captures: str = "captures",
    accelerator: str | None = None,
    recipes: str | None = None,
    teacher: str | None = None,
    overrides: list[str] | None = None,
) -> None:
    """Adapt a teacher to the unlabelled views of a target, and report on teacher, control and adapted detector.

    Started again after it was stopped, it goes on where it was.

    Args:
        capture: The target: "synthetic" (rendered people), "dog" (rendered dogs), "board" or "person" (small real
            recordings), or the folder of a capture.
        seed: Of everything random.
        source: Folder of a labelled capture on the same surface; by default one is rendered, and of a recording also
            its own subject before its cameras, from which the adapted detector learns.
        domain: Domain of rendered people or dogs for the source, see `dkp synthesize`; that of a recorded subject is
            the recipe's.
        data: Folder that holds the recordings `board/` and `person/`; by default the environment variable DKP_DATA.
            Without it the person is fetched with pip.
        runs: Folder of runs.
        captures: Folder for the captures that this job renders or imports; an existing one is used again.
        accelerator: "cpu" or "gpu"; by default what the recipes say, the GPU where there is one.
        recipes: Folder of control.yaml, adapted.yaml and evaluate.yaml (with a teacher from scratch teacher.yaml),
            such as a copy of one in configs that was edited; by default the folder in configs that has the shipped
            teacher's name, or fits the target.
        teacher: Name of a shipped detector (see `dkp weights`), which is the teacher and the start of both students,
            with its size of crops; "scratch" to train a small teacher on the source; or a folder of fields that another
            program has saved of the target's views, such as IUV images (see `dkp import fields`), from which a small
            teacher is trained. By default the shipped detector of the target's surface (people: human-small, dogs:
            dog-small); where there is none, "scratch".
        overrides: Further options for all fits, such as --trainer.max_steps=100.
    """
    if teacher not in (None, SCRATCH) and not Path(teacher).is_dir():
        card(teacher)  # a name that is none is told before anything is rendered
    given = dict(locals())
    console = Console()
    name = capture if capture in BUILT_IN else Path(capture).resolve().name
    folder, made = Path(runs) / f"train-{name}-seed{seed}", list[Path]()
    command = command_of(given, {key: one.default for key, one in inspect.signature(train).parameters.items()})
    console.print(outline(folder, teacher), soft_wrap=True, highlight=False)
    started = time.monotonic()
    with told_when_stopped(console, folder, made, command):
        target = prepare_target(capture, Path(captures), seed, data, console)
        made.append(target)
        if teacher is not None and Path(teacher).is_dir():
            source, teacher = str(prepare_fields(Path(teacher), target, Path(captures), console)), SCRATCH
        shipped = choose_teacher(teacher, Path(recipes) if recipes else None, target)
        labelled = (
            Path(source) if source else prepare_source(capture, Path(captures), seed, domain, target, shipped, console)
        )
        made.append(labelled)
        check_same_surface(labelled, target)
        recipe_files = Path(recipes) if recipes else recipes_of(capture, target, shipped)
        recorded = source is None and capture not in RENDERED
        job = Job(folder, recipe_files, labelled, target, seed, accelerator, shipped, recorded)
        tested = evaluated_on(Capture.open(target))
        console.print(f"training by {recipe_files}, logs in {folder}/*.log; tested: {tested}", soft_wrap=True)
        with only_one(folder):
            with Progress(console) as progress:
                job.run(progress, overrides or [])
            summary = job.summary()
            figure = draw_figure(folder)
            report([str(folder)])
            write_text(folder / "summary.md", summary_markdown(summary))
            write_text(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")  # the last: the job is complete
    minutes = (time.monotonic() - started) / 60
    console.print(summary_table(summary, title=f"{name}, seed {seed}: {tested}"))
    console.print(
        f"{minutes:.1f} minutes. Table: {folder / SUMMARY}, figure: {figure}, report: {folder / 'report.html'}",
        soft_wrap=True,
    )
