"""What is run for a cell: its `dkp` commands, stage by stage, at the same cost for every method.

Every method takes the steps of the main job's student (`configs/main/KIND-student.yaml`) from the same teacher, and
sees as many images in a step: a method without unlabelled views sees as many labelled ones in their place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dkp.captures import Capture
from dkp.errors import InputError
from dkp.pipeline.job import FROM_REGISTERED, surface_option
from dkp.pipeline.stages import Stage, digest
from dkp.recipes import merged, recipe_folder
from dkp.study.plan import Cell, Options, Plan


@dataclass(frozen=True)
class Places:
    """Where a study reads and writes.

    Attributes:
        runs: folder of the cells' folders.
        sources, targets: folders of the captures, by capture setting and seed.
        accelerator: "cpu" or "gpu".
        overrides: options for every fit, after all others.
        pictures: names of cells whose training keeps snapshots for pictures.
    """

    runs: Path
    sources: Mapping[tuple[str, int], Path]
    targets: Mapping[tuple[str, int], Path]
    accelerator: str
    overrides: Options = field(default_factory=dict)
    pictures: frozenset[str] = frozenset()

    def folder(self, cell: Cell) -> Path:
        """A cell's folder."""
        return self.runs / cell.name


def numbered(name: str, number: int, count: int) -> str:
    """The name of one of several stages."""
    return name if count == 1 else f"{name}-{number}"


def detector(folder: Path, cell: Cell) -> tuple[Path, Path]:
    """Configuration and checkpoint of a cell's last fit."""
    run = folder / numbered("fit", cell.method.rounds, cell.method.rounds)
    return run / "config.yaml", run / "checkpoints" / "last.ckpt"


def test_folder(folder: Path, cell: Cell) -> Path:
    """Folder of a cell's test."""
    return detector(folder, cell)[0].parent / "test"


def stages(plan: Plan, cell: Cell, places: Places) -> list[Stage]:
    """The commands of a cell.

    Args:
        plan: the cell's.
        cell: whose captures are there.
        places: where it reads and writes.
    """
    folder, method = places.folder(cell), cell.method
    start = plan.start(cell)
    known = keys(plan, cell, places.overrides)
    before = None if start is None else detector(places.folder(start), start)
    made_by = "" if start is None else fitted(plan, start, places.overrides)
    target = places.targets[cell.capture.name, cell.seed]
    found = []
    for number in range(1, method.rounds + 1):
        pseudo = None
        if method.pseudo_labelled:
            assert before is not None
            name = numbered("pseudo", number, method.rounds)
            options = pseudo_label_options(cell)
            pseudo = before[0].parents[1] / f"labels-{digest([made_by, options])}"  # beside the detector
            words = ["pseudo-label", f"--config={before[0]}", f"--ckpt_path={before[1]}", f"--out={pseudo}"]
            words += [f"--capture={target}#train", "--overwrite=true"]
            words += [f"--{key}={spelled(value)}" for key, value in options.items()]
            found.append(Stage(name, words, pseudo, known[name], shared=True))
        name = numbered("fit", number, method.rounds)
        words = fit(cell, places, name, None if before is None else before[1], pseudo)
        found.append(Stage(name, words, folder / name, known[name]))
        before = folder / name / "config.yaml", folder / name / "checkpoints" / "last.ckpt"
        made_by = known[name]
    assert before is not None
    words = ["test", f"--config={before[0]}", f"--ckpt_path={before[1]}"]
    words += [f"--model.init_args.metrics={json.dumps(plan.metrics)}"] if plan.metrics else []
    found.append(Stage("test", words, before[0].parent / "test", known["test"]))
    return found


def fit(cell: Cell, places: Places, name: str, start: Path | None, pseudo: Path | None) -> list[str]:
    """The words of a `dkp fit`.

    Args:
        cell: what is trained.
        places: where it reads and writes.
        name: of the run.
        start: checkpoint of the detector that it starts from.
        pseudo: folder of the pseudo-labelled capture.
    """
    method, setting = cell.method, cell.capture
    source, target = (found[setting.name, cell.seed] for found in (places.sources, places.targets))
    labelled = f"{source if setting.labels == 'source' else target}#train"
    share = setting.share if method.share is None else method.share
    trainer = [f"trainer/{places.accelerator}", *(["trainer/snapshots"] if cell.name in places.pictures else [])]
    values: dict[str, Any] = {
        "root": str(places.folder(cell)),
        "name": name,
        "source": labelled,
        "target": str(target),
        "surface": surface_option(Capture.open(target)),
        "seed_everything": cell.seed,
        "data.init_args.seed": cell.seed,
        "data.init_args.test": f"{target}#test",
    }
    places_of_labels: str | list[str] = labelled
    shares: float | list[float] = share
    if method.experiment == "oracle":
        places_of_labels, shares = f"{target}#train", 1.0
    elif method.registered and setting.labels == "source":
        places_of_labels, shares = f"{pseudo}#train", 1.0
    elif pseudo is not None:
        places_of_labels, shares = [labelled, f"{pseudo}#train"], [share, 1.0]
    values["data.init_args.labelled_share"] = shares
    if method.semi_supervised:
        values |= {"model.init_args.teacher": str(start), "data.init_args.labelled": places_of_labels}
        values["data.init_args.unlabelled"] = f"{pseudo if method.registered else target}#train"
        values |= FROM_REGISTERED if method.registered else {}
    else:
        values["data.init_args.train"] = places_of_labels
        if method.experiment != "teacher":
            values |= {"model.init_args.initial_weights": str(start)}
            values |= equal_cost(setting.kind, len(Capture.open(target).cameras), on_target(cell))
    values |= {**setting.options, **method.options, **places.overrides}
    if method.rounds > 1:
        values |= shorter(cell, values)
    words = [f"--config={recipe_folder() / file}.yaml" for file in layers(cell, trainer)]
    return ["fit", *words, *(f"--{key}={spelled(value)}" for key, value in values.items())]


def on_target(cell: Cell) -> bool:
    """Whether all labels that a cell learns from are of the target's own views."""
    method = cell.method
    return method.experiment == "oracle" or cell.capture.labels == "target" or method.registered


def pseudo_label_options(cell: Cell) -> dict[str, Any]:
    """Options of `dkp pseudo-label`."""
    registered = content(f"main/{cell.capture.kind}-registered") if cell.method.registered else {}
    return {**registered, **cell.capture.pseudo_label}


def layers(cell: Cell, trainer: Sequence[str] = ()) -> list[str]:
    """The files of configs/ that a fit is made of, in order.

    Args:
        cell: what is trained.
        trainer: files of the trainer, which stand after the losses.
    """
    method, kind = cell.method, cell.capture.kind
    main = [f"main/{kind}-teacher"] if method.experiment == "teacher" else []
    if method.semi_supervised:
        main = [f"main/{kind}-{role}" for role in method.main]
    losses = [f"loss/{loss}" for loss in method.loss]
    return [f"experiment/{method.experiment}", f"model/{method.model}", f"data/{kind}", *losses, *trainer, *main]


def student(kind: str, on_target: bool = False) -> dict[str, Any]:
    """What `configs/main/KIND-student.yaml` makes of an adapted run.

    Args:
        kind: a name in configs/main.
        on_target: whether all labels are of the target's own views; images then are varied as KIND-adapted.yaml says.
    """
    settings = merged(content("experiment/adapted"), content(f"main/{kind}-student"))
    varied = content(f"main/{kind}-adapted").get("data", {}).get("init_args", {}).get("augmentation", {})
    return merged(settings, {"data": {"init_args": {"augmentation": varied}}}) if on_target and varied else settings


def equal_cost(kind: str, cameras: int, on_target: bool = False) -> dict[str, Any]:
    """Options that make a labelled run cost what the main job's student costs: steps, images in a step, learning rate.

    Args:
        kind: a name in configs/main.
        cameras: of the target; how many views an instant has where the student takes all.
        on_target: as for `student`.
    """
    settings = student(kind, on_target)
    model, data = settings["model"]["init_args"], settings["data"]["init_args"]
    views = cameras if data["views_per_instant"] == "all" else data["views_per_instant"]
    images = data["labelled_batch_size"] + data["unlabelled_batch_size"] * views
    values = {"size": settings["size"]} if isinstance(settings.get("size"), int) else {}
    values |= {"trainer.max_steps": settings["trainer"]["max_steps"], "data.init_args.batch_size": images}
    values |= {f"model.init_args.{key}": model[key] for key in ("learning_rate", "warmup_steps") if key in model}
    values |= {"data.init_args.val": data["val"], "data.init_args.steps_per_epoch": data["steps_per_epoch"]}
    return values | {f"data.init_args.augmentation.{key}": value for key, value in data.get("augmentation", {}).items()}


def shorter(cell: Cell, values: Options) -> dict[str, Any]:
    """Options by which each of several rounds takes its part of the steps."""
    whole = merged(student(cell.capture.kind), *(content(f"main/{cell.capture.kind}-{r}") for r in cell.method.main))
    steps = int(values.get("trainer.max_steps", whole["trainer"]["max_steps"])) // cell.method.rounds
    short = {"trainer.max_steps": steps, "data.init_args.steps_per_epoch": steps}
    terms = whole["model"]["init_args"].get("terms", {}) if cell.method.semi_supervised else {}
    annealed = [name for name, term in terms.items() if "sigma_steps" in term["init_args"]]
    return short | {f"model.init_args.terms.{name}.init_args.sigma_steps": steps for name in annealed}


def keys(plan: Plan, cell: Cell, overrides: Options) -> dict[str, str]:
    """Fingerprints of a cell's stages, by name.

    They depend on the settings, whatever file they come from, and on the stages before, but not on folders, on comments
    in files, or on the device.
    """
    method, setting = cell.method, cell.capture
    start = plan.start(cell)
    recipe = {
        "files": {file: content(file) for file in layers(cell)},
        "student": None
        if method.experiment == "teacher" or method.semi_supervised
        else student(setting.kind, on_target(cell)),
        "captures": [setting.kind, setting.source, setting.target, setting.labels, setting.share],
        "method": [method.experiment, method.rounds, method.share],
        "options": {**setting.options, **method.options, **overrides},
        "pseudo_label": pseudo_label_options(cell) if method.pseudo_labelled else None,
        "seed": cell.seed,
    }
    before = "" if start is None else fitted(plan, start, overrides)
    found: dict[str, str] = {}
    for number in range(1, method.rounds + 1):
        for kind in ("pseudo", "fit"):
            if kind == "pseudo" and not method.pseudo_labelled:
                continue
            name = numbered(kind, number, method.rounds)
            before = found[name] = digest([recipe, before, name])
    found["test"] = digest([before, plan.metrics])
    return found


def fitted(plan: Plan, cell: Cell, overrides: Options) -> str:
    """Fingerprint of a cell's detector."""
    return keys(plan, cell, overrides)[numbered("fit", cell.method.rounds, cell.method.rounds)]


@cache
def content(name: str) -> dict[str, Any]:
    """What a file of configs/ holds.

    Raises:
        InputError: there is no such file.
    """
    path = recipe_folder() / f"{name}.yaml"
    if not path.is_file():
        raise InputError(f"configuration {path}: no such file, which the plan asks for")
    held: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
    return held


def spelled(value: Any) -> str:
    """A value as an option's text."""
    return value if isinstance(value, str) else json.dumps(value)
