"""Losses on dense fields: the matching of views and its engines, and the terms made of it."""

from dkp.losses.consensus import ConsensusTerm, consistent_mean
from dkp.losses.distillation import DistillationTerm
from dkp.losses.equivariance import EquivarianceTerm, warp_from_affine
from dkp.losses.keypoint import KeypointTerm
from dkp.losses.labelled import LabelledTerm, PseudoLabelTerm
from dkp.losses.mask import MaskTerm
from dkp.losses.matching import (
    Matched,
    expected_epipolar_distance,
    expected_point_distance,
    expected_warp_distance,
)
from dkp.losses.multiview import MultiviewTerm, epipolar_residuals
from dkp.losses.selection import Selection, gather_pixels, select_cells
from dkp.losses.silhouette import SilhouetteTerm, epipolar_support
from dkp.losses.temporal import TemporalTerm, warp_from_flow
from dkp.losses.term import LossContext, LossTerm
from dkp.losses.unnormalised import UnnormalisedMultiviewTerm
from dkp.losses.value import LossValue, Mean, masked_mean
from dkp.losses.warp import WarpTerm

__all__ = [
    "ConsensusTerm",
    "DistillationTerm",
    "EquivarianceTerm",
    "KeypointTerm",
    "LabelledTerm",
    "LossContext",
    "LossTerm",
    "LossValue",
    "MaskTerm",
    "Matched",
    "Mean",
    "MultiviewTerm",
    "PseudoLabelTerm",
    "Selection",
    "SilhouetteTerm",
    "TemporalTerm",
    "UnnormalisedMultiviewTerm",
    "WarpTerm",
    "consistent_mean",
    "epipolar_residuals",
    "epipolar_support",
    "expected_epipolar_distance",
    "expected_point_distance",
    "expected_warp_distance",
    "gather_pixels",
    "masked_mean",
    "select_cells",
    "warp_from_affine",
    "warp_from_flow",
]
