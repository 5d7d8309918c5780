"""Lines of sight of what the views show, and how far those of two views miss each other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from dkp.geometry import Camera

_PARALLEL = np.radians(0.5)  # between lines of sight below which nobody can say what is in front


def local_rays(rig: Camera, pixels: np.ndarray) -> np.ndarray:
    """Return unit directions (T, C, P, 3), in each camera's axes, through pixels (T, C, P, 2) [px, with distortion]."""
    seen = np.isfinite(pixels[..., 0])
    still = Camera(rig.intrinsics, torch.eye(3, dtype=rig.dtype), rig.translation, rig.distortion, rig.image_size)
    rays = still.rays(torch.as_tensor(np.where(seen[..., None], pixels, 0.0))).numpy()
    return np.where(seen[..., None], rays, np.nan)


@dataclass(frozen=True)
class Sight:
    """Lines of sight in the world.

    Attributes:
        rays: (T, C, P, 3) unit directions; NaN where not seen.
        centres: (T, C, 3) [m].
        focal: (T, C) [px].
    """

    rays: np.ndarray
    centres: np.ndarray
    focal: np.ndarray

    @classmethod
    def create(cls, rig: Camera, local: np.ndarray) -> Sight:
        """Turn rays (T, C, P, 3) in the axes of cameras of batch (T, C) to the world's."""
        focal = torch.sqrt((rig.intrinsics[..., 0, 0] * rig.intrinsics[..., 1, 1]).abs()).numpy()
        return cls(local @ rig.rotation.numpy(), rig.centre().numpy(), focal)

    def with_cameras(self, indices: list[int], other: Sight) -> Sight:
        """Put the cameras of another sight in the place of some of this."""
        changed = Sight(self.rays.copy(), self.centres.copy(), self.focal.copy())
        changed.rays[:, indices], changed.centres[:, indices] = other.rays, other.centres
        changed.focal[:, indices] = other.focal
        return changed

    def misses(self, first: int, second: int) -> np.ndarray:
        """Return (T, P) signed distances of two views' points from each other's epipolar lines [px].

        The first-order (Sampson) distance, on directions. Where the two lines of sight meet behind a camera it is
        infinite; NaN where one view does not show the point.
        """
        own, other = self.rays[:, first], self.rays[:, second]
        base = (self.centres[:, second] - self.centres[:, first])[:, None]
        length = np.linalg.norm(base, axis=-1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            direction = np.where(length > 0, base / length, np.nan)
            volume = (np.cross(own, other) * direction).sum(-1)
            spread = np.sqrt((np.cross(direction, own) ** 2).sum(-1) + (np.cross(direction, other) ** 2).sum(-1))
            focal = np.sqrt(self.focal[:, first] * self.focal[:, second])[:, None]
            miss = volume / np.maximum(spread, 1e-12) * focal
            along = (own * other).sum(-1)
            apart = 1 - along**2
            ahead = (direction * own).sum(-1) - along * (direction * other).sum(-1)
            its_ahead = along * (direction * own).sum(-1) - (direction * other).sum(-1)
            behind = (apart > np.sin(_PARALLEL) ** 2) & ((ahead < 0) | (its_ahead < 0))
        return np.where(np.isnan(miss), np.nan, np.where(behind, np.inf, miss))


@dataclass(frozen=True)
class Outlines:
    """Silhouettes as lines of sight: `misses` compares the planes through both centres that touch them.

    Attributes:
        sight: through the corners of the outlines' convex hulls.
        cut: (T, C, P) bool, corners at the border of the image, where the silhouette may go on.
    """

    sight: Sight
    cut: np.ndarray

    def misses(self, first: int, second: int) -> np.ndarray:
        """Return (T, 2) distances of the two outermost touching planes [px]; NaN where one is cut off."""
        sight = self.sight
        base = sight.centres[:, second] - sight.centres[:, first]
        length = np.linalg.norm(base, axis=-1, keepdims=True)
        result = np.full((len(base), 2), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            axis = np.where(length > 0, base / length, np.nan)
            middle = np.nansum(sight.rays[:, first], axis=1)
            across = middle - (middle * axis).sum(-1, keepdims=True) * axis
            across /= np.linalg.norm(across, axis=-1, keepdims=True)
            up = np.cross(axis, across)
            angles, arms = [], []
            for camera in (first, second):
                rays = sight.rays[:, camera]
                angles.append(np.arctan2((rays * up[:, None]).sum(-1), (rays * across[:, None]).sum(-1)))
                arms.append(np.linalg.norm(np.cross(axis[:, None], rays), axis=-1) * sight.focal[:, camera, None])
        for side, choose in enumerate((np.argmin, np.argmax)):
            fill = np.inf if side == 0 else -np.inf
            places = [choose(np.where(np.isfinite(angle), angle, fill), axis=1) for angle in angles]
            rows = np.arange(len(base))
            ends = [angle[rows, place] for angle, place in zip(angles, places, strict=True)]
            arm = np.mean([a[rows, place] for a, place in zip(arms, places, strict=True)], axis=0)
            whole = ~self.cut[rows, first, places[0]] & ~self.cut[rows, second, places[1]]
            result[:, side] = np.where(whole, (ends[0] - ends[1]) * arm, np.nan)
        return result


def pair_medians(sight: Sight | Outlines, count: int, only: set[int] | None = None) -> dict[tuple[int, int], float]:
    """Return pair of cameras -> median distance [px] of what both show, infinite where most lies behind a camera.

    Args:
        sight: lines of sight of ``count`` cameras.
        count: number of cameras.
        only: cameras; pairs without any of them are left out.
    """
    medians = {}
    for first, second in combinations(range(count), 2):
        if only is None or first in only or second in only:
            miss = np.abs(sight.misses(first, second))
            miss = miss[~np.isnan(miss)]
            if len(miss):
                medians[first, second] = float(np.median(miss))
    return medians
