"""The mask term: the captured masks teach the foreground of unlabelled views."""

from torch.nn import functional

from dkp.batches import flatten_views
from dkp.losses.term import LossContext, LossTerm
from dkp.losses.value import LossValue, Mean


class MaskTerm(LossTerm):
    """Binary cross-entropy of the foreground against the captured masks' share of each cell.

    A view whose mask is empty counts as one without a mask.
    """

    symbol = "captured masks"
    needs = ("masks",)
    hint = "check that the unlabelled frames have masks and the data gives them"

    def __call__(self, context: LossContext) -> LossValue:
        """Return the cross-entropy over all views that have a mask."""
        field, mask = context.field, flatten_views(context.views, "mask")
        target = functional.avg_pool2d(mask.to(field.foreground.dtype), field.stride)
        there = context.present & mask.flatten(1).any(1)
        loss = functional.binary_cross_entropy_with_logits(field.foreground, target, reduction="none").mean((1, 2))
        mean = Mean.of((loss, there))
        return LossValue(mean.value, there.float().mean(), {}, (mean,))
