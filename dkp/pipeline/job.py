"""The stages of a main job and their summary.

Every stage is a `dkp fit` or `dkp test` with configuration files of this project, in a process of its own with a log of
its own, so that each can be repeated by hand; the commands are written to `commands.txt`.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from dkp.captures import Capture
from dkp.data.places import SPLIT_MARK
from dkp.errors import InputError
from dkp.pipeline.captures import BUILT_IN
from dkp.recipes import recipe_folder

STUDENTS = ("control", "adapted")
DETECTORS = ("teacher", *STUDENTS)
RUNTIME = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 31),
    "MALLOC_TOP_PAD_": str(1 << 28),
}
"""Idle threads sleep instead of spinning on the core that the data loader needs, and glibc keeps freed blocks: training
small networks on a CPU allocates the same large blocks in every step."""

POLL = 2.0
"""Time between two looks at the stages that run [s]: the cores are for training."""

RELATIVE = {"sigma": 0.05, "scale": 0.05, "beta": 0.015}
"""Lengths of the losses for a surface that has no recipe of its own, as shares of its largest side."""

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
    "model.init_args.lambda_pseudo": 1.0,
    "model.init_args.lambda_distillation": 0.0,
}
"""Of a student that learns from a registered target, in place of the source's labels and of the teacher's word."""

JOINT_KEYS = ("joint_cm", "left_right_exchanged")


def kind_of(capture: str, target: Path) -> str:
    """Which of the configurations below configs/main fits."""
    if capture in BUILT_IN:
        return capture
    return "person" if Capture.open(target).surface.name == "human" else "object"


def fresh_folder(folder: Path) -> Path:
    """An empty folder of this name; what was there moves to NAME.1, NAME.2, ..."""
    if folder.exists():
        count = 1
        while (older := folder.with_name(f"{folder.name}.{count}")).exists():
            count += 1
        folder.rename(older)
    folder.mkdir(parents=True)
    return folder


def available_accelerator() -> str:
    """ "gpu" where torch finds one."""
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


class StageFailed(InputError):
    """A command ended with another status than 0.

    Attributes:
        status: 2 where its input is not usable; else it broke.
    """

    def __init__(self, name: str, status: int, log: Path) -> None:
        super().__init__(f"{name} ended with status {status}; the end of {log}: {last_line(log)}")
        self.status = status


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

    def run(self, console: Console, overrides: Sequence[str]) -> None:
        """Train the teacher, label the target by registration where the recipe does, train the students, test all."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        console.print(f"training on the {self.accelerator}, logs in {self.folder}/*.log")
        with Progress(
            TextColumn("{task.description:<8}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn(),
            console=console, refresh_per_second=1,
        ) as progress:  # fmt: skip
            self._stage(["teacher"], [self.fit("teacher", overrides)], cores, progress)
            registered = bool(self.registered) and self._register(console, cores, progress)
            fits = [self.fit(student, overrides, registered) for student in STUDENTS]
            self._stage(STUDENTS, fits, max(1, cores // 2), progress)
            tests = [self.test(detector) for detector in DETECTORS]
            self._stage([f"test {detector}" for detector in DETECTORS], tests, 1, progress)

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

    def _register(self, console: Console, threads: int, progress: Progress) -> bool:
        """Label the target; False, with the reason said, where the teacher is not good enough for that."""
        try:
            self._stage(["registered"], [self.register()], threads, progress)
        except StageFailed as error:
            if error.status != 2:
                raise
            console.print(f"{error}; the adapted detector goes on with the source's labels", soft_wrap=True)
            return False
        return True

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
                options.append("--model.init_args.lambda_mask=0")
        if self.kind == "person" and not any(view.joints for view in target.views):
            options.append("--joints=null")
        if self.kind == "object":
            if target.surface.mirror is None:
                options.append("--data.init_args.augmentation.mirror=0")
            extent = float(2 * max(target.surface.bounds[1]))
            options += [f"--{name}={share * extent:.5g}" for name, share in RELATIVE.items()]
            if stage == "adapted":
                options.append(f"--model.init_args.sigma_final={RELATIVE['sigma'] / 2 * extent:.5g}")
        return ["fit", *(f"--config={configs / layer}.yaml" for layer in layers), *options, *overrides]

    def test(self, detector: str) -> list[str]:
        """Arguments of the `dkp test` of a detector."""
        run = self.folder / detector
        return ["test", f"--config={run / 'config.yaml'}", f"--ckpt_path={self.checkpoint(detector)}"]

    def checkpoint(self, detector: str) -> Path:
        """The weights at the end of training."""
        return self.folder / detector / "checkpoints" / "last.ckpt"

    def _stage(self, names: Sequence[str], commands: Sequence[list[str]], threads: int, progress: Progress) -> None:
        """Run commands side by side, each with its log, and show how far they are."""
        environment = {**RUNTIME, **os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        running: list[tuple[str, subprocess.Popen, Path, TaskID]] = []
        try:
            for name, command in zip(names, commands, strict=True):
                log = self.folder / f"{name.replace(' ', '-')}.log"
                with (self.folder / "commands.txt").open("a") as commands_file:
                    commands_file.write(shlex.join(["dkp", *command]) + "\n")
                with log.open("w") as stream:
                    process = subprocess.Popen(
                        [sys.executable, "-m", "dkp", *command],
                        stdout=stream,
                        stderr=subprocess.STDOUT,
                        env=environment,
                    )
                running.append((name, process, log, progress.add_task(name, total=None, state="starts")))
            while True:
                codes = [process.poll() for _, process, _, _ in running]
                for (name, _, log, bar), code in zip(running, codes, strict=True):
                    if code is None:
                        steps, total = self._steps(name)
                        progress.update(bar, completed=steps, total=total, state=f"step {steps}" if steps else "runs")
                    elif code:
                        raise StageFailed(name, code, log)
                    else:
                        progress.update(bar, completed=1, total=1, state="done")
                        progress.stop_task(bar)
                if all(code == 0 for code in codes):
                    return
                time.sleep(POLL)
        finally:
            for _, process, _, _ in running:
                if process.poll() is None:
                    process.terminate()
                    process.wait()

    def _steps(self, name: str) -> tuple[int, int | None]:
        """Steps done, from the run's metrics.csv, and steps in all, from its configuration."""
        run = self.folder / name
        try:
            lines = (run / "metrics.csv").read_text().splitlines()
            column = lines[0].split(",").index("step")
            return int(lines[-1].split(",")[column]) + 1, max_steps(run / "config.yaml")
        except (OSError, ValueError, IndexError, KeyError, TypeError):
            return 0, None

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


@cache
def max_steps(config: Path) -> int:
    """Steps in all of a run, from its configuration."""
    return int(yaml.safe_load(config.read_text())["trainer"]["max_steps"])


def place(capture: Capture, split: str) -> str:
    """PATH#SPLIT, or PATH# (all instants) for a capture without that split."""
    return f"{capture.path}#{split if split in capture.splits else ''}"


def surface_option(capture: Capture) -> str:
    """Name or file of a capture's surface, for `--surface`."""
    own = Path(capture.path) / "surface.npz"
    return str(own) if own.exists() else capture.surface.name


def last_line(log: Path) -> str:
    """The last line of a log that says anything."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "(empty)"
