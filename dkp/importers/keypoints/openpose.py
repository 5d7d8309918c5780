"""A folder of JSON files, one a frame: as OpenPose writes them, or MMPose for single images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dkp.captures.arrays import parse_json, shown
from dkp.errors import InputError
from dkp.importers.keypoints.detections import Detections, collect
from dkp.importers.media.video import numbered


def read_frame_files(folder: Path) -> Detections:
    """Read a folder of ``.json`` files with ``people[].pose_keypoints_2d``, or lists of MMPose's instances.

    The number of a frame is the one in the name of its file that differs from file to file, the last one where several
    do ("cam01.0012.json", "take_000000000012_keypoints.json", "frame_12_2d.json").

    Raises:
        InputError: a file cannot be read, people have different numbers of keypoints, or the coordinates cannot be
            pixels.
    """
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not files:
        raise InputError(f"{folder} has no .json files, expected one file of detections per frame")
    return collect(folder, _frames(files))


def frame_file(folder: Path) -> Path | None:
    """Return the first file of a folder whose files hold a frame each; None where it is another one."""
    files = sorted(folder.glob("*.json"))
    if not files or any(path.is_dir() for path in folder.iterdir()):
        return None
    try:
        _read_people(files[0])
    except InputError:
        return None
    return files[0]


def _frames(files: list[Path]) -> Iterator[tuple[int, str, list[np.ndarray]]]:
    number_in(files[0].stem, str(files[0]))
    for number, path in numbered(files).items():
        yield number, str(path), _read_people(path)


def number_in(name: str, where: str) -> int:
    """Return the last number in a name.

    Raises:
        InputError: there is none.
    """
    found = re.findall(r"\d+", name)
    if not found:
        raise InputError(f"{where} has no number in its name, expected the number of its frame")
    return int(found[-1])


def _read_people(path: Path) -> list[np.ndarray]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}), expected a JSON file of OpenPose") from error
    data = parse_json(content, str(path))
    if isinstance(data, list) and data and all(isinstance(one, Mapping) and "keypoint_scores" in one for one in data):
        return read_instances(data, str(path))
    people = data.get("people") if isinstance(data, Mapping) else None
    if not isinstance(people, list):
        raise InputError(f"{path}: people is {shown(people)}, expected a list")
    return [
        triples(
            person.get("pose_keypoints_2d") if isinstance(person, Mapping) else None,
            f"{path}: people[{index}]: pose_keypoints_2d",
        )
        for index, person in enumerate(people)
    ]


def triples(values: Any, where: str) -> np.ndarray:
    """Return (K, 3) x, y and confidence of a flat list; K is zero for a person of whom only face or hands were found.

    Raises:
        InputError: it is no list of three numbers a keypoint.
    """
    if not isinstance(values, list) or len(values) % 3:
        found = f"has {len(values)} numbers" if isinstance(values, list) else f"is {shown(values)}"
        raise InputError(f"{where} {found}, expected x, y and confidence of every keypoint")
    numbers = [np.nan if value is None else value for value in values]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers):
        raise InputError(f"{where} is {shown(values)}, expected {len(values)} numbers")
    try:
        return np.array(numbers, np.float64).reshape(-1, 3)
    except OverflowError:
        raise InputError(f"{where} is {shown(values)}, expected {len(values)} numbers") from None


def read_instances(instances: Any, where: str) -> list[np.ndarray]:
    """Return the people (K, 3) in a list of MMPose's: ``keypoints`` (K pairs) and ``keypoint_scores`` (K).

    Raises:
        InputError: an entry is something else.
    """
    if not isinstance(instances, list):
        raise InputError(f"{where} is {shown(instances)}, expected a list of instances")
    people = []
    for index, one in enumerate(instances):
        points, scores = (
            one.get(key) if isinstance(one, Mapping) else None for key in ("keypoints", "keypoint_scores")
        )
        if not isinstance(points, list) or not isinstance(scores, list) or len(points) != len(scores):
            raise InputError(f"{where}[{index}] is {shown(one)}, expected as many keypoints as keypoint_scores")
        if not all(isinstance(point, list) and len(point) == 2 for point in points):
            raise InputError(f"{where}[{index}]: keypoints is {shown(points)}, expected pairs of x and y")
        flat = [value for point, score in zip(points, scores, strict=True) for value in (*point, score)]
        people.append(triples(flat, f"{where}[{index}]: keypoints"))
    return people
