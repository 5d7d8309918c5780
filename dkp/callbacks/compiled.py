"""Prediction with a compiled detector."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from dkp.errors import InputError
from dkp.models import Detector


class CompiledPrediction(Callback):
    """Compile the detector before `dkp predict`: more images a second, after a wait of up to a minute.

    So it pays for large captures: `--trainer.callbacks+=dkp.callbacks.CompiledPrediction`. Fields are the same up to
    rounding. Needs what torch.compile needs: a C++ compiler on a CPU, Triton on a GPU.

    Raises:
        InputError: the model has no detector of dkp.
    """

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the compiled network in the place of the detector's own."""
        detector = getattr(pl_module, "detector", None)
        if not isinstance(detector, Detector):
            raise InputError(
                f"trainer.callbacks: CompiledPrediction found {type(detector).__name__}, expected a Detector"
            )
        vars(detector)["forward_tensors"] = torch.compile(detector.forward_tensors)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the detector its own network back."""
        vars(pl_module.detector).pop("forward_tensors", None)
