"""The main job: a labelled source and an unlabelled target in; teacher, control and adapted detector, and a table, out.

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
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from dkp.captures import Capture, import_board, import_person
from dkp.errors import InputError
from dkp.synthetic import synthesize, synthesize_board
from dkp.viz.table import summary_markdown, summary_table

STUDENTS = ("control", "adapted")
DETECTORS = ("teacher", *STUDENTS)
BUILT_IN = ("synthetic", "board", "person")

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 31),
    "MALLOC_TOP_PAD_": str(1 << 28),
}
"""glibc keeps freed blocks: training small networks on a CPU allocates the same large blocks in every step."""

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
JOINT_KEYS = ("joint_cm", "left_right_exchanged")


def train(
    capture: str = "synthetic",
    seed: int = 0,
    source: str | None = None,
    domain: str | None = None,
    data: str | None = None,
    runs: str = "runs",
    captures: str = "captures",
    accelerator: str | None = None,
    overrides: list[str] | None = None,
) -> None:
    """Train a teacher on a labelled source, adapt it to the unlabelled views of a target, and compare.

    Args:
        capture: The target: "synthetic" (rendered people), "board" or "person" (small real recordings), or the folder
            of a capture.
        seed: Of everything random.
        source: Folder of a labelled capture on the same surface; by default one is rendered.
        domain: Domain of rendered people for the source, see `dkp synthesize`.
        data: Folder that holds the recordings `board/` and `person/`; by default the environment variable DKP_DATA.
            Without it the person is fetched with pip.
        runs: Folder of runs.
        captures: Folder for the captures that this job renders or imports; an existing one is used again.
        accelerator: "cpu" or "gpu"; by default the GPU where there is one.
        overrides: Further options for all fits, such as --trainer.max_steps=100.
    """
    started = time.monotonic()
    console = Console()
    name = capture if capture in BUILT_IN else Path(capture).resolve().name
    target = prepare_target(capture, Path(captures), seed, data, console)
    labelled = Path(source) if source else prepare_source(capture, Path(captures), seed, domain, target, console)
    check_same_surface(labelled, target)
    folder = fresh_folder(Path(runs) / f"train-{name}-seed{seed}")
    job = Job(folder, kind_of(capture, target), labelled, target, seed, accelerator or available_accelerator())
    job.run(console, overrides or [])
    summary = job.summary()
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    (folder / "summary.md").write_text(summary_markdown(summary))
    figure = draw_figure(job)
    minutes = (time.monotonic() - started) / 60
    console.print(summary_table(summary, title=f"{name}, seed {seed}: test split of {target}"))
    console.print(
        f"{minutes:.1f} minutes. Table: {folder / 'summary.json'}, figure: {figure}, runs: {folder}/", soft_wrap=True
    )


# Captures


def prepare_target(capture: str, captures: Path, seed: int, data: str | None, console: Console) -> Path:
    """The target capture: rendered, imported, or the user's own."""
    if capture not in BUILT_IN:
        Capture.open(capture)
        return Path(capture)
    recordings = data or os.environ.get("DKP_DATA")
    if capture == "synthetic":
        path = captures / f"target-seed{seed}"
        if not path.exists():
            console.print(f"rendering the unlabelled target into {path}")
            synthesize(path, subjects=20, frames=12, cameras=6, size=128, seed=1000 + seed, domain="target")
    elif capture == "board":
        path = captures / "board"
        if not path.exists():
            if recordings is None:
                raise InputError(
                    "the board recording: found neither --data nor the environment variable DKP_DATA, expected the "
                    "folder that holds board/"
                )
            console.print(f"importing the board recording into {path}")
            import_board(Path(recordings) / "board", path)
    else:
        path = captures / "person"
        local = Path(recordings) / "person" if recordings else None
        if not path.exists():
            console.print(f"importing the person recording into {path}")
            import_person(path, source_dir=local if local and local.is_dir() else None)
    Capture.open(path)
    return path


def prepare_source(capture: str, captures: Path, seed: int, domain: str | None, target: Path, console: Console) -> Path:
    """The labelled source capture, rendered unless it is there."""
    if capture == "board":
        path = captures / f"board-source-seed{seed}"
        if not path.exists():
            console.print(f"rendering the labelled source into {path}")
            synthesize_board(path, views=6000, seed=seed)
        return path
    if Capture.open(target).surface.name != "human":
        raise InputError(
            f"{target}: its surface is {Capture.open(target).surface.name}, which dkp cannot render; expected --source "
            "with a labelled capture on the same surface"
        )
    domain = domain or ("sport" if capture == "person" else "varied")
    path = captures / f"source-{domain}-seed{seed}"
    if not path.exists():
        console.print(f"rendering the labelled source into {path}")
        synthesize(path, subjects=40, frames=10, cameras=6, size=128, seed=seed, domain=domain, clip=2)
    return path


def check_same_surface(source: Path, target: Path) -> None:
    """Source and target have to be labelled on one surface."""
    first, second = Capture.open(source).surface, Capture.open(target).surface
    if first.vertices.shape != second.vertices.shape or abs(first.vertices - second.vertices).max() > 1e-4:
        raise InputError(
            f"{source} is on the surface {first.name} and {target} on {second.name}, expected one surface for both"
        )


def kind_of(capture: str, target: Path) -> str:
    """Which of the configurations below configs/main fits."""
    if capture in BUILT_IN:
        return capture
    return "person" if Capture.open(target).surface.name == "human" else "synthetic"


def fresh_folder(folder: Path) -> Path:
    """An empty folder of this name; what was there moves to NAME.1, NAME.2, ..."""
    if folder.exists():
        count = 1
        while (older := folder.with_name(f"{folder.name}.{count}")).exists():
            count += 1
        folder.rename(older)
    folder.mkdir(parents=True)
    return folder


# Stages


def config_folder() -> Path:
    """The configuration files: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent
    for folder in (package.parent / "configs", package / "configs"):
        if (folder / "main").is_dir():
            return folder
    raise InputError(f"{package}: no folder configs beside or inside the package, expected dkp's configuration files")


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

    def run(self, console: Console, overrides: Sequence[str]) -> None:
        """Train the teacher, then both students side by side, then test all three."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        console.print(f"training on the {self.accelerator}, logs in {self.folder}/*.log")
        with Progress(
            TextColumn("{task.description:<8}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn(),
            console=console,
        ) as progress:  # fmt: skip
            self._stage(["teacher"], [self.fit("teacher", overrides)], cores, progress)
            fits = [self.fit(student, overrides) for student in STUDENTS]
            self._stage(STUDENTS, fits, max(1, cores // 2), progress)
            tests = [self.test(detector) for detector in DETECTORS]
            self._stage([f"test {detector}" for detector in DETECTORS], tests, 1, progress)

    def fit(self, stage: str, overrides: Sequence[str]) -> list[str]:
        """Arguments of the `dkp fit` of a stage."""
        configs = config_folder()
        loss = {"teacher": "labelled_only", "control": "distillation_only", "adapted": "ours"}[stage]
        role = "teacher" if stage == "teacher" else "student"
        layers = [
            f"experiment/{stage}",
            "model/unet",
            f"data/{self.kind}",
            f"loss/{loss}",
            f"trainer/{self.accelerator}",
        ]
        layers += [f"main/{self.kind}-{role}"]
        layers += [f"main/{self.kind}-adapted"] if stage == "adapted" else []
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
            options.append(f"--data.init_args.unlabelled={place(target, 'train')}")
            if self.kind == "person" and not all(view.mask for view in target.views):
                options.append("--model.init_args.lambda_mask=0")
        if self.kind == "person" and not any(view.joints for view in target.views):
            options.append("--joints=null")
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
        environment = {**ALLOCATOR, **os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        running = []
        for name, command in zip(names, commands, strict=True):
            log = self.folder / f"{name.replace(' ', '-')}.log"
            with (self.folder / "commands.txt").open("a") as commands_file:
                commands_file.write(shlex.join(["dkp", *command]) + "\n")
            with log.open("w") as stream:
                process = subprocess.Popen(
                    [sys.executable, "-m", "dkp", *command], stdout=stream, stderr=subprocess.STDOUT, env=environment
                )
            running.append((name, process, log, progress.add_task(name, total=None, state="starts")))
        try:
            while True:
                codes = [process.poll() for _, process, _, _ in running]
                for (name, _, log, bar), code in zip(running, codes, strict=True):
                    if code is None:
                        steps, total = self._steps(name)
                        progress.update(bar, completed=steps, total=total, state=f"step {steps}" if steps else "runs")
                    elif code:
                        raise InputError(f"{name} failed with status {code}; the end of {log}: {last_line(log)}")
                    else:
                        progress.update(bar, completed=1, total=1, state="done")
                        progress.stop_task(bar)
                if all(code == 0 for code in codes):
                    return
                time.sleep(0.5)
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
            total = yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_steps"]
            return int(lines[-1].split(",")[column]) + 1, int(total)
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


# Figure


def draw_figure(job: Job, views: int = 6) -> Path:
    """Fields of the three detectors in views of the test split, as `fields.png`."""
    import torch

    from dkp.data import SemiSupervisedDataModule
    from dkp.models import Detector
    from dkp.viz import FieldRow, field_figure

    config = yaml.safe_load((job.folder / "adapted" / "config.yaml").read_text())
    options: dict[str, Any] = config["data"]["init_args"]
    data = SemiSupervisedDataModule(
        test=options["test"], size=options["size"], stride=options["stride"], hide_background=options["hide_background"]
    )
    data.setup("test")
    (loader,) = data.test_dataloader()
    dataset = loader.dataset
    instants = [len(dataset) // 4, 3 * len(dataset) // 4]  # type: ignore[arg-type]
    batches = [loader.collate_fn([dataset[index]]) for index in instants]  # type: ignore[misc]
    pick = [(b, v) for b, batch in enumerate(batches) for v in batch["present"][0].nonzero()[: views // 2, 0].tolist()]
    images = torch.stack([batches[b]["image"][0, v] for b, v in pick])
    rows = []
    if all(bool(batches[b].get("labelled", torch.zeros(1, 99))[0, v]) for b, v in pick):
        labels = [[batches[b][key][0, v] for b, v in pick] for key in ("coordinate", "foreground")]
        rows.append(FieldRow("label", *(torch.stack(values) for values in labels)))
    surface = Capture.open(job.target).surface
    for name in DETECTORS:
        detector = Detector(
            **{**config["model"]["init_args"]["detector"]["init_args"], "weights": str(job.checkpoint(name))}
        ).eval()
        with torch.no_grad():
            field = detector(images)
        rows.append(FieldRow(name, field.coordinates(None), field.foreground_probability))
    path = job.folder / "fields.png"
    titles = [f"{batches[b]['frame'][0]} {batches[b]['camera_name'][0][v]}" for b, v in pick]
    field_figure(images, rows, surface, view_titles=titles, title=f"{job.target.name}: test views", path=path)
    return path
