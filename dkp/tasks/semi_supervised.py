"""The semi-supervised twin network: terms on unlabelled views, kept in place by a frozen teacher."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dkp.batches import MultiviewBatch, flatten_views
from dkp.errors import InputError
from dkp.fields import Field
from dkp.losses import DistillationTerm, LabelledTerm, LossTerm, MultiviewTerm
from dkp.models import Detector
from dkp.models.weights import load_state, read_state
from dkp.surface import Surface
from dkp.tasks.base import DenseKeypointTask
from dkp.weights import load, names

BatchNormMode = Literal["train", "frozen", "unlabelled"]


class SemiSupervisedTask(DenseKeypointTask):
    """Train a student on labelled and unlabelled views, held by a teacher.

    The student starts from the teacher's weights. The teacher is frozen (or a moving average of the student), always in
    eval mode, part of the checkpoint (so a run can be tested without the teacher's file) and absent outside training.

    Args:
        detector: the student.
        teacher: file with the teacher's weights (.ckpt, .pt, .safetensors) for a detector like the student, the name of
            a shipped detector (`dkp weights`), or a detector; None = the student's weights at the start.
        surface: name or file of the canonical surface, or the surface itself.
        terms: the loss terms by name, in the order in which they are computed; None = "labelled" (L_L), "multiview"
            (L_M) and "distillation" (L_R) with their defaults.
        batch_norm: running statistics of the student: "train" = all its batches, "frozen" = the teacher's,
            "unlabelled" = unlabelled batches only.
        start_from_teacher: copy the teacher's weights into the student.
        hide_from_teacher: paint what the captured masks leave out black in the images that the teacher sees, and only
            there: the student learns to see through clutter that its teacher was spared. Views without a mask stay.
        teacher_momentum: the teacher follows the student as a moving average, of which this share is kept in an
            optimiser step ("mean teacher"); None = it is frozen.
        learning_rate: peak learning rate of AdamW.
        **shared: what the tasks share, see `DenseKeypointTask`.
    """

    def __init__(
        self,
        detector: Detector,
        teacher: str | Detector | None = None,
        surface: str | Surface = "human",
        terms: dict[str, LossTerm] | None = None,
        batch_norm: BatchNormMode = "train",
        start_from_teacher: bool = True,
        hide_from_teacher: bool = False,
        teacher_momentum: float | None = None,
        learning_rate: float = 3e-4,
        **shared: Any,
    ) -> None:
        if terms is None:
            terms = {"labelled": LabelledTerm(), "multiview": MultiviewTerm(), "distillation": DistillationTerm()}
        super().__init__(detector, surface, terms, learning_rate, **shared)
        self.keep_hyperparameters()
        if teacher_momentum is not None and not (0 <= teacher_momentum < 1 and start_from_teacher):
            raise InputError(
                f"model.teacher_momentum is {teacher_momentum} with model.start_from_teacher {start_from_teacher} where"
                " a share from 0 to below 1 and a student that starts from the teacher are expected"
            )
        self.teacher: Detector | None = None
        self._teacher_source = copy.deepcopy(teacher) if teacher is detector else teacher
        self.batch_norm = batch_norm
        self.start_from_teacher = start_from_teacher
        self.hide_from_teacher = hide_from_teacher
        self.teacher_momentum = teacher_momentum

    # Models

    def configure_models(self, stage: str) -> None:
        """Make the frozen teacher before training and start the student from it."""
        super().configure_models(stage)
        if stage != "fit" or self.teacher is not None:
            return
        source = self._teacher_source
        if isinstance(source, nn.Module):
            self.teacher = source
        elif source in names():
            self.teacher = load(source)
        else:
            self.teacher = copy.deepcopy(self.detector)
            if source is not None:
                load_state(self.teacher, read_state(source), source)
        if self.start_from_teacher and source is not None:
            try:
                self.detector.load_state_dict(self.teacher.state_dict())
            except RuntimeError as error:
                raise InputError(
                    "model.start_from_teacher needs a student with the teacher's architecture, but their tensors differ"
                ) from error
        self.teacher.requires_grad_(False).eval()
        self.train(self.training)

    def train(self, mode: bool = True) -> SemiSupervisedTask:
        """Training mode for the student; the teacher and frozen statistics stay in eval mode."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        if self.batch_norm == "frozen":
            for module in batch_norms(self.detector):
                module.eval()
        return self

    # Training

    def training_teacher(self) -> Detector:
        """Return the teacher, which is there from the set-up of training on."""
        if self.teacher is None:
            raise RuntimeError("there is no teacher before configure_models('fit')")
        return self.teacher

    def labelled_field(self, images: Tensor) -> Field:
        """Return the student's field of labelled images."""
        with still_statistics(self.detector, self.batch_norm == "unlabelled"):
            return self(images)

    @torch.no_grad()
    def teacher_field(self, views: MultiviewBatch) -> Field:
        """Return the teacher's field of unlabelled views, without their background if that is hidden from it."""
        images = flatten_views(views)
        field: Field = self.training_teacher()(without_background(images, views) if self.hide_from_teacher else images)
        return field

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Move a teacher that is a moving average towards the student, after a step of the optimiser."""
        super().optimizer_step(*args, **kwargs)
        if self.teacher_momentum is not None:
            move_towards(self.training_teacher(), self.detector, 1 - self.teacher_momentum)

    # Checkpoints

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Match the checkpoint's teacher to this stage: outside training there is none."""
        super().on_load_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        own = {} if self.teacher is None else self.teacher.state_dict(prefix="teacher.")
        for name in [n for n in state if n.startswith("teacher.") and n not in own]:
            del state[name]
        for name, value in own.items():
            state.setdefault(name, value)


def without_background(images: Tensor, views: MultiviewBatch) -> Tensor:
    """Images (B V, 3, N, N) of views, black where their captured masks are off; those without a mask as they are."""
    if "mask" not in views:
        return images
    mask = flatten_views(views, "mask").bool()
    shown = mask | ~mask.flatten(1).any(1)[:, None, None]
    return torch.where(shown.unsqueeze(1), images, images.new_zeros(()))


@torch.no_grad()
def move_towards(module: nn.Module, other: nn.Module, share: float) -> None:
    """Move a module's parameters and running statistics a share of the way to another's."""
    goal = other.state_dict()
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.lerp_(goal[name], share)


def batch_norms(module: nn.Module) -> Iterator[nn.modules.batchnorm._BatchNorm]:
    """Batch normalisations inside a module."""
    return (m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))


@contextmanager
def still_statistics(module: nn.Module, still: bool) -> Iterator[None]:
    """Inside, batch normalisation uses the batch's statistics as usual but leaves its running statistics alone."""
    layers = [layer for layer in batch_norms(module) if layer.track_running_stats] if still else []
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
