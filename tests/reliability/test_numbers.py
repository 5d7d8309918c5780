"""The same configuration gives the same numbers: twice over, and in bfloat16 within bounds."""

import json
from pathlib import Path

import pytest
import torch

from dkp.cli import main

from .conftest import finish, small_run, start


def options(workspace, name, *more):
    words = small_run(workspace, "board/teacher")
    words += ["--name", name, "--trainer.max_steps", "60", "--data.steps_per_epoch", "60", "--data.num_workers", "0"]
    words += ["--data.val", str(workspace / "plane#test"), "--model.learning_rate", "0.005", "--data.batch_size", "8"]
    return [*words, "--trainer.enable_model_summary", "false", "--trainer.log_every_n_steps", "1", *more]


def fit(workspace, name, *more) -> Path:
    log = workspace / f"{name}.log"
    assert finish(start(main, ["fit", *options(workspace, name, *more)], log=log)) == 0, log.read_text()[-3000:]
    return workspace / "runs" / name


def state(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def metrics(run: Path) -> dict[str, float]:
    return json.loads((run / "metrics.json").read_text())["metrics"]


@pytest.fixture(scope="module")
def single(workspace):
    return fit(workspace, "single", "--trainer.deterministic", "true")


def test_a_deterministic_run_repeats_bit_for_bit_and_another_seed_does_not(workspace, single):
    again = fit(workspace, "again", "--trainer.deterministic", "true", "--trainer.max_steps", "20")
    once = fit(workspace, "once", "--trainer.deterministic", "true", "--trainer.max_steps", "20")
    other = fit(workspace, "other", "--seed_everything", "1", "--trainer.max_steps", "20")
    assert all(torch.equal(value, state(once)[name]) for name, value in state(again).items())
    assert (again / "metrics.csv").read_text() == (once / "metrics.csv").read_text()
    assert any(not torch.equal(value, state(other)[name]) for name, value in state(again).items())


def test_bfloat16_learns_what_float32_learns(workspace, single):
    """Within 15 % of the error and 0.03 of the overlap, after a training that brings both down by half and more."""
    mixed = metrics(fit(workspace, "mixed", "--trainer.precision", "bf16-mixed"))
    whole = metrics(single)
    print({name: (mixed[name], whole[name]) for name in ("val/geodesic_mean_cm", "val/iou", "train/loss")})
    assert whole["val/geodesic_mean_cm"] < 8  # 15 cm at the start
    assert mixed["val/geodesic_mean_cm"] == pytest.approx(whole["val/geodesic_mean_cm"], rel=0.15)
    assert mixed["val/iou"] == pytest.approx(whole["val/iou"], abs=0.03)
