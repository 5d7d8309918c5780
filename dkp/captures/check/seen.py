"""What a detector sees in views without joints: where the surface's joints are, and how they move."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from scipy.spatial import cKDTree

from dkp.captures.capture import Capture
from dkp.captures.check.evidence import in_order, looks_of, source_pixels
from dkp.captures.check.hypotheses import SEEN, Looks
from dkp.captures.check.images import ROOM, Detector, chosen_rows, values_at
from dkp.captures.check.judge import listed
from dkp.captures.check.subject_point import spread
from dkp.captures.crops import square_box
from dkp.captures.manifest import Instant, View
from dkp.surface import Surface

_POINTS, _SAME = 150, 0.12  # points of the surface that are looked for in fields, and how near [m] a cell must be
_LOOKED_AT, _LEAST_SHARED = 4, 0.4  # instants whose masks are compared with what is seen; right masks share 0.58
_SMALL = 0.5  # share of a square; whoever fills less is looked at again from near
_AROUND, _LEAST_CELLS = 0.15, 6  # m about a point whose cells move with it, and how many there must be
_BLOCK, _MOST_BLOCKS, _MOST_VIEWS = 24, 4, 400  # instants that are followed from one, and how often; views in all
_GAP = 1.5  # of the usual time between instants, from which what moves is not followed
_WINDOW, _ROUND_TRIP = (13, 13), 0.3  # px: what is followed about a cell, and how near to it the way back must end


def seen_points(capture: Capture, instants: Sequence[Instant], detector: Detector, surface: Surface) -> Looks:
    """Return where a detector sees the surface's joints (or else some points of it) in the views of some instants.

    A joint is the middle of the cells that are near it on the surface, from whichever side they are seen.
    """
    points, names = _points(surface), list(surface.joints)
    instants = [instants[row] for row in chosen_rows(len(instants), len(capture.cameras))]
    pixels = np.full((len(instants), len(capture.cameras), len(points), 2), np.nan)
    for row, instant in enumerate(instants):
        for view, (cells, coordinates) in zip(instant.views, _fields(capture, instant.views, detector), strict=True):
            near = cKDTree(coordinates).query_ball_point(points, _SAME)
            found = np.array([cells[one].mean(axis=0) if one else (np.nan, np.nan) for one in near])
            seen = np.isfinite(found[:, 0])
            pixels[row, [*capture.cameras].index(view.camera), seen] = source_pixels(capture, view, found[seen])
    return looks_of(capture, instants, SEEN, pixels, names)


def followed_points(capture: Capture, instants: Sequence[Instant], detector: Detector, surface: Surface) -> Looks:
    """Return where the surface's joints move to, from where a detector sees them in the middle of some blocks of time.

    What a detector sees shakes from image to image. So its cells are followed by their texture (Lucas and Kanade) and
    a joint moves by the median of the cells near it. Each block's joints are points of their own.
    """
    points, cameras, ordered = _points(surface), list(capture.cameras), in_order(instants)
    count = max(1, min(_MOST_BLOCKS, len(ordered) // _BLOCK, _MOST_VIEWS // (_BLOCK * len(cameras))))
    starts = np.linspace(0, max(len(ordered) - _BLOCK, 0), count).astype(int).tolist()
    blocks = [ordered[start : start + _BLOCK] for start in starts]
    pixels = np.full((sum(map(len, blocks)), len(cameras), count * len(points), 2), np.nan)
    first = 0
    for number, block in enumerate(blocks):
        middle = len(block) // 2
        fields = _fields(capture, block[middle].views, detector)
        for view, (cells, coordinates) in zip(block[middle].views, fields, strict=True):
            if len(cells) < _LEAST_CELLS:
                continue
            later = [{one.camera: one for one in instant.views}.get(view.camera) for instant in block]
            views = [one if near else None for one, near in zip(later, _uninterrupted(block), strict=True)]
            moved = _followed(capture, views, middle, cells)
            near = cKDTree(coordinates).query_ball_point(points, _AROUND)
            column = cameras.index(view.camera)
            for time in range(len(block)):
                steps = moved[time] - moved[middle]
                for point, some in enumerate(near):
                    known = steps[some][np.isfinite(steps[some, 0])]
                    if len(known) >= _LEAST_CELLS:
                        place = moved[middle][some].mean(axis=0) + np.median(known, axis=0)
                        pixels[first + time, column, number * len(points) + point] = place
        first += len(block)
    return looks_of(capture, [instant for block in blocks for instant in block], SEEN, pixels, [])


def _uninterrupted(block: Sequence[Instant]) -> np.ndarray:
    """Return which instants (T,) of a block belong to the take of the middle one, without a gap in time between."""
    steps = np.diff([instant.time for instant in block])
    other = np.array([one.sequence != after.sequence for one, after in pairwise(block)], dtype=bool)
    usual = np.median(steps[~other]) if (~other).any() else np.inf
    take = np.append(0, np.cumsum(other | (steps > _GAP * usual)))
    return np.asarray(take == take[len(block) // 2])


def _points(surface: Surface) -> np.ndarray:
    some = np.linspace(0, len(surface.vertices) - 1, _POINTS).astype(int)
    return np.array(list(surface.joints.values())) if surface.joints else surface.vertices[some]


def _fields(capture: Capture, views: Sequence[View], detector: Detector) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the cells (N, 2) [px of the view] in which a detector sees the surface, and their coordinates (N, 3)."""
    images, boxes = [capture.image(view) for view in views], [_box(view, capture.mask(view)) for view in views]
    found = _looked(images, boxes, detector)
    sides = [np.ptp(cells, axis=0).max() if len(cells) else np.inf for cells, _ in found]
    again = [row for row, side in enumerate(sides) if side < _SMALL * (boxes[row][2] - boxes[row][0])]
    nearer = [square_box(np.concatenate([found[row][0].min(axis=0), found[row][0].max(axis=0)]), ROOM) for row in again]
    for row, seen in zip(again, _looked([images[row] for row in again], nearer, detector), strict=True):
        found[row] = seen
    return found


def _box(view: View, mask: np.ndarray | None) -> np.ndarray:
    """Return the square (4,) in which the subject is looked for: a whole crop, as it is around it, else by the mask."""
    if view.crop is not None or mask is None or not mask.any():
        return square_box(np.array([0, 0, *view.size], float), 0.0)
    rows, columns = np.nonzero(mask)
    return square_box(np.array([columns.min(), rows.min(), columns.max(), rows.max()], float), ROOM)


def seen_mask_sentences(capture: Capture, instants: Sequence[Instant], detector: Detector) -> list[str]:
    """Say which cameras' masks are not where a detector sees the subject, of a few instants."""
    shares: dict[str, list[float]] = {}
    for instant in spread(instants, _LOOKED_AT):
        shown = [(view, mask) for view in instant.views if (mask := capture.mask(view)) is not None]
        squares = [(capture.image(view), _box(view, mask)) for view, mask in shown]
        for (view, mask), (_, box), field in zip(shown, squares, detector(squares), strict=True):
            cells = np.indices(field.shape[:2])[::-1].transpose(1, 2, 0) + 0.5
            held = values_at(mask, box[:2] + cells / field.shape[1::-1] * (box[2:] - box[:2]))
            seen, held = np.isfinite(field[..., 0]) & np.isfinite(held), held == 1
            shares.setdefault(view.camera, []).append((seen & held).sum() / max(1, (seen | held).sum()))
    off = {name: float(share) for name, some in shares.items() if (share := np.median(some)) < _LEAST_SHARED}
    if not off:
        return []
    return [
        f"the masks of {listed(list(off), len(capture.cameras))} have {100 * np.median(list(off.values())):.0f} % in "
        "common with what a detector sees there (intersection over union): they are not of the subject, or it is one "
        "that the detector does not know"
    ]


def _looked(
    images: Sequence[np.ndarray], boxes: Sequence[np.ndarray], detector: Detector
) -> list[tuple[np.ndarray, np.ndarray]]:
    found = []
    for box, field in zip(boxes, detector(list(zip(images, boxes, strict=True))) if images else (), strict=True):
        rows, columns = np.nonzero(np.isfinite(field[..., 0]))
        cells = (np.stack([columns, rows], -1) + 0.5) / field.shape[1::-1]
        found.append((box[:2] + cells * (box[2:] - box[:2]), field[rows, columns].reshape(-1, 3)))
    return found


def _followed(capture: Capture, views: Sequence[View | None], middle: int, cells: np.ndarray) -> np.ndarray:
    """Follow cells (N, 2) [px] of the middle one of a camera's views: (T, N, 2) [px of the camera], NaN where lost."""
    low, high = cells.min(axis=0), cells.max(axis=0)
    reach = (high - low).max() / 2  # that far they may move
    corner = np.maximum(np.floor(low - reach), 0).astype(int)
    end = np.ceil(high + reach).astype(int)
    result = np.full((len(views), *cells.shape), np.nan)

    def grey(time: int) -> np.ndarray | None:
        view = views[time] if 0 <= time < len(views) else None
        if view is None:
            return None
        image = capture.image(view)[corner[1] : end[1], corner[0] : end[0]]
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))

    def put(time: int, there: np.ndarray, known: np.ndarray) -> None:
        view = views[time]
        if view is not None:
            result[time, known] = source_pixels(capture, view, there[known] + corner + 0.5)

    start = (cells - corner - 0.5).astype(np.float32)
    put(middle, start, np.ones(len(cells), bool))
    for step in (1, -1):
        time, here, known, image = middle, start, np.ones(len(cells), bool), grey(middle)
        while image is not None and known.any() and (following := grey(time + step)) is not None:
            there, ok, _ = cv2.calcOpticalFlowPyrLK(image, following, here, here.copy(), winSize=_WINDOW, maxLevel=2)
            back, _, _ = cv2.calcOpticalFlowPyrLK(following, image, there, there.copy(), winSize=_WINDOW, maxLevel=2)
            known = known & (ok.ravel() > 0) & (np.abs(back - here).max(axis=1) < _ROUND_TRIP)
            time, here, image = time + step, there, following
            put(time, here, known)
    return result
