"""From the thinned left half of a body to the arrays of a symmetric asset: mirrored points, skin, charts, packing."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dkp.surface.bake.remesh import HalfMesh
from dkp.surface.charts import flatten_disc, is_disc

FLIP = np.array([-1.0, 1.0, 1.0])
"""The mirror image of a point."""


def other_side(name: str) -> str:
    """Return the name of the same bone or joint on the other side of the body."""
    if name.startswith("left_"):
        return "right_" + name.removeprefix("left_")
    if name.startswith("right_"):
        return "left_" + name.removeprefix("right_")
    return name


def mirrored_points(half: HalfMesh, points: np.ndarray) -> np.ndarray:
    """Points (V, 3) of the original mesh as those of the whole surface (W, 3), exactly symmetric."""
    left = half.transfer(points)
    left[half.seam, 0] = 0.0
    return left[half.source] * np.where(_on_left(half), 1.0, FLIP)


def mirrored_skin(half: HalfMesh, weights: np.ndarray, bone_mirror: np.ndarray) -> np.ndarray:
    """Skin weights (V, J) of the original mesh as those of the whole surface (W, J), exactly symmetric."""
    left = half.transfer(weights)
    left[half.seam] = 0.5 * (left + left[:, bone_mirror])[half.seam]
    return np.where(_on_left(half), left[half.source], left[half.source][:, bone_mirror])


def strongest_bones(skin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the four bones (W, 4) of the largest weights (W, J) of every vertex, and these weights."""
    best = np.argsort(-skin, axis=1, kind="stable")[:, :4]
    return best, np.take_along_axis(skin, best, axis=1)


def symmetric_charts(
    vertices: np.ndarray, half: HalfMesh, left: np.ndarray, mirror_part: np.ndarray, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Flatten the parts; right parts are the mirror images of left ones.

    Args:
        vertices: (W, 3) of the whole surface [m].
        half: the left half.
        left: part of every face of the left half.
        mirror_part: the part on the other side, indexed by part number; a part of the middle is its own.
        names: of the parts, from 1 on.

    Returns:
        Part (F,) and flattened corners (F, 3, 2) of every face.
    """
    part = np.concatenate([left, mirror_part[left]])
    corner_uv = np.zeros((len(half.faces), 3, 2))
    for number in np.unique(left):
        middle = mirror_part[number] == number
        chosen = np.flatnonzero((part if middle else left) == number)
        if not is_disc(half.faces[chosen]):
            raise RuntimeError(f"part {number} ({names[number - 1]}) is not a disc")
        uv = flatten_disc(vertices, half.faces[chosen])
        corner_uv[chosen] = uv
        if not middle:  # the mirrored faces have the same order with their corners reversed
            corner_uv[chosen + half.left_faces] = (uv * [-1.0, 1.0] + [1.0, 0.0])[:, ::-1]
    return part, corner_uv


def write_asset(
    path: Path,
    meta: dict[str, Any],
    half: HalfMesh,
    charts: tuple[np.ndarray, np.ndarray],
    *,
    vertices: np.ndarray,
    joints: np.ndarray,
    joint_bone: np.ndarray,
    parents: np.ndarray,
    heads: np.ndarray,
    skin: tuple[np.ndarray, np.ndarray],
    basis: np.ndarray,
) -> None:
    """Pack a body and write it as .npz.

    Args:
        path: the file.
        meta: names and source.
        half: gives faces and mirror map.
        charts: what `symmetric_charts` returned.
        vertices: (W, 3) [m].
        joints: (N, 3) named joints [m].
        joint_bone: (N,) the bones that carry them.
        parents: (J,) parent of every bone.
        heads: (J, 3) [m].
        skin: four bones (W, 4) and their weights (W, 4) of every vertex.
        basis: (S, W + J + N, 3) directions of the shape space [m].
    """
    part, corner_uv = charts
    bones, weights = skin
    largest = np.abs(basis).max()
    np.savez_compressed(
        path,
        meta=np.array(json.dumps(meta)),
        vertices=vertices.astype(np.float32),
        faces=half.faces.astype(np.int16 if len(vertices) < 32768 else np.int32),
        face_part=part.astype(np.uint8),
        corner_uv=np.round(corner_uv * 65535).astype(np.uint16),
        mirror=half.mirror.astype(np.int32),
        joints=joints.astype(np.float32),
        joint_bone=joint_bone.astype(np.int16),
        bone_parents=parents.astype(np.int16),
        bone_heads=heads.astype(np.float32),
        skin_bones=bones.astype(np.uint8),
        skin_weights=weights.astype(np.float16),
        shape_basis=np.round(basis / largest * 32767).astype(np.int16),
        shape_scale=np.array(largest / 32767, dtype=np.float32),
    )
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def _on_left(half: HalfMesh) -> np.ndarray:
    return (np.arange(len(half.source)) < len(half.seam))[:, None]
