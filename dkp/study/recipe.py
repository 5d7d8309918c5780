"""What is run for a cell: its `dkp` commands, stage by stage, at the same cost for every method.

Every method takes the steps of the main job's students (control.yaml and adapted.yaml) from the same teacher, and sees
as many images in a step: a method without unlabelled views sees as many labelled ones in their place.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dkp.captures import Capture
from dkp.errors import InputError
from dkp.pipeline.captures import RENDERED
from dkp.pipeline.job import recipes_of
from dkp.pipeline.stages import Stage, digest
from dkp.recipes import merged, read_recipe, recipe_folder, spelled
from dkp.study.plan import Cell, Options, Plan
from dkp.weights import card

UNCOUNTED = (
    *("name", "root", "source", "target", "test", "seed_everything", "labels", "subject"),
    *(f"trainer.{key}" for key in ("accelerator", "devices", "precision", "logger", "callbacks")),
    *(f"data.init_args.{key}" for key in ("train", "labelled", "unlabelled", "val", "test", "seed", "num_workers")),
    *(f"model.init_args.{key}" for key in ("teacher", "initial_weights")),
)
"""Settings that fingerprints do not depend on: folders, the device, and what a cell says in other words."""

SNAPSHOTS = [{"class_path": "dkp.callbacks.DetectorSnapshots", "init_args": {"count": 4}}]
"""What keeps the detector at the start, the end and three steps between, for pictures."""


@dataclass(frozen=True)
class Folders:
    """Where a study reads and writes.

    Attributes:
        runs: folder of the cells' folders.
        sources, targets: folders of the captures, by capture setting and seed.
        accelerator: "cpu" or "gpu"; None = what the recipes say.
        overrides: options for every fit, after all others.
        pictures: names of cells whose training keeps snapshots for pictures.
    """

    runs: Path
    sources: Mapping[tuple[str, int], Path]
    targets: Mapping[tuple[str, int], Path]
    accelerator: str | None = None
    overrides: Options = field(default_factory=dict)
    pictures: frozenset[str] = frozenset()

    def folder(self, cell: Cell) -> Path:
        """Return a cell's folder."""
        return self.runs / cell.name


def numbered(name: str, number: int, count: int) -> str:
    """Return the name of one of several stages."""
    return name if count == 1 else f"{name}-{number}"


def shipped(cell: Cell) -> str | None:
    """Return the name of the shipped detector that a cell is; None = it is trained."""
    return cell.capture.teacher if cell.method.experiment == "teacher" else None


def detector(folder: Path, cell: Cell) -> tuple[Path, Path]:
    """Return the configuration and checkpoint of a cell's last fit, or the shipped detector's recipe and name."""
    name = shipped(cell)
    if name is not None:
        return recipe(cell, "evaluate"), Path(name)
    return run_files(folder / numbered("fit", cell.method.rounds, cell.method.rounds))


def run_files(run: Path) -> tuple[Path, Path]:
    """Return the configuration and checkpoint of a run."""
    return run / "config.yaml", run / "checkpoints" / "last.ckpt"


def test_folder(folder: Path, cell: Cell) -> Path:
    """Folder of a cell's test."""
    return (folder / "shipped" if shipped(cell) else detector(folder, cell)[0].parent) / "test"


def stages(plan: Plan, cell: Cell, folders: Folders) -> list[Stage]:
    """Return the commands of a cell."""
    folder, method = folders.folder(cell), cell.method
    start = plan.start(cell)
    known = keys(plan, cell, folders.overrides)
    before = None if start is None else detector(folders.folder(start), start)
    home = None if start is None else folders.folder(start)
    made_by = "" if start is None else fitted(plan, start, folders.overrides)
    source, target = (one[cell.capture.name, cell.seed] for one in (folders.sources, folders.targets))
    found = []
    for number in range(1, method.rounds + 1) if shipped(cell) is None else ():
        pseudo = None
        if method.pseudo_labelled or subject(cell):
            if before is None or home is None:
                raise InputError(f"plan {plan.path}: {method.name} starts from no method, expected one that labels")
            name = numbered("pseudo", number, method.rounds)
            options = pseudo_label_options(cell)
            pseudo = home / f"labels-{digest([made_by, options])}"  # beside the detector
            words = ["pseudo-label", f"--config={before[0]}", f"--ckpt_path={before[1]}", f"--out={pseudo}"]
            words += [f"--capture={target}#train", "--overwrite=true"]
            words += [f"--{key}={spelled(value)}" for key, value in options.items()]
            found.append(Stage(name, words, pseudo, known[name], shared=True))
        if pseudo is not None and home is not None and subject(cell):
            name = numbered("subject", number, method.rounds)
            source = home / f"subject-{digest([pseudo.name, subject(cell)])}"
            words = ["synthesize", str(source), f"--rig={pseudo}#train", f"--subject={pseudo}", f"--seed={cell.seed}"]
            words += [f"--{key}={spelled(value)}" for key, value in subject(cell).items()]
            found.append(Stage(name, words, source, known[name], shared=True))
        name = numbered("fit", number, method.rounds)
        labels = pseudo if method.pseudo_labelled else None
        words = fit(cell, folders, name, None if before is None else before[1], source, labels)
        found.append(Stage(name, words, folder / name, known[name]))
        before, home = run_files(folder / name), folder
        made_by = known[name]
    config, checkpoint = detector(folder, cell)
    words = ["test", f"--config={config}", f"--ckpt_path={checkpoint}"]
    if shipped(cell):
        words += [f"--root={folder}", "--name=shipped", f"--test={target}#test"]
    words += [f"--model.init_args.metrics={json.dumps(plan.metrics)}"] if plan.metrics else []
    found.append(Stage("test", words, test_folder(folder, cell), known["test"]))
    return found


def fit(cell: Cell, folders: Folders, name: str, start: Path | None, source: Path, pseudo: Path | None) -> list[str]:
    """Return the words of a `dkp fit`.

    Args:
        cell: what is trained.
        folders: where it reads and writes.
        name: of the run.
        start: checkpoint of the detector that it starts from.
        source: folder of the labelled capture.
        pseudo: folder of the pseudo-labelled capture.
    """
    method, setting = cell.method, cell.capture
    target = folders.targets[setting.name, cell.seed]
    labelled = f"{source if setting.labels == 'source' else target}#train"
    share = setting.share if method.share is None else method.share
    values: dict[str, Any] = {
        "root": str(folders.folder(cell)),
        "name": name,
        "source": labelled,
        "target": str(target),
        "surface": Capture.open(target).surface_source,
        "seed_everything": cell.seed,
        "test": f"{target}#test",
    }
    values |= {} if folders.accelerator is None else {"trainer.accelerator": folders.accelerator}
    values |= {"trainer.callbacks": SNAPSHOTS} if cell.name in folders.pictures else {}
    labels: str | list[str] = labelled
    shares: float | list[float] = share
    if method.experiment == "oracle":
        labels, shares = f"{target}#train", 1.0
    elif method.registered and setting.labels == "source":
        labels, shares = f"{pseudo}#train", 1.0
    elif pseudo is not None:
        labels, shares = [labelled, f"{pseudo}#train"], [share, 1.0]
    values["data.init_args.labelled_share"] = shares
    if method.semi_supervised and setting.teacher is not None:
        values |= {"ckpt_path": str(start), "model.init_args.teacher": str(start)}
        values["data.init_args.unlabelled"] = f"{pseudo if method.registered else target}#train"
        values["data.init_args.labelled"] = [*([f"{pseudo}#train"] if method.registered else []), labelled]
    elif method.semi_supervised:
        values |= {"model.init_args.teacher": str(start), "data.init_args.labelled": labels}
        values["data.init_args.unlabelled"] = f"{pseudo if method.registered else target}#train"
    else:
        values["data.init_args.train"] = labels
        if method.experiment != "teacher":
            values |= {"model.init_args.initial_weights": str(start)}
            values |= equal_cost(student(cell), len(Capture.open(target).cameras))
    values |= {**setting.options, **method.options, **folders.overrides}
    values |= shorter(cell, folders.overrides) if method.rounds > 1 else {}
    words = [f"--config={file}" for file in files(cell)]
    return ["fit", *words, *(f"--{key}={spelled(value)}" for key, value in values.items())]


def on_target(cell: Cell) -> bool:
    """Whether all labels that a cell learns from are of the target's own views."""
    method = cell.method
    return method.experiment == "oracle" or cell.capture.labels == "target" or method.registered


def pseudo_label_options(cell: Cell) -> dict[str, Any]:
    """Options of `dkp pseudo-label`: those of the adapted recipe where the target is registered, and the capture's."""
    registered = content(recipe(cell, "adapted"))["labels"] if cell.method.registered or subject(cell) else {}
    return {**registered, **cell.capture.pseudo_label}


def subject(cell: Cell) -> dict[str, Any]:
    """Options of the `dkp synthesize` that renders the target's own subjects; none = the source is the capture's.

    Raises:
        InputError: the plan asks for it, and the adapted recipe does not say how.
    """
    method, setting = cell.method, cell.capture
    known = content(recipe(cell, "adapted")).get("subject") or {}
    if method.subject and not known:
        raise InputError(f"{cell.name} is to render the subject, expected `subject` in {recipe(cell, 'adapted')}")
    if setting.labels == "target":
        return {}  # no source is learned from
    recorded = method.registered and setting.kind not in RENDERED and setting.source is None
    return known if method.subject or (method.subject is None and recorded) else {}


def recipe(cell: Cell, name: str) -> Path:
    """Return a recipe of a cell's kind of captures, or of its shipped teacher."""
    return recipes_of(cell.capture.kind, Path(), cell.capture.teacher) / f"{name}.yaml"


def files(cell: Cell) -> list[Path]:
    """Return the files of configs/ that a fit is made of: its recipe, and what is put on it."""
    name = cell.method.experiment if cell.method.semi_supervised else "evaluate" if shipped(cell) else "teacher"
    return [recipe(cell, name), *(recipe_folder() / f"{file}.yaml" for file in cell.method.files)]


def student(cell: Cell) -> dict[str, Any]:
    """Return the recipe of the main job's student whose cost a labelled cell has.

    Where all labels are of the target's own views, images are varied as adapted.yaml says.
    """
    return content(recipe(cell, "adapted" if on_target(cell) else "control"))


def equal_cost(student: Mapping[str, Any], cameras: int) -> dict[str, Any]:
    """Options that make a labelled run cost what a student costs: steps, images in a step, learning rate.

    Args:
        student: its recipe.
        cameras: of the target; how many views an instant has where the student takes all.
    """
    model, data = student["model"]["init_args"], student["data"]["init_args"]
    views = cameras if data["views_per_instant"] == "all" else data["views_per_instant"]
    images = data["labelled_batch_size"] + data["unlabelled_batch_size"] * views
    values = {"trainer.max_steps": student["trainer"]["max_steps"], "data.init_args.batch_size": images}
    values |= {f"model.init_args.{key}": model[key] for key in ("learning_rate", "schedule", "warmup_steps")}
    values |= {"data.init_args.steps_per_epoch": data["steps_per_epoch"]}
    return values | {f"data.init_args.augmentation.{key}": value for key, value in data["augmentation"].items()}


def shorter(cell: Cell, overrides: Options) -> dict[str, Any]:
    """Options by which each of several rounds takes its part of the steps."""
    given = {**cell.capture.options, **cell.method.options, **overrides}
    whole = student(cell) if cell.method.experiment != "teacher" else content(recipe(cell, "teacher"))
    steps = int(given.get("trainer.max_steps", whole["trainer"]["max_steps"])) // cell.method.rounds
    return {"trainer.max_steps": steps, "data.init_args.steps_per_epoch": steps}


def keys(plan: Plan, cell: Cell, overrides: Options) -> dict[str, str]:
    """Fingerprints of a cell's stages, by name.

    They depend on the settings, whatever file they come from, and on the stages before, but not on folders, on comments
    in files, or on the device.
    """
    method, setting = cell.method, cell.capture
    start = plan.start(cell)
    labelled = method.experiment != "teacher" and not method.semi_supervised
    options = nested({**setting.options, **method.options, **overrides})
    settings = {
        "settings": content(files(cell)[0]) if shipped(cell) else resolved(*map(content, files(cell)), options),
        "student": resolved(student(cell)) if labelled else None,
        "captures": [setting.kind, setting.source, setting.target, setting.labels, setting.share],
        **({} if setting.teacher is None else {"weights": card(setting.teacher).sha256}),
        "method": [method.experiment, method.rounds, method.share],
        "pseudo_label": pseudo_label_options(cell) if method.pseudo_labelled else None,
        **({"subject": [pseudo_label_options(cell), subject(cell)]} if subject(cell) else {}),
        "seed": cell.seed,
    }
    before = "" if start is None else fitted(plan, start, overrides)
    found: dict[str, str] = {}
    kinds = ["pseudo"] if method.pseudo_labelled or subject(cell) else []
    kinds += ["subject", "fit"] if subject(cell) else ["fit"]
    for number in range(1, method.rounds + 1):
        for kind in kinds:
            name = numbered(kind, number, method.rounds)
            before = found[name] = digest([settings, before, name])
    found["test"] = digest([before, plan.metrics])
    return found


def fitted(plan: Plan, cell: Cell, overrides: Options) -> str:
    """Fingerprint of a cell's detector."""
    return keys(plan, cell, overrides)[numbered("fit", cell.method.rounds, cell.method.rounds)]


@cache
def content(recipe: Path) -> dict[str, Any]:
    """Return what a recipe says, its base included."""
    return read_recipe(recipe)


def nested(options: Options) -> dict[str, Any]:
    """Options with dotted names as settings.

    Examples:
        >>> nested({"a.b": 1, "a.c": 2})
        {'a': {'b': 1, 'c': 2}}
    """
    settings: dict[str, Any] = {}
    for name, value in options.items():
        for key in reversed(name.split(".")):
            value = {key: value}
        settings = merged(settings, value)
    return settings


def resolved(*settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings put on top of each other, with the values that they refer to, without `UNCOUNTED`."""
    found: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(merged(*settings)), resolve=True)  # type: ignore
    for name in UNCOUNTED:
        *folders, key = name.split(".")
        inner = found
        for folder in folders:
            inner = inner.get(folder, {})
        inner.pop(key, None)
    return found
