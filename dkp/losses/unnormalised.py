"""The multiview term without its normalisation, to compare with."""

import torch
from torch import Tensor

from dkp.geometry import full_precision, promote
from dkp.losses.cells import Cells
from dkp.losses.matching import Matched
from dkp.losses.multiview import MultiviewTerm


class UnnormalisedMultiviewTerm(MultiviewTerm):
    """`MultiviewTerm` with Σ_j M_ij d_ij in place of Σ_j M_ij d_ij / Σ_j M_ij.

    It has its least value where matches are destroyed: two fields that share nothing score 0. Takes memory for all
    pairs of cells.
    """

    symbol = "L_M without normalisation"

    def match(self, cells: Cells, other: Cells, fundamental: Tensor, sigma: float) -> Matched:
        """Return the sum of each cell's distances, weighted by their matchability."""
        matched = super().match(cells, other, fundamental, sigma)
        if self.kind == "expected_point":  # a position needs the normalisation
            return matched
        return Matched(matched.distance * total_matchability(cells, other, sigma), matched.max_matchability)


@full_precision
def total_matchability(cells: Cells, other: Cells, sigma: float) -> Tensor:
    """(B, N) Σ_j M_ij over the candidates of the other view.

    Args:
        cells: batch B, N of one view.
        other: those of the other view.
        sigma: width of the matchability [m].
    """
    first, second = promote(cells.coordinate, other.coordinate)
    squared = (first[:, :, None] - second[:, None]).square().sum(-1)
    matchability = torch.exp(-squared / (2 * sigma**2)) * other.mask[:, None]
    if cells.parts is not None and other.parts is not None:
        matchability = matchability * (cells.parts @ other.parts.mT)
    return matchability.sum(-1)
