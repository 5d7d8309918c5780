"""The command `dkp predict` on an image, a folder of images, a video or a recording of several cameras."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from dkp.captures.arrays import between, one_of, whole_number
from dkp.captures.images import OnBad
from dkp.errors import InputError
from dkp.importers.media.clocks import Sync
from dkp.importers.media.synchronise import FrameMap, Rates
from dkp.importers.upright import Up
from dkp.inference.frames import Frames
from dkp.inference.loading import load
from dkp.inference.output import Output, listed
from dkp.inference.prediction import Prediction
from dkp.inference.predictor import Predictor
from dkp.inference.recording import predict_recording
from dkp.inference.subjects import Subjects
from dkp.progress import Progress


def predict(
    media: str | Path,
    *,
    ckpt_path: str | Path = "human-small",
    out: str | Path | None = None,
    boxes: str = "auto",
    margin: float = 0.15,
    frames: str = "",
    overlay: bool = True,
    iuv: bool = False,
    batch: int = 8,
    on_bad: OnBad = "raise",
    surface: str | None = None,
    size: int | None = None,
    device: str | None = None,
    calibration: str | None = None,
    unit: str | None = None,
    frame_map: FrameMap = "auto",
    sync: Sync | None = None,
    rates: Rates = "same",
    up: Up = "auto",
) -> str:
    """Write the fields of an image, a folder of images, a video or a recording, with pictures to look at.

    Started again, it goes on where it was.

    Args:
        media: an image, a folder of images of any sizes, or a video; with ``calibration`` a folder with one video or
            image folder per camera, matched by name, as `dkp import recording` reads it.
        ckpt_path: name of a shipped detector, folder of a run, checkpoint, weights file (.safetensors) or exported
            model (.onnx).
        out: folder to write; default: predictions/NAME.
        boxes: where the subjects are. "auto" looks for one: in every image, or in the first frame of a video, through
            which it is then followed by its own foreground. Or a .json or .csv file with frame (or image), person, x0,
            y0, x1, y1 [px], where people are followed through the frames of a video that have no box of them; a folder
            of masks; detections as `dkp import` reads them, such as a folder of OpenPose's files; "background", what
            moves before a still camera; or "whole". Of a recording "auto"; one file of boxes that say their camera; or
            a folder with boxes, masks or detections of every camera.
        margin: room around a box on each side, as a share of its longer side.
        frames: which frames or images, as start:stop:step; empty takes all.
        overlay: write the fields drawn over the images, of a video as overlay.webm, which browsers play.
        iuv: write pictures in DensePose's encoding, too.
        batch: images that the network takes at once, where no subject is followed.
        on_bad: "raise" ends at an image that cannot be decoded, "skip" leaves it out.
        surface: name or file of the surface, where the detector does not say it.
        size: side of the detector's crops [px], where it does not say it.
        device: of PyTorch; default: a GPU if there is one.
        calibration: the camera file of a recording (`dkp import --list`): its cameras are predicted on together, and
            the others tell each where the subject is. OUT gets a folder for each camera, and a capture.
        unit: of the calibration's translations, where its format does not say it: "m", "cm", "mm" or how many metres.
        frame_map: how a recording's frames relate to the calibrated size, as of `dkp import recording`: "auto", "same",
            "stretch", or camera name -> 2 x 3 affine map from frame pixels to calibrated pixels.
        sync: which frames of a recording show one moment, as of `dkp import recording`: camera name -> by how many
            frames it is ahead of the first; a CSV of times; or "times".
        rates: "any" takes frames of one number for one moment where the rates of a recording's videos differ, too.
        up: axis of the calibration's world that points up in the images of the capture, as of `dkp import recording`:
            "auto" takes what is up in most images, where they agree; "none" turns none upright.

    Returns:
        A line that says what was written.

    Raises:
        InputError: something cannot be read or written, or no subject was found; what was written stays.
    """
    between(margin, "margin", 0.0, 5.0)
    whole_number(batch, "batch", least=1)
    one_of(on_bad, ("skip", "raise"), "on_bad")
    folder = Path("predictions") / Path(media).resolve().stem if out is None else Path(out)
    source = Frames(media, frames, on_bad) if calibration is None else None
    predictor = load(ckpt_path, surface=surface, size=size, device=device, batch=batch)
    settings: dict[str, Any] = {
        "media": str(Path(media).resolve()), "ckpt_path": str(ckpt_path), "boxes": boxes, "margin": margin,
        "frames": frames, "overlay": overlay, "iuv": iuv, "surface": predictor.surface.name, "size": predictor.size,
    }  # fmt: skip
    if source is None:
        settings |= {"calibration": str(Path(calibration or "").resolve()), "unit": unit, "frame_map": frame_map}
        settings |= {"sync": dict(sync) if isinstance(sync, Mapping) else sync and str(sync), "rates": rates}
        settings |= {"up": up}
        return predict_recording(
            Path(media), predictor, folder, settings, calibration=str(calibration), unit=unit, frame_map=frame_map,
            sync=sync, rates=rates, up=up, boxes=boxes, frames=frames, margin=margin, overlay=overlay, iuv=iuv,
            on_bad=on_bad,
        )  # fmt: skip
    subjects = Subjects(predictor, source, boxes, margin)
    video = (source.rate or 25.0) if source.is_video else None
    with listed(folder), Output(folder, settings, predictor.surface, video, overlay, iuv) as output:
        done = {number for number, name in source.names.items() if output.has(name)}
        if len(done) == len(source.names) and output.complete():
            return f"dkp: {folder} is complete, there is nothing to predict"
        found, seconds = run(predictor, source, subjects, output, done, batch)
    total = len(source.names) - len(source.bad)
    if not found:
        raise InputError(
            f"{source.path}: no subject was found in any of {total} images; give --boxes ({folder} has the images with "
            "nobody in them)"
        )
    left = f"; {len(source.bad)} could not be decoded, the first: {source.bad[0]}" if source.bad else ""
    rate = (total - len(done)) / max(seconds - subjects.searched, 1e-9)
    said = f"dkp: a subject in {found} of {total} images, {rate:.3g} images/s"
    said += f" after {subjects.searched:.1f} s of looking for the subject" if subjects.searched else ""
    return f"{said}, {folder} has {output.written()}{left}"


def run(
    predictor: Predictor, source: Frames, subjects: Subjects, output: Output, done: set[int], batch: int
) -> tuple[int, float]:
    """Predict what is not yet done, and return in how many images there is a subject, and the time taken [s]."""
    waiting: list[tuple[int, np.ndarray, dict[int, np.ndarray]]] = []
    found = 0

    def flush() -> None:
        nonlocal found
        seen = iter(predictor.crops([(image, box) for _, image, squares in waiting for box in squares.values()]))
        for number, image, squares in waiting:
            finish(number, image, {person: next(seen) for person in squares})
        waiting.clear()

    def finish(number: int, image: np.ndarray, predictions: dict[int, Prediction]) -> None:
        nonlocal found
        subjects.saw(predictions)
        found += any(one.inside.any() for one in predictions.values())
        output.write(source.names[number], image, predictions)

    numbers = list(source.names)
    if not output.draws_video:
        for number in sorted(done):
            found += bool(predictions := output.read(source.names[number]))
            subjects.saw(predictions)
        numbers = [number for number in numbers if number not in done]
    start = time.monotonic()
    with Progress(Console()) as progress, progress.shown("predict", "image", rate=True) as show:
        if done:
            progress.say(f"{len(done)} of {len(source.names)} images were predicted before; going on with the others")
        for count, (number, image) in enumerate(source.read(numbers), start=1):
            if number in done:
                flush()
                finish(number, image, output.read(source.names[number]))
            else:
                waiting.append((number, image, subjects.squares(number, image)))
            if waiting and (subjects.follows or len(waiting) >= batch):
                flush()
            show(count, len(numbers))
        flush()
    return found, time.monotonic() - start
