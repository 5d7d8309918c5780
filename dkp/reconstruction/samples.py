"""Points spread evenly over the canonical surface, and where they are on a posed one."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dkp.surface import Surface

_CANDIDATES = 8
"""Random candidates for every point that is chosen."""


@dataclass(frozen=True)
class SurfaceSamples:
    """Points of a surface.

    Attributes:
        face: (N,) int64.
        barycentric: (N, 3) float64.
        coordinate: (N, 3) float64 [m], on the surface at rest.
        faces: (F, 3) int64, those of the surface.
    """

    face: np.ndarray
    barycentric: np.ndarray
    coordinate: np.ndarray
    faces: np.ndarray

    def __len__(self) -> int:
        return len(self.face)

    def corners(self, vertices: Tensor) -> Tensor:
        """Corners (..., N, 3, 3) of the points' faces on a posed surface, vertices (..., V, 3)."""
        return vertices[..., torch.from_numpy(self.faces[self.face]).to(vertices.device), :]

    def positions(self, vertices: Tensor) -> Tensor:
        """Positions (..., N, 3) on a posed surface, vertices (..., V, 3), in their unit."""
        weights = torch.from_numpy(self.barycentric).to(vertices)
        return (weights[..., None] * self.corners(vertices)).sum(-2)

    def normals(self, vertices: Tensor) -> Tensor:
        """Return unit normals (..., N, 3) on a posed surface, vertices (..., V, 3); outwards as the mesh is."""
        first, second, third = self.corners(vertices).unbind(-2)
        return torch.nn.functional.normalize(torch.linalg.cross(second - first, third - first), dim=-1)


def random_samples(surface: Surface, count: int) -> SurfaceSamples:
    """Draw points of a surface at random, by area; the same ones each time.

    Raises:
        ValueError: the count is less than 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}, expected 1 or more points")
    rng = np.random.default_rng(0)
    corners = surface.vertices[surface.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    face = rng.choice(len(area), count, p=area / area.sum())
    root, share = np.sqrt(rng.random(count)), rng.random(count)
    barycentric = np.stack([1 - root, root * (1 - share), root * share], axis=1)
    return SurfaceSamples(face, barycentric, surface.coordinates(face, barycentric), surface.faces)


def vertex_samples(surface: Surface) -> SurfaceSamples:
    """Return the vertices of a surface, in their order."""
    face, corner = np.empty(len(surface.vertices), np.int64), np.empty(len(surface.vertices), np.int64)
    for number in range(3):  # every vertex is a corner of some face
        face[surface.faces[:, number]], corner[surface.faces[:, number]] = np.arange(len(surface.faces)), number
    return SurfaceSamples(face, np.eye(3)[corner], surface.vertices, surface.faces)


def sample_surface(surface: Surface, count: int) -> SurfaceSamples:
    """Choose points of a surface, evenly by area: the same ones in every process and every run.

    Of many random points the one furthest from those already chosen is taken, again and again.

    Raises:
        ValueError: the count is less than 1.
    """
    drawn = random_samples(surface, _CANDIDATES * count)
    chosen = np.zeros(max(count, 0), np.int64)
    squared = np.full(len(drawn), np.inf)
    for number in range(1, count):
        offset = drawn.coordinate - drawn.coordinate[chosen[number - 1]]
        squared = np.minimum(squared, np.einsum("ni,ni->n", offset, offset))
        chosen[number] = squared.argmax()
    return SurfaceSamples(drawn.face[chosen], drawn.barycentric[chosen], drawn.coordinate[chosen], surface.faces)
