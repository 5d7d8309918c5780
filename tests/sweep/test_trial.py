"""One trial's process: how it ends, and what its metrics say meanwhile."""

import sys
import time

import pytest
from rich.console import Console

from dkp.errors import InputError
from dkp.pipeline.runner import Runner
from dkp.progress import Progress
from dkp.sweep.trial import run_trial, values_of

METRIC = "val/error"


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Runs a few lines of Python as a trial, whose folder is the working folder."""

    python, script = sys.executable, tmp_path / "python"
    monkeypatch.setattr("dkp.pipeline.runner.sys.executable", str(script))

    def start(code, going_on=lambda count, value: True):
        folder = tmp_path / "run"
        folder.mkdir()
        script.write_text(f"#!{python}\nimport json, os, sys, time; os.chdir({str(folder)!r})\n{code}\n")
        script.chmod(0o755)
        with Progress(Console(quiet=True)) as progress:
            return run_trial(Runner(progress), ["fit"], folder, METRIC, going_on)

    return start


def metrics(value):
    return f"open('metrics.json', 'w').write(json.dumps({{'metrics': {{'{METRIC}': {value}, 'val/iou': 1}}}}))"


def test_the_value_is_that_of_the_end(start):
    outcome = start(metrics(0.5))
    assert (outcome.value, outcome.stopped, outcome.reason) == (0.5, False, "")


def test_a_failure_has_the_last_line_as_its_reason(start):
    outcome = start("print('dkp: error: step 3: labelled = nan'); sys.exit(1)")
    assert outcome.value is None
    assert outcome.reason == "status 1: step 3: labelled = nan"
    assert not outcome.refused


def test_refused_options_are_told_apart(start):
    outcome = start("print('dkp: error: no such option'); sys.exit(2)")
    assert outcome.refused
    assert outcome.reason == "status 2: no such option"


def test_a_process_that_is_killed_has_failed(start):
    assert "status -9" in start("os.kill(os.getpid(), 9)").reason


def test_a_metric_that_is_no_number_has_failed(start):
    assert start(metrics("None")).reason == f"{METRIC} is no number"


def test_a_run_without_the_metric_names_those_it_has(start):
    with pytest.raises(InputError, match="has no metric 'val/error', expected one of val/iou"):
        start(metrics(1).replace(METRIC, "train/loss"))


SLOW = """
with open('metrics.csv', 'w') as stream:
    stream.write('step,val/error\\n')
    for step in range(1, 200):
        stream.write(f'{step},{10 / step}\\n')
        stream.flush()
        time.sleep(0.3)
"""


def test_a_trial_is_stopped_when_it_is_not_worth_going_on(start):
    seen = []

    def going_on(count, value):
        seen.append((count, value))
        return count < 3

    begin = time.monotonic()
    outcome = start(SLOW, going_on)
    assert time.monotonic() - begin < 30
    assert outcome.stopped
    assert outcome.value == pytest.approx(10 / 3)
    assert seen == [(count, pytest.approx(10 / count)) for count in (1, 2, 3)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("step,val/error\n1,0.5\n2,\n3,0.25\n", [0.5, 0.25]),
        ("step,val/error\n1,0.5\n2", [0.5]),
        ("step,val/error\n1,nan\n2,inf\n3,abc\n", []),
        ("step,train/loss\n1,2\n", []),
        ("", []),
        (None, []),
    ],
)
def test_values_of_a_table_that_is_being_written(text, expected, tmp_path):
    if text is not None:
        (tmp_path / "metrics.csv").write_text(text)
    assert values_of(tmp_path / "metrics.csv", METRIC) == expected
