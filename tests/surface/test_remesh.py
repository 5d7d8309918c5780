"""Thinning a symmetric mesh: the mirrored result is a closed manifold."""

from __future__ import annotations

import numpy as np

from dkp.surface.bake.remesh import thin_out
from dkp.surface.meshfile import check_mesh

from .conftest import sphere_mesh


def test_a_thinned_sphere_is_closed_symmetric_and_still_round() -> None:
    vertices, faces = sphere_mesh(4)
    half = thin_out(vertices, faces, np.full(len(vertices), 0.3), 120)
    points = half.transfer(vertices)
    points[half.seam, 0] = 0.0
    whole = points[half.source] * np.where((np.arange(len(half.source)) < len(half.seam))[:, None], 1.0, [-1.0, 1, 1])
    assert len(half.seam) == 120
    check_mesh(whole, half.faces, "thinned")
    np.testing.assert_array_equal(whole[half.mirror], whole * [-1, 1, 1])
    edges = np.unique(
        np.sort(np.concatenate([half.faces[:, [0, 1]], half.faces[:, [1, 2]], half.faces[:, [2, 0]]]), 1), axis=0
    )
    assert len(whole) - len(edges) + len(half.faces) == 2
    assert np.abs(np.linalg.norm(whole, axis=1) - 1).max() < 0.02
