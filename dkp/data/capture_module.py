"""What all LightningDataModules share: reading captures, loaders for training, and evaluation."""

from collections.abc import Sequence
from typing import Any, TypeVar

import cv2
import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset

from dkp.captures import Capture
from dkp.captures.images import OnBad
from dkp.captures.splits import SPLIT_MARK, Captures, all_captures, split_of
from dkp.data.augmentation import Augmentation
from dkp.data.cache import CaptureImages
from dkp.data.collate import collate
from dkp.data.labelled import LabelledViews, choose_labelled
from dkp.data.loader import ReadAheadLoader
from dkp.data.multiview import MultiviewInstants
from dkp.data.pairing import Pairing
from dkp.data.sampling import EvaluationSampler, KeyedSampler, process
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
            use their label, others the capture's masks; those without stay as they are.
        augmentation: of training images.
        pairing: which pairs of views count; None = what is usual for the surface (of something flat, all).
        joints: names of joints in evaluation batches, in order; a capture without any joint is evaluated without them.
        steps_per_epoch: training steps of an epoch; None = one pass over the training data.
        eval_batch_size: instants in an evaluation batch.
        num_workers: processes that make batches for prediction and for each part of the training data; 0 = none but the
            main one.
        seed: of all random draws in the data.
        on_bad: what happens to views whose files are missing or damaged, or that hold no numbers: "skip" leaves them
            out with a warning that counts them, "raise" ends with an error.
        own_parts: each of several processes reads its share of the training captures only (the first, the one after as
            many as there are processes, ...), so that neither memory nor disk of a machine has to hold all of them.
        cache: folder in which decoded views are kept for the next run and shared by processes, made where it is
            missing; captures larger than the memory need it. None = decode into memory at every start.
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
        cache: str | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("steps_per_epoch", steps_per_epoch), ("eval_batch_size", eval_batch_size)):
            if value is not None and value < 1:
                raise InputError(f"data.{name} is {value} where 1 or more is expected")
        self.evaluated = {
            "val": all_captures(val),
            "test": all_captures(test),
            "predict": all_captures(predict) or all_captures(test),
        }
        self.cameras = cameras
        self.size = size
        self.stride = stride
        self.charts = charts
        self.hide_background = hide_background
        self.augmentation = augmentation or Augmentation()
        self.pairing = pairing
        self.joints = tuple(joints or ())
        self.steps_per_epoch = steps_per_epoch
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.on_bad = on_bad
        self.own_parts = own_parts
        self.cache = cache
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
        """Read what a stage needs into memory or the cache, once."""
        roles = {"fit": ["val"], "validate": ["val"], "test": ["test"], "predict": ["predict"]}
        if stage in (None, "fit"):
            self.setup_training()
        for role in roles.get(stage, []) if stage else ["val", "test"]:
            if role not in self.datasets:
                try:
                    self.datasets[role] = [self.evaluation(capture, role) for capture in self.evaluated[role]]
                except InputError as error:
                    raise InputError(f"data.{role}: {error}") from error

    def setup_training(self) -> None:
        """Read the training data."""
        raise NotImplementedError

    def read(self, capture: str, role: str, **options: Any) -> CaptureImages:
        """Read PATH or PATH#SPLIT.

        Args:
            capture: the capture.
            role: its split where none is given.
            options: of `CaptureImages`.
        """
        path, split = split_of(capture, role)
        options = {"cameras": self.cameras, "on_bad": self.on_bad, "cache": self.cache, **options}
        return CaptureImages(self.open(path), split, 2 * self.size, charts=self.charts, **options)

    def open(self, path: str) -> Capture:
        """Open a capture; files that are missing count as bad data."""
        return Capture.open(path, allow_missing=self.on_bad == "skip")

    def evaluation(self, capture: str, role: str) -> MultiviewInstants:
        """All views and pairs of a capture, without augmentation; for testing with the posed surfaces."""
        split = "test" if role == "predict" else role
        images = self.read(capture, split, joints=self.joints, min_foreground=0, truth=role == "test")
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
            raise InputError(
                f"data.{role} names no capture, expected --data.{role} PATH or PATH{SPLIT_MARK}SPLIT (with the recipes "
                "in configs: --target)"
            )
        grouped = process()[1] > 1
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
        """Return an endless loader of `steps` batches an epoch.

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
        return ReadAheadLoader(
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
        """Return the captures that this process reads."""
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
        """Return the labelled training views of some captures; None where the share is 0.

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
        for capture, share in self._own(list(zip(captures, each, strict=True))):
            path, split = split_of(capture, "train")
            frames = choose_labelled(self.open(path).instants(split), share, self.seed) if share < 1 else None
            if frames != []:
                images.append(self.read(capture, "train", require_labels=True, frames=frames))
        if not images:
            if any(each):
                raise InputError(f"{', '.join(captures)}: no view has a label")
            return None
        return LabelledViews(images, self.size, self.stride, augmentation, self.hide_background, self.seed)


def one_pass(samples: int, batch_size: int) -> int:
    """Return the steps of one pass over the data by all processes together, at least one."""
    return max(1, samples // (batch_size * process()[1]))


def start_worker(worker: int) -> None:
    """Keep OpenCV to one thread: the workers are the parallelism."""
    cv2.setNumThreads(0)
