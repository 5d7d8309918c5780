"""The subject in the raw frames of one camera: a box and, with detections, joints for every frame to import."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from dkp.captures.crops import CropMap, apply_affine, crop_affine, square_box, undistorted
from dkp.geometry import Camera
from dkp.importers.appearance import Appearance
from dkp.importers.boxes import (
    BACKGROUND_FRAMES,
    Background,
    box_of_points,
    enlarged,
    largest_part,
    outline,
    reduced,
    smooth_boxes,
    spread,
)
from dkp.importers.keypoints.detections import Joints, joint_pixels, move_joints
from dkp.importers.masks import refined_mask
from dkp.importers.media.video import FrameSource

logger = logging.getLogger(__name__)

_INSTANTS = 40  # about as many are looked at
_FEW = 8  # instants, of which too little is known
_FULL, _CHANGE = 0.6, 1.3  # share of its outline, and change of size between quartiles of time, of a whole subject
_LEVELS = 100  # of heights, up to the subject's size
_MOST_EDGE = 0.5  # share of the frame's edge in a mask from which it may be inverted


@dataclass
class Track:
    """One camera's subject over time.

    Attributes:
        boxes: frame number -> square (4,) x0 y0 x1 y1, undistorted pixels of the rig camera; see
            `Lens.square`.
        joints: frame number -> joints, in the camera's undistorted or distorted pixels as asked for; without
            detections empty.
        masks: frame number -> rough foreground at a reduced size, packed; without background subtraction empty.
        background: (h, w, 3) uint8 at the masks' size; None without background subtraction.
        looks: frame number -> (h, w, 3) uint8 at the masks' size, of some frames; empty where none was asked for.
        heights: frame number -> how high above the floor what a pixel shows is at most, packed; empty without a floor.
        appearance: what the camera has seen; None without a floor.
        found: what was looked at and what it shows, for the message that nothing was found.
    """

    boxes: dict[int, np.ndarray] = field(default_factory=dict)
    joints: dict[int, Joints] = field(default_factory=dict)
    masks: dict[int, bytes] = field(default_factory=dict)
    background: np.ndarray | None = None
    looks: dict[int, np.ndarray] = field(default_factory=dict)
    heights: dict[int, bytes] = field(default_factory=dict)
    appearance: Appearance | None = None
    found: str = ""


@dataclass(frozen=True)
class Lens:
    """From raw frame pixels to the rig camera's pixels.

    Attributes:
        camera: the rig camera with its distortion.
        frame_map: (2, 3) affine map from raw frame pixels to the camera's pixels; None where they are the same.
        undistort: whether results are in undistorted pixels.
        turn: (2, 2) of :func:`dkp.importers.upright.turns`: how crops are turned upright; None where they are not.
    """

    camera: Camera
    frame_map: np.ndarray | None = None
    undistort: bool = True
    turn: np.ndarray | None = None

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Move raw frame pixels (N, 2) to pixels of the rig camera."""
        if self.frame_map is not None:
            pixels = apply_affine(self.frame_map, pixels)
        return undistorted(self.camera, pixels) if self.undistort else pixels

    def square(self, pixels: np.ndarray, margin: float) -> np.ndarray:
        """Return where a crop around pixels of the rig camera lies.

        Args:
            pixels: (N, 2), N at least 1 [px].
            margin: see :func:`dkp.captures.crops.square_box`.

        Returns:
            (4,) x0 y0 x1 y1 [px], middle and side of the square around the pixels in the turned image; `crop` turns it
            about its middle.
        """
        if self.turn is None:
            return square_box(box_of_points(pixels), margin)
        box = square_box(box_of_points(pixels @ self.turn.T), margin)
        middle, half = (box[:2] + box[2:]) / 2 @ self.turn, (box[2] - box[0]) / 2
        return np.concatenate([middle - half, middle + half])

    def crop(self, square: np.ndarray, size: int) -> np.ndarray:
        """Return the affine map (2, 3) from pixels of the rig camera to those of a crop of this side [px]."""
        return crop_affine(square, size, turn=self.turn)


def track_people(
    people: Mapping[int, Joints], lens: Lens, margin: float, smooth: int, confidence: float, found: str
) -> Track:
    """Put boxes around one person's joints.

    Args:
        people: frame number -> the person's joints [px of the raw frame].
        lens: of the camera.
        margin: see :func:`dkp.captures.crops.square_box`.
        smooth: see :func:`dkp.importers.boxes.smooth_boxes`.
        confidence: joints below it do not count for the box.
        found: what the detections hold, for messages.
    """
    track = Track(found=found, joints=moved_joints(people, lens))
    for number, joints in track.joints.items():
        sure = np.array([value[:2] for value in joints.values() if value[2] >= confidence])
        track.boxes[number] = lens.square(sure, margin)
    track.boxes = smooth_boxes(track.boxes, smooth)
    return track


def moved_joints(people: Mapping[int, Joints], lens: Lens) -> dict[int, Joints]:
    """Move a person's joints in every frame from raw frame pixels to those of the rig camera, all at once."""
    if not people:
        return {}
    pixels = lens(np.concatenate([joint_pixels(person) for person in people.values()]))
    ends = np.cumsum([len(person) for person in people.values()])[:-1]
    parts = np.split(pixels, ends)
    return {number: move_joints(person, part) for (number, person), part in zip(people.items(), parts, strict=True)}


def track_masks(
    masks: FrameSource, offset: int, lens: Lens, numbers: Sequence[int], margin: float, smooth: int
) -> Track:
    """Put boxes around given masks, one image per frame, of the raw frames' size.

    Args:
        masks: of the camera.
        offset: number of a mask less that of its frame.
        lens: of the camera.
        numbers: increasing frame numbers to import.
        margin: see :func:`dkp.captures.crops.square_box`.
        smooth: see :func:`dkp.importers.boxes.smooth_boxes`.
    """
    track = Track()
    shares, edges = [], []
    for number, mask in masks.frames(masks.near(numbers, offset)):
        add_outline(track, number - offset, mask, masks.size, lens, margin)
        shares.append(mask.mean())
        edges.append(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean())
    track.boxes = smooth_boxes(track.boxes, smooth)
    track.found = f"{masks.path} has {len(shares)} masks, of which {len(track.boxes)} show something"
    if shares and not track.boxes:
        track.found += f"; the values of the first go up to {masks.brightest()}, expected above 127 in the foreground"
    if edges and np.median(edges) > _MOST_EDGE:
        logger.warning(
            "%s: half of the masks or more have foreground along %.0f %% of the frame's edge and in %.0f %% of the "
            "frame: are they inverted? Expected the subject white on black",
            masks.path, 100 * np.median(edges), 100 * np.median(shares),
        )  # fmt: skip
    return track


def track_background(
    frames: FrameSource, lens: Lens, indices: Sequence[int], margin: float, smooth: int, looks: int = 0
) -> Track:
    """Put boxes around what differs from the median of a static camera's frames, which are decoded as rarely as can be.

    The background is learned from all frames between the first and the last one, as these are decoded anyway; so many
    ``looks`` are kept.
    """
    learned = spread([number for number in frames.numbers if indices[0] <= number <= indices[-1]])
    few = len(indices) <= BACKGROUND_FRAMES
    wanted = sorted({*learned, *indices}) if few else learned
    small = {index: reduced(frame) for index, frame in frames.frames(wanted)}
    background = Background([small[index] for index in learned if index in small])
    if few:
        every: Iterable[tuple[int, np.ndarray]] = ((index, small[index]) for index in indices if index in small)
    else:
        every = ((index, reduced(frame)) for index, frame in frames.frames(indices))
    track = Track(background=background.image)
    kept = set(indices[:: -(-len(indices) // looks)] if looks else ())
    for index, frame in every:
        mask = background.different(frame)
        track.masks[index] = packed(mask)
        if index in kept:
            track.looks[index] = frame
        add_outline(track, index, largest_part(mask), frames.size, lens, margin)
    track.found = f"in {frames.path}, {len(track.boxes)} of {len(indices)} frames differ from the static background"
    track.boxes = smooth_boxes(track.boxes, smooth)
    return track


def background_mask(
    track: Track, number: int, image: np.ndarray, size: tuple[int, int], cut: CropMap | None
) -> np.ndarray:
    """Return the mask of one view by background subtraction, with the edge that its image has.

    Args:
        track: of its camera; `masks` has the frame.
        number: of the frame.
        image: (H, W, 3) uint8 RGB, of the view.
        size: (width, height) of the camera's frames [px].
        cut: where the view lies in the frame; None = it is the frame.

    Returns:
        (H, W) bool.
    """
    part = np.asarray if cut is None else cut.image
    mask = enlarged(unpacked(track.masks[number]), size)
    mask = mask if cut is None else cut.mask(mask)
    if track.appearance is None:
        return refined_mask(image, mask)
    background, levels = (
        part(cv2.resize(small, size)) for small in (track.appearance.background, _levels(track.heights[number]))
    )
    return track.appearance.refined(image, background, mask, _heights(levels))


def doubt_background(tracks: Mapping[str, Track]) -> str:
    """Say that the background holds the subject in part, as it hardly moves; "" where it seems not to.

    What differs is then its edge and what it moves: far less than its outline holds, and now more, now less.
    """
    numbers = sorted({number for track in tracks.values() for number in track.boxes})
    numbers = numbers[:: max(1, len(numbers) // _INSTANTS)]
    full: list[float] = []
    sizes: dict[int, list[float]] = {number: [] for number in numbers}
    for track in tracks.values():
        masks = {number: unpacked(track.masks[number]).astype(np.uint8) for number in numbers if number in track.boxes}
        areas = np.array([mask.sum(dtype=float) for mask in masks.values()])
        hulls = [cv2.contourArea(cv2.convexHull(cv2.findNonZero(mask))) for mask in masks.values()]
        full += (areas / np.maximum(hulls, 1)).tolist()
        for number, size in zip(masks, areas / np.median(areas) if masks else (), strict=True):
            sizes[number].append(size)
    if len(numbers) < _FEW or np.median(full) > _FULL:
        return ""
    low, high = np.percentile([np.mean(np.log(some)) for some in sizes.values()], (25, 75))
    if high - low < np.log(_CHANGE):
        return ""
    return (
        f"what differs from the background fills {100 * np.median(full):.0f} % of its outline, and now more, now less: "
        "the subject hardly moves, so the background holds it in part, and masks have gaps. Expected detections or "
        "masks (dkp import recording --detections or --masks), or a longer part of the recording, in which it is seen "
        "in eight places or more"
    )


def add_outline(track: Track, index: int, mask: np.ndarray, size: tuple[int, int], lens: Lens, margin: float) -> None:
    """Put the box around a mask (h, w) bool of a frame whose own size is (width, height) [px]."""
    points = outline(mask)
    if points is not None:
        points = points * (np.array(size) / mask.shape[::-1])
        track.boxes[index] = lens.square(lens(points), margin)


def packed(mask: np.ndarray) -> bytes:
    """Return a mask (h, w) bool in few bytes, so that those of all frames can be kept."""
    return bytes(cv2.imencode(".png", mask.astype(np.uint8) * 255)[1])


def unpacked(content: bytes) -> np.ndarray:
    """Return the mask (h, w) bool of `packed`."""
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)) > 127


def packed_heights(heights: np.ndarray) -> bytes:
    """Return heights (h, w) of `Appearance.refined` in few bytes."""
    return bytes(cv2.imencode(".png", (1 + _LEVELS * heights).clip(0, 255).astype(np.uint8))[1])


def unpacked_heights(content: bytes) -> np.ndarray:
    """Return the heights (h, w) of `packed_heights`, to 1 %."""
    return _heights(_levels(content))


def _levels(content: bytes) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE))


def _heights(levels: np.ndarray) -> np.ndarray:
    return np.where(levels > 0, (levels - np.float32(1)) / _LEVELS, np.float32(-1))
