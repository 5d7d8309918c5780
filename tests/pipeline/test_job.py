"""The stages of a main job: folders, arguments, summary."""

import json
import shutil
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from dkp.captures import Capture
from dkp.cli import main
from dkp.errors import InputError
from dkp.pipeline import train
from dkp.pipeline.job import (
    DETECTORS,
    JOINT_KEYS,
    LEDGER,
    SUMMARY,
    SUMMARY_KEYS,
    Job,
    evaluated_on,
    recipes_of,
    with_split,
)
from dkp.pipeline.runner import Runner, StageFailed
from dkp.pipeline.stages import StageLedger
from dkp.progress import Progress
from dkp.recipes import recipe_folder
from dkp.weights import weights_file


def job_of(folder: Path, kind: str, target: Path, source: Path | None = None, accelerator: str | None = None) -> Job:
    return Job(folder, recipe_folder() / kind, source or target, target, 7, accelerator)


# Folders and names


def test_a_place_names_a_split_only_where_there_is_one(planes):
    assert with_split(Capture.open(planes / "mine"), "train") == f"{planes / 'mine'}#train"
    assert with_split(Capture.open(planes / "wide"), "train") == f"{planes / 'wide'}#"


def test_it_is_said_where_the_instants_of_training_are_tested(planes):
    place = planes / "mine"
    assert evaluated_on(Capture.open(place)) == f"test split of {place}"
    words = f"all instants of {planes / 'wide'}, also those of training, since it has no test split"
    assert evaluated_on(Capture.open(planes / "wide")) == words


def test_the_recipes_follow_from_the_surface(planes, people):
    assert recipes_of("synthetic", planes / "nowhere") == recipe_folder() / "people"
    assert recipes_of("board", planes / "nowhere") == recipe_folder() / "board"
    assert recipes_of("somewhere", planes / "mine") == recipe_folder() / "object"
    assert recipes_of("somewhere", people / "bare") == recipe_folder() / "person"


def test_a_surface_by_file_or_by_name(planes, people):
    assert Capture.open(planes / "mine").surface_source == str(planes / "mine" / "surface.npz")
    assert Capture.open(people / "bare").surface_source == "human"


# Arguments; those of a fit: tests/test_configs.py


@pytest.mark.parametrize("kind", ["people", "dog", "board"])
def test_the_target_is_labelled_as_the_adapted_recipe_says(kind, people, tmp_path, capsys):
    """All options are understood: what is missed is the teacher."""
    job = job_of(tmp_path, kind, people / "joints")
    words = job.register()
    assert words[:5] == [
        "pseudo-label",
        f"--config={tmp_path / 'teacher' / 'config.yaml'}",
        f"--ckpt_path={tmp_path / 'teacher' / 'checkpoints' / 'last.ckpt'}",
        f"--out={tmp_path / 'registered'}",
        f"--capture={people / 'joints'}#",
    ]
    further = {
        "people": ["--hide_background=true"],
        "dog": ["--hide_background=true"],
        "board": [
            "--captured_masks=false",
            '--registration={"stiffness": 1000.0, "stiffness_final": 1000.0, "silhouette": 0.0}',
        ],
    }
    assert words[5:] == ["--method=registration", *further[kind]]
    with pytest.raises(SystemExit):
        main(words)
    assert f"{tmp_path / 'teacher' / 'config.yaml'}" in capsys.readouterr().err


def test_where_the_target_is_not_registered_a_file_on_top_says_so(people, tmp_path):
    job = job_of(tmp_path, "people", people / "joints")
    with_labels, without = job.fit("adapted", []), job.fit("adapted", [], ready=[])
    assert without == [*with_labels[:2], f"--config={recipe_folder() / 'unregistered.yaml'}", *with_labels[2:]]
    assert job.fit("control", [], ready=[]) == job.fit("control", [])
    other = job_of(tmp_path, "object", people / "joints")
    assert (other.registered, other.fit("adapted", [], ready=[])) == ({}, other.fit("adapted", []))


def refusing(monkeypatch, folder: Path, name: str, status: int, said: str) -> dict[str, list[str]]:
    """The commands of all stages that are run from now on, by name; the one of this name fails and says so."""
    run, ran = Runner.run, {}

    def refused(self, stage, ledger, file, *others):
        ran[stage.name] = stage.words
        if stage.name == name:
            log = folder / f"{name}.log"
            log.write_text(f"{said}\n")
            raise StageFailed(name, status, log)
        run(self, stage, ledger, file, *others)

    monkeypatch.setattr(Runner, "run", refused)
    return ran


@pytest.mark.parametrize("status", [2, 1])
def test_a_teacher_that_is_not_good_enough_to_register_ends_nothing(people, tmp_path, monkeypatch, fake, status):
    """It is said why, and the students go on without; where the stage broke they do not."""
    ran = refusing(monkeypatch, tmp_path, "registered", status, "no instant agrees")
    job = job_of(tmp_path / "job", "people", people / "joints")
    output = StringIO()
    if status != 2:
        with pytest.raises(StageFailed, match=r"registered ended with status 1; .* no instant agrees"):
            run_job(job, output)
        return
    run_job(job, output)
    assert list(ran)[:2] == ["teacher", "registered"]
    assert ran["adapted"] == job.fit("adapted", [], ready=[])
    assert "no instant agrees; the adapted detector goes on with the source's labels" in output.getvalue()


def recorded(people: Path, folder: Path, own_subject: bool = True) -> Job:
    """A job from the shipped detector, whose recipe has the subject rendered."""
    target = people / "masked"
    return Job(folder, recipe_folder() / "human-small", people / "bare", target, 7, "cpu", "human-small", own_subject)


def test_the_subject_of_a_recording_is_rendered_in_its_rig_and_is_the_source_of_the_adapted_detector(people, tmp_path):
    job, rendered = recorded(people, tmp_path), recorded(people, tmp_path, own_subject=False)
    assert [name for name, *_ in job.preparations()] == ["registered", "subject"]
    assert [name for name, *_ in rendered.preparations()] == ["registered"]
    words = job.render_subject()
    assert words[:5] == [
        "synthesize",
        str(tmp_path / "subject"),
        f"--rig={tmp_path / 'registered'}#train",
        f"--subject={tmp_path / 'registered'}",
        "--seed=7",
    ]
    assert "--domain=sport" in words
    both = ["registered", "subject"]
    assert f"--source={tmp_path / 'subject'}#train" in job.fit("adapted", [], both)
    for fit in (job.fit("adapted", []), job.fit("control", [], both)):
        assert f"--source={people / 'bare'}#" in fit
    other = Job(tmp_path, recipe_folder() / "people", people / "bare", people / "masked", 7, own_subject=True)
    assert [name for name, *_ in other.preparations()] == ["registered"]  # its recipe does not say how


def test_a_subject_needs_registered_views(people, tmp_path):
    (tmp_path / "adapted.yaml").write_text("labels: null\nsubject: {domain: sport}\n")
    job = Job(tmp_path, tmp_path, people / "bare", people / "masked", 7, own_subject=True)
    with pytest.raises(InputError, match="found `subject` without `labels`, expected both or neither"):
        job.preparations()


def test_where_the_subject_cannot_be_rendered_the_source_serves(people, tmp_path, monkeypatch, fake):
    ran = refusing(monkeypatch, tmp_path, "subject", 2, "no floor")
    monkeypatch.setattr(Job, "subject", {"domain": "sport"})
    job, output = job_of(tmp_path / "job", "people", people / "joints"), StringIO()
    run_job(job, output)
    assert list(ran)[:3] == ["teacher", "registered", "subject"]
    assert ran["adapted"] == job.fit("adapted", [], ["registered"])
    assert "no floor; the adapted detector goes on with the source beside the target's labels" in output.getvalue()


def test_the_users_word_is_the_last(planes, tmp_path):
    job = job_of(tmp_path, "object", planes / "mine", planes / "labelled", accelerator="gpu")
    assert job.fit("teacher", ["--trainer.max_steps=3"])[-2:] == ["--trainer.accelerator=gpu", "--trainer.max_steps=3"]


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
    expected = [key for key in SUMMARY_KEYS if key not in {*JOINT_KEYS, "mask_iou"}]  # the labels have the foreground
    assert [*summary["adapted"]] == expected
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


# A shipped teacher


def test_a_shipped_teacher_is_not_trained(people, tmp_path, capsys):
    """It labels and is tested by its name; the students begin from it with its network and its crops."""
    job = Job(tmp_path, recipe_folder() / "human-small", people / "bare", people / "bare", 7, teacher="human-small")
    name, words = job.test_teacher()
    assert (name, words[0], words[2]) == ("test teacher", "test", "--ckpt_path=human-small")
    assert {f"--root={tmp_path}", "--name=teacher"} <= set(words)
    assert "--ckpt_path=human-small" in job.register()
    for student in ("control", "adapted"):
        assert {"--ckpt_path=human-small", "--model.init_args.teacher=human-small"} <= set(job.fit(student, []))
    for each in (words, job.fit("control", []), job.fit("adapted", []), job.fit("adapted", [], ready=[])):
        with pytest.raises(SystemExit) as stopped:
            main([*each, "--print_config"])
        captured = capsys.readouterr()
        assert stopped.value.code in (None, 0), captured.err
        assert yaml.safe_load(captured.out)["data"]["init_args"]["test"] == f"{people / 'bare'}#"
    assert job.checkpoint("teacher") == weights_file("human-small")
    assert job.checkpoint("adapted") == tmp_path / "adapted" / "checkpoints" / "last.ckpt"


def test_a_shipped_teacher_has_to_be_of_the_targets_surface(planes, tmp_path):
    with pytest.raises(InputError, match="expected human, that of human-small"):
        train(str(planes / "mine"), source=str(planes / "mine"), runs=str(tmp_path), teacher="human-small")
    with pytest.raises(InputError, match="dkp ships no weights 'nobody'"):
        train(str(planes / "mine"), source=str(planes / "mine"), runs=str(tmp_path), teacher="nobody")
