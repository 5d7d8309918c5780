"""The canonical surface brought to where all views of an instant see it, as a whole.

Triangulation takes every surface point for itself, so what all views get wrong alike stays wrong. Here the surface is
moved as one piece that bends but does not stretch: it follows the rays of the pixels that carry its coordinates,
robustly and ever more closely, and fills the silhouettes of all views. Where labels have slipped along the body, the
lengths of the limbs and the silhouettes put them right. Where the views disagree on which side is left, the surface is
started both ways round, and the one that more pixels agree with is kept.

Correspondences and the surface take turns, as in B. Amberg, S. Romdhani, T. Vetter, "Optimal step nonrigid ICP
algorithms for surface registration", CVPR 2007; the weight of a pixel is that of S. Geman, D. McClure, "Statistical
methods for tomographic image reconstruction" (1987).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from dkp.errors import check_settings
from dkp.geometry import Camera, full_precision, pixel_grid
from dkp.geometry.arguments import expect_mask
from dkp.reconstruction.deformation import Attachment, Deformation, DeformationGraph
from dkp.reconstruction.reconstructor import ReconstructionSettings, Reconstructor
from dkp.surface import Surface

_START_POINTS = 600
"""Triangulated points by which the rigid surface is put in place."""
_SILHOUETTES_FROM = 0.3
"""Share of the steps after which the silhouettes pull: before, the surface may lie anywhere."""
_ANNEALED = 0.8
"""Share of the steps over which widths and stiffness change."""
_SILHOUETTE_WIDTH = 0.12
"""Width of the silhouettes' robust weight, as a share of the surface's largest side: 20 cm for a human."""
_FAR = 8.0
"""A foreground cell that is further than this from the surface [cells] does not pull."""


@dataclass(frozen=True)
class RegistrationSettings:
    """How a surface is registered. Lengths are shares of the surface's largest side.

    Attributes:
        nodes: that carry the surface.
        steps: of correspondence and movement.
        width: of the robust weight of a pixel's distance, at the start.
        width_final: at the end; 0.035 is 6 cm for a human.
        stiffness: weight of the nodes' edges against the pixels, at the start.
        stiffness_final: at the end. A surface that bends little, like a board, wants more.
        silhouette: weight of the silhouettes against the pixels; 0 = they do not count.
        mirror: a pixel may be taken for its mirror image on the other side of the body where that is nearer by this
            much, and the surface is also started with its sides exchanged; None = neither.
        foreground: probability above which a cell is foreground.
    """

    nodes: int = 300
    steps: int = 40
    width: float = 0.17
    width_final: float = 0.035
    stiffness: float = 10.0
    stiffness_final: float = 1.0
    silhouette: float = 0.5
    mirror: float | None = 0.06
    foreground: float = 0.5

    def __post_init__(self) -> None:
        checks = {
            "nodes": (self.nodes >= 4, "4 or more"),
            "steps": (self.steps >= 1, "1 or more"),
            "width": (self.width > 0, "a positive share"),
            "width_final": (self.width_final > 0, "a positive share"),
            "stiffness": (self.stiffness > 0, "a positive number"),
            "stiffness_final": (self.stiffness_final > 0, "a positive number"),
            "silhouette": (self.silhouette >= 0, "0 or more"),
            "mirror": (self.mirror is None or self.mirror >= 0, "0 or more, or null"),
            "foreground": (0 <= self.foreground < 1, "a probability below 1"),
        }
        check_settings("registration", self, checks)


@dataclass(frozen=True)
class Registration:
    """Registered surfaces of B instants.

    Attributes:
        vertices: (B, V, 3) float64 [m]; NaN where the surface was not found.
        agreement: (B,) in [0, 1], mean robust weight of the foreground pixels at the end; 0 where it was not found.
    """

    vertices: Tensor
    agreement: Tensor


class SurfaceRegistration:
    """Registers a surface to fields.

    Args:
        surface: the canonical surface.
        settings: None = the defaults.
    """

    def __init__(self, surface: Surface, settings: RegistrationSettings | None = None) -> None:
        self.settings = settings or RegistrationSettings()
        self.surface = surface
        self.graph = DeformationGraph(surface, self.settings.nodes)
        self._extent = float(2 * max(surface.bounds[1]))
        self._starter = Reconstructor(surface, ReconstructionSettings(points=_START_POINTS))

    @full_precision
    @torch.no_grad()
    def __call__(
        self,
        coordinate: Tensor,
        foreground: Tensor,
        camera: Camera,
        present: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Registration:
        """Register the surface to the fields of each instant.

        Args:
            coordinate: (B, C, 3, H, W) [m], surface coordinates.
            foreground: (B, C, H, W), probability or bool.
            camera: (B, C), of the images, which have one size.
            present: (B, C) bool, which views there are; None = all.
            mask: (B, C, H, W) bool, silhouettes; where there is none, or an empty one, the probable foreground.

        Returns:
            The surfaces; they carry no gradient.
        """
        self.graph.to(coordinate.device)
        expect_mask("present", present, *camera.shape)
        expect_mask("mask", mask, *foreground.shape)
        camera = camera if present is None else camera.only(present)
        foreground = foreground.to(coordinate)
        shown = foreground > self.settings.foreground
        silhouette = shown
        if mask is not None:
            silhouette = torch.where(mask.any(-1).any(-1)[..., None, None], mask, shown)
        if present is not None:
            silhouette = silhouette & present[..., None, None]
        shown = shown & silhouette & coordinate.isfinite().all(2)
        scene = _Scene(self, coordinate, foreground, shown, silhouette, camera.to(torch.float64))
        vertices = scene.centre.new_full((len(coordinate), *self.surface.vertices.shape), torch.nan)
        agreement = vertices.new_zeros(len(coordinate))
        for start in (coordinate, self._mirrored(coordinate, 2)) if self._mirrors else (coordinate,):
            placed, found = self._place(start, foreground * shown, camera)
            body, agreed = scene.register(placed)
            better = found & (agreed > agreement)
            vertices = torch.where(better[:, None, None], self.graph.vertices(body), vertices)
            agreement = torch.where(better, agreed, agreement)
        return Registration(vertices, agreement)

    @property
    def _mirrors(self) -> bool:
        return self.settings.mirror is not None and self.surface.mirror is not None

    def _mirrored(self, coordinate: Tensor, axis: int) -> Tensor:
        """Return the same points on the other side of the body, of coordinates along an axis; NaN stays NaN."""
        points = coordinate.movedim(axis, -1).double().cpu().numpy()
        known = np.isfinite(points).all(-1)
        points[known] = self.surface.mirror_coordinates(points[known])
        return torch.from_numpy(points).to(coordinate).movedim(-1, axis)

    def _place(self, coordinate: Tensor, foreground: Tensor, camera: Camera) -> tuple[Deformation, Tensor]:
        """Return the rigid surface at its triangulated points, and for which instants there are enough of them."""
        triangulated = self._starter(coordinate, foreground, camera)
        valid = triangulated.valid
        points = torch.where(valid[..., None], triangulated.points, 0.0)
        rest = torch.from_numpy(self._starter.samples.coordinate).to(points)
        weight = valid.to(points)
        for _ in range(10):
            rotation, translation = rigid_motion(rest.expand_as(points), points, weight)
            distance = (rest @ rotation.mT + translation[:, None] - points).norm(dim=-1)
            weight = valid / (1 + (distance / (self.settings.width * self._extent)).square()).square()
        return self.graph.placed(rotation, translation), valid.sum(-1) >= 4

    def attached(self, owner: Tensor, coordinate: Tensor, bodies: int) -> list[Attachment]:
        """Coordinates (K, 3) [m] as points of the bodies (K,), and their mirror images, where these are looked at."""
        sides = [coordinate, self._mirrored(coordinate, -1)] if self._mirrors else [coordinate]
        return [self.graph.attach(owner, side, bodies) for side in sides]


class _Scene:
    """The pixels of some instants, and what they say of where the surface is.

    Args:
        registration: whose surface it is.
        coordinate: (B, C, 3, H, W) [m].
        foreground: (B, C, H, W) probability.
        shown: (B, C, H, W) bool, cells whose coordinate counts.
        silhouette: (B, C, H, W) bool.
        camera: (B, C) float64.
    """

    def __init__(
        self,
        registration: SurfaceRegistration,
        coordinate: Tensor,
        foreground: Tensor,
        shown: Tensor,
        silhouette: Tensor,
        camera: Camera,
    ) -> None:
        self.graph, self.settings = registration.graph, registration.settings
        self.extent = registration._extent
        self.flat = registration.surface.is_flat
        self.batch, _, _, self.height, self.width = coordinate.shape
        self.camera = camera
        self.centre = camera.centre()
        cell = camera.image_size[:, :, None] / camera.image_size.new_tensor([self.width, self.height])
        self.cells = pixel_grid(self.height, self.width, 1, dtype=torch.float64).reshape(-1, 2).to(cell)
        self.step = cell
        self.ray = camera.rays(self.cells * cell)  # (B, C, H W, 3)
        owner, view, cell_index = shown.flatten(2).nonzero(as_tuple=True)
        self.owner, self.origin = owner, self.centre[owner, view]
        self.direction = self.ray[owner, view, cell_index]
        seen = coordinate.flatten(3).movedim(2, -1)[owner, view, cell_index]
        self.sides = registration.attached(owner, seen, self.batch)
        count, offset = len(self.graph), owner[:, None] * len(self.graph)
        first, second = torch.tril_indices(4, 4).to(owner.device)
        pairs = [(side.nodes[:, first], side.nodes[:, second]) for side in self.sides]
        # of two nodes that carry a point the entry of the lower triangle, and their shares
        self.entry = [(torch.maximum(a, b) * count + torch.minimum(a, b) - offset).flatten() for a, b in pairs]
        self.both = [side.shares[:, first] * side.shares[:, second] for side in self.sides]
        self.weight = foreground.flatten(2)[owner, view, cell_index].double()
        self.total = self._per_instant(self.weight, owner).clamp_min(1e-9)
        self.silhouette = silhouette
        if self.settings.silhouette:
            self._prepare_silhouettes(silhouette)

    def _prepare_silhouettes(self, silhouette: Tensor) -> None:
        inside = silhouette.flatten(0, 1).cpu().numpy()
        nearest = [distance_transform_edt(~one, return_distances=False, return_indices=True) for one in inside]
        row, column = torch.from_numpy(np.stack(nearest)).long().to(silhouette.device).unbind(1)
        self.nearest = (row * self.width + column).unflatten(0, silhouette.shape[:2]).flatten(2)  # (B, C, H W)
        flat = silhouette.flatten(2)
        self.there = flat.any(-1)
        views = self.there.nonzero().tolist()
        self.filled = [(owner, view, flat[owner, view].nonzero()[:, 0]) for owner, view in views]
        self.homogeneous = torch.cat([self.cells, torch.ones_like(self.cells[:, :1])], -1)
        self.count = flat.sum((1, 2)).clamp_min(1)

    def register(self, body: Deformation) -> tuple[Deformation, Tensor]:
        """Let the surface follow; also the mean weight (B,) of the pixels."""
        settings = self.settings
        for number in range(settings.steps):
            share = min(1.0, number / (_ANNEALED * settings.steps))
            width = settings.width * (settings.width_final / settings.width) ** share * self.extent
            stiffness = settings.stiffness * (settings.stiffness_final / settings.stiffness) ** share
            late = number >= _SILHOUETTES_FROM * settings.steps
            matrix = body.position.new_zeros(self.batch, len(self.graph), len(self.graph))
            right = body.position.new_zeros(self.batch, len(self.graph), 3)
            weights, targets = self._believed(body, width, late)
            self._pull_points(weights, targets, matrix, right)
            if late and settings.silhouette:
                for node, target, pull in self._silhouette_pulls(body):
                    right.view(-1, 3).index_add_(0, node, pull[:, None] * target)
                    diagonal = torch.zeros_like(right[..., 0]).view(-1).index_add_(0, node, pull)
                    matrix.diagonal(dim1=1, dim2=2).add_(diagonal.view(self.batch, -1))
            body = self.graph.pulled(body, matrix, right, stiffness)
        weights, _ = self._believed(body, settings.width_final * self.extent, True)
        return body, self._per_instant(self.weight * sum(weights), self.owner) / self.total

    def _believed(self, body: Deformation, width: float, both_sides: bool) -> tuple[list[Tensor], list[Tensor]]:
        """Return the pixels' robust weights (K,), and where the nodes should hold their points (K, 3) [m].

        Both for every side that a pixel is taken for; the weight on the other one is 0.
        """
        targets, squared = [], []
        for side in self.sides if both_sides else self.sides[:1]:
            position, held = side.positions(body)
            offset = _on_ray(position, self.origin, self.direction) - position
            squared.append(_dot(offset, offset))
            targets.append(held + offset)
        if len(squared) == 1:
            return [(width**2 / (width**2 + squared[0])).square()], targets
        there = squared[1] + ((self.settings.mirror or 0.0) * self.extent) ** 2
        weight = (width**2 / (width**2 + torch.minimum(there, squared[0]))).square()
        mirrored = there < squared[0]
        return [weight * ~mirrored, weight * mirrored], targets

    def _pull_points(self, weights: list[Tensor], targets: list[Tensor], matrix: Tensor, right: Tensor) -> None:
        """Add what pulls points to their pixels' rays, all of an instant together as strongly as it has nodes."""
        strength = self.weight * len(self.graph) / self.total[self.owner]
        for side, entry, both, weight, target in zip(self.sides, self.entry, self.both, weights, targets, strict=False):
            weight = weight * strength
            matrix.view(-1).scatter_add_(0, entry, (weight[:, None] * both).view(-1))
            right += side.on_nodes(weight[:, None] * target).view_as(right)

    def _silhouette_pulls(self, body: Deformation) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield pulls on nodes: which of the B N nodes (K,), where to (K, 3) and how strongly (K,)."""
        seen, depth = self.camera.project(body.position[:, None])
        seen = seen / self.step  # (B, C, N, 2) in cells
        size = seen.new_tensor([self.width, self.height])
        cell = torch.minimum(seen.nan_to_num().floor().clamp_min(0), size - 1).long()
        here = cell[..., 1] * self.width + cell[..., 0]
        near = self.nearest.gather(-1, here)
        # a node that is seen outside of a silhouette: to its nearest cell
        owner, view, node = ((near != here) & self.there[..., None] & (depth > 0)).nonzero(as_tuple=True)
        strength = self.settings.silhouette / self.there.sum(1)[owner].to(depth)
        yield self._pull(body, owner, view, node, near[owner, view, node], strength)
        # a cell of a silhouette that no node fills: the nearest node that faces the camera, to it
        usable = depth > 0
        if not self.flat:
            normal = (body.rotation @ self.graph.normal[..., None])[..., 0]
            usable = usable & (_dot(body.position[:, None] - self.centre[:, :, None], normal[:, None]) < 0)
        pulls = [self._unfilled(b, c, cell, seen, usable) for b, c, cell in self.filled if bool(usable[b, c].any())]
        if pulls:
            owner, view, node, cell = (torch.cat(one) for one in zip(*pulls, strict=True))
            strength = self.settings.silhouette * len(self.graph) / self.count[owner]
            yield self._pull(body, owner, view, node, cell, strength)

    def _unfilled(
        self, owner: int, view: int, cell: Tensor, seen: Tensor, usable: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the cells of a silhouette that no node fills: instant, view, nearest usable node and cell, each (K,).

        Args:
            owner: the instant.
            view: one of its views.
            cell: (M,) long, of the silhouette.
            seen: (B, C, N, 2) in cells, the nodes.
            usable: (B, C, N) bool.
        """
        node = usable[owner, view].nonzero()[:, 0]
        there, here = seen[owner, view, node], self.homogeneous[cell]
        norm = there.square().sum(-1, keepdim=True)
        distance = here @ torch.cat([-2 * there, norm], -1).mT  # (M, N) squared, but for a term of the cell
        # NumPy's argmin is four times as quick as torch's on the CPU
        nearest = distance.argmin(-1) if distance.is_cuda else torch.from_numpy(distance.numpy().argmin(-1))
        gap = (here[:, :2] - there[nearest]).norm(dim=-1)
        pulls = (gap > 0.5) & (gap < _FAR)
        place = cell.new_tensor([owner, view])[:, None].expand(-1, int(pulls.sum()))
        return place[0], place[1], node[nearest[pulls]], cell[pulls]

    def _pull(
        self, body: Deformation, owner: Tensor, view: Tensor, node: Tensor, cell: Tensor, strength: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return a pull of nodes to rays of cells, weaker with the distance."""
        position = body.position[owner, node]
        target = _on_ray(position, self.centre[owner, view], self.ray[owner, view, cell])
        width = (_SILHOUETTE_WIDTH * self.extent) ** 2
        gap = target - position
        pull = strength * (width / (width + _dot(gap, gap))).square()
        return owner * len(self.graph) + node, target, pull

    def _per_instant(self, value: Tensor, owner: Tensor) -> Tensor:
        """Return sums (B,) of values (K,)."""
        return value.new_zeros(self.batch).index_add(0, owner, value)


def rigid_motion(points: Tensor, moved: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation (..., 3, 3) and translation (..., 3) that bring points nearest to others, by weighted least squares.

    See W. Kabsch, "A solution for the best rotation to relate two sets of vectors", Acta Crystallographica A32 (1976).

    Args:
        points: (..., N, 3).
        moved: (..., N, 3).
        weight: (..., N), 0 or more.
    """
    share = (weight / weight.sum(-1, keepdim=True).clamp_min(1e-12))[..., None]
    middle, other = (share * points).sum(-2, keepdim=True), (share * moved).sum(-2, keepdim=True)
    left, _, right = torch.linalg.svd((share * (moved - other)).mT @ (points - middle))
    sign = torch.ones_like(middle[..., 0, :])
    sign[..., 2] = torch.linalg.det(left @ right)
    rotation = (left * sign[..., None, :]) @ right
    return rotation, (other - middle @ rotation.mT)[..., 0, :]


def _on_ray(points: Tensor, origin: Tensor, direction: Tensor) -> Tensor:
    """Return the nearest points (..., 3) of rays to points."""
    return origin + _dot(points - origin, direction)[..., None] * direction


def _dot(vector: Tensor, other: Tensor) -> Tensor:
    """Return the products (...) of vectors (..., 3): on the CPU five times as quick as a sum over so short an axis."""
    return vector[..., 0] * other[..., 0] + vector[..., 1] * other[..., 1] + vector[..., 2] * other[..., 2]
