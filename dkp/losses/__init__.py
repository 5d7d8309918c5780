"""Losses on dense fields: the matching of views and its engines, and the terms made of it."""

from dkp.losses.consensus import ConsensusLoss, consistent_mean
from dkp.losses.distillation import DistillationLoss
from dkp.losses.labelled import LabelledLoss, sample_cells
from dkp.losses.matching import (
    ExpectedPosition,
    Matched,
    expected_epipolar_distance,
    expected_point_distance,
    expected_position,
    expected_warp_distance,
)
from dkp.losses.multiview import MultiviewLoss
from dkp.losses.selection import Selection, gather_cells, gather_pixels, select_cells
from dkp.losses.silhouette import SilhouetteLoss, epipolar_support
from dkp.losses.term import LossTerm, Mean, masked_mean
from dkp.losses.unnormalised import UnnormalisedMultiviewLoss
from dkp.losses.warp import WarpLoss, warp_from_affine, warp_from_flow

__all__ = [
    "ConsensusLoss",
    "DistillationLoss",
    "ExpectedPosition",
    "LabelledLoss",
    "LossTerm",
    "Matched",
    "Mean",
    "MultiviewLoss",
    "Selection",
    "SilhouetteLoss",
    "UnnormalisedMultiviewLoss",
    "WarpLoss",
    "consistent_mean",
    "epipolar_support",
    "expected_epipolar_distance",
    "expected_point_distance",
    "expected_position",
    "expected_warp_distance",
    "gather_cells",
    "gather_pixels",
    "masked_mean",
    "sample_cells",
    "select_cells",
    "warp_from_affine",
    "warp_from_flow",
]
