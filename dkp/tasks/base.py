"""What every training task shares: the detector, its loss terms and optimiser, evaluation and prediction."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from dkp.batches import MultiviewBatch, TrainingBatch, flatten_views
from dkp.errors import InputError
from dkp.fields import ChartAtlas, ChartField, EmbeddingField, Field, mirrored_average
from dkp.lightning_internals import from_command_line
from dkp.losses import LossContext, LossTerm
from dkp.models import Detector
from dkp.surface import Surface
from dkp.tasks.evaluation import Evaluation, EvaluationSettings, datasets_of, require_surface
from dkp.tasks.processes import over_processes, step_seed
from dkp.tasks.schedules import LearningRateSchedule, forget_length, learning_rate_schedule
from dkp.tasks.terms import (
    TermLedger,
    WeightedTerm,
    gradient_norms,
    require_finite,
    require_finite_weights,
    silence,
    total_loss,
)

if TYPE_CHECKING:
    from pytorch_lightning.utilities.types import OptimizerLRScheduler

OnSilent = Literal["raise", "warn"]

GRADIENT_NORM_PARAMETERS = 4
"""Trailing parameter tensors that gradient norms are taken of, where a detector has no heads by name."""


class DenseKeypointTask(pl.LightningModule):
    """Base of the tasks: L = Σ weight · value over the loss terms. Subclasses say which models there are.

    The hooks, called in this order when a stage is set up: `configure_models`, `configure_metrics`. Training,
    validation, testing and prediction are written here, once.

    Args:
        detector: the network to be trained.
        surface: name or file of the canonical surface, or the surface itself.
        terms: the loss terms by their names in the log, computed in this order; those of weight 0 are not computed.
        learning_rate: peak learning rate of AdamW.
        weight_decay: of AdamW, on weights with two or more axes.
        schedule: "constant", "cosine" or "onecycle", stepped per optimiser step.
        warmup_steps: linear warm-up of the learning rate [steps].
        metrics: what validation and testing compute; None = the defaults.
        gradient_norms_every: steps between two logs of each term's gradient norm; 0 = never.
        on_silent: "raise" ends the training where a term has no valid pixel in a whole epoch, "warn" goes on.
    """

    def __init__(
        self,
        detector: Detector,
        surface: str | Surface,
        terms: Mapping[str, LossTerm],
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        schedule: LearningRateSchedule = "cosine",
        warmup_steps: int = 0,
        metrics: EvaluationSettings | None = None,
        gradient_norms_every: int = 200,
        on_silent: OnSilent = "raise",
    ) -> None:
        super().__init__()
        for name, term in terms.items():
            if term.weight < 0:
                raise InputError(f"model.terms.{name}.weight is {term.weight} where 0 or more is expected")
        self.terms = {name: term for name, term in terms.items() if term.weight > 0}
        if not self.terms:
            raise InputError("model.terms has no weight above 0 where at least one loss term is expected")
        self.detector = detector
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup_steps = warmup_steps
        self.metrics = metrics or EvaluationSettings()
        self.gradient_norms_every = gradient_norms_every
        self.on_silent = on_silent
        self.evaluations = nn.ModuleList()
        self.atlas: ChartAtlas | None = None
        self._surface = surface
        self._ledger = TermLedger()

    def keep_hyperparameters(self) -> None:
        """Store plain constructor arguments in checkpoints.

        From the command line the arguments are stored as their configuration, so `load_from_checkpoint` rebuilds
        everything; from Python, arguments that are objects are left out and have to be given again.
        """
        objects = () if from_command_line() else ("detector", "teacher", "surface", "terms", "metrics")
        frame = inspect.currentframe()
        self.save_hyperparameters(ignore=list(objects), frame=frame.f_back if frame else None, logger=False)

    # The fixed hooks

    @property
    def surface(self) -> Surface:
        """The canonical surface, loaded at first use."""
        if not isinstance(self._surface, Surface):
            self._surface = Surface.load(self._surface)
        return self._surface

    def configure_models(self, stage: str) -> None:
        """Make the networks that a stage needs; here, tell a detector without surface bounds the surface's."""
        unset = not bool(self.detector.surface_centre.any()) and bool((self.detector.surface_half_extent == 1).all())
        if stage == "fit" and unset:
            centre, half_extent = self.surface.bounds
            self.detector.set_surface_bounds(centre.tolist(), half_extent.tolist())

    def configure_metrics(self, stage: str) -> None:
        """Make one `Evaluation` for every evaluation loader of a stage."""
        loaders = self.trainer.test_dataloaders if stage == "test" else self.trainer.val_dataloaders
        for dataset in datasets_of(loaders)[len(self.evaluations) :]:
            require_surface(self.surface, getattr(dataset, "surface", None))
            settings = fitted(self.metrics, dataset)
            test = stage == "test"
            settings = replace(settings, reconstruction=settings.reconstruction and test, exact=settings.exact and test)
            self.evaluations.append(Evaluation(self.surface, settings))

    def on_predict_start(self) -> None:
        """Refuse to predict on another surface than the captures'."""
        for dataset in datasets_of(self.trainer.predict_dataloaders):
            require_surface(self.surface, getattr(dataset, "surface", None))

    def setup(self, stage: str) -> None:
        """Call the hooks."""
        self.configure_models(stage)

    # Training

    def on_train_batch_start(self, batch: TrainingBatch, batch_idx: int) -> None:
        """Make the random draws of a step depend on the seed, the step and the process alone.

        So a resumed run draws what the uninterrupted one draws, and processes draw differently.
        """
        seed = os.environ.get("PL_GLOBAL_SEED")  # set by `seed_everything`
        if seed is not None:
            torch.manual_seed(step_seed(int(seed), self.global_step, batch_idx, self.global_rank))

    def loss_context(self, batch: TrainingBatch) -> LossContext:
        """Return what the loss terms may look at in this step."""
        return LossContext(
            batch=batch,
            step=self.global_step,
            student=self,
            labelled_student=self.labelled_field,
            teacher=self.teacher_field,
            atlas=self.chart_atlas() if self.detector.representation == "charts" else None,
        )

    def labelled_field(self, images: Tensor) -> Field:
        """Return the field of labelled images, in training."""
        return self(images)

    def teacher_field(self, views: MultiviewBatch) -> Field:
        """Return the teacher's field of unlabelled views."""
        names = ", ".join(f"model.terms.{name}" for name, term in self.terms.items() if "teacher" in term.needs)
        raise InputError(f"{names}: the term needs a teacher, which {type(self).__name__} does not have")

    def training_terms(self, batch: TrainingBatch) -> dict[str, WeightedTerm]:
        """Return the weighted loss terms of a training batch: those that the batch has all for that they need."""
        context = self.loss_context(batch)
        found = {}
        for name, term in self.terms.items():
            value = term(context) if all(context.meets(need) for need in term.needs) else None
            self._ledger.count(name, value)
            if value is not None:
                found[name] = WeightedTerm(value, term.weight_at(context.step))
        return found

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        """One step: terms, their sum, the log."""
        terms = self.training_terms(batch)
        if self.trainer.world_size > 1:
            trained = [parameter for parameter in self.detector.parameters() if parameter.requires_grad]
            terms = over_processes(terms, list(self._ledger.due), trained)
        if not terms:
            raise InputError(
                "a training batch has nothing of what the loss terms need, expected "
                + ", ".join(f"{' and '.join(term.needs)} for {name}" for name, term in self.terms.items())
            )
        total = total_loss(terms)
        require_finite(terms, total, self.global_step)
        size = 1
        self.log("train/loss", total.detach(), prog_bar=True, batch_size=size)
        if self._due(getattr(self.trainer, "log_every_n_steps", 50)):
            for name, entry in terms.items():
                self.log(f"train/{name}", entry.loss.value.detach(), prog_bar=True, batch_size=size)
                self.log(f"train/{name}/weight", entry.weight, batch_size=size)
                self.log(f"train/{name}/valid_share", entry.loss.valid_share, batch_size=size)
                for part, value in entry.loss.parts.items():
                    self.log(f"train/{name}/{part}", value, batch_size=size)
        if self._due(self.gradient_norms_every):
            for name, norm in gradient_norms(terms, self.shared_parameters()).items():
                self.log(f"train/{name}/gradient_norm", norm, batch_size=size)
        return total

    def _due(self, every: int) -> bool:
        return every > 0 and (self.global_step + 1) % every == 0

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the trainable tensors of the detector's heads, which the terms share."""
        named = [(name, parameter) for name, parameter in self.detector.named_parameters() if parameter.requires_grad]
        heads = [parameter for name, parameter in named if "head" in name.split(".")[0]]
        return heads or [parameter for _, parameter in named[-GRADIENT_NORM_PARAMETERS:]]

    def on_train_epoch_start(self) -> None:
        self._ledger.reset()

    def on_train_epoch_end(self) -> None:
        """Fail, or warn, where configured terms that are not optional never had a valid pixel, on any process."""
        silent = {}
        for name in self._ledger.due:
            fired = self._ledger.fired.get(name, torch.zeros((), dtype=torch.long, device=self.device))
            if self.trainer.world_size > 1:
                fired = self.trainer.strategy.reduce(fired.clone(), reduce_op="sum")
            if int(fired) == 0 and not self.terms[name].optional:
                silent[name] = self.terms[name]
        if silent:
            sentence = silence(silent, max(self._ledger.due.values()))
            if self.on_silent == "raise":
                raise InputError(sentence)
            rank_zero_warn(sentence)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW without decay on biases and norms, and the learning rate schedule."""
        trainable = [parameter for parameter in self.detector.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=self.learning_rate)
        steps = self.trainer.estimated_stepping_batches if self.schedule != "constant" else float("inf")
        scheduler = learning_rate_schedule(optimizer, self.schedule, steps, self.warmup_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # Evaluation

    def forward(self, images: Tensor) -> Field:
        """(B, 3, H, W) images in [0, 1] -> the field."""
        field: Field = self.detector(images)
        return field

    def evaluated_field(self, images: Tensor) -> Field:
        """Return the field that testing and predicting look at, averaged with that of the mirrored images if wanted.

        Raises:
            InputError: mirroring is wanted of charts, or of a surface whose left is not the reflection of its right.
        """
        field = self(images)
        if not self.metrics.mirrored:
            return field
        if not isinstance(field, EmbeddingField) or not self.surface.is_reflection:
            raise InputError(
                f"model.metrics.mirrored is true for a {type(field).__name__} of the surface {self.surface.name}, "
                "expected surface coordinates of a body whose left is the reflection of its right"
            )
        return mirrored_average(field, self(images.flip(-1)))

    def surface_coordinates(self, field: Field) -> Tensor:
        """(B, 3, H, W) [m] surface coordinates of a field of either representation."""
        return field.coordinates(self.chart_atlas() if isinstance(field, ChartField) else None)

    def chart_atlas(self) -> ChartAtlas:
        """Return the surface's chart atlas, made at first use."""
        if self.atlas is None:
            self.atlas = ChartAtlas.from_surface(self.surface)
        self.atlas.to(self.device)
        return self.atlas

    def validation_step(self, batch: MultiviewBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        field = self.evaluated_field(flatten_views(batch))
        evaluation = self.evaluations[dataloader_idx]
        assert isinstance(evaluation, Evaluation)
        evaluation.update(field, self.surface_coordinates(field), batch)

    test_step = validation_step

    def on_validation_start(self) -> None:
        self._begin_evaluation("validate")

    def on_test_start(self) -> None:
        self._begin_evaluation("test")

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        self._log_evaluation("test")

    def _begin_evaluation(self, stage: str) -> None:
        self.configure_metrics(stage)
        self.evaluations.to(self.device)
        for evaluation in self.evaluations:
            assert isinstance(evaluation, Evaluation)
            evaluation.reset()

    def _log_evaluation(self, prefix: str) -> None:
        for index, evaluation in enumerate(self.evaluations):
            assert isinstance(evaluation, Evaluation)
            name = prefix if len(self.evaluations) == 1 else f"{prefix}_{index}"
            self.log_dict({f"{name}/{key}": value for key, value in evaluation.compute().items()}, sync_dist=True)

    def predict_step(self, batch: MultiviewBatch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Return the field of every view of a multiview batch, as tensors with leading axes (B, V).

        Returns:
            "foreground" (B, V, H, W) probability, "coordinate" (B, V, 3, H, W) [m] and, for charts, "part"
            (B, V, H, W) long (0 = background) and "uv" (B, V, 2, H, W).
        """
        field = self.evaluated_field(flatten_views(batch))
        shape = batch["image"].shape[:2]
        out = {"foreground": field.foreground_probability, "coordinate": self.surface_coordinates(field)}
        if isinstance(field, ChartField):
            part = field.part
            index = (part - 1)[:, None, None].expand(-1, 1, 2, -1, -1)
            out["uv"] = field.uv.gather(1, index)[:, 0]
            out["part"] = part * (field.foreground > 0)
        return {name: value.unflatten(0, shape) for name, value in out.items()}

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out what can be rebuilt: metric states and the atlas.

        Raises:
            TrainingDiverged: the weights are no longer finite and would replace good ones.
        """
        state = checkpoint["state_dict"]
        require_finite_weights(self.detector, self.global_step)
        for name in [n for n in state if n.startswith("evaluations.") or "atlas." in n]:
            del state[name]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Fill in what checkpoints leave out; training resumed at the end of an epoch begins with the next.

        The learning rate follows the schedule of the training's present length, be it longer than when it was saved.
        """
        finish_epoch(checkpoint)
        forget_length(checkpoint.get("lr_schedulers", ()))
        state = checkpoint["state_dict"]
        for name, value in self.state_dict().items():
            if name.startswith("evaluations.") or "atlas." in name:
                state.setdefault(name, value)


def fitted(settings: EvaluationSettings, dataset: object) -> EvaluationSettings:
    """Return settings with the data set's camera and joint names, where none are set."""
    cameras, joints = getattr(dataset, "camera_names", None), getattr(dataset, "joint_names", None)
    return replace(
        settings,
        cameras=settings.cameras or (None if cameras is None else [*cameras, ""]),  # "" in slots without a view
        joints=settings.joints or (list(joints) if joints else None),
    )


def finish_epoch(checkpoint: dict[str, Any]) -> None:
    """Make a checkpoint that was saved at the end of an epoch begin with the next one.

    Such a checkpoint says that the epoch is not complete. Where the length of the training is given in steps,
    pytorch-lightning (2.6) then runs that epoch's end a second time, without any batch, and the data of the next epoch
    are skipped.
    """
    loop = checkpoint.get("loops", {}).get("fit_loop", {})
    epochs, batches = loop.get("epoch_progress"), loop.get("epoch_loop.batch_progress")
    if epochs is None or batches is None or not batches["is_last_batch"]:
        return
    for counts in epochs.values():
        counts["processed"] = counts["completed"] = counts["ready"]
    batches["current"] = dict.fromkeys(batches["current"], 0)
    batches["is_last_batch"] = False
    logged = loop.get("epoch_loop.state_dict", {})
    if "_batches_that_stepped" in logged:  # the step in logs, which Lightning raises by one when it starts again
        logged["_batches_that_stepped"] -= 1
