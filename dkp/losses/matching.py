"""Matchability of two dense fields and the expected distance under it: the core of the multiview loss.

With s_ij = -|u_i - u'_j|² / (2σ²) (+ log Σ_p π_ip π'_jp where part probabilities are given), the matchability is
M_ij = exp(s_ij), the assignment p_ij = softmax_j s_ij, and the expected distance ē_i = Σ_j p_ij d_ij: the average of
the probabilistic epipolar error E = M ⊙ d over the candidates j. That average is taken from the abstract and the
figures of "Semi-supervised Dense Keypoints Using Unlabeled Multiview Images" (NeurIPS 2021); the Gaussian form of M,
the normalisation by log-sum-exp and the visibility test are this project's reading of it.

The normalisation is exact. With an ε in the denominator, or without normalisation, two fields that match nowhere would
have the least loss of all.
"""

import math
from typing import NamedTuple, Unpack

from torch import Tensor

from dkp.geometry import epipolar_distance, full_precision
from dkp.geometry.arguments import blank, expect_positive
from dkp.losses.costs import (
    Distance,
    PairCost,
    check_distance,
    epipolar_cost,
    point_cost,
    position_cost,
    shape_distance,
)
from dkp.losses.engines import EXPECTATIONS, Engine, find_engine
from dkp.losses.ragged import over_groups
from dkp.losses.sides import Sides, Taking


class Matched(NamedTuple):
    """What the matching of one view against another gives for each pixel.

    Attributes:
        distance: (B, N) [px] ([px²] for squared distances); zero where masked or without candidates.
        max_matchability: (B, N) in [0, 1], exp(max_j s_ij): one for a perfect match; zero where masked or without
            candidates. It serves to gate and carries no gradient.
    """

    distance: Tensor
    max_matchability: Tensor


@full_precision
def expected_epipolar_distance(
    field: Tensor,
    other_field: Tensor,
    pixels: Tensor,
    other_pixels: Tensor,
    fundamental: Tensor,
    sigma: float,
    *,
    distance: Distance = "point_line",
    clip: float | None = None,
    engine: Engine = "auto",
    **taking: Unpack[Taking],
) -> Matched:
    """Compute the expected epipolar distance Σ_j p_ij d_ij of each pixel of one view.

    Args:
        field: (B, N, D) surface coordinates of the pixels of the first view [m].
        other_field: (B, M, D) those of the other view [m].
        pixels: (B, N, 2) [px], undistorted.
        other_pixels: (B, M, 2) [px], undistorted.
        fundamental: (B, 3, 3) with x'ᵀ F x = 0, x in the first view.
        sigma: Width of the matchability [m], the unit of the fields.
        distance: "point_line", its square ("squared") or "sampson"; see `dkp.geometry.epipolar`.
        clip: Largest distance [px] (before squaring) that counts; None = no limit.
        engine: "dense" (plain, keeps N x M matrices), "tiled" (streams, O(N + M) memory), "fused" (compiled) or
            "auto" (one of these, see `dkp.losses.engines`).
        **taking: What takes part, and part probabilities: see `Taking`.

    Returns:
        The expected distance and the best matchability. Gradients reach the fields and the parts; not the geometry.

    Raises:
        ValueError: A shape or an option does not fit.
    """
    sides = Sides.create(field, other_field, **taking)
    cost = epipolar_cost(
        sides.rows("pixels", pixels),
        sides.columns("other_pixels", other_pixels),
        sides.matrices("fundamental", fundamental),
        distance,
        clip,
    )
    average, best = _expectation(sides, sigma, cost, engine)
    return Matched(average[..., 0], best)


@full_precision
def expected_warp_distance(
    field: Tensor,
    other_field: Tensor,
    warped_pixels: Tensor,
    other_pixels: Tensor,
    sigma: float,
    *,
    clip: float | None = None,
    engine: Engine = "auto",
    **taking: Unpack[Taking],
) -> Matched:
    """Compute the expected distance Σ_j p_ij |w(x_i) - x'_j| to where a known warp says each pixel went.

    Args and returns as in `expected_epipolar_distance`, with the points w(x_i) (B, N, 2) [px] in the other image,
    and for a mask of the first image the pixels with a known point there.
    """
    sides = Sides.create(field, other_field, **taking)
    cost = point_cost(sides.rows("warped_pixels", warped_pixels), sides.columns("other_pixels", other_pixels), clip)
    average, best = _expectation(sides, sigma, cost, engine)
    return Matched(average[..., 0], best)


@full_precision
def expected_point_distance(
    field: Tensor,
    other_field: Tensor,
    pixels: Tensor,
    other_pixels: Tensor,
    fundamental: Tensor,
    sigma: float,
    *,
    distance: Distance = "point_line",
    clip: float | None = None,
    engine: Engine = "auto",
    **taking: Unpack[Taking],
) -> Matched:
    """Compute the epipolar distance of the expected match, |l_i · Σ_j p_ij x̃'_j|.

    This is the epipolar term of CAPS (Wang et al., "Learning Feature Descriptors using Camera Pose Supervision", ECCV
    2020) on our matchability, for comparison. By Jensen's inequality the "point_line" and "squared" distances are never
    larger than those of `expected_epipolar_distance` without a clip: candidates on both sides of the line cancel.

    Args and returns as in `expected_epipolar_distance`; the clip acts on the distance of the expected match.
    """
    check_distance(distance, clip)
    sides = Sides.create(field, other_field, **taking)
    rows, matrix = sides.rows("pixels", pixels), sides.matrices("fundamental", fundamental)
    cost = position_cost(field.shape[1], sides.columns("other_pixels", other_pixels))
    position, best = _expectation(sides, sigma, cost, engine)
    kind = "point_line" if distance == "squared" else distance
    value = shape_distance(epipolar_distance(rows, position, matrix, kind), squared=distance == "squared", clip=clip)
    if other_field.shape[1] == 0:
        value = 0.0 * value
    return Matched(blank(value, sides.present), best)


def _expectation(sides: Sides, sigma: float, cost: PairCost, engine: Engine) -> tuple[Tensor, Tensor]:
    """Scale the fields, let the engine average the cost, and blank the rows that do not take part."""
    expect_positive("sigma", sigma)
    scale = 1.0 / (math.sqrt(2.0) * sigma)
    sides = sides.scaled(scale)
    field, taken = sides.field, find_engine(engine, sides, cost)
    if 0 in (*field.shape[:2], sides.other_field.shape[1]):
        return sides.zero() + field.new_zeros(*field.shape[:2], cost.channels), field.new_zeros(field.shape[:2])
    function = EXPECTATIONS[taken]
    if field.device.type == "cpu" and taken != "dense":
        average, best = over_groups(function, sides, cost)
    else:
        average, best = function(sides, cost)
    return blank(average, sides.present), blank(best, sides.present)
