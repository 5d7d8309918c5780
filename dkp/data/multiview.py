"""Instants with several views: unlabelled training data, and everything that is evaluated."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from dkp.data.augmentation import Augmentation
from dkp.data.cache import CaptureImages
from dkp.data.collate import CAMERA
from dkp.data.pairing import Pairing, choose_views, pairs_among, pairs_of_instants
from dkp.data.views import HideBackground, ViewMaker, split_key
from dkp.errors import InputError
from dkp.surface import Surface

logger = logging.getLogger(__name__)


class MultiviewInstants(Dataset):
    """Instants of one or more captures, each with V views and the eligible pairs among them.

    A key is an index or (index, serial number); the views drawn and their augmentation depend on the seed and the key
    alone. The key None gives an instant without any view. Instants with fewer than V views are padded (`present` is
    False there); an instant without an eligible pair has no valid pair, and that is harmless. Where posed surfaces were
    read, samples have "vertices" (V, 3) [m] and "posed", whether the instant's is known (zeros where it is not).

    Args:
        images: the captures' views in memory.
        size: side of the network's input [px].
        stride: input pixels per cell.
        views_per_instant: how many views to draw, or None for all of them.
        pairing: which pairs are eligible; None = what is usual for the surface.
        augmentation: None = none.
        hide_background: see `ViewMaker`; the captures' masks are used.
        labels: give labels where there are any (evaluation).
        masks: give the captures' masks where there are any.
        seed: of all random draws.

    Raises:
        InputError: `views_per_instant` is less than 1, or captures differ in their joints.
    """

    def __init__(
        self,
        images: Sequence[CaptureImages],
        size: int,
        stride: int,
        views_per_instant: int | None = None,
        pairing: Pairing | None = None,
        augmentation: Augmentation | None = None,
        hide_background: HideBackground = "no",
        labels: bool = True,
        masks: bool = True,
        seed: int = 0,
    ) -> None:
        if views_per_instant is not None and views_per_instant < 1:
            raise InputError(f"views_per_instant is {views_per_instant} where 1 or more, or all, is expected")
        if augmentation is not None and augmentation.mirror > 0:
            raise InputError("augmentation.mirror is for labelled images, where it mirrors the labels too")
        if augmentation is not None and augmentation.without_background > 0:
            raise InputError("augmentation.without_background is for labelled images, whose background is known")
        if len({one.joint_names for one in images}) > 1:
            raise InputError("captures that are read together need the same joints")
        self.makers = [ViewMaker(one, size, stride, augmentation, hide_background) for one in images]
        self.pairs = [pairs_of_instants(one, pairing) for one in images]
        self.index = [(m, i) for m, one in enumerate(images) for i in range(len(one.instants))]
        most = max(len(views) for one in images for views in one.instants)
        self.slots = most if views_per_instant is None else min(views_per_instant, most)
        most_pairs = max((len(pairs) for each in self.pairs for pairs in each), default=0)
        self.pair_slots = max(1, min(most_pairs, self.slots * (self.slots - 1) // 2))
        self.joint_names = images[0].joint_names
        self.labels = labels and any(bool(one.labelled.any()) for one in images)
        self.masks = masks and any(len(one.masks) for one in images)
        self.truth = any(vertices is not None for one in images for vertices in one.vertices)
        self.temporal = all(one.next is not None for one in images)
        self.seed = seed
        self.without_pairs = sum(len(pairs) == 0 for each in self.pairs for pairs in each)
        if self.without_pairs and self.slots > 1:
            logger.warning(
                "%s: %d of %d instants have no eligible pair of views",
                ", ".join(one.name for one in images),
                self.without_pairs,
                len(self),
            )

    def __len__(self) -> int:
        return len(self.index)

    @property
    def camera_names(self) -> list[str]:
        """Names of all cameras, in alphabetical order."""
        return sorted({name for maker in self.makers for name in maker.images.camera_name})

    @property
    def surface(self) -> Surface:
        """The first capture's surface."""
        return self.makers[0].images.surface

    def __getitem__(self, key: Any) -> dict[str, Any]:
        """One sample, to be put together by `collate`."""
        if key is None:
            return without_views(self[0])
        index, serial = split_key(key)
        number, instant = self.index[index]
        maker, pairs = self.makers[number], self.pairs[number][instant]
        images = maker.images
        views = images.instants[instant]
        rng = np.random.default_rng((self.seed, serial, index))
        chosen = choose_views(rng, len(views), pairs, self.slots)
        slots = [self._view(maker, int(views[i]), rng) for i in chosen]
        sample: dict[str, Any] = {name: self._padded(name, [slot[name] for slot in slots]) for name in slots[0]}
        sample["present"] = np.arange(self.slots) < len(slots)
        sample["pairs"], sample["pair_valid"] = pairs_among(chosen, pairs, self.pair_slots)
        sample["frame"] = images.frame[int(views[0])]
        sample["origin"] = images.origin.tolist()
        if self.truth:
            vertices = images.vertices[instant]
            sample["posed"] = np.asarray(vertices is not None)
            sample["vertices"] = np.zeros_like(self.surface.vertices, np.float32) if vertices is None else vertices
        names = [images.camera_name[int(views[i])] for i in chosen]
        sample["camera_name"] = names + [""] * (self.slots - len(names))
        return sample

    def _view(self, maker: ViewMaker, view: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        matrix = maker.draw(rng)
        image, mask = maker.picture(view, matrix, rng, self.masks)
        slot = {"image": image, **maker.camera(view, matrix)}
        if mask is not None:
            slot["mask"] = mask
        if self.labels:
            slot |= maker.targets(view, matrix)
            slot["has_label"] = np.asarray(maker.images.label_row[view] >= 0 or view in maker.images.points)
        if self.joint_names:
            slot["joints"] = maker.joints(view, matrix)
        if self.temporal:
            slot |= maker.next_view(view, matrix, rng)
        return slot

    def _padded(self, name: str, arrays: list[np.ndarray]) -> np.ndarray:
        """Stack the views; empty slots repeat the first view's camera and are otherwise zero."""
        empty = arrays[0] if name in CAMERA else np.zeros_like(arrays[0])
        return np.stack(arrays + [empty] * (self.slots - len(arrays)))


def without_views(sample: dict[str, Any]) -> dict[str, Any]:
    """Return the sample with all of its views, pairs and labels marked as absent."""
    marks = ("present", "pair_valid", "has_label", "posed")
    return sample | {name: np.zeros_like(sample[name]) for name in marks if name in sample}
