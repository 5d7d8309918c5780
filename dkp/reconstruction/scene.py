"""What the pixels of all views of an instant say of where the surface is: how they pull it, and how far they agree.

The weight of a pixel is that of S. Geman, D. McClure, "Statistical methods for tomographic image reconstruction"
(1987).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

from dkp.errors import check_settings
from dkp.geometry import Camera, pixel_grid
from dkp.reconstruction.deformation import Anchors, Attachment, Deformation, DeformationGraph

_SILHOUETTES_FROM = 0.3
"""Share of the steps after which the silhouettes pull: before, the surface may lie anywhere."""
_ANNEALED = 0.8
"""Share of the steps over which widths and stiffness change."""
_SILHOUETTE_WIDTH = 0.12
"""Width of the silhouettes' robust weight, as a share of the surface's largest side: 20 cm for a human."""
_DOUBT, _SOFTEST = 0.25, 0.05
"""Where less than the first share of the pixels disagrees, the surface is less stiff at the end; at least so much."""
_FILLING = 10.0
"""Times what is left of the stiffness is left of the silhouettes' pull at the end: exact pixels know edges better."""
_LEAST_PIXELS = 0.5
"""A view agrees with the surface around a node where so many of its cells do, counted by their weights."""
_JUDGED = 0.035
"""Width of the weight by which pixels agree with a registered surface, as a share of its largest side, whatever the
width that pulled it: 6 cm for a human."""
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
        stiffness_final: at the end. None = 1, and down to 0.05 where more than three quarters of the pixels agree. A
            surface that bends little, like a board, wants more.
        silhouette: weight of the silhouettes against the pixels, of which less is left at the end where nearly all
            pixels agree; 0 = they do not count.
        mirror: a pixel may be taken for its mirror image on the other side of the body where that is nearer by this
            much, and the surface is also started with its sides exchanged; None = neither.
        keypoint: weight of the detected keypoints, where some are given, against the pixels.
        foreground: probability above which a cell is foreground.
    """

    nodes: int = 300
    steps: int = 25
    width: float = 0.1
    width_final: float = 0.035
    stiffness: float = 10.0
    stiffness_final: float | None = None
    silhouette: float = 0.5
    mirror: float | None = 0.06
    keypoint: float = 0.3
    foreground: float = 0.5

    def __post_init__(self) -> None:
        checks = {
            "nodes": (self.nodes >= 4, "4 or more"),
            "steps": (self.steps >= 1, "1 or more"),
            "width": (self.width > 0, "a positive share"),
            "width_final": (self.width_final > 0, "a positive share"),
            "stiffness": (self.stiffness > 0, "a positive number"),
            "stiffness_final": (self.final_stiffness > 0, "a positive number, or null"),
            "silhouette": (self.silhouette >= 0, "0 or more"),
            "mirror": (self.mirror is None or self.mirror >= 0, "0 or more, or null"),
            "keypoint": (self.keypoint >= 0, "0 or more"),
            "foreground": (0 <= self.foreground < 1, "a probability below 1"),
        }
        check_settings("registration", self, checks)

    @property
    def final_stiffness(self) -> float:
        """The stiffness at the end where the pixels leave doubts."""
        return 1.0 if self.stiffness_final is None else self.stiffness_final


class Scene:
    """The pixels of some instants, and what they say of where the surface is.

    Args:
        graph: the surface's nodes.
        settings: how it is registered.
        attached: makes points of bodies of the coordinates of pixels, on every side that they are looked for.
        coordinate: (B, C, 3, H, W) [m].
        foreground: (B, C, H, W) probability.
        shown: (B, C, H, W) bool, cells whose coordinate counts.
        silhouette: (B, C, H, W) bool.
        camera: (B, C).
    """

    def __init__(
        self,
        graph: DeformationGraph,
        settings: RegistrationSettings,
        attached: Callable[[Tensor, Tensor, int], list[Attachment]],
        coordinate: Tensor,
        foreground: Tensor,
        shown: Tensor,
        silhouette: Tensor,
        camera: Camera,
    ) -> None:
        self.graph, self.settings, self.extent = graph, settings, graph.extent
        camera = camera.to(torch.float64)
        self.batch, _, _, self.height, self.width = coordinate.shape
        self.camera = camera
        self.centre = camera.centre()
        cell = camera.image_size[:, :, None] / camera.image_size.new_tensor([self.width, self.height])
        self.cells = pixel_grid(self.height, self.width, 1, dtype=torch.float64).reshape(-1, 2).to(cell)
        self.step = cell
        self.ray = camera.rays(self.cells * cell)  # (B, C, H W, 3)
        owner, view, cell_index = shown.flatten(2).nonzero(as_tuple=True)
        self.owner, self.view, self.origin = owner, view, self.centre[owner, view]
        self.direction = self.ray[owner, view, cell_index]
        seen = coordinate.flatten(3).movedim(2, -1)[owner, view, cell_index]
        self.sides = attached(owner, seen, self.batch)
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

    def register(self, body: Deformation, anchors: Anchors | None = None) -> tuple[Deformation, Tensor, Tensor, Tensor]:
        """Let the surface follow; also the mean weight (B,) of the pixels by `_JUDGED`, and what `_regions` returns."""
        settings = self.settings
        stiff, final = (settings.stiffness * settings.final_stiffness) ** 0.5, settings.final_stiffness
        for number in range(settings.steps):
            share = min(1.0, number / (_ANNEALED * settings.steps))
            width = settings.width * (settings.width_final / settings.width) ** share * self.extent
            stiffness = torch.full_like(body.scale, stiff * (final / stiff) ** share)
            late = number >= _SILHOUETTES_FROM * settings.steps
            matrix, right = self.graph.no_pull(self.batch)
            weights, targets = self._believed(body, width, late)
            self._pull_points(weights, targets, matrix, right)
            if anchors is not None:
                anchors.pull(body, matrix, right)
            doubt = torch.ones_like(stiffness)
            if share == 1 and settings.stiffness_final is None:  # the better the pixels agree, the more detail they say
                doubt = ((1 - self._agreement(weights)) / _DOUBT).square().clamp(_SOFTEST, 1)
            if late and settings.silhouette:
                for node, target, pull in self._silhouette_pulls(body, (_FILLING * doubt).clamp(max=1)):
                    right.view(-1, 3).index_add_(0, node, pull[:, None] * target)
                    diagonal = torch.zeros_like(right[..., 0]).view(-1).index_add_(0, node, pull)
                    matrix.diagonal(dim1=1, dim2=2).add_(diagonal.view(self.batch, -1))
            body = self.graph.pulled(body, matrix, right, stiffness * doubt)
        weights = self._believed(body, _JUDGED * self.extent, True)[0]
        return body, self._agreement(weights), *self._regions(weights)

    def _regions(self, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return of every node's pixels the mean robust weight and the number of views that agree, both (B, N)."""
        shape = self.batch, len(self.graph)
        total = self.sides[0].on_nodes(self.weight[:, None]).view(shape)
        view = functional.one_hot(self.view, self.centre.shape[1]).double()
        pairs = zip(self.sides, weights, strict=False)
        parts = [side.on_nodes((self.weight * weight)[:, None] * view) for side, weight in pairs]
        agreed = torch.stack(parts).sum(0).view(*shape, -1)
        share = agreed.sum(-1) / torch.maximum(total, agreed.sum(-1)).clamp_min(_LEAST_PIXELS)
        return share, (agreed > _LEAST_PIXELS).sum(-1)

    def _agreement(self, weights: list[Tensor]) -> Tensor:
        """Return the mean (B,) of the pixels' robust weights."""
        return self._per_instant(self.weight * sum(weights), self.owner) / self.total

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
        for side, weight, target in zip(self.sides, weights, targets, strict=False):
            side.pull(weight * strength, target, matrix, right)

    def _silhouette_pulls(self, body: Deformation, share: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield a share (B,) of the pulls: which of the B N nodes (K,), where to (K, 3) and how strongly (K,)."""
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
        if not self.graph.flat:
            normal = (body.rotation @ self.graph.normal[..., None])[..., 0]
            usable = usable & (_dot(body.position[:, None] - self.centre[:, :, None], normal[:, None]) < 0)
        pulls = [self._unfilled(b, c, cell, seen, usable) for b, c, cell in self.filled if bool(usable[b, c].any())]
        if pulls:
            owner, view, node, cell = (torch.cat(one) for one in zip(*pulls, strict=True))
            strength = self.settings.silhouette * share[owner] * len(self.graph) / self.count[owner]
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
        gap = (here[:, :2] - there[nearest]).square().sum(-1)
        pulls = (gap > 0.5**2) & (gap < _FAR**2)
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


def _on_ray(points: Tensor, origin: Tensor, direction: Tensor) -> Tensor:
    """Return the nearest points (..., 3) of rays to points."""
    return origin + _dot(points - origin, direction)[..., None] * direction


def _dot(vector: Tensor, other: Tensor) -> Tensor:
    """Return the products (...) of vectors (..., 3): on the CPU five times as quick as a sum over so short an axis."""
    return vector[..., 0] * other[..., 0] + vector[..., 1] * other[..., 1] + vector[..., 2] * other[..., 2]
