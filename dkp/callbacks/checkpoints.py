"""Checkpoints of a run: written whole or not at all, the best and the last, and the one to go on from."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_warn

from dkp.callbacks.run_folder import RunLogger
from dkp.files import cannot_write, whole_file

NAMES = ("last.ckpt", "best.ckpt")


class WholeFileIO(TorchCheckpointIO):
    """Checkpoint files that are whole at any moment.

    A checkpoint is written to NAME.partial in its own folder, forced to the disk and then renamed, so a process that is
    killed leaves either the old file or the new one. (Lightning writes to the system's temporary folder and moves the
    file, which is a copy where that folder lies on another disk.)
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            InputError: the disk is full or the folder cannot be written; what was there before is still there.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as partial, partial.open("wb") as stream:
                torch.save(checkpoint, stream)
                stream.flush()
                os.fsync(stream.fileno())
        except (OSError, RuntimeError) as error:  # torch turns a failed write into a RuntimeError
            kept = "; the checkpoint saved before is kept" if path.is_file() else ""
            raise cannot_write(path, error, kept) from error


class RunCheckpoint(ModelCheckpoint):
    """checkpoints/best.ckpt and checkpoints/last.ckpt of a run.

    They are saved at the end of an epoch, after its validation: a checkpoint saved by the validation itself lies within
    the epoch, and resuming from it would skip one. Without validation, or where its metrics lack the monitored one,
    "best" is the latest, with a warning.

    Args:
        monitor: the metric that chooses the best; None = the latest.
        mode: "min" or "max".
    """

    def __init__(self, monitor: str | None = "val/geodesic_median_cm", mode: str = "min") -> None:
        super().__init__(
            filename="best",
            monitor=monitor,
            mode=mode,
            save_top_k=1,
            auto_insert_metric_name=False,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )

    def _without_missing_monitor(self, trainer: pl.Trainer) -> None:
        if self.monitor is not None and self.monitor not in trainer.callback_metrics:
            rank_zero_warn(f"{self.monitor} is not among the metrics: best.ckpt is the latest one")
            self.monitor = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the best as the base class does, and then the last, always (the base class: with a new best only).

        The log is written first: a resumed run keeps the rows up to its checkpoint. The best comes before the last, so
        that a last one which is there says that the epoch's best is there, too.
        """
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.save()
        self._without_missing_monitor(trainer)
        super().on_train_epoch_end(trainer, pl_module)
        if self.dirpath is not None and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(Path(self.dirpath) / "last.ckpt")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember the best so far, where its file lies in this run's folder, wherever that has moved to."""
        here = Path(str(self.dirpath)) / "best.ckpt"
        if here.is_file() and state_dict["best_model_path"]:
            path = str(here)
            score = state_dict["best_model_score"]
            state_dict = state_dict | {"dirpath": self.dirpath, "best_model_path": path, "kth_best_model_path": path}
            state_dict |= {"best_k_models": {path: score}, "last_model_path": ""}
        super().load_state_dict(state_dict)


def newest_checkpoint(run: Path) -> tuple[Path, int] | None:
    """The checkpoint of a run with the most steps, and its steps; damaged files are passed over with a warning.

    Args:
        run: the run's folder.

    Returns:
        None where there is no checkpoint.
    """
    found: list[tuple[Path, int]] = []
    for name in NAMES:
        path = run / "checkpoints" / name
        if not path.is_file():
            continue
        try:
            found.append((path, int(torch.load(path, "cpu", weights_only=True)["global_step"])))
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            rank_zero_warn(f"{path} is no checkpoint that can be read ({line}) and is passed over")
    return max(found, key=lambda entry: entry[1]) if found else None
