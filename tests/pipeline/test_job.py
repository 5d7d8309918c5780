"""The stages of a main job: folders, arguments, summary."""

import json
import shutil
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from dkp.captures import Capture
from dkp.errors import InputError
from dkp.pipeline.job import (
    DETECTORS,
    JOINT_KEYS,
    LEDGER,
    SUMMARY,
    SUMMARY_KEYS,
    Job,
    kind_of,
    place,
    surface_option,
)
from dkp.pipeline.runner import Runner, StageFailed
from dkp.pipeline.stages import StageLedger
from dkp.progress import Progress


def job_of(folder: Path, kind: str, target: Path, source: Path | None = None, accelerator: str = "cpu") -> Job:
    return Job(folder, kind, source or target, target, 7, accelerator)


def configs(arguments: list[str]) -> list[str]:
    """The layers of a fit as GROUP/NAME, in order; every file is there."""
    files = [Path(word.removeprefix("--config=")) for word in arguments if word.startswith("--config=")]
    assert all(file.is_file() for file in files)
    return [f"{file.parent.name}/{file.stem}" for file in files]


# Folders and names


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
    annealed = [f"--model.init_args.terms.{name}.init_args.sigma_final=0.01" for name in ("multiview", "consensus")]
    assert adapted == [*control, *annealed]


def test_registered_labels_take_the_place_of_the_source(people, tmp_path):
    """Of its labels and of the teacher's word, for the adapted detector alone."""
    job = job_of(tmp_path, "synthetic", people / "joints")
    control, adapted = (
        [word for word in job.fit(stage, []) if not word.startswith("--config=")] for stage in ("control", "adapted")
    )
    labels = f"{tmp_path / 'registered'}#train"
    own = {f"--data.init_args.labelled={labels}", f"--data.init_args.unlabelled={labels}"}
    own |= {"--data.init_args.pseudo_labels=true", "--model.init_args.terms.pseudo.init_args.weight=1.0"}
    own |= {"--model.init_args.terms.distillation.init_args.weight=0.0"}
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
def test_a_teacher_that_is_not_good_enough_to_register_ends_nothing(people, tmp_path, monkeypatch, fake, status):
    """It is said why, and the students go on without; where the stage broke they do not."""
    run = Runner.run
    ran = {}

    def refused(self, stage, ledger, file, *others):
        ran[stage.name] = stage.words
        if stage.name == "registered":
            log = tmp_path / "registered.log"
            log.write_text("no instant agrees\n")
            raise StageFailed("registered", status, log)
        run(self, stage, ledger, file, *others)

    monkeypatch.setattr(Runner, "run", refused)
    job = job_of(tmp_path / "job", "synthetic", people / "joints")
    output = StringIO()
    if status != 2:
        with pytest.raises(StageFailed, match=r"registered ended with status 1; .* no instant agrees"):
            run_job(job, output)
        return
    run_job(job, output)
    assert list(ran)[:2] == ["teacher", "registered"]
    assert ran["adapted"] == job.fit("adapted", [], registered=False)
    assert "no instant agrees; the adapted detector goes on with the source's labels" in output.getvalue()


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
    assert "--model.init_args.terms.multiview.init_args.sigma_final=0.01" in small
    assert "--model.init_args.terms.consensus.init_args.sigma_final=0.0125" in large
    assert configs(small)[-2:] == ["main/synthetic-student", "main/synthetic-adapted"]
    assert not any(
        word.startswith("--sigma") for word in job_of(tmp_path, "person", people / "bare").fit("teacher", [])
    )


def test_masks_and_joints_of_a_person_are_used_where_there_are_any(people, tmp_path):
    def options(capture: str, stage: str) -> set[str]:
        return set(job_of(tmp_path, "person", people / capture).fit(stage, []))

    no_masks, no_joints = "--model.init_args.terms.mask.init_args.weight=0", "--joints=null"
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


def run_job(job: Job, output: StringIO | None = None, overrides: Sequence[str] = ()) -> None:
    with Progress(Console(file=output or StringIO(), width=300)) as progress:
        job.run(progress, overrides)


def begun(log: Path) -> list[str]:
    """The commands that began, in order, and how many threads they had."""
    rows = [line.split() for line in log.read_text().splitlines()]
    return [f"{row[1]} {row[-1]}" for row in rows if row[0] == "begin"]


@pytest.fixture
def job(planes, tmp_path, fake, monkeypatch):
    monkeypatch.setattr("dkp.pipeline.runner.cores", lambda: 4)
    return job_of(tmp_path / "runs" / "job", "object", planes / "mine")


def test_students_share_the_cores_that_the_teacher_has_alone(job, log):
    run_job(job)
    assert begun(log) == ["fit 4", "fit 2", "fit 2", "test 1", "test 1", "test 1"]
    commands = [line.split()[:2] for line in (job.folder / "commands.txt").read_text().splitlines()]
    assert sorted(commands) == [["dkp", "fit"]] * 3 + [["dkp", "test"]] * 3
    assert {path.name for path in job.folder.glob("*.log")} == {
        *(f"{name}.log" for name in DETECTORS),
        *(f"test-{name}.log" for name in DETECTORS),
    }


def test_no_student_without_its_teacher(job, log, fake):
    fake(broken="/teacher")
    with pytest.raises(InputError, match=r"teacher ended with status 3; the end of .*teacher\.log: all is lost"):
        run_job(job)
    assert begun(log) == ["fit 4"]


def test_a_job_that_stopped_goes_on_from_the_stages_that_are_done(job, log, fake):
    fake(broken="/control")
    with pytest.raises(InputError, match="control ended with status 3"):
        run_job(job)
    fake()
    ledger = StageLedger.read(job.folder / LEDGER)
    assert "teacher" in ledger.stages
    assert "control" not in {**ledger.stages, **ledger.begun}
    log.unlink()
    output = StringIO()
    run_job(job, output)
    assert "goes on in" in output.getvalue()
    assert begun(log).count("fit 4") == 0
    assert (job.folder / "control.1").is_dir()  # what failed is not gone on with
    assert {stage.split()[0] for stage in begun(log)} <= {"fit", "resume", "test"}
    assert set(StageLedger.read(job.folder / LEDGER).stages) == {*DETECTORS, *(f"test {one}" for one in DETECTORS)}


def test_a_fit_that_was_interrupted_is_resumed(job, log):
    run_job(job)
    ledger = StageLedger.read(job.folder / LEDGER)
    ledger.begun = {"adapted": ledger.stages.pop("adapted").key}
    ledger.write(job.folder / LEDGER)
    log.unlink()
    run_job(job)
    assert begun(log) == ["resume 2"]
    assert StageLedger.read(job.folder / LEDGER).stages["adapted"].resumed


def test_a_job_that_is_complete_or_of_another_recipe_is_moved_aside(job, log):
    run_job(job)
    run_job(job, overrides=["--trainer.max_steps=3"])
    assert (job.folder.with_name("job.1") / "teacher").is_dir()
    (job.folder / SUMMARY).touch()
    run_job(job, overrides=["--trainer.max_steps=3"])
    assert (job.folder.with_name("job.2") / SUMMARY).is_file()
    assert len(begun(log)) == 18


def test_other_captures_are_another_recipe(planes, tmp_path):
    job = job_of(tmp_path, "object", planes / "mine")
    words = job.fit("teacher", [])
    shutil.copytree(planes / "mine", tmp_path / "mine")
    copy = job_of(tmp_path, "object", tmp_path / "mine")
    before = copy.stage("teacher", words).key
    assert before == job.stage("teacher", words).key
    with (tmp_path / "mine" / "views.jsonl").open("a") as views:
        views.write("\n")
    assert copy.stage("teacher", words).key != before
