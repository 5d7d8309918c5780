"""One subject before several calibrated cameras: where one loses it, the others say where it is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from dkp.captures.crops import square_box
from dkp.geometry import Camera, triangulate
from dkp.inference.prediction import Prediction
from dkp.inference.predictor import Predictor
from dkp.inference.search import Crops, find_subject, overlap, settled, shows_subject
from dkp.inference.subjects import PATIENCE, steadied

APART = 0.25
"""Views agree on a subject where the middles of their boxes are within this share of the boxes' sides."""

MEETS = 0.3
"""A view whose box overlaps less with where the others have the subject shows something else."""


class RigSubject:
    """Follows one subject through the frames of several cameras.

    Args:
        predictor: looks at the frames.
        cameras: name -> camera of its whole frames [px, m].
        margin: room around the subject on each side, as a share of its longer side.
    """

    def __init__(self, predictor: Predictor, cameras: Mapping[str, Camera], margin: float) -> None:
        self.predictor = predictor
        self.cameras = cameras
        self.margin = margin
        self._next: dict[str, np.ndarray] = {}
        self._waited = 0

    def look(self, images: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray] = {}) -> dict[str, Prediction]:
        """Predict on the frames of one moment.

        Args:
            images: name of a camera -> (h, w, 3) uint8 RGB.
            given: name of a camera -> box (4,) [px] around the subject, where that is known.

        Returns:
            Name of a camera -> prediction; empty where no camera has found anybody yet.
        """
        self._next |= {name: square_box(box, self.margin) for name, box in given.items() if name in images}
        names = [name for name in images if name in self._next]
        seen = dict(zip(names, self._crops(images, {name: self._next[name] for name in names}), strict=True))
        if self._waited % PATIENCE == 0 and (self._waited or len(self._next) < 2):
            sure = {name for name, one in seen.items() if name in given or shows_subject(one)}
            for name in images.keys() - sure:
                found = find_subject(self._of(images[name]), images[name], self.margin)
                if found is not None:
                    seen[name] = found
        sound = {name: box for name, one in seen.items() if shows_subject(one) and (box := self._box(one)) is not None}
        where = Ball.of_boxes(self.cameras, sound)
        if where is not None:
            expected = {name: where.box(self.cameras[name]) for name in images}
            lost = [
                name for name, box in expected.items()
                if name not in given and overlap(sound.get(name, np.zeros(4)), box) < MEETS
            ]  # fmt: skip
            again = self._crops(images, {name: expected[name] for name in lost})
            for name, one in zip(lost, again, strict=True):
                ends = settled(self._of(images[name]), [one], self.margin)
                better = [end.seen for end in ends if shows_subject(end.seen) and overlap(end.box, one.box) >= MEETS]
                seen[name] = (better or [one])[0]
        self.saw(seen)
        return seen

    def saw(self, seen: Mapping[str, Prediction]) -> None:
        """Take note of predictions: where each camera looks in its next frame."""
        sound = {name for name, one in seen.items() if shows_subject(one)}
        self._waited = 0 if len(sound) > 1 else self._waited + 1
        for name, one in seen.items():
            following = self._box(one) if name in sound else None
            self._next[name] = one.box if following is None else steadied(one.box, following)

    def _box(self, seen: Prediction) -> np.ndarray | None:
        return seen.next_box(self.margin)

    def _crops(self, images: Mapping[str, np.ndarray], boxes: Mapping[str, np.ndarray]) -> list[Prediction]:
        return self.predictor.crops([(images[name], box) for name, box in boxes.items()])

    def _of(self, image: np.ndarray) -> Crops:
        return lambda boxes: self.predictor.crops([(image, box) for box in boxes])


class Ball:
    """A ball in space around a subject.

    Args:
        centre: (3,) [m].
        radius: [m].
    """

    def __init__(self, centre: np.ndarray, radius: float) -> None:
        self.centre = centre
        self.radius = radius

    @classmethod
    def of_boxes(cls, cameras: Mapping[str, Camera], boxes: Mapping[str, np.ndarray]) -> Ball | None:
        """Return the ball that square boxes (4,) [px] are around; None where fewer than two agree on one."""
        if len(boxes) < 2:
            return None
        middles, sides, plain = [], [], []
        for name, box in boxes.items():
            middle = torch.from_numpy((box[:2] + box[2:]) / 2)[None].double()
            # in squares of one side, so that one threshold holds for all
            side = float(box[2] - box[0])
            camera = cameras[name].to(torch.float64)
            scaled = camera.without_distortion().transform(np.diag([1 / side, 1 / side, 1.0]), 1, 1)
            middles.append(camera.undistort(middle) / side)
            sides.append(side)
            plain.append(scaled)
        stacked = Camera.stack(plain)
        found = triangulate(stacked, torch.stack(middles), threshold=APART, min_angle=3.0)
        if not bool(found.valid[0]):
            return None
        _, depth = stacked.project(found.points[None].expand(len(plain), 1, 3))
        half = 0.5 * depth[:, 0] / stacked.intrinsics[:, 0, 0]
        return cls(found.points[0].numpy(), float(half[found.inliers[:, 0]].median()))

    def box(self, camera: Camera) -> np.ndarray:
        """Return the square (4,) [px] around the ball in a camera's image."""
        camera = camera.to(torch.float64)
        middle, depth = camera.project(torch.from_numpy(self.centre)[None])
        half = self.radius * float(camera.intrinsics[0, 0]) / max(float(depth[0]), 1e-6)
        x, y = middle[0].tolist()
        return square_box(np.array([x - half, y - half, x + half, y + half]), 0.0)
