"""Stages: run once, resumed where a fit was interrupted, side by side, stopped. The processes run a stand-in."""

import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from dkp.errors import InputError
from dkp.pipeline.runner import Runner, StageFailed, Task, last_line, only_one, steps_of
from dkp.pipeline.stages import Stage, StageLedger, has
from dkp.progress import Progress


@pytest.fixture
def runner():
    with Progress(Console(quiet=True)) as progress:
        yield Runner(progress)


@pytest.fixture
def file(tmp_path) -> Path:
    """Of the ledger."""
    (tmp_path / "cell").mkdir()
    return tmp_path / "cell" / "stages.json"


def fit(file: Path, key: str = "k", name: str = "fit") -> Stage:
    return Stage(name, ["fit", f"--root={file.parent}", f"--name={name}"], file.parent / name, key)


def begun(log: Path) -> list[str]:
    return [line.split()[1] for line in log.read_text().splitlines() if line.startswith("begin")]


def test_a_stage_that_has_been_run_is_in_the_ledger_with_its_command(runner, file, fake, log):
    ledger = StageLedger()
    runner.run(fit(file), ledger, file, 3)
    held = StageLedger.read(file)
    assert held == ledger
    assert (held.stages["fit"].key, held.stages["fit"].threads, held.stages["fit"].resumed) == ("k", 3, False)
    assert held.stages["fit"].command == f"dkp fit --root={file.parent} --name=fit"
    assert held.begun == {}
    assert has(held, fit(file))
    assert not has(held, fit(file, "other"))
    assert (file.parent / "fit.log").is_file()


def test_a_fit_that_had_begun_by_the_same_recipe_is_resumed(runner, file, fake, log):
    runner.run(fit(file), StageLedger(), file, 1)
    again = StageLedger(begun={"fit": "k"})
    runner.run(fit(file), again, file, 1)
    assert begun(log) == ["fit", "resume"]
    assert again.stages["fit"].resumed
    assert again.stages["fit"].command.startswith("dkp fit ")
    runner.run(fit(file, "other"), StageLedger(begun={"fit": "k"}), file, 1)
    assert begun(log) == ["fit", "resume", "fit"]
    assert (file.parent / "fit.1" / "config.yaml").is_file()


def test_a_stage_that_fails_names_its_log_and_has_not_begun(runner, file, fake, log):
    fake(broken="/cell")
    with pytest.raises(StageFailed, match=r"the fit ended with status 3; the end of .*fit\.log: all is lost") as caught:
        runner.run(fit(file), StageLedger(), file, 1, "the fit")
    assert (caught.value.status, caught.value.last) == (3, "all is lost")
    assert StageLedger.read(file) == StageLedger()


def test_stopping_ends_the_processes_and_what_has_begun_is_resumed_later(runner, file, fake, log):
    fake(seconds=60)

    def stop():
        while not log.exists():
            time.sleep(0.01)
        runner.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(StageFailed, match="status -15"):
        runner.run(fit(file), StageLedger(), file, 1)
    thread.join()
    assert not runner._processes
    assert StageLedger.read(file).begun == {"fit": "k"}
    with pytest.raises(InputError, match="was stopped"):
        runner.run(fit(file), StageLedger(), file, 1)


def test_a_process_that_is_not_worth_going_on_is_ended(runner, file, fake, log):
    fake(seconds=60)
    words, folder = fit(file).words, file.parent
    asked = []
    with pytest.raises(StageFailed, match="status -15"):
        runner.process(words, folder / "fit", folder / "a.log", 1, "fit", lambda: asked.append(1) or len(asked) < 2)
    assert len(asked) == 2


def test_tasks_wait_for_each_other_and_divide_the_cores(runner, monkeypatch):
    monkeypatch.setattr("dkp.pipeline.runner.cores", lambda: 6)
    threads, ends = {}, []

    def task(name, after=None, error=None):
        def work(count):
            threads[name] = count
            time.sleep(0.1)
            if error:
                raise error

        return Task(name, work, after)

    tasks = [
        task("b", "a"),
        task("a"),
        task("c", "a"),
        task("d", "b"),
        task("x", error=InputError("no")),
        task("y", "x"),
    ]
    runner.run_tasks(tasks, 3, lambda task, error: ends.append((task.name, error and str(error))))
    assert threads["a"] == threads["x"] == 3
    assert set(threads) == {"a", "b", "c", "d", "x"}
    assert {name: error for name, error in ends if error} == {"x": "no", "y": "x, which it starts from, failed"}
    order = [name for name, _ in ends]
    assert order.index("a") < order.index("b") < order.index("d")


def test_what_ended_raises_stops_the_others(runner, file, fake, log):
    fake(seconds=60)

    def slow(_):
        runner.run(fit(file), StageLedger(), file, 1)

    def bad(_):
        while not log.exists():
            time.sleep(0.01)
        raise InputError("all is lost")

    def ended(task, error):
        if error:
            raise error

    began = time.monotonic()
    with pytest.raises(InputError, match="all is lost"):
        runner.run_tasks([Task("slow", slow), Task("bad", bad)], 2, ended)
    assert time.monotonic() - began < 30
    assert not runner._processes


def test_a_folder_is_held_by_one_process_at_a_time(tmp_path):
    with (
        only_one(tmp_path / "runs"),
        pytest.raises(InputError, match="in use by another dkp"),
        only_one(tmp_path / "runs"),
    ):
        pass
    with only_one(tmp_path / "runs"):
        pass


def test_the_last_line_that_says_anything(tmp_path):
    log = tmp_path / "a.log"
    log.write_bytes(b"first\n  dkp: error: \xff bad \n\n  \n")
    assert last_line(log) == "\N{REPLACEMENT CHARACTER} bad"
    log.write_text("\n")
    assert last_line(log) == "nothing was printed"


def test_steps_are_read_from_the_run(tmp_path):
    assert steps_of(tmp_path) == (0, None)
    (tmp_path / "metrics.csv").write_text("epoch,step,train/loss\n0,49,0.5\n0,99,0.4\n")
    (tmp_path / "config.yaml").write_text("trainer: {max_steps: 400}\n")
    assert steps_of(tmp_path) == (100, 400)
    (tmp_path / "metrics.csv").write_text("")
    assert steps_of(tmp_path) == (0, None)
