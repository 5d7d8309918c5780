"""What may be wrong with a rig, as other rigs, other pixels or other moments that are tried in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, permutations

import numpy as np
import torch

from dkp.captures.check.sight import Outlines, Sight, local_rays
from dkp.geometry import Camera

_ALL_ORDERS = 5  # cameras up to which every order is tried; beyond, every exchange of two
_MOST_DELAY = 10  # instants by which a camera may be late or early
SEEN = "points that a detector sees"
"""Kind of looks that are rough: sizes, shifts and moved cameras are not tried on them."""
_OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))


@dataclass(frozen=True)
class Looks:
    """How the views look at the subject: what a hypothesis changes.

    Attributes:
        kind: what is looked at, in words: "joints", "labelled points", "labelled pixels", "outlines of the masks" or
            `SEEN`.
        rig: the cameras that took the views, batch (T, C); as the rig has them where an instant lacks the view.
        pixels: (T, C, P, 2) [px of the camera, with distortion]; NaN where not seen.
        names: (P,) of joints; empty for other points.
        sizes: (C, 2) frames [px].
        sequences: (T,) name of each instant's recording.
        times: (T,) number of each instant in it.
        cut: (T, C, P) bool where pixels are corners of outlines: those at the border of an image.
        local: (T, C, P, 3) rays in each camera's axes, where they are known already.
    """

    kind: str
    rig: Camera
    pixels: np.ndarray
    names: list[str]
    sizes: np.ndarray
    sequences: np.ndarray
    times: np.ndarray
    cut: np.ndarray | None = None
    local: np.ndarray | None = None

    @property
    def rough(self) -> bool:
        """Whether the views disagree by themselves: in outlines and in what a detector sees."""
        return self.cut is not None or self.kind == SEEN

    def matches(self) -> int:
        """Return the number of pairs of views of a point."""
        seen = np.isfinite(self.pixels[..., 0]).sum(axis=1)
        return int((seen * (seen - 1) // 2).sum())

    def through_lens(self) -> Looks:
        """Return the same with the rays in each camera's axes, which poses and moments do not change."""
        return replace(self, local=local_rays(self.rig, self.pixels))

    def sight(self, given: Sight | None = None, changed: tuple[int, ...] = ()) -> Sight:
        """Return the lines of sight; only those of the ``changed`` cameras are new where others are ``given``."""
        some = list(range(self.pixels.shape[1])) if given is None else list(changed)
        rig = self.rig[:, some]
        local = local_rays(rig, self.pixels[:, some]) if self.local is None else self.local[:, some]
        sight = Sight.create(rig, local)
        return sight if given is None else given.with_cameras(some, sight)

    def compared(self, sight: Sight) -> Sight | Outlines:
        """Return what measures how far lines of sight of two views miss each other."""
        return sight if self.cut is None else Outlines(sight, self.cut)


@dataclass(frozen=True)
class Hypothesis:
    """Something that may be wrong.

    Attributes:
        kind: one word.
        cameras: indices of those that it is about.
        says: what is wrong, to be followed by figures; ``{}`` stands for the cameras' names.
        looks: what holds if it is true.
        delay: of the cameras, in steps of time.
    """

    kind: str
    cameras: tuple[int, ...]
    says: str
    looks: Callable[[], Looks]
    delay: int = 0


def hypotheses(looks: Looks) -> Iterator[Hypothesis]:
    """Yield what may be wrong, the simple things first."""
    count = looks.pixels.shape[1]
    yield from _orders(looks, count)
    every = tuple(range(count))
    subsets = [every, *((index,) for index in every)]
    for kind, says, change in _POSES:
        for some in subsets:
            yield Hypothesis(kind, some, says, partial(_posed, looks, some, change))
    for some in subsets:
        yield from _mirrored(looks, some)
    for index in every:
        yield from delayed(looks, index)


def _orders(looks: Looks, count: int) -> Iterator[Hypothesis]:
    """Cameras that took each other's places in the calibration."""
    exchanges = [((first, second), (second, first)) for first, second in combinations(range(count), 2)]
    for pair, turned in exchanges:
        yield Hypothesis("exchanged", pair, "{} look exchanged", partial(_ordered, looks, pair, turned))
    if not 3 <= count <= _ALL_ORDERS:
        return
    for order in permutations(range(count)):
        moved = tuple(index for index in range(count) if order[index] != index)
        if len(moved) > 2:
            others = tuple(order[index] for index in moved)
            yield Hypothesis(
                "exchanged",
                moved,
                "{} look exchanged among each other",
                partial(_ordered, looks, moved, others),
            )


def _ordered(looks: Looks, cameras: tuple[int, ...], others: tuple[int, ...]) -> Looks:
    order = list(range(looks.pixels.shape[1]))
    for mine, theirs in zip(cameras, others, strict=True):
        order[mine] = theirs
    return replace(looks, rig=looks.rig[:, order], local=None)


Pose = tuple[torch.Tensor, torch.Tensor]


def _to_world(rotation: torch.Tensor, translation: torch.Tensor) -> Pose:
    turned = rotation.mT
    return turned, -(turned @ translation[..., None])[..., 0]


def _to_world_opengl(rotation: torch.Tensor, translation: torch.Tensor) -> Pose:
    turned = _OPENGL @ rotation.mT
    return turned, -(turned @ translation[..., None])[..., 0]


_POSES: tuple[tuple[str, str, Callable[[torch.Tensor, torch.Tensor], Pose]], ...] = (
    ("transposed", "the rotation of {} looks transposed", lambda r, t: (r.mT, t)),
    ("camera-to-world", "the pose of {} looks given from camera to world", _to_world),
    (
        "camera-to-world",
        "the pose of {} looks given from camera to world with the axes of OpenGL (y up, z backwards)",
        _to_world_opengl,
    ),
    (
        "axes",
        "the axes of {} look like those of OpenGL (y up, z backwards)",
        lambda r, t: (_OPENGL @ r, t @ _OPENGL),
    ),
    (
        "centre",
        "the translation of {} looks like the camera's centre in the world",
        lambda r, t: (r, -(r @ t[..., None])[..., 0]),
    ),
    ("opposite", "the translation of {} looks of the opposite sign", lambda r, t: (r, -t)),
)


def _posed(looks: Looks, cameras: tuple[int, ...], change: Callable[[torch.Tensor, torch.Tensor], Pose]) -> Looks:
    rig, some = looks.rig, list(cameras)
    rotation, translation = rig.rotation.clone(), rig.translation.clone()
    rotation[:, some], translation[:, some] = change(rotation[:, some], translation[:, some])
    return replace(looks, rig=Camera(rig.intrinsics, rotation, translation, rig.distortion, rig.image_size))


def _mirrored(looks: Looks, cameras: tuple[int, ...]) -> Iterator[Hypothesis]:
    """Images that were mirrored or turned, and detectors that took left for right."""
    for sides in (False, True) if looks.names else (False,):
        also = " (left and right joints, too)" if sides else ""
        for axes, says in (((0,), "mirrored"), ((1,), "upside down and mirrored"), ((0, 1), "upside down")):
            yield Hypothesis(
                "mirrored",
                cameras,
                f"the images of {{}} look {says}{also}",
                partial(_flipped, looks, cameras, axes, sides),
            )
    yield Hypothesis(
        "axes", cameras, "x and y of {} look exchanged", partial(_flipped, looks, cameras, (), False, True)
    )
    if looks.names:
        yield Hypothesis(
            "sides", cameras, "left and right joints of {} look exchanged", partial(_flipped, looks, cameras, (), True)
        )


def _flipped(
    looks: Looks, cameras: tuple[int, ...], axes: tuple[int, ...], sides: bool, exchanged: bool = False
) -> Looks:
    pixels = looks.pixels.copy()
    for camera in cameras:
        if exchanged:
            pixels[:, camera] = pixels[:, camera, :, ::-1]
        for axis in axes:
            pixels[:, camera, :, axis] = looks.sizes[camera, axis] - pixels[:, camera, :, axis]
        if sides:
            pixels[:, camera] = pixels[:, camera][:, other_sides(looks.names)]
    return replace(looks, pixels=pixels, local=None)


def other_sides(names: list[str]) -> list[int]:
    """Return, for every joint, the index of the same one of the other side; of itself where there is none."""
    turned = {"left": "right", "right": "left"}
    others = ["_".join(turned.get(word, word) for word in name.split("_")) for name in names]
    return [names.index(other) if other in names else index for index, other in enumerate(others)]


def delayed(looks: Looks, camera: int) -> Iterator[Hypothesis]:
    """Try a camera whose frames are some instants late or early, small delays first."""
    step, later = later_rows(looks)
    for delay, rows in later.items():
        says = f"the frames of {{}} look {abs(delay) * step} too {'late' if delay > 0 else 'early'}"
        yield Hypothesis("delay", (camera,), says, partial(_shifted, looks, camera, rows), delay)


def later_rows(looks: Looks) -> tuple[int, dict[int, np.ndarray]]:
    """Return the step of time between instants, and delay in steps -> (T,) rows of the instants so much later.

    Small delays come first; a row is -1 where there is no such instant. Delays that leave fewer than half of the
    instants are not among them: a chance agreement of a few would look like one.
    """
    row = {
        moment: index for index, moment in enumerate(zip(looks.sequences.tolist(), looks.times.tolist(), strict=True))
    }
    steps = [later - time for (name, time), (its, later) in zip(row, list(row)[1:], strict=False) if name == its]
    step = int(np.median(steps)) if steps else 0
    delays = sorted((d for d in range(-_MOST_DELAY, _MOST_DELAY + 1) if d), key=abs) if step > 0 else []
    rows = {d: np.array([row.get((name, time + d * step), -1) for name, time in row]) for d in delays}
    return step, {d: later for d, later in rows.items() if (later >= 0).mean() >= 0.5}


def _shifted(looks: Looks, camera: int, rows: np.ndarray) -> Looks:
    """Take a camera's pixels of other instants; ``rows`` (T,) with -1 where there is none."""
    moved = {}
    for key in ("pixels", "local", "cut"):
        values = getattr(looks, key)
        if values is not None:
            moved[key] = values.copy()
            moved[key][:, camera] = values[rows, camera]
            if key != "cut":
                moved[key][rows < 0, camera] = np.nan
    return replace(looks, **moved)
