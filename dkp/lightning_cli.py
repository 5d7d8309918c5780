"""``dkp fit``, ``resume``, ``validate``, ``test``, ``predict``: the Lightning command line with dkp's run folders."""

from __future__ import annotations

import logging
import pickle
import signal
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonargparse
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BasePredictionWriter, Callback, ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.plugins.environments import ClusterEnvironment, SLURMEnvironment
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

import dkp.data
import dkp.models
import dkp.tasks
from dkp.callbacks import (
    MetricsFile,
    PredictionWriter,
    RunCheckpoint,
    RunLogger,
    SaveRunConfig,
    WholeFileIO,
    newest_checkpoint,
    run_folder,
)
from dkp.errors import InputError
from dkp.recipes import CONFIG, one_config, recipe_folder
from dkp.weights import configuration, names

# "omegaconf+" resolves ${...} once, after all files and overrides; with absolute paths made relative, a configuration
# works at the top level and below a subcommand alike.
PARSER = {"parser_mode": "omegaconf+", "exit_on_error": False, "allow_abbrev": False}

SHARED: dict[str, tuple[Any, Any, str]] = {
    "name": (str, "run", "Name of the run's folder below root."),
    "root": (str, "runs", "Folder of all runs."),
    "source": (str | None, None, "Capture with labels: PATH or PATH#SPLIT."),
    "target": (str | None, None, "Capture to adapt to and to be tested on: PATH or PATH#SPLIT."),
    "surface": (str, "human", "Name or file of the canonical surface."),
    "size": (int, 64, "Side of the network's input images [px]."),
    "stride": (int, 2, "Input pixels per cell of the field."),
    "sigma": (float, 0.05, "Width of the matchability [m]."),
    "clip": (float | None, 20.0, "Greatest epipolar distance that counts [px]."),
    "scale": (float, 0.1, "Difference of coordinates that makes a loss of one [m]."),
    "beta": (float, 0.03, "Difference of coordinates at which smooth L1 turns linear [m]."),
    "joints": (list[str] | None, None, "Names of joints to measure the joint error at."),
}
"""Values that data, network and losses share: type, default and description."""

KEYWORDS = ("best", "last", "hpc", "registry")
"""Values of ckpt_path that Lightning resolves."""


LOST_PROCESS = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "DistBackendError", "Socket")
"""What errors of torch.distributed say where another process is gone."""


class ProcessLost(RuntimeError):
    """Another process of the same run has ended."""


@dataclass(frozen=True)
class Resumed:
    """A run that goes on.

    Attributes:
        folder: of the run.
        checkpoint: to go on from; None = from the beginning.
        steps: of the checkpoint.
    """

    folder: Path
    checkpoint: Path | None
    steps: int


class TrainingCLI(LightningCLI):
    """One subcommand of the Lightning command line.

    Beside Lightning's own options there are the values of `SHARED`, which configurations use by interpolation
    (`${size}`), so that data, network and losses agree and one option changes them all.

    Args:
        subcommand: "fit", "validate", "test" or "predict".
        args: the options after the subcommand.
        callbacks: for the trainer, beside those of the configuration.
        resumed: the run that goes on in its folder; None = a new run.
    """

    def __init__(
        self, subcommand: str, args: Sequence[str], callbacks: Sequence[Callback] = (), resumed: Resumed | None = None
    ) -> None:
        self.only = subcommand
        self.resumed = resumed
        self.further = list(callbacks)
        jsonargparse.set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
        super().__init__(
            model_class=dkp.tasks.DenseKeypointTask,
            datamodule_class=pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveRunConfig,
            trainer_defaults={"default_root_dir": "runs"},
            seed_everything_default=0,
            parser_kwargs={**PARSER, subcommand: dict(PARSER)},
            args=[subcommand, *args],
            auto_configure_optimizers=False,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one subcommand asked for: building the parsers of all four takes seconds."""
        return {self.only: LightningCLI.subcommands()[self.only]}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, whatever `sys.argv` is."""
        words, shipped = without_shipped(args[1:])
        self.config = parser.parse_args([args[0], *one_config(words, shipped)])
        checkpoint = self.config[self.only].get("ckpt_path")
        if checkpoint and checkpoint not in KEYWORDS and not Path(checkpoint).is_file():
            raise InputError(f"ckpt_path {checkpoint} does not exist where a checkpoint file is expected")
        if self.config[self.only].get("weights_only") is False:
            raise InputError("weights_only is false, expected null or true: a checkpoint is never unpickled")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the shared values."""
        for name, (kind, default, text) in SHARED.items():
            parser.add_argument(f"--{name}", type=kind, default=default, help=text)

    def _parse_ckpt_path(self) -> None:
        """Nothing: the configuration at hand is used, and a checkpoint gives weights and states only."""

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """The trainer with the run's folder, checkpoints and metrics file."""
        config = self._get(self.config_init, "trainer")
        loggers = config["logger"]
        if not config.get("fast_dev_run") and loggers is not False:
            others = [] if loggers in (None, True) else loggers if isinstance(loggers, list) else [loggers]
            kwargs["logger"] = [self.run_logger(), *others]
        self.add_plugins(config)
        callbacks = config["callbacks"] or []
        config["callbacks"] = callbacks if isinstance(callbacks, list) else [callbacks]
        config["callbacks"] += [*self.further, MetricsFile()]
        checkpoints = config["enable_checkpointing"] is not False and not config.get("fast_dev_run")
        if self.subcommand == "fit" and checkpoints and not any(isinstance(c, ModelCheckpoint) for c in callbacks):
            config["callbacks"].append(RunCheckpoint())
        if self.subcommand == "predict" and not any(isinstance(c, BasePredictionWriter) for c in config["callbacks"]):
            config["callbacks"].append(PredictionWriter())
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"trainer: {error}") from error
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.claim()  # before any further process is started
        return trainer

    def run_logger(self) -> RunLogger:
        """The run's folder: a new one, or that of the run that goes on."""
        if self.resumed is not None:
            folder = self.resumed.folder
            return RunLogger(str(folder.parent), folder.name, resumed_steps=self.resumed.steps)
        name = self._get(self.config, "name")
        return RunLogger(
            self._get(self.config, "root"), name if self.subcommand == "fit" else f"{name}/{self.subcommand}"
        )

    def add_plugins(self, config: Any) -> None:
        """Whole checkpoint files; on SLURM no requeueing by Lightning, which would mix up the runs of a folder.

        Batch normalisation over processes is left out where there is none: torch has it for GPUs only.
        """
        given = config["plugins"] or []
        plugins = given if isinstance(given, list) else [given]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins = [*plugins, WholeFileIO()]
        if SLURMEnvironment.detect() and not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
            plugins = [*plugins, SLURMEnvironment(auto_requeue=False)]
        config["plugins"] = plugins
        accelerator = config["accelerator"]
        if config["sync_batchnorm"] and (accelerator == "cpu" or (accelerator == "auto" and not on_gpu())):
            config["sync_batchnorm"] = False
            if any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in self.model.modules()):
                rank_zero_warn(
                    "trainer.sync_batchnorm is for GPUs: on the CPU every process normalises by its own batch"
                )

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except SystemExit as error:
            if not self.trainer.interrupted:
                raise
            raise KeyboardInterrupt from error
        except Exception as error:
            self.end_other_processes()
            if isinstance(error, pickle.UnpicklingError):
                raise InputError(
                    f"ckpt_path {self.config[subcommand].get('ckpt_path')} holds more than tensors and plain values, "
                    "expected a checkpoint of dkp; nothing of it was run"
                ) from error
            if lost_process(error) and self.trainer.world_size > 1:
                raise ProcessLost(
                    f"process {self.trainer.global_rank} of {self.trainer.world_size} stopped at step "
                    f"{self.trainer.global_step} because another process of the run has ended, see its messages "
                    f"({str(error).splitlines()[0]})"
                ) from error
            raise

    def end_other_processes(self) -> None:
        """End the processes that this one started: they would wait for it."""
        launcher = self.trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            launcher.kill(signal.SIGTERM)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        kwargs["weights_only"] = True
        if subcommand == "predict":
            kwargs["return_predictions"] = False
        if subcommand in ("validate", "test"):
            kwargs["verbose"] = False
        return kwargs


def without_shipped(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Take `--ckpt_path NAME` of a shipped detector out of a command line.

    Args:
        words: the options.

    Returns:
        The other words, with a recipe for evaluation where they name none; and the settings in place of the name: the
        detector with its weights, and the size of its crops.
    """
    left = list(words)
    for index, word in enumerate(left):
        option, equals, value = word.partition("=")
        value = value if equals else "".join(left[index + 1 : index + 2])
        if option != "--ckpt_path" or value not in names() or Path(value).is_file():
            continue
        del left[index : index + (1 if equals else 2)]
        if not any(one.partition("=")[0] in CONFIG for one in left):
            left.insert(0, f"--config={recipe_folder() / 'people' / 'evaluate.yaml'}")
        return left, configuration(value)
    return left, {}


def on_gpu() -> bool:
    """Whether torch finds a GPU."""
    return bool(torch.cuda.is_available() or torch.backends.mps.is_available())


def lost_process(error: BaseException | None) -> bool:
    """Whether an exception, or what it was raised from, is about another process that is gone."""
    while error is not None:
        if isinstance(error, RuntimeError) and any(word in f"{type(error).__name__} {error}" for word in LOST_PROCESS):
            return True
        error = error.__cause__
    return False


def resume(words: Sequence[str]) -> None:
    """``dkp resume RUN [OPTIONS]``: go on with a run that was interrupted, in its folder, from its newest checkpoint.

    Args:
        words: the run's folder; then options of `dkp fit`, which count this once.

    Raises:
        InputError: there is no such run.
    """
    if not words or words[0].startswith("-"):
        print(RESUME_HELP)
        if not words:
            raise InputError("dkp resume has no folder where RUN, the folder of a run, is expected")
        return
    folder, options = Path(words[0]), list(words[1:])
    config, finished = folder / "config.yaml", folder / "metrics.json"
    if not config.is_file():
        raise InputError(f"{config} does not exist where the configuration of a run is expected")
    if finished.is_file() and not options:
        print(f"dkp: {folder} is complete, there is nothing to resume")
        return
    found = newest_checkpoint(folder)
    resumed = Resumed(folder, None, 0) if found is None else Resumed(folder, *found)
    finished.unlink(missing_ok=True)
    place = f"step {resumed.steps}, {resumed.checkpoint}" if found else "the beginning: it has no checkpoint"
    rank_zero_info(f"dkp: {folder} goes on from {place}")
    checkpoint = [] if resumed.checkpoint is None else ["--ckpt_path", str(resumed.checkpoint)]
    run("fit", ["--config", str(config), *checkpoint, *options], resumed=resumed)


RESUME_HELP = """usage: dkp resume RUN [OPTIONS]

Go on with an interrupted run, in its own folder, from its newest checkpoint that can be read.
OPTIONS are those of `dkp fit` and count this once, such as --trainer.devices 1 or --trainer.max_steps 4000."""


def run(
    subcommand: str, args: Sequence[str], callbacks: Sequence[Callback] = (), resumed: Resumed | None = None
) -> TrainingCLI:
    """Parse the options, run the subcommand and say where the results are.

    Args:
        subcommand: "fit", "validate", "test" or "predict".
        args: the options after the subcommand.
        callbacks: for the trainer, beside those of the configuration; one that writes predictions takes the place of
            `PredictionWriter`.
        resumed: the run that goes on in its folder; None = a new run.
    """
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(
        lambda record: "Tip:" not in record.getMessage()
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*log directory.*exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*module.s. in eval mode at the start of training.*")
        cli = TrainingCLI(subcommand, args, callbacks, resumed)
    folder = run_folder(cli.trainer)
    if cli.trainer.is_global_zero:
        if subcommand != "predict":
            print(summary({name: float(value) for name, value in cli.trainer.callback_metrics.items()}))
        if folder is not None:
            print(f"dkp: results are in {folder}")
    return cli


def summary(metrics: Mapping[str, float]) -> str:
    """The metrics of the evaluation as lines, without those of single camera pairs."""
    shown = {name: value for name, value in metrics.items() if "/pair/" not in name and not name.startswith("train/")}
    return "\n".join(f"{name:<36} {value:10.4f}" for name, value in shown.items())
