"""What the views agree on: the visual hull of static cameras' foregrounds, and what of it each camera sees.

A point of space belongs to the hull where every camera that has it in its image sees foreground there (Laurentini
1994); of four cameras or more, one may miss it. What only one camera takes for foreground, such as someone who walks
behind the rig, has no point in it. A mirror image in the floor has, as all cameras see it where the mirrored subject
would be: it goes where the floor is known (:mod:`dkp.importers.floor`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from scipy import ndimage

from dkp.captures.crops import apply_affine, invert_affine
from dkp.importers.appearance import Appearance
from dkp.importers.boxes import smooth_boxes
from dkp.importers.subject import Lens, Track, add_outline, packed, packed_heights, unpacked, unpacked_heights
from dkp.workers import Workers

logger = logging.getLogger(__name__)

_CELLS = 40
"""Cells along each side of the grid."""
_REACH = 0.6
"""Half of the side of the space that is searched, as a share of the cameras' distance from its middle."""
_ROUNDS = 4  # the grid shrinks to what was found
_ENOUGH = 4  # cameras that see a point, from which one may miss it: a dark subject before something dark
_FAR = 1e6  # px: outside of every image
_NEAR_FLOOR = 0.1  # share of the subject's size up to which no camera may miss a point, lest mirror images fill gaps
_THICK = 0.15  # of the mask's width: cells reach as far beyond a mask
_MUCH = 0.3  # of the mask's area: a head before something dark, say
_RUN = 25  # frames that one process looks at in turn
_Masks = dict[str, bytes]
_Agreed = dict[str, tuple[bytes, bytes | None]]


def meeting_point(centres: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return the point (3,) nearest to all lines through centres (N, 3) with unit directions (N, 3)."""
    across = np.eye(3) - directions[:, :, None] * directions[:, None]
    return np.asarray(np.linalg.lstsq(across.sum(0), np.einsum("nij,nj->i", across, centres), rcond=None)[0])


class Hull:
    """Where the foregrounds of several cameras meet.

    Args:
        lenses: camera -> lens.
        sizes: camera -> (width, height) of its frames [px].
        floor: z of a floor [m] below which nothing is; None = there is none.

    Attributes:
        floor: (3,) slopes along x and y, and z [m] at the origin, of the floor; None = there is none.
    """

    def __init__(
        self, lenses: Mapping[str, Lens], sizes: Mapping[str, tuple[int, int]], floor: float | None = None
    ) -> None:
        self.lenses = dict(lenses)
        self.sizes = dict(sizes)
        self.floor = None if floor is None else np.array([0.0, 0.0, floor])
        centres = np.array([lens.camera.centre().numpy() for lens in lenses.values()])
        axes = np.array([lens.camera.rotation[2].numpy() for lens in lenses.values()])
        middle = meeting_point(centres, axes)
        reach = _REACH * float(np.median(np.linalg.norm(centres - middle, axis=1)))
        self.space = (middle - reach, middle + reach)

    def __call__(
        self, foregrounds: Mapping[str, np.ndarray], near: tuple[np.ndarray, np.ndarray] | None = None
    ) -> tuple[dict[str, np.ndarray], tuple[np.ndarray, np.ndarray], dict[str, np.ndarray]] | None:
        """Find what the cameras agree on at one moment.

        Args:
            foregrounds: camera -> (h, w) bool, of any size.
            near: corners (3,) (3,) [m] of where the subject was a moment ago; None = it is searched everywhere.

        Returns:
            Camera -> (h, w) bool, the part of its foreground that the others confirm; the corners of where the subject
            is; and camera -> (h, w) how high above the floor a pixel shows something at most, as a share of the
            subject's size, -1 where it shows nothing of it. None where there is nothing.
        """
        away = {
            camera: cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
            for camera, mask in foregrounds.items()
        }
        low, high = self.space if near is None else near
        for _ in range(_ROUNDS if near is None else 2):
            cell = (high - low) / _CELLS
            centres = np.stack(
                np.meshgrid(
                    *(a + c * (np.arange(_CELLS) + 0.5) for a, c in zip(low, cell, strict=True)), indexing="ij"
                ),
                -1,
            )
            views = self._agreed(away, centres.reshape(-1, 3), float(np.linalg.norm(cell)) / 2).reshape(
                centres.shape[:3]
            )
            views[self._height(centres) < 0] = 0
            parts, count = ndimage.label(views, np.ones((3, 3, 3)))
            if not count:
                return None
            cells = np.bincount(parts.ravel())[1:]
            by_views = np.bincount(parts.ravel(), views.ravel())[1:] / cells
            part = parts == 1 + np.lexsort((cells, np.round(by_views)))[-1]  # most cameras, then largest
            if near is not None and _touches(part):
                return self(foregrounds)  # it has moved on
            near, points = None, centres[part]
            low, high = np.maximum(points.min(0) - cell, low), np.minimum(points.max(0) + cell, high)
        points = self._above_floor(away, points, float(np.linalg.norm(cell)) / 2)
        heights = {camera: self._heights(camera, mask.shape, points, cell) for camera, mask in foregrounds.items()}
        found = {camera: mask & (heights[camera] >= 0) for camera, mask in foregrounds.items()}
        margin = 0.25 * (high - low).max()
        return found, (low - margin, high + margin), heights

    def pixels(self, camera: str, points: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (N, 2) of a reduced frame at which points (N, 3) lie, and how many pixels a metre has there (N,)."""
        lens = self.lenses[camera]
        at, depth = lens.camera.project(torch.from_numpy(points))
        pixels = at.numpy() if lens.frame_map is None else apply_affine(invert_affine(lens.frame_map), at.numpy())
        scale = shape[1] / self.sizes[camera][0]
        length = float(lens.camera.intrinsics[0, 0]) / np.maximum(depth.numpy(), 1e-9) * scale
        pixels = np.nan_to_num(pixels * scale, nan=-1.0).clip(-1.0, _FAR)  # beside a camera they have no end
        return np.where(depth.numpy()[:, None] > 0, pixels, -1.0), length

    def _agreed(
        self, away: Mapping[str, np.ndarray], points: np.ndarray, radius: float, missing: int = 1
    ) -> np.ndarray:
        """How many cameras (N,) have cells with these centres and radius [m] in view; 0 where they do not agree.

        Of enough cameras, ``missing`` may see background.
        """
        seen, missed = np.zeros(len(points), int), np.zeros(len(points), int)
        for camera, distance in away.items():
            pixels, length = self.pixels(camera, points, distance.shape)
            columns, rows = np.floor(pixels).astype(int).T
            view = (columns >= 0) & (rows >= 0) & (columns < distance.shape[1]) & (rows < distance.shape[0])
            missed[view] += distance[rows[view], columns[view]] > radius * length[view]
            seen += view
        return np.where((missed <= missing * (seen >= _ENOUGH)) & (seen >= 2), seen, 0)

    def _height(self, points: np.ndarray) -> np.ndarray:
        """Heights (...) [m] of points (..., 3) above the floor; infinite where there is none."""
        if self.floor is None:
            return np.full(points.shape[:-1], np.inf)
        return np.asarray(points @ [*-self.floor[:2], 1.0] - self.floor[2])

    def _above_floor(self, away: Mapping[str, np.ndarray], points: np.ndarray, radius: float) -> np.ndarray:
        """Leave out cells that touch the floor, and those close above it that a camera misses; not all of them.

        Under a subject on legs its mirror image fills the gap to the floor in most views.
        """
        height = self._height(points)
        above, low = height > radius, height < _NEAR_FLOOR * np.ptp(points, axis=0).max()
        above[low] &= self._agreed(away, points[low], radius, missing=0) > 0
        return points[above] if above.any() else points

    def _heights(self, camera: str, shape: tuple[int, ...], points: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Return what `__call__` says of one camera, of cells at points (N, 3)."""
        pixels, length = self.pixels(camera, points, (shape[0], shape[1]))
        heights = np.full(shape, -1.0, np.float32)
        columns, rows = np.floor(pixels).astype(int).T
        view = (columns >= 0) & (rows >= 0) & (columns < shape[1]) & (rows < shape[0])
        share = self._height(points[view]) / (np.ptp(points, axis=0) + cell).max()
        np.maximum.at(heights, (rows[view], columns[view]), share.astype(np.float32))
        width = 2 * int(np.ceil(np.median(length[view]) * np.linalg.norm(cell) / 2)) + 1 if view.any() else 1
        return np.asarray(cv2.dilate(heights, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))))


def _touches(part: np.ndarray) -> bool:
    """Whether cells (X, Y, Z) bool reach the border of their grid."""
    return bool(part[1:-1, 1:-1, 1:-1].sum() < part.sum())


def confirm_masks(
    hull: Hull, tracks: Mapping[str, Track], numbers: Sequence[int], margin: float, smooth: int, pool: Workers[Any, Any]
) -> None:
    """Keep of the masks in tracks what the other cameras confirm, and put the boxes around that.

    Where a floor is known, also keep heights above it, and learn from the tracks' looks what mirror images look like.
    Where the views agree on nothing in most frames, the cameras must be wrong: all stays as it is, with a warning.

    Args:
        hull: of the rig.
        tracks: camera -> what background subtraction found; changed in place.
        numbers: of the frames.
        margin: see :func:`dkp.captures.crops.square_box`.
        smooth: see :func:`dkp.importers.boxes.smooth_boxes`.
        pool: processes to work in.
    """
    frames = {n: {name: track.masks[n] for name, track in tracks.items() if n in track.boxes} for n in numbers}
    frames = {number: masks for number, masks in frames.items() if len(masks) >= 2}
    wanted = list(frames)
    runs = [{number: frames[number] for number in wanted[i : i + _RUN]} for i in range(0, len(wanted), _RUN)]
    agreed: dict[int, _Agreed] = {}
    for found in pool.map([partial(_agreed_masks, hull, run) for run in runs], "comparing views", "25 frames"):
        agreed.update(found)
    if 2 * len(agreed) < len(frames):
        logger.warning(
            "the foregrounds of the cameras have a point in common in %d of %d frames, so each is taken as it is: "
            "`dkp check` looks for what is wrong with the cameras",
            len(agreed), len(frames),
        )  # fmt: skip
        return
    for name, track in tracks.items():
        track.boxes, track.masks = {}, {n: masks[name][0] for n, masks in agreed.items() if name in masks}
        track.heights = {n: heights for n in track.masks if (heights := agreed[n][name][1]) is not None}
        if track.background is not None and track.heights:
            looks = [
                (frame, unpacked(track.masks[n]), unpacked_heights(track.heights[n]))
                for n, frame in track.looks.items()
                if n in track.masks
            ]
            track.appearance = Appearance(looks, track.background) if looks else None
        track.looks = {}
        for number, content in track.masks.items():
            mask = unpacked(content)
            if number in track.heights:
                mask |= _unseen(mask, unpacked_heights(track.heights[number]) >= 0)
            add_outline(track, number, mask, hull.sizes[name], hull.lenses[name], margin)
        track.boxes = smooth_boxes(track.boxes, smooth)
        track.found += f", in {len(track.boxes)} of which another camera agrees"


def _unseen(mask: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Return the thick parts of what the other cameras say is shown (h, w) bool that a mask (h, w) lacks, if much."""
    width = 2 * round(_THICK * np.sqrt(mask.sum())) + 1
    thick = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    unseen = cv2.morphologyEx((shown & ~mask).astype(np.uint8), cv2.MORPH_OPEN, thick) > 0
    return np.asarray(unseen if unseen.sum() > _MUCH * mask.sum() else np.zeros_like(mask))


def _agreed_masks(hull: Hull, frames: Mapping[int, _Masks]) -> dict[int, _Agreed]:
    """Return frame number -> camera -> what the others confirm of its foreground; with a floor, heights, too."""
    agreed, near = {}, None
    for number, masks in frames.items():
        foregrounds = {name: unpacked(content) for name, content in masks.items()}
        found = (near and hull(foregrounds, near)) or hull(foregrounds)
        if found is None:
            near = None
            continue
        confirmed, near, heights = found
        agreed[number] = {
            name: (packed(mask), None if hull.floor is None else packed_heights(heights[name]))
            for name, mask in confirmed.items()
            if mask.any()
        }
    return agreed
