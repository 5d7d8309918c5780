"""The trials of a sweep: resumed as if never interrupted, each value of a grid once, the worse stopped early."""

from dataclasses import replace

import pytest

from dkp.errors import InputError
from dkp.sweep.file import Sweep
from dkp.sweep.study import CONTINUES, Study
from dkp.sweep.trial import Outcome

distributions = pytest.importorskip("optuna").distributions
Choice, Whole, Range = (getattr(distributions, f"{kind}Distribution") for kind in ("Categorical", "Int", "Float"))
GRID = Sweep("s", "grid", "val/error", "minimize", {"x": Choice((3.0, 1.0, 2.0)), "y": Choice(("a",))}, ["fit"])
RANDOM = replace(GRID, method="random", parameters={"x": Range(0.0, 1.0), "n": Whole(1, 8)})


def run(study, trials, error=lambda values: values["x"] ** 2):
    """Let trials end with a value that depends on what they tried."""
    for _ in range(trials):
        trial, values = study.ask()
        study.tell(trial, Outcome(error(values)), 1.0)


def tried(study):
    return [(row.state, row.value, row.values) for row in study.rows()]


def test_a_grid_is_tried_in_the_order_of_the_file_and_the_best_found(tmp_path):
    study = Study(tmp_path, GRID, 0, [])
    run(study, 3)
    assert [row.values for row in study.rows()] == [{"x": x, "y": "a"} for x in (3.0, 1.0, 2.0)]
    assert study.best().values["x"] == 1.0


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_an_interrupted_sweep_tries_what_it_would_have_tried(method, tmp_path):
    plan = replace(RANDOM, method=method)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = Study(tmp_path / "whole", plan, 3, [])
    run(whole, 12)
    for count in (1, 4, 7):
        run(Study(tmp_path / "parts", plan, 3, []), count)
    assert tried(Study(tmp_path / "parts", plan, 3, [])) == tried(whole)
    assert all(0 <= row.values["x"] <= 1 and row.values["n"] in range(1, 9) for row in whole.rows())


def test_another_seed_tries_other_values(tmp_path):
    firsts = []
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        firsts.append(Study(tmp_path / str(seed), RANDOM, seed, []).ask()[1]["x"])
    assert firsts[0] != firsts[1]


@pytest.mark.parametrize("plan", [GRID, RANDOM], ids=["grid", "random"])
def test_a_trial_that_was_killed_with_its_sweep_is_tried_again(plan, tmp_path):
    study = Study(tmp_path, plan, 0, [])
    run(study, 1)
    killed, values = study.ask()
    again = Study(tmp_path, plan, 0, [])
    assert len(again.rows()) == 1
    seen = []
    for _ in range(2):
        trial, next_values = again.ask()
        seen.append(next_values)
        assert trial.number != killed.number
        assert trial.user_attrs.get(CONTINUES) == (killed.number if next_values == values else None)
        again.tell(trial, Outcome(1.0), 1.0)
    assert values in seen
    assert len(again.rows()) == 3


def test_failed_trials_stay_in_the_table_and_are_not_tried_again(tmp_path):
    study = Study(tmp_path, GRID, 0, [])
    trial, _ = study.ask()
    study.tell(trial, Outcome(None, reason="status 1: step 3: labelled = nan"), 1.0)
    assert study.best() is None
    run(study, 2)
    assert [row.state for row in study.rows()] == ["failed", "done", "done"]
    assert "nan" in study.rows()[0].reason
    assert study.best().values["x"] == 1.0


def test_the_direction_counts(tmp_path):
    study = Study(tmp_path, replace(GRID, direction="maximize"), 0, [])
    run(study, 3)
    assert study.best().values["x"] == 3.0


def test_the_worse_share_is_stopped_at_every_bracket(tmp_path):
    plan = replace(RANDOM, halving={"min_resource": 2, "reduction_factor": 2})
    study = Study(tmp_path, plan, 0, [])
    lengths = []
    for error in (4.0, 3.0, 2.0, 1.0, 5.0, 6.0):
        trial, _ = study.ask()
        steps = 0
        stopped = False
        for count in range(1, 5):
            steps = count
            if not study.going_on(trial, count, error / count):
                stopped = True
                break
        study.tell(trial, Outcome(error / steps, stopped=stopped), 1.0)
        lengths.append(steps)
    # Each of the first four is the best so far; the last two are worse than half of those before at the first bracket.
    assert lengths == [4, 4, 4, 4, 2, 2]
    assert [row.state for row in study.rows()] == ["done"] * 4 + ["stopped"] * 2
    assert study.rows()[-1].value == 3.0
    assert study.best().value == 0.25


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"parameters": {"x": Choice((3.0, 1.0))}}, "another parameters"),
        ({"metric": "val/other"}, "another metric"),
        ({"command": ["fit", "--size=2"]}, "another command"),
    ],
)
def test_another_sweep_is_not_mixed_in(changed, expected, tmp_path):
    Study(tmp_path, GRID, 0, [])
    with pytest.raises(InputError, match=expected):
        Study(tmp_path, replace(GRID, **changed), 0, [])


def test_more_trials_of_the_same_sweep_may_follow(tmp_path):
    run(Study(tmp_path, RANDOM, 0, []), 2)
    study = Study(tmp_path, replace(RANDOM, cap=5), 0, [])
    run(study, 3)
    assert len(study.rows()) == 5
