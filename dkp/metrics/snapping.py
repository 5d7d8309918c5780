"""From a predicted position near the surface to the surface point it stands for, at microseconds a point."""

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

if TYPE_CHECKING:
    from dkp.surface import Surface

_REACH = 0.4
"""How far from its nearest vertex a closest point may lie, as a share of the longest edge there. Chosen on the human
template: with Gaussian noise of 0.5, 2 and 5 cm the median error is within 2 % of that from the exact closest point."""


class TangentPlanes:
    """The surface near each vertex as a disc in its tangent plane."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        corners = vertices[faces]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        edge = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
        self.vertices = vertices
        self.normal = np.zeros_like(vertices)
        self.radius = np.zeros(len(vertices))
        for corner in range(3):
            np.add.at(self.normal, faces[:, corner], normal)
            np.maximum.at(self.radius, faces[:, corner], _REACH * edge.max(axis=1))
        self.normal /= np.maximum(np.linalg.norm(self.normal, axis=1, keepdims=True), 1e-30)

    def project(self, points: np.ndarray, vertex: np.ndarray) -> np.ndarray:
        """Points (N, 3) [m] moved into the discs of their nearest vertices (N,)."""
        offset, normal = points - self.vertices[vertex], self.normal[vertex]
        offset = offset - (offset * normal).sum(axis=1, keepdims=True) * normal
        length = np.linalg.norm(offset, axis=1)
        return self.vertices[vertex] + offset * np.minimum(1, self.radius[vertex] / np.maximum(length, 1e-30))[:, None]


_PLANES: "WeakKeyDictionary[Surface, TangentPlanes]" = WeakKeyDictionary()


def onto_surface(surface: "Surface", points: np.ndarray) -> np.ndarray:
    """Surface points next to predicted positions.

    A field regresses positions in space, a little inside or outside the body. The surface's own distance would count
    that gap as error (a third more at 5 cm of noise); the point is therefore moved to the surface first: into the
    tangent plane of its nearest vertex, no further from that vertex than its faces reach. ``Surface.locate`` is exact
    and about 200 times slower.

    Args:
        surface: The template. On a flat one the positions are dropped onto its plane, not onto its outline.
        points: (N, 3) [m].

    Returns:
        (N, 3) [m].
    """
    if surface.flat:
        return np.concatenate([points[:, :2], np.full_like(points[:, 2:], surface.vertices[0, 2])], axis=1)
    if surface not in _PLANES:
        _PLANES[surface] = TangentPlanes(surface.vertices, surface.faces)
    return _PLANES[surface].project(points, surface.nearest_vertex(points))
