"""Runs of the command line in processes of their own, which may be killed, on a tiny capture of a plane."""

import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path

import pytest
import torch

from dkp.tasks import SemiSupervisedTask

from ..conftest import SIZE, write_plane

CONFIGS = Path(__file__).parents[2] / "configs"


def layers(folder: Path, *names: str) -> list[str]:
    """Options of a small run on the capture FOLDER/plane, in layers of configuration files."""
    words = [word for name in names for word in ("--config", str(CONFIGS / f"{name}.yaml"))]
    words += ["--root", str(folder / "runs"), "--size", str(SIZE), "--sigma", "0.03", "--scale", "0.05"]
    words += ["--source", str(folder / "plane"), "--target", str(folder / "plane")]
    words += ["--surface", str(folder / "plane" / "surface.npz"), "--model.detector.init_args.width", "8"]
    words += ["--model.detector.init_args.levels", "3", "--trainer.enable_progress_bar", "false"]
    return [*words, "--data.augmentation.rotate", "10"]


def start(function, *args, log: Path | None = None) -> int:
    """Call a function in a process of its own, a copy of this one with a single thread; returns its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.setpgid(0, 0)
        stream = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        torch.set_num_threads(1)
        logging.getLogger().handlers.clear()  # pytest's, which keep messages to themselves
        warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)
        function(*args)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def finish(process: int, timeout: float = 300) -> int:
    """Wait for a process and return its status, minus the signal where one ended it; kill it after the timeout [s]."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
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
