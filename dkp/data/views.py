"""One view as the network sees it: one warp from the stored image to the augmented crop, and its camera and labels."""

import logging
from typing import Any, Literal

import numpy as np

from dkp.data.augmentation import (
    Augmentation,
    Geometric,
    Photometric,
    follow,
    map_points,
    mirrored,
    warp_image,
)
from dkp.data.cache import CaptureImages
from dkp.data.cells import DenseCoordinates, cell_centres, place_points, sample_dense
from dkp.data.flow import flow_at
from dkp.data.surroundings import Around, inner
from dkp.errors import InputError

logger = logging.getLogger(__name__)

HideBackground = Literal["no", "constant", "noise"]

SEED_LIMIT = 2**31


class ViewMaker:
    """Makes samples of single views.

    Args:
        images: the views in memory.
        size: side S of the network's input [px].
        stride: input pixels per cell of the field; a field has S / stride cells a side.
        augmentation: None = the images as they are.
        hide_background: "constant" paints what is not the surface black, "noise" paints it with random colours, "no"
            leaves it. Views without a mask stay as they are, and a warning counts them.
        background_from_label: which mask hides it: the label's foreground (for labelled views), or the capture's own
            mask.

    Raises:
        InputError: the size does not fit the stride, or the surface has no left and right to be mirrored.
    """

    def __init__(
        self,
        images: CaptureImages,
        size: int,
        stride: int,
        augmentation: Augmentation | None = None,
        hide_background: HideBackground = "no",
        background_from_label: bool = False,
    ) -> None:
        if size <= 0 or stride <= 0 or size % stride:
            raise InputError(f"size is {size} where a multiple of the stride {stride} is expected")
        self.images = images
        self.size = size
        self.stride = stride
        self.cells = size // stride
        self.hide_background = hide_background
        self.background_from_label = background_from_label
        self.augmentation = augmentation
        self._resize = np.diag([size / images.side, size / images.side, 1.0])
        self._centres = cell_centres(self.cells, stride)
        self._pixels = cell_centres(size, 1)
        self._photometric = Photometric(augmentation) if augmentation else None
        self._geometric = Geometric(augmentation) if augmentation and augmentation.geometric > 0 else None
        if hide_background != "no":
            bare = sum(self._surface_mask(index) is None for index in range(len(images)))
            if bare:
                logger.warning(
                    "%s: %d of %d views have no mask and keep their background", images.name, bare, len(images)
                )
        if augmentation and augmentation.mirror > 0:
            if images.surface.mirror is None:
                raise InputError(f"{images.name}: augmentation.mirror needs a surface with left and right")
            if images.part is not None:
                raise InputError("augmentation.mirror is for coordinate labels where chart labels were asked for")

    def draw(self, rng: np.random.Generator, mirror: bool = False) -> np.ndarray:
        """Draw the map from stored pixels to the crop's, (3, 3); the identity but for size without augmentation."""
        matrix = self._resize
        if self._geometric is not None:
            matrix = matrix @ self._geometric.matrix(int(rng.integers(SEED_LIMIT)), self.images.side)
        return mirrored(matrix, self.size) if mirror else matrix

    def draw_mirror(self, rng: np.random.Generator) -> bool:
        """Whether this sample is mirrored."""
        return (
            self.augmentation is not None and self.augmentation.mirror > 0 and rng.random() < self.augmentation.mirror
        )

    def picture(
        self,
        index: int,
        matrix: np.ndarray,
        rng: np.random.Generator,
        with_mask: bool,
        around: Around | None = None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the image of a view.

        Returns:
            image (S, S, 3) uint8 RGB; mask (S, S) bool, empty where the view has none, or None.
        """
        images = self.images
        fill = tuple(images.mean_colour[index].tolist())
        image = warp_image(images.images[index], matrix, self.size, fill)
        if around is not None:
            surface = self._surface_mask(index)
            if surface is not None:
                image = around.compose(image, inner(warp_image(surface.astype(np.uint8) * 255, matrix, self.size)))
        if self._photometric is not None:
            image = self._photometric(image, int(rng.integers(SEED_LIMIT)))
        mask = None
        if with_mask:
            stored = images.mask(index)
            mask = np.zeros((self.size, self.size), bool) if stored is None else self._warp_mask(stored, matrix)
        hide = self.hide_background
        bare = 0.0 if self.augmentation is None else self.augmentation.without_background
        if bare > 0 and hide == "no" and rng.random() < bare:
            hide = "constant"
        stored = None if hide == "no" else self._surface_mask(index)
        if stored is not None:
            hidden = ~self._warp_mask(stored, matrix)
            if around is not None:
                hidden |= around.hidden(self._pixels)
            image = np.where(hidden[..., None], self._curtain(hide, rng), image)
        return image, mask

    def _surface_mask(self, index: int) -> np.ndarray | None:
        row = self.images.label_row[index]
        if self.background_from_label and row >= 0:
            return self.images.foreground[row] | ~self.images.known[row]
        return self.images.mask(index)

    def _warp_mask(self, mask: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        return warp_image(mask.astype(np.uint8) * 255, matrix, self.size) > 127

    def _curtain(self, hide: HideBackground, rng: np.random.Generator) -> np.ndarray:
        if hide == "noise":
            return rng.integers(0, 256, (self.size, self.size, 3), dtype=np.uint8)
        return np.zeros((1, 1, 3), np.uint8)

    def camera(self, index: int, matrix: np.ndarray) -> dict[str, np.ndarray]:
        """Return the camera of the crop: "intrinsics", "rotation" and "translation"."""
        images = self.images
        parts = follow(matrix, images.intrinsics[index], images.rotation[index], images.translation[index])
        return dict(zip(("intrinsics", "rotation", "translation"), parts, strict=True))

    def targets(
        self, index: int, matrix: np.ndarray, mirror: bool = False, around: Around | None = None
    ) -> dict[str, np.ndarray]:
        """Return the label at the field's cells; all unknown where the view has none.

        Args:
            index: the view.
            matrix: from `draw`.
            mirror: whether the image is mirrored.
            around: the surroundings of the image; what stands before the surface is background.

        Returns:
            "coordinate" (3, H, W) float32 [m], "foreground" and "known" (H, W) bool and, where the charts are in
            memory, "part" (H, W) long and "uv" (2, H, W).
        """
        label = self._cells(index, matrix)
        if around is not None:
            label.foreground = label.foreground & ~around.hidden(self._centres)
        if mirror:
            shown = label.foreground
            label.coordinate[shown] = self.images.surface.mirror_coordinates(label.coordinate[shown])
        targets = {
            "coordinate": np.ascontiguousarray(label.coordinate.transpose(2, 0, 1)),
            "foreground": label.foreground,
            "known": label.known,
        }
        if self.images.part is not None:
            cells = (self.cells, self.cells)
            part = np.zeros(cells, np.int64) if label.part is None else label.part.astype(np.int64)
            uv = np.zeros((*cells, 2), np.float32) if label.uv is None else label.uv.astype(np.float32)
            targets |= {"part": part, "uv": np.ascontiguousarray(uv.transpose(2, 0, 1))}
        return targets

    def _cells(self, index: int, matrix: np.ndarray) -> DenseCoordinates:
        pixels = map_points(np.linalg.inv(matrix), self._centres)
        dense = self.images.label(index)
        if dense is not None:
            return sample_dense(dense, pixels, self.images.gap)
        points = self.images.points.get(index)
        if points is not None:
            mask = self.images.mask(index)
            background = None
            if mask is not None:
                column, row = np.floor(pixels).astype(np.intp).clip(0, self.images.side - 1).transpose(2, 0, 1)
                background = ~mask[row, column]
            return place_points(points, map_points(matrix, points.pixels), self.cells, self.stride, background)
        nothing = np.zeros((self.cells, self.cells), bool)
        return DenseCoordinates(np.zeros((self.cells, self.cells, 3), np.float32), nothing, nothing.copy())

    def joints(self, index: int, matrix: np.ndarray) -> np.ndarray:
        """(J, 3) joints of a view: x, y [px] in the crop, confidence."""
        joints = self.images.joints[index].copy()
        joints[:, :2] = map_points(matrix, joints[:, :2])
        return joints

    def next_view(self, index: int, matrix: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return the next frame of the same camera, with its own augmentation, and where each cell goes in it.

        Returns:
            "next_image" (S, S, 3) uint8, "flow" (2, H, W) float32 [px], "flow_valid" (H, W) bool. Without a next frame
            the image is the view's own and no cell is valid.
        """
        found = self.images.next
        assert found is not None
        other = int(found.view[index])
        after = self.draw(rng)
        image, _ = self.picture(other if other >= 0 else index, after, rng, with_mask=False)
        flow = np.zeros((self.cells, self.cells, 2))
        valid = np.zeros((self.cells, self.cells), bool)
        if other >= 0:
            pixels = map_points(np.linalg.inv(matrix), self._centres)
            row = found.row[index]
            moved, valid = flow_at(found.flow[row], found.valid[row], pixels)
            target = map_points(after, pixels + moved)
            valid = valid & ((target >= 0) & (target < self.size)).all(axis=-1)
            flow = np.where(valid[..., None], target - self._centres, 0.0)
        return {
            "next_image": image,
            "flow": np.ascontiguousarray(flow.transpose(2, 0, 1), dtype=np.float32),
            "flow_valid": valid,
        }


def split_key(key: Any) -> tuple[int, int]:
    """Return an index, or an (index, serial number) from `KeyedSampler`, as both."""
    if isinstance(key, tuple):
        return int(key[0]), int(key[1])
    return int(key), 0
