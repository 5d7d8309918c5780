"""From the fields of all views of an instant to surface points in space."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dkp.errors import check_settings
from dkp.geometry import Camera, Triangulation, triangulate
from dkp.geometry.arguments import expect_mask
from dkp.reconstruction.observations import Observations, observe
from dkp.reconstruction.samples import SurfaceSamples, random_samples, sample_surface
from dkp.reconstruction.visibility import depth_map, in_sight
from dkp.surface import Surface

RELATIVE_SIGMA = 0.03
"""Width of the matchability as a share of the surface's largest side: 5 cm for a human."""

_CELLS = 32
"""Cells of the depth maps along the longer side of an image."""
_CLOUD = 8000
"""Points of the depth maps: ten in a cell of a body that fills a third of the image."""


@dataclass(frozen=True)
class ReconstructionSettings:
    """How surface points are found in fields and triangulated. Lengths in images are shares of the longer side.

    Attributes:
        points: how many points of the surface.
        sigma: width of the matchability [m]; None = 3 % of the surface's largest side.
        radius: see `dkp.reconstruction.observe`, as the next two.
        least_share: least share of a point's matching cells within the radius.
        shrinkage: towards 0 for fields that are exact to less than a cell, large for noisy ones.
        foreground: probability above which a cell is foreground.
        threshold: greatest reprojection distance of an observation that takes part; 0.06 is 4 px of 64.
        min_angle: least angle between two of a point's rays [degrees].
        min_views: least number of views that agree.
    """

    points: int = 1000
    sigma: float | None = None
    radius: float = 0.125
    least_share: float = 0.8
    shrinkage: float = 1.0
    foreground: float = 0.5
    threshold: float = 0.06
    min_angle: float = 5.0
    min_views: int = 2

    def __post_init__(self) -> None:
        checks = {
            "points": (self.points >= 1, "1 or more"),
            "sigma": (self.sigma is None or self.sigma > 0, "a positive length in metres"),
            "radius": (self.radius > 0, "a positive share"),
            "least_share": (0 <= self.least_share <= 1, "a share from 0 to 1"),
            "shrinkage": (self.shrinkage > 0, "a positive number"),
            "foreground": (0 <= self.foreground < 1, "a probability below 1"),
            "threshold": (self.threshold > 0, "a positive share"),
            "min_angle": (0 <= self.min_angle < 180, "0 to below 180 degrees"),
            "min_views": (self.min_views >= 2, "2 or more"),
        }
        check_settings("reconstruction", self, checks)


class Reconstructor:
    """Triangulates a fixed set of points of a surface.

    Args:
        surface: the canonical surface.
        settings: None = the defaults.
        samples: the points; None = as many as the settings say, spread evenly.

    Attributes:
        samples: the points.
    """

    def __init__(
        self, surface: Surface, settings: ReconstructionSettings | None = None, samples: SurfaceSamples | None = None
    ) -> None:
        self.settings = settings or ReconstructionSettings()
        self.samples = samples or sample_surface(surface, self.settings.points)
        self.tolerance = RELATIVE_SIGMA * surface.extent
        self.sigma = self.settings.sigma or self.tolerance
        self._cloud = random_samples(surface, _CLOUD)
        self._flat = surface.is_flat

    def __call__(
        self, coordinate: Tensor, foreground: Tensor, camera: Camera, present: Tensor | None = None
    ) -> Triangulation:
        """Triangulate the points from fields.

        Args:
            coordinate: (B, V, 3, H, W) [m], surface coordinates.
            foreground: (B, V, H, W), probability or bool.
            camera: (B, V), of the images, which have one size.
            present: (B, V) bool, which views there are; None = all.

        Returns:
            The points, batch shape (B,); residuals in px of these images.
        """
        return self.triangulated(self.observed(coordinate, foreground, camera, present), camera, present)

    def observed(
        self, coordinate: Tensor, foreground: Tensor, camera: Camera, present: Tensor | None = None
    ) -> Observations:
        """Return where the views see the points; arguments as of a call."""
        settings = self.settings
        if present is not None:
            expect_mask("present", present, *camera.shape)
            camera = camera.only(present)  # without a size where nothing is present
            foreground = torch.where(present[..., None, None], foreground, torch.zeros_like(foreground))
        points = torch.from_numpy(self.samples.coordinate).to(coordinate)
        return observe(
            coordinate,
            foreground,
            points,
            camera.image_size,
            self.sigma,
            radius=settings.radius,
            least_share=settings.least_share,
            shrinkage=settings.shrinkage,
            threshold=settings.foreground,
        )

    def triangulated(self, seen: Observations, camera: Camera, present: Tensor | None = None) -> Triangulation:
        """Triangulate what `observed` returned."""
        settings = self.settings
        camera = camera if present is None else camera.only(present)
        return triangulate(
            camera,
            seen.pixels,
            seen.weights,
            threshold=settings.threshold * (float(camera.image_size.amax()) or 1.0),
            min_angle=settings.min_angle,
            min_views=settings.min_views,
        )

    def positions(self, vertices: Tensor) -> Tensor:
        """Return true positions (..., N, 3) of the points on a posed surface, vertices (..., V, 3) [m]."""
        return self.samples.positions(vertices)

    def visible(self, vertices: Tensor, camera: Camera) -> Tensor:
        """Which points a posed surface shows to each camera.

        Args:
            vertices: (B, Vn, 3) [m].
            camera: (B, V).

        Returns:
            (B, V, N) bool: in the image, turned towards the camera and not behind another part of the surface; a flat
            surface has two sides and hides nothing.
        """
        depths = depth_map(self._cloud.positions(vertices), camera, _CELLS)
        points = self.samples.positions(vertices)
        if self._flat:
            return in_sight(points, camera, depths, torch.inf)[1]
        return in_sight(points, camera, depths, self.tolerance, self.samples.normals(vertices))[1]


def confidence(seen: Observations, found: Triangulation) -> Tensor:
    """(B, N) in [0, 1]: the mean weight of the observations that agree on a point, 0 where there is none."""
    total: Tensor = (seen.weights * found.inliers).sum(1)
    return total / found.views.clamp_min(1)
