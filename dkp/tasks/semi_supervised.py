"""The semi-supervised twin network: multiview consistency on unlabelled pairs, kept in place by a frozen teacher."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dkp.errors import InputError
from dkp.fields import Field
from dkp.losses import (
    ConsensusLoss,
    DistillationLoss,
    LabelledLoss,
    LossTerm,
    MultiviewLoss,
    SilhouetteLoss,
    WarpLoss,
    warp_from_affine,
    warp_from_flow,
)
from dkp.models import Detector
from dkp.models.weights import load_state, read_state
from dkp.surface import Surface
from dkp.tasks.base import DenseKeypointTask
from dkp.tasks.evaluation import EvaluationSettings
from dkp.tasks.labelled import LABELS, label_term
from dkp.tasks.masks import mask_term, without_background
from dkp.tasks.pairs import ViewPairs, flatten_views, present_views, view_pairs
from dkp.tasks.schedules import LearningRateSchedule, anneal, ramp
from dkp.tasks.terms import WeightedTerm
from dkp.tasks.warps import random_affine, warp_images

BatchNormMode = Literal["train", "frozen", "unlabelled"]

HINTS = {
    "labelled": "check that the labelled loader gives labelled views",
    "multiview": "check that the unlabelled frames have views whose angle lies within the bounds for pairs, "
    "and that the teacher finds any foreground in them",
    "distillation": "check that the teacher finds any foreground in the unlabelled images",
    "temporal": "check that the unlabelled data gives optical flow",
    "equivariance": "check that there are unlabelled images with foreground",
    "consensus": "check that the unlabelled frames have pairs of views whose fields match near epipolar lines; "
    "a larger sigma finds more",
    "silhouette": "check that the unlabelled frames have pairs of views and the detector finds foreground in them",
    "mask": "check that the unlabelled frames have masks and the data gives them",
    "pseudo": "check that the unlabelled views are pseudo-labelled and that data.pseudo_labels is true",
}


class SemiSupervisedTask(DenseKeypointTask):
    """L = λ_L L_L + λ_M L_M + λ_R L_R + λ_T L_T (+ silhouette terms), on {"labelled": ..., "unlabelled": ...} batches.

    The student starts from the teacher's weights. The teacher is frozen (or a moving average of the student), always in
    eval mode, part of the checkpoint (so a run can be tested without the teacher's file) and absent outside training.

    Args:
        detector: the student.
        teacher: file with the teacher's weights (.ckpt, .pt, .safetensors) for a detector like the student, or a
            detector; None = the student's weights at the start.
        surface: name or file of the canonical surface, or the surface itself.
        lambda_labelled: λ_L.
        lambda_multiview: λ_M.
        lambda_distillation: λ_R.
        lambda_temporal: λ_T for optical flow to the next frame.
        lambda_equivariance: λ_T for known transformations of the same image.
        lambda_consensus: weight of the agreement with what other views say along the epipolar line.
        lambda_silhouette: weight of the foreground's consistency between views.
        lambda_mask: weight of the captured masks.
        lambda_pseudo: weight of L_L on the pseudo-labels of the unlabelled views (``data.pseudo_labels``).
        labelled_loss: None = its defaults; so for the following.
        multiview_loss: L_M.
        distillation_loss: L_R.
        warp_loss: L_T.
        consensus_loss: agreement with what other views say; its σ is that of L_M.
        silhouette_loss: the foreground's consistency between views.
        trust_radius: distance from the epipolar line [px] at which a teacher's cell counts half in L_R, judged in the
            other view that agrees best; None = every cell counts fully.
        ramp_steps: λ_M and λ_T grow linearly to their values over these steps.
        sigma_final: σ of L_M at the end of its schedule; None = it stays at the loss's own value.
        sigma_steps: steps of the geometric σ schedule.
        batch_norm: running statistics of the student: "train" = all its batches, "frozen" = the teacher's,
            "unlabelled" = unlabelled batches only.
        start_from_teacher: copy the teacher's weights into the student.
        hide_from_teacher: paint what the captured masks leave out black in the images that the teacher sees, and only
            there: the student learns to see through clutter that its teacher was spared. Views without a mask stay.
        teacher_momentum: the teacher follows the student as a moving average, of which this share is kept in a step
            ("mean teacher"); None = it is frozen.
        equivariance_views: images of a batch that are transformed for λ_equivariance, chosen at random.
        equivariance_degrees: largest rotation.
        equivariance_scale: largest magnification minus one.
        equivariance_shift: largest shift, share of the image.
        learning_rate: peak learning rate of AdamW.
        weight_decay: of AdamW, on weights with two or more axes.
        schedule: "constant", "cosine" or "onecycle", stepped per optimiser step.
        warmup_steps: linear warm-up of the learning rate [steps].
        metrics: what validation and testing compute; None = the defaults.
        gradient_norms_every: steps between two logs of each term's gradient norm; 0 = never.
    """

    def __init__(
        self,
        detector: Detector,
        teacher: str | Detector | None = None,
        surface: str | Surface = "human",
        lambda_labelled: float = 1.0,
        lambda_multiview: float = 1.0,
        lambda_distillation: float = 1.0,
        lambda_temporal: float = 0.0,
        lambda_equivariance: float = 0.0,
        lambda_consensus: float = 0.0,
        lambda_silhouette: float = 0.0,
        lambda_mask: float = 0.0,
        lambda_pseudo: float = 0.0,
        labelled_loss: LabelledLoss | None = None,
        multiview_loss: MultiviewLoss | None = None,
        distillation_loss: DistillationLoss | None = None,
        warp_loss: WarpLoss | None = None,
        consensus_loss: ConsensusLoss | None = None,
        silhouette_loss: SilhouetteLoss | None = None,
        trust_radius: float | None = None,
        ramp_steps: int = 0,
        sigma_final: float | None = None,
        sigma_steps: int = 1000,
        batch_norm: BatchNormMode = "train",
        start_from_teacher: bool = True,
        hide_from_teacher: bool = False,
        teacher_momentum: float | None = None,
        equivariance_views: int = 4,
        equivariance_degrees: float = 30.0,
        equivariance_scale: float = 0.25,
        equivariance_shift: float = 0.1,
        learning_rate: float = 3e-4,
        weight_decay: float = 1e-4,
        schedule: LearningRateSchedule = "cosine",
        warmup_steps: int = 0,
        metrics: EvaluationSettings | None = None,
        gradient_norms_every: int = 200,
    ) -> None:
        super().__init__(
            detector, surface, learning_rate, weight_decay, schedule, warmup_steps, metrics, gradient_norms_every
        )
        self.keep_hyperparameters(
            ignore=(
                "teacher",
                "labelled_loss",
                "multiview_loss",
                "distillation_loss",
                "warp_loss",
                "consensus_loss",
                "silhouette_loss",
            )
        )
        self.weights = {
            "labelled": lambda_labelled,
            "multiview": lambda_multiview,
            "distillation": lambda_distillation,
            "temporal": lambda_temporal,
            "equivariance": lambda_equivariance,
            "consensus": lambda_consensus,
            "silhouette": lambda_silhouette,
            "mask": lambda_mask,
            "pseudo": lambda_pseudo,
        }
        negative = [f"model.lambda_{name} is {weight}" for name, weight in self.weights.items() if weight < 0]
        if negative:
            raise InputError(f"{negative[0]} where 0 or more is expected")
        if not any(self.weights.values()):
            raise InputError("every weight model.lambda_* is 0 where at least one loss term is expected")
        if isinstance(teacher, nn.Module) and teacher is detector:
            teacher = copy.deepcopy(teacher)
        self.teacher: Detector | None = None
        self._teacher_source = teacher
        self.labelled_loss = labelled_loss
        self.multiview_loss = multiview_loss
        self.distillation_loss = distillation_loss
        self.warp_loss = warp_loss
        self.consensus_loss = consensus_loss
        self.silhouette_loss = silhouette_loss
        self.trust_radius = trust_radius
        self.ramp_steps = ramp_steps
        self.sigma_final = sigma_final
        self.sigma_steps = sigma_steps
        self.batch_norm = batch_norm
        self.start_from_teacher = start_from_teacher
        self.hide_from_teacher = hide_from_teacher
        if teacher_momentum is not None and not (0 <= teacher_momentum < 1 and start_from_teacher):
            raise InputError(
                f"model.teacher_momentum is {teacher_momentum} with model.start_from_teacher {start_from_teacher} where"
                " a share from 0 to below 1 and a student that starts from the teacher are expected"
            )
        self.teacher_momentum = teacher_momentum
        self.equivariance_views = equivariance_views
        self.equivariance = {
            "degrees": equivariance_degrees,
            "scale": equivariance_scale,
            "shift": equivariance_shift,
        }

    # Models and losses

    def configure_models(self, stage: str) -> None:
        """Make the frozen teacher before training and start the student from it."""
        super().configure_models(stage)
        if stage != "fit" or self.teacher is not None:
            return
        source = self._teacher_source
        if isinstance(source, nn.Module):
            self.teacher = source
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

    def configure_losses(self) -> None:
        """Make the losses with their defaults where none were given."""
        self.labelled_loss = self.labelled_loss or LabelledLoss()
        self.multiview_loss = self.multiview_loss or MultiviewLoss()
        self.distillation_loss = self.distillation_loss or DistillationLoss()
        self.warp_loss = self.warp_loss or WarpLoss()
        self.consensus_loss = self.consensus_loss or ConsensusLoss()
        self.silhouette_loss = self.silhouette_loss or SilhouetteLoss()
        if self.detector.representation == "charts":
            for loss in (self.multiview_loss, self.warp_loss, self.consensus_loss):
                loss.atlas = loss.atlas or self.chart_atlas()
        self._sigma = self.multiview_loss.sigma

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

    def training_terms(self, batch: Mapping[str, Any]) -> dict[str, WeightedTerm]:
        """The configured terms. A batch may hold both parts, or be a labelled or an unlabelled one itself."""
        labelled, unlabelled = split_batch(batch)
        self.set_sigma()
        terms: dict[str, WeightedTerm] = {}
        if self.weights["labelled"] > 0:
            term = None if labelled is None else self.labelled_term(labelled)
            self.weigh("labelled", term, self.weights["labelled"], terms)
        for name, term in self.unlabelled_terms(unlabelled).items():
            ramped = name in ("multiview", "consensus", "temporal", "equivariance")
            factor = ramp(self.global_step, self.ramp_steps) if ramped else 1.0
            self.weigh(name, term, self.weights[name] * factor, terms)
        return terms

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move a teacher that is a moving average towards the student."""
        if self.teacher_momentum is not None:
            assert self.teacher is not None
            move_towards(self.teacher, self.detector, 1 - self.teacher_momentum)

    def set_sigma(self) -> None:
        """σ of this step."""
        assert self.multiview_loss is not None
        sigma = anneal(self._sigma, self.sigma_final, self.global_step, self.sigma_steps)
        self.multiview_loss.sigma = sigma
        if self.consensus_loss is not None:
            self.consensus_loss.sigma = sigma

    def labelled_term(self, batch: Mapping[str, Any]) -> LossTerm:
        """L_L."""
        assert self.labelled_loss is not None
        with still_statistics(self.detector, self.batch_norm == "unlabelled"):
            field = self(batch["image"])
        return label_term(self.labelled_loss, field, batch)

    def unlabelled_terms(self, batch: Mapping[str, Any] | None) -> dict[str, LossTerm | None]:
        """L_M, L_R, L_T and the silhouettes, those configured; None where the batch has nothing for one."""
        wanted = [name for name, weight in self.weights.items() if weight > 0 and name != "labelled"]
        if batch is None or not wanted:
            return dict.fromkeys(wanted)
        images = flatten_views(batch)
        present = present_views(batch)
        field = self(images)
        pairs = view_pairs(batch)
        target = None
        if {"distillation", "silhouette"} & set(wanted):
            target = self.teacher_field(without_background(images, batch) if self.hide_from_teacher else images)
        terms: dict[str, LossTerm | None] = {}
        for name in wanted:
            if name == "multiview":
                terms[name] = self.multiview_term(field, pairs)
            elif name == "distillation":
                terms[name] = self.distillation_term(field, target, present, pairs)
            elif name == "temporal":
                terms[name] = self.temporal_term(field, batch) if "flow" in batch else None
            elif name == "equivariance":
                terms[name] = self.equivariance_term(field, images, present)
            elif name == "consensus":
                terms[name] = self.consensus_term(field, pairs)
            elif name == "silhouette":
                terms[name] = self.silhouette_term(field, target, pairs)
            elif name == "mask":
                terms[name] = mask_term(field, batch) if batch.get("mask") is not None else None
            elif name == "pseudo":
                terms[name] = self.pseudo_term(field, batch) if "labelled" in batch else None
        return terms

    def pseudo_term(self, field: Field, batch: Mapping[str, Any]) -> LossTerm:
        """L_L on the labels that unlabelled views were given."""
        assert self.labelled_loss is not None
        labels = {name: flatten_views(batch, name) for name in (*LABELS, "foreground", "labelled") if name in batch}
        return label_term(self.labelled_loss, field, labels)

    def multiview_term(self, field: Field, pairs: ViewPairs) -> LossTerm:
        """L_M over all valid pairs of the batch at once."""
        assert self.multiview_loss is not None
        return self.multiview_loss(field[pairs.first], field[pairs.second], pairs.fundamental)

    def consensus_term(self, field: Field, pairs: ViewPairs) -> LossTerm:
        """Agreement with what the other views say along epipolar lines, over all valid pairs of the batch at once."""
        assert self.consensus_loss is not None
        return self.consensus_loss(field[pairs.first], field[pairs.second], pairs.fundamental)

    def teacher_field(self, images: Tensor) -> Field:
        """The frozen teacher's field of images."""
        assert self.teacher is not None
        with torch.no_grad():
            field: Field = self.teacher(images)
        return field

    def silhouette_term(self, field: Field, target: Field | None, pairs: ViewPairs) -> LossTerm:
        """The foreground's consistency between the views of all valid pairs, as the teacher sees the other view."""
        assert self.silhouette_loss is not None
        assert target is not None
        return self.silhouette_loss(
            field[pairs.first],
            field[pairs.second],
            pairs.fundamental,
            evidence=target[pairs.first],
            other_evidence=target[pairs.second],
        )

    def distillation_term(self, field: Field, target: Field | None, present: Tensor, pairs: ViewPairs) -> LossTerm:
        """L_R against the teacher's field of the same images."""
        assert self.distillation_loss is not None
        assert target is not None
        confidence = self.teacher_confidence(target, pairs)
        if not bool(present.all()):
            field, target = field[present], target[present]
            confidence = None if confidence is None else confidence[present]
        return self.distillation_loss(field, target, confidence=confidence)

    def teacher_confidence(self, target: Field, pairs: ViewPairs) -> Tensor | None:
        """(B, H, W) in (0, 1]: 1 / (1 + (d / trust_radius)²), d the least epipolar distance over the pairs of a view.

        A cell that no other view can judge keeps full confidence.
        """
        if self.trust_radius is None or not len(pairs):
            return None
        assert self.multiview_loss is not None
        forth, back = self.multiview_loss.residuals(target[pairs.first], target[pairs.second], pairs.fundamental)
        distance = torch.full_like(target.foreground, torch.inf, dtype=forth.dtype)
        found, view = torch.cat([forth, back]), torch.cat([pairs.first, pairs.second])
        distance.scatter_reduce_(0, view[:, None, None].expand_as(found), found, "amin")
        confidence = 1 / (1 + (distance / self.trust_radius).square())
        return confidence.masked_fill(distance.isinf(), 1.0)

    def temporal_term(self, field: Field, batch: Mapping[str, Any]) -> LossTerm:
        """L_T with the optical flow to the next frame of the same camera."""
        assert self.warp_loss is not None
        after = self(flatten_views(batch, "next_image"))
        warped = warp_from_flow(flatten_views(batch, "flow"), field.stride)
        valid = flatten_views(batch, "flow_valid") & present_views(batch)[:, None, None]
        return self.warp_loss(field, after, warped, valid)

    def equivariance_term(self, field: Field, images: Tensor, present: Tensor) -> LossTerm:
        """L_T with a random similarity of some of the images."""
        assert self.warp_loss is not None
        candidates = present.nonzero()[:, 0]
        order = torch.randperm(len(candidates), device=images.device)[: self.equivariance_views]
        chosen = candidates[order]
        size = (int(images.shape[-2]), int(images.shape[-1]))
        matrix = random_affine(len(chosen), size, device=images.device, **self.equivariance)
        after = self(warp_images(images[chosen], matrix))
        return self.warp_loss(field[chosen], after, warp_from_affine(matrix, *field.size, field.stride))

    def silent_hint(self, name: str) -> str:
        return HINTS[name]

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


def split_batch(batch: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """The labelled and the unlabelled part of a training batch."""
    if "labelled" in batch and not isinstance(batch["labelled"], Tensor):
        return batch["labelled"], batch.get("unlabelled")
    if "unlabelled" in batch:
        return None, batch["unlabelled"]
    return (None, batch) if batch["image"].ndim == 5 else (batch, None)


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
