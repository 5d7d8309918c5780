"""Distances along surfaces against known ones, and the table's way to disk and back."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from dkp.surface import Surface, geodesics

from .conftest import random_points, sphere_mesh


def test_sphere_within_two_percent(sphere: Surface) -> None:
    points = np.random.default_rng(0).normal(size=(2, 5000, 3))
    points /= np.linalg.norm(points, axis=-1, keepdims=True)
    exact = np.arccos(np.clip((points[0] * points[1]).sum(-1), -1, 1))
    found = sphere.geodesic_distance(points[0], points[1])
    far = exact > 0.2
    assert np.abs(found / exact - 1)[far].mean() < 0.015
    assert np.abs(found / exact - 1)[far].max() < 0.05


def test_flat_surface_is_exact() -> None:
    board = Surface.plane(0.3, 0.2, 0.01)
    points = np.random.default_rng(0).uniform(0, 0.2, (2, 100, 3)) * [1, 1, 0]
    np.testing.assert_allclose(board.geodesic_distance(*points), np.linalg.norm(points[0] - points[1], axis=-1))


def test_heat_method_on_a_plane() -> None:
    board = Surface.plane(1.0, 1.0, 0.025)
    centre = int(board.nearest_vertex(np.array([0.5, 0.5, 0.0])))
    found = geodesics.HeatGeodesics(board.vertices, board.faces)(np.array([centre]))[0]
    exact = np.linalg.norm(board.vertices - board.vertices[centre], axis=1)
    far = exact > 0.1
    assert np.abs(found / np.maximum(exact, 1e-9) - 1)[far].mean() < 0.03


def test_no_rounding_to_vertices_near_zero(human: Surface) -> None:
    face, barycentric = random_points(human, 3000)
    points = human.coordinates(face, barycentric)
    step = np.random.default_rng(1).normal(0, 5e-4, points.shape)
    moved = points + step
    assert human.geodesic_distance(points, points).max() == 0
    excess = human.geodesic_distance(points, moved) - np.linalg.norm(step, axis=1)
    assert np.abs(excess).mean() < 5e-4


def test_human_distances(human: Surface) -> None:
    joints = human.joints
    between = lambda a, b: float(human.geodesic_distance(joints[a], joints[b]))  # noqa: E731
    assert 1.1 < between("left_wrist", "right_wrist") < 1.6
    assert 1.5 < between("left_heel", "head") < 2.0
    assert between("left_wrist", "left_hip") > 1.3 * np.linalg.norm(joints["left_wrist"] - joints["left_hip"])
    assert between("left_ankle", "right_ankle") > 1.5


def test_human_lies_between_the_chord_and_paths_along_edges(human: Surface) -> None:
    edges = np.concatenate([human.faces[:, [0, 1]], human.faces[:, [1, 2]], human.faces[:, [2, 0]]])
    length = np.linalg.norm(human.vertices[edges[:, 0]] - human.vertices[edges[:, 1]], axis=1)
    graph = coo_matrix((length, edges.T), (len(human.vertices),) * 2).tocsr()
    sources = np.random.default_rng(0).choice(len(human.vertices), 20, replace=False)
    along_edges = dijkstra(graph, directed=False, indices=sources)
    found = human.geodesic_distance(human.vertices[sources][:, None], human.vertices[None])
    chord = np.linalg.norm(human.vertices[sources][:, None] - human.vertices[None], axis=-1)
    assert (found >= chord - 1e-9).all()
    far = along_edges > 0.1
    ratio = found[far] / along_edges[far]
    assert (ratio < 1.02).mean() > 0.985
    assert 0.85 < ratio.mean() < 1.0


def test_symmetric_and_nearly_a_metric(human: Surface) -> None:
    a, b, c = np.random.default_rng(0).integers(0, len(human.vertices), (3, 20_000))
    at = human.vertices
    there, back = human.geodesic_distance(at[a], at[b]), human.geodesic_distance(at[b], at[a])
    np.testing.assert_allclose(there, back, atol=1e-6)
    detour = there + human.geodesic_distance(at[b], at[c])
    assert (human.geodesic_distance(at[a], at[c]) - detour).max() < 0.03
    mirrored = human.geodesic_distance(human.mirror_coordinates(at[a]), human.mirror_coordinates(at[b]))
    np.testing.assert_allclose(mirrored, there, atol=2e-3)


def test_landmarks_of_large_meshes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DKP_CACHE", str(tmp_path))
    monkeypatch.setattr(geodesics, "MAX_TABLE", 500)
    monkeypatch.setattr(geodesics, "MIN_LANDMARKS", 400)
    vertices, faces = sphere_mesh(4)
    surface = Surface.from_mesh(vertices, faces, "sphere")
    points = np.random.default_rng(0).normal(size=(2, 2000, 3))
    points /= np.linalg.norm(points, axis=-1, keepdims=True)
    exact = np.arccos(np.clip((points[0] * points[1]).sum(-1), -1, 1))
    found = surface.geodesic_distance(points[0], points[1])
    assert np.load(next(tmp_path.glob("*.npy"))).shape == (400, 400)
    assert np.abs(found - exact).mean() < 0.05


def test_table_is_kept_and_a_broken_one_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DKP_CACHE", str(tmp_path / "made" / "for it"))
    vertices, faces = sphere_mesh(2)
    first = geodesics.GeodesicTable.load(vertices, faces).excess(np.array(0), np.array(1))
    (path,) = (tmp_path / "made" / "for it").iterdir()
    monkeypatch.setattr(geodesics, "compute_excess", lambda *_: pytest.fail("computed again"))
    assert geodesics.GeodesicTable.load(vertices, faces).excess(np.array(0), np.array(1)) == first
    monkeypatch.undo()
    monkeypatch.setenv("DKP_CACHE", str(path.parent))
    path.write_bytes(path.read_bytes()[:50])
    assert geodesics.GeodesicTable.load(vertices, faces).excess(np.array(0), np.array(1)) == first
    assert np.load(path).shape == (66, 66)


def test_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DKP_CACHE", str(tmp_path / "file"))
    table = geodesics.GeodesicTable.load(*sphere_mesh(3))
    assert 2 + table.excess(np.array(0), np.array(1)) == pytest.approx(np.pi, rel=0.04)


def _load(folder: str) -> float:
    import os

    os.environ["DKP_CACHE"] = folder
    return float(geodesics.GeodesicTable.load(*sphere_mesh(3)).excess(np.array(0), np.array(1)))


def test_two_processes_at_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(_load, [str(tmp_path)] * 4, chunksize=1)
    assert len(set(found)) == 1
    assert len(list(tmp_path.iterdir())) == 1, "no temporary file may stay"


def test_cache_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DKP_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert geodesics.cache_folder() == tmp_path / "dkp"
    monkeypatch.setattr("sys.platform", "darwin")
    assert geodesics.cache_folder().parts[-3:] == ("Library", "Caches", "dkp")
    monkeypatch.setenv("DKP_CACHE", "/chosen")
    assert geodesics.cache_folder() == Path("/chosen")
