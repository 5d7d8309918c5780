"""All views of a part of a capture in memory, read once: images, cameras, labels, masks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from dkp.captures import Capture, DenseLabel, View
from dkp.captures.images import Item, Result, in_threads
from dkp.captures.video import OnBad
from dkp.data.augmentation import map_points, warp_image
from dkp.data.cells import DenseCoordinates, PointCoordinates, cell_centres, sample_dense
from dkp.data.flow import NextViews, next_views
from dkp.data.squares import fit, resized, undistorted
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.surface import Surface

logger = logging.getLogger(__name__)

RELATIVE_GAP = 0.03
"""Coordinates further apart than this share of the surface's largest side (5 cm on a human) are not interpolated."""

NextFrame = Literal["no", "truth", "flow"]


@dataclass
class ReadView:
    """What is kept of one view."""

    image: np.ndarray
    camera: Camera
    mask: np.ndarray | None
    dense: DenseCoordinates | None
    faces: DenseLabel | None
    points: PointCoordinates | None


class CaptureImages:
    """The views of one split of a capture, square, undistorted and of one size, in memory.

    Views larger than `side` are reduced (by area; labels at the pixel centres, see `sample_dense`) and the cameras
    follow; views that are not square are padded on the right or below. Workers that are forked share the memory.

    Args:
        capture: an open capture.
        split: name of a split; None = all instants.
        side: greatest side of the stored images [px]; twice the size of the network's input keeps an augmentation
            that is warped from here sharp. None = the largest view's.
        labels: read labels; False saves three quarters of the memory.
        require_labels: keep labelled views only.
        charts: also store part and chart coordinates of every labelled pixel.
        cameras: keep these cameras only.
        frames: keep these frames only (of the split).
        joints: names of joints to keep, in order.
        next_frame: also keep where each pixel goes in the next frame of the same camera: "truth" by the known posed
            surface, "flow" by optical flow (OpenCV's DIS), "no" not at all.
        min_foreground: views whose labels (with `require_labels`) or masks show fewer pixels than this, counted at the
            stored size, are skipped.
        truth: also read the posed surface of every instant, where it is known.
        on_bad: "skip" leaves out views of which a file is missing, damaged or holds no numbers, with a warning that
            counts them (and takes such a posed surface for unknown); "raise" ends with an error.
        threads: threads that read files; None = one per core.

    Raises:
        InputError: no view is left, a camera is unknown, what `next_frame` needs is missing, or data are bad and
            `on_bad` is "raise".

    Attributes:
        images: (N, S, S, 3) uint8 RGB.
        intrinsics, rotation, translation: (N, 3, 3) [px], (N, 3, 3), (N, 3) [m], float64, of the stored images.
        mean_colour: (N, 3) float, of each image.
        label_row: (N,) index into the label arrays, -1 where a view has no dense label.
        coordinate, foreground, known: (L, S, S, 3) float16 [m], (L, S, S) bool, (L, S, S) bool.
        part, uv: (L, S, S) uint8 and (L, S, S, 2) float16, or None.
        points: labelled points, by view.
        mask_row, masks: (N,) index into (M, S, S) bool, -1 where a view has no mask.
        joints: (N, J, 3) x, y [px], confidence (0 where missing).
        frame, camera_name, domain: lists of N.
        instants: for each instant the indices of its views.
        vertices: for each instant the posed surface (V, 3) float32 [m], or None; an empty list without `truth`.
        skipped: number of views left out for want of foreground.
        bad: what was wrong with each view or posed surface that was left out.
    """

    def __init__(
        self,
        capture: Capture,
        split: str | None = None,
        side: int | None = None,
        *,
        labels: bool = True,
        require_labels: bool = False,
        charts: bool = False,
        cameras: Sequence[str] | None = None,
        frames: Sequence[str] | None = None,
        joints: Sequence[str] = (),
        next_frame: NextFrame = "no",
        min_foreground: int = 16,
        truth: bool = False,
        on_bad: OnBad = "skip",
        threads: int | None = None,
    ) -> None:
        self.name = f"{capture.path}" + (f" split {split!r}" if split else "")
        self.capture_name = capture.name
        self.joint_names = tuple(joints)
        self.surface: Surface = capture.surface
        self.gap = RELATIVE_GAP * 2 * float(np.max(self.surface.bounds[1]))
        self._capture = capture
        self._charts = charts
        self._labels = labels or require_labels
        self._faces = next_frame == "truth"
        views = self._choose(capture, split, cameras, frames, require_labels)
        largest = max(max(view.size) for view in views)
        self.side = largest if side is None else min(side, largest)
        self.on_bad = on_bad
        self.bad: list[str] = []
        views, read = self._read_all(views, threads)
        keep = [i for i, one in enumerate(read) if enough_foreground(one, require_labels, min_foreground)]
        self.skipped = len(read) - len(keep)
        if not keep:
            what = "label" if require_labels else "mask"
            raise InputError(
                f"{self.name}: none of its {len(read)} views has a {what} with {min_foreground} or more pixels of "
                f"foreground at {self.side}x{self.side}"
            )
        if self.skipped:
            logger.warning("%s: skipped %d of %d views without foreground", self.name, self.skipped, len(read))
        self.views = [views[i] for i in keep]
        self._store([read[i] for i in keep])
        self.next: NextViews | None = None
        self.vertices: list[np.ndarray | None] = []
        if truth:
            frames = [self.frame[int(views[0])] for views in self.instants]
            found = in_threads(self._or_problem(self._posed), frames, threads)
            self.vertices = self._sound(found, "posed surfaces")
        if next_frame != "no":
            self.next = next_views(capture, self, [read[i].faces for i in keep], next_frame, threads)
        del self._capture

    def __len__(self) -> int:
        return len(self.views)

    def _choose(
        self,
        capture: Capture,
        split: str | None,
        cameras: Sequence[str] | None,
        frames: Sequence[str] | None,
        require_labels: bool,
    ) -> list[View]:
        unknown = [name for name in cameras or () if name not in capture.cameras]
        if unknown:
            raise InputError(f"{self.name} has no camera {unknown[0]!r}, expected one of {', '.join(capture.cameras)}")
        wanted = None if frames is None else set(frames)
        instants = [one for one in capture.instants(split) if wanted is None or one.frame in wanted]
        views = [view for one in instants for view in one.views if cameras is None or view.camera in cameras]
        if not views:
            raise InputError(f"{self.name} has no views" + (" of the chosen cameras" if cameras else ""))
        if require_labels:
            labelled = [view for view in views if view.label or view.points]
            if not labelled:
                raise InputError(f"{self.name}: none of its {len(views)} views has a label")
            views = labelled
        return views

    def _read_all(self, views: list[View], threads: int | None) -> tuple[list[View], list[ReadView]]:
        """The views that can be read, and what they hold."""
        found = self._sound(in_threads(self._or_problem(self._read), views, threads), "views")
        kept = [(view, one) for view, one in zip(views, found, strict=True) if one is not None]
        if not kept:
            raise InputError(f"{self.name}: none of its {len(views)} views can be read; the first: {self.bad[0]}")
        return [view for view, _ in kept], [one for _, one in kept]

    def _or_problem(self, function: Callable[[Item], Result]) -> Callable[[Item], Result | InputError]:
        """The function, returning what is wrong instead of raising it, where bad data are skipped."""

        def attempt(item: Item) -> Result | InputError:
            try:
                return function(item)
            except InputError as error:
                if self.on_bad == "raise":
                    raise InputError(f"{error}; data.on_bad skip leaves such data out") from error
                return error

        return attempt

    def _sound(self, found: Sequence[Result | InputError | None], what: str) -> list[Result | None]:
        """None in place of what is bad, with one warning for all."""
        problems = [str(one) for one in found if isinstance(one, InputError)]
        if problems:
            self.bad += problems
            logger.warning(
                "%s: skipped %d of %d %s that cannot be used; the first: %s",
                self.name, len(problems), len(found), what, problems[0],
            )  # fmt: skip
        return [None if isinstance(one, InputError) else one for one in found]

    def _read(self, view: View) -> ReadView:
        capture, side = self._capture, self.side
        image = capture.image(view)
        camera = capture.camera(view)
        mask = capture.mask(view)
        label = capture.label(view) if self._labels or self._faces else None
        points = capture.points(view) if self._labels else None
        pixels = None if points is None else np.asarray(points.pixels, np.float64)
        if bool(camera.distortion.any()):
            if pixels is not None:
                pixels = camera.undistort(torch.from_numpy(pixels)).numpy()
            image, mask, label = undistorted(camera, image, mask, label)
            camera = camera.without_distortion()
        scale = fit(view.size, side)
        camera = camera.transform(torch.from_numpy(scale), side, side)
        dense = self._dense(label) if label is not None and self._labels else None
        if dense is not None and view.size != (side, side):
            dense = sample_dense(dense, map_points(np.linalg.inv(scale), cell_centres(side, 1)), self.gap)
        sparse = None
        if points is not None and pixels is not None:
            sparse = PointCoordinates(
                map_points(scale, pixels), self.surface.coordinates(points.face, points.barycentric)
            )
            if self._charts:
                sparse.part, sparse.uv = self.surface.charts(points.face, points.barycentric)
        return ReadView(
            resized(image, side),
            camera,
            None if mask is None else warp_image(mask.astype(np.uint8), scale, side, nearest=True) > 0,
            dense,
            label if self._faces else None,
            sparse,
        )

    def _posed(self, frame: str) -> np.ndarray | None:
        vertices = self._capture.truth(frame)
        return None if vertices is None else vertices.astype(np.float32)

    def _dense(self, label: DenseLabel) -> DenseCoordinates:
        foreground = label.foreground
        face, barycentric = label.face[foreground], label.barycentric[foreground]
        coordinate = np.zeros((*foreground.shape, 3), np.float16)
        coordinate[foreground] = self.surface.coordinates(face, barycentric)
        dense = DenseCoordinates(coordinate, foreground, label.known_pixels)
        if self._charts:
            dense.part = np.zeros(foreground.shape, np.uint8)
            dense.uv = np.zeros((*foreground.shape, 2), np.float16)
            dense.part[foreground], dense.uv[foreground] = self.surface.charts(face, barycentric)
        return dense

    def _store(self, read: list[ReadView]) -> None:
        count, side = len(read), self.side
        self.images = np.stack([one.image for one in read])
        self.mean_colour = self.images.reshape(count, -1, 3).mean(axis=1)
        cameras = Camera.stack([one.camera for one in read])
        self.intrinsics = cameras.intrinsics.double().numpy().copy()
        self.rotation = cameras.rotation.double().numpy().copy()
        self.translation = cameras.translation.double().numpy().copy()
        dense = [one.dense for one in read if one.dense is not None]
        self.label_row = rows([one.dense is not None for one in read])
        self.coordinate = stack([one.coordinate.astype(np.float16) for one in dense], (side, side, 3), np.float16)
        self.foreground = stack([one.foreground for one in dense], (side, side), bool)
        self.known = stack([one.known for one in dense], (side, side), bool)
        self.part = self.uv = None
        if self._charts:
            self.part = stack([one.part for one in dense], (side, side), np.uint8)
            self.uv = stack([one.uv for one in dense], (side, side, 2), np.float16)
        self.points = {i: one.points for i, one in enumerate(read) if one.points is not None}
        self.mask_row = rows([one.mask is not None for one in read])
        self.masks = stack([one.mask for one in read if one.mask is not None], (side, side), bool)
        self.frame = [view.frame for view in self.views]
        self.camera_name = [view.camera for view in self.views]
        self.domain = [view.domain for view in self.views]
        self.joints = self._joints()
        groups: dict[str, list[int]] = {}
        for index, frame in enumerate(self.frame):
            groups.setdefault(frame, []).append(index)
        self.instants = [np.asarray(indices) for indices in groups.values()]

    def _joints(self) -> np.ndarray:
        joints = np.zeros((len(self.views), len(self.joint_names), 3), np.float32)
        for row, view in enumerate(self.views):
            scale = fit(view.size, self.side)
            for column, name in enumerate(self.joint_names):
                found = (view.joints or {}).get(name)
                if found is not None and np.isfinite(found).all():
                    joints[row, column, :2] = map_points(scale, np.asarray(found[:2], np.float64))
                    joints[row, column, 2] = found[2]
        return joints

    @property
    def labelled(self) -> np.ndarray:
        """(N,) bool: views with a dense or sparse label."""
        labelled = self.label_row >= 0
        labelled[list(self.points)] = True
        return labelled

    def label(self, index: int) -> DenseCoordinates | None:
        """The dense label of a view, as views into the stored arrays, or None."""
        row = self.label_row[index]
        if row < 0:
            return None
        label = DenseCoordinates(self.coordinate[row], self.foreground[row], self.known[row])
        if self.part is not None and self.uv is not None:
            label.part, label.uv = self.part[row], self.uv[row]
        return label

    def mask(self, index: int) -> np.ndarray | None:
        """(S, S) bool mask of a view, or None."""
        row = self.mask_row[index]
        return None if row < 0 else self.masks[row]

    def nbytes(self) -> int:
        """Bytes of the stored arrays."""
        arrays = [value for value in vars(self).values() if isinstance(value, np.ndarray)]
        return sum(array.nbytes for array in arrays) + (0 if self.next is None else self.next.nbytes())


def enough_foreground(read: ReadView, by_label: bool, least: int) -> bool:
    """Whether a view's label (or its mask, where it has one) shows enough of the surface to be of use."""
    if by_label:
        dense = read.dense is not None and int(read.dense.foreground.sum()) >= least
        return dense or (read.points is not None and len(read.points.pixels) > 0)
    return read.mask is None or int(read.mask.sum()) >= least


def rows(there: Sequence[bool]) -> np.ndarray:
    """Running numbers of the true entries, -1 at the others."""
    flags = np.asarray(there, bool)
    return np.where(flags, np.cumsum(flags) - 1, -1)


def stack(arrays: Sequence[np.ndarray | None], shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Arrays stacked, also where there are none."""
    there = [array for array in arrays if array is not None]
    return np.stack(there) if there else np.zeros((0, *shape), dtype)
