"""Cameras of EasyMocap: two files that OpenCV writes, ``intri.yml`` and ``extri.yml``.

``K_NAME``, ``dist_NAME`` (or ``D_NAME``), ``H_NAME`` and ``W_NAME`` in the first, ``Rot_NAME`` (a matrix) or ``R_NAME``
(a Rodrigues vector) and ``T_NAME`` in the second; world to camera, metres.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dkp.captures.arrays import image_size, intrinsic_matrix, number_array, shown
from dkp.errors import InputError
from dkp.importers.cameras import parts
from dkp.importers.cameras.documents import read_yaml
from dkp.importers.cameras.parts import NamedCamera

FILES = ("intri.yml", "extri.yml")
_EXPECTED = "a file of OpenCV with K_NAME, dist_NAME, Rot_NAME or R_NAME, and T_NAME"


def read_opencv(path: Path, metres: float) -> Iterator[NamedCamera]:
    """Read the rig of an ``intri.yml`` and an ``extri.yml``, in the order of the file's ``names``.

    Args:
        path: their folder, or one of the two; or one file that holds the keys of both.
        metres: per unit.
    """
    folder = path if path.is_dir() else path.parent
    both = path.is_dir() or path.name in FILES
    files = [folder / name for name in FILES] if both else [path]
    data: dict[str, Any] = {}
    for file in files:
        data |= read_yaml(file, _EXPECTED)
    intrinsics, extrinsics = files[0], files[-1]
    names = [key.removeprefix("K_") for key in data if isinstance(key, str) and key.startswith("K_")]
    listed = data.get("names")
    if isinstance(listed, list) and {*map(str, listed)} <= {*names}:
        names = [str(name) for name in listed]
    for name in names:
        turn = next((key for key in (f"Rot_{name}", f"R_{name}") if key in data), f"Rot_{name}")
        lens = next((key for key in (f"dist_{name}", f"D_{name}") if key in data), f"dist_{name}")
        parts.required(data, [lens], str(intrinsics))
        parts.required(data, [turn, f"T_{name}"], str(extrinsics))
        size = parts.UNKNOWN_SIZE
        if f"W_{name}" in data or f"H_{name}" in data:
            size = image_size([data.get(f"W_{name}"), data.get(f"H_{name}")], f"{intrinsics}: W_{name}, H_{name}")
        camera = parts.make_camera(
            intrinsic_matrix(_matrix(data[f"K_{name}"], f"{intrinsics}: K_{name}"), f"{intrinsics}: K_{name}"),
            parts.rotation(_matrix(data[turn], f"{extrinsics}: {turn}"), f"{extrinsics}: {turn}"),
            parts.vector(_matrix(data[f"T_{name}"], f"{extrinsics}: T_{name}"), 3, f"{extrinsics}: T_{name}") * metres,
            parts.coefficients(_matrix(data[lens], f"{intrinsics}: {lens}"), f"{intrinsics}: {lens}"),
            size,
        )
        yield parts.camera_name(name, f"{intrinsics}: names"), camera


def _matrix(value: Any, where: str) -> np.ndarray:
    """Return the array (rows, cols) of a matrix as OpenCV writes it."""
    keys = ("rows", "cols", "data")
    value = parts.required(value, keys, where)
    rows, columns, data = (value[key] for key in keys)
    if not all(type(n) is int and 1 <= n <= 100 for n in (rows, columns)) or not isinstance(data, list):
        raise InputError(f"{where} has rows {shown(rows)} and cols {shown(columns)}, expected a matrix with its data")
    return number_array(data, (rows * columns,), f"{where}: data").reshape(rows, columns)


def is_opencv(path: Path, text: str) -> bool:
    """Whether a folder holds the two files, or a text has their keys."""
    return (path / FILES[0]).is_file() or ("opencv-matrix" in text and "K_" in text) or path.name in FILES
