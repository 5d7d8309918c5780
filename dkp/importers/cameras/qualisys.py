"""Cameras of Qualisys Track Manager: the XML of ``*.qca.txt`` files.

Checked on the demo of Pose2Sim 0.6.1: focal lengths and principal points are in 1/64 px, distances in millimetres, and
the radial and tangential coefficients are plain numbers (not in 1/64). ``r11 .. r33`` hold, row by row, a matrix A with
R = diag(1, -1, -1) A from world to camera, and x, y, z the camera's centre C, so t = -R C.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from dkp.captures.arrays import intrinsic_matrix, rotation_matrix
from dkp.captures.rig import camera_from_arrays
from dkp.errors import InputError
from dkp.geometry import Camera

_SUBPIXELS = 64.0
_LARGEST_FILE = 1_000_000  # bytes; a calibration of ten cameras has 12,000
_CENTRED = 0.5  # px: the file counts pixel centres from 0


def read_qualisys_cameras(path: str | Path) -> dict[str, Camera]:
    """Read the cameras of a Qualisys calibration.

    Args:
        path: a ``.qca.txt`` file.

    Returns:
        Serial -> camera, in the order of the file: float64, no batch dimension, metres.

    Raises:
        InputError: the file cannot be read, is no such XML, or lacks a value.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise InputError(f"{path} has {path.stat().st_size} bytes, expected a calibration of less than a megabyte")
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}), expected a Qualisys calibration") from error
    if re.search(r"<!\s*(DOCTYPE|ENTITY)", content, re.IGNORECASE):
        raise InputError(f"{path} declares a document type or entities, expected plain XML without them")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path} is not valid XML ({error}), expected a Qualisys calibration") from error
    cameras: dict[str, Camera] = {}
    for element in root.iter("camera"):
        name = element.get("serial", f"cam_{len(cameras) + 1:02d}")
        if name in cameras:
            raise InputError(f"{path} names the camera {name!r} twice, expected different serials")
        cameras[name] = _read_camera(element, f"{path}: {name}")
    if len(cameras) < 2:
        raise InputError(f"{path} has {len(cameras)} camera(s), expected at least two <camera> elements")
    return cameras


def _read_camera(element: ElementTree.Element, where: str) -> Camera:
    turn = np.array([[_number(element, "transform", f"r{i}{j}", where) for j in (1, 2, 3)] for i in (1, 2, 3)])
    rotation = rotation_matrix((np.diag([1.0, -1.0, -1.0]) @ turn).tolist(), f"{where}: transform")
    centre = np.array([_number(element, "transform", axis, where) for axis in "xyz"]) / 1000
    fu, fv, cu, cv = (
        _number(element, "intrinsic", key, where) / _SUBPIXELS
        for key in ("focalLengthU", "focalLengthV", "centerPointU", "centerPointV")
    )
    matrix = [[fu, 0, cu + _CENTRED], [0, fv, cv + _CENTRED], [0, 0, 1]]
    # The format spells "tangental" without the i.
    names = ("radial", 1), ("radial", 2), ("tangental", 1), ("tangental", 2), ("radial", 3)
    distortion = np.array([_number(element, "intrinsic", f"{kind}Distortion{i}", where) for kind, i in names])
    left, top, right, bottom = (_number(element, "fov_video", key, where) for key in ("left", "top", "right", "bottom"))
    size = (round(right - left + 1), round(bottom - top + 1))
    if min(size) < 1:
        raise InputError(f"{where}: fov_video spans {size[0]}x{size[1]} pixels, expected a positive size")
    return camera_from_arrays(
        intrinsic_matrix(matrix, f"{where}: intrinsic"), rotation, -rotation @ centre, distortion, size
    )


def _number(element: ElementTree.Element, child: str, key: str, where: str) -> float:
    found = element.find(child)
    text = None if found is None else found.get(key)
    try:
        value = float(text) if text is not None else np.nan
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError(f"{where}: {child}: {key} is {text!r}, expected a number")
    return value
