"""Arrays and names as they stand in a capture's JSON and TOML files, checked one by one.

Every function takes ``where``, the file and key that the value came from, and raises :class:`dkp.errors.InputError`
with one sentence that says where, what was found and what was expected.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dkp.errors import InputError

NAME = re.compile(r"\w[\w.+-]*")


def shown(value: Any, length: int = 60) -> str:
    """Return ``value`` as text short enough for an error message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= length else text[: length - 3] + "..."


def number_array(value: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Return ``value`` as a float64 array of the given shape, all entries finite.

    Args:
        value: nested lists of numbers, or an array.
        shape: the shape that is expected.
        where: file and key, for the error message.
    """
    expected = "x".join(str(n) for n in shape) + " finite numbers"
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"{where} is {shown(value)}, expected {expected}") from error
    if array.dtype.kind not in "iuf" or array.shape != shape:
        raise InputError(f"{where} is {shown(value)}, expected {expected}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError(f"{where} is {shown(value)}, expected {expected}")
    return array


def whole_number(value: Any, where: str, least: int | None = None) -> int:
    """Return ``value`` as an int; floats such as 640.0 count as whole."""
    expected = "a whole number" if least is None else f"a whole number of at least {least}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value != int(value):
        raise InputError(f"{where} is {shown(value)}, expected {expected}")
    if least is not None and value < least:
        raise InputError(f"{where} is {shown(value)}, expected {expected}")
    return int(value)


def image_size(value: Any, where: str) -> tuple[int, int]:
    """Return ``(width, height)`` px, both positive whole numbers."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise InputError(f"{where} is {shown(value)}, expected [width, height] in pixels")
    width, height = (whole_number(v, where, least=1) for v in value)
    return width, height


def text(value: Any, where: str, empty: bool = True) -> str:
    """Return ``value``, which must be a string (and not empty unless allowed)."""
    if not isinstance(value, str) or (not empty and not value):
        raise InputError(f"{where} is {shown(value)}, expected a string" + ("" if empty else " that is not empty"))
    return value


def name(value: Any, where: str) -> str:
    """Return ``value``, a name of a camera, frame or split that can also serve in a file name."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise InputError(
            f"{where} is {shown(value)}, expected a name of letters, digits and the characters _ . + - "
            "that starts with a letter, a digit or _"
        )
    return value


def known_keys(value: Any, where: str, required: Iterable[str], optional: Iterable[str] = ()) -> Mapping[str, Any]:
    """Return ``value``, a JSON object that has every required key and no key beyond the required and optional."""
    if not isinstance(value, Mapping):
        raise InputError(f"{where} is {shown(value)}, expected an object")
    required, optional = list(required), list(optional)
    for key in required:
        if key not in value:
            raise InputError(f"{where} has no key {key!r}, expected the keys {', '.join(required)}")
    for key in value:
        if key not in required and key not in optional:
            raise InputError(
                f"{where} has the unknown key {key!r}, expected keys among {', '.join(required + optional)}"
            )
    return value


def rotation_matrix(value: Any, where: str) -> np.ndarray:
    """Return a (3, 3) rotation, exactly orthonormal, from a matrix that is one within 1e-4."""
    matrix = number_array(value, (3, 3), where)
    error = np.abs(matrix @ matrix.T - np.eye(3)).max()
    determinant = float(np.linalg.det(matrix))
    if error > 1e-4 or abs(determinant - 1) > 3e-4:
        raise InputError(
            f"{where} has determinant {determinant:.4g} and rows that miss orthonormality by {error:.2g}, "
            "expected a rotation from world to camera (orthonormal, determinant +1)"
        )
    left, _, right = np.linalg.svd(matrix)
    return left @ right


def intrinsic_matrix(value: Any, where: str) -> np.ndarray:
    """Return a (3, 3) upper triangular camera matrix [px] with positive focal lengths and last row 0 0 1."""
    matrix = number_array(value, (3, 3), where)
    if matrix[1, 0] != 0 or (matrix[2] != (0, 0, 1)).any():
        raise InputError(f"{where} is {shown(matrix.tolist(), 120)}, expected [[fx, s, cx], [0, fy, cy], [0, 0, 1]]")
    if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise InputError(
            f"{where} has the focal lengths {matrix[0, 0]:g} and {matrix[1, 1]:g}, expected both positive "
            "(a mirrored image is declared by the view's crop)"
        )
    return matrix


def affine_matrix(value: Any, where: str) -> np.ndarray:
    """Return a (2, 3) affine map of pixels that can be inverted."""
    matrix = number_array(value, (2, 3), where)
    if abs(np.linalg.det(matrix[:, :2])) < 1e-12:
        raise InputError(f"{where} is {shown(matrix.tolist(), 120)}, expected an affine map that can be inverted")
    return matrix


def one_of(value: str, allowed: Iterable[str], where: str) -> str:
    """Return ``value``, which must be one of the allowed words."""
    allowed = list(allowed)
    if value not in allowed:
        raise InputError(f"{where} is {shown(value)}, expected one of {', '.join(allowed)}")
    return value


def between(value: float, where: str, low: float, high: float) -> float:
    """Return ``value``, which must be a number from ``low`` to ``high``."""
    if not low <= value <= high:
        raise InputError(f"{where} is {shown(value)}, expected a number from {low:g} to {high:g}")
    return value
