"""2D detections of one camera, whatever program wrote them, and the joints of people in them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dkp.errors import InputError

logger = logging.getLogger(__name__)

Joints = dict[str, tuple[float, float, float]]  # name -> x, y [px], confidence

_FAR_OUTSIDE = 0.5  # share of the frame's size beyond its border from which a joint cannot be meant


@dataclass(frozen=True)
class Detections:
    """What the detections of a camera hold.

    Attributes:
        path: their folder or file.
        frames: number of the frame -> the people found, (K, 3) each: x, y [px, OpenCV's: the middle of the first pixel
            is 0], confidence; NaN where a keypoint was not found. People without any keypoint are left out.
        listed: how many people the files list, with those without a keypoint.
        best: the highest confidence of all; NaN where no file has one.
        names: what the files call the keypoints; None where they have an order only.
    """

    path: Path
    frames: dict[int, list[np.ndarray]]
    listed: int
    best: float
    names: tuple[str, ...] | None = None

    @property
    def people(self) -> list[np.ndarray]:
        """All people of all frames."""
        return [person for people in self.frames.values() for person in people]


def collect(
    path: Path, frames: Iterable[tuple[int, str, list[np.ndarray]]], names: tuple[str, ...] | None = None
) -> Detections:
    """Put the frames of a reader together.

    Args:
        path: folder or file of the detections.
        frames: number of the frame, where it stands (for messages), and its people, (K, 3) each: x, y [px, OpenCV's],
            confidence.
        names: of the keypoints.

    Raises:
        InputError: a frame comes twice, people have different numbers of keypoints, or the coordinates cannot be
            pixels.
    """
    found: dict[int, list[np.ndarray]] = {}
    listed, best = 0, float("nan")
    first = None if names is None else (len(names), "the names of keypoints")
    for number, where, people in frames:
        if number in found:
            raise InputError(f"{where} is a second entry for frame {number}, expected one per frame")
        listed += len(people)
        best = np.fmax(best, max((np.fmax.reduce(person[:, 2], initial=-np.inf) for person in people), default=best))
        for person in people:
            person[~np.isfinite(person).all(axis=1) | ~(person[:, 2] > 0)] = np.nan
        found[number] = [person for person in people if np.isfinite(person).any()]
        for person in found[number]:
            first = first or (len(person), Path(where).name)
            if len(person) != first[0]:
                raise InputError(
                    f"{where} has a person of {len(person)} keypoints, expected {first[0]} as in {first[1]}"
                )
    detections = Detections(path, found, listed, float(best), names)
    _check_pixels(detections)
    return detections


def _check_pixels(found: Detections) -> None:
    """Refuse shares of the image's size, which some detectors can be told to write."""
    points = np.concatenate([np.zeros((0, 2)), *(person[:, :2] for person in found.people)])
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) >= 3 and np.abs(points).max() <= 1.5:
        low, high = points.min(), points.max()
        raise InputError(
            f"{found.path}: all {len(points)} keypoints have coordinates from {low:.2g} to {high:.2g}, which look "
            "like shares of the image's size, expected pixels (OpenPose writes them with --keypoint_scale 0)"
        )


def inside_frame(detections: Detections, size: tuple[int, int]) -> Detections:
    """Return the detections without what cannot be in the frame, with a warning that counts.

    Args:
        detections: of a camera.
        size: (width, height) of the frames [px].

    Raises:
        InputError: most of the keypoints lie far outside of the frame.
    """
    total, far, first = 0, 0, ""
    frames: dict[int, list[np.ndarray]] = {}
    for frame, people in detections.frames.items():
        frames[frame] = []
        for person in people:
            outside = np.any(np.abs(person[:, :2] / size - 0.5) > 0.5 + _FAR_OUTSIDE, axis=1)
            total += int(np.isfinite(person[:, 0]).sum())
            if outside.any():
                far += int(outside.sum())
                x, y = person[outside][0, :2]
                first = first or f"({x:.6g}, {y:.6g}) in the file of frame {frame}"
            kept = np.where(outside[:, None], np.nan, person)
            if np.isfinite(kept).any():
                frames[frame].append(kept)
    if far:
        found = (
            f"{detections.path}: {far} of {total} detected joints lie far outside of frames of {size[0]}x{size[1]} "
            f"pixels (the first at {first})"
        )
        if far > total / 2:
            raise InputError(f"{found}, expected detections of these frames")
        logger.warning("%s: left out", found)
    return replace(detections, frames=frames)


def main_person(people: list[Joints], previous: np.ndarray | None = None) -> Joints | None:
    """Choose one person: the one nearest to where the last one stood, or the largest clearly seen one.

    Args:
        people: the people of one frame.
        previous: (2,) [px], middle of the person chosen in the frame before, or None.

    Returns:
        The person's joints, or None where nobody has three joints.
    """
    seen = [person for person in people if len(person) >= 3]
    if not seen:
        return None
    if previous is not None:
        return min(seen, key=lambda person: float(np.linalg.norm(middle(person) - previous)))
    return max(seen, key=prominence)


def joint_pixels(joints: Joints) -> np.ndarray:
    """Return the positions (N, 2) of a person's joints [px], in their order."""
    return np.array([value[:2] for value in joints.values()])


def middle(joints: Joints) -> np.ndarray:
    """Return the median position (2,) of a person's joints [px]."""
    return np.asarray(np.median(joint_pixels(joints), axis=0))


def prominence(joints: Joints) -> float:
    """Return how large and how surely a person is seen: extent [px] times the sum of confidences."""
    values = np.array(list(joints.values()))
    return float(np.ptp(values[:, :2], axis=0).max() * values[:, 2].sum())


def move_joints(joints: Joints, pixels: np.ndarray) -> Joints:
    """Return the joints at new pixels (N, 2), in the order of ``joints``; confidences stay."""
    return {
        name: (float(x), float(y), value[2])
        for (name, value), (x, y) in zip(joints.items(), pixels.tolist(), strict=True)
    }
