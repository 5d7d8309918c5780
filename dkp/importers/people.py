"""The same person in every view: of the people that a detector found, those that agree with the rig's geometry."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from dkp.captures.images import in_threads
from dkp.geometry import epipolar_distance, fundamental_matrix
from dkp.importers.keypoints.detections import Joints, inside_frame, main_person, middle, prominence
from dkp.importers.keypoints.files import read_detections
from dkp.importers.keypoints.names import joint_names, named_joints
from dkp.importers.media.synchronise import gap_sentence, number_offset
from dkp.importers.media.video import FrameSource
from dkp.importers.subject import Lens

logger = logging.getLogger(__name__)

MOST_DISTANCE = 0.05
"""Median distance of joints from their epipolar lines up to which two detections may be one person, as a share of the
person's extent in the images: 12 px for a person 250 px high, some times what detectors and calibrations are off."""
_MOST_PEOPLE = 8  # the most prominent ones of a frame, which are looked at


@dataclass(frozen=True)
class _Group:
    """Detections of one frame that may be one person: camera -> index of its detection."""

    members: Mapping[str, int]
    distance: float


def read_people(
    folders: Mapping[str, Path],
    layout: str,
    sources: Mapping[str, FrameSource],
    numbers: Sequence[int],
    cut: bool = False,
) -> tuple[dict[str, dict[int, list[Joints]]], dict[str, str]]:
    """Read the people of all cameras, with warnings about files that are missing or belong to no frame.

    Args:
        folders: camera -> file or folder of detections.
        layout: see `joint_names`.
        sources: camera -> frames.
        numbers: frame numbers that are wanted.
        cut: see `number_offset`.

    Returns:
        Camera -> frame number -> people [px of the raw frame]; and camera -> what its files hold, in words.

    Raises:
        InputError: a file is damaged, or the detections are not of these frames.
    """
    read = dict(zip(folders, in_threads(read_detections, list(folders.values())), strict=True))
    found = {name: inside_frame(some, sources[name].size) for name, some in read.items()}
    joints = joint_names(list(found.values()), layout)
    offset = number_offset(
        {some.path: list(some.frames) for some in found.values()},
        {some.path: sources[name] for name, some in found.items()},
        cut,
    )
    people, words = {}, {}
    for name, some in found.items():
        people[name] = {
            moment: [named_joints(person, joints) for person in persons]
            for number, persons in some.frames.items()
            if (moment := sources[name].moment(number - offset)) is not None
        }
        wanted = [number for number in numbers if number in sources[name]]
        missing = [number + offset for number in wanted if number not in people[name]]
        if missing:
            logger.warning("%s", gap_sentence(some.path, missing, len(wanted), "detections"))
        words[name] = f"{some.path} has {len(some.frames)} frames with {some.listed} people" + (
            "" if not some.listed else f", the highest confidence is {some.best:.3g}"
        )
    return people, words


def same_person(
    people: Mapping[str, Mapping[int, Sequence[Joints]]],
    lenses: Mapping[str, Lens],
    numbers: Sequence[int],
    confidence: float,
) -> dict[str, dict[int, Joints]]:
    """Choose one person over time, the same one in every view, by the epipolar distances between the views.

    A detection that fits none of those on which other cameras agree is left out, with a warning that counts. Where
    that would leave out more than half of a camera's detections, all cameras keep what they follow by themselves: then
    it is not the detections that are wrong, and a check of the capture finds what is.

    Args:
        people: camera -> frame number -> people [px of the raw frame].
        lenses: camera -> lens.
        numbers: increasing frame numbers to look at.
        confidence: joints below it do not count.

    Returns:
        Camera -> frame number -> joints of the person [px of the raw frame], for frames in which it was found.
    """
    cameras = list(people)
    seen = {name: {number: _clear(people[name].get(number, ()), confidence) for number in numbers} for name in cameras}
    several = [number for number in numbers if any(len(seen[name][number]) > 1 for name in cameras)]
    if several:
        logger.warning(
            "several people are seen in %d of %d frames (the first: %d): one is followed in all views, whom most "
            "cameras see, and see best", len(several), len(numbers), several[0],
        )  # fmt: skip
    distances = _distances(seen, lenses, numbers, confidence)
    chosen: dict[str, dict[int, Joints]] = {name: {} for name in cameras}
    alone: dict[str, dict[int, Joints]] = {name: {} for name in cameras}
    refused: dict[str, list[int]] = {name: [] for name in cameras}
    agreed = 0
    previous: dict[str, Joints] = {}
    for index, number in enumerate(numbers):
        here = {name: seen[name][number] for name in cameras}
        between = {pair: table[index] for pair, table in distances.items()}
        group = _best_group(_groups(here, between), here, previous, confidence)
        agreed += group is not None
        for name in cameras:
            own = _followed(here[name], previous.get(name), confidence)
            if own is None:
                continue
            if group is not None and name in group.members:
                chosen[name][number] = previous[name] = here[name][group.members[name]]
            elif group is not None and len(cameras) > 2:
                refused[name].append(number)
                alone[name][number] = own
            else:
                chosen[name][number] = previous[name] = own
    wrong = any(2 * len(frames) > agreed for frames in refused.values())
    for name, frames in refused.items():
        if not frames:
            continue
        if wrong:
            chosen[name] = dict(sorted((chosen[name] | alone[name]).items()))
            sentence = "so all are kept: `dkp check` looks for what is wrong with the cameras"
        else:
            sentence = "so they are left out there"
        logger.warning(
            "%s: its detections fit no person of the other cameras in %d of %d frames (the first: %d), %s",
            name, len(frames), agreed, frames[0], sentence,
        )  # fmt: skip
    return chosen


def _clear(people: Sequence[Joints], confidence: float) -> list[Joints]:
    """People with three sure joints or more, the most prominent ones first."""
    clear = [person for person in people if len(_sure(person, confidence)) >= 3]
    return sorted(clear, key=lambda person: -prominence(_sure(person, confidence)))[:_MOST_PEOPLE]


def _sure(person: Joints, confidence: float) -> Joints:
    return {name: value for name, value in person.items() if value[2] >= confidence}


def _followed(people: Sequence[Joints], previous: Joints | None, confidence: float) -> Joints | None:
    """Return the camera's own choice: who is nearest to the person of the frame before, or the most prominent one."""
    sure = [_sure(person, confidence) for person in people]
    main = main_person(sure, None if previous is None else middle(_sure(previous, confidence)))
    return None if main is None else people[sure.index(main)]


def _distances(
    seen: Mapping[str, Mapping[int, Sequence[Joints]]],
    lenses: Mapping[str, Lens],
    numbers: Sequence[int],
    confidence: float,
) -> dict[tuple[str, str], np.ndarray]:
    """Return pair of cameras -> (frames, people, people): median epipolar distance as a share of the extent."""
    names = sorted({joint for frames in seen.values() for people in frames.values() for p in people for joint in p})
    column = {joint: index for index, joint in enumerate(names)}
    pixels, extents = {}, {}
    for camera, frames in seen.items():
        most = max((len(people) for people in frames.values()), default=0)
        table = np.full((len(numbers), most, len(names), 2), np.nan)
        for row, number in enumerate(numbers):
            for index, person in enumerate(frames[number]):
                sure = _sure(person, confidence)
                table[row, index, [column[joint] for joint in sure]] = [value[:2] for value in sure.values()]
        known = np.isfinite(table[..., 0])
        lens = lenses[camera]
        table[known] = Lens(lens.camera, lens.frame_map)(table[known])
        pixels[camera] = table
        box = (
            np.where(known[..., None], table, np.inf).min(axis=2, initial=np.inf),
            np.where(known[..., None], table, -np.inf).max(axis=2, initial=-np.inf),
        )
        extents[camera] = (box[1] - box[0]).max(axis=-1)
    found = {}
    for first, second in combinations(seen, 2):
        matrix = fundamental_matrix(
            lenses[first].camera.without_distortion(), lenses[second].camera.without_distortion()
        )
        own, other = pixels[first][:, :, None], pixels[second][:, None]
        own, other = np.broadcast_arrays(own, other)
        both = np.isfinite(own[..., 0]) & np.isfinite(other[..., 0])
        distance = np.full(both.shape, np.nan)
        if both.any():
            sides = [torch.as_tensor(np.ascontiguousarray(side[both])) for side in (own, other)]
            distance[both] = epipolar_distance(sides[0], sides[1], matrix, kind="symmetric").numpy()
        extent = (extents[first][:, :, None] + extents[second][:, None]) / 2
        median = np.full(both.shape[:-1], np.nan)
        enough = both.sum(axis=-1) >= 3
        median[enough] = np.nanmedian(distance[enough], axis=-1)
        found[first, second] = median / extent
    return found


def _groups(here: Mapping[str, Sequence[Joints]], between: Mapping[tuple[str, str], np.ndarray]) -> list[_Group]:
    """Build, from every detection, the group of those that agree with it and with each other."""

    def distance(camera: str, index: int, other: str, its: int) -> float:
        if (camera, other) in between:
            return float(between[camera, other][index, its])
        return float(between[other, camera][its, index])

    groups: dict[frozenset, _Group] = {}
    for seed, people in here.items():
        for start in range(len(people)):
            members, total = {seed: start}, 0.0
            for camera in here:
                if camera in members:
                    continue
                best: tuple[float, int] | None = None
                for index in range(len(here[camera])):
                    known = [distance(camera, index, other, its) for other, its in members.items()]
                    known = [value for value in known if np.isfinite(value)]
                    if known and max(known) <= MOST_DISTANCE:
                        best = min(best or (np.inf, 0), (float(np.mean(known)), index))
                if best is not None:
                    members[camera] = best[1]
                    total += best[0]
            if len(members) > 1:
                groups[frozenset(members.items())] = _Group(members, total / (len(members) - 1))
    return list(groups.values())


def _best_group(
    groups: Sequence[_Group], here: Mapping[str, Sequence[Joints]], previous: Mapping[str, Joints], confidence: float
) -> _Group | None:
    """Return the group of the person that was followed so far; else the one that most cameras see, and see best."""

    def away(group: _Group) -> float:
        """How far the person has moved, in units of its extent."""
        moves = []
        for name, index in group.members.items():
            if name in previous:
                now, before = (_sure(person, confidence) for person in (here[name][index], previous[name]))
                extent = np.ptp([value[:2] for value in now.values()], axis=0).max()
                moves.append(float(np.linalg.norm(middle(now) - middle(before)) / max(extent, 1.0)))
        return float(np.mean(moves)) if moves else np.inf

    def rank(group: _Group) -> tuple[float, ...]:
        move = away(group)
        seen = -sum(prominence(_sure(here[name][index], confidence)) for name, index in group.members.items())
        if move > 1:  # lost, or nobody was followed so far
            return (1.0, -len(group.members), seen, group.distance)
        return (0.0, -len(group.members), move, group.distance)

    return min(groups, key=rank, default=None)
