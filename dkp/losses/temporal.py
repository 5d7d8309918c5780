"""The temporal term: optical flow to the next frame of the same camera, a source of L_T."""

from torch import Tensor

from dkp.batches import flatten_views
from dkp.geometry import full_precision, pixel_grid, promote
from dkp.losses.term import LossContext
from dkp.losses.value import LossValue
from dkp.losses.warp import WarpTerm


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


class TemporalTerm(WarpTerm):
    """L_T with the optical flow of the unlabelled views (``data.next_frame``)."""

    symbol = "L_T (flow)"
    needs = ("flow",)
    hint = "check that the unlabelled data gives optical flow"

    def __call__(self, context: LossContext) -> LossValue:
        """L_T over all views with a next frame."""
        views, field = context.views, context.field
        after = context.student(flatten_views(views, "next_image"))
        warped = warp_from_flow(flatten_views(views, "flow"), field.stride)
        valid = flatten_views(views, "flow_valid") & context.present[:, None, None]
        return self.loss(field, after, warped, valid, step=context.step, atlas=context.atlas)
