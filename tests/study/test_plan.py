"""Which cells a plan has, which of them are chosen, and what it refuses."""

import re

import pytest
import yaml

from dkp.errors import InputError
from dkp.study.plan import matches, read_plan
from dkp.study.recipe import files
from dkp.study.summary import CEILING, FLOOR


def names(cells):
    return [cell.name for cell in cells]


def test_cells_come_method_by_method_and_ablations_last(plan):
    found = names(plan.cells())
    assert len(found) == 2 * 2 * 6 + 2
    assert found[:2] == ["plane/teacher/seed0", "plane/labelled_only/seed0"]
    assert found[-2:] == ["plane/clip_10/seed0", "plane/two_rounds/seed0"]
    assert len(set(found)) == len(found)


def test_a_row_is_its_base_but_for_what_it_says(plan):
    row, base = plan.methods["clip_10"], plan.methods["ours"]
    assert (row.experiment, row.files, row.start) == (base.experiment, base.files, "teacher")
    assert (row.options, row.group, row.captures, row.seeds) == ({"clip": 10.0}, "clip", ("plane",), (0,))
    assert base.options == {}


def test_a_chosen_cell_brings_its_teacher(plan):
    assert names(plan.select(("plane/clip_10",))) == ["plane/teacher/seed0", "plane/clip_10/seed0"]
    assert names(plan.select(("few/o*/seed1", "few/control/seed1"))) == [
        "few/teacher/seed1", "few/control/seed1", "few/ours/seed1", "few/oracle/seed1",
    ]  # fmt: skip
    assert plan.select(()) == plan.cells()
    with pytest.raises(InputError, match="'plane/nothing' matches no cell"):
        plan.select(("plane/nothing",))


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [("human", True), ("human/ours", True), ("*/ours/seed0", True), ("human/our", False), ("h*/o?rs/seed[01]", True)],
)
def test_patterns_are_beginnings_of_names(pattern, fits):
    assert matches("human/ours/seed0", pattern) == fits


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("seed",), 3, "the plan has the key 'seed'"),
        (("captures", "plane", "kind"), "cat", "captures.plane.kind is 'cat'"),
        (("captures", "plane", "labels"), "none", "captures.plane.labels is 'none'"),
        (("methods", "ours", "experiment"), "ours", "methods.ours.experiment is 'ours'"),
        (("methods", "ours", "start"), "nobody", "ours starts from 'nobody'"),
        (("methods", "teacher", "start"), "ours", "starts from"),
        (("ordering",), ["nobody"], "ordering has 'nobody'"),
        (("cuts", "quick"), ["nowhere"], "cuts.quick has 'nowhere'"),
        (("ablations", "clip", "base"), "nobody", "ablations.clip.base is 'nobody'"),
        (("ablations", "clip", "rows", "ours"), {"title": "again"}, "ablations.clip.rows.ours is a method already"),
        (("ablations", "clip", "rows", "clip_10", "steps"), 3, "ablations.clip.rows.clip_10 has the key 'steps'"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_with_the_place(plan_content, tmp_path, place, value, message):
    entry = plan_content
    for key in place[:-1]:
        entry = entry[key]
    entry[place[-1]] = value
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump(plan_content, sort_keys=False))
    with pytest.raises(InputError, match=re.escape(message)):
        read_plan(str(file))


def test_a_missing_plan_is_named():
    with pytest.raises(InputError, match=r"study/nothing\.yaml does not exist"):
        read_plan("nothing")


def test_the_shipped_plan_has_what_the_results_need():
    plan = read_plan("full")
    assert {FLOOR, CEILING, "control", "ours", *plan.ordering} <= set(plan.methods)
    assert len(plan.seeds) >= 3
    assert plan.check["cell"] in names(plan.cells())
    assert all(len(ablation.rows) > 1 for ablation in plan.ablations.values())
    for cell in plan.cells():
        assert all(file.is_file() for file in files(cell))
