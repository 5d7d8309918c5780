"""The canonical surface brought to where all views of an instant see it, as a whole.

Triangulation takes every surface point for itself, so what all views get wrong alike stays wrong. Here the surface is
moved as one piece that bends but does not stretch: it starts at the triangulated points, follows the rays of the pixels
that carry its coordinates, robustly and ever more closely, and fills the silhouettes of all views. Where labels have
slipped along the body, the lengths of the limbs and the silhouettes put them right. Where few pixels agree with it, the
surface is also started with its sides exchanged, and the one that more pixels agree with is kept.

Correspondences and the surface take turns, as in B. Amberg, S. Romdhani, T. Vetter, "Optimal step nonrigid ICP
algorithms for surface registration", CVPR 2007.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dkp.batches import LEAST_CONFIDENCE
from dkp.errors import InputError
from dkp.geometry import Camera, full_precision, triangulate
from dkp.geometry.arguments import expect_mask
from dkp.reconstruction.deformation import Anchors, Attachment, Deformation, DeformationGraph
from dkp.reconstruction.reconstructor import ReconstructionSettings, Reconstructor
from dkp.reconstruction.scene import RegistrationSettings, Scene
from dkp.surface import Surface

_START_POINTS = 600
"""Triangulated points by which the surface is put in place."""
_START_STEPS = 15
"""In which the surface bends to them."""
_START_WIDTHS = 0.6, 0.17
"""Of their robust weight, at the start and at the end, as shares of the surface's largest side."""
_ANCHOR_WIDTH = 0.1
"""Of the robust weight of a keypoint's distance, as a share of the surface's largest side: 17 cm for a human."""
_CLEAR = 0.6
"""A surface that this share of the pixels agrees with is not started the other way round."""


@dataclass(frozen=True)
class Registration:
    """Registered surfaces of B instants.

    Attributes:
        vertices: (B, V, 3) float64 [m]; NaN where the surface was not found.
        agreement: (B,) in [0, 1], mean robust weight of the foreground pixels at the end; 0 where it was not found.
        region: (B, V) in [0, 1], the same of the pixels around each vertex; 0 where there is none.
        views: (B, V) how many views agree with the surface around each vertex, mean over the nodes that carry it.
    """

    vertices: Tensor
    agreement: Tensor
    region: Tensor
    views: Tensor


class SurfaceRegistration:
    """Registers a surface to fields.

    Args:
        surface: the canonical surface.
        settings: None = the defaults.
        keypoints: what the J detected keypoints of a call are: names of the surface's joints.

    Raises:
        InputError: the surface has no joint of such a name.
    """

    def __init__(
        self, surface: Surface, settings: RegistrationSettings | None = None, keypoints: Sequence[str] = ()
    ) -> None:
        self.settings = settings or RegistrationSettings()
        self.surface = surface
        self.graph = DeformationGraph(surface, self.settings.nodes)
        if unknown := [name for name in keypoints if name not in surface.joints]:
            raise InputError(
                f"keypoints: found {', '.join(unknown)}, expected joints of the surface {surface.name}: "
                f"{', '.join(surface.joints) or 'it has none'}"
            )
        self._joints = torch.from_numpy(np.array([surface.joints[name] for name in keypoints]).reshape(-1, 3))
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
        joints: Tensor | None = None,
    ) -> Registration:
        """Register the surface to the fields of each instant.

        Args:
            coordinate: (B, C, 3, H, W) [m], surface coordinates.
            foreground: (B, C, H, W), probability or bool.
            camera: (B, C), of the images, which have one size.
            present: (B, C) bool, which views there are; None = all.
            mask: (B, C, H, W) bool, silhouettes; where there is none, or an empty one, the probable foreground.
            joints: (B, C, J, 3), detected keypoints: x, y [px] of the images, confidence; None = there are none.

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
        vertices = torch.full((len(coordinate), *self.surface.vertices.shape), torch.nan).to(self.graph.rest)
        agreement = vertices.new_zeros(len(coordinate))
        region, views_of = vertices.new_zeros(vertices.shape[:2]), vertices.new_zeros(vertices.shape[:2])
        for mirrored in (False, True) if self._mirrors else (False,):
            some = (agreement < _CLEAR).nonzero()[:, 0]
            if not len(some):
                break
            seen, probable = coordinate[some], foreground[some]
            views, counts, outline = camera[some], shown[some], silhouette[some]
            start = self._mirrored(seen, 2) if mirrored else seen
            anchors = self._anchors(joints[some], views) if joints is not None and len(self._joints) else None
            placed, found = self._place(start, probable * counts, views, anchors)
            scene = Scene(self.graph, self.settings, self._attached, seen, probable, counts, outline, views)
            body, agreed, share, seeing = scene.register(placed, anchors)
            better = found & (agreed > agreement[some])
            vertices[some[better]] = self.graph.vertices(body)[better]
            agreement[some[better]] = agreed[better]
            region[some[better]] = self.graph.on_vertices(share)[better]
            views_of[some[better]] = self.graph.on_vertices(seeing.double())[better]
        return Registration(vertices, agreement, region, views_of)

    @property
    def _mirrors(self) -> bool:
        return self.settings.mirror is not None and self.surface.mirror is not None

    def _mirrored(self, coordinate: Tensor, axis: int) -> Tensor:
        """Return the same points on the other side of the body, of coordinates along an axis; NaN stays NaN."""
        points = coordinate.movedim(axis, -1).double().cpu().numpy()
        known = np.isfinite(points).all(-1)
        points[known] = self.surface.mirror_coordinates(points[known])
        return torch.from_numpy(points).to(coordinate).movedim(-1, axis)

    def _anchors(self, joints: Tensor, camera: Camera) -> Anchors:
        """Triangulate detected keypoints (B, C, J, 3)."""
        confidence = torch.where(joints[..., 2] >= LEAST_CONFIDENCE, joints[..., 2], 0.0)
        threshold = self._starter.settings.threshold * (float(camera.image_size.amax()) or 1.0)
        found = triangulate(camera, joints[..., :2], confidence, threshold=threshold)
        owner, index = found.valid.nonzero(as_tuple=True)
        mean = (confidence * found.inliers).sum(1) / found.views.clamp_min(1)
        carried = self.graph.attach_inside(owner, self._joints.to(camera.device)[index], len(joints))
        strength = self.settings.keypoint * len(self.graph) / max(1, len(self._joints)) * mean[owner, index].double()
        return Anchors(carried, found.points[owner, index], strength, _ANCHOR_WIDTH * self.graph.extent)

    def _place(
        self, coordinate: Tensor, foreground: Tensor, camera: Camera, anchors: Anchors | None
    ) -> tuple[Deformation, Tensor]:
        """Return the surface at its triangulated points, and for which instants there are enough of them."""
        triangulated = self._starter(coordinate, foreground, camera)
        valid = triangulated.valid
        points = torch.where(valid[..., None], triangulated.points, 0.0)
        rest = torch.from_numpy(self._starter.samples.coordinate).to(points)
        weight = valid.to(points)
        for _ in range(10):
            rotation, translation = rigid_motion(rest.expand_as(points), points, weight)
            distance = (rest @ rotation.mT + translation[:, None] - points).norm(dim=-1)
            weight = valid / (1 + (distance / (_START_WIDTHS[1] * self.graph.extent)).square()).square()
        body = self.graph.placed(rotation, translation)
        return self._bent(body, rest, points, valid, anchors), valid.sum(-1) >= 4

    def _bent(
        self, body: Deformation, rest: Tensor, points: Tensor, valid: Tensor, anchors: Anchors | None
    ) -> Deformation:
        """Bend the rigid surface so that points at rest (N, 3) come to others (B, N, 3), where these are valid (B, N).

        A raised arm is too far from where the rigid surface has it for its pixels to be believed.
        """
        owner, index = valid.nonzero(as_tuple=True)
        points, carried = points[owner, index], self.graph.attach(owner, rest[index], len(valid))
        strength = len(self.graph) / valid.sum(1)[owner].to(points)
        stiff, final = self.settings.stiffness, self.settings.final_stiffness
        for number in range(_START_STEPS):
            share = number / (_START_STEPS - 1)
            width = _START_WIDTHS[0] * (_START_WIDTHS[1] / _START_WIDTHS[0]) ** share * self.graph.extent
            matrix, right = self.graph.no_pull(len(valid))
            carried.pull_to(body, points, strength, width, matrix, right)
            if anchors is not None:
                anchors.pull(body, matrix, right)
            stiffness = torch.full_like(body.scale, stiff * (final / stiff) ** share)
            body = self.graph.pulled(body, matrix, right, stiffness)
        return body

    def _attached(self, owner: Tensor, coordinate: Tensor, bodies: int) -> list[Attachment]:
        """Coordinates (K, 3) [m] as points of the bodies (K,), and their mirror images, where these are looked at."""
        sides = [coordinate, self._mirrored(coordinate, -1)] if self._mirrors else [coordinate]
        return [self.graph.attach(owner, side, bodies) for side in sides]


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
