"""``dkp fit``, ``resume``, ``validate``, ``test``, ``predict``: the Lightning command line with dkp's run folders."""

import logging
import pickle
import signal
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import BasePredictionWriter, Callback, ModelCheckpoint, ProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.plugins.environments import ClusterEnvironment, SLURMEnvironment
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch.nn.modules.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d

import dkp.data
import dkp.models
import dkp.tasks
from dkp import signals
from dkp.callbacks import (
    MetricsFile,
    PredictionWriter,
    RunCheckpoint,
    RunLogger,
    SaveRunConfig,
    WholeFileIO,
    newest_checkpoint,
    require_fitting_checkpoint,
    run_folder,
)
from dkp.callbacks.pictures import ValidationPictures
from dkp.callbacks.run_folder import Started
from dkp.errors import InputError
from dkp.lightning_internals import RunProgressBar
from dkp.runs.options import SHARED, given, saved_config, with_saved, with_underscores
from dkp.runs.parser import (
    RunParser,
    evaluated,
    own_run,
    parsed,
    require_effect,
    require_labelled,
    saved_by_dkp,
    without_shipped,
)
from dkp.viz import evaluation_text

# "omegaconf+" resolves ${...} once, after all files and overrides.
PARSER = {"parser_mode": "omegaconf+", "exit_on_error": False, "allow_abbrev": False}

LOST_PROCESS = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "DistBackendError", "Socket")
"""What errors of torch.distributed say where another process is gone."""

NO_USE = (
    ".*does not have many workers.*",
    ".*log directory.*exists and is not empty.*",
    ".*module.s. in eval mode at the start of training.*",
    ".*weights_only.* was not set.*",
    ".*Total length of .* across ranks is zero.*",
    ".*LeafSpec.*is deprecated.*",
    ".*callbacks used to create the checkpoint need to be provided.*",
    ".*Checkpoint directory .* exists and is not empty.*",
)
"""Warnings that a user can do nothing about."""

CHATTY = (
    "pytorch_lightning.utilities.rank_zero", "pytorch_lightning.trainer.connectors.checkpoint_connector",
    "lightning_fabric.utilities.seed",
)  # fmt: skip
NO_USE_SAID = ("Tip:", "`weights_only` was not set", "Seed set to", "TPU available: False")
"""Loggers of Lightning's, and what they say of no use."""


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


class OwnSignals(Started):
    """Take the handling of signals back from Lightning, whose handlers wait for processes that may be gone."""

    def start(self, trainer: pl.Trainer) -> None:
        """Do it."""
        signals.install()


class TrainingCLI(LightningCLI):
    """The Lightning command line of one command.

    Beside Lightning's own options there are the values of `SHARED`, which configurations use by interpolation
    (`${size}`), so that data, network and losses agree and one option changes them all.

    Args:
        command: "fit", "validate", "test" or "predict".
        words: the options after the command.
        callbacks: for the trainer, beside those of the configuration.
        resumed: the run that goes on in its folder; None = a new run.
    """

    def __init__(
        self, command: str, words: Sequence[str], callbacks: Sequence[Callback] = (), resumed: Resumed | None = None
    ) -> None:
        self.command = command
        self.words, self.shipped = without_shipped(words)
        self.resumed = resumed
        self.further = list(callbacks)
        self.own_run = own_run(self.words) if resumed is None and command != "fit" else None
        super().__init__(
            model_class=dkp.tasks.DenseKeypointTask,
            datamodule_class=pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=self.save_config,  # type: ignore[arg-type]
            trainer_defaults={"default_root_dir": "runs"},
            seed_everything_default=0,
            parser_class=RunParser,
            parser_kwargs={**PARSER, "prog": f"dkp {command}"},
            args=self.words,
            run=False,
            auto_configure_optimizers=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the shared values and the checkpoint."""
        for name, (kind, default, text) in SHARED.items():
            parser.add_argument(f"--{name}", type=kind, default=default, help=text)
        text = 'Checkpoint to begin from; "best" and "last" are those of the run.'
        parser.add_argument("--ckpt_path", type=str | None, default=None, help=text)
        text = "Lightning's; a checkpoint is never unpickled."
        parser.add_argument("--weights_only", type=bool | None, default=None, help=text)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, whatever `sys.argv` is, and find what is to be read."""
        data = given(self.words, "data")
        if data is not None and Path(data).is_dir():
            raise InputError(
                f"--data {data} is a folder where the class of a data module is expected; a capture is given by "
                "--source, --target, or --data.KEY such as --data.test"
            )
        self.config = parsed(parser, args, self.shipped, self.own_run)
        if self.config["weights_only"] is False:
            raise InputError("weights_only is false, expected null or true: a checkpoint is never unpickled")
        self.said = yaml.safe_load(getattr(parser, "said", None) or parser.dump(self.config, skip_none=False))
        if warning := require_effect(self.command, self.words, self.said):
            rank_zero_warn(warning)
        self.checkpoint = self.find_checkpoint()
        if self.command == "fit" and self.config.get("data.init_args.pseudo_labels"):
            require_labelled(self.config["data.init_args.unlabelled"])

    def find_checkpoint(self) -> Path | None:
        """Return the checkpoint to begin from: the one that is given, or else that of the run that is evaluated.

        Raises:
            InputError: it does not exist, or an evaluation would be one of random weights.
        """
        evaluates = self.command != "fit"
        if self.shipped:
            return None
        path = given(self.words, "ckpt_path") if self.own_run is not None else self.config["ckpt_path"]
        if path in ("best", "last"):
            if (run := self.own_run or own_run(self.words)) is None:
                raise InputError(f"ckpt_path is {path}, but no --config RUN/config.yaml says of which run")
            path = str(run / "checkpoints" / f"{path}.ckpt")
        if path and not Path(path).is_file():
            raise InputError(f"ckpt_path {path} does not exist where a checkpoint file is expected")
        if path or not evaluates:
            return Path(path) if path else None
        weights = [f"model.{prefix}detector.{prefix}weights" for prefix in ("", "init_args.")]
        weights += ["model.init_args.detector.weights", "model.detector.init_args.weights"]
        if given(self.words, *weights) is not None:
            return None
        if self.own_run is not None:
            last = self.own_run / "checkpoints" / "last.ckpt"
            if not last.is_file():
                raise InputError(f"{last} does not exist where the checkpoint of the run is expected")
            rank_zero_info(f"dkp: the weights are {last}")
            return last
        if self.config.get("model.init_args.detector.init_args.weights"):
            return None
        raise InputError(
            f"dkp {self.command} has no trained weights: name a run (dkp {self.command} RUN), or give --ckpt-path FILE "
            "or --model.detector.init_args.weights FILE"
        )

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Return the trainer with the run's folder, checkpoints and metrics file."""
        config = self.config_init["trainer"]
        if self.checkpoint is not None:
            limits = (config["max_steps"], config["max_epochs"]) if self.command == "fit" else (-1, None)
            require_fitting_checkpoint(self.checkpoint, self.model, *limits)
        if 0 < config["max_steps"] < (config["log_every_n_steps"] or 50):
            config["log_every_n_steps"] = config["max_steps"]  # so that metrics.csv is there, too
        loggers, others = config["logger"], list[Any]()
        if not config.get("fast_dev_run") and loggers is not False:
            others = [] if loggers in (None, True) else loggers if isinstance(loggers, list) else [loggers]
            kwargs["logger"] = [self.run_logger(), *others]
        self.add_plugins(config)
        callbacks = config["callbacks"] or []
        config["callbacks"] = callbacks if isinstance(callbacks, list) else [callbacks]
        config["callbacks"] += [*self.further, *([ValidationPictures()] if others else []), MetricsFile(), OwnSignals()]
        shows = config["enable_progress_bar"] is not False and not config.get("barebones")
        checkpoints = config["enable_checkpointing"] is not False and not config.get("fast_dev_run")
        if self.command == "fit" and checkpoints and not any(isinstance(c, ModelCheckpoint) for c in callbacks):
            config["callbacks"].append(RunCheckpoint())
        if self.command == "predict" and not any(isinstance(c, BasePredictionWriter) for c in config["callbacks"]):
            config["callbacks"].append(PredictionWriter())
        if shows and not any(isinstance(c, ProgressBar) for c in config["callbacks"]):
            config["callbacks"].append(RunProgressBar())
        try:
            return super().instantiate_trainer(**kwargs)
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"trainer: {error}") from error

    def save_config(self, parser: RunParser, config: Any) -> SaveRunConfig:
        """Return what writes the configuration: as it was said, and as it was resolved."""
        resolved = yaml.safe_load(parser.dump(config, skip_none=False))
        return SaveRunConfig(self.said | {"seed_everything": resolved["seed_everything"]}, resolved)

    def run_logger(self) -> RunLogger:
        """Return the run's folder: a new one, one in the run that is evaluated, or that of the run that goes on."""
        if self.resumed is not None:
            folder = self.resumed.folder
            return RunLogger(str(folder.parent), folder.name, resumed_steps=self.resumed.steps)
        if self.own_run is not None and given(self.words, "root", "name") is None:
            return RunLogger(str(self.own_run), self.command)
        name = self.config["name"]
        return RunLogger(self.config["root"], name if self.command == "fit" else f"{name}/{self.command}")

    def add_plugins(self, config: Any) -> None:
        """Whole checkpoint files; on SLURM no requeueing by Lightning, which would mix up the runs of a folder.

        Batch normalisation over processes is left out where there is none: torch has it for GPUs only.
        """
        given_plugins = config["plugins"] or []
        plugins = given_plugins if isinstance(given_plugins, list) else [given_plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins = [*plugins, WholeFileIO()]
        if SLURMEnvironment.detect() and not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
            plugins = [*plugins, SLURMEnvironment(auto_requeue=False)]
        config["plugins"] = plugins
        accelerator = config["accelerator"]
        if config["sync_batchnorm"] and (accelerator == "cpu" or (accelerator == "auto" and not on_gpu())):
            config["sync_batchnorm"] = False
            if any(isinstance(module, BatchNorm1d | BatchNorm2d | BatchNorm3d) for module in self.model.modules()):
                rank_zero_warn(
                    "trainer.sync_batchnorm is for GPUs: on the CPU every process normalises by its own batch"
                )

    def execute(self) -> None:
        """Run the command; a start that fails leaves no folder.

        Raises:
            InputError: an input is not usable.
            ProcessLost: another process of the run has ended.
            KeyboardInterrupt: Ctrl-C.
        """
        logger = next((one for one in self.trainer.loggers if isinstance(one, RunLogger)), None)
        options: dict[str, Any] = {"predict": {"return_predictions": False}, "fit": {}}.get(
            self.command, {"verbose": False}
        )
        options |= {"ckpt_path": None if self.checkpoint is None else str(self.checkpoint), "weights_only": True}
        try:
            if logger is not None:
                logger.claim()  # before any further process is started
            getattr(self.trainer, self.command)(self.model, datamodule=self.datamodule, **options)
        except BaseException as error:
            self.end_other_processes()
            if logger is not None:
                logger.release()
            if isinstance(error, SystemExit) and self.trainer.interrupted and error.code == 1:
                raise KeyboardInterrupt from error
            if isinstance(error, pickle.UnpicklingError):
                raise InputError(
                    f"ckpt_path {self.checkpoint} holds more than tensors and plain values, expected a checkpoint of "
                    "dkp; nothing of it was run"
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
        if launcher is not None:
            launcher.kill(signal.SIGTERM)


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
        raise InputError("dkp resume has no folder where RUN, the folder of a run, is expected")
    folder, options = Path(words[0]), with_underscores(words[1:])
    config = saved_config(folder)
    for name in ("name", "root"):
        if (value := given(options, name)) is not None:
            raise InputError(f"--{name} {value} would change nothing: dkp resume goes on in {folder}")
    if (folder / "metrics.json").is_file() and not options:
        print(f"dkp: {folder} is complete, there is nothing to resume")
        return
    found = newest_checkpoint(folder, given(options, "ckpt_path"))
    resumed = Resumed(folder, *(found or (None, 0)))
    place = f"step {resumed.steps}, {resumed.checkpoint}" if found else "the beginning: it has no checkpoint"
    rank_zero_info(f"dkp: {folder} goes on from {place}")
    checkpoint = ["--ckpt_path", str(resumed.checkpoint)] if found else []
    run("fit", ["--config", str(config), *options, *checkpoint], resumed=resumed)


def run(
    command: str, words: Sequence[str], callbacks: Sequence[Callback] = (), resumed: Resumed | None = None
) -> TrainingCLI:
    """Parse the options, run the command and say where the results are.

    Args:
        command: "fit", "validate", "test" or "predict".
        words: the options after the command; all but "fit" take the folder of a run first, in place of its
            configuration.
        callbacks: for the trainer, beside those of the configuration; one that writes predictions takes the place of
            `PredictionWriter`.
        resumed: the run that goes on in its folder; None = a new run.
    """
    words, named = with_saved(command, words)
    saved = resumed.folder if resumed else named
    for name in CHATTY:
        logging.getLogger(name).addFilter(useful)
    with warnings.catch_warnings():
        for message in NO_USE:
            warnings.filterwarnings("ignore", message=message)
        with saved_by_dkp(saved, words):
            cli = TrainingCLI(command, words, callbacks, resumed)
        cli.execute()
    folder = run_folder(cli.trainer)
    if cli.trainer.is_global_zero:
        if command != "predict":
            print(
                evaluation_text(
                    {k: float(v) for k, v in cli.trainer.callback_metrics.items()}, evaluated(command, cli.config)
                )
            )
        if folder is not None:
            print(f"dkp: results are in {folder}")
    return cli


def useful(record: logging.LogRecord) -> bool:
    """Whether a message of Lightning's is of any use to a user."""
    return not any(words in record.getMessage() for words in NO_USE_SAID)
