"""Snapshots of a detector are at the steps asked for and hold its weights of then."""

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from dkp.callbacks import DetectorSnapshots, RunLogger
from dkp.errors import InputError
from dkp.models import Detector, load_detector


class Falling(pl.LightningModule):
    """A detector whose trained bias is minus the number of steps."""

    def __init__(self):
        super().__init__()
        self.detector = Detector(encoder="unet", width=4, levels=3)
        torch.nn.init.zeros_(self.bias)

    @property
    def bias(self):
        return self.detector.foreground_head[-1].bias

    def training_step(self, batch, batch_idx):
        return self.bias.sum()

    def configure_optimizers(self):
        return torch.optim.SGD([self.bias], lr=1.0)


def test_start_end_and_between(tmp_path):
    trainer = pl.Trainer(
        max_steps=6,
        accelerator="cpu",
        logger=RunLogger(str(tmp_path), "run"),
        callbacks=[DetectorSnapshots(count=3)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Falling(), DataLoader(torch.zeros(4, 1)))
    files = sorted((tmp_path / "run" / "snapshots").glob("*.safetensors"))
    assert [file.stem for file in files] == ["step-0000000", "step-0000002", "step-0000004", "step-0000006"]
    assert [load_detector(file).foreground_head[-1].bias.item() for file in files] == [0.0, -2.0, -4.0, -6.0]


def test_there_is_at_least_one_piece():
    with pytest.raises(InputError, match="count of snapshots is 0"):
        DetectorSnapshots(0)
