"""The folder of a run: claimed once, never overwritten unless the run is resumed, and what is written into it."""

import contextlib
import csv
import io
import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from dkp.commit import commit
from dkp.config_files import CONFIG, RESOLVED
from dkp.files import cannot_write, hold, write_text


def claim_folder(folder: Path) -> Path:
    """Make a folder, or NAME-2, NAME-3, ... where that exists, and return it.

    Raises:
        InputError: it cannot be made.
    """
    count = 1
    while True:
        path = folder if count == 1 else folder.with_name(f"{folder.name}-{count}")
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            count += 1
        except OSError as error:
            raise cannot_write(path, error) from error


class RunLogger(Logger):
    """The run's folder ROOT/NAME and its metrics.csv, which is whole at any moment but for its last line.

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
        super().__init__()
        self.flush_every = flush_logs_every_n_steps
        self.resumed_steps = resumed_steps
        self._folder = Path(root) / name
        self._claimed = resumed_steps is not None
        self._made: list[Path] = []
        self._rows: list[dict[str, Any]] = []
        self._columns: list[str] | None = None

    @property
    def name(self) -> str:
        """Nothing: the folder says it."""
        return ""

    @property
    def version(self) -> str:
        """Nothing: the folder says it."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self.claim())

    def claim(self) -> Path:
        """Make the folder, once and by the first process only, and return it.

        Raises:
            InputError: it cannot be made.
        """
        if not self._claimed and getattr(rank_zero_only, "rank", 0) == 0:
            self._made = [path for path in self._folder.parents if not path.exists()]
            self._folder = claim_folder(self._folder)
            self._made.insert(0, self._folder)
            self._claimed = True
        return self._folder

    def release(self) -> None:
        """Remove the folder where this made it and nothing was written into it, and the folders above likewise."""
        if self._made and not any(path.is_file() for path in self._folder.rglob("*")):
            shutil.rmtree(self._folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                for path in self._made[1:]:
                    path.rmdir()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row; every so many steps all new rows are written."""
        row = {name: value.item() if isinstance(value, torch.Tensor) else value for name, value in metrics.items()}
        step = len(self._rows) if step is None else step
        self._rows.append({**row, "step": step})
        if (step + 1) % self.flush_every == 0:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Append the new rows to metrics.csv; of a run that goes on, its rows up to the checkpoint are kept.

        Raises:
            InputError: the disk is full or the folder cannot be written.
        """
        rows, self._rows = self._rows, []  # or they would be tried again when training ends
        if not rows:
            return
        path = self.claim() / "metrics.csv"
        names = {name for row in rows for name in row}
        try:
            if self._columns is None or names - set(self._columns):
                rows = self._kept(path) + rows
                self._columns = sorted({name for row in rows for name in row})
                text = io.StringIO(newline="")
                writer = csv.DictWriter(text, self._columns)
                writer.writeheader()
                writer.writerows(rows)
                write_text(path, text.getvalue())
            else:
                with path.open("a", newline="") as file:
                    csv.DictWriter(file, self._columns).writerows(rows)
        except OSError as error:
            raise cannot_write(path, error) from error

    def _kept(self, path: Path) -> list[dict[str, Any]]:
        """Return the rows of metrics.csv so far, without a last line that was torn and what is after the checkpoint."""
        if not path.is_file():
            return []
        text = path.read_text()
        rows = list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))
        if self._columns is None:
            last = self.resumed_steps or 0
            rows = [row for row in rows if (row.get("step") or "").isdigit() and int(row["step"]) < last]
        return rows

    @rank_zero_only
    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml holds everything."""


def run_folder(trainer: pl.Trainer) -> Path | None:
    """Return the run's folder, the same on every process; None where the trainer has no `RunLogger`. Collective."""
    if not any(isinstance(logger, RunLogger) for logger in trainer.loggers):
        return None
    return Path(str(trainer.log_dir))


class Started(Callback):
    """What is done once, when nothing can stop a command any more: its inputs were read and its checkpoint fits."""

    started = False

    def start(self, trainer: pl.Trainer) -> None:
        """Do it."""
        raise NotImplementedError

    def _start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.started:
            self.started = True
            self.start(trainer)

    on_sanity_check_start = on_train_start = on_validation_start = on_test_start = on_predict_start = _start


class SaveRunConfig(Started):
    """Write the merged configuration to the run's folder and give it to other loggers.

    config.yaml keeps references such as ``${target}``, so that an option changes all that refers to it;
    config.resolved.yaml has their values. A run that is resumed has both.

    Args:
        said: the configuration with its references.
        resolved: the configuration without them.
    """

    def __init__(self, said: Mapping[str, Any], resolved: Mapping[str, Any]) -> None:
        self.said = said
        self.resolved = resolved

    def start(self, trainer: pl.Trainer) -> None:
        """Save, on the first process only."""
        folder = run_folder(trainer)
        if not trainer.is_global_zero:
            return
        resumed = any(isinstance(one, RunLogger) and one.resumed_steps is not None for one in trainer.loggers)
        if folder is not None and not resumed:
            for name, content in ((CONFIG, self.said), (RESOLVED, self.resolved)):
                write_text(folder / name, yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True))
        for logger in trainer.loggers:
            if not isinstance(logger, RunLogger):
                logger.log_hyperparams(dict(self.resolved))


class MetricsFile(Started):
    """Write the last metrics to metrics.json when fitting, validating or testing ends.

    Checkpoints hold them too: a run that is resumed after its last step has none of its own. While it trains, it holds
    the folder: a second process that would go on with the run is refused.
    """

    def __init__(self) -> None:
        self.resumed: dict[str, float] = {}
        self._held: int | None = None

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

    def start(self, trainer: pl.Trainer) -> None:
        """Hold the folder, mark a run that goes on as not complete, and remove what a killed one has half written.

        Raises:
            InputError: another process trains in the folder.
        """
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                if isinstance(logger, RunLogger) and trainer.state.fn == "fit":
                    self._held = hold(logger.claim(), patience=10.0)
                if isinstance(logger, RunLogger) and logger.resumed_steps is not None:
                    (logger.claim() / "metrics.json").unlink(missing_ok=True)
                    for partial in logger.claim().rglob("*.partial"):
                        partial.unlink(missing_ok=True)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer, "fit")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the folder back."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "exception")

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
        content["commit"] = commit()
        content["metrics"] = {name: value if math.isfinite(value) else None for name, value in values.items()}
        write_text(folder / "metrics.json", json.dumps(content, indent=2) + "\n")
