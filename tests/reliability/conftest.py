"""Runs of the command line in processes of their own, which may be killed, on a tiny capture of a plane."""

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import torch

from dkp.tasks import SemiSupervisedTask

from ..conftest import SIZE, write_plane

CONFIGS = Path(__file__).parents[2] / "configs"
FRESH = multiprocessing.get_context("forkserver")
FRESH.set_forkserver_preload(["pytest", "dkp.runs.lightning", "dkp.tasks", "dkp.data", "dkp.models"])


ADAPTED = ("board/adapted", "unregistered")


def small_run(folder: Path, *names: str) -> list[str]:
    """Options of a small run on the capture FOLDER/plane by files of configs/."""
    words = [word for name in names for word in ("--config", str(CONFIGS / f"{name}.yaml"))]
    words += ["--root", str(folder / "runs"), "--size", str(SIZE), "--sigma", "0.03", "--scale", "0.05"]
    words += ["--source", str(folder / "plane"), "--target", str(folder / "plane")]
    words += ["--surface", str(folder / "plane" / "surface.npz"), "--model.detector.init_args.width", "8"]
    words += ["--model.detector.init_args.levels", "3", "--trainer.enable_progress_bar", "false"]
    words += ["--data.val", str(folder / "plane#test")]
    return [*words, "--data.augmentation.rotate", "10"]


def start(function, *args, log: Path | None = None) -> ForkServerProcess:
    """Call a function of a module in a process of its own, which has what it needs imported but nothing else done."""
    sys.path[:] = dict.fromkeys([str(CONFIGS.parent), *sys.path])  # where the process finds the function's module
    process = FRESH.Process(target=call, args=(function, args, log))
    process.start()
    return process


def call(function, args, log: Path | None) -> None:
    """What the process does: print into the log, call, and end with the status of a command."""
    os.setpgid(0, 0)
    multiprocessing.set_start_method("fork", force=True)  # of workers, as in a run of a user's, whose end they notice
    stream = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    torch.set_num_threads(1)
    function(*args)


def finish(process: ForkServerProcess, timeout: float = 300) -> int:
    """Wait for a process and return its status, minus the signal where one ended it; kill it after the timeout [s]."""
    process.join(timeout)
    if process.exitcode is not None:
        return process.exitcode
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    raise TimeoutError(f"the process still ran after {timeout} s")


def at_end_of_step(step: int | None, delay: float = 0.0) -> None:
    """Have this process killed some time [s] after a step of training; None = not at all."""
    original = SemiSupervisedTask.on_train_batch_end

    def end_of_step(self, *args):
        original(self, *args)
        if self.global_step == step:
            if delay:
                threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
            else:
                os.kill(os.getpid(), signal.SIGKILL)

    SemiSupervisedTask.on_train_batch_end = end_of_step


@pytest.fixture(scope="session")
def workspace(tmp_path_factory) -> Path:
    """A folder with the capture `plane`: three cameras, six training and two test instants."""
    folder = tmp_path_factory.mktemp("reliability")
    write_plane(folder / "plane")
    return folder
