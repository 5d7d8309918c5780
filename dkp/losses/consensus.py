"""The consensus term: a cell is drawn to what the cells on its epipolar line in other views say.

L_M weighs the candidates of a cell against each other and is content once those that it prefers lie on the epipolar
line; how far the two coordinates of a match are apart does not matter to it. This term (ours, not the paper's) sees to
that: among the candidates that both match and lie near the line, it moves the cell to their mean.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dkp.fields import ChartAtlas, Field
from dkp.geometry import epipolar_lines, full_precision
from dkp.geometry.arguments import blank, expect_positive
from dkp.losses.cells import VISIBLE_WITHIN_TWO_SIGMA, PairsTerm
from dkp.losses.penalty import coordinate_penalty
from dkp.losses.sides import Sides
from dkp.losses.value import LossValue, Mean, masked_mean, share

BLOCK = 1 << 22
"""Most pairs that are held at once."""


@torch.no_grad()
@full_precision
def consistent_mean(
    field: Tensor,
    other_field: Tensor,
    pixels: Tensor,
    other_pixels: Tensor,
    fundamental: Tensor,
    sigma: float,
    radius: float,
    *,
    mask: Tensor | None = None,
    other_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean surface coordinate of the candidates that match a cell and lie near its epipolar line.

    With w_ij = exp(-|u_i - u'_j|² / (2 σ²) - d_ij² / (2 r²)), the mean Σ_j w_ij u'_j / Σ_j w_ij: one step of
    expectation maximisation for a mixture whose components are the other view's cells.

    Args:
        field: (B, N, D) surface coordinates of the cells of the first view [m].
        other_field: (B, M, D) those of the other view [m].
        pixels: (B, N, 2) [px], undistorted.
        other_pixels: (B, M, 2) [px].
        fundamental: (B, 3, 3) with x'ᵀ F x = 0, x in the first view.
        sigma: Width of the match between coordinates [m].
        radius: Width r of the epipolar line [px].
        mask: (B, N) bool, cells that take part (default all).
        other_mask: (B, M) bool, candidates that take part (default all).

    Returns:
        mean: (B, N, D) [m], without a gradient; zero where masked.
        support: (B, N) in [0, 1], max_j w_ij; zero where masked or without candidates.

    Raises:
        ValueError: A shape or an option does not fit.
    """
    expect_positive("sigma", sigma)
    expect_positive("radius", radius)
    sides = Sides.create(field, other_field, mask, other_mask)
    field, other_field = sides.field.float(), sides.other_field.float()
    pixels, other_pixels = sides.rows("pixels", pixels).float(), sides.columns("other_pixels", other_pixels).float()
    fundamental = sides.matrices("fundamental", fundamental).float()
    rows, columns = field.shape[1], other_field.shape[1]
    mean, support = field.clone(), field.new_zeros(field.shape[:2])
    if not (rows and columns):
        return mean, support
    width = math.sqrt(2.0) * sigma
    u, v = field / width, other_field / width
    # A squared distance to a line is linear in the monomials of the pixel, so that one product gives all exponents.
    a, b, c = (epipolar_lines(pixels, fundamental) / (math.sqrt(2.0) * radius)).unbind(-1)
    x, y = other_pixels.unbind(-1)
    one, other_one = torch.ones_like(a), torch.ones_like(x)
    height = v.square().sum(-1)
    if other_mask is not None:
        height = height.masked_fill(~other_mask, 1e30)
    left = [
        2 * u,
        torch.stack([-u.square().sum(-1) - c * c, -one, -a * a, -2 * a * b, -b * b, -2 * a * c, -2 * b * c], -1),
    ]
    right = [v, torch.stack([other_one, height, x * x, x * y, y * y, x, y], -1)]
    query, key = torch.cat(left, -1), torch.cat(right, -1).mT
    step = max(1, BLOCK // (len(field) * columns))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        exponent = torch.bmm(query[:, part], key)
        support[:, part] = exponent.amax(-1).clamp_max(0.0).exp()
        mean[:, part] = torch.bmm(exponent.softmax(-1), other_field)
    return blank(mean, mask), blank(support, mask)


@dataclass(kw_only=True)
class ConsensusTerm(PairsTerm):
    """Penalty on each cell's distance from the `consistent_mean` of the other view, over a batch of pairs both ways.

    A cell takes part if some candidate supports it at least as well as one at two standard deviations.

    Attributes:
        radius: Width of the epipolar line [px].
        beta: Where smooth L1 turns linear [m].
        scale: Coordinate difference that makes a loss of one [m].
    """

    symbol = "consensus along epipolar lines"
    hint = (
        "check that the unlabelled frames have pairs of views whose fields match near epipolar lines; a larger sigma "
        "finds more"
    )

    radius: float = 2.0
    beta: float = 0.03
    scale: float = 0.1

    def loss(
        self, field: Field, other_field: Field, fundamental: Tensor, *, step: int = 0, atlas: ChartAtlas | None = None
    ) -> LossValue:
        """Compute the loss of a batch of pairs of views, see `PairsTerm.loss`.

        Returns:
            The loss, the share of the cells that are supported, and ``difference``, the mean distance to the consensus
            [m].
        """
        sigma = self.sigma_at(step)
        first, second = self.cells(field, atlas), self.cells(other_field, atlas)
        penalties, lengths, shown, looked = [], [], [], []
        for cells, other, matrix in ((first, second, fundamental), (second, first, fundamental.mT)):
            said, support = consistent_mean(
                cells.coordinate,
                other.coordinate,
                cells.pixels,
                other.pixels,
                matrix,
                sigma,
                self.radius,
                mask=cells.mask,
                other_mask=other.mask,
            )
            difference = cells.coordinate.float() - said
            penalties.append(coordinate_penalty(difference.mT, self.beta, self.scale).flatten())
            lengths.append(difference.detach().norm(dim=-1).flatten())
            shown.append((support > VISIBLE_WITHIN_TWO_SIGMA).flatten())
            looked.append(cells.mask.flatten())
        supported, every = torch.cat(shown), torch.cat(looked)
        penalty = Mean.of((torch.cat(penalties), supported))
        return LossValue(
            penalty.value,
            share(supported, every),
            {"difference": masked_mean(torch.cat(lengths), supported)},
            (penalty,),
        )
