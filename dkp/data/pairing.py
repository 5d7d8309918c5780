"""Which views of an instant go together: eligible pairs, and the choice of views that a training step sees."""

from dataclasses import dataclass

import numpy as np
import torch

from dkp.data.cache import CaptureImages
from dkp.data.collate import CAMERA
from dkp.errors import InputError
from dkp.geometry import FLAT, Camera, eligible_pairs


@dataclass
class Pairing:
    """Which pairs of views constrain each other, see `dkp.geometry.eligible_pairs`.

    Attributes:
        min_angle: least angle between the two lines of sight [degrees].
        max_angle: greatest angle [degrees].
        epipole_margin: a pair is left out when an epipole lies in an image enlarged by this share on each side.
    """

    min_angle: float = 10.0
    max_angle: float = 130.0
    epipole_margin: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.min_angle < self.max_angle <= 180:
            raise InputError(
                f"pairing.min_angle, max_angle are {self.min_angle}, {self.max_angle} where ascending angles from 0 to "
                "180 degrees are expected"
            )


def pairs_of_instants(images: CaptureImages, pairing: Pairing | None = None) -> list[np.ndarray]:
    """Eligible pairs of every instant.

    Args:
        images: the capture.
        pairing: which pairs are; None = what is usual for its surface.

    Returns:
        For each instant (P, 2) i < j, indices into the instant's views.
    """
    # Cameras that face each other see the same side of something flat, so all its pairs count.
    pairing = pairing or (Pairing(**FLAT) if images.surface.is_flat else Pairing())
    known: dict[bytes, np.ndarray] = {}
    result = []
    size = torch.full((2,), float(images.side), dtype=torch.float64)
    for views in images.instants:
        parts = {name: getattr(images, name)[views] for name in CAMERA}
        key = b"".join(part.tobytes() for part in parts.values())
        if key not in known:
            cameras = Camera.create(**{name: torch.from_numpy(part) for name, part in parts.items()}, image_size=size)
            known[key] = eligible_pairs(cameras, **vars(pairing)).numpy().reshape(-1, 2)
        result.append(known[key])
    return result


def choose_views(rng: np.random.Generator, views: int, pairs: np.ndarray, count: int) -> np.ndarray:
    """Draw some of an instant's views so that they form an eligible pair where there is one.

    The first two are an eligible pair at random, each further one forms an eligible pair with one already chosen, as
    long as there is such a view.

    Args:
        rng: randomness.
        views: how many the instant has.
        pairs: (P, 2) eligible pairs.
        count: how many to draw; all if there are fewer.

    Returns:
        (min(count, views),) ascending indices.
    """
    if count >= views:
        return np.arange(views)
    linked = np.zeros((views, views), bool)
    linked[pairs[:, 0], pairs[:, 1]] = linked[pairs[:, 1], pairs[:, 0]] = True
    chosen = [int(i) for i in pairs[rng.integers(len(pairs))][:count]] if len(pairs) else []
    while len(chosen) < count:
        left = np.setdiff1d(np.arange(views), chosen)
        partners = left[linked[left][:, chosen].any(axis=1)] if chosen else left
        pool = partners if len(partners) else left
        chosen.append(int(pool[rng.integers(len(pool))]))
    return np.sort(np.asarray(chosen))


def pairs_among(chosen: np.ndarray, pairs: np.ndarray, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the eligible pairs within the chosen views, padded.

    Args:
        chosen: (V,) ascending indices of views.
        pairs: (P, 2) eligible pairs of the instant.
        slots: length to pad to.

    Returns:
        (slots, 2) long indices into `chosen` (0, 0 in the padding) and (slots,) bool, which are pairs.
    """
    position = {int(view): slot for slot, view in enumerate(chosen)}
    inside = [(position[i], position[j]) for i, j in pairs.tolist() if i in position and j in position][:slots]
    padded = np.zeros((slots, 2), np.int64)
    padded[: len(inside)] = np.asarray(inside, np.int64).reshape(-1, 2)
    return padded, np.arange(slots) < len(inside)
