"""Where the subjects are: boxes of a file, of masks, of detections, or of what moves before a still background."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dkp.captures.images import read_mask
from dkp.errors import InputError
from dkp.files import decoded
from dkp.importers.boxes import Background, box_of_points, largest_part, outline, reduced, spread
from dkp.importers.cameras.parts import OPENCV_TO_CENTRED
from dkp.importers.keypoints.files import read_detections
from dkp.importers.media.names import match_names
from dkp.importers.media.video import FrameSource, image_files, numbered
from dkp.inference.frames import Frames
from dkp.inference.predictor import as_boxes

LEAST_CONFIDENCE = 0.2
"""Detected keypoints below it do not count for a box."""

Boxes = Mapping[int, Mapping[int, np.ndarray]]
"""Number of a frame -> number of a person -> (4,) x0 y0 x1 y1 [px] around them."""


class Named(NamedTuple):
    """The frames of one camera of several.

    Attributes:
        path: video or folder.
        names: number -> name of an image, or the number in a video.
    """

    path: Path
    names: Mapping[int, str]

    @classmethod
    def of(cls, source: FrameSource) -> Named:
        """Name all frames by their own numbers."""
        own = source.own
        return cls(source.path, {n: own[n].stem if isinstance(own, Mapping) else f"{n:06d}" for n in own})


def read_boxes(path: Path, frames: Frames | Named) -> Boxes:
    """Read where the subjects are: from a .json or .csv file of boxes, a folder of mask images, or detections.

    Raises:
        InputError: it is none of these, or holds no box of any of the frames.
    """
    if not path.exists():
        raise InputError(
            f"boxes is {str(path)!r}, which is not there, expected auto, whole, background, a .json or .csv file of "
            "boxes, a folder of masks, or detections"
        )
    if path.is_dir() and image_files(path):
        kind, found = "masks", mask_boxes(path)
    elif path.suffix.lower() in (".json", ".csv") and (rows := listed_rows(path)) is not None:
        kind, found = "boxes", listed_boxes(path, rows, frames.names)
    else:
        try:
            kind, found = "detections", detected_boxes(path)
        except InputError as error:
            raise InputError(f"{error}; or, of boxes, frame or image, x0, y0, x1 and y1 in every row") from error
    of_any(frames, found, f"{path} has {kind}")
    return found


def read_rig_boxes(path: Path, sources: Mapping[str, FrameSource]) -> dict[str, dict[int, np.ndarray]]:
    """Read where one subject is in the frames of several cameras.

    Args:
        path: .json or .csv file of boxes whose rows say their camera; or a folder with what `read_boxes` takes for each
            camera, by its name.
        sources: camera name -> frames.

    Returns:
        Camera -> number of a frame, as the sources count them -> (4,) x0 y0 x1 y1 [px].

    Raises:
        InputError: it is neither, names another camera, or has several people in a frame.
    """
    own = {name: Named.of(source) for name, source in sources.items()}
    found: dict[str, Boxes]
    if path.is_dir():
        kind = "boxes, masks or detections"
        found = {name: read_boxes(file, own[name]) for name, file in match_names(path, [*sources], kind).items()}
    else:
        rows = listed_rows(path) if path.is_file() and path.suffix.lower() in (".json", ".csv") else None
        if rows is None:
            raise InputError(
                f"boxes is {str(path)!r} with a calibration, expected auto, a .json or .csv file of boxes with camera, "
                "frame, x0, y0, x1 and y1, or a folder with boxes, masks or detections of every camera"
            )
        for index, row in enumerate(rows, start=1):
            if row.get("camera") not in sources:
                raise InputError(f"{path}, box {index}: camera is {row.get('camera')!r}, expected {', '.join(sources)}")
        found = {
            name: listed_boxes(path, [row for row in rows if row["camera"] == name], one.names)
            for name, one in own.items()
        }
        if not any(number in one.names for name, one in own.items() for number in found[name]):
            raise InputError(f"{path} has boxes of none of the frames of {', '.join(sources)}")
    placed: dict[str, dict[int, np.ndarray]] = {name: {} for name in sources}
    for name, boxes in found.items():
        for number, people in boxes.items():
            if len(people) > 1:
                raise InputError(
                    f"{path} has {len(people)} people in frame {number} of {name}, expected one, whom all cameras see"
                )
            if (moment := sources[name].moment(number)) is not None and people:
                (placed[name][moment],) = people.values()
    return placed


def of_any(frames: Frames | Named, found: Boxes, what: str) -> None:
    """Raise an error unless some of the frames have boxes."""
    if not any(found.get(number) for number in frames.names):
        known = f"{min(found)} to {max(found)}" if found else "none"
        raise InputError(
            f"{what} of none of the frames {min(frames.names)} to {max(frames.names)} of {frames.path} (its own: "
            f"{known})"
        )


def listed_rows(path: Path) -> list[Any] | None:
    """Return the rows of a .csv file, or the list of a .json file; None where it holds something else: detections."""
    try:
        text = decoded(path.read_bytes())
        rows: Any = (
            json.loads(text)
            if path.suffix.lower() == ".json"
            else list(csv.DictReader(text.splitlines(), skipinitialspace=True))
        )
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}), expected a file of boxes") from error
    boxes = isinstance(rows, list) and all(
        isinstance(row, dict) and {"image", "frame", "box", "x0"} & {*row} for row in rows
    )
    return rows if boxes else None


def listed_boxes(path: Path, rows: list[Any], names: Mapping[int, str]) -> Boxes:
    """Return the boxes of rows with frame (or image), person, x0, y0, x1 and y1 (or box); names are of the frames."""
    numbers = {name: number for number, name in names.items()}
    found: dict[int, dict[int, np.ndarray]] = {}
    for index, row in enumerate(rows, start=1):
        try:
            if "image" in row:
                number = numbers.get(Path(row["image"]).stem)
            else:
                number = int(row["frame"]) if len(names) > 1 or "frame" in row else next(iter(names))
            (box,) = as_boxes(
                [float(value) for value in row.get("box") or [row[key] for key in ("x0", "y0", "x1", "y1")]]
            )
            person = row.get("person")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path}, box {index}: found {row}, expected frame or image, x0, y0, x1, y1 and, of several people, "
                f"person ({type(error).__name__}: {error})"
            ) from error
        if number is not None:
            people = found.setdefault(number, {})
            people[len(people) if person in (None, "") else int(person)] = box
    return found


def mask_boxes(folder: Path) -> Boxes:
    """Return the box around each mask of a folder, told apart by number as the frames are."""
    images = image_files(folder)
    outlines = {number: outline(read_mask(image)) for number, image in numbered(images).items()}
    return {number: {0: box_of_points(points)} for number, points in outlines.items() if points is not None}


def detected_boxes(path: Path) -> Boxes:
    """Return the boxes around detected people; a person's number is its place among those of the frame."""
    found: dict[int, dict[int, np.ndarray]] = {}
    for number, people in read_detections(path).frames.items():
        for person, keypoints in enumerate(people):
            points = keypoints[keypoints[:, 2] >= LEAST_CONFIDENCE, :2] + OPENCV_TO_CENTRED
            if len(points) >= 3 and (np.ptp(points, axis=0) > 0).all():
                found.setdefault(number, {})[person] = box_of_points(points)
    return found


def moving_boxes(frames: Frames) -> Callable[[np.ndarray], np.ndarray | None]:
    """Return what finds the box (4,) [px] of the subject in a frame of a still camera, by its difference to the median.

    Raises:
        InputError: the frames are no video.
    """
    if not frames.is_video:
        raise InputError(f"boxes is background where {frames.path} is no video, expected frames of a still camera")
    background = Background([reduced(image) for _, image in frames.read(spread(list(frames.names)))])

    def find(image: np.ndarray) -> np.ndarray | None:
        mask = largest_part(background.different(reduced(image)))
        points = outline(mask)
        return None if points is None else box_of_points(points * (np.array(image.shape[1::-1]) / mask.shape[::-1]))

    return find
