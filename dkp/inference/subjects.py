"""Which squares of a frame are predicted on: given, found anew in every image, or followed through a video."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dkp.captures.crops import square_box
from dkp.inference.boxes import moving_boxes, read_boxes
from dkp.inference.frames import Frames
from dkp.inference.prediction import Prediction
from dkp.inference.predictor import Predictor
from dkp.inference.search import shows_subject, whole_box

INERTIA = 0.5
"""Share of a followed box's side that stays from one frame to the next, so that the scale does not shake."""

PATIENCE = 10
"""Frames in which a followed box waits where the subject was last seen well, before the whole frame is searched."""


class Subjects:
    """The people of a recording and where each is looked for.

    Attributes:
        follows: whether a frame's squares depend on the predictions of the one before.
        searched: time that looking for a subject in whole images has taken [s].

    Args:
        predictor: for looking for a subject.
        frames: that are predicted on.
        boxes: "auto" (a video's subject is looked for once and then followed, each image's by itself), "whole",
            "background" or a file or folder, see `dkp.inference.boxes.read_boxes`.
        margin: room around a box, as a share of its longer side.

    Raises:
        InputError: the boxes cannot be read, or are of other frames.
    """

    def __init__(self, predictor: Predictor, frames: Frames, boxes: str, margin: float) -> None:
        self.predictor = predictor
        self.margin = margin
        self.mode = boxes if boxes in ("auto", "whole", "background") else "given"
        self.given = read_boxes(Path(boxes), frames) if self.mode == "given" else {}
        self.moving = moving_boxes(frames) if self.mode == "background" else None
        people = {person for boxes in self.given.values() for person in boxes}
        gaps = any(people - self.given.get(number, {}).keys() for number in frames.names)
        self.follows = frames.is_video and (self.mode == "auto" or gaps)
        self.searched = 0.0
        self._next: dict[int, np.ndarray] = {}
        self._waited = 0

    def squares(self, number: int, image: np.ndarray) -> dict[int, np.ndarray]:
        """Return number of a person -> square (4,) [px] of the frame to predict on; empty where nobody is known."""
        if self.mode == "whole":
            return {0: whole_box(image)}
        if self.moving is not None:
            box = self.moving(image)
            return {} if box is None else {0: square_box(box, self.margin)}
        if self.mode == "auto" and self._waited % PATIENCE == 0 and (self._waited or not self._next):
            began = time.monotonic()
            found = self.predictor.find(image, self.margin)
            self.searched += time.monotonic() - began
            if not self.follows:
                return {} if found is None else {0: found}
            if found is not None:
                self._next[0] = found
        given = {person: square_box(box, self.margin) for person, box in self.given.get(number, {}).items()}
        return {**self._next, **given} if self.follows else given

    def saw(self, predictions: Mapping[int, Prediction]) -> None:
        """Take note of a frame's predictions: where each person is looked for in the next one."""
        if not self.follows:
            return
        sound = {person: seen for person, seen in predictions.items() if shows_subject(seen)}
        self._waited = 0 if sound else self._waited + 1
        for person, seen in predictions.items():
            following = seen.next_box(self.margin) if person in sound else None
            self._next[person] = seen.box if following is None else steadied(seen.box, following)


def steadied(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the square (4,) with the middle of the later one, and a side between both."""
    middle = (after[:2] + after[2:]) / 2
    half = (INERTIA * (before[2] - before[0]) + (1 - INERTIA) * (after[2] - after[0])) / 2
    return np.concatenate([middle - half, middle + half])
