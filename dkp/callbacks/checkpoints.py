"""Checkpoints of a run: written whole or not at all, the best and the last, and the one to go on from."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_warn

from dkp.callbacks.run_folder import RunLogger
from dkp.errors import InputError
from dkp.files import cannot_write, whole_file

MONITOR = "val/geodesic_median_cm"
"""Metric of the validation that chooses the best checkpoint."""

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
    "best" is the latest, with a warning where there was a validation.

    Args:
        monitor: the metric that chooses the best; None = the latest.
        mode: "min" or "max".
    """

    def __init__(self, monitor: str | None = MONITOR, mode: str = "min") -> None:
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
            if self.monitor != MONITOR or any(trainer.num_val_batches):  # else nothing was to be expected
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


def newest_checkpoint(run: Path, given: str | None = None) -> tuple[Path, int] | None:
    """Return the checkpoint of a run with the most steps, and its steps; damaged files are passed over with a warning.

    Args:
        run: the run's folder.
        given: the checkpoint that is asked for instead: a file, or "best" or "last".

    Returns:
        None where there is no checkpoint.

    Raises:
        InputError: the one that is asked for does not exist or cannot be read.
    """
    if given is not None:
        path = run / "checkpoints" / f"{given}.ckpt" if f"{given}.ckpt" in NAMES else Path(given)
        return path, int(read_checkpoint(path)["global_step"])
    found: list[tuple[Path, int]] = []
    for name in NAMES:
        path = run / "checkpoints" / name
        if path.is_file():
            try:
                found.append((path, int(read_checkpoint(path)["global_step"])))
            except InputError as error:
                rank_zero_warn(f"{error}; it is passed over")
    return max(found, key=lambda entry: entry[1]) if found else None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a checkpoint of a run holds.

    Raises:
        InputError: it does not exist, is damaged or is something else.
    """
    if not path.is_file():
        raise InputError(f"ckpt_path {path} does not exist where a checkpoint file is expected")
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is empty, cut off or something else")
        content = torch.load(path, "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"ckpt_path {path} holds more than tensors and plain values, expected a checkpoint of dkp; nothing of it "
            "was run"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} is no checkpoint that can be read ({line})") from error
    if not isinstance(content, dict) or not {"state_dict", "global_step"} <= content.keys():
        raise InputError(f"{path} is no checkpoint that can be read (no run wrote it)")
    return content


def require_fitting_checkpoint(
    path: Path, task: pl.LightningModule, max_steps: int = -1, max_epochs: int | None = None
) -> None:
    """Refuse a checkpoint of another detector than that of a task, or one beyond the end of a training.

    Args:
        path: the checkpoint.
        task: has the module `detector`.
        max_steps: of the training; -1 = any number.
        max_epochs: of the training; None or -1 = any number.

    Raises:
        InputError: it cannot be read or does not fit; the sentence says what it holds and what is described.
    """
    content = read_checkpoint(path)
    steps, epochs = int(content["global_step"]), int(content.get("epoch", -1)) + 1
    if max_steps is not None and 0 <= max_steps < steps:
        raise InputError(f"trainer.max_steps is {max_steps}, but {path} has {steps} steps, expected as many or more")
    if max_epochs is not None and 0 <= max_epochs < epochs:
        raise InputError(
            f"trainer.max_epochs is {max_epochs}, but {path} has {epochs} epochs, expected as many or more"
        )
    detector = task.get_submodule("detector")
    found = {
        name.removeprefix("detector."): value.shape
        for name, value in content["state_dict"].items()
        if name.startswith("detector.")
    }
    wanted = {name: value.shape for name, value in detector.state_dict().items()}
    if found == wanted:
        return
    options = getattr(detector, "config", {})
    held = (content.get("hyper_parameters") or {}).get("detector") or {}
    held = held.get("init_args") or {} if isinstance(held, dict) else {}
    other = [name for name in options if name in held and held[name] != options[name]]
    if other:
        reason = (
            f"holds a detector with {', '.join(f'{name} {held[name]}' for name in other)}, where the configuration "
            f"describes one with {', '.join(f'{name} {options[name]}' for name in other)}"
        )
    else:
        name = next(name for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name))
        shapes = [f"{tuple(shapes[name])}" if name in shapes else "missing" for shapes in (found, wanted)]
        reason = f"holds a detector whose {name} is {shapes[0]}, where {shapes[1]} is described"
    raise InputError(f"ckpt_path {path} {reason}")
