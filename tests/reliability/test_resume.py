"""Killed runs that go on: bit for bit as if nothing had happened, and no checkpoint is ever torn."""

import json
import os
import signal

import numpy as np
import pytest
import torch

from dkp.callbacks import newest_checkpoint
from dkp.cli import main

from .conftest import ADAPTED, at_end_of_step, finish, small_run, start

STEPS, EPOCH = 12, 3
KILLS = int(os.environ.get("DKP_KILLS", "0"))
EQUIVARIANCE = "{class_path: dkp.losses.EquivarianceTerm, init_args: {weight: 0.5, sigma: 0.03}}"


def options(workspace, name):
    """A run with everything that changes over time: schedules, annealing, average, random transformations, a worker."""
    words = small_run(workspace, *ADAPTED)
    words += ["--model.terms.equivariance", EQUIVARIANCE, "--trainer.callbacks", "[dkp.callbacks.DetectorAverage]"]
    words += ["--name", name, "--model.teacher", "null", "--trainer.max_steps", str(STEPS)]
    words += ["--trainer.log_every_n_steps", "1", "--trainer.enable_model_summary", "false"]
    words += ["--data.steps_per_epoch", str(EPOCH), "--data.num_workers", "1"]
    words += ["--data.val", str(workspace / "plane#test")]
    words += ["--model.terms.multiview.ramp_steps", "5", "--model.terms.multiview.sigma_final", "0.01"]
    words += ["--model.terms.multiview.sigma_steps", "10"]
    words += ["--model.teacher_momentum", "0.9"]
    return [*words, "--model.warmup_steps", "2", "--model.learning_rate", "0.003"]


def fit(words, kill_after=None, delay=0.0):
    """`dkp fit`, or `dkp resume` where the words begin with a folder.

    Args:
        words: of the command line.
        kill_after: step at which the process is killed; None = it is not.
        delay: time from the end of that step to the kill [s].
    """
    if kill_after is not None:
        at_end_of_step(kill_after, delay)
    main(["fit" if words[0].startswith("-") else "resume", *words])


def fit_and_die_writing(words, name, epoch, replaced):
    """As `fit`, but killed in an epoch when a checkpoint's new file is half written, or just before it is in place."""
    save, replace, seen = torch.save, os.replace, []

    def is_due(path):
        if not str(path).endswith(f"{name}.partial"):
            return False
        seen.append(path)
        return len(seen) == epoch

    def half_saved(content, stream, *args, **kwargs):
        save(content, stream, *args, **kwargs)
        if not replaced and is_due(stream.name):
            stream.truncate(stream.tell() // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def not_replaced(source, target):
        if replaced and is_due(source):
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    torch.save, os.replace = half_saved, not_replaced
    main(["fit" if words[0].startswith("-") else "resume", *words])


@pytest.fixture(scope="module")
def whole(workspace):
    """The folder of a run that nothing interrupted."""
    assert finish(start(fit, options(workspace, "whole"), log=workspace / "whole.log")) == 0
    return workspace / "runs" / "whole"


def require_same(found, expected, place=""):
    """Two checkpoints are equal in everything, bit for bit."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), place
        for key in expected:
            require_same(found[key], expected[key], f"{place}/{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), place
        for index, value in enumerate(expected):
            require_same(found[index], value, f"{place}/{index}")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), place
    else:
        assert found == expected or (found != found and expected != expected), (place, found, expected)


WHAT_COUNTS = ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers", "trained_detector", "metrics")


def require_equal_runs(run, whole):
    """Checkpoints, averages, optimiser, schedules, metrics and their whole history are those of the other run."""
    for name in ("last.ckpt", "best.ckpt"):
        found, expected = (torch.load(folder / "checkpoints" / name, weights_only=True) for folder in (run, whole))
        assert set(WHAT_COUNTS) <= set(expected)
        require_same({key: found[key] for key in WHAT_COUNTS}, {key: expected[key] for key in WHAT_COUNTS}, name)
    assert (run / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    found, expected = (json.loads((folder / "metrics.json").read_text()) for folder in (run, whole))
    require_same(found | {"best": ""}, expected | {"best": ""})
    assert not list(run.glob("**/*.partial")) or newest_checkpoint(run)[1] == STEPS


def test_a_run_killed_again_and_again_equals_the_uninterrupted_one(workspace, whole):
    name, run, log = "killed", workspace / "runs" / "killed", workspace / "killed.log"
    words = options(workspace, name)
    assert finish(start(fit, words, 2, log=log)) == -signal.SIGKILL  # in the first epoch: from the beginning
    assert newest_checkpoint(run) is None
    assert finish(start(fit, [str(run)], 2 * EPOCH - 1, log=log)) == -signal.SIGKILL  # amid the second
    assert newest_checkpoint(run)[1] == EPOCH
    assert finish(start(fit_and_die_writing, [str(run)], "last.ckpt", 1, False, log=log)) == -signal.SIGKILL
    assert (run / "checkpoints" / "last.ckpt.partial").is_file()
    assert newest_checkpoint(run)[1] >= EPOCH
    assert finish(start(fit_and_die_writing, [str(run)], "last.ckpt", 1, True, log=log)) == -signal.SIGKILL
    assert finish(start(fit, [str(run)], log=log)) == 0
    require_equal_runs(run, whole)
    assert "is complete" not in log.read_text()
    assert finish(start(fit, [str(run)], log=log)) == 0
    assert "is complete" in log.read_text()


def test_damaged_checkpoints_are_passed_over(tmp_path, whole):
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    assert newest_checkpoint(tmp_path) is None
    content = (whole / "checkpoints" / "last.ckpt").read_bytes()
    (checkpoints / "best.ckpt").write_bytes(content)
    for damaged in (b"", content[: len(content) // 2], b"no checkpoint", content[:-100]):
        (checkpoints / "last.ckpt").write_bytes(damaged)
        with pytest.warns(UserWarning, match=r"last\.ckpt is no checkpoint"):
            assert newest_checkpoint(tmp_path) == (checkpoints / "best.ckpt", STEPS)


@pytest.mark.skipif(not KILLS, reason="DKP_KILLS is not set: how often a run is killed at random moments")
@pytest.mark.timeout(7200)
def test_kills_at_random_moments(workspace, whole):
    """Kill at random steps and some time after, also while checkpoints are written; after four kills, let it finish."""
    rng = np.random.default_rng(0)
    kills = rounds = writing = 0
    steps_left: list[int] = []
    while kills < KILLS:
        name = f"random{rounds}"
        run, log = workspace / "runs" / name, workspace / f"{name}.log"
        words, steps = options(workspace, name), 0
        for _ in range(4):
            moment = int(rng.integers(steps + 1, STEPS + 1)), rng.uniform(0, 0.6)
            status = finish(start(fit, [str(run)] if run.is_dir() else words, *moment, log=log))
            if status == 0:
                break
            assert status == -signal.SIGKILL, log.read_text()[-3000:]
            kills += 1
            writing += bool(list(run.glob("checkpoints/*.partial")))
            found = newest_checkpoint(run)
            saved = 0 if found is None else found[1]
            assert saved % EPOCH == 0
            assert saved >= (moment[0] - 1) // EPOCH * EPOCH  # no epoch is lost but the one in progress
            steps = saved
            steps_left.append(saved)
            if saved == STEPS:
                break  # killed after the last step, before the run had ended
        if not (run / "metrics.json").is_file():
            assert finish(start(fit, [str(run)], log=log)) == 0, log.read_text()[-3000:]
        require_equal_runs(run, whole)
        rounds += 1
    print(f"\n{kills} kills in {rounds} runs, {writing} amid writing a checkpoint; steps that were saved: {steps_left}")
