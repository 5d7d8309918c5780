"""Writes captures of rendered people or dogs: every image labelled exactly, the same bytes for the same seed."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dkp.captures import Capture, CaptureWriter
from dkp.captures.rig import camera_from_arrays
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.synthetic.captured import CapturedRig
from dkp.synthetic.clips import ClipRenderer
from dkp.synthetic.domains import Domain
from dkp.synthetic.recording import Recording, make_splits
from dkp.synthetic.rig import RigCamera, make_rig
from dkp.synthetic.species import find_species
from dkp.workers import Workers


def synthesize(
    out: str | Path,
    *,
    rig: str | None = None,
    subject: str | None = None,
    subjects: int = 40,
    frames: int = 16,
    cameras: int | None = None,
    size: int = 192,
    seed: int = 0,
    species: str | None = None,
    domain: str | Domain | None = None,
    layout: str = "ring",
    fps: float = 15.0,
    clip: int = 4,
    splits: Mapping[str, float] | None = None,
    workers: int | None = None,
    executor: str = "local",
    name: str | None = None,
    overwrite: bool = False,
) -> Capture:
    """Render a capture of people or dogs with exact dense labels.

    Every subject has a body shape, clothes or coat, and motion of its own and is recorded as one sequence ``s00``,
    ``s01``, ... of clips: pieces of smooth motion, whose time indices lie apart. Every view is a square crop around the
    subject; the rig's cameras belong to the full sensor and each view's ``crop`` maps from there. Masks, dense labels,
    joints and the posed surface (clothes or fur included) are stored. The bytes depend on the arguments, not on the
    number of workers.

    With ``rig``, the subjects stand where those of another capture stood, before its cameras and its own background:
    see docs/captures.md.

    Args:
        out: Folder of the capture.
        rig: PATH or PATH#SPLIT of a capture to render into; by default the rig, background and light are the domain's.
        subject: Where the subject of the rig's capture is, which is rendered, with its own colours and shape, in place
            of subjects of the domain: a capture with posed surfaces of the rig's frames, as `dkp pseudo-label` writes
            it, or a folder of `dkp reconstruct`. Subjects of several takes take turns.
        subjects: Number of people or dogs.
        frames: Instants per subject, in clips of ``clip``.
        cameras: Cameras of the domain's rig, by default 6.
        size: Side of the images [px].
        seed: Of all that is random.
        species: ``human`` or ``dog``; by default that of ``rig``, or human.
        domain: Name of a domain (``source``, ``target``, ``varied``, ``studio``, ``outdoor``, ``wild``; of people also
            ``sport`` and ``action``) or a :class:`~dkp.synthetic.domains.Domain`; by default ``source``, and ``varied``
            with ``rig``, where only looks and motion are the domain's.
        layout: ``"ring"``, or ``"dome"`` with every second camera raised.
        fps: Instants per second of a clip.
        clip: Instants of a clip. Short clips give more different poses; optical flow needs at least 2.
        splits: Share of each split, by default three quarters ``train`` and one quarter ``test``. Whole subjects where
            there are enough of them, in order; otherwise whole clips, otherwise blocks of instants.
        workers: Processes; one for each core by default, 1 for none but this one.
        executor: ``local``, or ``dask:ADDRESS`` for the workers of a cluster, see docs/scaling.md.
        name: Of the capture; by default from species (unless human), domain and seed.
        overwrite: Whether a capture that exists may be replaced.

    Returns:
        The capture.

    Raises:
        InputError: an argument is out of range, or ``out`` exists.
    """
    into = None if rig is None else CapturedRig(rig := os.path.abspath(rig), size, species)
    if into is not None and cameras is not None:
        raise InputError(f"cameras is {cameras} and rig {rig}, expected one of them: the capture has its own cameras")
    if subject is not None and rig is None:
        raise InputError(f"subject is {subject} without a rig, expected --rig with the capture that it is in")
    kind = into.species if into else find_species(species or "human")
    chosen = kind.domain(domain or ("varied" if into else "source"))
    cameras = 6 if cameras is None else cameras
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
    if fps <= 0:
        raise InputError(f"fps is {fps}, expected a positive number")
    if into is None:
        stream = np.random.SeedSequence(seed, spawn_key=(0,))
        cast = tuple(make_rig(chosen, cameras, layout, np.random.default_rng(stream), kind.extent, kind.middle))
        known = {camera.name: to_camera(camera) for camera in cast}
        source, licence = "", kind.licence
    else:
        cast, known, own = (), into.capture.cameras, into.capture
        source, licence = f", in the rig of {own.name} ({own.source})", f"{kind.licence}; background: {own.licence}"
    recording = Recording(
        chosen, subjects, frames, clip, size, seed, fps, cast, kind.name, rig, subject and os.path.abspath(subject)
    )
    what = "" if kind.name == "human" else f"{kind.name} "
    with (
        CaptureWriter(
            out,
            name=name or f"{what}{chosen.name} {seed}",
            surface=kind.name,
            cameras=known,
            splits=make_splits(recording, splits),
            source=f"rendered by dkp, {what}domain {chosen.name}, seed {seed}, {fps:g} instants per second{source}",
            licence=licence,
            fps=fps,
            overwrite=overwrite,
        ) as writer,
        Workers(partial(renderer, recording, writer.folder), workers, executor) as pool,
    ):
        writer.add_rows(row for rows in pool.map(recording.clips(), "rendering", "clip") for row in rows)
    return Capture.open(out)


def to_camera(camera: RigCamera) -> Camera:
    """Return the rig camera as a :class:`dkp.geometry.Camera` without distortion, float64 [px, m]."""
    return camera_from_arrays(camera.intrinsics, camera.rotation, camera.translation, np.zeros(5), camera.size)


def renderer(recording: Recording, folder: Path) -> Callable[[tuple[int, int, int]], list[dict[str, Any]]]:
    """Return what renders clips (subject, clip, number of instants) of a recording and returns their views' rows."""
    clips = ClipRenderer(recording, folder)
    return lambda part: clips.render(*part)
