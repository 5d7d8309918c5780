import json
import math

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from dkp.callbacks import MetricsFile, RunCheckpoint, RunLogger, run_folder
from dkp.callbacks.run_folder import claim_folder
from dkp.commit import commit
from dkp.errors import InputError


class Line(pl.LightningModule):
    """One parameter that is pulled to zero; its validation metric is its size."""

    def __init__(self, metric="val/size"):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(4.0))
        self.metric = metric

    def training_step(self, batch, batch_idx):
        self.log("train/loss", self.weight.detach().square())
        return self.weight.square()

    def validation_step(self, batch, batch_idx):
        self.log(self.metric, self.weight.detach().abs())
        self.log("val/nothing", math.nan)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.2)


def loader():
    return DataLoader(torch.zeros(2, 1), batch_size=1)


def fit(tmp_path, name="run", metric="val/size", monitor="val/size", epochs=2, validate=True):
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=RunLogger(str(tmp_path), name),
        callbacks=[MetricsFile(), RunCheckpoint(monitor)],
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
    )
    task = Line(metric)
    trainer.fit(task, loader(), loader() if validate else None)
    return trainer, task


def test_claiming_a_folder_never_takes_one_that_exists(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "kept").write_text("as it was")
    assert [claim_folder(tmp_path / "a").name for _ in range(3)] == ["a-2", "a-3", "a-4"]
    assert claim_folder(tmp_path / "b" / "test") == tmp_path / "b" / "test"
    assert (tmp_path / "a" / "kept").read_text() == "as it was"


def test_a_logger_claims_once_and_only_when_used(tmp_path):
    logger = RunLogger(str(tmp_path), "run")
    assert not (tmp_path / "run").exists()
    assert logger.save_dir == logger.save_dir == str(tmp_path / "run")
    assert RunLogger(str(tmp_path), "run").save_dir == str(tmp_path / "run-2")


def test_only_a_folder_that_is_empty_and_was_made_is_given_back(tmp_path):
    (tmp_path / "kept").mkdir()
    logger = RunLogger(str(tmp_path / "a" / "b"), "run")
    logger.claim()
    logger.release()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    logger = RunLogger(str(tmp_path / "a"), "run")
    (logger.claim() / "file").write_text("written")
    logger.release()
    assert (tmp_path / "a" / "run" / "file").is_file()
    RunLogger(str(tmp_path), "kept", resumed_steps=1).release()
    assert (tmp_path / "kept").is_dir()


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("a file where a folder is expected")
    with pytest.raises(InputError, match=r"file/run cannot be written \(Not a directory\)"):
        RunLogger(str(tmp_path / "file"), "run").claim()


def test_a_run_writes_metrics_and_checkpoints_into_one_folder(tmp_path):
    trainer, _ = fit(tmp_path)
    folder = run_folder(trainer)
    assert folder == tmp_path / "run"
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "metrics.csv", "metrics.json"]
    content = json.loads((folder / "metrics.json").read_text())
    assert content["stage"] == "fit"
    assert content["step"] == 4
    assert content["commit"] == commit()
    assert content["metrics"]["val/nothing"] is None
    assert content["metrics"]["train/loss"] > 0
    assert fit(tmp_path)[0].log_dir == str(tmp_path / "run-2")


def test_best_is_the_best_and_last_the_last(tmp_path):
    _, task = fit(tmp_path, epochs=3)  # |1 - 2 * 1.2| > 1: the weight grows, so the first epoch is the best
    best, last = (
        torch.load(tmp_path / "run" / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]["weight"]
        for name in ("best", "last")
    )
    assert best.abs() < last.abs()
    assert last == task.weight


@pytest.mark.parametrize("validate", [True, False])
def test_without_the_monitored_metric_best_is_the_latest_with_a_warning(tmp_path, validate):
    with pytest.warns(UserWarning, match="val/size is not among the metrics"):
        _, task = fit(tmp_path, metric="val/other", epochs=3, validate=validate)
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["state_dict"]["weight"] == task.weight


def test_no_run_folder_without_a_run_logger(tmp_path):
    trainer = pl.Trainer(logger=False, default_root_dir=tmp_path, accelerator="cpu")
    assert run_folder(trainer) is None
