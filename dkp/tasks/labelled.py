"""Supervised training on labelled images: the teacher, the labelled-only baseline and the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dkp.fields import Field
from dkp.losses import LabelledLoss, LossTerm
from dkp.models import Detector
from dkp.models.weights import load_state, read_state
from dkp.surface import Surface
from dkp.tasks.base import DenseKeypointTask
from dkp.tasks.evaluation import EvaluationSettings
from dkp.tasks.schedules import LearningRateSchedule
from dkp.tasks.terms import WeightedTerm

LABELS = ("coordinate", "known", "part", "uv")
"""What a labelled batch may have beside the foreground."""


def label_term(loss: LabelledLoss, field: Field, batch: Mapping[str, Any]) -> LossTerm:
    """L_L with whatever labels a batch of views has; where "labelled" says which have some, the others do not count."""
    labels = {name: batch[name] for name in (*LABELS, "labelled") if name in batch}
    return loss(field, foreground=batch["foreground"], **labels)


class LabelledTask(DenseKeypointTask):
    """Train a detector on labelled batches.

    Args:
        detector: the network to be trained.
        surface: name or file of the canonical surface, or the surface itself.
        labelled_loss: the loss; None = its defaults.
        initial_weights: file to start from (.ckpt, .pt or .safetensors); None = the detector as it is.
        learning_rate: peak learning rate of AdamW.
        weight_decay: of AdamW, on weights with two or more axes.
        schedule: "constant", "cosine" or "onecycle", stepped per optimiser step.
        warmup_steps: linear warm-up of the learning rate [steps].
        metrics: what validation and testing compute; None = the defaults.
        gradient_norms_every: steps between two logs of the gradient norm; 0 = never.
    """

    def __init__(
        self,
        detector: Detector,
        surface: str | Surface = "human",
        labelled_loss: LabelledLoss | None = None,
        initial_weights: str | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        schedule: LearningRateSchedule = "cosine",
        warmup_steps: int = 0,
        metrics: EvaluationSettings | None = None,
        gradient_norms_every: int = 200,
    ) -> None:
        super().__init__(
            detector, surface, learning_rate, weight_decay, schedule, warmup_steps, metrics, gradient_norms_every
        )
        self.keep_hyperparameters(ignore=("labelled_loss",))
        self.labelled_loss = labelled_loss
        self.initial_weights = initial_weights

    def configure_models(self, stage: str) -> None:
        """Load the initial weights before training (a resumed checkpoint replaces them)."""
        super().configure_models(stage)
        if stage == "fit" and self.initial_weights is not None:
            load_state(self.detector, read_state(self.initial_weights), self.initial_weights)

    def configure_losses(self) -> None:
        """The labelled loss."""
        self.labelled_loss = self.labelled_loss or LabelledLoss()

    def training_terms(self, batch: Mapping[str, Any]) -> dict[str, WeightedTerm]:
        """L_L on a labelled batch, or on the "labelled" part of a combined one."""
        labelled = batch.get("labelled", batch)
        terms: dict[str, WeightedTerm] = {}
        assert self.labelled_loss is not None
        self.weigh("labelled", label_term(self.labelled_loss, self(labelled["image"]), labelled), 1.0, terms)
        return terms

    def silent_hint(self, name: str) -> str:
        return "check that the capture has labels in this split (dkp check)"
