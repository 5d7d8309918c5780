"""How far work is: a line now and then in a log, a bar on a terminal."""

from io import StringIO

import pytest
from rich.console import Console

from dkp import progress as progress_module
from dkp.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """The time of progress, in seconds."""
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_now_and_then(clock):
    output = StringIO()
    with Progress(Console(file=output)) as progress, progress.shown("teacher") as show:
        for second in range(0, 700, 2):
            clock[0] = second
            show(second if second > 15 else 0, 1000)
    assert output.getvalue().splitlines() == [
        "teacher: runs, 0.2 minutes",
        *(
            f"teacher: step {s} of 1000, {s / 60:.1f} minutes, about {(1000 - s) / 60:.1f} minutes left"
            for s in (20, 40, 80, 160, 320, 620)
        ),
        "teacher: done, 11.6 minutes",
    ]


def test_a_short_stage_says_nothing_and_a_terminal_has_a_bar(clock):
    output, terminal = StringIO(), StringIO()
    with Progress(Console(file=output)) as progress, progress.shown("test") as show:
        show(0, None)
    assert output.getvalue() == ""
    console = Console(file=terminal, force_terminal=True, width=100)
    with Progress(console) as progress, progress.shown("teacher") as show:
        clock[0] = 20.0
        show(30, 60)
        progress._bars.refresh()
    assert "teacher" in terminal.getvalue()
    assert "step 30" in terminal.getvalue()


def test_what_was_done_before_counts_for_no_speed(clock):
    output = StringIO()
    with Progress(Console(file=output)) as progress, progress.shown("predict", "image", rate=True) as show:
        for second, done in ((5, 500), (20, 503), (50, 509)):
            clock[0] = second
            show(done, 600)
    lines = output.getvalue().splitlines()
    assert lines[1] == "predict: image 509 of 600, 0.8 minutes, 0.2 images a second, about 7.6 minutes left"
