"""Two views of the template with as many cells as wanted: the problem that engines are compared on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dkp.geometry import Camera, fundamental_matrix
from dkp.losses import expected_epipolar_distance
from dkp.losses.costs import PairCost, epipolar_cost
from dkp.losses.engines import Engine
from dkp.losses.sides import Sides
from dkp.surface import Surface

CLIP = 20.0
NEAR_SHARE = 0.05
"""Share of the pairs of cells that lies within three sigma of each other; it sets sigma."""


@dataclass(frozen=True)
class Problem:
    """Fields (P, N, 3) [m], pixels (P, N, 2) [px], the fundamental matrices (P, 3, 3) and sigma [m]."""

    field: Tensor
    other_field: Tensor
    pixels: Tensor
    other_pixels: Tensor
    fundamental: Tensor
    sigma: float

    @classmethod
    def make(cls, cells: int, pairs: int = 1) -> Problem:
        """Make P pairs of views, alike but for their noise: see `pair_of_views`."""
        surface = Surface.load("human")
        made = [pair_of_views(surface, cells, seed) for seed in range(pairs)]
        return cls(
            torch.stack([one.field for one in made]),
            torch.stack([one.other_field for one in made]),
            torch.stack([one.pixels for one in made]),
            torch.stack([one.other_pixels for one in made]),
            torch.stack([one.fundamental for one in made]),
            made[0].sigma,
        )

    def cost(self) -> PairCost:
        """Return what the engines average."""
        return epipolar_cost(self.pixels, self.other_pixels, self.fundamental, "point_line", CLIP)

    def sides(self) -> Sides:
        """Return what is matched."""
        return Sides.create(self.field, self.other_field)

    def run(self, engine: Engine) -> list[Tensor]:
        """Forward and backward pass; the distances and both gradients."""
        field, other = self.field.clone().requires_grad_(), self.other_field.clone().requires_grad_()
        matched = expected_epipolar_distance(
            field, other, self.pixels, self.other_pixels, self.fundamental, self.sigma, clip=CLIP, engine=engine
        )
        visible = matched.max_matchability > math.exp(-2.0)
        value = (matched.distance * visible).sum() / visible.sum().clamp_min(1)
        return [(matched.distance * visible).detach(), *torch.autograd.grad(value, [field, other])]


def pair_of_views(surface: Surface, cells: int, seed: int) -> Problem:
    """Make one pair, without the leading axis: the half of a template that faces each of two cameras, 60° apart.

    The coordinates have 1 cm of noise.
    """
    generator = np.random.default_rng(seed)
    focal, side = 300.0, 256.0
    intrinsics = torch.tensor([[focal, 0.0, side / 2], [0.0, focal, side / 2], [0.0, 0.0, 1.0]])
    centre = torch.as_tensor(surface.bounds[0], dtype=torch.float32)
    cameras, fields, pixels = [], [], []
    for degrees in (-30.0, 30.0):
        angle = math.radians(degrees)
        c, s = math.cos(angle), math.sin(angle)
        # Up is z; the camera looks along its third row.
        rotation = torch.tensor([[c, s, 0.0], [0.0, 0.0, -1.0], [-s, c, 0.0]])
        camera = Camera.create(intrinsics, rotation, torch.tensor([0.0, 0.0, 3.0]) - rotation @ centre)
        points = facing_points(surface, rotation[2].numpy(), cells, generator)
        fields.append(points + 0.01 * torch.as_tensor(generator.standard_normal((cells, 3)), dtype=torch.float32))
        pixels.append(camera.project(points)[0])
        cameras.append(camera)
    sample = generator.permutation(cells)[: min(cells, 1500)]
    distances = torch.cdist(fields[0][sample], fields[1][sample]).flatten()
    near = distances.kthvalue(max(1, int(NEAR_SHARE * distances.numel()))).values
    matrix = fundamental_matrix(cameras[0], cameras[1])
    return Problem(fields[0], fields[1], pixels[0], pixels[1], matrix, float(near) / 3)


def facing_points(surface: Surface, direction: np.ndarray, count: int, generator: np.random.Generator) -> Tensor:
    """Points (count, 3) [m] spread evenly over the faces that look against a direction."""
    corners = surface.vertices[surface.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.clip(-normal @ direction, 0.0, None)
    face = generator.choice(len(area), count, p=area / area.sum())
    barycentric = generator.dirichlet((1.0, 1.0, 1.0), count)
    return torch.as_tensor((corners[face] * barycentric[..., None]).sum(1), dtype=torch.float32)
