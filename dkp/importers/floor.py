"""Where a floor is: where the backgrounds of static cameras look alike, laid on it (plane sweep, Collins 1996).

Dirt and scratches on the floor are then in one place for all cameras; what it mirrors is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import cv2
import numpy as np
from scipy.optimize import minimize

from dkp.importers.hull import Hull
from dkp.importers.subject import Track, unpacked

_FRAMES = 5  # that say where the subject is, and how large
_SHARE = 0.1  # of the subject's space, by which the floor may be higher or lower than said
_HEIGHTS = 31  # that are tried
_TRIES = 60  # of planes that are tilted a little
_CELLS = 160  # along the longer side of the floor
_FINE = 4.0  # cells: what is larger is the light, no texture
_STRONGEST = 20.0  # grey levels: no stain counts for more
_LEAST, _CLEAR = 0.05, 5.0  # correlation, and by how many median deviations it stands out, from which it is believed


def floor_plane(hull: Hull, tracks: Mapping[str, Track]) -> np.ndarray | None:
    """Find the floor, near the one that the hull was made with.

    Args:
        hull: of the rig.
        tracks: camera -> its background, and foregrounds over time.

    Returns:
        (3,) slopes along x and y, and z [m] at the origin, at which the backgrounds look alike; the floor of the hull
        where they do at no height, or at several; None where it has none.
    """
    if hull.floor is None:
        return None
    spaces = _spaces(hull, tracks)
    if not len(spaces):
        return hull.floor
    reach = _SHARE * float(np.median(np.ptp(spaces, axis=1).max(axis=1)))
    low, high = spaces[:, 0].min(0)[:2], spaces[:, 1].max(0)[:2]
    x, y = (np.arange(a, b, (high - low).max() / _CELLS) for a, b in zip(low, high, strict=True))
    ground = np.stack(np.meshgrid(x, y), -1)
    middle, start = ground.mean((0, 1)), hull.floor

    def plane(values: np.ndarray) -> np.ndarray:
        """Slopes of which one is a rise by ``reach`` over the ground, and height over the start in its middle."""
        slopes = values[:2] * reach / (high - low).max()
        return np.asarray(start + np.append(slopes, values[2] * reach - slopes @ middle))

    heights = np.linspace(-1, 1, _HEIGHTS)
    alike = np.array([_alike(hull, tracks, ground, plane(np.array([0, 0, height]))) for height in heights])
    best = int(alike.argmax())
    clear = alike[best] - np.median(alike) > _CLEAR * np.median(abs(alike - np.median(alike)))
    if not clear or alike[best] < _LEAST or best in (0, _HEIGHTS - 1):
        return hull.floor
    simplex = np.array([0, 0, heights[best]]) + np.array([[0, 0, 0], [0.2, 0, 0], [0, 0.2, 0], [0, 0, 0.1]])
    found = minimize(
        lambda values: -_alike(hull, tracks, ground, plane(values)), simplex[0], method="Nelder-Mead",
        options={"initial_simplex": simplex, "maxfev": _TRIES, "xatol": 0.01, "fatol": 1e-4},
    )  # fmt: skip
    return plane(found.x)


def _spaces(hull: Hull, tracks: Mapping[str, Track]) -> np.ndarray:
    """Return lower and upper corners (N, 2, 3) [m] of where the subject is at some moments."""
    numbers = sorted(set.intersection(*(set(track.masks) for track in tracks.values())))
    chosen = numbers[:: max(1, len(numbers) // _FRAMES)]
    found = [hull({name: unpacked(track.masks[number]) for name, track in tracks.items()}) for number in chosen]
    return np.array([part[1] for part in found if part is not None])


def _alike(hull: Hull, tracks: Mapping[str, Track], ground: np.ndarray, plane: np.ndarray) -> float:
    """Mean correlation, over pairs of cameras, of the backgrounds at points with x, y (Y, X, 2) of a plane (3,)."""
    points = np.concatenate([ground, (ground @ plane[:2] + plane[2])[..., None]], -1)
    textures, views = [], []
    for name, track in tracks.items():
        if track.background is None:
            continue
        grey = track.background.mean(-1, dtype=np.float32)
        pixels = hull.pixels(name, points.reshape(-1, 3), grey.shape)[0] - 0.5
        columns, rows = pixels.astype(np.float32).reshape(points.shape[0], points.shape[1], 2).transpose(2, 0, 1)
        seen = (columns >= 0) & (rows >= 0) & (columns <= grey.shape[1] - 1) & (rows <= grey.shape[0] - 1)
        laid = cv2.remap(grey, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        textures.append(np.clip(laid - cv2.GaussianBlur(laid, (0, 0), _FINE), -_STRONGEST, _STRONGEST))
        views.append(seen)
    values = []
    for (first, one), (second, other) in combinations(zip(textures, views, strict=True), 2):
        both = one & other
        if both.any() and first[both].std() > 0 and second[both].std() > 0:
            values.append(np.corrcoef(first[both], second[both])[0, 1])
    return float(np.mean(values)) if values else 0.0
