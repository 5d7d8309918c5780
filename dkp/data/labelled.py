"""Labelled views, one at a time: what the teacher, the labelled-only baseline and the oracle learn from."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from dkp.captures import Instant
from dkp.data.augmentation import Augmentation
from dkp.data.cache import CaptureImages
from dkp.data.surroundings import Surroundings
from dkp.data.views import HideBackground, ViewMaker, split_key
from dkp.errors import InputError


class LabelledViews(Dataset):
    """Single labelled views of one or more captures.

    A key is an index or (index, serial number); the sample depends on the seed and the key alone, not on the worker or
    on the order.

    Args:
        images: the captures' views in memory (views without labels are passed over).
        size: side of the network's input [px].
        stride: input pixels per cell.
        augmentation: None = none.
        hide_background: see `ViewMaker`; the label's foreground is the mask.
        seed: of all random draws.

    Raises:
        InputError: no view has a label.
    """

    def __init__(
        self,
        images: Sequence[CaptureImages],
        size: int,
        stride: int,
        augmentation: Augmentation | None = None,
        hide_background: HideBackground = "no",
        seed: int = 0,
    ) -> None:
        self.makers = [
            ViewMaker(one, size, stride, augmentation, hide_background, background_from_label=True) for one in images
        ]
        self.index = [(m, int(i)) for m, one in enumerate(images) for i in np.flatnonzero(one.labelled)]
        self.seed = seed
        self.surroundings = None
        if augmentation is not None and (augmentation.backgrounds or augmentation.others):
            self.surroundings = Surroundings(
                augmentation.backgrounds,
                augmentation.other_background,
                augmentation.others,
                augmentation.obstacles,
                size,
            )
        if not self.index:
            raise InputError(f"{', '.join(one.name for one in images)}: no view has a label")

    def __len__(self) -> int:
        return len(self.index)

    def cutout(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the stored image (S, S, 3) uint8 of a view and the mask (S, S) bool of its surface."""
        number, view = self.index[index]
        images = self.makers[number].images
        row = images.label_row[view]
        nothing = np.zeros(images.images[view].shape[:2], bool)
        return images.images[view], images.foreground[row] if row >= 0 else nothing

    def __getitem__(self, key: Any) -> dict[str, Any]:
        """One sample, to be put together by `collate`."""
        index, serial = split_key(key)
        number, view = self.index[index]
        maker = self.makers[number]
        rng = np.random.default_rng((self.seed, serial, index))
        mirror = maker.draw_mirror(rng)
        matrix = maker.draw(rng, mirror)
        around = None if self.surroundings is None else self.surroundings.draw(rng, self)
        image, _ = maker.picture(view, matrix, rng, with_mask=False, around=around)
        return {
            "image": image,
            **maker.camera(view, matrix),
            **maker.targets(view, matrix, mirror, around),
            "frame": maker.images.frame[view],
            "camera_name": maker.images.camera_name[view],
        }


def choose_labelled(instants: Sequence[Instant], share: float, seed: int) -> list[str]:
    """Frames of a share of the instants that have labels, at random; a larger share contains a smaller one.

    Args:
        instants: of a capture.
        share: 0..1 of the labelled instants, rounded up.
        seed: of the choice.

    Returns:
        Frame ids in the order of the instants.
    """
    labelled = [one.frame for one in instants if any(view.label or view.points for view in one.views)]
    return choose_frames(labelled, "labelled_share", share, (seed, 0x1ABE1))


def choose_frames(frames: Sequence[str], option: str, share: float, seed: tuple[int, ...]) -> list[str]:
    """Return a share of some frames, at random; a larger share contains a smaller one.

    Args:
        frames: their ids.
        option: where the share comes from, for the message.
        share: 0..1, rounded up.
        seed: of the choice.

    Returns:
        Frame ids in their order.

    Raises:
        InputError: the share is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise InputError(f"{option} is {share} where a share from 0 to 1 is expected")
    order = np.random.default_rng(seed).permutation(len(frames))
    return [frames[i] for i in sorted(order[: math.ceil(share * len(frames) - 1e-9)])]
