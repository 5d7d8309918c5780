"""The silhouette term: a foreground pixel's ray must meet foreground in the other view.

This term is ours. The multiview loss repairs coordinates but not foreground; whatever one view takes for the subject
while the other sees nothing along the whole epipolar line is clutter.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dkp.fields import Field
from dkp.geometry import full_precision, promote
from dkp.geometry.arguments import expect_positive, expect_shape
from dkp.losses.costs import epipolar_cost
from dkp.losses.selection import gather_pixels, pick_cells, select_cells
from dkp.losses.term import LossContext, LossTerm
from dkp.losses.tiled import BlockBuffers, row_blocks
from dkp.losses.value import LossValue, Mean, share


@full_precision
def epipolar_support(
    foreground_probability_other: Tensor,
    pixels: Tensor,
    other_pixels: Tensor,
    fundamental: Tensor,
    radius: float,
) -> tuple[Tensor, Tensor]:
    """Largest foreground probability of the other view along each pixel's epipolar line.

    The whole line counts, also the part behind either camera: the support is never too small.

    Args:
        foreground_probability_other: (B, M) in [0, 1].
        pixels: (B, N, 2) [px] in the first view, undistorted.
        other_pixels: (B, M, 2) [px] of the other view's cells, the whole grid.
        fundamental: (B, 3, 3) with x'ᵀ F x = 0, x in the first view.
        radius: How near a cell has to be to the line [px]; more than 0.71 strides, or lines slip between cells.

    Returns:
        Support (B, N), zero where the line meets no cell, and whether it meets any (B, N) bool. No gradient.

    Raises:
        ValueError: A shape or the radius does not fit.
    """
    expect_positive("radius", radius)
    expect_shape("other_pixels", other_pixels, *foreground_probability_other.shape[:2], 2)
    expect_shape("pixels", pixels, len(other_pixels), pixels.shape[-2], 2)
    expect_shape("fundamental", fundamental, len(other_pixels), 3, 3)
    probability, pixels, other_pixels, fundamental = promote(
        *(tensor.detach() for tensor in (foreground_probability_other, pixels, other_pixels, fundamental))
    )
    batch, rows, columns = pixels.shape[0], pixels.shape[1], other_pixels.shape[1]
    support = pixels.new_zeros(batch, rows)
    crosses = torch.zeros(batch, rows, dtype=torch.bool, device=pixels.device)
    cost = epipolar_cost(pixels, other_pixels, fundamental, "point_line", None)
    buffers = BlockBuffers(pixels)
    for images, lines in row_blocks(batch, rows, columns, pixels.device) if columns else ():
        shape = (*pixels[images, lines].shape[:2], columns)
        distance = cost.fill(0, images, lines, buffers.get("cost", *shape), buffers.get("scratch", *shape))
        crosses[images, lines] = distance.amin(-1) < radius
        near = distance.lt_(radius).mul_(probability[images].unsqueeze(1))
        support[images, lines] = near.amax(-1)
    return support, crosses


@dataclass(kw_only=True)
class SilhouetteTerm(LossTerm):
    """Mean of -log(1 - f_i) (1 - support_i) over foreground cells whose epipolar line crosses the other image.

    f_i is the foreground probability of cell i; the support is a constant. The loss only ever lowers foreground. The
    support comes from the teacher: where it comes from the detector in training, foreground that is lost in one view is
    missed in the next, until there is none.

    Attributes:
        radius: Distance from the line within which foreground supports a pixel [px].
        max_pixels: Most foreground cells of a view that take part.
        least_share: A view judges another only if its foreground is at least this share of the other's: one that
            misses the subject knows nothing.
    """

    symbol = "silhouette consistency"
    needs = ("views", "pairs", "teacher")
    hint = "check that the unlabelled frames have pairs of views and the detector finds foreground in them"

    radius: float = 4.0
    max_pixels: int = 2048
    least_share: float = 0.25

    def __call__(self, context: LossContext) -> LossValue:
        """Return the foreground's consistency over all valid pairs, as the teacher sees the other view."""
        field, target, pairs = context.field, context.teacher_field, context.pairs
        first, second = pairs.first, pairs.second
        return self.loss(field[first], field[second], pairs.fundamental, target[first], target[second])

    def loss(
        self,
        field: Field,
        other_field: Field,
        fundamental: Tensor,
        evidence: Field | None = None,
        other_evidence: Field | None = None,
    ) -> LossValue:
        """Compute the loss of a batch of pairs of views, in both directions.

        Args:
            field: First views, batch B.
            other_field: Second views, batch B.
            fundamental: (B, 3, 3) with x'ᵀ F x = 0, x in the first view.
            evidence: Fields of the first views that support cells of the second; default ``field``.
            other_evidence: Fields of the second views that support cells of the first; default ``other_field``.

        Returns:
            The loss, the share of foreground cells whose line crosses the other image, and ``unsupported`` (share of
            those with a support below one half).
        """
        first = field if evidence is None else evidence
        second = other_field if other_evidence is None else other_evidence
        losses, crossings, looked, weak = [], [], [], []
        for one, two, matrix in ((field, second, fundamental), (other_field, first, fundamental.mT)):
            mask = one.foreground_probability.detach() > 0.5
            judge = two.foreground_probability.detach() > 0.5
            judges = judge.flatten(1).float().mean(1) >= self.least_share * mask.flatten(1).float().mean(1)
            mask = mask & judges[:, None, None]
            selection = select_cells(mask, self.max_pixels)
            logit = pick_cells(one, selection).foreground.squeeze(1).float()
            other_pixels = two.pixels().flatten(0, 1).expand(logit.shape[0], -1, -1)
            support, crosses = epipolar_support(
                two.foreground_probability.flatten(1),
                gather_pixels(one.pixels(), selection.cells),
                other_pixels,
                matrix,
                self.radius,
            )
            losses.append((nn.functional.softplus(logit) * (1 - support)).flatten())
            crossings.append((crosses & selection.mask).flatten())
            looked.append(selection.mask.flatten())
            weak.append((support < 0.5).flatten())
        crossing, every = torch.cat(crossings), torch.cat(looked)
        mean = Mean.of((torch.cat(losses), crossing))
        return LossValue(
            mean.value,
            share(crossing, every),
            {"unsupported": share(torch.cat(weak), crossing)},
            (mean,),
        )
