"""The mask term: the captured masks teach the foreground of unlabelled views."""

from dataclasses import dataclass
from typing import ClassVar

from torch.nn import functional

from dkp.batches import flatten_views
from dkp.losses.penalty import thin_parts
from dkp.losses.term import LossContext, LossTerm, Need
from dkp.losses.value import LossValue, Mean


@dataclass(kw_only=True)
class MaskTerm(LossTerm):
    """Binary cross-entropy of the foreground against the captured masks' share of each cell.

    A view whose mask is empty counts as one without a mask.

    Attributes:
        thin_weight: Further weight where the mask is thin (`thin_parts`).
    """

    symbol = "captured masks"
    needs: ClassVar[tuple[Need, ...]] = ("masks",)
    hint = "check that the unlabelled frames have masks and the data gives them"

    thin_weight: float = 0.0

    def __call__(self, context: LossContext) -> LossValue:
        """Return the cross-entropy over all views that have a mask."""
        field, mask = context.field, flatten_views(context.views, "mask")
        target = functional.avg_pool2d(mask.to(field.foreground.dtype), field.stride)
        there = context.present & mask.flatten(1).any(1)
        loss = functional.binary_cross_entropy_with_logits(field.foreground, target, reduction="none")
        if self.thin_weight:
            loss = loss * (1 + self.thin_weight * thin_parts(target))
        mean = Mean.of((loss.mean((1, 2)), there))
        return LossValue(mean.value, there.float().mean(), {}, (mean,))
