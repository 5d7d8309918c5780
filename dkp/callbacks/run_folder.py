"""The folder of a run: claimed once, never overwritten unless the run is resumed, and what is written into it."""

from __future__ import annotations

import csv
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
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from dkp.files import cannot_write, whole_file, write_text


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


class MetricsTable(ExperimentWriter):
    """metrics.csv, which is whole at any moment but for its last line.

    Args:
        log_dir: the run's folder.
        steps: keep the rows of the first so many steps of a file that is there; None = there is none.
    """

    def __init__(self, log_dir: str, steps: int | None) -> None:
        self.steps = steps
        super().__init__(log_dir)

    def _check_log_dir_exists(self) -> None:
        """Take over the rows to keep, and leave out a last line that was torn."""
        path = Path(self.metrics_file_path)
        if self.steps is None or not path.is_file():
            return
        text = path.read_text()
        rows = list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))
        rows = [row for row in rows if (row.get("step") or "").isdigit() and int(row["step"]) < self.steps]
        self.metrics_keys = sorted({name for row in rows for name in row})
        self._write(path, rows)

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path = Path(self.metrics_file_path)
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        self._write(path, rows)

    def _write(self, path: Path, rows: list[dict[str, Any]]) -> None:
        with whole_file(path) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=self.metrics_keys)
            writer.writeheader()
            writer.writerows(rows)

    def save(self) -> None:
        """Append the new rows.

        Raises:
            InputError: the disk is full or the folder cannot be written.
        """
        try:
            super().save()
        except OSError as error:
            self.metrics = []  # or they would be tried again when training ends
            raise cannot_write(Path(self.metrics_file_path), error) from error


class RunLogger(CSVLogger):
    """The run's folder ROOT/NAME and its metrics.csv.

    The folder is claimed by the first process at first use; a folder that exists is left alone and NAME-2, NAME-3, ...
    is taken. Checkpoints and the configuration go to the same folder.

    Args:
        root: folder of all runs.
        name: name of this run; may contain slashes.
        flush_logs_every_n_steps: how often metrics.csv is written.
        resumed_steps: the folder is there and its run goes on after so many steps; None = a new run.
    """

    def __init__(
        self,
        root: str = "runs",
        name: str = "run",
        flush_logs_every_n_steps: int = 50,
        resumed_steps: int | None = None,
    ) -> None:
        super().__init__(root, name="", version="", flush_logs_every_n_steps=flush_logs_every_n_steps)
        self._run_name = name
        self.resumed_steps = resumed_steps
        self._claimed: str | None = None if resumed_steps is None else name

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

    @property
    @rank_zero_experiment
    def experiment(self) -> MetricsTable:
        """What writes metrics.csv."""
        if not isinstance(self._experiment, MetricsTable):
            self._experiment = MetricsTable(self.log_dir, self.resumed_steps)
        return self._experiment

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
        """Save once, at the first stage; a run that is resumed has its configuration."""
        self.folder = None if self.already_saved else run_folder(trainer)
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """On the first process only."""
        text = self.parser.dump(self.config, skip_none=False)
        resumed = any(isinstance(one, RunLogger) and one.resumed_steps is not None for one in trainer.loggers)
        if self.folder is not None and not resumed:
            write_text(self.folder / self.config_filename, text)
        for logger in trainer.loggers:
            if not isinstance(logger, RunLogger):
                logger.log_hyperparams(yaml.safe_load(text))


class MetricsFile(Callback):
    """Write the last metrics to metrics.json when fitting, validating or testing ends.

    Checkpoints hold them too: a run that is resumed after its last step has none of its own.
    """

    def __init__(self) -> None:
        self.resumed: dict[str, float] = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the metrics so far."""
        checkpoint["metrics"] = {name: float(value) for name, value in trainer.callback_metrics.items()}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember the metrics."""
        self.resumed = checkpoint.get("metrics", {})

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
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        values = dict(sorted((logged or (self.resumed if stage == "fit" else {})).items()))
        content: dict[str, Any] = {"stage": stage, "step": trainer.global_step, "epoch": trainer.current_epoch}
        if stage == "fit" and isinstance(trainer.checkpoint_callback, ModelCheckpoint):
            content["best"] = trainer.checkpoint_callback.best_model_path or None
        content["metrics"] = {name: value if math.isfinite(value) else None for name, value in values.items()}
        write_text(folder / "metrics.json", json.dumps(content, indent=2) + "\n")
