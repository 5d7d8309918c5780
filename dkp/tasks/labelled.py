"""Supervised training on labelled images: the teacher, the labelled-only baseline and the oracle."""

from typing import Any

from dkp.losses import LabelledTerm, LossTerm
from dkp.models import Detector
from dkp.models.weights import load_state, read_state
from dkp.surface import Surface
from dkp.tasks.base import DenseKeypointTask
from dkp.weights import weights_file


class LabelledTask(DenseKeypointTask):
    """Train a detector without a teacher.

    Args:
        detector: the network to be trained.
        surface: name or file of the canonical surface, or the surface itself.
        terms: the loss terms by name; None = "labelled" with its defaults.
        initial_weights: file to start from (.ckpt, .pt or .safetensors), or the name of shipped ones (`dkp weights`);
            None = the detector as it is. They may be of another surface: coordinates are on this one from the start.
        **shared: what the tasks share, see `DenseKeypointTask`.
    """

    def __init__(
        self,
        detector: Detector,
        surface: str | Surface = "human",
        terms: dict[str, LossTerm] | None = None,
        initial_weights: str | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(detector, surface, {"labelled": LabelledTerm()} if terms is None else terms, **shared)
        self.keep_hyperparameters()
        self.initial_weights = initial_weights

    def configure_models(self, stage: str) -> None:
        """Load the initial weights before training (a resumed checkpoint replaces them)."""
        super().configure_models(stage)
        if stage == "fit" and self.initial_weights is not None:
            load_state(self.detector, read_state(weights_file(self.initial_weights)), self.initial_weights)
            centre, half_extent = self.surface.bounds  # the weights may be those of another surface
            self.detector.set_surface_bounds(centre.tolist(), half_extent.tolist())
