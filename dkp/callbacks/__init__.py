"""Lightning callbacks: the run's folder, its checkpoints and metrics, averaged weights, predictions as files."""

from dkp.callbacks.average import AverageWithStart as AverageWithStart, DetectorAverage as DetectorAverage
from dkp.callbacks.checkpoints import (
    RunCheckpoint as RunCheckpoint,
    WholeFileIO as WholeFileIO,
    newest_checkpoint as newest_checkpoint,
    require_fitting_checkpoint as require_fitting_checkpoint,
)
from dkp.callbacks.compiled import CompiledPrediction as CompiledPrediction
from dkp.callbacks.predictions import PredictionWriter as PredictionWriter
from dkp.callbacks.pseudo_labels import PseudoLabelWriter as PseudoLabelWriter
from dkp.callbacks.run_folder import (
    MetricsFile as MetricsFile,
    RunLogger as RunLogger,
    SaveRunConfig as SaveRunConfig,
    run_folder as run_folder,
)
from dkp.callbacks.snapshots import DetectorSnapshots as DetectorSnapshots
