"""The warp terms L_T: where a known warp says a pixel went, its surface point should be found again.

The paper's abstract and captions only name L_T and say that it rests on the same operations; its form is ours: the
multiview loss with the epipolar distance replaced by the distance to the warped pixel.
"""

from dataclasses import dataclass

from torch import Tensor

from dkp.fields import ChartAtlas, Field, gather_cells
from dkp.geometry.arguments import expect_mask, expect_shape
from dkp.losses.cells import MatchingTerm, gather_field
from dkp.losses.matching import expected_warp_distance
from dkp.losses.value import LossValue, Mean, share


@dataclass(kw_only=True)
class WarpTerm(MatchingTerm):
    """Σ_i V_i ē_i / Σ_i V_i with ē_i = Σ_j p_ij |w(x_i) - x'_j| over cells whose pixel in the other image is known."""

    def loss(
        self,
        field: Field,
        other_field: Field,
        warped_pixels: Tensor,
        valid: Tensor | None = None,
        *,
        step: int = 0,
        atlas: ChartAtlas | None = None,
    ) -> LossValue:
        """Compute the loss of a batch of pairs of images.

        Args:
            field: First images, batch B.
            other_field: Second images, batch B.
            warped_pixels: (B, H, W, 2) [px] where each cell went.
            valid: (B, H, W) bool, cells for which that is known; pixels outside the other image never count.
            step: Of σ.
            atlas: The way from charts to surface coordinates; an embedding needs none.

        Returns:
            The loss, the visible share of the cells that took part, and ``distance`` (mean over visible cells [px]).

        Raises:
            ValueError: The warp or ``valid`` has another shape or type.
        """
        shape = (len(field.foreground), *field.size)
        expect_shape("warped_pixels", warped_pixels, *shape, 2)
        expect_mask("valid", valid, *shape)
        mask = field.foreground_probability.detach() > 0.5
        height, width = other_field.size
        limit = warped_pixels.new_tensor([width, height]) * other_field.stride
        mask = mask & ((warped_pixels >= 0) & (warped_pixels <= limit)).all(-1)
        if valid is not None:
            mask = mask & valid
        cells, other = gather_field(field, mask, self.max_pixels, atlas), self.cells(other_field, atlas)
        matched = expected_warp_distance(
            cells.coordinate,
            other.coordinate,
            gather_cells(warped_pixels.movedim(-1, 1), cells.index),
            other.pixels,
            self.sigma_at(step),
            clip=self.clip,
            engine=self.engine,
            **cells.beside(other),
        )
        visible = (matched.max_matchability > self.visibility_threshold) & cells.mask
        mean = Mean.of((matched.distance, visible))
        return LossValue(
            mean.value / self.normalisation,
            share(visible, cells.mask),
            {"distance": mean.value.detach()},
            (mean.times(1 / self.normalisation),),
        )
