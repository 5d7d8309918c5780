"""Importing a recording of your own rig: a camera file and one video or image folder per camera to a capture."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dkp.captures.arrays import between, one_of, parse_slice, whole_number
from dkp.captures.capture import Capture
from dkp.captures.crops import CropMap, apply_affine, invert_affine
from dkp.captures.images import OnBad
from dkp.captures.writer import CaptureWriter, check_destination, write_view_files
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.importers.cameras.lens import plain_cameras
from dkp.importers.cameras.registry import read_cameras
from dkp.importers.floor import floor_plane
from dkp.importers.hull import Hull, confirm_masks
from dkp.importers.keypoints.detections import Joints, joint_pixels, move_joints
from dkp.importers.keypoints.files import detections_of
from dkp.importers.masks import grabcut_mask
from dkp.importers.media.clocks import Sync, synchronise
from dkp.importers.media.names import Paths
from dkp.importers.media.synchronise import (
    FrameMap,
    Rates,
    common_rate,
    frame_maps,
    frame_numbers,
    mask_offset,
    other_sizes,
    with_sizes,
)
from dkp.importers.media.video import FrameSource, open_media, report_bad
from dkp.importers.people import read_people, same_person
from dkp.importers.scale import doubt_unit
from dkp.importers.subject import (
    Lens,
    Track,
    background_mask,
    doubt_background,
    moved_joints,
    track_background,
    track_masks,
    track_people,
)
from dkp.importers.upright import Up, turned_sentence, turns
from dkp.surface import Surface
from dkp.workers import Workers, calls

logger = logging.getLogger(__name__)

_LOOKS = 24  # frames of each camera that mirror images are learned from


def import_recording(
    calibration: str | Path,
    media: Paths,
    out: str | Path,
    *,
    format: str = "auto",
    unit: str | None = None,
    subject: str | None = None,
    cameras: Sequence[str] | Mapping[str, str] | None = None,
    size: int = 192,
    mode: Literal["crop", "whole"] = "crop",
    boxes: Literal["auto", "detections", "masks", "background"] = "auto",
    detections: Paths | None = None,
    layout: str = "auto",
    masks: Paths | Literal["auto", "none", "grabcut", "background"] = "auto",
    floor: float | None = None,
    frames: str = "",
    frame_map: FrameMap = "auto",
    rates: Rates = "same",
    sync: Sync | None = None,
    margin: float = 0.15,
    smooth: int = 1,
    up: Up = "auto",
    confidence: float = 0.2,
    splits: Mapping[str, str] | None = None,
    surface: str | Path | Surface = "human",
    name: str | None = None,
    sequence: str = "take",
    source: str = "",
    licence: str = "",
    overwrite: bool = False,
    workers: int | None = None,
    executor: str = "local",
    on_bad: OnBad = "raise",
) -> Capture:
    """Import a recording of your own rig, with a camera file of any common program, as a capture.

    Frames are synchronised by their number: frame 12 of every camera shows the same moment. A video's frames count from
    0, images have their number in their names; masks and detections are numbered as the frames, or from 1 where those
    count from 0.

    Args:
        calibration: the camera file, or its folder; `dkp import --list` shows what is read.
        media: folder with one video or one image folder per camera, matched by camera name; or the paths in the order
            of the cameras; or camera name -> path; or a pattern, such as cam{camera}/frame_{frame}.png.
        out: the capture to write.
        format: of the camera file; "auto" finds it by what the file holds.
        unit: of the calibration's translations: "m", "cm", "mm" or how many metres one is; by default that of the
            format, where it has one. Pose2Sim and caliscope write "m", Anipose mostly "mm".
        subject: whose rig, in a camera file that has one for each subject (Human3.6M).
        cameras: names of the cameras to import, all by default; or name in the file -> what the camera is called.
        size: side of the square crops [px].
        mode: "crop" cuts undistorted squares around the subject; "whole" keeps whole frames as they are.
        boxes: where the subject is: from ``detections``, from given ``masks``, or from the ``background`` of static
            cameras; "auto" takes the first of these that is given.
        detections: folder with one folder or file of detections per camera, matched by name; or paths as in ``media``:
            OpenPose, COCO, MMPose (JSON), DeepLabCut, lightning-pose (CSV, HDF5), SLEAP (HDF5), DANNCE (MATLAB).
        layout: what keypoints are called: a YAML file of lines "their name: our name"; or the order of their joints:
            body_25b, body_25, halpe_26, coco_17 or coco_18; "auto" takes the names in the files, or finds the order.
        masks: foreground masks: folder of given mask images as in ``media``; "grabcut" from detections; "background" by
            background subtraction; "none"; "auto" takes given masks or what the boxes come from.
        floor: z (up) of a floor that mirrors [m], to a tenth of the subject's size; with boxes from the background.
        frames: which frames, as start:stop:step; empty takes all.
        frame_map: how frames relate to the calibrated image size: "auto" where their sizes say whether they were
            resized or cut alike on two sides, which a warning then says; "stretch" where they were resized; "same"
            refuses other sizes; or camera name -> 2 x 3 affine map from frame pixels to calibrated pixels (centres at
            integer + 0.5).
        rates: "same" refuses videos whose frame rates differ; "any" takes frames of one number for one moment all the
            same, where headers are wrong.
        sync: which frames show one moment, where their numbers do not say it: camera name -> by how many frames it is
            ahead of the first; a CSV of times with a line for each frame (camera, frame, time); or "times", where
            the videos know the times of their frames (variable frame rates).
        margin: room around the subject on each side, as a share of its longer side.
        smooth: odd number of frames over which boxes are smoothed; 1 does not smooth.
        up: axis of the calibration's world that points up: crops of cameras that are askew by more than 10 degrees are
            turned upright. "auto" takes what is up in most images, where they agree; "none" turns none.
        confidence: detected joints below it do not count for boxes and masks.
        splits: split name -> start:stop:step of frame numbers; default: the first 80 % train, the rest test.
        surface: the canonical surface of the subject.
        name: name of the capture; default: the name of ``out``.
        sequence: name of the recording, the first part of the frame ids.
        source: where the data come from.
        licence: under which licence.
        overwrite: whether an existing capture at ``out`` is replaced.
        workers: processes, each for a camera; one for each core by default, 1 for none but this one.
        executor: "local", or "dask:ADDRESS" for the workers of a cluster, see docs/scaling.md.
        on_bad: "raise" ends at a frame or mask that cannot be decoded, "skip" leaves such views out and counts them.

    Returns:
        The capture, opened.

    Raises:
        InputError: one sentence with file and key, what was found and what was expected. Nothing is written then.
    """
    check_destination(out, overwrite)
    one_of(mode, ("crop", "whole"), "mode")
    one_of(boxes, ("auto", "detections", "masks", "background"), "boxes")
    whole_number(size, "size", least=8)
    between(margin, "margin", 0.0, 5.0)
    between(confidence, "confidence", 0.0, np.inf)
    if whole_number(smooth, "smooth", least=1) % 2 == 0:
        raise InputError(f"smooth is {smooth}, expected an odd number of frames, with as many before as behind")
    rig = read_cameras(calibration, format, unit, subject, cameras)
    if mode == "whole":
        rig = plain_cameras(rig, "a capture of whole frames; mode crop removes the distortion of any lens")
        for option, value in {"size": size, "margin": margin, "smooth": smooth, "up": up}.items():
            if value != signature(import_recording).parameters[option].default:
                raise InputError(f"{option} is {value} but mode is 'whole', which keeps frames, expected --mode crop")
    sources = open_media(media, list(rig), on_bad)
    rig = with_sizes(rig, sources)
    if sync is not None:
        synchronise(sources, sync)
    numbers = frame_numbers(sources, frames, rates, synced=sync is not None)
    recording = _Recording(
        size=size, whole=mode == "whole", margin=margin, smooth=smooth, up=up, confidence=confidence,
        numbers=numbers, sequence=sequence, boxes=boxes, cut=parse_slice(frames, "frames")[1] is not None,
        looks=0 if floor is None else _LOOKS,
    )  # fmt: skip
    maps = frame_maps(rig, sources, frame_map)
    plans = _plan(recording, rig, sources, maps, detections, layout, masks, floor, on_bad)
    writer = CaptureWriter(
        out, name=Path(out).resolve().name if name is None else name, surface=surface, unit="m", cameras=rig,
        source="; ".join(part for part in (source, other_sizes(rig, sources)) if part), licence=licence,
        fps=common_rate(sources.values()), overwrite=overwrite,
    )  # fmt: skip
    with writer, Workers(calls, workers, executor) as pool:
        tracked = list(pool.map([partial(recording.track, plan) for plan in plans], "finding the subject", "camera"))
        tracks = {plan.camera: track for plan, track in tracked}
        lenses = {plan.camera: plan.lens for plan in plans}
        if plans[0].boxes == "background":
            if doubt := doubt_background(tracks):
                logger.warning("%s", doubt)
            hull = Hull(lenses, {plan.camera: plan.frames.size for plan in plans}, floor)
            hull.floor = floor_plane(hull, tracks)
            confirm_masks(hull, tracks, numbers, margin, smooth, pool)
        if doubt := doubt_unit(tracks, lenses, margin, writer.surface, unit):
            logger.warning("%s: %s", calibration, doubt)
        kept = _seen_twice(numbers, [track for _, track in tracked], recording)
        for plan, track in tracked if mode == "crop" else ():
            if not track.boxes:
                logger.warning("%s has no view, the subject was found in none: %s", plan.camera, track.found)
        jobs = [partial(recording.write, writer.folder, plan, track, kept) for plan, track in tracked]
        written_by = list(pool.map(jobs, "writing views", "camera"))
        rows = [row for _, some in written_by for row in some]
        writer.add_rows(rows)
        written = {row["time"] for row in rows}
        writer.splits = _splits(splits, [number for number in kept if number in written], sequence)
    sources_read = [source for plan, _ in written_by for source in (plan.frames, plan.masks) if source is not None]
    report_bad(str(out), sources_read)
    return Capture.open(out)


@dataclass(frozen=True)
class _Plan:
    """One camera: what to read and how."""

    camera: str
    frames: FrameSource
    lens: Lens
    boxes: str
    people: dict[int, Joints] | None
    detected: str
    masks: FrameSource | None
    mask_offset: int
    mask_kind: str

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
        """Yield (number, frame, given mask (H, W) bool or None); what lacks its mask is left out."""
        if self.masks is None:
            yield from ((number, frame, None) for number, frame in self.frames.frames(numbers))
            return
        masks = self.masks.frames(self.masks.near(numbers, self.mask_offset))
        ahead = next(masks, None)
        for number, frame in self.frames.frames(numbers):
            while ahead is not None and ahead[0] - self.mask_offset < number:
                ahead = next(masks, None)
            if ahead is not None and ahead[0] - self.mask_offset == number:
                yield number, frame, ahead[1]


@dataclass(frozen=True)
class _Recording:
    """What holds for all cameras of an import."""

    size: int
    whole: bool
    margin: float
    smooth: int
    up: Up
    confidence: float
    numbers: list[int]
    sequence: str
    boxes: str
    cut: bool
    looks: int

    def track(self, plan: _Plan) -> tuple[_Plan, Track]:
        """Find the subject in every frame of a camera; also return the plan, whose sources know their bad frames."""
        return plan, self._track(plan)

    def _track(self, plan: _Plan) -> Track:
        people = plan.people or {}
        if plan.boxes == "detections":
            return track_people(people, plan.lens, self.margin, self.smooth, self.confidence, plan.detected)
        track = self._outlined(plan)
        track.joints = moved_joints(people, plan.lens)
        return track

    def _outlined(self, plan: _Plan) -> Track:
        numbers = [number for number in self.numbers if number in plan.frames]
        if plan.boxes == "masks" and plan.masks is not None:
            return track_masks(plan.masks, plan.mask_offset, plan.lens, numbers, self.margin, self.smooth)
        if plan.boxes == "background":
            return track_background(plan.frames, plan.lens, numbers, self.margin, self.smooth, self.looks)
        return Track()

    def write(self, folder: Path, plan: _Plan, track: Track, kept: list[int]) -> tuple[_Plan, list[dict[str, Any]]]:
        """Cut and write a camera's views; return the plan, whose sources know their bad frames, and the rows."""
        numbers = kept if self.whole else [number for number in kept if number in track.boxes]
        rows = []
        for number, frame, mask in plan.read(numbers):
            affine, cut = self._cut(plan, track, number)
            image = frame if cut is None else cut.image(frame)
            joints = track.joints.get(number)
            if joints is not None:
                pixels = joint_pixels(joints)
                joints = move_joints(joints, pixels if affine is None else apply_affine(affine, pixels))
            if mask is not None and cut is not None:
                mask = cut.mask(mask)
            if plan.mask_kind == "background" and number in track.masks:
                mask = background_mask(track, number, image, plan.frames.size, cut)
            if plan.mask_kind == "grabcut" and joints is not None:
                mask = grabcut_mask(image, joints, self.confidence)
            row = write_view_files(
                folder, f"{self.sequence}_{number:06d}", plan.camera, image, sequence=self.sequence, time=number,
                mask=mask if mask is not None and mask.any() else None, crop=affine, undistorted=not self.whole,
                joints=joints,
            )  # fmt: skip
            rows.append(row)
        return plan, rows

    def _cut(self, plan: _Plan, track: Track, number: int) -> tuple[np.ndarray | None, CropMap | None]:
        """Return the view's affine map and where its pixels lie in the frame; None for the frame as it is."""
        if self.whole:
            return None if plan.lens.frame_map is None else invert_affine(plan.lens.frame_map), None
        affine = plan.lens.crop(track.boxes[number], self.size)
        return affine, CropMap.create(plan.lens.camera, affine, self.size, plan.lens.frame_map)


def _plan(
    recording: _Recording,
    cameras: Mapping[str, Camera],
    sources: Mapping[str, FrameSource],
    maps: Mapping[str, np.ndarray | None],
    detections: Paths | None,
    layout: str,
    masks: Paths | str,
    floor: float | None,
    on_bad: OnBad,
) -> list[_Plan]:
    """Decide per camera where boxes, joints and masks come from, and check that what they need is there."""
    names = list(cameras)
    folders = None if detections is None else detections_of(detections, names)
    kinds = ("auto", "none", "grabcut", "background")
    given = None if isinstance(masks, str) and masks in kinds else open_media(masks, names, on_bad, masks=True)
    boxes = recording.boxes
    if boxes == "auto":
        boxes = "detections" if folders else "masks" if given else "none" if recording.whole else "background"
    mask_kind = "given" if given is not None else str(masks)
    if mask_kind == "auto":
        mask_kind = {"detections": "grabcut", "background": "background"}.get(boxes, "none")
    if boxes == "detections" and folders is None:
        raise InputError("boxes is 'detections' but detections is not given, expected a folder of detections")
    if boxes == "masks" and given is None:
        raise InputError("boxes is 'masks' but masks is not a folder, expected a folder of mask images per camera")
    if layout != "auto" and folders is None:
        raise InputError(f"layout is {layout!r} but detections is not given, expected a folder of detections")
    if floor is not None and boxes != "background":
        raise InputError(f"floor is {floor:g} but boxes is {boxes!r}, expected boxes from the background")
    if mask_kind == "grabcut" and folders is None:
        raise InputError("masks is 'grabcut' but detections is not given, expected a folder of detections")
    if mask_kind == "background" and boxes != "background":
        raise InputError(f"masks is 'background' but boxes is {boxes!r}, expected boxes from the background too")
    turned = turns(cameras, "none" if recording.whole else recording.up)
    if recording.up == "auto" and (notice := turned_sentence(turned)):
        logger.warning("%s; --up none leaves them, --up z says which axis of the world is up", notice)
    lenses = {name: Lens(cameras[name], maps[name], not recording.whole, turned[name]) for name in names}
    offset = 0 if given is None else mask_offset(recording.numbers, given, sources, recording.cut)
    people: dict[str, dict[int, Joints]] = {}
    detected: dict[str, str] = {}
    if folders is not None:
        everybody, detected = read_people(folders, layout, sources, recording.numbers, recording.cut)
        people = same_person(everybody, lenses, recording.numbers, recording.confidence)
    return [
        _Plan(
            camera=name,
            frames=sources[name],
            lens=lenses[name],
            boxes=boxes,
            people=people.get(name),
            detected=detected.get(name, ""),
            masks=None if given is None else given[name],
            mask_offset=offset,
            mask_kind=mask_kind,
        )
        for name in names
    ]


def _seen_twice(numbers: list[int], tracks: Sequence[Track], recording: _Recording) -> list[int]:
    """Keep the frames in which at least two cameras have found the subject."""
    if recording.whole:
        return numbers
    kept = [number for number in numbers if sum(number in track.boxes for track in tracks) >= 2]
    if not kept:
        raise InputError(
            f"the subject was found by two cameras in none of {len(numbers)} frames, expected detections, masks or a "
            f"static background that show it: {'; '.join(track.found for track in tracks)}"
        )
    return kept


def _splits(splits: Mapping[str, str] | None, kept: list[int], sequence: str) -> dict[str, list[str]]:
    if splits is None:
        border = kept[: max(1, round(0.8 * len(kept)))]
        chosen = {"train": border, "test": kept[len(border) :]}
    else:
        end = kept[-1] + 1
        chosen = {}
        for split, value in splits.items():
            start, stop, step = parse_slice(value, f"splits: {split}")
            wanted = set(range(*slice(start, stop, step).indices(end)))
            chosen[split] = [number for number in kept if number in wanted]
            if not chosen[split]:
                raise InputError(f"splits: {split} is {value!r}, which selects no imported frame, expected start:stop")
    return {split: [f"{sequence}_{number:06d}" for number in frames] for split, frames in chosen.items()}
