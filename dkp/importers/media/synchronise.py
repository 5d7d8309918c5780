"""Which frames of the cameras belong together, and how their pixels relate to the calibrated ones."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from dkp.captures.arrays import affine_matrix, one_of, parse_slice
from dkp.captures.rig import camera_size
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.importers.media.video import FrameSource

logger = logging.getLogger(__name__)

Rates = Literal["same", "any"]
_MOST_DRIFT = 0.5  # frames by which videos may be apart at their end
_SAME_RATE = 1e-3  # by how much the rates of one recording may differ
_MOST_UNKNOWN = 0.02  # share of files that may belong to no frame
FrameMap = Literal["same", "stretch", "auto"] | Mapping[str, Sequence[Sequence[float]]]


def frame_numbers(
    sources: Mapping[str, FrameSource], frames: str = "", rates: Rates = "same", synced: bool = False
) -> list[int]:
    """Return the frame numbers to import, and check that frames of one number show one moment.

    Args:
        sources: camera name -> frames.
        frames: start:stop:step of frame numbers; with a stop, cameras may have different numbers of frames beyond it.
        rates: "same" refuses videos whose rates differ; "any" takes frames of one number for one moment all the same.
        synced: whether frames are numbered by their moments; cameras may then begin and end at different ones, and
            rates do not matter.

    Raises:
        InputError: rates or numbers of frames differ, or nothing is selected.
    """
    start, stop, step = parse_slice(frames, "frames")
    one_of(rates, ("same", "any"), "rates")
    first = max(source.numbers[0] for source in sources.values())
    last = min(source.numbers[-1] for source in sources.values())
    cut = synced or (stop is not None and (start or 0) >= first and 0 <= stop <= last + 1)
    if not cut and len({(source.numbers[0], source.numbers[-1]) for source in sources.values()}) > 1:
        begins = {source.numbers[0] for source in sources.values()}
        found = ", ".join(
            f"{name} {len(source.numbers) if len(begins) == 1 else source.span}" for name, source in sources.items()
        )
        raise InputError(
            f"the cameras have different numbers of frames ({found}), expected synchronised recordings of one length, "
            f"or --frames {first or ''}:STOP with a stop of at most {last + 1} if frames of one number belong together"
        )
    numbers = list(range(*slice(start, stop, step).indices(max(0, last + 1))))
    numbers = [number for number in numbers if sum(number in source for source in sources.values()) >= 2]
    if not numbers:
        raise InputError(
            f"frames is {frames!r}, which selects none of {last + 1 - first} frames ({first} to {last}), expected "
            "start:stop:step of their numbers"
        )
    if rates == "same" and not synced:
        _same_rates(sources, numbers)
    for source in sources.values():
        report_gaps(source, numbers, "image")
    return numbers


def _same_rates(sources: Mapping[str, FrameSource], numbers: Sequence[int]) -> None:
    """Refuse videos that are half a frame or more apart at the last frame, as their rates have it."""
    known = {name: source.rate for name, source in sources.items() if source.rate is not None}
    if known and numbers[-1] * (max(known.values()) / min(known.values()) - 1) > _MOST_DRIFT:
        found = ", ".join(f"{name} {rate:.6g}" for name, rate in known.items())
        raise InputError(
            f"the videos have different frame rates ({found} frames per second), so that frames of one number show "
            "different moments, expected one rate (convert the videos), or --rates any if the headers are wrong"
        )


def common_rate(sources: Iterable[FrameSource]) -> float | None:
    """Return the frames per second of videos that have one rate; None where one has another or does not say it."""
    rates = [source.steady_rate for source in sources]
    known = [rate for rate in rates if rate is not None]
    return known[0] if len(known) == len(rates) and max(known) / min(known) - 1 < _SAME_RATE else None


def report_gaps(source: FrameSource, numbers: Sequence[int], kind: str, offset: int = 0) -> None:
    """Log one warning that names the first of the wanted frames that a source lacks."""
    missing = [number + offset for number in numbers if number + offset not in source]
    if missing:
        logger.warning("%s", gap_sentence(source.path, missing, len(numbers), kind))


def gap_sentence(path: Path, missing: Sequence[int], total: int, kind: str) -> str:
    """Say which frames are missing, the first five by number."""
    named = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
    return f"{path}: no {kind} for {len(missing)} of {total} frames ({named})"


def number_offset(found: Mapping[Path, Sequence[int]], frames: Mapping[Path, FrameSource], cut: bool = False) -> int:
    """Return what is added to a frame's number to get the number of its mask or its file of detections.

    Both are numbered alike, or one counts from 0 and the other from 1: of all cameras in one way.

    Args:
        found: folder -> numbers of its files.
        frames: folder -> frames that its files belong to.
        cut: whether --frames says where to stop: files beyond the last frame do not matter then.

    Raises:
        InputError: numbers do not fit.
    """
    outside = {
        offset: {
            folder: [n for n in numbers if n - offset not in frames[folder].own] for folder, numbers in found.items()
        }
        for offset in (0, 1, -1)
    }
    offset = min(outside, key=lambda value: sum(map(len, outside[value].values())))
    for folder, numbers in found.items():
        unknown = outside[offset][folder]
        late = [number for number in unknown if number - offset > max(frames[folder].own)]
        longer = len(late) == len(unknown) < len(numbers)
        if not (cut and longer) and len(unknown) > max(1, len(numbers) * _MOST_UNKNOWN):
            raise InputError(
                f"{folder} has files numbered {min(numbers)} to {max(numbers)}, expected the numbers of the frames of "
                f"{frames[folder].path}, {frames[folder].span}"
                f"{', or --frames START:STOP if those of one number belong together' if longer else ''}"
            )
        if unknown:
            logger.warning("%s: %d file(s) belong to no frame (the first: %d)", folder, len(unknown), min(unknown))
    return offset


def with_sizes(cameras: Mapping[str, Camera], sources: Mapping[str, FrameSource]) -> dict[str, Camera]:
    """Return cameras in which an image size that the camera file does not say is that of the frames."""
    same = np.eye(3)
    return {
        name: camera if all(camera_size(camera)) else camera.transform(same, *sources[name].size)
        for name, camera in cameras.items()
    }


def frame_maps(
    cameras: Mapping[str, Camera], sources: Mapping[str, FrameSource], frame_map: FrameMap
) -> dict[str, np.ndarray | None]:
    """Return, per camera, the (2, 3) affine map from frame pixels to calibrated pixels; None where they are the same.

    Raises:
        InputError: frames differ in size from the calibration and nothing is said about how they relate.
    """
    given = frame_map if isinstance(frame_map, Mapping) else {}
    for name in given:
        if name not in cameras:
            raise InputError(f"--frame-map names the camera {name!r}, expected one of {', '.join(cameras)}")
    if not isinstance(frame_map, Mapping):
        one_of(frame_map, ("same", "stretch", "auto"), "--frame-map")
    maps: dict[str, np.ndarray | None] = {}
    for name, source in sources.items():
        calibrated = camera_size(cameras[name])
        if name in given:
            maps[name] = affine_matrix(given[name], f"--frame-map: {name}")
        elif source.size == calibrated:
            maps[name] = None
        elif frame_map == "stretch":
            maps[name] = np.column_stack([np.diag(np.array(calibrated) / source.size), np.zeros(2)])
        elif frame_map == "auto" and (found := _found(source.size, calibrated)) is not None:
            maps[name], said = found
            logger.warning("%s: frames of %dx%d pixels are taken as %s", source.path, *source.size, said)
        else:
            cut = f"""'{{"{name}": [[1, 0, LEFT], [0, 1, TOP]]}}' if so many pixels were cut off"""
            auto = "auto if they were resized, or cut on two sides alike"
            way = auto if frame_map == "same" else f"stretch if they were squeezed, {cut}"
            turned = " (were they turned by a quarter?)" if source.size == calibrated[::-1] else ""
            raise InputError(
                f"{source.path} has frames of {source.size[0]}x{source.size[1]} pixels, expected "
                f"{calibrated[0]}x{calibrated[1]} as camera {name!r} is calibrated{turned}, or --frame-map {way}"
            )
    return maps


def other_sizes(cameras: Mapping[str, Camera], sources: Mapping[str, FrameSource]) -> str:
    """Say which frames differ in size from the calibration, and by how much; empty where none do."""
    said: dict[str, list[str]] = {}
    for name, source in sources.items():
        size, calibrated = source.size, camera_size(cameras[name])
        if size != calibrated:
            ratios = " and ".join(f"{own}/{given}" for own, given in zip(size, calibrated, strict=True) if own != given)
            words = f"have {size[0]}x{size[1]} pixels, calibrated for {calibrated[0]}x{calibrated[1]} ({ratios})"
            said.setdefault(words, []).append(name)
    return "; ".join(f"frames of {', '.join(names)} {words}" for words, names in said.items())


def _found(size: tuple[int, int], calibrated: tuple[int, int]) -> tuple[np.ndarray, str] | None:
    """Return the map from frames to the calibrated image that their sizes speak for, and its words; None for none."""
    ratio = np.array(calibrated) / size
    words = f"{calibrated[0]}x{calibrated[1]}"
    if abs(ratio[0] / ratio[1] - 1) * max(size) < 1:  # to a pixel
        return np.column_stack([np.diag(ratio), np.zeros(2)]), f"those of {words} resized"
    if 1 in ratio:
        shift = (np.array(calibrated) - size) / 2
        return np.column_stack(
            [np.eye(2), shift]
        ), f"the middle of those of {words}: if they were resized, say --frame-map stretch"
    return None


def mask_offset(
    numbers: list[int], masks: Mapping[str, FrameSource], sources: Mapping[str, FrameSource], cut: bool = False
) -> int:
    """Check that masks fit the frames; return a mask's number less that of its frame."""
    for name, mask in masks.items():
        frames = sources[name]
        if mask.size != frames.size or 2 * len(mask.numbers) < len(frames.numbers):
            raise InputError(
                f"{mask.path} has {len(mask.numbers)} masks of {'x'.join(map(str, mask.size))} pixels, "
                f"expected {len(frames.numbers)} of {'x'.join(map(str, frames.size))} as the frames"
            )
    offset = number_offset(
        {mask.path: mask.numbers for mask in masks.values()},
        {mask.path: sources[name] for name, mask in masks.items()},
        cut,
    )
    for name, mask in masks.items():
        mask.follow(sources[name], offset)
        report_gaps(mask, [number for number in numbers if number in sources[name]], "mask", offset)
    return offset
