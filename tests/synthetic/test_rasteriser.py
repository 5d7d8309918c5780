"""The z-buffer against a slow ray caster."""

import numpy as np
import pytest

from dkp.synthetic.rasteriser import interpolate, rasterise, vertex_normals


def icosphere(levels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """A unit sphere, faces oriented outwards."""
    golden = (1 + 5**0.5) / 2
    vertices = [
        [-1, golden, 0], [1, golden, 0], [-1, -golden, 0], [1, -golden, 0], [0, -1, golden], [0, 1, golden],
        [0, -1, -golden], [0, 1, -golden], [golden, 0, -1], [golden, 0, 1], [-golden, 0, -1], [-golden, 0, 1],
    ]  # fmt: skip
    faces = [
        [0, 11, 5], [0, 5, 1], [0, 1, 7], [0, 7, 10], [0, 10, 11], [1, 5, 9], [5, 11, 4], [11, 10, 2], [10, 7, 6],
        [7, 1, 8], [3, 9, 4], [3, 4, 2], [3, 2, 6], [3, 6, 8], [3, 8, 9], [4, 9, 5], [2, 4, 11], [6, 2, 10],
        [8, 6, 7], [9, 8, 1],
    ]  # fmt: skip
    points = [np.array(v, float) for v in vertices]
    for _ in range(levels):
        middle: dict[tuple[int, int], int] = {}

        def between(i: int, j: int, middle: dict[tuple[int, int], int] = middle) -> int:
            key = (min(i, j), max(i, j))
            if key not in middle:
                middle[key] = len(points)
                points.append((points[i] + points[j]) / 2)
            return middle[key]

        finer = []
        for i, j, k in faces:
            a, b, c = between(i, j), between(j, k), between(k, i)
            finer += [[i, a, c], [a, j, b], [c, b, k], [a, b, c]]
        faces = finer
    array = np.array(points)
    return array / np.linalg.norm(array, axis=1, keepdims=True), np.array(faces)


def cast(vertices, faces, intrinsics, width, height):
    """Möller-Trumbore against every face: face, depth and the distance to the nearest edge in barycentric units."""
    face = np.full((height, width), -1)
    depth = np.full((height, width), np.inf)
    weights = np.zeros((height, width, 3))
    edge = np.full((height, width), np.inf)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    for r in range(height):
        for q in range(width):
            ray = np.linalg.solve(intrinsics, [q + 0.5, r + 0.5, 1.0])
            p = np.cross(ray, c - a)
            determinant = ((b - a) * p).sum(1)
            s = -a
            u = (s * p).sum(1) / determinant
            n = np.cross(s, b - a)
            v = (n @ ray) / determinant
            t = ((c - a) * n).sum(1) / determinant
            bary = np.stack([1 - u - v, u, v], 1)
            edge[r, q] = np.abs(bary[bary.min(1) > -0.05]).min(initial=np.inf)
            hit = np.flatnonzero((bary.min(1) >= 0) & (t > 1e-3))
            if len(hit):
                best = hit[np.argmin(t[hit])]
                face[r, q], depth[r, q], weights[r, q] = best, t[best], bary[best]
    return face, depth, weights, edge


@pytest.mark.parametrize(("skew", "turn"), [(0.0, 0.0), (3.0, 0.0), (0.0, 0.5)])
def test_agrees_with_a_ray_caster_on_overlapping_meshes(skew, turn):
    """Also in an image that is turned about its middle, as crops of cameras are that are held askew."""
    sphere, faces = icosphere(2)
    first = sphere * [0.9, 0.5, 0.7] + [0.1, 0.0, 3.0]
    second = sphere * 0.4 + [-0.5, 0.3, 2.2]
    vertices = np.concatenate([first, second])
    faces = np.concatenate([faces, faces + len(sphere)])
    intrinsics = np.array([[60.0, skew, 19.7], [0, 64.0, 20.4], [0, 0, 1]])
    cosine, sine, (x, y) = np.cos(turn), np.sin(turn), intrinsics[:2, 2]
    intrinsics = (
        np.array([[cosine, -sine, x - cosine * x + sine * y], [sine, cosine, y - sine * x - cosine * y], [0, 0, 1]])
        @ intrinsics
    )
    got = rasterise(vertices, faces, intrinsics, 41, 37)
    face, depth, weights, edge = cast(vertices, faces, intrinsics, 41, 37)
    clear = edge > 1e-6
    assert clear.mean() > 0.99
    assert (face >= 0).mean() > 0.3
    np.testing.assert_array_equal(got.face[clear], face[clear])
    seen = clear & (face >= 0)
    np.testing.assert_allclose(got.depth[seen], depth[seen], rtol=1e-9)
    np.testing.assert_allclose(got.barycentric[seen], weights[seen], atol=1e-8)
    assert np.isinf(got.depth[got.face < 0]).all()
    assert not got.barycentric[got.face < 0].any()


def test_culling_the_back_changes_nothing_on_a_closed_surface():
    vertices, faces = icosphere(3)
    vertices = vertices @ np.diag([0.4, 0.9, 0.3]) + [0.0, 0.1, 3.0]
    intrinsics = np.array([[90.0, 0, 32], [0, 90, 32], [0, 0, 1]])
    whole = rasterise(vertices, faces, intrinsics, 64, 64)
    front = rasterise(vertices, faces, intrinsics, 64, 64, cull_back=True)
    np.testing.assert_array_equal(whole.face, front.face)
    assert (whole.face >= 0).sum() > 100
    inverted = rasterise(vertices, faces[:, ::-1], intrinsics, 64, 64, cull_back=True)
    assert (inverted.depth[whole.face >= 0] > whole.depth[whole.face >= 0] + 1e-4).mean() > 0.9


def test_depth_and_point_of_a_slanted_triangle_are_perspective_correct():
    vertices = np.array([[-1.0, -1, 2], [1, -1, 6], [0, 1.5, 3]])
    faces = np.array([[0, 1, 2]])
    intrinsics = np.array([[40.0, 0, 32], [0, 40, 32], [0, 0, 1]])
    got = rasterise(vertices, faces, intrinsics, 64, 64)
    rows, columns = np.nonzero(got.face == 0)
    assert len(rows) > 100
    points = interpolate(vertices, faces, got.face[rows, columns], got.barycentric[rows, columns])
    pixels = points @ intrinsics.T
    np.testing.assert_allclose(pixels[:, 0] / pixels[:, 2], columns + 0.5, atol=1e-9)
    np.testing.assert_allclose(pixels[:, 1] / pixels[:, 2], rows + 0.5, atol=1e-9)
    np.testing.assert_allclose(points[:, 2], got.depth[rows, columns], atol=1e-9)


def test_neighbouring_triangles_leave_no_gap_at_shared_edges_through_pixel_centres():
    corner = np.array([[0.5, 0.5], [8.5, 0.5], [8.5, 8.5], [0.5, 8.5], [4.5, 4.5]])
    vertices = np.concatenate([corner, np.ones((5, 1))], 1)
    faces = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    got = rasterise(vertices, faces, np.eye(3), 10, 10)
    assert (got.face[0:9, 0:9] >= 0).all()
    assert (got.face[9] == -1).all()
    assert (got.face[:, 9] == -1).all()


def test_small_batches_of_candidates_give_the_same_picture(monkeypatch):
    vertices, faces = icosphere(2)
    vertices = vertices + np.array([0, 0, 2.5])
    intrinsics = np.array([[50.0, 0, 24], [0, 50, 24], [0, 0, 1]])
    whole = rasterise(vertices, faces, intrinsics, 48, 48)
    monkeypatch.setattr("dkp.synthetic.rasteriser.CANDIDATES", 50)
    pieces = rasterise(vertices, faces, intrinsics, 48, 48)
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_array_equal(one, other)


def test_nothing_in_view_and_faces_behind_the_camera():
    vertices, faces = icosphere(1)
    intrinsics = np.array([[50.0, 0, 8], [0, 50, 8], [0, 0, 1]])
    for shift in ([0, 0, -4.0], [50.0, 0, 4.0]):
        got = rasterise(vertices + shift, faces, intrinsics, 16, 16)
        assert (got.face == -1).all()


def test_vertex_normals_of_a_sphere_point_outwards():
    vertices, faces = icosphere(3)
    assert ((vertex_normals(vertices, faces) * vertices).sum(1) > 0.999).all()


@pytest.mark.parametrize("candidates", [1 << 21, 1])
def test_of_faces_in_the_same_place_the_first_is_reported(monkeypatch, candidates):
    monkeypatch.setattr("dkp.synthetic.rasteriser.CANDIDATES", candidates)
    vertices = np.array([[0.0, 0, 1], [8, 0, 1], [0, 8, 1]])
    got = rasterise(vertices, np.array([[0, 1, 2], [0, 1, 2], [0, 2, 1]]), np.eye(3), 8, 8)
    assert set(np.unique(got.face)) == {-1, 0}
