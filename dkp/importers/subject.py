"""The subject in the raw frames of one camera: a box and, with detections, joints for every frame to import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dkp.captures.crops import apply_affine, square_box, undistorted
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.importers.boxes import Background, box_of_points, outline, smooth_boxes
from dkp.importers.detections import Joints, main_person, middle, move_joints, read_detections
from dkp.importers.media.video import FrameSource

BACKGROUND_FRAMES = 31


@dataclass
class Track:
    """One camera's subject over time.

    Attributes:
        boxes: frame number -> square (4,) x0 y0 x1 y1, undistorted pixels of the rig camera.
        joints: frame number -> joints, in the camera's undistorted or distorted pixels as asked for; without
            detections empty.
        background: what the static camera sees without the subject, where boxes come from that.
    """

    boxes: dict[int, np.ndarray] = field(default_factory=dict)
    joints: dict[int, Joints] = field(default_factory=dict)
    background: Background | None = None


@dataclass(frozen=True)
class Lens:
    """From raw frame pixels to the rig camera's pixels.

    Attributes:
        camera: the rig camera with its distortion.
        frame_map: (2, 3) affine map from raw frame pixels to the camera's pixels; None where they are the same.
        undistort: whether results are in undistorted pixels.
    """

    camera: Camera
    frame_map: np.ndarray | None = None
    undistort: bool = True

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Moves raw frame pixels (N, 2) to pixels of the rig camera."""
        if self.frame_map is not None:
            pixels = apply_affine(self.frame_map, pixels)
        return undistorted(self.camera, pixels) if self.undistort else pixels


def track_detections(
    folder: Path, layout: str, lens: Lens, indices: Sequence[int], margin: float, smooth: int, confidence: float
) -> Track:
    """Follows the main person of a folder of detections.

    Args:
        folder: see :func:`dkp.importers.detections.read_detections`; its frame numbers count from the number of the
            first frame, 0 or 1.
        layout: order of the joints in the files.
        lens: of the camera.
        indices: increasing frame numbers to import, from 0.
        margin: see :func:`dkp.captures.crops.square_box`.
        smooth: see :func:`dkp.importers.boxes.smooth_boxes`.
        confidence: joints below it do not count for the box.
    """
    detections = read_detections(folder, layout)
    first = min(detections)
    if first > 1:
        raise InputError(
            f"{folder} starts with frame {first}, expected the detections of the whole recording, from frame 0"
        )
    track, previous = Track(), None
    for index in indices:
        people = detections.get(index + first, [])
        confident = [{name: v for name, v in person.items() if v[2] >= confidence} for person in people]
        chosen = main_person(confident, previous)
        if chosen is None:
            continue
        previous = middle(chosen)
        everything = people[confident.index(chosen)]
        joints = move_joints(everything, lens(np.array([value[:2] for value in everything.values()])))
        track.joints[index] = joints
        points = np.array([joints[name][:2] for name in chosen])
        track.boxes[index] = square_box(box_of_points(points), margin)
    track.boxes = smooth_boxes(track.boxes, smooth)
    return track


def track_masks(masks: FrameSource, lens: Lens, indices: Sequence[int], margin: float, smooth: int) -> Track:
    """Puts boxes around given masks, one image per frame, of the raw frames' size."""
    track = Track()
    for index, mask in masks.frames(indices):
        _add_outline(track, index, mask.max(axis=2) > 127, lens, margin)
    track.boxes = smooth_boxes(track.boxes, smooth)
    return track


def track_background(frames: FrameSource, lens: Lens, indices: Sequence[int], margin: float, smooth: int) -> Track:
    """Puts boxes around what differs from the median of a static camera's frames."""
    chosen = np.unique(np.linspace(0, len(indices) - 1, min(BACKGROUND_FRAMES, len(indices))).round().astype(int))
    background = Background(frame for _, frame in frames.frames([indices[i] for i in chosen]))
    track = Track(background=background)
    for index, frame in frames.frames(indices):
        _add_outline(track, index, background.mask(frame), lens, margin)
    track.boxes = smooth_boxes(track.boxes, smooth)
    return track


def _add_outline(track: Track, index: int, mask: np.ndarray, lens: Lens, margin: float) -> None:
    points = outline(mask)
    if points is not None:
        track.boxes[index] = square_box(box_of_points(lens(points)), margin)
