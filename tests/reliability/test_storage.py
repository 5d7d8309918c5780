"""Disks that fill up, turn read-only or vanish during a run: a clear error, and the last good checkpoint stays."""

import ctypes
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from dkp.callbacks import newest_checkpoint
from dkp.cli import main
from dkp.tasks import SemiSupervisedTask

from .conftest import ADAPTED, finish, small_run, start

STEPS, EPOCH = 9, 3
NEW_USER, NEW_MOUNTS, READ_ONLY, REMOUNT = 0x10000000, 0x00020000, 1, 32


def mount(place: Path, size: str, flags: int = 0) -> None:
    """Put a file system of its own, seen by this process alone, at a folder."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(b"tmpfs", str(place).encode(), b"tmpfs", flags, f"size={size}".encode()):
        raise OSError(ctypes.get_errno(), "mount")


def own_mounts() -> None:
    """Let this process mount file systems, without being root."""
    library = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if library.unshare(NEW_USER | NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def try_to_mount(place: Path) -> None:
    own_mounts()
    mount(place, "1m")


@pytest.fixture
def disk(tmp_path):
    """A folder that a process may mount a file system of its own at."""
    if not hasattr(os, "fork") or not hasattr(ctypes.CDLL(None), "unshare") or finish(start(try_to_mount, tmp_path)):
        pytest.skip("processes may not mount file systems of their own here")
    return tmp_path


def fill(disk: Path) -> None:
    """Leave no room."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 12))
        except OSError:
            pass


FAULTS = {
    "full": (fill, lambda disk: (disk / "ballast").unlink()),
    "read-only": (lambda disk: mount(disk, "64m", READ_ONLY | REMOUNT), lambda disk: mount(disk, "64m", REMOUNT)),
}


def fit_on_faulty_disk(words, disk, fault, answer):
    """Train on a disk that fails amid the second epoch; then mend it and resume."""
    own_mounts()
    mount(disk, "64m")
    spoil, mend = FAULTS[fault]

    def end_of_step(self, *args):
        if self.global_step == EPOCH + 1 and not answer.exists():
            spoil(disk)

    SemiSupervisedTask.on_train_batch_end = end_of_step
    run, status = disk / "runs" / "run", 0
    try:
        main(["fit", *words])
    except SystemExit as error:
        status = error.code
    checkpoint = newest_checkpoint(run)
    answer.write_text(json.dumps({"status": status, "steps": checkpoint and checkpoint[1]}))
    mend(disk)
    main(["resume", str(run)])
    shutil.copytree(run, answer.with_suffix(".run"))


def options(workspace, root, *more):
    words = small_run(workspace, *ADAPTED)
    words += ["--root", str(root), "--name", "run", "--model.teacher", "null", "--trainer.max_steps", str(STEPS)]
    words += ["--data.steps_per_epoch", str(EPOCH), "--data.num_workers", "0", "--trainer.log_every_n_steps", "1"]
    return [*words, "--trainer.enable_model_summary", "false", *more]


def weights(run: Path) -> torch.Tensor:
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return torch.cat([value.flatten() for name, value in state.items() if name.startswith("detector.")])


@pytest.fixture(scope="module")
def whole(workspace):
    assert finish(start(main, ["fit", *options(workspace, workspace / "undisturbed")])) == 0
    return workspace / "undisturbed" / "run"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_disk_that_fails_ends_the_run_with_an_error_and_the_checkpoint_stays(workspace, whole, disk, fault):
    answer, log = workspace / fault, workspace / f"{fault}.log"
    words = options(workspace, disk / "runs")
    assert finish(start(fit_on_faulty_disk, words, disk, fault, answer, log=log)) == 0, log.read_text()[-3000:]
    assert json.loads(answer.read_text()) == {"status": 2, "steps": EPOCH}
    reason = {"full": "No space left on device", "read-only": "Read-only file system"}[fault]
    (message,) = [line for line in log.read_text().splitlines() if line.startswith("dkp: error: ")]
    assert f"cannot be written ({reason})" in message
    run = answer.with_suffix(".run")
    assert torch.equal(weights(run), weights(whole))
    assert (run / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()


def fit_and_remove(words, folder):
    """Train, and remove a folder amid the second epoch."""

    def end_of_step(self, *args):
        if self.global_step == EPOCH + 1:
            shutil.rmtree(folder)

    SemiSupervisedTask.on_train_batch_end = end_of_step
    main(["fit", *words])


def test_a_run_folder_that_vanishes_ends_the_run_with_an_error(workspace, tmp_path):
    log = tmp_path / "log"
    words = options(workspace, tmp_path / "runs")
    assert finish(start(fit_and_remove, words, tmp_path / "runs" / "run", log=log)) == 2
    (message,) = [line for line in log.read_text().splitlines() if line.startswith("dkp: error: ")]
    assert "cannot be written (No such file or directory" in message


def test_data_that_vanish_are_in_memory_and_missed_at_the_next_start(workspace, whole, tmp_path):
    shutil.copytree(workspace / "plane", tmp_path / "plane")
    log = tmp_path / "log"
    words = options(tmp_path, tmp_path / "runs")
    assert finish(start(fit_and_remove, words, tmp_path / "plane", log=log)) == 0, log.read_text()[-3000:]
    assert torch.equal(weights(tmp_path / "runs" / "run"), weights(whole))
    assert finish(start(main, ["resume", str(tmp_path / "runs" / "run"), "--trainer.max_steps", "12"], log=log)) == 2
    assert "dkp: error: " in log.read_text()
    assert newest_checkpoint(tmp_path / "runs" / "run")[1] == STEPS
