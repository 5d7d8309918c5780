"""By how many frames the cameras of a rig are ahead of the first one, found from how well moving joints agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch

from dkp.geometry import Camera, epipolar_distance, fundamental_matrix
from dkp.importers.keypoints.detections import Joints
from dkp.importers.refine import LEAST_CONFIDENCE, UNEQUAL

_MOST = 15  # steps by which a camera may be ahead or behind
_FAR = 50.0  # px, from which a distance counts no more: wrong detections
_BETTER = 0.95  # share of the mean distance that another offset has to leave at most: subjects that stand still
_ROUNDS = 5
_FINE = np.arange(-10, 11) / 20  # steps about the best whole one


class Tracks:
    """Joints of all cameras over time.

    Attributes:
        cameras: names.
        step: of times from an instant to the next one [frames].
    """

    def __init__(self, instants: Sequence[tuple[str, int]], joints: Mapping[str, Sequence[Joints]]):
        """Arrange joints.

        Args:
            instants: recording and time [frame] of each.
            joints: camera -> for each instant, name -> x, y [undistorted px] and confidence.
        """
        self.cameras = list(joints)
        names = sorted({name for views in joints.values() for view in views for name in view})
        nothing = (np.nan, np.nan, 0.0)
        found = [[[view.get(name, nothing) for name in names] for view in views] for views in joints.values()]
        self._joints = np.array(found, np.float64).reshape(len(self.cameras), len(instants), len(names), 3)
        self._joints[self._joints[..., 2] < LEAST_CONFIDENCE] = np.nan
        self._alike = [index for index, name in enumerate(names) if name not in UNEQUAL]
        self._rows = {instant: row for row, instant in enumerate(instants)}
        steps = [time - earlier for (name, earlier), (its, time) in pairwise(instants) if name == its]
        self.step = int(np.median(steps)) if steps else 0

    def shifted(self, camera: str, offset: float) -> np.ndarray:
        """Return a camera's joints (T, J, 2) [px] a number of steps later, between two instants where it is none.

        NaN where there are none.
        """
        whole = int(np.floor(offset))
        given = self._joints[self.cameras.index(camera)][..., :2]
        ends = []
        for steps in (whole, whole + 1):
            rows = np.array([self._rows.get((name, time + steps * self.step), -1) for name, time in self._rows])
            ends.append(np.where((rows < 0)[:, None, None], np.nan, given[rows]))
        share = offset - whole
        return ends[0] if share == 0 else (1 - share) * ends[0] + share * ends[1]

    def observations(self, offsets: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Return the joints of all cameras at one moment, as `refine_extrinsics` takes them.

        Args:
            offsets: camera -> frames by which it is ahead.
        """
        found = {}
        for camera, offset in offsets.items():
            pixels = self.shifted(camera, offset / max(self.step, 1))[:, self._alike].reshape(-1, 2)
            seen = np.isfinite(pixels).all(-1)
            found[camera] = np.column_stack([np.where(seen[:, None], pixels, 0.0), seen])
        return found


def find_offsets(cameras: Mapping[str, Camera], tracks: Tracks, given: Mapping[str, float]) -> dict[str, float]:
    """Find by how many frames every camera is ahead of the first: where the joints of all pairs agree best.

    One camera after the other is moved to the offset that leaves the least mean distance of its joints from the
    epipolar lines of all others, until nothing changes.

    Args:
        cameras: name -> camera.
        tracks: joints.
        given: offsets to begin with [frames].

    Returns:
        Offsets [frames] to a twentieth of the tracks' step: frame n of the first camera shows what frame n + offset
        does.
    """
    steps = {name: given[name] / max(tracks.step, 1) for name in cameras}
    if not tracks.step:
        return dict.fromkeys(cameras, 0.0)
    fundamental = {(a, b): fundamental_matrix(cameras[a], cameras[b]) for a in cameras for b in cameras if a != b}

    def best(camera: str, tried: Iterable[float], now: float) -> float:
        others = {name: tracks.shifted(name, steps[name]) for name in cameras if name != camera}
        distances = {
            offset: _distance(tracks.shifted(camera, offset), camera, others, fundamental) for offset in [now, *tried]
        }
        least = min(distances, key=lambda offset: distances[offset])
        return least if distances[least] < _BETTER * distances[now] else now

    def rounds(tried: Iterable[float], about: bool) -> None:
        for _ in range(_ROUNDS):
            before = dict(steps)
            for name in cameras:  # the first one, too: it may be the one that is late
                steps[name] = best(
                    name, [round(steps[name]) + value for value in tried] if about else tried, steps[name]
                )
            if steps == before:
                return

    rounds(sorted(range(-_MOST, _MOST + 1), key=abs), about=False)
    rounds(_FINE, about=True)
    first = steps[next(iter(cameras))]
    return {name: (value - first) * tracks.step for name, value in steps.items()}


def _distance(
    joints: np.ndarray,
    camera: str,
    others: Mapping[str, np.ndarray],
    fundamental: Mapping[tuple[str, str], torch.Tensor],
) -> float:
    """Mean distance [px] of joints (T, J, 2) from the epipolar lines of other cameras; infinite where few are left."""
    found, possible = [], 0
    for name, theirs in others.items():
        both = np.isfinite(joints).all(-1) & np.isfinite(theirs).all(-1)
        possible += int(np.isfinite(theirs).all(-1).sum())
        pixels = torch.as_tensor(joints[both]), torch.as_tensor(theirs[both])
        found.append(epipolar_distance(*pixels, fundamental[camera, name], kind="sampson").numpy())
    together = np.concatenate(found)
    return float(np.minimum(together, _FAR).mean()) if 4 * len(together) > possible else np.inf
