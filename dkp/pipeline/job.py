"""The stages of a main job and their summary.

Every stage is a `dkp fit` or `dkp test` with configuration files of this project, which can be repeated by hand: the
commands are written to `commands.txt`.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from dkp.captures import Capture
from dkp.captures.manifest import CAPTURE_FILE, VIEWS_FILE
from dkp.data.splits import SPLIT_MARK
from dkp.errors import InputError
from dkp.files import move_aside
from dkp.pipeline.captures import BUILT_IN
from dkp.pipeline.runner import Runner, StageFailed, Task
from dkp.pipeline.stages import Stage, StageLedger, digest, has
from dkp.progress import Progress
from dkp.recipes import read_recipe, recipe_folder

STUDENTS = ("control", "adapted")
DETECTORS = ("teacher", *STUDENTS)
LEDGER = "stages.json"
SUMMARY = "summary.json"
RELATIVE = {"sigma": 0.05, "scale": 0.05, "beta": 0.015}
"""Lengths of the losses for a surface that has no recipe of its own, as shares of its largest side."""

ANNEALED = ("multiview", "consensus")
"""Terms whose lengths are annealed in the main job."""

SUMMARY_KEYS = (
    "geodesic_median_cm",
    "geodesic_mean_cm",
    "coverage",
    "auc30",
    "pck10",
    "iou",
    "epipolar_median_px",
    "epipolar_mean_px",
    "matched_share",
    "joint_cm",
    "left_right_exchanged",
)

FROM_REGISTERED = {
    "data.init_args.pseudo_labels": True,
    "model.init_args.terms.pseudo.init_args.weight": 1.0,
    "model.init_args.terms.distillation.init_args.weight": 0.0,
}
"""Of a student that learns from a registered target, in place of the source's labels and of the teacher's word."""

JOINT_KEYS = ("joint_cm", "left_right_exchanged")


def kind_of(capture: str, target: Path) -> str:
    """Which of the configurations below configs/main fits."""
    if capture in BUILT_IN:
        return capture
    return "person" if Capture.open(target).surface.name == "human" else "object"


def available_accelerator() -> str:
    """ "gpu" where torch finds one."""
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Job:
    """The stages of one main job.

    Attributes:
        folder: of its runs.
        kind: which configurations: a name in configs/data and configs/main.
        source: labelled capture.
        target: capture that is adapted to.
        seed: of everything random.
        accelerator: "cpu" or "gpu".
    """

    folder: Path
    kind: str
    source: Path
    target: Path
    seed: int
    accelerator: str

    def run(self, progress: Progress, overrides: Sequence[str]) -> None:
        """Train the teacher, label the target by registration where the recipe does, train the students, test all.

        A job of the same recipe that was interrupted in this folder is gone on with; any other one is moved aside.
        """
        teacher = self.stage("teacher", self.fit("teacher", overrides))
        file = self.folder / LEDGER
        ledger = StageLedger.read(file)
        begun = has(ledger, teacher) or ledger.begun.get(teacher.name) == teacher.key
        if not begun or (self.folder / SUMMARY).exists():
            move_aside(self.folder)
            self.folder.mkdir(parents=True)
            ledger = StageLedger()
        elif ledger.stages:
            progress.say(f"goes on in {self.folder}: {', '.join(ledger.stages)} done")

        def run(*stages: Stage) -> str:
            """Run stages side by side; the fingerprint of them together."""
            runner = Runner(progress)
            tasks = [Task(stage.name, partial(self._run, runner, stage, ledger)) for stage in stages]
            runner.run_tasks(tasks, len(tasks), all_well)
            return digest([stage.key for stage in stages])

        before = run(teacher)
        registered = False
        if self.registered:
            try:
                before = run(self.stage("registered", self.register(), before))
                registered = True
            except StageFailed as error:
                if error.status != 2:
                    raise
                progress.say(f"{error}; the adapted detector goes on with the source's labels")
        before = run(*(self.stage(one, self.fit(one, overrides, registered), before) for one in STUDENTS))
        run(*(self.stage(f"test {one}", self.test(one), before) for one in DETECTORS))

    def stage(self, name: str, words: list[str], before: str = "") -> Stage:
        """A stage of this job.

        Args:
            name: a fit's is that of its run.
            words: of its command.
            before: fingerprint of the stages that it starts from.
        """
        output = self.folder / (name if words[0] != "test" else f"{name.removeprefix('test ')}/test")
        recipes = [Path(word.removeprefix("--config=")) for word in words if word.startswith("--config=")]
        recipes = [file for file in recipes if not file.is_relative_to(self.folder)]
        files = [capture / file for capture in (self.source, self.target) for file in (CAPTURE_FILE, VIEWS_FILE)]
        contents = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        return Stage(name, words, output, digest([words, *map(read_recipe, recipes), contents, before]))

    def _run(self, runner: Runner, stage: Stage, ledger: StageLedger, threads: int) -> None:
        """Run a stage that has not been run, and leave its command in a file."""
        if has(ledger, stage):
            return
        with (self.folder / "commands.txt").open("a") as commands:
            commands.write(shlex.join(["dkp", *stage.words]) + "\n")
        runner.run(stage, ledger, self.folder / LEDGER, threads)

    @property
    def registered(self) -> dict[str, Any]:
        """Options by which the teacher's fields are made labels of the target; none = this is not done."""
        path = recipe_folder() / "main" / f"{self.kind}-registered.yaml"
        return yaml.safe_load(path.read_text()) if path.exists() else {}

    def register(self) -> list[str]:
        """Arguments of the `dkp pseudo-label` that labels the target."""
        run, target = self.folder / "teacher", Capture.open(self.target)
        options = self.registered
        if "hide_background" in options:
            options["hide_background"] = all(view.mask for view in target.views)
        words = [f"--config={run / 'config.yaml'}", f"--ckpt_path={self.checkpoint('teacher')}"]
        words += [f"--out={self.folder / 'registered'}", f"--capture={place(target, 'train')}"]
        return [
            "pseudo-label",
            *words,
            *(f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in options.items()),
        ]

    def fit(self, stage: str, overrides: Sequence[str], registered: bool = True) -> list[str]:
        """Arguments of the `dkp fit` of a stage, where the target could be registered or where it could not."""
        configs = recipe_folder()
        loss = {"teacher": "labelled_only", "control": "distillation_only", "adapted": "ours"}[stage]
        role = "teacher" if stage == "teacher" else "student"
        data = "synthetic" if self.kind == "object" else self.kind
        layers = [
            f"experiment/{stage}",
            "model/unet",
            f"data/{data}",
            f"loss/{loss}",
            f"trainer/{self.accelerator}",
        ]
        layers += [f"main/{data}-{role}"]
        layers += [f"main/{data}-adapted"] if stage == "adapted" else []
        target = Capture.open(self.target)
        options = [
            f"--root={self.folder}",
            f"--source={place(Capture.open(self.source), 'train')}",
            f"--target={self.target}",
            f"--surface={surface_option(target)}",
            f"--seed_everything={self.seed}",
            f"--data.init_args.seed={self.seed}",
            f"--data.init_args.test={place(target, 'test')}",
        ]
        if stage != "teacher":
            if stage == "adapted" and registered and self.registered:
                labels = f"{self.folder / 'registered'}{SPLIT_MARK}train"
                options += [f"--data.init_args.labelled={labels}", f"--data.init_args.unlabelled={labels}"]
                options += [f"--{name}={json.dumps(value)}" for name, value in FROM_REGISTERED.items()]
            else:
                options.append(f"--data.init_args.unlabelled={place(target, 'train')}")
            if self.kind in ("person", "object") and not all(view.mask for view in target.views):
                options.append("--model.init_args.terms.mask.init_args.weight=0")
        if self.kind == "person" and not any(view.joints for view in target.views):
            options.append("--joints=null")
        if self.kind == "object":
            if target.surface.mirror is None:
                options.append("--data.init_args.augmentation.mirror=0")
            extent = float(2 * max(target.surface.bounds[1]))
            options += [f"--{name}={share * extent:.5g}" for name, share in RELATIVE.items()]
            if stage == "adapted":
                final = f"{RELATIVE['sigma'] / 2 * extent:.5g}"
                options += [f"--model.init_args.terms.{term}.init_args.sigma_final={final}" for term in ANNEALED]
        return ["fit", *(f"--config={configs / layer}.yaml" for layer in layers), *options, *overrides]

    def test(self, detector: str) -> list[str]:
        """Arguments of the `dkp test` of a detector."""
        run = self.folder / detector
        return ["test", f"--config={run / 'config.yaml'}", f"--ckpt_path={self.checkpoint(detector)}"]

    def checkpoint(self, detector: str) -> Path:
        """The weights at the end of training."""
        return self.folder / detector / "checkpoints" / "last.ckpt"

    def summary(self) -> dict[str, dict[str, float | None]]:
        """The table: a column for each detector and the trivial field; None where there is no truth."""
        result: dict[str, dict[str, float | None]] = {}
        trivial: dict[str, float | None] = {}
        for detector in DETECTORS:
            metrics = json.loads((self.folder / detector / "test" / "metrics.json").read_text())["metrics"]
            values = {key.removeprefix("test/"): value for key, value in metrics.items()}
            joints = any(key in values for key in JOINT_KEYS)
            keys = [key for key in SUMMARY_KEYS if joints or key not in JOINT_KEYS]
            result[detector] = {key: values.get(key) for key in keys}
            trivial = {key: values.get(f"trivial/{key}") for key in keys}
        return {**result, "trivial": trivial}


def all_well(task: Task, error: InputError | None) -> None:
    """End all stages where one fails."""
    if error is not None:
        raise error


def place(capture: Capture, split: str) -> str:
    """PATH#SPLIT, or PATH# (all instants) for a capture without that split."""
    return f"{capture.path}#{split if split in capture.splits else ''}"


def surface_option(capture: Capture) -> str:
    """Name or file of a capture's surface, for `--surface`."""
    own = Path(capture.path) / "surface.npz"
    return str(own) if own.exists() else capture.surface.name
