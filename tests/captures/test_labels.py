"""Label files: exact, deterministic, and never unpickled."""

import re
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dkp.captures.labels import (
    DenseLabel,
    SparseLabel,
    normalised,
    read_dense_label,
    read_npz,
    read_sparse_label,
    write_dense_label,
    write_npz,
    write_sparse_label,
)
from dkp.errors import InputError


def random_label(seed: int, height: int = 6, width: int = 5) -> DenseLabel:
    rng = np.random.default_rng(seed)
    face = rng.integers(-1, 40, (height, width)).astype(np.int32)
    return DenseLabel(face, rng.dirichlet([0.5, 0.5, 0.5], (height, width)).astype(np.float32))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), height=st.integers(1, 9), width=st.integers(1, 9))
def test_dense_labels_come_back(tmp_path_factory, seed, height, width):
    path = tmp_path_factory.mktemp("label") / "a.npz"
    label = random_label(seed, height, width)
    write_dense_label(path, label)
    stored = read_dense_label(path)
    assert stored.problem(40, (width, height)) is None
    read = normalised(stored)
    np.testing.assert_array_equal(read.face, label.face)
    on = label.face >= 0
    assert (read.barycentric[~on] == 0).all()
    np.testing.assert_allclose(read.barycentric[on], label.barycentric[on], atol=6e-4)
    np.testing.assert_allclose(read.barycentric[on].sum(-1), 1, atol=1e-6)


def test_files_depend_on_content_alone_and_numpy_reads_them(tmp_path):
    label = random_label(0)
    write_dense_label(tmp_path / "a.npz", label)
    write_dense_label(tmp_path / "b.npz", label)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["face"], label.face)
        assert arrays["barycentric"].dtype == np.float16


def test_files_that_numpy_wrote_are_read(tmp_path):
    label = random_label(1)
    np.savez_compressed(tmp_path / "a.npz", face=label.face.astype(np.int64), barycentric=label.barycentric)
    np.testing.assert_array_equal(read_dense_label(tmp_path / "a.npz").face, label.face)


def test_foreground_is_what_is_known_to_be_on_the_surface():
    label = DenseLabel(np.array([[3, -1, 3]]), np.zeros((1, 3, 3)), np.array([[True, True, False]]))
    assert label.foreground.tolist() == [[True, False, False]]
    assert label.known_pixels.tolist() == [[True, True, False]]
    assert DenseLabel(label.face, label.barycentric).known_pixels.all()


THIRDS = np.full((2, 2, 3), 1 / 3, np.float32)


@pytest.mark.parametrize(
    ("face", "barycentric", "known", "match"),
    [
        ([[0, 1], [2, 10]], THIRDS, None, "has the face 10, expected 0 to 9 or -1"),
        ([[0, 1], [2, -2]], THIRDS, None, "has the face -2, expected 0 to 9 or -1"),
        ([[0, 1], [2, 3]], THIRDS * 1.01, None, "sum misses one by 0.01"),
        ([[0, 1], [2, 3]], np.add(THIRDS, [0.5, -0.5, 0]), None, "as low as -0.167"),
        ([[0, 1], [2, 3]], THIRDS * np.nan, None, "expected three weights"),
        ([[0, 1, 1], [2, 3, 3]], THIRDS, None, "has shape .2, 3., expected .2, 2. as the image"),
        ([[0, 1], [2, 3]], THIRDS[..., :2], None, "barycentric coordinates of shape .2, 2, 2."),
        ([[0, 1], [2, 3]], THIRDS, np.ones(3, bool), "known of shape .3,."),
    ],
)
def test_labels_off_the_surface_are_found(face, barycentric, known, match):
    problem = DenseLabel(np.array(face, np.int32), barycentric, known).problem(10, (2, 2))
    assert re.search(match, problem)
    assert DenseLabel(np.array([[9, -1], [0, 1]]), THIRDS).problem(10, (2, 2)) is None


def test_bad_weights_off_the_surface_do_not_matter():
    barycentric = THIRDS.copy()
    barycentric[0, 0] = np.nan
    assert DenseLabel(np.array([[-1, 0], [0, 0]]), barycentric).problem(1, (2, 2)) is None


@pytest.mark.parametrize(
    ("points", "match"),
    [
        (SparseLabel(np.ones((2, 2)), np.zeros(3, int), np.eye(3)), "expected .N, 2., .N,. and .N, 3."),
        (SparseLabel(np.full((3, 2), np.inf), np.zeros(3, int), np.eye(3)), "not finite"),
        (SparseLabel(np.full((3, 2), 9.0), np.zeros(3, int), np.eye(3)), "3 of 3 points outside the image"),
        (SparseLabel(np.ones((3, 2)), np.full(3, -1), np.eye(3)), "has the face -1, expected 0 to 9"),
        (SparseLabel(np.ones((3, 2)), np.zeros(3, int), 2 * np.eye(3)), "sum misses one by 1"),
    ],
)
def test_bad_points_are_found(points, match):
    assert re.search(match, points.problem(10, (8, 8)))
    assert SparseLabel(np.ones((3, 2)), np.zeros(3, int), np.eye(3)).problem(10, (8, 8)) is None


def test_sparse_labels_come_back(tmp_path):
    points = SparseLabel(np.array([[1.5, 2.25]]), np.array([7]), np.array([[0.2, 0.3, 0.5]]))
    write_sparse_label(tmp_path / "a.npz", points)
    read = read_sparse_label(tmp_path / "a.npz")
    assert read.pixels.tolist() == [[1.5, 2.25]]
    assert read.face.tolist() == [7]
    np.testing.assert_allclose(read.barycentric, points.barycentric, atol=1e-7)


def test_objects_are_not_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    np.savez(tmp_path / "a.npz", face=np.array([Trap()], dtype=object), barycentric=THIRDS)
    with pytest.raises(InputError, match=r"a.npz cannot be read"):
        read_dense_label(tmp_path / "a.npz")
    assert not (tmp_path / "opened").exists()


def test_missing_and_wrong_arrays_are_named(tmp_path):
    write_npz(tmp_path / "a.npz", {"face": np.zeros((2, 2), np.float32), "barycentric": THIRDS})
    with pytest.raises(InputError, match="array 'face' has type float32, expected whole numbers"):
        read_dense_label(tmp_path / "a.npz")
    write_npz(tmp_path / "a.npz", {"face": np.full((2, 2), 2**40), "barycentric": THIRDS})
    with pytest.raises(InputError, match=r"expected face indices"):
        read_dense_label(tmp_path / "a.npz")
    write_npz(tmp_path / "a.npz", {"face": np.zeros((2, 2), np.int32)})
    with pytest.raises(InputError, match="has no array 'barycentric'"):
        read_dense_label(tmp_path / "a.npz")
    write_npz(tmp_path / "a.npz", {"face": np.array(["a"])})
    with pytest.raises(InputError, match="expected numbers"):
        read_npz(tmp_path / "a.npz", ("face",))
    with pytest.raises(InputError, match=r"none.npz cannot be read"):
        read_npz(tmp_path / "none.npz", ("face",))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_damaged_files_are_input_errors_or_read(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("label") / "a.npz"
    write_dense_label(path, random_label(3))
    buffer = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        buffer[data.draw(st.integers(0, len(buffer) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(buffer[: data.draw(st.integers(0, len(buffer)))])
    sentence = ""
    try:
        read_dense_label(path).problem(40, (5, 6))
    except InputError as error:
        sentence = str(error)
    assert not sentence or str(path) in sentence
