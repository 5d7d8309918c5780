"""Several views of one instant: from the pixels of their fields to positions in space."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dkp.captures.crops import crop_affine
from dkp.geometry import Camera
from dkp.inference.prediction import Prediction
from dkp.reconstruction import ReconstructionSettings, Reconstructor, confidence, vertex_samples
from dkp.surface import Surface

SIDE = 128
"""Of the squares that fields are triangulated in [px]; only shares of it count."""


@dataclass(frozen=True)
class SurfacePositions:
    """Where the V vertices of a surface are in space, each triangulated for itself.

    Attributes:
        position: (V, 3) float64 [m], in the world of the cameras; NaN where the views do not agree on one.
        views: (V,), how many views agree.
        confidence: (V,) in [0, 1], mean over these views of foreground probability times matchability.
        surface: the canonical surface.
    """

    position: np.ndarray
    views: np.ndarray
    confidence: np.ndarray
    surface: Surface

    def at(self, vertex: Any) -> np.ndarray:
        """Return positions (..., 3) [m] of vertices (...), such as `Prediction.at` and `vertices` find; NaN for -1.

        Raises:
            ValueError: they are no numbers of vertices.
        """
        vertex = np.asarray(vertex)
        if vertex.dtype.kind not in "iu" or (vertex < -1).any() or (vertex >= len(self.position)).any():
            raise ValueError(f"vertices are {vertex}, expected whole numbers from -1 to {len(self.position) - 1}")
        return np.where((vertex >= 0)[..., None], self.position[vertex], np.nan)


def reconstruct(
    fields: Sequence[Prediction], cameras: Sequence[Camera], settings: ReconstructionSettings | None = None
) -> SurfacePositions:
    """Triangulate the surface that several views of one instant show.

    Every vertex for itself, robustly, from the views whose fields agree on it; see docs/three-dimensions.md.

    Args:
        fields: what `Predictor.predict` says of the subject in each view, two or more.
        cameras: of the whole images, in the same order, [px] and [m]; lens distortion is undone.
        settings: None = the defaults.

    Returns:
        The positions of the surface's vertices.

    Raises:
        ValueError: there are not as many cameras as fields, fewer than two, or the fields are of several detectors.
    """
    if len(fields) != len(cameras) or len(fields) < 2:
        raise ValueError(f"there are {len(fields)} fields and {len(cameras)} cameras, expected two or more, one each")
    surface = fields[0].surface
    kinds = {(one.surface.name, len(one.surface.vertices), one.foreground.shape) for one in fields}
    if len(kinds) > 1:
        raise ValueError(f"the fields have several surfaces or shapes, {kinds}, expected those of one detector")
    pairs = zip(fields, cameras, strict=True)
    stacked = Camera.stack(
        [camera.to(torch.float64).transform(crop_affine(one.box, SIDE), SIDE, SIDE) for one, camera in pairs]
    )
    origin = stacked.centre().mean(0)
    camera = stacked.about(origin)[None]
    reconstructor = Reconstructor(surface, settings, vertex_samples(surface))
    coordinate = torch.stack([torch.from_numpy(one.coordinate).movedim(-1, 0) for one in fields])[None]
    foreground = torch.stack([torch.from_numpy(one.foreground) for one in fields])[None]
    seen = reconstructor.observed(coordinate, foreground, camera)
    found = reconstructor.triangulated(seen, camera)
    position = (found.points[0] + origin).numpy()
    return SurfacePositions(position, found.views[0].numpy(), confidence(seen, found)[0].numpy(), surface)
