"""Where the subject is in an image of which nothing is known: many searches, and where most of them end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dkp.captures.crops import square_box
from dkp.inference.prediction import Prediction

LOOKS = 8
"""Most times that a box is drawn anew around the foreground that it shows."""

SETTLED = 0.85
"""Overlap (intersection over union) of a box with the one before from which it stays."""

SAME, JOINED = 0.7, 0.8
"""Overlaps from which two boxes are around one subject: where they stay, and while they are still drawn anew."""

LEAST = 0.03
"""Less foreground than this share of a box's cells is no subject."""

DOUBTED = 0.08
"""What shows more doubt than this is not taken for a subject; see `Prediction.doubt`."""

SURE = 0.045
"""Doubt from which no further part of an image is looked at."""

WIDEST = 16
"""Sides of an image up to which the parts that are looked at are as large as the shorter one."""

LEAST_STARTS = 3
"""So many searches that began in different parts of an image have to end at a subject."""

Crops = Callable[[Sequence[np.ndarray]], list[Prediction]]
"""Predicts the fields of squares (4,) [px] of one image."""


@dataclass
class Search:
    """Searches that have come to one box.

    Attributes:
        box: (4,) [px], where to look next.
        starts: how many searches they are.
        seen: what the box shows; what an earlier one showed until it is looked at.
        still: whether the box has stayed where it was before.
    """

    box: np.ndarray
    starts: int
    seen: Prediction
    still: bool = False


def find_subject(crops: Crops, image: np.ndarray, margin: float) -> Prediction | None:
    """Look for one subject in the whole image and, where it is not sure there, in all parts of it.

    A detector is often sure of an arm, of a chair, or of a body whose feet the box cuts off. But boxes that are drawn
    anew around the foreground end around a whole body from wherever part of it is seen, and around anything else from
    few parts of the image. So the subject is where most searches end.

    Args:
        crops: predicts.
        image: (h, w, 3).
        margin: room around the subject on each side, as a share of its longer side.

    Returns:
        The subject; None where there is none.
    """
    whole = crops([whole_box(image)])
    for found in settled(crops, whole, margin):
        if shows_subject(found.seen) and found.seen.doubt < SURE:
            return found.seen
    ends = settled(crops, [*whole, *crops(part_boxes(image))], margin)
    ends = [one for one in ends if one.starts >= LEAST_STARTS and shows_subject(one.seen)]
    return max(ends, key=lambda one: (one.starts, -one.seen.doubt)).seen if ends else None


def settled(crops: Crops, starts: Sequence[Prediction], margin: float) -> list[Search]:
    """Draw boxes around the foreground anew until they stay, and return where."""
    moving, ended = [Search(one.box, 1, one) for one in starts], list[Search]()
    for _ in range(LOOKS):
        following: list[Search] = []
        for one in moving:
            box = one.seen.next_box(margin) if one.seen.inside.mean() >= LEAST else None
            if box is not None:
                join(following, Search(box, one.starts, one.seen, overlap(one.seen.box, box) > SETTLED), JOINED)
        for one, seen in zip(following, crops([one.box for one in following]), strict=True):
            one.seen = seen
        moving = [one for one in following if not one.still]
        for one in following:
            if one.still:
                join(ended, one, SAME)
        if sum(one.starts for one in moving) <= max((one.starts for one in ended), default=0):
            break
    return ended


def join(searches: list[Search], new: Search, least: float) -> None:
    """Add a search to those that have come to nearly the same box, of which what is doubted least is kept."""
    for one in searches:
        if overlap(one.box, new.box) > least:
            one.starts += new.starts
            one.still |= new.still
            if new.seen.doubt < one.seen.doubt:
                one.box, one.seen = new.box, new.seen
            return
    searches.append(new)


def shows_subject(seen: Prediction) -> bool:
    """Whether a prediction shows enough foreground for a subject, and is sure enough of it."""
    return float(seen.inside.mean()) >= LEAST and seen.doubt <= DOUBTED


def whole_box(image: np.ndarray) -> np.ndarray:
    """Return the square (4,) [px] with the image's middle and longer side."""
    return square_box(np.array([0, 0, image.shape[1], image.shape[0]]), 0.0)


def part_boxes(image: np.ndarray) -> list[np.ndarray]:
    """Return squares over the image that overlap by half: as large as its shorter side, and half as large.

    Of an image that is more than `WIDEST` times as long as it is wide they are larger, so that they stay few.
    """
    height, width = image.shape[:2]
    largest = max(min(height, width), max(height, width) / WIDEST)
    found = []
    for side in (largest, largest / 2):
        xs, ys = (
            np.linspace(0, length - side, round(2 * (length - side) / side) + 1)
            if length > side
            else [(length - side) / 2]
            for length in (width, height)
        )
        found += [np.array([x, y, x + side, y + side]) for y in ys for x in xs]
    return found


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes (4,)."""
    inner = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None).prod()
    return float(inner / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - inner))
