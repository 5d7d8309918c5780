"""Averages of the detector's weights, used for evaluation and in checkpoints."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from dkp.errors import InputError

TRAINED = "trained_detector"
"""Key of the weights that are being trained, in checkpoints whose detector is the average."""


class DetectorAverage(Callback):
    """Keep a moving average of the weights in `task.detector`; teacher and metrics are left alone.

    Validation sees the average, checkpoints hold it as the detector (with the trained weights beside it, for resuming),
    and after training the detector is the average. In the first steps the decay is lower: (1 + n) / (10 + n).

    Lightning's `WeightAveraging` (2.6) was tried and does not do: it copies the module before the teacher is made and
    pairs tensors by their order, so that a frozen teacher comes out changed and a run cannot be resumed.

    Args:
        decay: share of the average that is kept in a step.
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = decay
        self.average: dict[str, Tensor] = {}
        self.steps = 0
        self._trained: dict[str, Tensor] | None = None
        self._shown = False

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps averaged."""
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""
        self.steps = int(state_dict["steps"])

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember the weights that were being trained."""
        self._trained = checkpoint.get(TRAINED)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with the detector's weights, or with what a checkpoint held."""
        detector = weights_of(pl_module)
        self.average = {name: value.detach().clone() for name, value in detector.items()}
        if self._trained is not None:
            copy_into(detector, self._trained)
            self._trained = None

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Move the average towards the weights, after every step of the optimiser."""
        if trainer.global_step <= self.steps:
            return
        self.steps = trainer.global_step
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        values = weights_of(pl_module)
        torch._foreach_lerp_([self.average[name] for name in values], list(values.values()), 1 - decay)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the average."""
        if self.average and trainer.state.fn == "fit":
            self._swap(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the trained weights back."""
        if self._shown:
            self._swap(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average as the detector."""
        if not self.average:
            return
        current = {name: value.detach().clone() for name, value in weights_of(pl_module).items()}
        average, trained = (current, self.average) if self._shown else (self.average, current)
        checkpoint[TRAINED] = dict(trained)
        checkpoint["state_dict"] |= {f"detector.{name}": value.clone() for name, value in average.items()}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in the detector."""
        if self.average and not self._shown:
            copy_into(weights_of(pl_module), self.average)

    def _swap(self, pl_module: pl.LightningModule) -> None:
        current = weights_of(pl_module)
        kept = {name: value.detach().clone() for name, value in current.items()}
        copy_into(current, self.average)
        self.average = kept
        self._shown = not self._shown


class AverageWithStart(DetectorAverage):
    """Average the weights in `task.detector` with those that the training began with.

    w = start + share · (trained − start). A short training on a few images takes a good detector to what these show,
    and away from what it knew; between the two it keeps both. From M. Wortsman et al., "Robust fine-tuning of
    zero-shot models" (CVPR 2022). The average is seen and kept as that of `DetectorAverage`; running statistics are
    averaged, too.

    Args:
        share: of the trained weights, above 0 and below 1.

    Raises:
        InputError: the share is out of these bounds.
    """

    def __init__(self, share: float = 0.5) -> None:
        super().__init__()
        if not 0 < share < 1:
            raise InputError(f"trainer.callbacks.AverageWithStart.share is {share}, expected a number between 0 and 1")
        self.share = share
        self._start: dict[str, Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the start: the detector's weights, or what a checkpoint's average and trained weights say of it."""
        self._start = {name: value.detach().clone() for name, value in weights_of(pl_module).items()}
        for name, trained in (self._trained or {}).items():
            average = self._start[name].double()
            start = (average - self.share * trained.to(average)) / (1 - self.share)
            self._start[name].copy_(start)
        super().on_train_start(trainer, pl_module)

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Average the weights with the start, after every step of the optimiser."""
        if trainer.global_step <= self.steps:
            return
        self.steps = trainer.global_step
        values = weights_of(pl_module)
        start = [self._start[name] for name in values]
        self.average = dict(zip(values, torch._foreach_lerp(start, list(values.values()), self.share), strict=True))


def weights_of(task: nn.Module) -> dict[str, Tensor]:
    """Return the floating-point state of a task's detector, sharing memory with it."""
    detector = task.get_submodule("detector")
    return {name: value for name, value in detector.state_dict().items() if value.is_floating_point()}


@torch.no_grad()
def copy_into(target: dict[str, Tensor], source: dict[str, Tensor]) -> None:
    """Overwrite tensors in place."""
    for name, value in target.items():
        value.copy_(source[name])
