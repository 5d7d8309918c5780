"""What a loss term is, and what it may look at in a training step."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from torch import Tensor

from dkp.batches import (
    LabelledBatch,
    MultiviewBatch,
    TrainingBatch,
    ViewPairs,
    flatten_views,
    view_pairs,
)
from dkp.fields import ChartAtlas, Field
from dkp.losses.schedule import ramp
from dkp.losses.value import LossValue

Need = Literal["labelled", "views", "pairs", "teacher", "labels", "masks", "flow", "keypoints"]
"""Labelled views; unlabelled views, and of these: pairs, a teacher's fields, (pseudo-)labels, masks, flow, joints."""

KEYS = {"labels": "has_label", "masks": "mask", "flow": "flow", "keypoints": "joints"}
"""The entry of unlabelled views that tells whether a need is met; other needs are met by any such views."""


@dataclass(kw_only=True)
class LossContext:
    """One training step as loss terms see it. Fields and pairs are computed when a term first asks for them, once.

    Attributes:
        batch: The training batch.
        step: Optimiser steps done.
        student: (N, 3, H, W) images -> the field of the detector in training.
        labelled_student: The same for labelled images.
        teacher: Unlabelled views (B, V) -> the teacher's field of the B V images, without a graph.
        atlas: The way from charts to surface coordinates; None for embeddings.
    """

    batch: TrainingBatch
    step: int
    student: Callable[[Tensor], Field]
    labelled_student: Callable[[Tensor], Field]
    teacher: Callable[[MultiviewBatch], Field]
    atlas: ChartAtlas | None = None

    def meets(self, need: Need) -> bool:
        """Whether the batch has what a term needs."""
        if need == "labelled":
            return self.batch.get("labelled") is not None
        views = self.batch.get("unlabelled")
        return views is not None and KEYS.get(need, "image") in views

    @property
    def labelled(self) -> LabelledBatch:
        """The labelled views."""
        return self.batch["labelled"]

    @cached_property
    def labelled_field(self) -> Field:
        """The student's field of the labelled views, batch B."""
        return self.labelled_student(self.labelled["image"])

    @property
    def views(self) -> MultiviewBatch:
        """The unlabelled views, (B, V)."""
        return self.batch["unlabelled"]

    @cached_property
    def present(self) -> Tensor:
        """(B V,) bool, slots of the unlabelled part that hold a view."""
        return self.views["present"].flatten()

    @cached_property
    def field(self) -> Field:
        """The student's field of the unlabelled views, batch B V."""
        return self.student(flatten_views(self.views))

    @cached_property
    def teacher_field(self) -> Field:
        """The teacher's field of the unlabelled views, batch B V, without a graph."""
        return self.teacher(self.views)

    @cached_property
    def pairs(self) -> ViewPairs:
        """The valid pairs of the unlabelled views."""
        return view_pairs(self.views)


@dataclass(kw_only=True)
class LossTerm(ABC):
    """One term of a training's loss: a sum of weight times value over the terms of `model.terms`.

    A term has no state of its own: everything that changes with training is a function of the context's step.

    Attributes:
        symbol: Name in messages; "" = that in `model.terms`.
        needs: What it looks at; in a step whose batch lacks any of it the term is not called.
        hint: What a user can look at when the term never has a valid pixel.
        weight: Factor in the loss; 0 = the term is not computed.
        ramp_steps: The weight grows linearly to its value over these steps.
        optional: Whether the data may lack what it needs; else a term that never has a valid pixel ends the training.
    """

    symbol: ClassVar[str] = ""
    needs: ClassVar[tuple[Need, ...]] = ("views",)
    hint: ClassVar[str] = "check the training data"

    weight: float = 1.0
    ramp_steps: int = 0
    optional: bool = False

    @abstractmethod
    def __call__(self, context: LossContext) -> LossValue:
        """Compute the unweighted term of a step that has all that the term `needs`."""

    def weight_at(self, step: int) -> float:
        """Return the weight at a step, ramp included."""
        return self.weight * ramp(step, self.ramp_steps)
