"""Where the subject is in a frame: boxes from points, from masks and from a static camera's background."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from dkp.errors import InputError

DIFFERENCE = 30.0
"""Least difference of a colour channel that counts as foreground, in grey levels."""

BACKGROUND_FRAMES = 93
"""From how many frames, spread over a recording, the background is learned."""


def box_of_points(points: np.ndarray) -> np.ndarray:
    """Return the box (4,) x0 y0 x1 y1 around points (N, 2), N at least 1 [px]."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def outline(mask: np.ndarray, least_share: float = 1e-3) -> np.ndarray | None:
    """Return the outline of the largest connected part of a mask.

    Args:
        mask: (H, W) bool.
        least_share: smaller parts, as a share of the image's area, count as nothing.

    Returns:
        (N, 2) corners of the outline [px], or None where the mask is empty.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return None
    largest = max(contours, key=cv2.contourArea)
    if cv2.contourArea(largest) < least_share * mask.size:
        return None
    return largest.reshape(-1, 2).astype(np.float64) + 0.5


def smooth_boxes(boxes: Mapping[int, np.ndarray], window: int) -> dict[int, np.ndarray]:
    """Smooth square boxes over time: mean centre and largest side of the frames around each frame.

    Args:
        boxes: frame number -> (4,) x0 y0 x1 y1 [px], square.
        window: number of frames, centred; 1 leaves the boxes as they are. Frames without a box take no part.
    """
    if window <= 1:
        return dict(boxes)
    smooth: dict[int, np.ndarray] = {}
    for frame in boxes:
        near = np.array([boxes[i] for i in range(frame - window // 2, frame + window // 2 + 1) if i in boxes])
        centre = (near[:, :2] + near[:, 2:]).mean(axis=0) / 2
        half = (near[:, 2] - near[:, 0]).max() / 2
        smooth[frame] = np.concatenate([centre - half, centre + half])
    return smooth


def reduced(frame: np.ndarray, height: int = 360) -> np.ndarray:
    """Return a frame (H, W, 3) uint8 smaller and a little blurred, as the background is compared with it."""
    scale = min(1.0, height / frame.shape[0])
    size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
    return cv2.GaussianBlur(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), (0, 0), 1.0)


def spread(numbers: Sequence[int]) -> list[int]:
    """Return those of increasing frame numbers from which the background is learned."""
    chosen = np.linspace(0, len(numbers) - 1, min(BACKGROUND_FRAMES, len(numbers))).round().astype(int)
    return [numbers[index] for index in chosen]


class Background:
    """What a static camera sees without the subject: the median of frames that differ from each other.

    Frames in which nothing has moved count as few, so the subject may sit in one place for most of the recording; it
    becomes background where it is not seen in some eight other places.

    Attributes:
        image: (h, w, 3) uint8, the median.
    """

    def __init__(self, frames: Sequence[np.ndarray], most: int = 15):
        """Take the median.

        Args:
            frames: (h, w, 3) uint8 `reduced` frames spread over the recording, see `spread`.
            most: of how many frames the median is taken, those that differ most.

        Raises:
            InputError: there is no frame.
        """
        if not frames:
            raise InputError("none of the frames of a camera can be decoded, expected some that show its background")
        self.image = np.median(np.stack(_unlike(frames, most)), axis=0).astype(np.uint8)

    def different(self, frame: np.ndarray) -> np.ndarray:
        """Return (h, w) bool: where a `reduced` frame differs from the background."""
        different = changed(frame, self.image).astype(np.uint8)
        # Specks go; gaps that clothes of the background's colour leave are closed.
        opened = cv2.morphologyEx(different, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
        return cv2.morphologyEx(opened, cv2.MORPH_CLOSE, kernel, iterations=2).astype(bool)


def changed(frame: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return (h, w) bool: where a channel of two frames (h, w, 3) uint8 differs by more than `DIFFERENCE`."""
    return np.asarray(cv2.inRange(cv2.absdiff(frame, other), (0, 0, 0), (DIFFERENCE,) * 3) == 0)


def _unlike(frames: Sequence[np.ndarray], most: int) -> list[np.ndarray]:
    """Choose the frames that differ most from each other: one after the other, the one most unlike those so far."""
    small = [np.ascontiguousarray(frame[::2, ::2]) for frame in frames]
    chosen, least = [0], np.full(len(frames), np.inf)
    while len(chosen) < min(most, len(frames)):
        least = np.minimum(least, [changed(frame, small[chosen[-1]]).mean() for frame in small])
        least[chosen] = -1
        chosen.append(int(least.argmax()))
    return [frames[index] for index in chosen]


def largest_part(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected part of a mask (H, W) bool."""
    count, parts, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return np.zeros(mask.shape, bool)
    return np.asarray(parts == 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax()))


def enlarged(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a mask (h, w) bool at another size (width, height) [px], its edge between the pixels' middles."""
    return np.asarray(cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_LINEAR) > 127)
