"""A surface that bends but does not stretch: nodes that carry the skin, kept together as rigidly as possible.

The nodes follow O. Sorkine, M. Alexa, "As-rigid-as-possible surface modeling", SGP 2007, with edges also through the
body to its opposite side, so that limbs keep their girth, and with one scale for the whole body. The skin follows its
nodes as in R. Sumner, J. Schmid, M. Pauly, "Embedded deformation for shape manipulation", SIGGRAPH 2007. Rotations are
found as in M. Müller, J. Bender, N. Chentanez, M. Macklin, "A robust method to extract the rotational part of
deformations", MIG 2016.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dkp.reconstruction.samples import sample_surface
from dkp.surface import Surface

_NEIGHBOURS = 8
"""Edges of a node to its nearest nodes; a node may have more, from others that have it near."""
_REACH = 1.8
"""Nodes are neighbours only where the way along the surface is at most this much longer than through the air: more than
around half a limb (pi / 2), less than from one leg to the other."""
_CARRIERS = 4
"""Nodes that carry a vertex."""
_WIDTH = 0.7
"""Of the Gaussian by which nodes carry a vertex, in distances between nodes."""
_REST = 1e-6
"""Weight by which a node stays where it is, so that a body that nothing pulls is at rest."""


@dataclass(frozen=True)
class Deformation:
    """Where the nodes of B bodies are.

    Attributes:
        position: (B, N, 3) float64 [m].
        rotation: (B, N, 3, 3), from rest.
        scale: (B,), of the body against the surface at rest.
    """

    position: Tensor
    rotation: Tensor
    scale: Tensor


@dataclass(frozen=True)
class Attachment:
    """K points of B bodies, and the nodes that carry them.

    Attributes:
        owner: (K,) long, 0..B-1, which body.
        carriers: (K, 4) long, the nodes.
        shares: (K, 4), how much each carries; rows sum to one.
        arm: (K, 4, 3) [m], from each node to the point at rest, times its share.
    """

    owner: Tensor
    carriers: Tensor
    shares: Tensor
    arm: Tensor

    def turned(self, body: Deformation) -> Tensor:
        """(K, 3) [m], the part of the positions that the nodes' rotations make."""
        turned = body.rotation[self.owner[:, None], self.carriers] @ self.arm[..., None]
        return turned[..., 0].sum(1) * body.scale[self.owner][:, None]

    def held(self, body: Deformation) -> Tensor:
        """(K, 3) [m], the part that the nodes' positions make."""
        return (self.shares[..., None] * body.position[self.owner[:, None], self.carriers]).sum(1)

    def positions(self, body: Deformation) -> Tensor:
        """(K, 3) [m]."""
        return self.held(body) + self.turned(body)

    def where(self, condition: Tensor, other: Attachment) -> Attachment:
        """Return the points (K,) for which a condition holds, and the other ones where it does not."""
        return Attachment(
            self.owner,
            torch.where(condition[:, None], self.carriers, other.carriers),
            torch.where(condition[:, None], self.shares, other.shares),
            torch.where(condition[:, None, None], self.arm, other.arm),
        )


class DeformationGraph:
    """Nodes on a surface at rest, their edges, and the skin that they carry.

    Args:
        surface: the canonical surface.
        nodes: how many.

    Attributes:
        rest: (N, 3) float64 [m], the nodes.
        normal: (N, 3), outwards.
        start, end: (E,) long, the edges' nodes; every edge is there in both directions.
        edge: (E, 3) [m], end minus start.
        carriers: (V, 4) long, the nodes that carry each vertex.
        shares: (V, 4), how much; rows sum to one.
        laplacian: (N, N), of the edges, normalised so that an error of all edges counts as the same error of all nodes.
    """

    def __init__(self, surface: Surface, nodes: int) -> None:
        samples = sample_surface(surface, nodes)
        rest = samples.coordinate
        straight = np.linalg.norm(rest[:, None] - rest[None], axis=-1)
        along = surface.geodesic_distance(rest[:, None], rest[None])
        distance = np.where(along <= _REACH * straight, straight, np.inf)
        np.fill_diagonal(distance, np.inf)
        neighbour = np.argsort(distance, axis=1)[:, :_NEIGHBOURS]
        start = np.repeat(np.arange(len(rest)), neighbour.shape[1])
        linked = np.zeros_like(distance, dtype=bool)
        linked[start, neighbour.ravel()] = np.isfinite(distance[start, neighbour.ravel()])
        edges = np.argwhere(linked | linked.T)
        spacing = float(np.median(straight[edges[:, 0], edges[:, 1]]))

        reach = surface.geodesic_distance(surface.vertices[:, None], rest[None])
        carriers = np.argsort(reach, axis=1)[:, :_CARRIERS]
        squared = np.square(np.take_along_axis(reach, carriers, 1) / (_WIDTH * spacing))
        shares = np.exp(-(squared - squared.min(1, keepdims=True)) / 2)

        self.rest = torch.from_numpy(rest)
        self.normal = samples.normals(torch.from_numpy(surface.vertices))
        self.start, self.end = torch.from_numpy(edges).unbind(1)
        self.edge = self.rest[self.end] - self.rest[self.start]
        self.carriers = torch.from_numpy(carriers)
        self.shares = torch.from_numpy(shares / shares.sum(1, keepdims=True))
        self._surface = surface
        self._arm = self.shares[..., None] * (torch.from_numpy(surface.vertices)[:, None] - self.rest[self.carriers])
        self._edge_weight = len(rest) / len(edges)
        adjacency = torch.from_numpy((linked | linked.T).astype(np.float64))
        self.laplacian = 2 * self._edge_weight * (torch.diag(adjacency.sum(1)) - adjacency)

    def __len__(self) -> int:
        return len(self.rest)

    def to(self, device: torch.device) -> DeformationGraph:
        """Move it to a device, in place."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self

    def placed(self, rotation: Tensor, translation: Tensor) -> Deformation:
        """Return the surface at rest, moved by rotations (B, 3, 3) and translations (B, 3) [m]."""
        position = self.rest @ rotation.mT + translation[:, None]
        return Deformation(position, rotation[:, None].repeat(1, len(self), 1, 1), torch.ones_like(translation[:, 0]))

    def attach(self, owner: Tensor, coordinate: Tensor) -> Attachment:
        """Points that are carried as the nearest vertices are.

        Args:
            owner: (K,) long, 0..B-1, the body of each.
            coordinate: (K, 3) [m], surface coordinates; they may lie off the surface.
        """
        coordinate = coordinate.to(self.rest)
        vertex = torch.from_numpy(self._surface.nearest_vertex(coordinate.cpu().numpy())).to(owner.device)
        carriers, shares = self.carriers[vertex], self.shares[vertex]
        return Attachment(owner, carriers, shares, shares[..., None] * (coordinate[:, None] - self.rest[carriers]))

    def vertices(self, body: Deformation) -> Tensor:
        """(B, V, 3) [m], the posed surface."""
        turned = torch.einsum("bvkij,vkj->bvi", body.rotation[:, self.carriers], self._arm)
        held = torch.einsum("bvki,vk->bvi", body.position[:, self.carriers], self.shares)
        return held + turned * body.scale[:, None, None]

    def pulled(self, body: Deformation, matrix: Tensor, right: Tensor, stiffness: float) -> Deformation:
        """Move the nodes to where they follow some pull and keep their edges, then turn and scale them accordingly.

        Args:
            body: as it is.
            matrix: (B, N, N), of the pull's normal equations.
            right: (B, N, 3) [m].
            stiffness: weight of the edges.
        """
        turned = (body.rotation[:, self.start] + body.rotation[:, self.end]) @ self.edge[..., None]
        wanted = stiffness * self._edge_weight * turned[..., 0] * body.scale[:, None, None]
        right = right.index_add(1, self.end, wanted / 2).index_add(1, self.start, -wanted / 2)
        right = right + _REST * body.position
        matrix = matrix + stiffness * self.laplacian
        matrix.diagonal(dim1=1, dim2=2).add_(_REST)
        position = torch.cholesky_solve(right, torch.linalg.cholesky(matrix))
        edge = position[:, self.end] - position[:, self.start]
        moment = torch.zeros_like(body.rotation)
        moment.index_add_(1, self.start, edge[..., :, None] * self.edge[None, :, None, :])
        rotation = _turned_towards(body.rotation, moment)
        along = (rotation[:, self.start] @ self.edge[..., None])[..., 0]
        scale = (edge * along).sum((1, 2)) / self.edge.square().sum()
        return Deformation(position, rotation, scale)


def _turned_towards(rotation: Tensor, moment: Tensor) -> Tensor:
    """Rotations (..., 3, 3) moved towards those that maximise trace(Rᵀ moment), two steps of Müller et al."""
    for _ in range(2):
        axis = torch.linalg.cross(rotation, moment, dim=-2).sum(-1)
        axis = axis / ((rotation * moment).sum((-2, -1)).abs()[..., None] + 1e-12)
        rotation = _rotation(axis) @ rotation
    return rotation


def _rotation(vector: Tensor) -> Tensor:
    """Rotations (..., 3, 3) by vectors (..., 3) along the axis, as long as the angle [rad] (Rodrigues)."""
    angle = vector.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    x, y, z = (vector / angle).unbind(-1)
    nothing = torch.zeros_like(x)
    cross = torch.stack([nothing, -z, y, z, nothing, -x, -y, x, nothing], -1).unflatten(-1, (3, 3))
    angle = angle[..., None]
    return torch.eye(3).to(vector) + angle.sin() * cross + (1 - angle.cos()) * (cross @ cross)
