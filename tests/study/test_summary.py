"""Means, spreads and shares of the gap of records with known numbers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dkp.pipeline.stages import StageRecord
from dkp.study.pictures import draw_methods
from dkp.study.plan import read_plan
from dkp.study.recipe import Folders, keys
from dkp.study.record import Record, read_records
from dkp.study.report import collect, command, write_report
from dkp.study.summary import gather, mean_and_spread, ordering_holds, summary, verdicts
from dkp.study.tables import NOTHING, ablation_page, capture_page

ERRORS = {
    "teacher": (14.0, 15.0),
    "labelled_only": (13.0, 15.0),
    "control": (13.0, 14.0),
    "ours": (11.0, 12.0),
    "oracle": (9.0, 10.0),
}
"""Median geodesic error [cm] of each method with seeds 0 and 1."""


def record(plan, name, **metrics):
    (cell,) = [one for one in plan.cells() if one.name == name]
    found = Record.new(cell)
    found.state, found.key, found.commit, found.steps = "done", keys(plan, cell, {})["test"], "abc1234567", 60
    found.started, found.machine = "2026-01-02T03:04:05+00:00", {"processor": "abacus", "cores": 2, "torch": "2"}
    found.stages = {"fit": StageRecord("k", "dkp fit", 2.0, 1), "test": StageRecord("k", "dkp test", 0.5, 1)}
    found.metrics = metrics
    return found


@pytest.fixture
def records(plan):
    found = {}
    for method, errors in ERRORS.items():
        for seed, error in enumerate(errors):
            trivial = {"trivial/epipolar_median_px": 3.0, "trivial/geodesic_median_cm": None}
            one = record(
                plan,
                f"plane/{method}/seed{seed}",
                geodesic_median_cm=error,
                iou=1 - error / 20,
                epipolar_median_px=error / 4,
                **trivial,
            )
            found[one.cell] = one
    return found


@pytest.mark.parametrize("labels", [True, False])
def test_methods_are_drawn_by_joints_where_there_is_no_label(plan, records, labels, monkeypatch, tmp_path):
    for one in records.values():
        one.metrics |= {"joint_cm": 7.0, "left_right_exchanged": 0.1}
        if not labels:
            del one.metrics["geodesic_median_cm"]
    drawn = []
    monkeypatch.setattr("dkp.study.pictures.comparison_figure", lambda panels, **_: drawn.extend(panels))
    draw_methods(gather(plan, records, {}), "plane", tmp_path / "plane.png")
    expected = ["geodesic median [cm]"] if labels else ["joint error, median [cm]", "left and right exchanged"]
    assert [panel.title for panel in drawn] == [*expected, "epipolar median [px]"]


def test_mean_and_spread_over_seeds(plan, records):
    found = summary(gather(plan, records, {}))
    assert list(found) == ["plane"]
    assert found["plane"]["ours"]["geodesic_median_cm"] == [11.5, 0.70711]
    assert found["plane"]["trivial"] == {"epipolar_median_px": [3.0, 0.0]}
    del records["plane/ours/seed1"]
    found = summary(gather(plan, records, {}))
    assert found["plane"]["ours"]["geodesic_median_cm"] == [11.0, None]
    assert mean_and_spread([]) is None


def test_the_share_of_the_gap_is_a_mean_of_each_seeds(plan, records):
    results = gather(plan, records, {})
    assert results.gap("plane", "ours", "geodesic_median_cm") == {0: 0.5, 1: pytest.approx(0.6)}
    closed = summary(results)["plane"]["gap_closed"]
    assert closed["ours"]["geodesic_median_cm"] == pytest.approx(0.55)
    assert closed["ours"]["iou"] == pytest.approx(0.55), "for a metric of which more is better, too"
    assert closed["control"]["geodesic_median_cm"] == pytest.approx(0.1)
    assert closed["teacher"]["geodesic_median_cm"] == pytest.approx(-0.125)
    assert not {"labelled_only", "oracle"} & set(closed)


def test_there_is_no_gap_where_the_oracle_is_no_better(plan, records):
    records["plane/oracle/seed0"].metrics["geodesic_median_cm"] = 13.5
    results = gather(plan, records, {})
    assert list(results.gap("plane", "ours", "geodesic_median_cm")) == [1]


def test_only_results_of_the_present_recipe_count(plan, records):
    records["plane/ours/seed0"].key = "another"
    records["plane/control/seed0"].state = "failed"
    records["plane/teacher/seed1"].state = "unfinished"
    results = gather(plan, records, {})
    assert results.stale == ["plane/ours/seed0"]
    assert list(results.failed) == ["plane/control/seed0"]
    assert results.seeds("plane", "ours") == results.seeds("plane", "control") == [1]
    assert results.seeds("plane", "teacher") == [0]


def test_values_that_are_no_numbers_are_left_out(plan, records):
    records["plane/ours/seed0"].metrics["iou"] = float("nan")
    assert list(gather(plan, records, {}).of("plane", "ours", "iou")) == [1]


def test_sentences_say_where_a_method_is_ahead_and_where_not(plan, records):
    for seed in (0, 1):
        records[f"plane/control/seed{seed}"].metrics["epipolar_median_px"] = 0.5
    ahead, behind = verdicts(gather(plan, records, {}), "plane", "ours", ["teacher", "control"])
    assert ahead == "ours is ahead of every measured baseline in geodesic_median_cm."
    assert behind == "ours is not ahead in epipolar_median_px (control: 0.5, ours: 2.875)."


def test_methods_are_compared_over_the_seeds_that_both_have(plan, records):
    """Seed 0 is the easier one: a rival that has it alone is not ahead for that."""
    for seed, error in ((0, 8.0), (1, 12.0)):
        records[f"plane/ours/seed{seed}"].metrics["geodesic_median_cm"] = error
    del records["plane/control/seed1"]
    records["plane/control/seed0"].metrics["geodesic_median_cm"] = 9.0
    sentences = " ".join(verdicts(gather(plan, records, {}), "plane", "ours", ["control"]))
    assert "ahead of every measured baseline in geodesic_median_cm" in sentences
    records["plane/control/seed0"].metrics["geodesic_median_cm"] = 7.5
    sentences = " ".join(verdicts(gather(plan, records, {}), "plane", "ours", ["control"]))
    assert "not ahead in geodesic_median_cm (control: 7.5, ours: 8.0, seed 0)" in sentences


def test_the_ordering_is_judged_seed_by_seed(plan, records):
    records["plane/ours/seed1"].metrics["geodesic_median_cm"] = 16.0
    assert ordering_holds(gather(plan, records, {})) == [("plane, seed 0", True), ("plane, seed 1", False)]
    del records["plane/teacher/seed0"]
    assert ordering_holds(gather(plan, records, {}))[0] == ("plane, seed 0", None)


def test_tables_say_what_is_missing_and_where_numbers_come_from(plan, records):
    del records["plane/oracle/seed1"]
    results = gather(plan, records, {})
    page = capture_page(results, "plane", "dkp study run --only")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert "| ours | 0, 1 | 11.50 ± 0.71 | 0.425 ± 0.035 |" in rows
    assert "| oracle | 0 | 9.00 | 0.550 |" in rows
    assert any(line.startswith(f"| bootstrapping | {NOTHING}") for line in rows)
    assert sum(line.startswith("| trivial field |") for line in rows) == 3
    assert sum(line.startswith("| control |") for line in rows) >= 4
    assert "50 %" in page
    assert "`dkp study run --only plane`" in page
    assert "9 cells, commit abc1234567, 2026-01-02, on 2 cores of abacus (torch 2);" in page
    assert "No result yet. Command: `dkp study run --only few`." in capture_page(results, "few", "dkp study run --only")


def test_joints_have_a_table_of_their_own_where_there_are_any(plan, records):
    """Means and sample deviations by hand: of 8 and 7 cm 7.5 and 1 / sqrt(2); of 0.1 and 0.2 0.15 and 0.1 / sqrt(2)."""
    assert "**Joints**" not in capture_page(gather(plan, records, {}), "plane", "dkp study run --only")
    for seed, (median, exchanged) in enumerate([(8.0, 0.1), (7.0, 0.2)]):
        records[f"plane/ours/seed{seed}"].metrics |= {"joint_cm": median, "left_right_exchanged": exchanged}
    records["plane/control/seed0"].metrics |= {"joint_cm": 9.25, "left_right_exchanged": 0.25}
    lines = capture_page(gather(plan, records, {}), "plane", "dkp study run --only").splitlines()
    table = lines[lines.index("**Joints**") + 2 :]
    assert table[0] == "| | seeds | joint error, median [cm] ↓ | left and right exchanged ↓ |"
    assert "| control | 0, 1 | 9.25 | 0.250 |" in table, "a joint error is of the seeds that have one"
    assert "| ours | 0, 1 | 7.50 ± 0.71 | 0.150 ± 0.071 |" in table
    assert "| oracle | 0, 1 | – | – |" in table


def test_the_command_of_a_row_finds_the_plan_again(plan):
    assert command(read_plan("full")) == "dkp study run --only"
    assert command(read_plan("people")) == "dkp study run people --only"
    assert command(plan) == f"dkp study run {plan.path} --only", "a plan of one's own is no name in configs/study"
    assert command(replace(plan, path=Path("my plans/full.yaml"))) == "dkp study run 'my plans/full.yaml' --only"


def test_every_row_of_an_ablation_has_its_command_and_every_table_control_and_trivial_field(plan, records):
    page = ablation_page(gather(plan, records, {}), "dkp study run --only")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    for name in ("labelled_only", "control", "ours", "clip_10", "two_rounds"):
        assert sum(line.endswith(f"| `dkp study run --only plane/{name}` |") for line in rows) == 1
    assert sum(line.startswith("| trivial field |") for line in rows) == 1
    assert [NOTHING in line for line in rows if line.startswith(("| 10 px", "| two rounds"))] == [True, True]
    assert any(line.startswith("| ours | 0 | 11.00 |") for line in rows)  # over the seeds of the rows alone


@pytest.mark.parametrize("labels", [True, False])
def test_rows_of_an_ablation_are_judged_by_joints_where_there_is_no_label(plan, records, labels):
    for one in records.values():
        one.metrics |= {"joint_cm": 7.0, "left_right_exchanged": 0.1}
        if not labels:
            del one.metrics["geodesic_median_cm"]
    head = next(line for line in ablation_page(gather(plan, records, {}), "dkp").splitlines() if line.startswith("| |"))
    assert ("geodesic median [cm]" in head, "joint error, median [cm]" in head) == (labels, not labels)


def test_a_report_has_everything_and_keeps_what_was_there(plan, records, tmp_path):
    runs, folder = tmp_path / "runs", tmp_path / "results"
    for one in records.values():
        one.write(runs / one.cell / "cell.json")
    results = write_report(plan, Folders(runs, {}, {}, "cpu"), folder)
    assert len(results.records) == 10
    names = {"cells", "summary.json", "methods.md", "ablations.md", "plane.png"}
    assert {path.name for path in folder.iterdir()} == names, "a curve of one point is none"
    record(plan, "plane/clip_10/seed0", geodesic_median_cm=11.2).write(runs / "plane/clip_10/seed0" / "cell.json")
    results = write_report(plan, Folders(runs, {}, {}, "cpu"), folder)
    assert {path.name for path in folder.iterdir()} == {*names, "plane-clip.png"}
    first = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert json.loads(first["summary.json"])["plane"]["oracle"]["geodesic_median_cm"] == [9.5, 0.70711]
    again = write_report(plan, Folders(tmp_path / "none", {}, {}, "cpu"), folder)
    assert again.records.keys() == results.records.keys()
    assert (folder / "methods.md").read_bytes() == first["methods.md"]
    kept = read_records(folder / "cells")
    assert {name: kept[name] for name in records} == records


def test_a_failure_is_told_and_does_not_replace_a_result(plan, records, tmp_path):
    runs, folder = tmp_path / "runs", tmp_path / "results"
    records["plane/ours/seed0"].write(folder / "cells" / "plane/ours/seed0.json")
    for name in ("plane/ours/seed0", "plane/control/seed0"):
        records[name].state, records[name].error = "failed", "no luck"
        records[name].write(runs / name / "cell.json")
    results = collect(plan, runs, folder, {})
    assert list(results.records) == ["plane/ours/seed0"]
    assert results.failed == {"plane/control/seed0": "no luck"}


def test_what_exact_labels_have_is_a_row_where_it_was_measured(plan, records):
    assert "exact labels" not in capture_page(gather(plan, records, {}), "plane", "dkp study run --only")
    for one in records.values():
        one.metrics["exact_epipolar_median_px"] = 0.25
    results = gather(plan, records, {})
    assert summary(results)["plane"]["exact"] == {"epipolar_median_px": [0.25, 0.0]}
    rows = [
        line for line in capture_page(results, "plane", "dkp study run --only").splitlines() if "exact labels" in line
    ]
    assert [row.split("|")[3].strip() for row in rows] == ["–", "0.25 ± 0.00"]  # no accuracy of its own
