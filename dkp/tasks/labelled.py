"""Supervised training on labelled images: the teacher, the labelled-only baseline and the oracle."""

from __future__ import annotations

from dkp.losses import LabelledTerm, LossTerm
from dkp.models import Detector
from dkp.models.weights import load_state, read_state
from dkp.surface import Surface
from dkp.tasks.base import DenseKeypointTask, OnSilent
from dkp.tasks.evaluation import EvaluationSettings
from dkp.tasks.schedules import LearningRateSchedule
from dkp.weights import weights_file


class LabelledTask(DenseKeypointTask):
    """Train a detector without a teacher.

    Args:
        detector: the network to be trained.
        surface: name or file of the canonical surface, or the surface itself.
        terms: the loss terms by name; None = "labelled" with its defaults.
        initial_weights: file to start from (.ckpt, .pt or .safetensors), or the name of shipped ones (`dkp weights`);
            None = the detector as it is.
        learning_rate: peak learning rate of AdamW.
        weight_decay: of AdamW, on weights with two or more axes.
        schedule: "constant", "cosine" or "onecycle", stepped per optimiser step.
        warmup_steps: linear warm-up of the learning rate [steps].
        metrics: what validation and testing compute; None = the defaults.
        gradient_norms_every: steps between two logs of the gradient norm; 0 = never.
        on_silent: "raise" ends the training where a term has no valid pixel in a whole epoch, "warn" goes on.
    """

    def __init__(
        self,
        detector: Detector,
        surface: str | Surface = "human",
        terms: dict[str, LossTerm] | None = None,
        initial_weights: str | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        schedule: LearningRateSchedule = "cosine",
        warmup_steps: int = 0,
        metrics: EvaluationSettings | None = None,
        gradient_norms_every: int = 200,
        on_silent: OnSilent = "raise",
    ) -> None:
        terms = {"labelled": LabelledTerm()} if terms is None else terms
        super().__init__(
            detector, surface, terms, learning_rate, weight_decay, schedule, warmup_steps, metrics,
            gradient_norms_every, on_silent,
        )  # fmt: skip
        self.keep_hyperparameters()
        self.initial_weights = initial_weights

    def configure_models(self, stage: str) -> None:
        """Load the initial weights before training (a resumed checkpoint replaces them)."""
        super().configure_models(stage)
        if stage == "fit" and self.initial_weights is not None:
            load_state(self.detector, read_state(weights_file(self.initial_weights)), self.initial_weights)
