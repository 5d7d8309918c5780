"""`dkp predict RECORDING --calibration CAMERAS`: the frames of several calibrated cameras at once."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from dkp.captures import CaptureWriter
from dkp.captures.crops import CropMap, square_box
from dkp.captures.images import OnBad
from dkp.captures.writer import write_view_files
from dkp.errors import InputError
from dkp.files import begin_folder
from dkp.geometry import Camera
from dkp.importers.boxes import box_of_points
from dkp.importers.cameras.registry import read_cameras
from dkp.importers.media.clocks import Sync, synchronise
from dkp.importers.media.synchronise import FrameMap, Rates, common_rate, frame_maps, frame_numbers, with_sizes
from dkp.importers.media.video import FrameSource, open_media, report_bad
from dkp.importers.subject import Lens
from dkp.importers.upright import Up, turned_sentence, turns
from dkp.inference.boxes import read_rig_boxes
from dkp.inference.frames import AHEAD
from dkp.inference.output import SETTINGS, Output, listed
from dkp.inference.prediction import Prediction
from dkp.inference.predictor import Predictor
from dkp.inference.rig import RigSubject
from dkp.progress import Progress
from dkp.surface.template import ASSETS
from dkp.workers import read_ahead

SIDE = 192
"""Of the images of the capture that is written [px]."""


def predict_recording(
    media: Path,
    predictor: Predictor,
    folder: Path,
    settings: Mapping[str, Any],
    *,
    calibration: str | Path,
    unit: str | None,
    frame_map: FrameMap,
    sync: Sync | None,
    rates: Rates,
    up: Up,
    boxes: str,
    frames: str,
    margin: float,
    overlay: bool,
    iuv: bool,
    on_bad: OnBad,
) -> str:
    """Write the fields of a recording: a folder a camera, and a capture of what the boxes show for `dkp reconstruct`.

    For the arguments see `dkp.inference.command.predict`.

    Raises:
        InputError: cameras or frames cannot be read or do not fit, or nobody was found; what was written stays.
    """
    rig = read_cameras(calibration, "auto", unit)
    sources = open_media(media, list(rig), on_bad)
    rig = with_sizes(rig, sources)
    if sync is not None:
        synchronise(sources, sync)
    numbers = frame_numbers(sources, frames, rates, synced=sync is not None)
    given = {} if boxes == "auto" else read_rig_boxes(Path(boxes), sources)
    maps = frame_maps(rig, sources, frame_map)
    turned = turns(rig, up)
    lenses = {name: Lens(rig[name], maps[name], turn=turned[name]) for name in rig}
    subject = RigSubject(predictor, {name: of_frames(lenses[name], sources[name]) for name in rig}, margin)
    begin_folder(folder, settings, SETTINGS)
    if (folder / "capture").exists():
        return f"dkp: {folder} is complete, there is nothing to predict"
    rate = common_rate(sources.values())
    surface = predictor.surface
    writer = CaptureWriter(
        folder / "capture", name=media.resolve().name, cameras=rig,
        surface=surface.name if (ASSETS / f"{surface.name}.npz").is_file() else surface,
        source=f"boxes by {settings['ckpt_path']}", fps=rate,
    )  # fmt: skip
    rows, done, found = [], 0, dict.fromkeys(rig, 0)
    with listed(folder), writer, ExitStack() as stack:
        video = None if any(source.rate is None for source in sources.values()) else (rate or 25.0)
        outputs = {
            name: stack.enter_context(Output(folder / name, settings, predictor.surface, video, overlay, iuv))
            for name in rig
        }
        output = outputs[next(iter(rig))]
        start = time.monotonic()
        progress = stack.enter_context(Progress(Console()))
        show = stack.enter_context(progress.shown("predict", "instant", rate=True))
        progress.say(
            f"looking for the subject in {len(rig)} cameras, then following it through {len(numbers)} instants"
        )
        if up == "auto" and (notice := turned_sentence(turned)):
            progress.say(f"{notice}; --up none leaves them, --up z says which axis of the world is up")
        for count, (number, images) in enumerate(read_ahead(moments(sources, numbers), AHEAD), start=1):
            name_of = f"{number:06d}"
            if all(outputs[name].has(name_of) for name in images):
                seen = {name: one for name in images if (one := outputs[name].read(name_of).get(0)) is not None}
                subject.saw(seen)
            else:
                known = {name: some[number] for name, some in given.items() if number in some}
                seen, done = subject.look(images, known), done + 1
            for name, image in images.items():
                one = seen.get(name)
                outputs[name].write(name_of, image, {} if one is None else {0: one})
                if one is not None and one.inside.any():
                    found[name] += 1
                    rows.append(add_view(writer.folder, number, name, image, one, lenses[name]))
            show(count, len(numbers))
        seconds = max(time.monotonic() - start, 1e-9)
        if not rows:
            raise InputError(f"{media}: no subject was found by any camera in {len(numbers)} instants")
        writer.add_rows(rows)
    report_bad(str(folder), list(sources.values()))
    counts = ", ".join(f"{name} {count}" for name, count in found.items())
    return (
        f"dkp: a subject in {counts} of {len(numbers)} images, {done / seconds:.2g} instants/s; {folder} has a "
        f"folder of each camera ({output.written()}) and a capture: dkp reconstruct {folder / 'capture'} --ckpt-path "
        f"{settings['ckpt_path']} --out {folder}-3d"
    )


def moments(sources: Mapping[str, FrameSource], numbers: list[int]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yield (number, camera -> frame) of every moment; a camera without a frame of it is left out."""
    streams = {name: source.frames([n for n in numbers if n in source]) for name, source in sources.items()}
    waiting = {name: next(stream, None) for name, stream in streams.items()}
    for number in numbers:
        images = {name: one[1] for name, one in waiting.items() if one is not None and one[0] == number}
        for name in images:
            waiting[name] = next(streams[name], None)
        yield number, images


def of_frames(lens: Lens, source: FrameSource) -> Camera:
    """Return the camera of the frames as they are."""
    if lens.frame_map is None:
        return lens.camera
    return lens.camera.transform(np.linalg.inv(np.vstack([lens.frame_map, [0, 0, 1]])), *source.size)


def add_view(folder: Path, number: int, camera: str, image: np.ndarray, seen: Prediction, lens: Lens) -> dict[str, Any]:
    """Write an undistorted square around the field's box into a capture, turned upright, and return its row."""
    x0, y0, x1, y1 = seen.box
    edges = np.linspace(0, 1, 9)
    around = np.array([[x0 + a * (x1 - x0), y] for a in edges for y in (y0, y1)])
    around = np.concatenate([around, [[x, y0 + a * (y1 - y0)] for a in edges for x in (x0, x1)]])
    inside = np.clip(around, 0, np.array(image.shape[1::-1]))  # a lens says nothing beyond its frame
    box = box_of_points(lens(inside))
    if lens.turn is not None:  # who fills the box askew is longer than its side
        box = square_box(box, (1 / np.abs(lens.turn).max() - 1) / 2)
    affine = lens.crop(square_box(box, 0.0), SIDE)
    cut = CropMap.create(lens.camera, affine, SIDE, lens.frame_map)
    return write_view_files(
        folder, f"take_{number:06d}", camera, cut.image(image), sequence="take", time=number, crop=affine,
        undistorted=True,
    )  # fmt: skip
