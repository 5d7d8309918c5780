"""LightningDataModules: labelled training and semi-supervised training."""

from typing import Any, Literal

from pytorch_lightning.utilities import CombinedLoader

from dkp.captures.splits import SPLIT_MARK, Captures, all_captures, split_of
from dkp.data.augmentation import Augmentation
from dkp.data.capture_module import CaptureDataModule, one_pass
from dkp.data.flow import NextFrame
from dkp.data.labelled import LabelledViews, choose_frames
from dkp.data.multiview import MultiviewInstants
from dkp.errors import InputError


class LabelledDataModule(CaptureDataModule):
    """Labelled views for training; multiview instants for evaluation.

    Args:
        train: captures with labels.
        labelled_share: share of the labelled instants that is used, 0 < share <= 1, or one for each capture; larger
            shares contain smaller ones.
        batch_size: views in a batch, per process.
        **shared: what the data modules share, see `CaptureDataModule`.
    """

    def __init__(
        self,
        train: Captures = None,
        labelled_share: float | list[float] = 1.0,
        batch_size: int = 32,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.train = all_captures(train)
        self.labelled_share = labelled_share
        self.batch_size = batch_size
        self.labelled: LabelledViews | None = None

    def setup_training(self) -> None:
        """Read the labelled views."""
        self.views()

    def views(self) -> LabelledViews:
        """Return the labelled views, which are read at first use."""
        if not self.train:
            raise InputError(f"data.train names no capture, expected PATH or PATH{SPLIT_MARK}SPLIT")
        if self.labelled is None:
            self.labelled = self.labelled_views(self.train, self.labelled_share, self.augmentation)
        if self.labelled is None:
            raise InputError("data.labelled_share is 0 where labelled training needs more than 0")
        return self.labelled

    def train_dataloader(self) -> CombinedLoader:
        """Batches {"labelled": ...} of single labelled views, see `dkp.batches`."""
        views = self.views()
        steps = self.steps_per_epoch or one_pass(len(views), self.batch_size)
        return CombinedLoader({"labelled": self.training_loader(views, len(views), self.batch_size, steps, part=0)})


class SemiSupervisedDataModule(CaptureDataModule):
    """Unlabelled multiview instants and, beside them, labelled views of the same or of other captures.

    A batch is a `dkp.batches.TrainingBatch`; "labelled" is missing where there are none.

    Args:
        unlabelled: captures for the multiview term; their labels are not read but for `pseudo_labels`.
        unlabelled_share: share of their instants that is used, 0 < share <= 1; larger shares contain smaller ones.
        labelled: captures with labels; None = those in `unlabelled`.
        labelled_share: share of the labelled instants that is used, 0..1, or one for each capture; 0 = no labelled part
            at all.
        labelled_batch_size: labelled views in a batch, per process.
        unlabelled_batch_size: instants in a batch, per process.
        views_per_instant: views drawn of each unlabelled instant: a number (2, 3, ...) or "all".
        unlabelled_augmentation: of the unlabelled images; None = as the labelled ones, without mirroring
            and with their background.
        masks: give the unlabelled views' masks, for a silhouette term.
        pseudo_labels: give the labels of the unlabelled views, which are what a detector said (`dkp pseudo-label`).
        keypoints: give the unlabelled views' joints of these names, in order, for a keypoint term; None = none.
        next_frame: also give the next frame and the flow to it: "truth" (synthetic captures: the known surface),
            "flow" (optical flow) or "no".
        **shared: what the data modules share, see `CaptureDataModule`.
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
        pseudo_labels: bool = False,
        keypoints: list[str] | None = None,
        next_frame: NextFrame = "no",
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if not 0 < unlabelled_share <= 1:
            raise InputError(f"data.unlabelled_share is {unlabelled_share} where more than 0 and at most 1 is expected")
        self.unlabelled_captures = all_captures(unlabelled)
        self.unlabelled_share = unlabelled_share
        self.labelled_captures = all_captures(labelled) or self.unlabelled_captures
        self.labelled_share = labelled_share
        self.labelled_batch_size = labelled_batch_size
        self.unlabelled_batch_size = unlabelled_batch_size
        self.views_per_instant = None if views_per_instant == "all" else views_per_instant
        self.unlabelled_augmentation = unlabelled_augmentation or for_unlabelled(self.augmentation)
        self.masks = masks
        self.pseudo_labels = pseudo_labels
        self.keypoints = tuple(keypoints or ())
        self.next_frame: NextFrame = next_frame
        self.labelled: LabelledViews | None = None
        self.unlabelled: MultiviewInstants | None = None

    def setup_training(self) -> None:
        """Read the unlabelled instants and the labelled views."""
        self.instants()

    def instants(self) -> MultiviewInstants:
        """Return the unlabelled instants; they and the labelled views are read at first use."""
        if not self.unlabelled_captures:
            raise InputError(f"data.unlabelled names no capture, expected PATH or PATH{SPLIT_MARK}SPLIT")
        if self.unlabelled is not None:
            return self.unlabelled
        images = [
            self.read(
                capture,
                "train",
                labels=self.pseudo_labels,
                joints=self.keypoints,
                next_frame=self.next_frame,
                frames=self._unlabelled_frames(capture),
            )
            for capture in self._own(self.unlabelled_captures)
        ]
        self.unlabelled = MultiviewInstants(
            images,
            self.size,
            self.stride,
            self.views_per_instant,
            self.pairing,
            self.unlabelled_augmentation,
            self.hide_background,
            labels=self.pseudo_labels,
            masks=self.masks,
            seed=self.seed,
        )
        self.labelled = self.labelled_views(self.labelled_captures, self.labelled_share, self.augmentation)
        return self.unlabelled

    def _unlabelled_frames(self, capture: str) -> list[str] | None:
        if self.unlabelled_share == 1:
            return None
        path, split = split_of(capture, "train")
        frames = [one.frame for one in self.open(path).instants(split)]
        return choose_frames(frames, "data.unlabelled_share", self.unlabelled_share, (self.seed, 0xF7EE))

    def train_dataloader(self) -> CombinedLoader:
        """Both parts side by side, equally many batches of each."""
        instants, size = self.instants(), self.unlabelled_batch_size
        steps = self.steps_per_epoch or one_pass(len(instants), size)
        loaders = {"unlabelled": self.training_loader(instants, len(instants), size, steps, 1)}
        if self.labelled is not None:
            size = self.labelled_batch_size
            loaders["labelled"] = self.training_loader(self.labelled, len(self.labelled), size, steps, 0)
        return CombinedLoader(loaders, mode="min_size")


FOR_LABELLED = ("mirror", "without_background", "other_background", "others", "obstacles")
"""Changes that need a label."""


def for_unlabelled(augmentation: Augmentation) -> Augmentation:
    """Return the same augmentation without what is for labelled images only."""
    return Augmentation(**{**vars(augmentation), **dict.fromkeys(FOR_LABELLED, 0.0)})
