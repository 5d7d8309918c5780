"""Whether images are those of their joints: by the masks, and by what a detector sees in some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from dkp.captures.capture import Capture
from dkp.captures.check.evidence import stored_pixels
from dkp.captures.check.hypotheses import Looks, later_rows
from dkp.captures.check.judge import EXPLAINS, Finding, listed
from dkp.captures.check.silhouettes import grown
from dkp.captures.crops import square_box
from dkp.captures.manifest import Instant, View

Detector = Callable[[Sequence[tuple[np.ndarray, np.ndarray]]], list[np.ndarray]]
"""Images (h, w, 3), each with a square (4,) [px] -> surface coordinates (H, W, 3) [m] of its cells; NaN off the
surface."""

Witness = Callable[[Sequence[tuple[View, np.ndarray]]], list[np.ndarray]]
"""Views, each with pixels (K, J, 2) of K hypotheses about its joints -> how far the image is from showing each joint
there, (K, J) from 0 to 1; NaN where the pixel is."""

_MOST_CROPS, _MOST_INSTANTS, _LEAST_INSTANTS = 96, 8, 3
_LEAST_JOINTS = 4  # in an image
ROOM = 0.2  # around the joints of a view, as a share of their longer side
_FAR = 0.5  # m between what is seen at a joint and the joint at rest from which on it counts as not seen at all
_SEEN = 0.5  # up to which a joint is seen
_LATE = 0.8  # share of the distance that a delay may leave (at least 0.89 on right captures, 0.7 three frames late)
_LEAST_LATE = 0.04  # by which the distance must fall
_AGREE = 0.75  # share of the instants in which it must fall
_SHOWN = 0.5  # share of its joints that an image of them shows at least
_LOST = 0.25  # images that show less of their joints are of something else


@dataclass(frozen=True)
class Kind:
    """Kind of witness: share of the joints from which on nothing else is tried, and what is said before a share."""

    believed: float
    says: str


BY_DETECTOR, BY_MASKS = Kind(0.7, "a detector sees"), Kind(0.95, "the masks hold")


def detector_witness(capture: Capture, detector: Detector, names: Sequence[str]) -> Witness:
    """Return what compares the coordinate that is seen at a joint with where the joint is on the surface at rest."""
    joints = capture.surface.joints
    rest = np.array([joints.get(name, (np.nan,) * 3) for name in names])

    def errors(wanted: Sequence[tuple[View, np.ndarray]]) -> Iterator[np.ndarray]:
        for start in range(0, len(wanted), 16):
            some = wanted[start : start + 16]
            squares = [(capture.image(view), _square(pixels[0])) for view, pixels in some]
            for (view, pixels), (_, box), field in zip(some, squares, detector(squares), strict=True):
                cells = (pixels - box[:2]) / (box[2:] - box[:2]) * field.shape[1::-1]
                cells[((pixels < 0) | (pixels > view.size)).any(axis=-1)] = -1
                apart = np.linalg.norm(values_at(field, cells) - rest, axis=-1) / _FAR
                unknown = np.isnan(pixels[..., 0]) | np.isnan(rest[:, 0])
                yield np.where(unknown, np.nan, np.minimum(np.nan_to_num(apart, nan=1.0), 1.0))

    return lambda wanted: list(errors(wanted))


def mask_witness(capture: Capture) -> Witness:
    """Return what says whether joints are on the mask of their view, or next to it."""

    def error(view: View, pixels: np.ndarray) -> np.ndarray:
        mask = capture.mask(view)
        off = (
            np.full(pixels.shape[:-1], np.nan) if mask is None else 1.0 - np.nan_to_num(values_at(grown(mask), pixels))
        )
        return np.where(np.isnan(pixels[..., 0]), np.nan, off)

    return lambda wanted: [error(view, pixels) for view, pixels in wanted]


def _square(pixels: np.ndarray) -> np.ndarray:
    return square_box(np.concatenate([np.nanmin(pixels, axis=0), np.nanmax(pixels, axis=0)]), ROOM)


def values_at(values: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return values (H, W, ...) at cells (..., 2), NaN outside of them."""
    column, row = np.moveaxis(np.floor(np.nan_to_num(cells, nan=-1.0)).astype(int), -1, 0)
    inside = (row >= 0) & (column >= 0) & (row < values.shape[0]) & (column < values.shape[1])
    found = np.array(values[np.where(inside, row, 0), np.where(inside, column, 0)], np.float64)
    found[~inside] = np.nan
    return found


class Images:
    """The images of some instants, looked at where their own joints are, and where those of other cameras are.

    Args:
        capture: the capture.
        instants: those of the looks.
        looks: at joints.
        witness: says how far images are from showing them.
    """

    def __init__(self, capture: Capture, instants: Sequence[Instant], looks: Looks, witness: Witness) -> None:
        self.capture, self.looks, self.witness = capture, looks, witness
        self.names = list(capture.cameras)
        self.views = [{view.camera: view for view in instant.views} for instant in instants]
        self.rows = chosen_rows(len(instants), len(self.names))
        self.step, self.later = later_rows(looks)

    def own(self, camera: str) -> list[np.ndarray]:
        """Return the errors (K, J) of a camera's images by its joints: those of then, and those of all delays."""
        pixels, delays = (
            self.looks.pixels[:, self.names.index(camera)],
            [np.array(rows) for rows in self.later.values()],
        )

        def joints(row: int, view: View) -> np.ndarray:
            others = [np.where(rows[row] < 0, np.nan, pixels[rows[row]]) for rows in delays]
            return self._stored(view, np.stack([pixels[row], *others]))

        return self._asked(camera, joints)

    def of_other(self, camera: str, other: str) -> float:
        """Return the share of another camera's joints in a camera's images, if frames or stored images are its."""

        def of_frames(row: int, view: View) -> np.ndarray:
            return self._stored(view, self.looks.pixels[row, self.names.index(other)][None])

        def of_stored(row: int, view: View) -> np.ndarray | None:
            its = self.views[row].get(other)
            return None if its is None else self._stored(its, self.looks.pixels[row, self.names.index(other)][None])

        return max(share(self._asked(camera, of_frames)), share(self._asked(camera, of_stored)))

    def _stored(self, view: View, pixels: np.ndarray) -> np.ndarray:
        return stored_pixels(self.capture, view, pixels.reshape(-1, 2)).reshape(pixels.shape)

    def _asked(self, camera: str, joints: Callable[[int, View], np.ndarray | None]) -> list[np.ndarray]:
        wanted = []
        for row in self.rows:
            view = self.views[row].get(camera)
            pixels = None if view is None else joints(row, view)
            if view is None or pixels is None:
                continue
            if ((pixels[0] >= 0) & (pixels[0] <= view.size)).all(axis=-1).sum() >= _LEAST_JOINTS:
                wanted.append((view, pixels))
        return self.witness(wanted)


def image_findings(images: Images, kind: Kind) -> tuple[dict[str, float], list[Finding]]:
    """Return camera -> share of its joints that its images show; and what is wrong with images.

    Images are exchanged where those of a few cameras show each other's joints; late or early where they show the joints
    of another moment; and of something else where most other cameras' images show theirs.
    """
    errors = {name: images.own(name) for name in images.names}
    shares = {name: share(some) for name, some in errors.items() if some and np.isfinite(some[0][0]).any()}
    low = [name for name in shares if shares[name] < kind.believed]
    table = [[shares[name] if name == other else images.of_other(name, other) for other in low] for name in low]
    findings = _exchanged(low, np.array(table).reshape(len(low), len(low)), len(shares), kind)
    if kind is BY_MASKS:  # that they do not hold the joints is said elsewhere
        return shares, findings
    for name in shares:
        if all(name not in finding.cameras for finding in findings):
            findings += _late(name, errors[name], [*images.later], images.step)
    lost = [name for name in low if shares[name] < _LOST and all(name not in one.cameras for one in findings)]
    others = [value for value in shares.values() if value >= _SHOWN]
    if lost and len(others) >= max(2, len(lost)):
        before, after = float(np.mean([shares[name] for name in lost])), float(np.mean(others))
        sentence = (
            f"the images of {listed(lost, len(shares))} do not show their joints: {kind.says} {100 * before:.0f} % of "
            f"them, and {100 * after:.0f} % in the other cameras: are they of another camera, or of other frames?"
        )
        findings.append(Finding("images", lost, sentence, before, after))
    return shares, findings


def chosen_rows(count: int, cameras: int) -> list[int]:
    """Return some of so many instants, evenly spread, few enough for one look at each view."""
    wanted = min(max(_MOST_CROPS // cameras, _LEAST_INSTANTS), _MOST_INSTANTS, count)
    return sorted(set(np.linspace(0, count - 1, wanted + 2)[1:-1].round().astype(int).tolist()))


def share(errors: Sequence[np.ndarray]) -> float:
    """Return the share of the joints of the first hypothesis that are seen; 0 where nothing was looked at."""
    together = np.concatenate([error[0] for error in errors]) if errors else np.zeros(0)
    together = together[np.isfinite(together)]
    return float((together < _SEEN).mean()) if len(together) else 0.0


def _exchanged(low: Sequence[str], table: np.ndarray, cameras: int, kind: Kind) -> list[Finding]:
    """Find whose joints the images of cameras show that do not show their own; the table's columns are of joints."""
    rows, columns = linear_sum_assignment(-table)
    moved = rows != columns
    names = [low[row] for row in rows[moved]]
    if not names:
        return []
    before, after = float(table.diagonal()[moved].mean()), float(table[rows[moved], columns[moved]].mean())
    if after < _SHOWN or 1 - after > EXPLAINS * (1 - before):
        return []
    sentence = (
        f"the images of {listed(names, cameras)} look exchanged{' among each other' if len(names) > 2 else ''}: "
        f"{kind.says} {100 * before:.0f} % of their joints as given, {100 * after:.0f} % exchanged"
    )
    return [Finding("images exchanged", names, sentence, before, after)]


def _late(name: str, errors: Sequence[np.ndarray], delays: Sequence[int], step: int) -> list[Finding]:
    """Find the delay by which images of a camera show the joints of another moment, by errors (K, J) of instants."""
    together = np.stack(errors)  # (N, K, J)
    first, others = together[:, :1], together[:, 1:]
    both = np.isfinite(first) & np.isfinite(others)
    if not others.shape[1] or not both.any():
        return []
    given, then = (np.where(both, values, np.nan) for values in (np.broadcast_to(first, others.shape), others))
    enough = 2 * both.sum(axis=(0, 2)) >= np.isfinite(first).sum()
    fall = np.where(enough, np.nansum(given - then, axis=(0, 2)) / np.maximum(both.sum(axis=(0, 2)), 1), -np.inf)
    best = int(fall.argmax())
    before, after = float(np.nanmean(given[:, best])), float(np.nanmean(then[:, best])) if enough[best] else np.inf
    seen = both[:, best].any(axis=1)
    falls = np.nansum(given[seen, best] - then[seen, best], axis=1) > 0
    if after > _LATE * before or before - after < _LEAST_LATE or falls.mean() < _AGREE:
        return []
    frames, side = abs(delays[best]) * step, "later" if delays[best] > 0 else "earlier"
    sentence = (
        f"the images of {name} fit the joints of about {frames} frames {side}: a detector sees joints "
        f"{100 * _FAR * before:.0f} cm off as given, {100 * _FAR * after:.0f} cm then"
    )
    return [Finding("images late", [name], sentence, before, after)]
