"""The warp loss L_T: where a known warp says a pixel went, its surface point should be found again.

The paper's abstract and captions only name this term and say that it rests on the same operations; its form is ours:
the multiview loss with the epipolar distance replaced by the distance to the warped pixel. The warp may be optical flow
to the next frame of the same camera, or a known transformation of the same image.
"""

from __future__ import annotations

from torch import Tensor, nn

from dkp.fields import ChartAtlas, Field
from dkp.geometry import full_precision, pixel_grid, promote
from dkp.losses.costs import PointDistance
from dkp.losses.matching import Engine, expected_warp_distance
from dkp.losses.multiview import VISIBLE_WITHIN_TWO_SIGMA, gather_field
from dkp.losses.selection import gather_cells, select_cells
from dkp.losses.term import LossTerm, Mean, share


@full_precision
def warp_from_flow(flow: Tensor, stride: int) -> Tensor:
    """Where optical flow takes the cells of a field.

    Args:
        flow: (B, 2, H, W) [px] displacement at each cell.
        stride: Input pixels per cell.

    Returns:
        (B, H, W, 2) [px] in the other image.
    """
    (flow,) = promote(flow)
    grid = pixel_grid(flow.shape[2], flow.shape[3], stride, device=flow.device, dtype=flow.dtype)
    return grid + flow.movedim(1, -1)


@full_precision
def warp_from_affine(matrix: Tensor, height: int, width: int, stride: int) -> Tensor:
    """Where an affine map of the image takes the cells of a field.

    Args:
        matrix: (B, 2, 3) or (B, 3, 3), pixels to pixels of the transformed image.
        height: Rows of the field.
        width: Columns of the field.
        stride: Input pixels per cell.

    Returns:
        (B, H, W, 2) [px] in the transformed image.
    """
    (matrix,) = promote(matrix)
    grid = pixel_grid(height, width, stride, device=matrix.device, dtype=matrix.dtype)
    linear, shift = matrix[:, None, None, :2, :2], matrix[:, None, None, :2, 2]
    return (linear * grid.unsqueeze(-2)).sum(-1) + shift


class WarpLoss(nn.Module):
    """Σ_i V_i ē_i / Σ_i V_i with ē_i = Σ_j p_ij |w(x_i) - x'_j| over cells with a known place in the other image."""

    def __init__(
        self,
        sigma: float = 0.05,
        *,
        clip: float | None = 20.0,
        distance: PointDistance = "euclidean",
        visibility_threshold: float = VISIBLE_WITHIN_TWO_SIGMA,
        normalisation: float = 10.0,
        max_pixels: int = 2048,
        foreground_threshold: float = 0.5,
        engine: Engine = "auto",
        atlas: ChartAtlas | None = None,
    ) -> None:
        """Choose the form of the loss; the arguments are those of `MultiviewLoss`.

        Args:
            sigma: Width of the matchability [m].
            clip: Largest distance of a candidate [px] that counts; None for no limit.
            distance: "euclidean" or "squared".
            visibility_threshold: Least best matchability.
            normalisation: Pixels (or squared pixels) that make a loss of one.
            max_pixels: Most foreground cells of an image that take part.
            foreground_threshold: Least foreground probability of a cell that takes part, unless masks are given.
            engine: "auto", "dense", "tiled", "fused", "compact" or "attention"; see docs/speed.md.
            atlas: For chart fields, the way from charts to surface coordinates.
        """
        super().__init__()
        self.sigma = sigma
        self.clip = clip
        self.distance: PointDistance = distance
        self.visibility_threshold = visibility_threshold
        self.normalisation = normalisation
        self.max_pixels = max_pixels
        self.foreground_threshold = foreground_threshold
        self.engine: Engine = engine
        self.atlas = atlas

    def forward(
        self,
        field: Field,
        other_field: Field,
        warped_pixels: Tensor,
        valid: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        other_mask: Tensor | None = None,
    ) -> LossTerm:
        """Compute the loss of a batch of pairs of images.

        Args:
            field: First images, batch B.
            other_field: Second images, batch B.
            warped_pixels: (B, H, W, 2) [px] where each cell went, from `warp_from_flow` or `warp_from_affine`.
            valid: (B, H, W) bool, cells whose place is known; places outside the other image never count.
            mask: (B, H, W) bool, cells of the first images that take part; default their own foreground.
            other_mask: (B, H', W') bool, the same for the second images.

        Returns:
            The loss, the visible share of the cells that took part, and ``distance`` (mean over visible cells [px]).
        """
        if mask is None:
            mask = field.foreground_probability.detach() > self.foreground_threshold
        if other_mask is None:
            other_mask = other_field.foreground_probability.detach() > self.foreground_threshold
        height, width = other_field.size
        limit = warped_pixels.new_tensor([width, height]) * other_field.stride
        mask = mask & ((warped_pixels >= 0) & (warped_pixels <= limit)).all(-1)
        if valid is not None:
            mask = mask & valid
        selection = select_cells(mask, self.max_pixels)
        cells = gather_field(field, mask, self.max_pixels, self.atlas, selection)
        other = gather_field(other_field, other_mask, self.max_pixels, self.atlas)
        matched = expected_warp_distance(
            cells.coordinate,
            other.coordinate,
            gather_cells(warped_pixels.movedim(-1, 1), selection.cells),
            other.pixels,
            self.sigma,
            mask=cells.mask,
            other_mask=other.mask,
            parts=cells.parts,
            other_parts=other.parts,
            distance=self.distance,
            clip=self.clip,
            engine=self.engine,
        )
        visible = (matched.max_matchability > self.visibility_threshold) & cells.mask
        mean = Mean.of((matched.distance, visible))
        return LossTerm(
            mean.value / self.normalisation,
            share(visible, cells.mask),
            {"distance": mean.value.detach()},
            (mean.times(1 / self.normalisation),),
        )
