"""``dkp fit``, ``validate``, ``test`` and ``predict``: the Lightning command line with dkp's run folders."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import jsonargparse
import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

import dkp.data
import dkp.models
import dkp.tasks
from dkp.callbacks import MetricsFile, PredictionWriter, RunCheckpoint, RunLogger, SaveRunConfig

# "omegaconf+" resolves ${...} once, after all files and overrides; with absolute paths made relative, a configuration
# works at the top level and below a subcommand alike.
PARSER_MODE = "omegaconf+"


class TrainingCLI(LightningCLI):
    """One subcommand of the Lightning command line.

    Beside Lightning's own options there are values that configurations share by interpolation (`${size}`): `name` and
    `root` of the run, `surface`, `size` and `stride`.

    Args:
        subcommand: "fit", "validate", "test" or "predict".
        args: the options after the subcommand.
    """

    def __init__(self, subcommand: str, args: Sequence[str]) -> None:
        self.only = subcommand
        jsonargparse.set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
        super().__init__(
            model_class=dkp.tasks.DenseKeypointTask,
            datamodule_class=pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveRunConfig,
            trainer_defaults={"default_root_dir": "runs"},
            seed_everything_default=0,
            parser_kwargs={
                "parser_mode": PARSER_MODE,
                "exit_on_error": False,
                subcommand: {"parser_mode": PARSER_MODE, "exit_on_error": False},
            },
            args=[subcommand, *args],
            auto_configure_optimizers=False,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one subcommand asked for: building the parsers of all four takes seconds."""
        return {self.only: LightningCLI.subcommands()[self.only]}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, whatever `sys.argv` is."""
        self.config = parser.parse_args(list(args))

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the shared values."""
        parser.add_argument("--name", type=str, default="run", help="Name of the run's folder below root.")
        parser.add_argument("--root", type=str, default="runs", help="Folder of all runs.")
        parser.add_argument("--surface", type=str, default="human", help="Name or file of the canonical surface.")
        parser.add_argument("--size", type=int, default=128, help="Side of the network's input images [px].")
        parser.add_argument("--stride", type=int, default=2, help="Input pixels per cell of the field.")

    def _parse_ckpt_path(self) -> None:
        """Nothing: the configuration at hand is used, and a checkpoint gives weights and states only."""

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """The trainer with the run's folder, checkpoints and metrics file."""
        config = self._get(self.config_init, "trainer")
        name = self._get(self.config, "name")
        loggers = config["logger"]
        if not config.get("fast_dev_run") and loggers is not False:
            folder = name if self.subcommand == "fit" else f"{name}/{self.subcommand}"
            others = [] if loggers in (None, True) else loggers if isinstance(loggers, list) else [loggers]
            kwargs["logger"] = [RunLogger(self._get(self.config, "root"), folder), *others]
        callbacks = config["callbacks"] or []
        config["callbacks"] = callbacks if isinstance(callbacks, list) else [callbacks]
        config["callbacks"].append(MetricsFile())
        checkpoints = config["enable_checkpointing"] is not False and not config.get("fast_dev_run")
        if self.subcommand == "fit" and checkpoints and not any(isinstance(c, ModelCheckpoint) for c in callbacks):
            config["callbacks"].append(RunCheckpoint())
        if self.subcommand == "predict" and not any(isinstance(c, PredictionWriter) for c in callbacks):
            config["callbacks"].append(PredictionWriter())
        return super().instantiate_trainer(**kwargs)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        if subcommand == "predict":
            kwargs["return_predictions"] = False
        return kwargs


def run(subcommand: str, args: Sequence[str]) -> TrainingCLI:
    """Parse the options, run the subcommand and say where the results are."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*log directory.*exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        cli = TrainingCLI(subcommand, args)
    if cli.trainer.is_global_zero and cli.trainer.loggers:
        print(f"dkp: results are in {cli.trainer.log_dir}")
    return cli
