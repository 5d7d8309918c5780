"""Which frames of the cameras belong together, and how their pixels relate to the calibrated ones."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from dkp.captures.arrays import affine_matrix, one_of
from dkp.captures.rig import camera_size
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.importers.media.video import FrameSource

FrameMap = Literal["same", "stretch"] | Mapping[str, Sequence[Sequence[float]]]


def frame_numbers(sources: Mapping[str, FrameSource], frames: str = "") -> list[int]:
    """Returns the frame numbers to import, and checks that the cameras have the same frames.

    Args:
        sources: camera name -> frames.
        frames: start:stop:step; with a stop, cameras may have different numbers of frames beyond it.
    """
    counts = {name: source.count for name, source in sources.items()}
    least = min(counts.values())
    start, stop, step = parse_slice(frames, "frames")
    if len(set(counts.values())) > 1 and (stop is None or not 0 <= stop <= least):
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(
            f"the cameras have different numbers of frames ({found}), expected synchronised recordings of one length, "
            f"or frames with a stop of at most {least} if their first frames belong together"
        )
    numbers = list(range(*slice(start, stop, step).indices(least)))
    if not numbers:
        raise InputError(f"frames is {frames!r}, which selects none of {least} frames, expected start:stop:step")
    return numbers


def parse_slice(value: str, where: str) -> tuple[int | None, int | None, int]:
    """Returns start, stop and step of "start:stop:step", each of which may be left out."""
    parts = value.split(":") if value else [""]
    try:
        start, stop, step = ([int(part) if part.strip() else None for part in parts] + [None, None])[:3]
    except ValueError:
        raise InputError(f"{where} is {value!r}, expected start:stop:step with whole numbers") from None
    if len(parts) > 3 or (value and len(parts) == 1) or (step is not None and step < 1):
        raise InputError(f"{where} is {value!r}, expected start:stop:step with a step of at least 1")
    return start, stop, 1 if step is None else step


def frame_maps(
    cameras: Mapping[str, Camera], sources: Mapping[str, FrameSource], frame_map: FrameMap
) -> dict[str, np.ndarray | None]:
    """Returns, per camera, the (2, 3) affine map from frame pixels to calibrated pixels; None where they are the same.

    Raises:
        InputError: frames differ in size from the calibration and nothing is said about how they relate.
    """
    given = frame_map if isinstance(frame_map, Mapping) else {}
    for name in given:
        if name not in cameras:
            raise InputError(f"frame_map names the camera {name!r}, expected one of {', '.join(cameras)}")
    if not isinstance(frame_map, Mapping):
        one_of(frame_map, ("same", "stretch"), "frame_map")
    maps: dict[str, np.ndarray | None] = {}
    for name, source in sources.items():
        calibrated = camera_size(cameras[name])
        if name in given:
            maps[name] = affine_matrix(given[name], f"frame_map: {name}")
        elif source.size == calibrated:
            maps[name] = None
        elif frame_map == "stretch":
            maps[name] = np.column_stack([np.diag(np.array(calibrated) / source.size), np.zeros(2)])
        else:
            raise InputError(
                f"{source.path} has frames of {source.size[0]}x{source.size[1]} pixels, expected "
                f"{calibrated[0]}x{calibrated[1]} as camera {name!r} is calibrated, or a frame_map: stretch for "
                "resized frames, an affine map for cut ones"
            )
    return maps
