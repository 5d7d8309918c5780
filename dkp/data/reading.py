"""Reading one view: image, camera, mask and labels as undistorted squares of one size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dkp.captures import Capture, DenseLabel, View
from dkp.captures.images import Item, OnBad, Result
from dkp.data.augmentation import map_points, warp_image
from dkp.data.cells import DenseCoordinates, PointCoordinates, cell_centres, sample_dense
from dkp.data.squares import fit, lens_map, resized, undistorted, undistorted_label
from dkp.errors import InputError
from dkp.geometry import Camera


@dataclass
class ReadView:
    """What is kept of one view."""

    image: np.ndarray
    camera: Camera
    mask: np.ndarray | None
    dense: DenseCoordinates | None
    points: PointCoordinates | None


FAR = 100.0
"""Cameras further than this from the world's origin [m] get a world of their own: float32 resolves 0.01 mm here, but
only half a metre at 5,000 km, where the origin of geographic coordinates is."""


def near_origin(cameras: Sequence[Camera]) -> np.ndarray:
    """Return the middle (3,) [m] of cameras that stand far from the world's origin; zero where they do not."""
    middle = np.mean([camera.centre().double().numpy() for camera in cameras], axis=0)
    return middle if np.linalg.norm(middle) > FAR else np.zeros(3)


class ViewReader:
    """Reads views of a capture.

    Args:
        capture: an open capture.
        side: side S of the square images [px].
        gap: coordinates of neighbouring pixels that are further apart [m] are not interpolated.
        labels: read labels.
        faces: dense labels have to be readable even where `labels` is False (they are read again for the flow).
        charts: also give part and chart coordinates of labels.

    Attributes:
        origin: (3,) float64 [m], where the world of all that is read has its origin in the capture's world; see
            `near_origin`.
    """

    def __init__(self, capture: Capture, side: int, gap: float, labels: bool, faces: bool, charts: bool) -> None:
        self.capture = capture
        self.surface = capture.surface
        self.side = side
        self.gap = gap
        self.labels = labels
        self.faces = faces
        self.charts = charts
        self.origin = near_origin(list(capture.cameras.values()))

    def read(self, view: View) -> ReadView:
        """Read a view.

        Raises:
            InputError: a file of it is missing, damaged or holds no numbers.
        """
        capture, side = self.capture, self.side
        image = capture.image(view)
        camera = capture.camera(view)
        mask = capture.mask(view)
        label = capture.label(view) if self.labels or self.faces else None
        points = capture.points(view) if self.labels else None
        pixels = None if points is None else np.asarray(points.pixels, np.float64)
        if bool(camera.distortion.any()):
            if pixels is not None:
                pixels = camera.undistort(torch.from_numpy(pixels)).numpy()
            image, mask, label = undistorted(camera, image, mask, label)
            camera = camera.without_distortion()
        scale = fit(view.size, side)
        camera = camera.transform(torch.from_numpy(scale), side, side).about(torch.from_numpy(self.origin))
        dense = self._dense(label) if label is not None and self.labels else None
        if dense is not None and view.size != (side, side):
            dense = sample_dense(dense, map_points(np.linalg.inv(scale), cell_centres(side, 1)), self.gap)
        sparse = None
        if points is not None and pixels is not None:
            sparse = PointCoordinates(
                map_points(scale, pixels), self.surface.coordinates(points.face, points.barycentric)
            )
            if self.charts:
                sparse.part, sparse.uv = self.surface.charts(points.face, points.barycentric)
        return ReadView(
            resized(image, side),
            camera,
            None if mask is None else warp_image(mask.astype(np.uint8), scale, side, nearest=True) > 0,
            dense,
            sparse,
        )

    def files(self, views: Sequence[View], truth: bool) -> list[str]:
        """Return the files that are read, relative to the capture.

        Args:
            views: which are read.
            truth: whether the posed surfaces of their instants are, too.
        """
        found: list[str | None] = []
        for view in views:
            found += [view.image, view.mask]
            found += [view.label] if self.labels or self.faces else []
            found += [view.points] if self.labels else []
        posed = [f"truth/{frame}.npz" for frame in dict.fromkeys(view.frame for view in views)] if truth else []
        return [name for name in found if name is not None] + posed

    def label(self, view: View) -> DenseLabel | None:
        """Return the dense label of a view, undistorted, of the image's own size."""
        label = self.capture.label(view)
        camera = self.capture.camera(view)
        if label is None or not bool(camera.distortion.any()):
            return label
        return undistorted_label(label, *lens_map(camera, view.size))

    def posed(self, frame: str) -> np.ndarray | None:
        """Return the posed surface of an instant, (V, 3) float32 [m], or None where it is not known.

        Raises:
            InputError: its file is damaged or holds no numbers.
        """
        vertices = self.truth(frame)
        return None if vertices is None else vertices.astype(np.float32)

    def truth(self, frame: str) -> np.ndarray | None:
        """Return the same in float64."""
        vertices = self.capture.truth(frame)
        return None if vertices is None else vertices - self.origin

    def _dense(self, label: DenseLabel) -> DenseCoordinates:
        foreground = label.foreground
        face, barycentric = label.face[foreground], label.barycentric[foreground]
        coordinate = np.zeros((*foreground.shape, 3), np.float16)
        coordinate[foreground] = self.surface.coordinates(face, barycentric)
        dense = DenseCoordinates(coordinate, foreground, label.known_pixels)
        if self.charts:
            dense.part = np.zeros(foreground.shape, np.uint8)
            dense.uv = np.zeros((*foreground.shape, 2), np.float16)
            dense.part[foreground], dense.uv[foreground] = self.surface.charts(face, barycentric)
        return dense


def enough_foreground(read: ReadView, by_label: bool, least: int) -> bool:
    """Whether a view's label (or its mask, where it has one) shows enough of the surface to be of use."""
    if by_label:
        dense = read.dense is not None and int(read.dense.foreground.sum()) >= least
        return dense or (read.points is not None and len(read.points.pixels) > 0)
    return read.mask is None or int(read.mask.sum()) >= least


def or_problem(function: Callable[[Item], Result], on_bad: OnBad) -> Callable[[Item], Result | InputError]:
    """Return the function, returning what is wrong instead of raising it, where bad data are skipped."""

    def attempt(item: Item) -> Result | InputError:
        try:
            return function(item)
        except InputError as error:
            if on_bad == "raise":
                raise InputError(f"{error}; data.on_bad skip leaves such data out") from error
            return error

    return attempt
