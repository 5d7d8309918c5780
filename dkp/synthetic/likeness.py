"""A recorded subject's own look and shape, by the surfaces that were registered to its images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dkp.captures import Capture, View
from dkp.captures.manifest import CAPTURE_FILE
from dkp.errors import InputError
from dkp.reconstruction import Reconstruction
from dkp.reconstruction.result import FILE
from dkp.surface import Surface
from dkp.synthetic.body import SkinnedBody
from dkp.synthetic.captured import CapturedRig
from dkp.synthetic.noise import linear
from dkp.synthetic.rasteriser import rasterise
from dkp.synthetic.regions import Regions, neighbour_mean
from dkp.synthetic.render import Subject
from dkp.synthetic.rig import RigCamera, crop_around, cropped_intrinsics

INSTANTS = 40
"""Most instants of a take that are looked at, spread over it."""

FINER = 2
"""Samples along a pixel."""

SLANT = 0.2
"""Least cosine between the normal of a face and the ray to it, of a face whose colour is believed."""

OTHER_SIDE = 0.05
"""Weight of what the mirrored point shows, which counts where the point itself is hardly seen."""

GLOSS = 0.03
"""Of all points: highlights are in the colours, too."""

SHAPE_SPREAD = 0.3
"""Standard deviation of the shapes that are drawn around the fitted one."""

EDGE_NOISE = 0.5
"""Standard deviation of the logarithm of an edge's length, as if a hundred edges were measured each for itself."""


@dataclass(frozen=True)
class Likeness:
    """What a recorded subject looks like.

    Attributes:
        subject: Painted as it was seen; nothing stands off its skin.
        shape: (S,) of its body.
    """

    subject: Subject
    shape: NDArray[np.float64]

    def sample_shape(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw a body shape (S,) near the subject's, which is not known exactly."""
        return (self.shape + SHAPE_SPREAD * rng.standard_normal(len(self.shape))).clip(-3, 3)


class Likenesses:
    """What the subjects of a capture look like: one for each take.

    Args:
        folder: The posed surfaces of the capture: a capture with its frames that knows them, such as one that
            `dkp pseudo-label` has registered, or what `dkp reconstruct` made of it.
        captured: The capture.
        body: Of its species.

    Raises:
        InputError: the folder has no surface of this capture.
    """

    def __init__(self, folder: str | Path, captured: CapturedRig, body: SkinnedBody) -> None:
        self.captured, self.body = captured, body
        frames, self.surface = posed_surfaces(Path(folder))
        self._instant = {instant.frame: index for index, instant in enumerate(captured.instants)}
        takes: dict[str, list[str]] = {}
        for frame in frames:
            if frame in self._instant:
                takes.setdefault(captured.instants[self._instant[frame]].sequence, []).append(frame)
        if not takes:
            raise InputError(f"{folder} has no surface of an instant of the rig, expected those of its capture")
        if self.surface(frames[0]).shape != captured.capture.surface.vertices.shape:
            raise InputError(f"{folder} is not on the surface {captured.species.name}, as the rig's capture is")
        self.takes = takes
        self._of_take = cache(self._find)

    def __call__(self, number: int) -> Likeness:
        """Return the likeness that a subject by its number has: that of its take, or of another that has surfaces."""
        take = self.captured.take(number)
        return self._of_take(take if take in self.takes else list(self.takes)[number % len(self.takes)])

    def _find(self, take: str) -> Likeness:
        """Find what the subject of a take looks like."""
        captured, surface, frames = self.captured, self.captured.capture.surface, self.takes[take]
        spread_out = np.linspace(0, len(frames) - 1, min(INSTANTS, len(frames))).round().astype(int)
        surfaces = {frames[index]: self.surface(frames[index]) for index in spread_out}
        total, colour = np.zeros(len(surface.vertices)), np.zeros((len(surface.vertices), 3))
        for frame, posed in surfaces.items():
            instant = self._instant[frame]
            stand, sequence = captured.stand(instant), captured.instants[instant].sequence
            vertices = (posed - stand.to_world[:3, 3]) @ stand.to_world[:3, :3]
            for view, camera in zip(stand.views, stand.cameras, strict=True):
                level = captured.empty(sequence, camera.name, instant if view.override else None).level
                weight, light = _shown(captured, view, camera, vertices, surface.faces)
                total += weight
                colour += light / level
        spread = neighbour_mean(surface.faces, len(surface.vertices))
        albedo = _filled(colour, total, surface, spread).astype(np.float32)
        subject = Subject(Regions(surface.faces, albedo, spread), np.zeros((len(albedo), 2)), _paint)
        return Likeness(subject, fitted_shape(self.body, np.stack(list(surfaces.values()))))


def posed_surfaces(folder: Path) -> tuple[list[str], Callable[[str], NDArray[np.float64]]]:
    """Return the frames of which a capture or a reconstruction has the posed surface, and what reads it: (V, 3) [m].

    Raises:
        InputError: the folder is neither.
    """
    if (folder / CAPTURE_FILE).is_file():
        capture = Capture.open(folder)
        known = [frame for frame in capture.frames if (folder / f"truth/{frame}.npz").is_file()]
        return known, lambda frame: np.asarray(capture.truth(frame))
    if not (folder / FILE).is_file():
        raise InputError(
            f"{folder} has neither {CAPTURE_FILE} nor {FILE}, expected a capture with posed surfaces, such as "
            "dkp pseudo-label --method registration writes, or a folder of dkp reconstruct"
        )
    found = Reconstruction.open(folder)
    whole = {str(frame): index for index, frame in enumerate(found.frame) if np.isfinite(found.vertices[index]).all()}
    return list(whole), lambda frame: found.vertices[whole[frame]].astype(np.float64)


def _paint(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Albedo (N, 3) and gloss (N,) of points whose columns are their colours."""
    return columns.clip(0.002, 1), np.full(len(columns), GLOSS, np.float32)


def _shown(
    captured: CapturedRig, view: View, camera: RigCamera, vertices: np.ndarray, faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (V,) by which a view shows the vertices, and their light (V, 3) times these.

    What a face shows counts with the squared cosine of its slant and belongs to its corners.
    """
    side = FINER * captured.size
    crop = crop_around(camera.project(vertices), side, 0.02, np.zeros(2))
    seen = rasterise(
        camera.to_camera(vertices), faces, cropped_intrinsics(camera.intrinsics, crop), side, side, cull_back=True
    )
    cut = captured.cut(view, captured.capture.rig_camera(view), crop, side)
    there = (seen.face >= 0) & cut.inside(*view.size)
    mask = captured.capture.mask(view)
    if mask is not None:
        there &= cut.mask(mask)
    face, light = seen.face[there], linear(cut.image(captured.capture.image(view))[there] / 255.0)
    corners = vertices[faces[face]]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    ray = camera.centre - corners.mean(1)
    slant = (normal * ray).sum(1) / np.maximum(np.linalg.norm(normal, axis=1) * np.linalg.norm(ray, axis=1), 1e-12)
    weight = seen.barycentric[there] * (np.where(slant > SLANT, slant, 0) ** 2)[:, None]
    owner = faces[face].ravel()

    def summed(values: np.ndarray) -> np.ndarray:
        return np.bincount(owner, values.ravel(), len(vertices))

    return summed(weight), np.stack([summed(weight * light[:, c, None]) for c in range(3)], 1)


def _filled(colour: np.ndarray, weight: np.ndarray, surface: Surface, spread: Any) -> np.ndarray:
    """Return colours (V, 3) of sums (V, 3) of weights (V,): what was not seen is as its other side, or as around it."""
    if surface.mirror is not None:
        colour = colour + OTHER_SIDE * colour[surface.mirror]
        weight = weight + OTHER_SIDE * weight[surface.mirror]
    known = weight > 1e-3 * np.median(weight)
    mean = colour[known].sum(0) / weight[known].sum()
    result = np.where(known[:, None], colour / np.maximum(weight, 1e-12)[:, None], mean)
    for _ in range(100):
        result = np.where(known[:, None], result, spread @ result)
    return np.asarray(result)


def fitted_shape(body: SkinnedBody, surfaces: np.ndarray) -> np.ndarray:
    """Return the body shape (S,) whose edges are nearest to the median lengths of those of surfaces (T, V, 3).

    Lengths of edges hardly depend on the pose. Of all shapes, distributed as N(0, 1), the most likely one.
    """
    first, second = np.unique(np.sort(np.concatenate([body.faces[:, [0, 1]], body.faces[:, [1, 2]]]), 1), axis=0).T

    def lengths(vertices: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(np.linalg.norm(vertices[..., first, :] - vertices[..., second, :], axis=-1) + 1e-6))

    mean = lengths(body.rest()[0])
    slope = np.stack([lengths(body.rest(one)[0]) - mean for one in np.eye(body.shape_dim)], 1)
    off = np.median(lengths(surfaces), 0) - mean
    scale = 100 / (len(mean) * EDGE_NOISE**2)
    found = np.linalg.solve(scale * slope.T @ slope + np.eye(body.shape_dim), scale * slope.T @ off)
    return np.asarray(found.clip(-3, 3))
