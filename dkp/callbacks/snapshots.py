"""The detector at several steps of its training, for pictures of how it came about."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from dkp.callbacks.run_folder import run_folder
from dkp.errors import InputError
from dkp.models import Detector, save_detector

FOLDER = "snapshots"


class DetectorSnapshots(Callback):
    """Write RUN/snapshots/step-N.safetensors at the start, the end, and evenly between; `load_detector` reads them.

    Args:
        count: how many pieces the training is divided into.
    """

    def __init__(self, count: int = 4) -> None:
        if count < 1:
            raise InputError(f"count of snapshots is {count} where 1 or more is expected")
        self.count = count
        self._steps: set[int] = set()
        self._folder: Path | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose the steps and write the first."""
        run = run_folder(trainer)
        total = int(trainer.estimated_stepping_batches)
        self._folder = None if run is None else run / FOLDER
        self._steps = {round(part * total / self.count) for part in range(self.count + 1)}
        self._write(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Write one where its step has come."""
        self._write(trainer, pl_module)

    def _write(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        step = trainer.global_step
        if self._folder is None or step not in self._steps or not trainer.is_global_zero:
            return
        detector = pl_module.get_submodule("detector")
        assert isinstance(detector, Detector)
        save_detector(detector, self._folder / f"step-{step:07d}.safetensors")
