"""Writes captures of rendered people or dogs: every image labelled exactly, the same bytes for the same seed."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dkp.captures import Capture, CaptureWriter
from dkp.captures.rig import camera_from_arrays
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.synthetic.clips import ClipRenderer
from dkp.synthetic.domains import Domain
from dkp.synthetic.recording import Recording, make_splits
from dkp.synthetic.rig import RigCamera, make_rig
from dkp.synthetic.species import find_species


def synthesize(
    out: str | Path,
    *,
    subjects: int,
    frames: int,
    cameras: int = 6,
    size: int = 128,
    seed: int = 0,
    species: str = "human",
    domain: str | Domain = "source",
    layout: str = "ring",
    fps: float = 15.0,
    clip: int = 4,
    splits: Mapping[str, float] | None = None,
    workers: int | None = None,
    name: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Capture:
    """Render a capture of people or dogs with exact dense labels.

    Every subject has a body shape, clothes or coat, and motion of its own and is recorded as one sequence ``s00``,
    ``s01``, ... of clips: pieces of smooth motion, whose time indices lie apart. Every view is a square crop around the
    subject; the rig's cameras belong to the full sensor and each view's ``crop`` maps from there. Masks, dense labels,
    joints and the posed surface (clothes or fur included) are stored. The bytes depend on the arguments, not on the
    number of workers.

    Args:
        out: Folder of the capture.
        subjects: Number of people or dogs.
        frames: Instants per subject, in clips of ``clip``.
        cameras: Cameras of the rig.
        size: Side of the images [px].
        seed: Of all that is random.
        species: ``human`` or ``dog``.
        domain: Name of a domain (``source``, ``target``, ``varied``, ``studio``, ``outdoor``) or a
            :class:`~dkp.synthetic.domains.Domain`.
        layout: ``"ring"``, or ``"dome"`` with every second camera raised.
        fps: Instants per second of a clip.
        clip: Instants of a clip. Short clips give more different poses; optical flow needs at least 2.
        splits: Share of each split, by default three quarters ``train`` and one quarter ``test``. Whole subjects where
            there are enough of them, in order; otherwise whole clips, otherwise blocks of instants.
        workers: Processes; all cores by default, 1 for none but this one.
        name: Of the capture; by default from species (unless human), domain and seed.
        overwrite: Whether a capture that exists may be replaced.
        progress: Show a progress bar.

    Returns:
        The capture.

    Raises:
        InputError: an argument is out of range, or ``out`` exists.
    """
    kind = find_species(species)
    chosen = kind.domain(domain)
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
    stream = np.random.SeedSequence(seed, spawn_key=(0,))
    rig = tuple(make_rig(chosen, cameras, layout, np.random.default_rng(stream), kind.extent, kind.middle))
    recording = Recording(chosen, subjects, frames, clip, size, seed, fps, rig, species)
    parts = recording.clips()
    what = "" if species == "human" else f"{species} "
    processes = min(workers or _cores(), len(parts))
    with (
        CaptureWriter(
            out,
            name=name or f"{what}{chosen.name} {seed}",
            surface=species,
            cameras={camera.name: to_camera(camera) for camera in rig},
            splits=make_splits(recording, splits),
            source=f"rendered by dkp, {what}domain {chosen.name}, seed {seed}, {fps:g} instants per second",
            licence=kind.licence,
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


def to_camera(camera: RigCamera) -> Camera:
    """The rig camera as a :class:`dkp.geometry.Camera` without distortion, float64 [px, m]."""
    return camera_from_arrays(camera.intrinsics, camera.rotation, camera.translation, np.zeros(5), camera.size)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _bar(show: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("views"))
    return Progress(*columns, TimeRemainingColumn(), disable=not show)


def _rendered(
    recording: Recording, folder: Path, parts: list[tuple[int, int, int]], processes: int
) -> Iterator[list[dict[str, Any]]]:
    """Rows of the views, clip by clip as they are finished."""
    if processes <= 1:
        renderer = ClipRenderer(recording, folder)
        for part in parts:
            yield renderer.render(*part)
        return
    with _single_threaded():
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(processes, context, _prepare_worker, (recording, folder))
        try:
            futures = [pool.submit(_render_in_worker, *part) for part in parts]
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


_worker: list[ClipRenderer] = []
"""The renderer of this process, if it is a worker."""


def _prepare_worker(recording: Recording, folder: Path) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    _worker[:] = [ClipRenderer(recording, folder)]


def _render_in_worker(subject: int, clip: int, count: int) -> list[dict[str, Any]]:
    return _worker[0].render(subject, clip, count)
