"""Signals to a run, or to it and its workers: it ends with one sentence and the status of the signal."""

import os
import signal
import threading
import time

import pytest

from dkp.cli import main
from dkp.tasks import LabelledTask

from .conftest import finish, small_run, start

SIGNALS = {"SIGTERM": "ended by SIGTERM", "SIGHUP": "ended by SIGHUP", "SIGINT": "interrupted"}


def fit_and_signal(words, number, group, command="fit"):
    """Train, and send a signal amid the second step: to this process, or to its group with the workers."""
    original = LabelledTask.on_train_batch_end

    def end_of_step(self, *args):
        original(self, *args)
        if self.global_step == 1:
            send, target = (os.killpg, os.getpgid(0)) if group else (os.kill, os.getpid())
            threading.Timer(0.01, send, (target, number)).start()

    LabelledTask.on_train_batch_end = end_of_step
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, under which tests may run, ignores it
    main([command, *words])


@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_ends_a_run_with_its_workers(workspace, tmp_path, name, group):
    words = small_run(workspace, "board/teacher")
    words += ["--root", str(tmp_path), "--trainer.max_steps", "100000", "--data.steps_per_epoch", "100000"]
    words += ["--data.num_workers", "2", "--trainer.enable_model_summary", "false"]
    log, number = tmp_path / "log", getattr(signal, name)
    process = start(fit_and_signal, words, number, group, log=log)
    assert finish(process) == 128 + number, log.read_text()[-3000:]
    lines = log.read_text().splitlines()
    assert [line for line in lines if line.startswith("dkp: error: ")] == [f"dkp: error: {SIGNALS[name]}"]
    assert not any(line.startswith("Traceback") for line in lines), log.read_text()
    end = time.monotonic() + 30
    while alive(process.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive(process.pid)


def alive(group):
    """Whether a process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
