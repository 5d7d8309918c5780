"""The folder of a run: claimed once, never overwritten, and what is written into it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from jsonargparse import Namespace
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, SaveConfigCallback
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn


def claim_folder(root: str | Path, name: str) -> str:
    """Make ROOT/NAME, or ROOT/NAME-2, -3, ... where that exists, and return the part below ROOT."""
    count = 1
    while True:
        version = name if count == 1 else f"{name}-{count}"
        try:
            (Path(root) / version).mkdir(parents=True)
            return version
        except FileExistsError:
            count += 1


class RunLogger(CSVLogger):
    """The run's folder ROOT/NAME and its metrics.csv.

    The folder is claimed by the first process at first use; a folder that exists is left alone and NAME-2, NAME-3, ...
    is taken. Checkpoints and the configuration go to the same folder.

    Args:
        root: folder of all runs.
        name: name of this run; may contain slashes.
        flush_logs_every_n_steps: how often metrics.csv is written.
    """

    def __init__(self, root: str = "runs", name: str = "run", flush_logs_every_n_steps: int = 50) -> None:
        super().__init__(root, name="", version="", flush_logs_every_n_steps=flush_logs_every_n_steps)
        self._run_name = name
        self._claimed: str | None = None

    @property
    def version(self) -> str:
        """The run's folder below the root."""
        return self.claim()

    def claim(self) -> str:
        """Make the folder, once and by the first process only, and return its place below the root."""
        if self._claimed is None:
            if getattr(rank_zero_only, "rank", 0) != 0:
                return self._run_name
            self._claimed = claim_folder(self.save_dir, self._run_name)
        return self._claimed

    @rank_zero_only
    def log_hyperparams(self, params: Any = None) -> None:
        """Nothing: config.yaml holds everything."""


def run_folder(trainer: pl.Trainer) -> Path | None:
    """The run's folder, the same on every process; None where the trainer has no `RunLogger`. Collective."""
    if not any(isinstance(logger, RunLogger) for logger in trainer.loggers):
        return None
    return Path(str(trainer.log_dir))


class SaveRunConfig(SaveConfigCallback):
    """Write the merged configuration to the run's folder as config.yaml and give it to other loggers."""

    def __init__(self, parser: LightningArgumentParser, config: Namespace) -> None:
        super().__init__(parser, config, save_to_log_dir=False)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Save once, at the first stage."""
        self.folder = None if self.already_saved else run_folder(trainer)
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """On the first process only."""
        text = self.parser.dump(self.config, skip_none=False)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / self.config_filename).write_text(text)
        for logger in trainer.loggers:
            if not isinstance(logger, RunLogger):
                logger.log_hyperparams(yaml.safe_load(text))


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
        """Save the best as the base class does, and the last always (the base class saves it with a new best only)."""
        self._without_missing_monitor(trainer)
        super().on_train_epoch_end(trainer, pl_module)
        if self.dirpath is not None and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(Path(self.dirpath) / "last.ckpt")


class MetricsFile(Callback):
    """Write the last metrics to metrics.json when fitting, validating or testing ends."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer, "fit")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._write(trainer, "validate")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer, "test")

    def _write(self, trainer: pl.Trainer, stage: str) -> None:
        folder = run_folder(trainer)
        if folder is None or not trainer.is_global_zero:
            return
        values = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        content: dict[str, Any] = {"stage": stage, "step": trainer.global_step, "epoch": trainer.current_epoch}
        if stage == "fit" and isinstance(trainer.checkpoint_callback, ModelCheckpoint):
            content["best"] = trainer.checkpoint_callback.best_model_path or None
        content["metrics"] = {name: value if math.isfinite(value) else None for name, value in values.items()}
        (folder / "metrics.json").write_text(json.dumps(content, indent=2) + "\n")
