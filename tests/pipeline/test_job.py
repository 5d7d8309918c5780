"""The stages of a main job: folders, arguments, summary."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from dkp.captures import Capture
from dkp.errors import InputError
from dkp.pipeline.job import (
    DETECTORS,
    JOINT_KEYS,
    SUMMARY_KEYS,
    Job,
    StageFailed,
    fresh_folder,
    kind_of,
    last_line,
    place,
    surface_option,
)


def job_of(folder: Path, kind: str, target: Path, source: Path | None = None, accelerator: str = "cpu") -> Job:
    return Job(folder, kind, source or target, target, 7, accelerator)


def configs(arguments: list[str]) -> list[str]:
    """The layers of a fit as GROUP/NAME, in order; every file is there."""
    files = [Path(word.removeprefix("--config=")) for word in arguments if word.startswith("--config=")]
    assert all(file.is_file() for file in files)
    return [f"{file.parent.name}/{file.stem}" for file in files]


# Folders and names


def test_a_fresh_folder_moves_older_ones_aside(tmp_path):
    folder = tmp_path / "runs" / "train"
    for content in ("first", "second", "third"):
        assert fresh_folder(folder) == folder
        assert list(folder.iterdir()) == []
        (folder / content).touch()
    assert [
        [path.name for path in (tmp_path / "runs" / name).iterdir()] for name in ("train.1", "train.2", "train")
    ] == [
        ["first"],
        ["second"],
        ["third"],
    ]


def test_a_place_names_a_split_only_where_there_is_one(planes):
    assert place(Capture.open(planes / "mine"), "train") == f"{planes / 'mine'}#train"
    assert place(Capture.open(planes / "wide"), "train") == f"{planes / 'wide'}#"


def test_the_kind_follows_from_the_surface(planes, people):
    assert kind_of("board", planes / "nowhere") == "board"
    assert kind_of("somewhere", planes / "mine") == "object"
    assert kind_of("somewhere", people / "bare") == "person"


def test_a_surface_by_file_or_by_name(planes, people):
    assert surface_option(Capture.open(planes / "mine")) == str(planes / "mine" / "surface.npz")
    assert surface_option(Capture.open(people / "bare")) == "human"


def test_the_last_line_that_says_anything(tmp_path):
    log = tmp_path / "a.log"
    log.write_bytes(b"first\n  dkp: error: \xff bad \n\n  \n")
    assert last_line(log) == "dkp: error: \N{REPLACEMENT CHARACTER} bad"
    log.write_text("\n")
    assert last_line(log) == "(empty)"


# Arguments


@pytest.mark.parametrize("kind", ["synthetic", "dog", "board", "person"])
def test_layers_of_the_stages(kind, people, tmp_path):
    job = job_of(tmp_path, kind, people / "joints", accelerator="gpu")
    common = ["model/unet", f"data/{kind}"]
    assert configs(job.fit("teacher", [])) == [
        "experiment/teacher", *common, "loss/labelled_only", "trainer/gpu", f"main/{kind}-teacher",
    ]  # fmt: skip
    assert configs(job.fit("control", [])) == [
        "experiment/control", *common, "loss/distillation_only", "trainer/gpu", f"main/{kind}-student",
    ]  # fmt: skip
    assert configs(job.fit("adapted", [])) == [
        "experiment/adapted", *common, "loss/ours", "trainer/gpu", f"main/{kind}-student", f"main/{kind}-adapted",
    ]  # fmt: skip


def test_control_and_adapted_differ_in_their_layers_and_the_last_sigma_only(planes, tmp_path):
    job = job_of(tmp_path, "object", planes / "mine", planes / "labelled")
    control, adapted = (
        [word for word in job.fit(stage, []) if not word.startswith("--config=")] for stage in ("control", "adapted")
    )
    assert adapted == [*control, "--model.init_args.sigma_final=0.01"]


def test_registered_labels_take_the_place_of_the_source(people, tmp_path):
    """Of its labels and of the teacher's word, for the adapted detector alone."""
    job = job_of(tmp_path, "synthetic", people / "joints")
    control, adapted = (
        [word for word in job.fit(stage, []) if not word.startswith("--config=")] for stage in ("control", "adapted")
    )
    labels = f"{tmp_path / 'registered'}#train"
    own = {f"--data.init_args.labelled={labels}", f"--data.init_args.unlabelled={labels}"}
    own |= {"--data.init_args.pseudo_labels=true", "--model.init_args.lambda_pseudo=1.0"}
    own |= {"--model.init_args.lambda_distillation=0.0"}
    assert set(adapted) - set(control) == own
    assert [word.split("=")[0] for word in set(control) - set(adapted)] == ["--data.init_args.unlabelled"]
    words = job.register()
    assert words[0] == "pseudo-label"
    assert {f"--config={tmp_path / 'teacher' / 'config.yaml'}", f"--out={tmp_path / 'registered'}"} <= set(words)
    assert {f"--capture={people / 'joints'}#", "--method=registration"} <= {w.split("train")[0] for w in words}
    has_masks = all(view.mask for view in Capture.open(people / "joints").views)
    assert f"--hide_background={json.dumps(has_masks)}" in words
    assert job_of(tmp_path, "object", people / "joints").registered == {}
    without = [word for word in job.fit("adapted", [], registered=False) if not word.startswith("--config=")]
    assert without == control


@pytest.mark.parametrize("status", [2, 1])
def test_a_teacher_that_is_not_good_enough_to_register_ends_nothing(people, tmp_path, monkeypatch, status):
    """It is said why, and the students go on without; where the stage broke they do not."""
    began, log = [], tmp_path / "registered.log"
    log.write_text("no instant agrees\n")

    def stage(self, names, commands, threads, progress):
        began.extend(zip(names, commands, strict=True))
        if list(names) == ["registered"]:
            raise StageFailed("registered", status, log)

    monkeypatch.setattr(Job, "_stage", stage)
    console = Console(record=True, width=300)
    job = job_of(tmp_path, "synthetic", people / "joints")
    if status != 2:
        with pytest.raises(StageFailed, match=r"registered ended with status 1; .* no instant agrees"):
            job.run(console, [])
        return
    job.run(console, [])
    assert [name for name, _ in began][:4] == ["teacher", "registered", "control", "adapted"]
    assert dict(began)["adapted"] == job.fit("adapted", [], registered=False)
    assert "no instant agrees; the adapted detector goes on with the source's labels" in console.export_text()


def test_options_of_a_fit(planes, tmp_path):
    job = job_of(tmp_path, "object", planes / "mine", planes / "labelled")
    teacher, adapted = job.fit("teacher", ["--trainer.max_steps=3"]), job.fit("adapted", [])
    assert teacher[0] == adapted[0] == "fit"
    assert teacher[-1] == "--trainer.max_steps=3"  # the user's word is the last
    shared = {
        f"--root={tmp_path}",
        f"--source={planes / 'labelled'}#train",
        f"--target={planes / 'mine'}",
        f"--surface={planes / 'mine' / 'surface.npz'}",
        "--seed_everything=7",
        "--data.init_args.seed=7",
        f"--data.init_args.test={planes / 'mine'}#test",
    }
    assert shared <= set(teacher) & set(adapted)
    unlabelled = f"--data.init_args.unlabelled={planes / 'mine'}#train"
    assert unlabelled in adapted
    assert unlabelled not in teacher


def test_lengths_of_the_losses_follow_an_unknown_surface(planes, people, tmp_path):
    small = job_of(tmp_path, "object", planes / "mine").fit("adapted", [])
    large = job_of(tmp_path, "object", planes / "wide").fit("adapted", [])
    assert {"--sigma=0.02", "--scale=0.02", "--beta=0.006"} <= set(small)
    assert {"--sigma=0.025", "--scale=0.025", "--beta=0.0075"} <= set(large)
    assert "--model.init_args.sigma_final=0.01" in small
    assert "--model.init_args.sigma_final=0.0125" in large
    assert configs(small)[-2:] == ["main/synthetic-student", "main/synthetic-adapted"]
    assert not any(
        word.startswith("--sigma") for word in job_of(tmp_path, "person", people / "bare").fit("teacher", [])
    )


def test_masks_and_joints_of_a_person_are_used_where_there_are_any(people, tmp_path):
    def options(capture: str, stage: str) -> set[str]:
        return set(job_of(tmp_path, "person", people / capture).fit(stage, []))

    no_masks, no_joints = "--model.init_args.lambda_mask=0", "--joints=null"
    assert no_masks not in options("masked", "control")
    assert no_joints in options("masked", "control")
    assert no_masks in options("joints", "control")
    assert no_joints not in options("joints", "control")
    assert no_masks not in options("bare", "teacher")  # the teacher's task has no such weight
    assert no_joints in options("bare", "teacher")


def test_the_test_of_a_detector_uses_its_own_configuration_and_last_weights(planes, tmp_path):
    assert job_of(tmp_path, "object", planes / "mine").test("control") == [
        "test",
        f"--config={tmp_path / 'control' / 'config.yaml'}",
        f"--ckpt_path={tmp_path / 'control' / 'checkpoints' / 'last.ckpt'}",
    ]


# Summary


def write_metrics(folder: Path, values: dict[str, dict[str, float | None]]) -> None:
    for detector in DETECTORS:
        path = folder / detector / "test" / "metrics.json"
        path.parent.mkdir(parents=True)
        metrics = {f"test/{key}": value for key, value in values[detector].items()}
        path.write_text(json.dumps({"stage": "test", "metrics": metrics}))


def test_a_summary_has_none_where_there_is_no_truth(planes, tmp_path):
    trivial = {"trivial/epipolar_median_px": 9.0, "trivial/matched_share": 0.5}
    values = {
        name: {"epipolar_median_px": float(place), "matched_share": 0.9, "joint_cm": None, "pair/a-b/x": 1.0, **trivial}
        for place, name in enumerate(DETECTORS)
    }
    write_metrics(tmp_path, values)
    summary = job_of(tmp_path, "person", planes / "mine").summary()
    assert list(summary) == ["teacher", "control", "adapted", "trivial"]
    assert all(tuple(column) == SUMMARY_KEYS for column in summary.values())
    assert [summary[name]["epipolar_median_px"] for name in summary] == [0.0, 1.0, 2.0, 9.0]
    assert summary["trivial"]["matched_share"] == 0.5
    for column in summary.values():
        assert column["geodesic_median_cm"] is None
        assert column["joint_cm"] is None


def test_rows_of_joints_are_there_only_with_joints(planes, tmp_path):
    write_metrics(tmp_path, {name: {"iou": 0.5} for name in DETECTORS})
    summary = job_of(tmp_path, "object", planes / "mine").summary()
    assert tuple(summary["adapted"]) == tuple(key for key in SUMMARY_KEYS if key not in JOINT_KEYS)
    assert summary["trivial"]["iou"] is None


# Running


def test_a_stage_that_fails_names_its_log_and_stops_the_other(planes, tmp_path, monkeypatch):
    """The processes are real; in place of Python they run a script that sleeps or fails."""
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\nif [ "$3" = sleep ]; then exec sleep 300; fi\necho all is lost >&2\nexit 3\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    started = []
    popen = subprocess.Popen

    def recorded(*words, **options):
        started.append(popen(*words, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", recorded)
    job = job_of(tmp_path, "object", planes / "mine")
    commands = {"teacher": ["ends"], "control": ["sleep"], "adapted": ["ends"]}
    monkeypatch.setattr(Job, "fit", lambda self, stage, overrides: commands[stage])
    with pytest.raises(InputError, match=r"teacher ended with status 3; the end of .*teacher\.log: all is lost"):
        job.run(Console(quiet=True), [])
    assert len(started) == 1  # no student without its teacher
    quiet = Console(quiet=True)
    with pytest.raises(InputError, match=r"adapted ended with status 3"), Progress(console=quiet) as progress:
        job._stage(("control", "adapted"), [commands["control"], commands["adapted"]], 1, progress)
    assert all(process.poll() is not None for process in started)
    assert (tmp_path / "commands.txt").read_text().splitlines() == ["dkp ends", "dkp sleep", "dkp ends"]


def test_progress_is_read_from_the_run(planes, tmp_path):
    job = job_of(tmp_path, "object", planes / "mine")
    assert job._steps("teacher") == (0, None)
    run = tmp_path / "teacher"
    run.mkdir()
    (run / "metrics.csv").write_text("epoch,step,train/loss\n0,49,0.5\n0,99,0.4\n")
    (run / "config.yaml").write_text("trainer: {max_steps: 400}\n")
    assert job._steps("teacher") == (100, 400)
    (run / "metrics.csv").write_text("")
    assert job._steps("teacher") == (0, None)
