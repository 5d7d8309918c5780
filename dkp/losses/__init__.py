"""Losses on dense fields: the matching of views and its engines, and the terms made of it."""

from dkp.losses.consensus import ConsensusTerm as ConsensusTerm, consistent_mean as consistent_mean
from dkp.losses.distillation import DistillationTerm as DistillationTerm
from dkp.losses.equivariance import EquivarianceTerm as EquivarianceTerm, warp_from_affine as warp_from_affine
from dkp.losses.keypoint import KeypointTerm as KeypointTerm
from dkp.losses.labelled import LabelledTerm as LabelledTerm, PseudoLabelTerm as PseudoLabelTerm
from dkp.losses.mask import MaskTerm as MaskTerm
from dkp.losses.matching import (
    Matched as Matched,
    expected_epipolar_distance as expected_epipolar_distance,
    expected_point_distance as expected_point_distance,
    expected_warp_distance as expected_warp_distance,
)
from dkp.losses.multiview import MultiviewTerm as MultiviewTerm, epipolar_residuals as epipolar_residuals
from dkp.losses.selection import Selection as Selection, gather_pixels as gather_pixels, select_cells as select_cells
from dkp.losses.silhouette import SilhouetteTerm as SilhouetteTerm, epipolar_support as epipolar_support
from dkp.losses.temporal import TemporalTerm as TemporalTerm, warp_from_flow as warp_from_flow
from dkp.losses.term import LossContext as LossContext, LossTerm as LossTerm
from dkp.losses.unnormalised import UnnormalisedMultiviewTerm as UnnormalisedMultiviewTerm
from dkp.losses.value import LossValue as LossValue, Mean as Mean, masked_mean as masked_mean
from dkp.losses.warp import WarpTerm as WarpTerm
