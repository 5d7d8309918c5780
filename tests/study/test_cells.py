"""Running cells: order, going on where it stopped, failures. The processes run a script of the test, not Python."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from dkp.progress import Progress
from dkp.study.cells import Cells, is_done, record_path
from dkp.study.plan import read_plan
from dkp.study.recipe import Folders
from dkp.study.record import Record, portable


@pytest.fixture
def folders(planes, tmp_path):
    pairs = [(capture, seed) for capture in ("plane", "few") for seed in (0, 1)]
    sources, targets = dict.fromkeys(pairs, planes / "labelled"), dict.fromkeys(pairs, planes / "mine")
    return Folders(tmp_path / "runs", sources, targets, "cpu")


def run(plan, folders, *patterns, jobs=2):
    output = StringIO()
    with Progress(Console(file=output)) as progress:
        failed = Cells(plan, folders, jobs, progress).run(plan.select(patterns))
    return failed, output.getvalue().splitlines()


def began(log, kind="fit"):
    """Cells in the order in which their stages began."""
    rows = [line.split() for line in log.read_text().splitlines()]
    return ["/".join(Path(row[2]).parts[-3:]) for row in rows if row[:2] == ["begin", kind]]


def test_a_cell_runs_after_its_teacher_and_leaves_its_record(plan, folders, fake, log):
    failed, lines = run(plan, folders, "plane/ours/seed0")
    assert failed == {}
    assert began(log) == ["plane/teacher/seed0", "plane/ours/seed0"]
    said = [line.split(",")[0] for line in lines]
    assert said == [f"plane/{method}/seed0: {word}" for method in ("teacher", "ours") for word in ("begins", "done")]
    record = Record.read(record_path(folders.runs, plan.select(("plane/ours/seed0",))[-1]))
    assert (record.state, record.capture, record.method, record.seed) == ("done", "plane", "ours", 0)
    assert record.metrics == {"iou": 0.5, "trivial/iou": None}
    assert list(record.stages) == ["fit", "test"]
    assert record.steps == 60
    assert record.minutes >= 0
    assert record.commit
    assert {"processor", "cores", "torch"} <= set(record.machine)
    commands = " ".join(stage.command for stage in record.stages.values())
    assert str(folders.runs.parent) not in commands
    assert "--config=configs/people/adapted.yaml" in commands
    assert "--root=runs/study/plane/ours/seed0" in commands
    assert "--source=captures/labelled#train" in commands


def test_what_is_done_is_not_run_again(plan, folders, fake, log):
    run(plan, folders, "plane/ours/seed0")
    before = log.read_text()
    failed, lines = run(plan, folders, "plane/ours/seed0")
    assert log.read_text() == before
    assert (failed, lines) == ({}, ["2 of 2 cells are done already"])


def test_another_test_runs_the_test_alone(plan, folders, fake, log):
    run(plan, folders, "plane/teacher/seed0")
    log.unlink()
    other = replace(plan, metrics={})
    run(other, folders, "plane/teacher/seed0")
    assert (began(log), len(began(log, "test"))) == ([], 1)
    assert is_done(other, other.select(("plane/teacher/seed0",))[0], folders)


def test_another_recipe_runs_all_of_a_cell_and_keeps_what_was(plan, folders, fake, log):
    run(plan, folders, "plane/ours/seed0")
    log.unlink()
    ours = replace(plan.methods["ours"], options={"clip": 1.0})
    run(replace(plan, methods={**plan.methods, "ours": ours}), folders, "plane/ours/seed0")
    assert began(log) == ["plane/ours/seed0"]
    assert (folders.runs / "plane" / "ours" / "seed0" / "fit.1" / "config.yaml").is_file()


def test_a_fit_that_was_interrupted_is_resumed_in_its_folder(plan, folders, fake, log):
    run(plan, folders, "plane/teacher/seed0")
    path = folders.runs / "plane" / "teacher" / "seed0" / "cell.json"
    (path.parent / "fit" / "checkpoints" / "last.ckpt").unlink()
    record = Record.read(path)
    record.state, record.begun = "unfinished", {"fit": record.stages["fit"].key}
    command = record.stages.pop("fit").command
    record.write(path)
    log.unlink()
    run(plan, folders, "plane/teacher/seed0")
    assert [line.split()[1] for line in log.read_text().splitlines()] == ["resume", "resume", "test", "test"]
    record = Record.read(path)
    assert (record.state, record.begun, record.stages["fit"].resumed) == ("done", {}, True)
    assert record.stages["fit"].command == command
    assert not (path.parent / "fit.1").exists()


def test_a_cell_that_fails_is_recorded_and_others_go_on(plan, folders, fake, log):
    fake(broken="plane/control/seed0")
    failed, _ = run(plan, folders, "plane/control/seed0", "plane/ours/seed0")
    assert list(failed) == ["plane/control/seed0"]
    assert "fit ended with status 3" in failed["plane/control/seed0"]
    assert "all is lost" in failed["plane/control/seed0"]
    record = Record.read(folders.runs / "plane" / "control" / "seed0" / "cell.json")
    assert record.state == "failed"
    assert "all is lost" in record.error
    assert str(folders.runs) not in record.error
    assert is_done(plan, plan.select(("plane/ours/seed0",))[-1], folders)
    fake()
    assert run(plan, folders, "plane/control/seed0")[0] == {}
    assert Record.read(folders.runs / "plane" / "control" / "seed0" / "cell.json").error is None


def test_without_its_teacher_a_cell_fails_and_is_not_tried(plan, folders, fake, log):
    fake(broken="plane/teacher/seed0")
    failed, _ = run(plan, folders, "plane/ours", "plane/oracle")
    assert set(failed) == {f"plane/{method}/seed0" for method in ("teacher", "ours", "oracle")}
    assert failed["plane/ours/seed0"] == "plane/teacher/seed0, which it starts from, failed"
    assert set(began(log)) == {"plane/teacher/seed0", *(f"plane/{m}/seed1" for m in ("teacher", "ours", "oracle"))}


def test_a_capture_that_cannot_be_had_fails_its_cells_only(plan, folders, fake):
    folders = replace(folders, targets={key: value for key, value in folders.targets.items() if key[0] != "few"})
    missing = {("few", 0): "no recording"}
    cells = plan.select(("few/teacher/seed0", "plane/teacher/seed0"))
    with Progress(Console(quiet=True)) as progress:
        assert Cells(plan, folders, 2, progress, missing).run(cells) == {"few/teacher/seed0": "no recording"}


def test_processes_run_side_by_side_with_the_cores_divided(plan, folders, fake, log, monkeypatch):
    fake(seconds=0.3)
    monkeypatch.setattr("dkp.pipeline.runner.cores", lambda: 4)
    run(plan, folders, "plane/ours/seed0", "plane/control/seed0")
    rows = [line.split() for line in log.read_text().splitlines()]
    threads = {Path(row[2]).parts[-2]: row[3] for row in rows if row[:2] == ["begin", "fit"]}
    assert threads == {"teacher": "4", "ours": "2", "control": "2"}
    students = [row[0] for row in rows if row[1] == "fit"][2:]
    assert students == ["begin", "begin", "end", "end"]


def test_rounds_and_pseudo_labels_are_stages(plan, folders, fake):
    run(plan, folders, "plane/two_rounds", "plane/bootstrapping/seed0")
    records = {
        name: Record.read(folders.runs / "plane" / name / "seed0" / "cell.json")
        for name in ("two_rounds", "bootstrapping")
    }
    assert list(records["two_rounds"].stages) == ["fit-1", "fit-2", "test"]
    assert records["two_rounds"].steps == 120
    assert list(records["bootstrapping"].stages) == ["pseudo", "fit", "test"]


def test_labels_that_several_cells_need_are_made_once(plan_content, folders, fake, log, tmp_path):
    plan_content["methods"]["again"] = {**plan_content["methods"]["bootstrapping"], "options": {"clip": 10.0}}
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump(plan_content))
    plan = read_plan(str(file))
    fake(seconds=0.3)
    failed, _ = run(plan, folders, "plane/bootstrapping/seed0", "plane/again/seed0", jobs=2)
    assert failed == {}
    assert len(began(log, "pseudo-label")) == 1
    first, second = (
        Record.read(folders.runs / "plane" / name / "seed0" / "cell.json").stages for name in ("bootstrapping", "again")
    )
    assert first["pseudo"].key != second["pseudo"].key
    assert replace(first["pseudo"], key="") == replace(second["pseudo"], key="")  # each is charged what it took
    run(plan, folders, "plane/bootstrapping/seed1")
    assert len(began(log, "pseudo-label")) == 2


def test_commands_are_written_without_this_machines_folders():
    folders = {Path("/home/me/runs"): "runs/study", Path("runs"): "runs/study"}
    words = ["--root=/home/me/runs/a", "--x=/home/me/runs-old/a", "--data=[/home/me/runs/b#train, 1]", "--name=runs"]
    assert portable(words, folders) == [
        "--root=runs/study/a",
        words[1],
        "--data=[runs/study/b#train, 1]",
        "--name=runs/study",
    ]
