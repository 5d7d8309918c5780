"""Cameras of Kalibr: the chain in a ``camchain.yaml``.

``T_cn_cnm1`` takes the coordinates of the camera before to this one's, in metres; the first camera is the world.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dkp.captures.arrays import image_size, number_array, shown
from dkp.errors import InputError
from dkp.importers.cameras import parts
from dkp.importers.cameras.documents import read_yaml
from dkp.importers.cameras.parts import NamedCamera

_EXPECTED = "a camchain.yaml of Kalibr with the keys cam0, cam1, ..."
_REQUIRED = ("camera_model", "intrinsics", "distortion_model", "resolution")


def read_kalibr(path: Path, metres: float) -> Iterator[NamedCamera]:
    """Read the rig of a chain of cameras, "cam0", "cam1", ...; the world is the first camera's."""
    data = read_yaml(path, _EXPECTED)
    pose = np.eye(4)
    for number in range(len(data)):
        if (name := f"cam{number}") not in data:
            return
        where = f"{path}: {name}"
        table = parts.required(data[name], [*_REQUIRED, *(["T_cn_cnm1"] if number else [])], where)
        if number:
            pose = parts.pose_matrix(table["T_cn_cnm1"], f"{where}: T_cn_cnm1") @ pose
        if table["camera_model"] != "pinhole":
            raise InputError(
                f"{where}: camera_model is {shown(table['camera_model'])}, expected 'pinhole': calibrate with it"
            )
        inner = number_array(table["intrinsics"], (4,), f"{where}: intrinsics")
        camera = parts.make_camera(
            parts.focal_matrix(inner, f"{where}: intrinsics"),
            pose[:3, :3],
            pose[:3, 3] * metres,
            _lens(table["distortion_model"], table.get("distortion_coeffs", []), where),
            image_size(table["resolution"], f"{where}: resolution"),
        )
        yield name, camera


def _lens(model: Any, values: Any, where: str) -> np.ndarray:
    if model not in ("radtan", "equidistant", "none"):
        raise InputError(f"{where}: distortion_model is {shown(model)}, expected 'radtan', 'equidistant' or 'none'")
    return parts.coefficients([] if model == "none" else values, f"{where}: distortion_coeffs", model == "equidistant")


def is_kalibr(path: Path, text: str) -> bool:
    """Whether a text has the keys of a chain."""
    return "cam0:" in text and "distortion_model" in text
