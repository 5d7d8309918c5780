"""Which frames of the cameras show one moment, where that is not said by their numbers."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

import numpy as np

from dkp.captures.arrays import shown, whole_number
from dkp.errors import InputError
from dkp.files import decoded
from dkp.importers.media.video import FrameSource

Sync = str | Path | Mapping[str, int]

_CAMERA = ("camera", "cam_id", "cam", "port")
_TIME = ("time", "frame_time", "timestamp")
_FRAME = ("frame", "frame_index", "frame_number")


def synchronise(sources: Mapping[str, FrameSource], sync: Sync) -> None:
    """Give the frames of every camera the number of their moment in place of their own.

    Args:
        sources: camera name -> frames; the first camera's numbers count.
        sync: camera name -> by how many frames it is ahead: frame n of the first camera is frame n + that of this one;
            or a CSV with a line for each frame, in which the frames of one moment have one ``sync_index``, or the
            nearest ``time`` (s); or "times": the nearest times that the videos themselves have for their frames.

    Raises:
        InputError: a camera is not known, or the file is no such CSV or does not fit the frames.
    """
    if isinstance(sync, Mapping):
        for name in sync:
            if name not in sources:
                raise InputError(f"sync names the camera {name!r}, expected one of {', '.join(sources)}")
        shifts = {name: whole_number(sync.get(name, 0), f"sync: {name}") for name in sources}
        clocks = {name: {number: number - shifts[name] for number in source.own} for name, source in sources.items()}
    elif sync == "times":
        times = {name: source.times() for name, source in sources.items()}
        clocks = {name: _nearest(next(iter(times.values())), some) for name, some in times.items()}
    elif str(sync).startswith("{"):
        raise InputError(f"sync is {sync}, expected a whole number of frames for each camera, or a CSV of times")
    else:
        clocks = _read(Path(sync), list(sources))
    for name, source in sources.items():
        source.renumber(clocks[name])


def _read(path: Path, cameras: Sequence[str]) -> dict[str, dict[int, int]]:
    """Return camera -> its own frame number -> moment."""
    try:
        rows = list(csv.DictReader(StringIO(decoded(path.read_bytes()), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}), expected a CSV of times") from error
    columns = list(rows[0]) if rows else []
    camera, time, frame = (next((key for key in keys if key in columns), None) for keys in (_CAMERA, _TIME, _FRAME))
    key = "sync_index" if "sync_index" in columns else time
    if camera is None or key is None:
        found = ", ".join(map(str, columns)) or "none"
        raise InputError(f"{path} has the columns {found}, expected a camera and a sync_index or time for each frame")
    values: dict[str, dict[int, float]] = {name: {} for name in cameras}
    for line, row in enumerate(rows, start=2):
        name = next((one for one in (row[camera], f"cam_{row[camera]}") if one in values), None)
        if name is None:
            continue  # of a camera that is not imported
        try:
            number = len(values[name]) if frame is None else int(row[frame])
            value = float(row[key])
        except (TypeError, ValueError):
            value = np.nan
        if not np.isfinite(value) or number in values[name]:
            raise InputError(f"{path}:{line} has {key} {shown(row[key])}, expected a number, and every frame once")
        values[name][number] = value
    for name, some in values.items():
        if len(some) < 2:
            raise InputError(f"{path} has {len(some)} frames of the camera {name!r}, expected a line for each")
        order = sorted(some)
        if np.any(np.diff([some[number] for number in order]) <= 0):
            raise InputError(f"{path}: {key} of the camera {name!r} does not increase, expected one time after another")
    first = values[cameras[0]]
    if key == "sync_index":
        return {name: {number: int(value) for number, value in some.items()} for name, some in values.items()}
    return {name: _nearest(first, some) for name, some in values.items()}


def _nearest(first: Mapping[int, float], other: Mapping[int, float]) -> dict[int, int]:
    """Return frame -> frame of the first camera at the same time, within half a frame of the first camera."""
    numbers, times = np.array(list(first)), np.array(list(first.values()))
    most = np.median(np.diff(times)) / 2
    found: dict[int, tuple[float, int]] = {}
    for own, time in other.items():
        nearest = int(np.abs(times - time).argmin())
        gap, number = abs(times[nearest] - time), int(numbers[nearest])
        if gap <= most and gap < found.get(number, (np.inf, 0))[0]:
            found[number] = gap, own
    return {own: number for number, (_, own) in found.items()}
