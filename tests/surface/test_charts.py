"""Cutting into discs and flattening without folds."""

from __future__ import annotations

import numpy as np
import pytest

from dkp.errors import InputError
from dkp.surface import Surface
from dkp.surface.charts import ChartLookup, automatic_parts, border_loops, flatten_disc, is_disc

from .conftest import sphere_mesh, torus_mesh


def uv_area(uv: np.ndarray) -> np.ndarray:
    first, second = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]


def test_discs_are_told_from_other_surfaces() -> None:
    vertices, faces = sphere_mesh(2)
    upper = faces[vertices[faces].mean(1)[:, 1] > 0]
    band = faces[np.abs(vertices[faces].mean(1)[:, 1]) < 0.5]
    assert is_disc(upper)
    assert not is_disc(faces)
    assert not is_disc(band)
    assert not is_disc(np.concatenate([upper[:1], upper[-1:]]))
    assert len(border_loops(band)) == 2


def test_flattening_is_one_to_one_and_upright() -> None:
    vertices, faces = sphere_mesh(3)
    disc = faces[vertices[faces].mean(1)[:, 2] > -0.3]
    uv = flatten_disc(vertices, disc)
    assert uv.min() >= 0
    assert uv.max() <= 1
    assert uv_area(uv).min() > 0, "orientation kept, nothing folded"
    top = vertices[disc][..., 1]
    v = uv[..., 1]
    assert np.corrcoef(top.ravel(), v.ravel())[0, 1] > 0.9, "V runs upwards"


def test_areas_are_evened_out() -> None:
    # A long finger on a small base: plain harmonic maps shrink its tip to a point.
    angle, height = np.meshgrid(np.linspace(0, 2 * np.pi, 24, endpoint=False), np.linspace(0, 8, 40), indexing="ij")
    side = np.stack([np.cos(angle), height, np.sin(angle)], -1).reshape(-1, 3)
    vertices = np.concatenate([side, [[0, 8.5, 0]]])
    i, j = np.meshgrid(np.arange(24), np.arange(39), indexing="ij")
    at = lambda a, b: ((a % 24) * 40 + b).ravel()  # noqa: E731
    faces = np.concatenate(
        [
            np.stack([at(i, j), at(i, j + 1), at(i + 1, j)], 1),
            np.stack([at(i + 1, j), at(i, j + 1), at(i + 1, j + 1)], 1),
            [[k * 40 + 39, len(side), (k + 1) % 24 * 40 + 39] for k in range(24)],
        ]
    )
    assert is_disc(faces)
    uv = flatten_disc(vertices, faces)
    area = uv_area(uv)
    assert area.min() > 0
    tip = vertices[faces].mean(1)[:, 1] > 6
    share = np.linalg.norm(np.cross(*(vertices[faces][:, [1, 2]] - vertices[faces][:, :1]).transpose(1, 0, 2)), axis=1)
    assert area[tip].sum() / area.sum() > 0.1 * share[tip].sum() / share.sum()


def test_torus_is_cut_into_discs() -> None:
    vertices, faces = torus_mesh()
    part = automatic_parts(vertices, faces)
    assert part.min() == 1
    assert all(is_disc(faces[part == k]) for k in range(1, part.max() + 1))
    surface = Surface.from_mesh(vertices, faces, "torus")
    assert uv_area(surface.corner_uv).min() > 0


def test_a_disc_stays_whole() -> None:
    board = Surface.plane(1, 1, 0.25)
    assert automatic_parts(board.vertices, board.faces).max() == 1


def test_uv_outside_the_outline_goes_to_the_nearest_point() -> None:
    lookup = ChartLookup(np.array([[[0.2, 0.2], [0.8, 0.2], [0.5, 0.8]]]), np.array([1]))
    face, barycentric = lookup(np.array([1]), np.array([[0.5, 0.0]]))
    assert face[0] == 0
    np.testing.assert_allclose(barycentric, [[0.5, 0.5, 0]])


def test_unknown_part_is_refused() -> None:
    board = Surface.plane(1, 1, 0.5)
    with pytest.raises(InputError, match="part 2"):
        board.from_charts(np.array([2]), np.array([[0.5, 0.5]]))
