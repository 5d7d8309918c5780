"""`dkp study` from end to end: a real study of a plane, its report, and the check of a cell."""

import json

import cv2
import pytest
import yaml

from dkp.cli import main
from dkp.pipeline.stages import StageRecord
from dkp.study.check import differences
from dkp.study.record import Record

from .conftest import content


@pytest.fixture(scope="module")
def study(planes, tmp_path_factory):
    """A study that has run once: its plan, its runs, its results."""
    folder = tmp_path_factory.mktemp("study")
    entries = content(planes)
    entries["ordering"] = []
    (folder / "plan.yaml").write_text(yaml.safe_dump(entries, sort_keys=False))
    words = ["study", "run", str(folder / "plan.yaml"), "--only", "plane/ours/seed0,plane/bootstrapping/seed0"]
    main([*words, "--runs", str(folder / "runs"), "--results", str(folder / "results"), "--accelerator", "cpu"])
    return folder


@pytest.mark.slow
def test_cells_have_metrics_in_all_three_kinds(study):
    for method in ("teacher", "bootstrapping", "ours"):
        record = Record.read(study / "results" / "cells" / "plane" / method / "seed0.json")
        assert record.state == "done"
        assert record.steps == 60
        assert record.metrics["geodesic_median_cm"] < 6, "of a plane of 40 cm"
        assert {"iou", "gps", "epipolar_median_px", "trivial/epipolar_median_px", "reprojection_median_px"} <= set(
            record.metrics
        )
    summary = json.loads((study / "results" / "summary.json").read_text())
    assert set(summary["plane"]) == {"teacher", "bootstrapping", "ours", "trivial", "exact", "gap_closed"}


@pytest.mark.slow
def test_the_training_is_shown(study):
    picture = cv2.imread(str(study / "results" / "plane-ours-training.png"))
    assert picture is not None
    assert picture.std() > 10
    assert "plane-ours-training.png" in (study / "results" / "methods.md").read_text()


@pytest.mark.slow
def test_a_cell_is_compared_within_the_tolerance(study, capsys):
    """Its run is there already, so nothing is run again."""
    words = ["study", "check", str(study / "plan.yaml"), "--results", str(study / "results"), "--accelerator", "cpu"]
    main([*words, "--cell", "plane/teacher/seed0", "--runs", str(study / "runs")])
    assert "plane/teacher/seed0 was run again and lies within the tolerance" in capsys.readouterr().out
    path = study / "results" / "cells" / "plane" / "teacher" / "seed0.json"
    good = path.read_text()
    record = Record.read(path)
    record.metrics["geodesic_median_cm"] *= 1.2
    record.write(path)
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--cell", "plane/teacher/seed0", "--runs", str(study / "runs")])
    path.write_text(good)
    assert stopped.value.code == 1
    assert "plane/teacher/seed0 lies outside the tolerance in geodesic_median_cm" in capsys.readouterr().err


@pytest.mark.slow
def test_the_state_of_cells_is_listed(study, capsys):
    words = ["study", "status", str(study / "plan.yaml"), "--results", str(study / "results")]
    main([*words, "--runs", str(study / "runs"), "--only", "plane/*/seed0"])
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if "/" in line}
    assert rows["plane/ours/seed0"][:2] == ["done", "done"]
    assert rows["plane/oracle/seed0"] == ["-", "-"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "{plan}", "--cut", "slow"], "--cut slow is not one of the plan's cuts: quick"),
        (["run", "{plan}", "--only", "nowhere"], "'nowhere' matches no cell"),
        (["run", "{plan}", "--only", "plane", "--overrides", '["--size"]'], "override '--size' has no value"),
        (["check", "{plan}", "--cell", "plane/ours"], "--cell plane/ours is no whole name of a cell"),
        (["check", "{plan}", "--results", "{plan}-none"], "no result of the plan's present recipe"),
        (["report", "nothing"], "does not exist where a YAML file is expected"),
    ],
)
def test_bad_options_end_in_one_sentence(planes, tmp_path, capsys, words, message):
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(content(planes), sort_keys=False))
    with pytest.raises(SystemExit) as stopped:
        main(["study", *(word.replace("{plan}", str(tmp_path / "plan.yaml")) for word in words)])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_differences_are_relative_and_infinite_where_a_value_is_missing():
    old, new = (Record("c", "c", "m", 0, stages={"fit": StageRecord("k", "", 1.0, 1)}) for _ in range(2))
    old.metrics, new.metrics = {"a": 10.0, "b": 1.0}, {"a": 10.5, "b": None}
    found = {name: difference for name, _, _, difference in differences(old, new, {"a": 0.1, "b": 0.1})}
    assert found == {"a": pytest.approx(0.05), "b": float("inf")}
