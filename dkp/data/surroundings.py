"""Other surroundings for labelled views: another background, other people about, things before the subject.

A rendering is dear and a picture of clutter cheap, so a few renderings seen before many pictures are worth many
renderings. What is put before the subject hides it: the label says background there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from dkp.errors import InputError

STORED = 192
"""Side at which background pictures are kept [px]: a crop sees a part of one."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class Cutouts(Protocol):
    """Subjects that can be put about others."""

    def __len__(self) -> int: ...

    def cutout(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (h, w, 3) uint8 and mask (h, w) bool of one."""
        ...


@dataclass
class Around:
    """What is put around one subject.

    Attributes:
        behind: (S, S, 3) uint8 picture that replaces the background, or None.
        others: images (S, S, 3) uint8 and shares (S, S) float32 of what stands behind the subject, far ones first.
        before: the same of what stands before it.
    """

    behind: np.ndarray | None
    others: list[tuple[np.ndarray, np.ndarray]]
    before: list[tuple[np.ndarray, np.ndarray]]

    def compose(self, image: np.ndarray, subject: np.ndarray) -> np.ndarray:
        """Put an image together.

        Args:
            image: (S, S, 3) uint8 of the subject in its own surroundings.
            subject: (S, S) share in [0, 1] of each pixel that shows the subject.

        Returns:
            (S, S, 3) uint8.
        """
        whole = image if self.behind is None else self.behind
        for picture, share in self.others:
            whole = mixed(whole, picture, share)
        if self.behind is not None or self.others:
            whole = mixed(whole, image, subject)
        for picture, share in self.before:
            whole = mixed(whole, picture, share)
        return whole

    def hidden(self, pixels: np.ndarray) -> np.ndarray:
        """Whether something stands before each of some pixels (..., 2): (...) bool."""
        away = np.zeros(pixels.shape[:-1], bool)
        for _, share in self.before:
            column, row = np.floor(pixels).astype(np.intp).clip(0, len(share) - 1).transpose(2, 0, 1)
            away |= share[row, column] > 0.5
        return away


def mixed(under: np.ndarray, over: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Two images (S, S, 3) uint8, the second to a share (S, S) in [0, 1]."""
    weight = share[..., None]
    return (under * (1 - weight) + over * weight).astype(np.uint8)


class Surroundings:
    """Draws what is put around subjects.

    Args:
        folders: of pictures, of any size.
        share: probability of another background.
        others: probability that one or two other subjects are about.
        before: probability that something stands before the subject.
        size: side S of the network's input [px].

    Raises:
        InputError: a folder holds no picture.
    """

    def __init__(self, folders: Sequence[str], share: float, others: float, before: float, size: int) -> None:
        self.pictures = read_pictures(folders)
        self.share, self.others, self.before = share, others, before
        self.size = size

    def draw(self, rng: np.random.Generator, subjects: Cutouts) -> Around:
        """Draw what is put around one subject; the others are drawn from `subjects`."""
        behind = self.picture(rng) if rng.random() < self.share else None
        around = Around(behind, [], [])
        if rng.random() < self.others:
            for _ in range(int(rng.integers(1, 3))):
                layer = around.before if rng.random() < 0.2 else around.others
                layer.append(self.other(rng, subjects))
        if rng.random() < self.before:
            around.before.append((self.picture(rng), self.shape(rng)))
        return around

    def picture(self, rng: np.random.Generator) -> np.ndarray:
        """Return a part of a picture, (S, S, 3) uint8, turned, mirrored and magnified at random."""
        stored = self.pictures[int(rng.integers(len(self.pictures)))]
        scale = self.size / STORED * np.exp(rng.uniform(np.log(0.8), np.log(2.2)))
        matrix = similarity(scale, rng.normal(0, 0.25), rng.random() < 0.5)
        part = rng.uniform(0.2, 0.8, 2) * STORED
        matrix[:, 2] = self.size / 2 - matrix[:, :2] @ part
        picture = cv2.warpAffine(stored, matrix, (self.size, self.size), borderMode=cv2.BORDER_REFLECT_101)
        gain = rng.uniform(0.5, 1.5, 3) if rng.random() < 0.3 else rng.uniform(0.5, 1.3)
        return np.clip(picture * gain, 0, 255).astype(np.uint8)

    def other(self, rng: np.random.Generator, subjects: Cutouts) -> tuple[np.ndarray, np.ndarray]:
        """Another subject beside the middle of the crop, mostly smaller: image and share."""
        image, mask = subjects.cutout(int(rng.integers(len(subjects))))
        scale = self.size / len(image) * rng.uniform(0.25, 0.95)
        matrix = similarity(scale, rng.normal(0, 0.1), rng.random() < 0.5)
        centre = np.array([rng.choice([-1, 1]) * rng.uniform(0.25, 0.6), rng.normal(-0.05, 0.15)]) + 0.5
        matrix[:, 2] = centre * self.size - matrix[:, :2] @ (np.array(image.shape[:2]) / 2)
        target = (self.size, self.size)
        share = inner(cv2.warpAffine(mask.astype(np.uint8) * 255, matrix, target))
        return cv2.warpAffine(image, matrix, target), share

    def shape(self, rng: np.random.Generator) -> np.ndarray:
        """Where a thing before the subject is: (S, S) share; a board, a pole, a ball, or all beyond an edge."""
        mask = np.zeros((self.size, self.size), np.uint8)
        kind, centre = rng.random(), rng.uniform(0.05, 0.95, 2) * self.size
        if kind < 0.25:  # the picture ends here
            edge, wide = int(rng.integers(4)), int(rng.uniform(0.03, 0.3) * self.size)
            np.rot90(mask, edge)[:wide] = 255
        elif kind < 0.5:
            radii = rng.uniform(0.04, 0.2, 2) * self.size
            cv2.ellipse(mask, (tuple(centre), tuple(2 * radii), float(rng.uniform(0, 180))), 255, -1, cv2.LINE_AA)
        else:
            sides = rng.uniform(0.05, 0.4, 2) if kind < 0.75 else np.array([rng.uniform(0.02, 0.06), 2.0])
            angle = rng.normal(0, 12) + 90 * int(rng.integers(2))
            corners = cv2.boxPoints((tuple(centre), tuple(sides * self.size), float(angle)))
            cv2.fillPoly(mask, [corners.astype(np.int32)], 255, cv2.LINE_AA)
        return mask.astype(np.float32) / 255


def similarity(scale: float, angle: float, mirror: bool) -> np.ndarray:
    """(2, 3) map that magnifies, turns [radians] and, if asked, mirrors."""
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    sign = -1.0 if mirror else 1.0
    return np.array([[sign * cosine, -sine, 0.0], [sign * sine, cosine, 0.0]])


def inner(mask: np.ndarray) -> np.ndarray:
    """Share (S, S) in [0, 1] of a warped mask (S, S) uint8, drawn in by half a pixel.

    The outermost pixels of a subject show some of its own background, which is not to come along.
    """
    soft = cv2.blur(mask, (3, 3)).astype(np.float32) / 255
    return np.clip(2 * soft - 0.9, 0, 1)


def read_pictures(folders: Sequence[str]) -> np.ndarray:
    """Return the pictures of some folders and the folders in them, (N, STORED, STORED, 3) uint8 RGB, cut to squares.

    Raises:
        InputError: a folder holds no picture, or one cannot be read.
    """
    pictures = []
    for folder in folders:
        files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(f"backgrounds {folder}: no picture found, expected a folder with {', '.join(SUFFIXES)}")
        pictures += [read_square(path) for path in files]
    return np.stack(pictures) if pictures else np.zeros((0, STORED, STORED, 3), np.uint8)


def read_square(path: Path) -> np.ndarray:
    """Return the middle of a picture, (STORED, STORED, 3) uint8 RGB."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"backgrounds {path}: not a picture that OpenCV can read")
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side, ::-1]
    way = cv2.INTER_AREA if side > STORED else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(square, (STORED, STORED), interpolation=way))
