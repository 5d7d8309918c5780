"""Lightning callbacks: the run's folder, its checkpoints and metrics, averaged weights, predictions as files."""

from dkp.callbacks.average import DetectorAverage
from dkp.callbacks.checkpoints import RunCheckpoint, WholeFileIO, newest_checkpoint, require_fitting_checkpoint
from dkp.callbacks.compiled import CompiledPrediction
from dkp.callbacks.predictions import PredictionWriter
from dkp.callbacks.pseudo_labels import PseudoLabelWriter
from dkp.callbacks.run_folder import MetricsFile, RunLogger, SaveRunConfig, run_folder
from dkp.callbacks.snapshots import DetectorSnapshots

__all__ = [
    "CompiledPrediction",
    "DetectorAverage",
    "DetectorSnapshots",
    "MetricsFile",
    "PredictionWriter",
    "PseudoLabelWriter",
    "RunCheckpoint",
    "RunLogger",
    "SaveRunConfig",
    "WholeFileIO",
    "newest_checkpoint",
    "require_fitting_checkpoint",
    "run_folder",
]
