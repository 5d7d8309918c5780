"""The stages of a main job and their summary.

Every stage is a `dkp fit` or `dkp test` with a recipe, paths and the seed, which can be repeated by hand: the commands
are written to `commands.txt`.
"""

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dkp.captures import Capture
from dkp.captures.manifest import CAPTURE_FILE, VIEWS_FILE
from dkp.errors import InputError
from dkp.files import move_aside
from dkp.pipeline.captures import BUILT_IN
from dkp.pipeline.runner import Runner, StageFailed, Task
from dkp.pipeline.stages import Stage, StageLedger, digest, has, read_metrics
from dkp.progress import Progress
from dkp.recipes import read_recipe, recipe_folder, spelled
from dkp.weights import weights_file

STUDENTS = ("control", "adapted")
DETECTORS = ("teacher", *STUDENTS)
LEDGER = "stages.json"
SUMMARY = "summary.json"
REGISTERED = "registered"
"""The target's training views, labelled."""
SUBJECT = "subject"
"""The target's own subject, rendered in its rig."""
SUMMARY_KEYS = (
    "geodesic_median_cm",
    "geodesic_mean_cm",
    "coverage",
    "auc30",
    "pck10",
    "iou",
    "mask_iou",
    "epipolar_median_px",
    "epipolar_mean_px",
    "matched_share",
    "joint_cm",
    "left_right_exchanged",
    "joint_on_foreground",
)

JOINT_KEYS = ("joint_cm", "left_right_exchanged", "joint_on_foreground")


def recipes_of(capture: str, target: Path, teacher: str | None = None) -> Path:
    """Return the folder of the recipes that fit a target, in configs.

    Args:
        capture: a name of `BUILT_IN`, or anything else.
        target: folder of the target.
        teacher: name of a shipped detector; the folder of its recipes has that name.
    """
    if teacher is not None:
        return recipe_folder() / teacher
    if capture in BUILT_IN:
        name = "people" if capture == "synthetic" else capture
    else:
        name = "person" if Capture.open(target).surface.name == "human" else "object"
    return recipe_folder() / name


@dataclass(frozen=True)
class Job:
    """The stages of one main job.

    Attributes:
        folder: of its runs.
        recipes: folder of the recipes teacher.yaml (of a shipped teacher evaluate.yaml), control.yaml and adapted.yaml.
        source: labelled capture.
        target: capture that is adapted to.
        seed: of everything random.
        accelerator: "cpu" or "gpu"; None = what the recipes say.
        teacher: name of a shipped detector that is the teacher, and whose network the students have; None = one is
            trained.
        own_subject: whether the adapted detector learns from renderings of the target's own subject, where its recipe
            says how, in place of the source.
    """

    folder: Path
    recipes: Path
    source: Path
    target: Path
    seed: int
    accelerator: str | None = None
    teacher: str | None = None
    own_subject: bool = False

    def run(self, progress: Progress, overrides: Sequence[str]) -> None:
        """Train the teacher, prepare the target as the recipe says, train the students, test all.

        A job of the same recipe that was interrupted in this folder is gone on with; any other one is moved aside.
        """
        first = ("teacher", self.fit("teacher", overrides)) if self.teacher is None else self.test_teacher()
        teacher = self.stage(*first)
        file = self.folder / LEDGER
        ledger = StageLedger.read(file) if file.is_file() else StageLedger()
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
        ready: list[str] = []
        for name, words, otherwise in self.preparations():
            try:
                before = run(self.stage(name, words, before))
            except StageFailed as error:
                if error.status != 2:
                    raise
                progress.say(f"{error}; the adapted detector goes on with {otherwise}")
                break
            ready.append(name)
        before = run(*(self.stage(one, self.fit(one, overrides, ready), before) for one in STUDENTS))
        tested = DETECTORS if self.teacher is None else STUDENTS
        run(*(self.stage(f"test {one}", self.test(one), before) for one in tested))

    def stage(self, name: str, words: list[str], before: str = "") -> Stage:
        """Return a stage of this job.

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
        return read_recipe(self.recipes / "adapted.yaml").get("labels") or {}

    def preparations(self) -> list[tuple[str, list[str], str]]:
        """Return what is made of the target before it is adapted to: stage, its command, and what serves without it.

        Each needs the one before.
        """
        found = [(REGISTERED, self.register(), "the source's labels")] if self.registered else []
        if self.subject and not found:
            raise InputError(
                f"{self.recipes / 'adapted.yaml'}: found `subject` without `labels`, expected both or neither: the "
                "subject is rendered from the registered views"
            )
        if self.subject:
            found.append((SUBJECT, self.render_subject(), "the source beside the target's labels"))
        return found

    @property
    def subject(self) -> dict[str, Any]:
        """Options by which the target's own subject is rendered in its rig; none = this is not done."""
        return (read_recipe(self.recipes / "adapted.yaml").get("subject") or {}) if self.own_subject else {}

    def render_subject(self) -> list[str]:
        """Arguments of the `dkp synthesize` that renders the target's own subject.

        The rig is that of the registered views, which have masks in any case.
        """
        registered = self.folder / REGISTERED
        words = ["synthesize", str(self.folder / SUBJECT), f"--rig={registered}#train", f"--subject={registered}"]
        words += [f"--seed={self.seed}", *(f"--{key}={spelled(value)}" for key, value in self.subject.items())]
        return words

    def register(self) -> list[str]:
        """Arguments of the `dkp pseudo-label` that labels the target."""
        config = self.folder / "teacher" / "config.yaml" if self.teacher is None else self.recipes / "evaluate.yaml"
        words = [f"--config={config}", f"--ckpt_path={self.teacher or self.checkpoint('teacher')}"]
        words += [f"--out={self.folder / REGISTERED}", f"--capture={with_split(Capture.open(self.target), 'train')}"]
        return ["pseudo-label", *words, *(f"--{key}={spelled(value)}" for key, value in self.registered.items())]

    def fit(self, stage: str, overrides: Sequence[str], ready: Sequence[str] = (REGISTERED,)) -> list[str]:
        """Arguments of the `dkp fit` of a stage: its recipe, paths and the seed.

        Args:
            stage: a name of `DETECTORS`.
            overrides: further options, the user's.
            ready: which of `preparations` there are.
        """
        recipes = [self.recipes / f"{stage}.yaml"]
        if stage == "adapted" and self.registered and REGISTERED not in ready:
            recipes.append(recipe_folder() / "unregistered.yaml")
        target = Capture.open(self.target)
        rendered = stage == "adapted" and SUBJECT in ready
        options = {
            "root": self.folder,
            "name": stage,
            "source": f"{self.folder / SUBJECT}#train" if rendered else with_split(Capture.open(self.source), "train"),
            "target": with_split(target, "train"),
            "test": with_split(target, "test"),
            "surface": target.surface_source,
            "seed_everything": self.seed,
        }
        if self.accelerator is not None:
            options["trainer.accelerator"] = self.accelerator
        words = [*(f"--config={recipe}" for recipe in recipes), *(f"--{key}={value}" for key, value in options.items())]
        if self.teacher is not None:
            words += [f"--ckpt_path={self.teacher}", f"--model.init_args.teacher={self.teacher}"]
        return ["fit", *words, *overrides]

    def test_teacher(self) -> tuple[str, list[str]]:
        """Name and arguments of the `dkp test` of a shipped teacher."""
        target = Capture.open(self.target)
        words = [f"--config={self.recipes / 'evaluate.yaml'}", f"--ckpt_path={self.teacher}", "--name=teacher"]
        words += [f"--root={self.folder}", f"--test={with_split(target, 'test')}"]
        return "test teacher", ["test", *words]

    def test(self, detector: str) -> list[str]:
        """Arguments of the `dkp test` of a detector."""
        run = self.folder / detector
        return ["test", f"--config={run / 'config.yaml'}", f"--ckpt_path={self.checkpoint(detector)}"]

    def checkpoint(self, detector: str) -> Path:
        """Return the weights at the end of training, or the shipped ones."""
        if self.teacher is not None and detector == "teacher":
            return weights_file(self.teacher)
        return self.folder / detector / "checkpoints" / "last.ckpt"

    def summary(self) -> dict[str, dict[str, float | None]]:
        """Return the table: a column for each detector and the trivial field; None where there is no truth."""
        result: dict[str, dict[str, float | None]] = {}
        trivial: dict[str, float | None] = {}
        for detector in DETECTORS:
            metrics = read_metrics(self.folder / detector / "test" / "metrics.json")
            values = {key.removeprefix("test/"): value for key, value in metrics.items()}
            unknown = set() if any(key in values for key in JOINT_KEYS) else {*JOINT_KEYS}
            unknown |= {"mask_iou"} if values.get("iou") is not None else set()  # the labels' foreground says the same
            keys = [key for key in SUMMARY_KEYS if key not in unknown]
            result[detector] = {key: values.get(key) for key in keys}
            trivial = {key: values.get(f"trivial/{key}") for key in keys}
        return {**result, "trivial": trivial}


def all_well(task: Task, error: InputError | None) -> None:
    """End all stages where one fails."""
    if error is not None:
        raise error


def with_split(capture: Capture, split: str) -> str:
    """PATH#SPLIT, or PATH# (all instants) for a capture without that split."""
    return f"{capture.path}#{split if split in capture.splits else ''}"


def evaluated_on(capture: Capture) -> str:
    """Say what of a target is tested."""
    if "test" in capture.splits:
        return f"test split of {capture.path}"
    return f"all instants of {capture.path}, also those of training, since it has no test split"
