"""Losses on dense fields: the matching of views and its engines, and the terms made of it."""

from dkp.losses.matching import (
    ExpectedPosition,
    Matched,
    expected_epipolar_distance,
    expected_point_distance,
    expected_position,
    expected_warp_distance,
)

__all__ = [
    "ExpectedPosition",
    "Matched",
    "expected_epipolar_distance",
    "expected_point_distance",
    "expected_position",
    "expected_warp_distance",
]
