"""Reading meshes of common formats and refusing those no surface can be made of."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from dkp.errors import InputError
from dkp.surface import Surface
from dkp.surface.meshfile import check_mesh, read_mesh

from .conftest import sphere_mesh

VERTICES = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.0, 1.0, 0.5)]


def ply_header(kind: str) -> str:
    return (
        f"ply\nformat {kind} 1.0\ncomment made by a test\nelement vertex 4\nproperty float x\nproperty float y\n"
        "property float z\nproperty uchar red\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
    )


def test_obj_with_texture_indices_negative_numbers_and_quads(tmp_path: Path) -> None:
    path = tmp_path / "quad.obj"
    lines = [f"v {x} {y} {z}" for x, y, z in VERTICES]
    path.write_text("# comment\n" + "\n".join(lines) + "\nvt 0 0\nf 1/1 2/1 3/1 4/1\n")
    vertices, faces = read_mesh(path)
    np.testing.assert_allclose(vertices, VERTICES)
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    path.write_text("\n".join(lines) + "\nf -4 -3 -2\nf -4//1 -2//1 -1//1\n")
    assert read_mesh(path)[1].tolist() == [[0, 1, 2], [0, 2, 3]]
    assert len(Surface.load(path).faces) == 2


@pytest.mark.parametrize(("kind", "order"), [("binary_little_endian", "<"), ("binary_big_endian", ">"), ("ascii", "")])
def test_ply(tmp_path: Path, kind: str, order: str) -> None:
    path = tmp_path / "quad.ply"
    if order:
        body = b"".join(struct.pack(f"{order}fffB", *v, 200) for v in VERTICES) + struct.pack(
            f"{order}Biiii", 4, 0, 1, 2, 3
        )
    else:
        body = ("\n".join(f"{x} {y} {z} 200" for x, y, z in VERTICES) + "\n4 0 1 2 3\n").encode()
    path.write_bytes(ply_header(kind).encode() + body)
    vertices, faces = read_mesh(path)
    np.testing.assert_allclose(vertices, VERTICES)
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.stl", b"", r"ending in '.stl'"),
        ("a.obj", None, "no such file"),
        ("a.obj", b"v 0 0 zero\nf 1 1 1", "not a mesh"),
        ("a.obj", b"v 0 0 0\nf 1 1 " + 30 * b"9", "not a mesh"),
        ("a.obj", b"hello", "0 vertices and 0 faces"),
        ("a.ply", b"hello", "no PLY header"),
        ("a.ply", ply_header("binary_little_endian").encode() + b"\0" * 20, "not a mesh"),
        ("a.ply", ply_header("ascii").replace("format", "fromat").encode() + b"0 " * 30, "not a mesh"),
        ("a.ply", ply_header("ascii").replace("vertex_ind", "vertex_xnd").encode() + b"0 " * 30, "not a mesh"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement x 99999999999\nend_header\n", "an element has no properties"),
    ],
)
def test_files_that_are_no_meshes(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_mesh(path)


def test_meshes_no_surface_can_be_made_of() -> None:
    vertices, faces = sphere_mesh(1)
    check_mesh(vertices, faces, "sphere")
    turned = faces.copy()
    turned[0] = turned[0, ::-1]
    far = np.concatenate([faces, faces + len(vertices)])
    lost = vertices.copy()
    lost[3, 1] = np.nan
    for bad_vertices, bad_faces, message in (
        (vertices[:, :2], faces, "expected \\(V, 3\\)"),
        (vertices, faces.astype(float), "expected integers"),
        (vertices, faces[:0], "no faces"),
        (lost, faces, "not finite"),
        (vertices, faces + 1, "face indices 1 to 18"),
        (np.concatenate([vertices, vertices[:2]]), faces, "2 vertices that no face uses"),
        (vertices, np.concatenate([faces, [[0, 0, 1]]]), "uses a vertex twice"),
        (vertices, np.concatenate([faces, faces[:1]]), "more than two faces"),
        (vertices, turned, "wind differently"),
        (np.concatenate([vertices, vertices + 5]), far, "2 separate pieces"),
    ):
        with pytest.raises(InputError, match=message):
            check_mesh(bad_vertices, bad_faces, "sphere")
