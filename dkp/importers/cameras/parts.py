"""The parts of a camera as the files of other programs have them, checked, and the camera made of them.

Every function takes ``where``, the file and key that a value came from, and raises `dkp.errors.InputError` with one
sentence that says where, what was found and what was expected.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from dkp.captures.arrays import number_array, rotation_matrix, shown
from dkp.captures.rig import METRES_PER_UNIT, camera_from_arrays
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.importers.cameras.lens import OpenCVCamera

NamedCamera = tuple[str, Camera]
OPENCV_TO_CENTRED = 0.5  # px, what is added to a coordinate of OpenCV, where the first pixel's centre is at 0
MATLAB_TO_CENTRED = -0.5  # px, of MATLAB, where it is at 1
UNKNOWN_SIZE = (0, 0)
"""Size of the images of a camera whose file does not say: that of its video or images is taken."""


def metres(unit: str) -> float:
    """Return how many metres one unit is.

    Args:
        unit: "m", "cm" or "mm"; or the number itself, for a file whose unit is whatever a reconstruction chose.
    """
    try:
        number = METRES_PER_UNIT.get(unit) or float(unit)
    except ValueError:
        number = 0.0
    if not 1e-9 < number < 1e9:
        raise InputError(f"unit is {shown(unit)}, expected m, cm, mm or a positive number of metres")
    return number


def required(table: Any, keys: Sequence[str], where: str) -> Mapping[str, Any]:
    """Return a table that has every one of some keys."""
    if not isinstance(table, Mapping):
        raise InputError(f"{where} is {shown(table)}, expected an object with {', '.join(keys)}")
    for key in keys:
        if table.get(key) is None:
            raise InputError(f"{where} has no key {key!r}, expected {', '.join(keys)}")
    return table


def vector(value: Any, count: int, where: str) -> np.ndarray:
    """Return (count,) numbers of a list, or of a matrix of one row or one column."""
    return number_array(_one_row(value), (count,), where)


def rotation(value: Any, where: str) -> np.ndarray:
    """Return the (3, 3) rotation of a matrix, or of a Rodrigues vector [rad]."""
    row = _one_row(value)
    if not isinstance(row, list) or len(row) != 3 or isinstance(row[0], list):
        return rotation_matrix(value, where)
    turn = number_array(row, (3,), where)
    if np.linalg.norm(turn) > 2 * np.pi:
        raise InputError(f"{where} is {shown(row)}, expected a Rodrigues vector in radians, of length up to 2 pi")
    return cv2.Rodrigues(turn)[0]


def pose_matrix(value: Any, where: str) -> np.ndarray:
    """Return the (4, 4) of a rotation and a translation, whose last row 0 0 0 1 may be left out."""
    rows = 3 if isinstance(value, list) and len(value) == 3 else 4
    matrix = number_array(value, (rows, 4), where)
    if rows == 4 and (matrix[3] != (0, 0, 0, 1)).any():
        likely = "" if matrix[:3, 3].any() else ": it looks transposed"
        raise InputError(f"{where} ends in the row {shown(matrix[3].tolist())}, expected [0, 0, 0, 1]{likely}")
    matrix[:3, :3] = rotation(matrix[:3, :3], where)
    return np.vstack([matrix[:3], [[0.0, 0.0, 0.0, 1.0]]])


def coefficients(value: Any, where: str, fisheye: bool = False) -> np.ndarray:
    """Return the coefficients of a lens in the order of OpenCV: (12,), or (4,) of a fisheye; all zero for none."""
    expected = "4 numbers k1 k2 k3 k4 of a fisheye" if fisheye else "4 or 5 numbers k1 k2 p1 p2 [k3], or 8 or 12"
    value = _one_row(value)
    if not isinstance(value, list) or len(value) in (1, 2, 3) or len(value) > 14:
        raise InputError(f"{where} is {shown(value)}, expected {expected}")
    numbers = number_array(value, (len(value),), where) if value else np.zeros(0)
    known = (0, 4) if fisheye else (0, 4, 5, 8, 12)
    most = max(count for count in known if count <= len(numbers))
    if np.any(numbers[most:]):
        raise InputError(f"{where} has {len(numbers)} coefficients, expected {expected}")
    return np.pad(numbers[:most], (0, (4 if fisheye else 12) - most))


def _one_row(value: Any) -> Any:
    """Return the list of a matrix of one row or one column, as OpenCV and MATLAB write vectors; others as they are."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list) and value and all(isinstance(row, list) for row in value):
        if len(value) == 1:
            return value[0]
        if all(len(row) == 1 for row in value):
            return [row[0] for row in value]
    return value


def make_camera(
    intrinsics: np.ndarray,
    rotation: np.ndarray,
    translation: np.ndarray,
    lens: np.ndarray,
    size: tuple[int, int] = UNKNOWN_SIZE,
    shift: float = OPENCV_TO_CENTRED,
) -> Camera:
    """Make the camera of checked parts.

    Args:
        intrinsics: (3, 3) [px].
        rotation: (3, 3), world to camera.
        translation: (3,) [m].
        lens: of `coefficients`.
        size: width and height [px].
        shift: what is added to the principal point [px], so that pixel centres lie at integer + 0.5.
    """
    moved = intrinsics + np.array([[0, 0, shift], [0, 0, shift], [0, 0, 0]])
    plain = len(lens) == 12 and not lens[5:].any()
    camera = camera_from_arrays(moved, rotation, translation, lens[:5] if plain else np.zeros(5), size)
    # A fisheye whose coefficients are all zero is a lens none the less: the equidistant one.
    return camera if plain else OpenCVCamera(camera, torch.as_tensor(lens))


def focal_matrix(values: Iterable[float], where: str) -> np.ndarray:
    """Return (3, 3) intrinsics [px] of fx, fy, cx and cy."""
    fx, fy, cx, cy = values
    if not (fx > 0 and fy > 0):
        raise InputError(f"{where} has the focal lengths {fx:g} and {fy:g}, expected both positive")
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def camera_name(given: Any, where: str) -> str:
    """Return a camera's name with which a capture can do: letters, digits and ``_ . + -``, others become ``_``."""
    if isinstance(given, int) and not isinstance(given, bool):
        given = f"cam_{given}"
    if not isinstance(given, str) or not given:
        raise InputError(f"{where} is {shown(given)}, expected a name")
    allowed = [c if c.isalnum() or c in "_.+-" else "_" for c in unicodedata.normalize("NFC", given)]
    return ("" if allowed[0].isalnum() or allowed[0] == "_" else "_") + "".join(allowed)


def image_names(files: Sequence[str], where: str) -> list[str]:
    """Return a camera's name for each image file of a rig: the file's own, its folder's, or both.

    The first of these that tells all files apart counts.
    """
    paths = [Path(file.replace("\\", "/")) for file in files]
    for file, path in zip(files, paths, strict=True):
        if not path.name:
            raise InputError(f"{where}: found {shown(file)}, expected the path of an image")
    ways = [
        [path.stem for path in paths],
        [path.parent.name for path in paths],
        ["_".join(path.with_suffix("").parts[-2:]) for path in paths],
        ["_".join(path.with_suffix("").parts) for path in paths],
    ]
    for names in ways:
        named = [camera_name(name, where) for name in names if name]
        if len({*named}) == len(files):
            return named
    raise InputError(f"{where} names an image twice, expected a file of its own for every camera")
