"""LightningDataModules: labelled training, semi-supervised training, and the evaluation that both share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import cv2
import pytorch_lightning as pl
from pytorch_lightning.utilities import CombinedLoader
from torch import distributed
from torch.utils.data import DataLoader, Dataset

from dkp.captures import Capture
from dkp.data.augmentation import Augmentation
from dkp.data.cache import CaptureImages, NextFrame, OnBad
from dkp.data.collate import collate
from dkp.data.labelled import LabelledViews, choose_frames, choose_labelled
from dkp.data.multiview import MultiviewInstants
from dkp.data.pairing import Pairing
from dkp.data.places import SPLIT_MARK, Captures, places, split_of
from dkp.data.sampling import EvaluationSampler, KeyedSampler
from dkp.data.views import HideBackground
from dkp.errors import InputError

Item = TypeVar("Item")


class CaptureDataModule(pl.LightningDataModule):
    """What the data modules share: how views are made, and evaluation on captures.

    Captures are given as PATH or PATH#SPLIT, one or several, also by a pattern (disk?/capture-*); several are one data
    set in training, so that a large one may lie in parts on several disks. Without #SPLIT the role's usual split is
    read ("train", "val" or "test"; PATH# reads all instants). Each capture for evaluation is a loader of its own, with
    all views of every instant and all eligible pairs.

    Args:
        val: captures for validation; None = no validation.
        test: captures for testing.
        predict: captures for prediction; None = those for testing.
        cameras: use these cameras only; None = all.
        size: side of the network's input [px].
        stride: input pixels per cell of the detector's field; has to be the detector's.
        charts: also give part and chart labels (for a detector of charts).
        hide_background: paint what is not the surface "constant" (black) or as "noise"; "no" leaves it. Labelled views
            use their label, others the capture's masks.
        augmentation: of training images.
        pairing: which pairs of views count.
        joints: names of joints in evaluation batches, in order.
        steps_per_epoch: training steps of an epoch; None = one pass over the training data.
        eval_batch_size: instants in an evaluation batch.
        num_workers: processes that make batches for training and prediction; 0 = none but the main one.
        seed: of all random draws in the data.
        on_bad: what happens to views whose files are missing or damaged, or that hold no numbers: "skip" leaves them
            out with a warning that counts them, "raise" ends with an error.
        own_parts: each of several processes reads its share of the training captures only (the first, the one after as
            many as there are processes, ...), so that neither memory nor disk of a machine has to hold all of them.
    """

    def __init__(
        self,
        val: Captures = None,
        test: Captures = None,
        predict: Captures = None,
        cameras: list[str] | None = None,
        size: int = 64,
        stride: int = 2,
        charts: bool = False,
        hide_background: HideBackground = "no",
        augmentation: Augmentation | None = None,
        pairing: Pairing | None = None,
        joints: list[str] | None = None,
        steps_per_epoch: int | None = None,
        eval_batch_size: int = 4,
        num_workers: int = 1,
        seed: int = 0,
        on_bad: OnBad = "skip",
        own_parts: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("steps_per_epoch", steps_per_epoch), ("eval_batch_size", eval_batch_size)):
            if value is not None and value < 1:
                raise InputError(f"data.{name} is {value} where 1 or more is expected")
        self.evaluated = {"val": places(val), "test": places(test), "predict": places(predict) or places(test)}
        self.cameras = cameras
        self.size = size
        self.stride = stride
        self.charts = charts
        self.hide_background = hide_background
        self.augmentation = augmentation or Augmentation()
        self.pairing = pairing or Pairing()
        self.joints = tuple(joints or ())
        self.steps_per_epoch = steps_per_epoch
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.on_bad = on_bad
        self.own_parts = own_parts
        if own_parts and steps_per_epoch is None:
            raise InputError(
                "data.own_parts needs data.steps_per_epoch: processes with unequal parts have no common pass"
            )
        self.datasets: dict[str, list[MultiviewInstants]] = {}
        self.first_epoch = 0

    def state_dict(self) -> dict[str, int]:
        """How many epochs of training data were drawn, for checkpoints."""
        if self.trainer is None:
            return {"epochs": 0}
        return {"epochs": self.trainer.fit_loop.epoch_progress.current.processed}  # type: ignore[attr-defined]

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Begin with the data of the epoch that comes next.

        Lightning tells samplers the epoch too late in a resumed run: its worker processes have begun by then.
        """
        self.first_epoch = state_dict["epochs"]

    def setup(self, stage: str | None = None) -> None:
        """Read what a stage needs into memory, once."""
        roles = {"fit": ["val"], "validate": ["val"], "test": ["test"], "predict": ["predict"]}
        if stage in (None, "fit"):
            self.setup_training()
        for role in roles.get(stage, []) if stage else ["val", "test"]:
            if role not in self.datasets:
                self.datasets[role] = [self.evaluation(place, role) for place in self.evaluated[role]]

    def setup_training(self) -> None:
        """Read the training data."""
        raise NotImplementedError

    def read(self, place: str, role: str, **options: Any) -> CaptureImages:
        """Read PATH or PATH#SPLIT.

        Args:
            place: the capture.
            role: its split where none is given.
            options: of `CaptureImages`.
        """
        path, split = split_of(place, role)
        options = {"cameras": self.cameras, "on_bad": self.on_bad, **options}
        return CaptureImages(self.open(path), split, 2 * self.size, charts=self.charts, **options)

    def open(self, path: str) -> Capture:
        """Open a capture; files that are missing count as bad data."""
        return Capture.open(path, allow_missing=self.on_bad == "skip")

    def evaluation(self, place: str, role: str) -> MultiviewInstants:
        """All views and pairs of a capture, without augmentation; for testing with the posed surfaces."""
        split = "test" if role == "predict" else role
        images = self.read(place, split, joints=self.joints, min_foreground=0, truth=role == "test")
        return MultiviewInstants(
            [images], self.size, self.stride, pairing=self.pairing, hide_background=self.hide_background
        )

    def val_dataloader(self) -> list[DataLoader]:
        """One loader per validation capture."""
        return self._evaluation_loaders("val")

    def test_dataloader(self) -> list[DataLoader]:
        """One loader per test capture."""
        return self._evaluation_loaders("test")

    def predict_dataloader(self) -> list[DataLoader]:
        """One loader per capture to predict."""
        return self._evaluation_loaders("predict")

    def _evaluation_loaders(self, role: str) -> list[DataLoader]:
        if role != "val" and not self.evaluated[role]:
            raise InputError(f"data.{role} names no capture, expected PATH or PATH{SPLIT_MARK}SPLIT")
        grouped = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
        return [
            DataLoader(
                dataset,
                batch_size=self.eval_batch_size,
                sampler=EvaluationSampler(len(dataset)) if grouped else None,
                shuffle=None if grouped else False,
                collate_fn=collate,
                num_workers=self.num_workers if role == "predict" else 0,  # ahead of the detector
                worker_init_fn=start_worker,
            )
            for dataset in self.datasets[role]
        ]

    def training_loader(self, dataset: Dataset, length: int, batch_size: int, steps: int, part: int) -> DataLoader:
        """An endless loader of `steps` batches an epoch.

        Args:
            dataset: takes keys of `KeyedSampler`.
            length: number of its samples.
            batch_size: samples of a batch, per process.
            steps: batches of an epoch.
            part: tells loaders that run side by side apart.
        """
        seed, alone = 2 * self.seed + part, {"rank": 0, "world": 1} if self.own_parts else {}
        sampler = KeyedSampler(length, steps * batch_size, seed=seed, **alone)
        sampler.set_epoch(self.first_epoch)
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=collate,
            worker_init_fn=start_worker,
            pin_memory=self.trainer is not None and self.trainer.accelerator.__class__.__name__ == "CUDAAccelerator",
        )

    def _own(self, captures: list[Item]) -> list[Item]:
        """The captures that this process reads."""
        if not self.own_parts:
            return captures
        rank, world = process()
        if captures and len(captures) < world:
            raise InputError(
                f"data.own_parts: {len(captures)} training captures where at least one for each of {world} processes "
                "is expected"
            )
        return captures[rank::world]

    def labelled_views(
        self, captures: Sequence[str], shares: float | Sequence[float], augmentation: Augmentation
    ) -> LabelledViews | None:
        """The labelled training views of some captures; None where the share is 0.

        Raises:
            InputError: there are not as many shares as captures, or no view has a label.
        """
        images = []
        each = [shares] * len(captures) if isinstance(shares, (int, float)) else list(shares)
        if len(each) != len(captures):
            raise InputError(
                f"data.labelled_share has {len(each)} shares where one number, or one for each of the {len(captures)} "
                "labelled captures, is expected"
            )
        for place, share in self._own(list(zip(captures, each, strict=True))):
            path, split = split_of(place, "train")
            frames = choose_labelled(self.open(path).instants(split), share, self.seed) if share < 1 else None
            if frames != []:
                images.append(self.read(place, "train", require_labels=True, frames=frames))
        if not images:
            if any(each):
                raise InputError(f"{', '.join(captures)}: no view has a label")
            return None
        return LabelledViews(images, self.size, self.stride, augmentation, self.hide_background, self.seed)


class LabelledDataModule(CaptureDataModule):
    """Labelled views for training; multiview instants for evaluation.

    Args:
        train: captures with labels.
        labelled_share: share of the labelled instants that is used, 0 < share <= 1, or one for each capture; larger
            shares contain smaller ones.
        batch_size: views in a batch, per process.
        val: see `CaptureDataModule`, also for the following.
        test: captures for testing.
        predict: captures for prediction; None = those for testing.
        cameras: use these cameras only; None = all.
        size: side of the network's input [px].
        stride: input pixels per cell of the detector's field.
        charts: also give part and chart labels.
        hide_background: "no", "constant" or "noise".
        augmentation: of training images.
        pairing: which pairs of views count.
        joints: names of joints in evaluation batches, in order.
        steps_per_epoch: training steps of an epoch; None = one pass.
        eval_batch_size: instants in an evaluation batch.
        num_workers: processes that make training batches.
        seed: of all random draws in the data.
        on_bad: what happens to views whose files are missing or damaged, or that hold no numbers: "skip" leaves them
            out with a warning that counts them, "raise" ends with an error.
        own_parts: each of several processes reads its share of the training captures only (the first, the one after as
            many as there are processes, ...), so that neither memory nor disk of a machine has to hold all of them.
    """

    def __init__(
        self,
        train: Captures = None,
        labelled_share: float | list[float] = 1.0,
        batch_size: int = 32,
        val: Captures = None,
        test: Captures = None,
        predict: Captures = None,
        cameras: list[str] | None = None,
        size: int = 64,
        stride: int = 2,
        charts: bool = False,
        hide_background: HideBackground = "no",
        augmentation: Augmentation | None = None,
        pairing: Pairing | None = None,
        joints: list[str] | None = None,
        steps_per_epoch: int | None = None,
        eval_batch_size: int = 4,
        num_workers: int = 1,
        seed: int = 0,
        on_bad: OnBad = "skip",
        own_parts: bool = False,
    ) -> None:
        super().__init__(
            val, test, predict, cameras, size, stride, charts, hide_background, augmentation, pairing, joints,
            steps_per_epoch, eval_batch_size, num_workers, seed, on_bad, own_parts,
        )  # fmt: skip
        self.train = places(train)
        self.labelled_share = labelled_share
        self.batch_size = batch_size
        self.labelled: LabelledViews | None = None

    def setup_training(self) -> None:
        """Read the labelled views."""
        if not self.train:
            raise InputError(f"data.train names no capture, expected PATH or PATH{SPLIT_MARK}SPLIT")
        if self.labelled is None:
            self.labelled = self.labelled_views(self.train, self.labelled_share, self.augmentation)
        if self.labelled is None:
            raise InputError("data.labelled_share is 0 where labelled training needs more than 0")

    def train_dataloader(self) -> DataLoader:
        """Batches of single labelled views."""
        assert self.labelled is not None
        length = len(self.labelled)
        steps = self.steps_per_epoch or one_pass(length, self.batch_size)
        return self.training_loader(self.labelled, length, self.batch_size, steps, part=0)


class SemiSupervisedDataModule(CaptureDataModule):
    """Unlabelled multiview instants and, beside them, labelled views of the same or of other captures.

    A batch is {"labelled": ..., "unlabelled": ...}; "labelled" is missing where there are none.

    Args:
        unlabelled: captures for the multiview term; their labels are not read.
        unlabelled_share: share of their instants that is used, 0 < share <= 1; larger shares contain smaller ones.
        labelled: captures with labels; None = those in `unlabelled`.
        labelled_share: share of the labelled instants that is used, 0..1, or one for each capture; 0 = no labelled part
            at all.
        labelled_batch_size: labelled views in a batch, per process.
        unlabelled_batch_size: instants in a batch, per process.
        views_per_instant: views drawn of each unlabelled instant: a number (2, 3, ...) or "all".
        unlabelled_augmentation: of the unlabelled images; None = as the labelled ones, without mirroring.
        masks: give the unlabelled views' masks, for a silhouette term.
        next_frame: also give the next frame and the flow to it: "truth" (synthetic captures: the known surface),
            "flow" (optical flow) or "no".
        val: see `CaptureDataModule`, also for the following.
        test: captures for testing.
        predict: captures for prediction; None = those for testing.
        cameras: use these cameras only; None = all.
        size: side of the network's input [px].
        stride: input pixels per cell of the detector's field.
        charts: also give part and chart labels.
        hide_background: "no", "constant" or "noise".
        augmentation: of labelled training images.
        pairing: which pairs of views count.
        joints: names of joints in evaluation batches, in order.
        steps_per_epoch: training steps of an epoch; None = one pass over the unlabelled instants.
        eval_batch_size: instants in an evaluation batch.
        num_workers: processes that make training batches, for each of the two parts.
        seed: of all random draws in the data.
        on_bad: what happens to views whose files are missing or damaged, or that hold no numbers: "skip" leaves them
            out with a warning that counts them, "raise" ends with an error.
        own_parts: each of several processes reads its share of the training captures only (the first, the one after as
            many as there are processes, ...), so that neither memory nor disk of a machine has to hold all of them.
    """

    def __init__(
        self,
        unlabelled: Captures = None,
        unlabelled_share: float = 1.0,
        labelled: Captures = None,
        labelled_share: float | list[float] = 1.0,
        labelled_batch_size: int = 16,
        unlabelled_batch_size: int = 8,
        views_per_instant: int | Literal["all"] = 2,
        unlabelled_augmentation: Augmentation | None = None,
        masks: bool = True,
        next_frame: NextFrame = "no",
        val: Captures = None,
        test: Captures = None,
        predict: Captures = None,
        cameras: list[str] | None = None,
        size: int = 64,
        stride: int = 2,
        charts: bool = False,
        hide_background: HideBackground = "no",
        augmentation: Augmentation | None = None,
        pairing: Pairing | None = None,
        joints: list[str] | None = None,
        steps_per_epoch: int | None = None,
        eval_batch_size: int = 4,
        num_workers: int = 1,
        seed: int = 0,
        on_bad: OnBad = "skip",
        own_parts: bool = False,
    ) -> None:
        super().__init__(
            val, test, predict, cameras, size, stride, charts, hide_background, augmentation, pairing, joints,
            steps_per_epoch, eval_batch_size, num_workers, seed, on_bad, own_parts,
        )  # fmt: skip
        if not 0 < unlabelled_share <= 1:
            raise InputError(f"data.unlabelled_share is {unlabelled_share} where more than 0 and at most 1 is expected")
        self.unlabelled_captures = places(unlabelled)
        self.unlabelled_share = unlabelled_share
        self.labelled_captures = places(labelled) or self.unlabelled_captures
        self.labelled_share = labelled_share
        self.labelled_batch_size = labelled_batch_size
        self.unlabelled_batch_size = unlabelled_batch_size
        self.views_per_instant = None if views_per_instant == "all" else views_per_instant
        self.unlabelled_augmentation = unlabelled_augmentation or unmirrored(self.augmentation)
        self.masks = masks
        self.next_frame: NextFrame = next_frame
        self.labelled: LabelledViews | None = None
        self.unlabelled: MultiviewInstants | None = None

    def setup_training(self) -> None:
        """Read the unlabelled instants and the labelled views."""
        if not self.unlabelled_captures:
            raise InputError(f"data.unlabelled names no capture, expected PATH or PATH{SPLIT_MARK}SPLIT")
        if self.unlabelled is not None:
            return
        images = [
            self.read(place, "train", labels=False, next_frame=self.next_frame, frames=self._unlabelled_frames(place))
            for place in self._own(self.unlabelled_captures)
        ]
        self.unlabelled = MultiviewInstants(
            images,
            self.size,
            self.stride,
            self.views_per_instant,
            self.pairing,
            self.unlabelled_augmentation,
            self.hide_background,
            labels=False,
            masks=self.masks,
            seed=self.seed,
        )
        self.labelled = self.labelled_views(self.labelled_captures, self.labelled_share, self.augmentation)

    def _unlabelled_frames(self, place: str) -> list[str] | None:
        if self.unlabelled_share == 1:
            return None
        path, split = split_of(place, "train")
        frames = [one.frame for one in self.open(path).instants(split)]
        return choose_frames(frames, "data.unlabelled_share", self.unlabelled_share, (self.seed, 0xF7EE))

    def train_dataloader(self) -> CombinedLoader:
        """Both parts side by side, equally many batches of each."""
        assert self.unlabelled is not None
        length = len(self.unlabelled)
        steps = self.steps_per_epoch or one_pass(length, self.unlabelled_batch_size)
        loaders = {"unlabelled": self.training_loader(self.unlabelled, length, self.unlabelled_batch_size, steps, 1)}
        if self.labelled is not None:
            size = self.labelled_batch_size
            loaders["labelled"] = self.training_loader(self.labelled, len(self.labelled), size, steps, 0)
        return CombinedLoader(loaders, mode="min_size")


def process() -> tuple[int, int]:
    """Number of this process in its group and size of the group."""
    grouped = distributed.is_available() and distributed.is_initialized()
    return (distributed.get_rank(), distributed.get_world_size()) if grouped else (0, 1)


def one_pass(samples: int, batch_size: int) -> int:
    """Steps of one pass over the data by all processes together, at least one."""
    return max(1, samples // (batch_size * process()[1]))


def unmirrored(augmentation: Augmentation) -> Augmentation:
    """The same augmentation without mirroring."""
    return Augmentation(**{**vars(augmentation), "mirror": 0.0})


def start_worker(worker: int) -> None:
    """Keep OpenCV to one thread: the workers are the parallelism."""
    cv2.setNumThreads(0)
