"""Cameras of Qualisys Track Manager: the XML of ``*.qca.txt`` files.

Checked on the demo of Pose2Sim 0.6.1: focal lengths and principal points are in 1/64 px, distances in millimetres, and
the radial and tangential coefficients are plain numbers (not in 1/64). ``r11 .. r33`` hold, row by row, a matrix A with
R = diag(1, -1, -1) A from world to camera, and x, y, z the camera's centre C, so t = -R C. The principal point
is one of the sensor, of which the video shows the part ``fov_video``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from dkp.captures.arrays import intrinsic_matrix, rotation_matrix
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.importers.cameras import parts
from dkp.importers.cameras.documents import read_xml
from dkp.importers.cameras.parts import NamedCamera

_SUBPIXELS = 64.0


def read_qualisys(path: Path, metres: float) -> Iterator[NamedCamera]:
    """Read the cameras of a ``.qca.txt`` file by their serials, in the order of the file."""
    root = read_xml(path, "a Qualisys calibration")
    for number, element in enumerate(root.iter("camera"), start=1):
        name = parts.camera_name(element.get("serial", f"cam_{number:02d}"), f"{path}: serial")
        yield name, _read_camera(element, f"{path}: {name}", metres)


def _read_camera(element: Element, where: str, metres: float) -> Camera:
    turn = np.array([[_number(element, "transform", f"r{i}{j}", where) for j in (1, 2, 3)] for i in (1, 2, 3)])
    rotation = rotation_matrix((np.diag([1.0, -1.0, -1.0]) @ turn).tolist(), f"{where}: transform")
    centre = np.array([_number(element, "transform", axis, where) for axis in "xyz"]) * metres
    fu, fv, cu, cv = (
        _number(element, "intrinsic", key, where) / _SUBPIXELS
        for key in ("focalLengthU", "focalLengthV", "centerPointU", "centerPointV")
    )
    # The format spells "tangental" without the i.
    names = ("radial", 1), ("radial", 2), ("tangental", 1), ("tangental", 2), ("radial", 3)
    lens = [_number(element, "intrinsic", f"{kind}Distortion{i}", where) for kind, i in names]
    left, top, right, bottom = (_number(element, "fov_video", key, where) for key in ("left", "top", "right", "bottom"))
    size = (round(right - left + 1), round(bottom - top + 1))
    if min(size) < 1:
        raise InputError(f"{where}: fov_video spans {size[0]}x{size[1]} pixels, expected a positive size")
    matrix = [[fu, 0, cu - left], [0, fv, cv - top], [0, 0, 1]]
    return parts.make_camera(
        intrinsic_matrix(matrix, f"{where}: intrinsic"),
        rotation,
        -rotation @ centre,
        parts.coefficients(lens, f"{where}: intrinsic"),
        size,
    )


def is_qualisys(path: Path, text: str) -> bool:
    """Whether a text is XML with the lens of Qualisys."""
    return text.startswith("<") and "focalLengthU" in text


def _number(element: Element, child: str, key: str, where: str) -> float:
    found = element.find(child)
    text = None if found is None else found.get(key)
    try:
        value = float(text) if text is not None else np.nan
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError(f"{where}: {child}: {key} is {text!r}, expected a number")
    return value
