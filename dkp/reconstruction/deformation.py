"""A surface that bends but does not stretch: nodes that carry the skin, kept together as rigidly as possible.

The nodes follow O. Sorkine, M. Alexa, "As-rigid-as-possible surface modeling", SGP 2007, with edges also through the
body to its opposite side, so that limbs keep their girth, and with one scale for the whole body. The skin follows its
nodes as in R. Sumner, J. Schmid, M. Pauly, "Embedded deformation for shape manipulation", SIGGRAPH 2007. Rotations are
found as in M. Müller, J. Bender, N. Chentanez, M. Macklin, "A robust method to extract the rotational part of
deformations", MIG 2016.
"""

from __future__ import annotations

import warnings
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
_AROUND = 8
"""Nodes that carry a point inside the body."""
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

    def motions(self, rest: Tensor) -> Tensor:
        """(B, N, 4, 3), of nodes (N, 3) [m]: the columns of M and t, by which a point x at rest goes to M x + t."""
        linear = self.rotation * self.scale[:, None, None, None]
        shift = self.position - (linear @ rest[..., None])[..., 0]
        return torch.cat([linear.mT, shift[..., None, :]], -2)


class Attachment:
    """K points of B bodies, and the nodes that carry them.

    Args:
        nodes: (K, 4) long, the nodes of each point among the B N ones of all bodies.
        shares: (K, 4), how much each carries; rows sum to one.
        coordinate: (K, 3) [m], the points at rest.
        rest: (N, 3) [m], the nodes at rest.
        bodies: B.
    """

    def __init__(self, nodes: Tensor, shares: Tensor, coordinate: Tensor, rest: Tensor, bodies: int) -> None:
        self.nodes, self.shares, self.coordinate, self.rest = nodes, shares, coordinate, rest
        point = torch.arange(len(nodes), device=nodes.device)[:, None].expand_as(nodes)
        size = len(nodes), bodies * len(rest)
        self._carry = sparse_matrix(point.flatten(), nodes.flatten(), shares.flatten(), size)
        self._pull = sparse_matrix(nodes.flatten(), point.flatten(), shares.flatten(), size[::-1])
        # of every two nodes that carry a point the entry of the lower triangle of their body's matrix, and their shares
        count, bodies_before = len(rest), torch.div(nodes[:, :1], len(rest), rounding_mode="floor") * len(rest)
        first, second = torch.tril_indices(nodes.shape[1], nodes.shape[1]).to(nodes.device)
        one, other = nodes[:, first], nodes[:, second]
        self._entry = (torch.maximum(one, other) * count + torch.minimum(one, other) - bodies_before).flatten()
        self._both = shares[:, first] * shares[:, second]

    def positions(self, body: Deformation) -> tuple[Tensor, Tensor]:
        """Positions (K, 3) [m], and the part (K, 3) [m] of them that the nodes' positions make."""
        motions = torch.cat([body.motions(self.rest).flatten(2), body.position], -1)
        blended = self._carry @ motions.flatten(0, 1)  # (K, 15)
        position = blended[:, 9:12]
        for axis in range(3):
            position = torch.addcmul(position, blended[:, 3 * axis : 3 * axis + 3], self.coordinate[:, axis, None])
        return position, blended[:, 12:]

    def pull_to(
        self, body: Deformation, points: Tensor, strength: Tensor, width: float, matrix: Tensor, right: Tensor
    ) -> None:
        """Add a pull to points in space, weaker with the distance, to the normal equations: see `pull`.

        Args:
            body: as it is.
            points: (K, 3) [m].
            strength: (K,).
            width: of the weight of S. Geman and D. McClure [m].
            matrix: (B, N, N), its lower triangle.
            right: (B, N, 3).
        """
        position, held = self.positions(body)
        gap = points - position
        weight = strength * (width**2 / (width**2 + gap.square().sum(-1))).square()
        self.pull(weight, held + gap, matrix, right)

    def pull(self, weight: Tensor, target: Tensor, matrix: Tensor, right: Tensor) -> None:
        """Add a pull of the points to the normal equations of the nodes, in place.

        Args:
            weight: (K,), how strongly.
            target: (K, 3) [m], where the nodes' positions should hold the points: see `positions`.
            matrix: (B, N, N), its lower triangle.
            right: (B, N, 3).
        """
        matrix.view(-1).scatter_add_(0, self._entry, (weight[:, None] * self._both).view(-1))
        right += self.on_nodes(weight[:, None] * target).view_as(right)

    def on_nodes(self, vectors: Tensor) -> Tensor:
        """(B N, D), the sums over the points that a node carries of its share times their vectors (K, D)."""
        return self._pull @ vectors


@dataclass(frozen=True)
class Anchors:
    """Points in space to which points of B bodies are pulled, all the time.

    Attributes:
        carried: the K points of the bodies.
        points: (K, 3) [m], where they are to be.
        strength: (K,).
        width: of the weight by which a point that is far off pulls less [m].
    """

    carried: Attachment
    points: Tensor
    strength: Tensor
    width: float

    def pull(self, body: Deformation, matrix: Tensor, right: Tensor) -> None:
        """Add the pull to normal equations, see `Attachment.pull`."""
        self.carried.pull_to(body, self.points, self.strength, self.width, matrix, right)


def sparse_matrix(row: Tensor, column: Tensor, value: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a sparse matrix of entries (M,); those of one place add up."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*[Ss]parse.*")  # torch calls its sparse matrices a beta
        return torch.sparse_coo_tensor(torch.stack([row, column]), value, size, check_invariants=False).to_sparse_csr()


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
        extent: the surface's largest side [m].
        flat: whether it is flat.
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
        self.extent = surface.extent
        self.flat = surface.is_flat
        self._surface = surface
        self._vertices = torch.from_numpy(surface.vertices)
        self._edge_weight = len(rest) / len(edges)
        # row (n, j): axis j of the edges that start at n, times end minus start
        row = (3 * self.start[:, None] + torch.arange(3)).flatten().repeat(2)
        column = torch.stack([self.end, self.start])[..., None].expand(-1, -1, 3).flatten()
        value = torch.stack([self.edge, -self.edge]).flatten()
        size = 3 * len(rest), len(rest)
        self._moment = sparse_matrix(row, column, value, size)
        self._turned = sparse_matrix(column, row, value, size[::-1])
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

    def attach(self, owner: Tensor, coordinate: Tensor, bodies: int) -> Attachment:
        """Points that are carried as the nearest vertices are.

        Args:
            owner: (K,) long, 0..B-1, the body of each.
            coordinate: (K, 3) [m], surface coordinates; they may lie off the surface.
            bodies: B.
        """
        coordinate = coordinate.to(self.rest)
        vertex = torch.from_numpy(self._surface.nearest_vertex(coordinate.cpu().numpy())).to(owner.device)
        nodes = self.carriers[vertex] + owner[:, None] * len(self)
        return Attachment(nodes, self.shares[vertex], coordinate, self.rest, bodies)

    def attach_inside(self, owner: Tensor, point: Tensor, bodies: int) -> Attachment:
        """Points (K, 3) [m] at rest inside the surface, such as joints, that are carried by the nodes around them."""
        distance = torch.cdist(point, self.rest)
        nearest, nodes = distance.topk(min(_AROUND, len(self)), largest=False)
        shares = torch.softmax(-(nearest / nearest[:, :1].clamp_min(1e-3)).square(), -1)
        return Attachment(nodes + owner[:, None] * len(self), shares, point, self.rest, bodies)

    def vertices(self, body: Deformation) -> Tensor:
        """(B, V, 3) [m], the posed surface."""
        bodies, count = len(body.position), len(self._vertices)
        nodes = self.carriers + len(self) * torch.arange(bodies, device=self.carriers.device)[:, None, None]
        shares, vertices = self.shares.repeat(bodies, 1), self._vertices.repeat(bodies, 1)
        every = Attachment(nodes.flatten(0, 1), shares, vertices, self.rest, bodies)
        return every.positions(body)[0].unflatten(0, (-1, count))

    def no_pull(self, bodies: int) -> tuple[Tensor, Tensor]:
        """Empty normal equations of the nodes, for pulls to be added to: (B, N, N) and (B, N, 3)."""
        return self.rest.new_zeros(bodies, len(self), len(self)), self.rest.new_zeros(bodies, len(self), 3)

    def on_vertices(self, value: Tensor) -> Tensor:
        """(B, V), values (B, N) of the nodes as these carry the vertices."""
        return (value[:, self.carriers] * self.shares).sum(-1)

    def pulled(self, body: Deformation, matrix: Tensor, right: Tensor, stiffness: Tensor) -> Deformation:
        """Move the nodes to where they follow some pull and keep their edges, then turn and scale them accordingly.

        Args:
            body: as it is.
            matrix: (B, N, N), of the pull's normal equations; its upper triangle does not count.
            right: (B, N, 3) [m].
            stiffness: (B,), weight of the edges.
        """
        bodies, count, stiffness = len(matrix), len(self), stiffness[:, None, None]
        wanted = (self._turned @ body.rotation.permute(1, 3, 0, 2).reshape(3 * count, -1)).unflatten(1, (bodies, 3))
        right = right + stiffness * self._edge_weight * body.scale[:, None, None] * wanted.movedim(1, 0)
        right = right + _REST * body.position
        matrix = matrix + stiffness * self.laplacian
        matrix.diagonal(dim1=1, dim2=2).add_(_REST)
        position = torch.cholesky_solve(right, torch.linalg.cholesky(matrix))
        moment = self._moment @ position.movedim(0, 1).flatten(1)
        moment = moment.unflatten(1, (bodies, 3)).unflatten(0, (count, 3)).permute(2, 0, 3, 1)
        rotation = _turned_towards(body.rotation, moment)
        scale = (moment * rotation).sum((1, 2, 3)) / self.edge.square().sum()
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
