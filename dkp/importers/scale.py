"""Whether a subject is about as large as its surface: where it is not, the unit of the cameras is likely wrong."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from dkp.captures.rig import METRES_PER_UNIT
from dkp.importers.hull import meeting_point
from dkp.importers.subject import Lens, Track
from dkp.surface import Surface

_LEAST, _MOST = 0.2, 5.0
"""Sizes of a subject, as shares of its surface's, that are believed; crouched, cut off or small ones are within."""

_INSTANTS = 20  # that are looked at


def doubt_unit(
    tracks: Mapping[str, Track], lenses: Mapping[str, Lens], margin: float, surface: Surface, unit: str | None
) -> str:
    """Say that a subject is much larger or smaller than its surface; "" where it is not.

    Args:
        tracks: camera -> where the subject is.
        lenses: camera -> lens.
        margin: of the boxes, see :func:`dkp.captures.crops.square_box`.
        surface: of the subject.
        unit: of the cameras, as it was given.
    """
    shared = [n for n in sorted({n for t in tracks.values() for n in t.boxes}) if _cameras(tracks, n)]
    sizes = [
        size
        for number in shared[:: max(1, len(shared) // _INSTANTS)]
        for size in _sizes({name: tracks[name].boxes[number] for name in _cameras(tracks, number)}, lenses)
    ]
    if not sizes:
        return ""
    size = float(np.median(sizes)) / (1 + 2 * margin)
    whole = float(np.ptp(surface.vertices, axis=0).max())
    if _LEAST < size / whole < _MOST:
        return ""
    metres = METRES_PER_UNIT.get(str(unit))
    fits = [name for name, one in METRES_PER_UNIT.items() if metres and 0.4 < size / whole * one / metres < 2.5]
    advice = f"--unit {fits[0]}, not {unit}" if fits else "another --unit or --surface"
    own, rest = (f"{float(f'{one:.2g}'):g}" for one in (size, whole))  # 1800, not 1.8e+03
    return f"the subject is {own} m large, the surface {surface.name} {rest} m: is {advice} meant?"


def _cameras(tracks: Mapping[str, Track], number: int) -> list[str]:
    """Return the cameras that see the subject in a frame, none where it is only one."""
    found = [name for name, track in tracks.items() if number in track.boxes]
    return found if len(found) > 1 else []


def _sizes(boxes: Mapping[str, np.ndarray], lenses: Mapping[str, Lens]) -> list[float]:
    """Return how long [m] the sides of boxes (4,) [px] are, where the lines of sight through their middles meet."""
    cameras = [lenses[name].camera.without_distortion() for name in boxes]
    centres = np.array([camera.centre().numpy() for camera in cameras])
    middles = [torch.from_numpy(box[:2] + box[2:])[None] / 2 for box in boxes.values()]
    lines = np.array([c.rays(pixel)[0].numpy() for c, pixel in zip(cameras, middles, strict=True)])
    point = torch.from_numpy(meeting_point(centres, lines))[None]
    depths = [float(camera.project(point)[1]) for camera in cameras]
    sides = [(box[2] - box[0]) / float(c.intrinsics[0, 0]) for box, c in zip(boxes.values(), cameras, strict=True)]
    return [float(side * depth) for side, depth in zip(sides, depths, strict=True) if depth > 0]
