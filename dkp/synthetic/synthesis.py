"""Writes captures of rendered people: every image labelled exactly, the same bytes for the same seed."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dkp.captures import Capture, CaptureWriter
from dkp.captures.labels import DenseLabel
from dkp.captures.writer import write_truth, write_view_files
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.surface import Surface
from dkp.synthetic.background import Backdrop, make_backdrop, make_surroundings
from dkp.synthetic.body import SkinnedBody
from dkp.synthetic.domains import Domain, find_domain
from dkp.synthetic.light import Lighting, Response, sample_lighting, sample_response
from dkp.synthetic.motion import sample_motion
from dkp.synthetic.noise import choose
from dkp.synthetic.regions import BodyRegions
from dkp.synthetic.render import Person, pose_person, render_view
from dkp.synthetic.rig import RigCamera, make_rig

# First numbers of the keys under which independent random streams are drawn from the seed.
_RIG, _LIGHT, _SURROUNDINGS, _RESPONSE, _PERSON, _SHAPE, _MOTION, _VIEW = range(8)

_UPRIGHT = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
"""From the motion's world, y up, to the capture's, z up."""

CLIP = 16
"""Instants of a clip: a piece of smooth motion."""


@dataclass(frozen=True)
class Recording:
    """All that determines a synthetic capture; sent to the workers."""

    domain: Domain
    subjects: int
    frames: int
    clip: int
    size: int
    seed: int
    fps: float
    rig: tuple[RigCamera, ...]

    def stream(self, *key: int) -> np.random.SeedSequence:
        """An independent random stream for a key."""
        return np.random.SeedSequence(self.seed, spawn_key=key)

    def clips(self) -> list[tuple[int, int, int]]:
        """(subject, clip, number of instants) of every clip."""
        return [
            (subject, index, min(self.clip, self.frames - start))
            for subject in range(self.subjects)
            for index, start in enumerate(range(0, self.frames, self.clip))
        ]

    def time(self, clip: int, instant: int) -> int:
        """Index in the sequence; clips lie at least one instant apart, so no two are taken for neighbours."""
        spacing = 100 * (self.clip // 100 + 1)
        return clip * spacing + instant

    def frame(self, subject: int, clip: int, instant: int) -> str:
        """Id of an instant."""
        return f"s{subject:02d}_{self.time(clip, instant):06d}"


def synthesize(
    out: str | Path,
    *,
    subjects: int,
    frames: int,
    cameras: int = 6,
    size: int = 128,
    seed: int = 0,
    domain: str | Domain = "source",
    layout: str = "ring",
    fps: float = 30.0,
    clip: int = CLIP,
    splits: Mapping[str, float] | None = None,
    workers: int | None = None,
    name: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Capture:
    """Render a capture of people with exact dense labels.

    Every subject has a body shape, clothes and motion of its own and is recorded as one sequence ``s00``, ``s01``, ...
    of clips: pieces of smooth motion, whose time indices lie apart. Every view is a square crop around the person; the
    rig's cameras belong to the full sensor and each view's ``crop`` maps from there. Masks, dense labels, joints and
    the posed surface (clothes included) are stored. The bytes depend on the arguments, not on the number of workers.

    Args:
        out: Folder of the capture.
        subjects: Number of people.
        frames: Instants per subject, in clips of ``clip``.
        cameras: Cameras of the rig.
        size: Side of the images [px].
        seed: Of all that is random.
        domain: Name of a domain (``source``, ``target``, ``varied``, ``studio``, ``outdoor``) or a
            :class:`~dkp.synthetic.domains.Domain`.
        layout: ``"ring"``, or ``"dome"`` with every second camera raised.
        fps: Instants per second of a clip.
        clip: Instants of a clip, at most 1 to take instants one by one.
        splits: Share of each split, by default three quarters ``train`` and one quarter ``test``. Whole subjects where
            there are enough of them, in order; otherwise whole clips, otherwise blocks of instants.
        workers: Processes; all cores by default, 1 for none but this one.
        name: Of the capture; by default from domain and seed.
        overwrite: Whether a capture that exists may be replaced.
        progress: Show a progress bar.

    Returns:
        The capture.

    Raises:
        InputError: an argument is out of range, or ``out`` exists.
    """
    chosen = find_domain(domain)
    for label, value, least in (
        ("subjects", subjects, 1),
        ("frames", frames, 1),
        ("cameras", cameras, 1),
        ("size", size, 16),
        ("clip", clip, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise InputError(f"{label} is {value}, expected at least {least}")
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}, expected at least 1")
    if fps <= 0:
        raise InputError(f"fps is {fps}, expected a positive number")
    stream = np.random.SeedSequence(seed, spawn_key=(_RIG,))
    rig = tuple(make_rig(chosen, cameras, layout, np.random.default_rng(stream)))
    recording = Recording(chosen, subjects, frames, clip, size, seed, fps, rig)
    parts = recording.clips()
    processes = min(workers or len(os.sched_getaffinity(0)), len(parts))
    with (
        CaptureWriter(
            out,
            name=name or f"{chosen.name} {seed}",
            surface="human",
            cameras={camera.name: to_camera(camera) for camera in rig},
            splits=make_splits(recording, splits),
            source=f"rendered by dkp, domain {chosen.name}, seed {seed}, {fps:g} instants per second",
            licence="CC0-1.0",
            overwrite=overwrite,
        ) as writer,
        _bar(progress) as bar,
    ):
        task = bar.add_task("rendering", total=subjects * frames * cameras)
        for rows in _rendered(recording, writer.folder, parts, processes):
            for row in rows:
                writer.add_row(row)
            bar.advance(task, len(rows))
    return Capture.open(out)


def make_splits(recording: Recording, shares: Mapping[str, float] | None) -> dict[str, list[str]]:
    """Frame ids of each split.

    Args:
        recording: What is recorded.
        shares: Split name -> share, more than 0; normalised to sum 1.

    Raises:
        InputError: a share that is not positive, or fewer instants than splits.
    """
    shares = shares or {"train": 0.75, "test": 0.25}
    for key, share in shares.items():
        if not share > 0:
            raise InputError(f"the share of split {key!r} is {share}, expected more than 0")
    subjects: dict[int, list[str]] = {}
    clips, instants = [], []
    for subject, clip, count in recording.clips():
        ids = [recording.frame(subject, clip, k) for k in range(count)]
        subjects.setdefault(subject, []).extend(ids)
        clips.append(ids)
        instants += [[frame] for frame in ids]
    for blocks in (list(subjects.values()), clips, instants):
        if len(blocks) < len(shares):
            continue
        bounds = np.cumsum([0.0, *shares.values()]) / sum(shares.values()) * len(blocks)
        edges = np.round(bounds - 1e-9).astype(int)
        for k in range(1, len(edges) - 1):  # every split gets at least one block
            edges[k] = min(max(edges[k], edges[k - 1] + 1), len(blocks) - (len(edges) - 1 - k))
        return {
            key: [frame for block in blocks[edges[k] : edges[k + 1]] for frame in block] for k, key in enumerate(shares)
        }
    raise InputError(f"there are {len(instants)} instants, expected at least one for each of {len(shares)} splits")


def to_camera(camera: RigCamera) -> Camera:
    """The rig camera as a :class:`dkp.geometry.Camera` without distortion, float64 [px, m]."""
    return Camera.create(
        torch.from_numpy(camera.intrinsics),
        camera.rotation,
        camera.translation,
        image_size=torch.tensor(camera.size, dtype=torch.float64),
    )


def _bar(show: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("views"))
    return Progress(*columns, TimeRemainingColumn(), disable=not show)


def _rendered(
    recording: Recording, folder: Path, parts: list[tuple[int, int, int]], processes: int
) -> Iterator[list[dict[str, Any]]]:
    """Rows of the views, clip by clip as they are finished."""
    if processes <= 1:
        for part in parts:
            yield render_clip(recording, folder, *part)
        return
    with _single_threaded():
        pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _prepare_worker)
        try:
            futures = [pool.submit(render_clip, recording, folder, *part) for part in parts]
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Processes started inside get one thread each for their matrix products."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _prepare_worker() -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


@lru_cache(maxsize=1)
def _template() -> tuple[BodyRegions, SkinnedBody]:
    return BodyRegions(Surface.load("human")), SkinnedBody.load("human")


@dataclass(frozen=True)
class Scene:
    """Where one subject is recorded: light, backdrop and response of every camera."""

    lighting: Lighting
    backdrops: tuple[Backdrop, ...]
    responses: tuple[Response, ...]


_scenes: dict[str, tuple[tuple[int, int, int, Domain], Scene]] = {}


def make_scene(recording: Recording, subject: int) -> Scene:
    """The scene of a subject; the last one is kept, since clips of one subject follow each other."""
    place = 0 if recording.domain.shared_backdrop else subject
    key = (recording.seed, place, recording.size, recording.domain)
    last = _scenes.get("last")
    if last is not None and last[0] == key and len(last[1].backdrops) == len(recording.rig):
        return last[1]
    lighting = sample_lighting(recording.domain, np.random.default_rng(recording.stream(_LIGHT, place)))
    surroundings = make_surroundings(
        recording.domain, list(recording.rig), lighting.directions[0], recording.stream(_SURROUNDINGS, place)
    )
    backdrops, responses = [], []
    for index, camera in enumerate(recording.rig):
        # An adult of 1.75 m fills about the inverse distance of the frame's height; a crop shows a little more.
        scale = recording.size / (0.9 * camera.size[1])
        backdrops.append(make_backdrop(surroundings, camera, index, scale))
        response = np.random.default_rng(recording.stream(_RESPONSE, place, index))
        responses.append(sample_response(recording.domain, response))
    scene = Scene(lighting, tuple(backdrops), tuple(responses))
    _scenes["last"] = (key, scene)
    return scene


def render_clip(recording: Recording, folder: Path, subject: int, clip: int, count: int) -> list[dict[str, Any]]:
    """Render and write all views of one clip.

    Args:
        recording: What is recorded.
        folder: The capture writer's folder.
        subject: Whose clip.
        clip: Which clip.
        count: Its instants.

    Returns:
        The rows of the views.
    """
    domain = recording.domain
    regions, body = _template()
    person = Person.sample(regions, domain, np.random.default_rng(recording.stream(_PERSON, subject)))
    shape = sample_shape(body, domain, np.random.default_rng(recording.stream(_SHAPE, subject)))
    rng = np.random.default_rng(recording.stream(_MOTION, subject, clip))
    activity = choose(domain.motions, rng) if domain.motions else None
    rotations, roots = sample_motion(rng, count, recording.fps, activity)
    scene = make_scene(recording, subject)
    rows = []
    for instant in range(count):
        skin, joints = body.pose(shape, rotations[instant], _UPRIGHT @ roots[instant])
        # The motion puts the feet of the mean body on the floor; other bodies have longer or shorter legs.
        drop = np.array([0.0, 0.0, skin[:, 2].min()])
        skin, joints = skin - drop, {key: point - drop for key, point in joints.items()}
        front = joints["nose"] - (joints["left_ear"] + joints["right_ear"]) / 2
        moment = pose_person(person, skin, front / np.linalg.norm(front), scene.lighting)
        frame = recording.frame(subject, clip, instant)
        write_truth(folder, frame, moment.vertices)
        points = np.stack(list(joints.values()))
        for index, camera in enumerate(recording.rig):
            noise = np.random.default_rng(recording.stream(_VIEW, subject, clip, instant, index))
            view = render_view(
                person,
                moment,
                camera,
                scene.backdrops[index],
                scene.lighting,
                scene.responses[index],
                domain,
                recording.size,
                noise,
            )
            pixels = camera.project(points) @ view.crop[:, :2].T + view.crop[:, 2]
            rows.append(
                write_view_files(
                    folder,
                    frame,
                    camera.name,
                    view.image,
                    sequence=f"s{subject:02d}",
                    time=recording.time(clip, instant),
                    mask=view.face >= 0,
                    label=DenseLabel(view.face, view.barycentric),
                    crop=view.crop,
                    undistorted=True,
                    joints={key: (*pixel, 1.0) for key, pixel in zip(joints, pixels.tolist(), strict=True)},
                    domain=domain.name,
                )
            )
    return rows


def sample_shape(body: SkinnedBody, domain: Domain, rng: np.random.Generator) -> np.ndarray:
    """Body shape parameters (S,) of one person of a domain."""
    shape = domain.shape_scale * rng.standard_normal(body.shape_dim)
    shift = np.zeros(body.shape_dim)
    given = domain.shape_shift[: body.shape_dim]
    shift[: len(given)] = given
    return np.clip(shape + shift, -3.0, 3.0)
