"""Arrays and names as they stand in a capture's JSON and TOML files, checked one by one.

Every function takes ``where``, the file and key that the value came from, and raises :class:`dkp.errors.InputError`
with one sentence that says where, what was found and what was expected.
"""

import json
import re
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import numpy as np

from dkp.errors import InputError

NAME = re.compile(r"\w[\w.+-]*")
_LARGEST = 1e18  # no length, pixel or coefficient is larger, and powers of it up to the tenth are finite


def shown(value: Any, length: int = 60) -> str:
    """Return ``value`` as text short enough for an error message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= length else text[: length - 3] + "..."


def number_array(value: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Return ``value`` as a float64 array of a shape, all entries finite and no larger than computing allows."""
    expected = "x".join(str(n) for n in shape) + " finite numbers"
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"{where} is {shown(value)}, expected {expected}") from error
    if array.dtype.kind not in "iuf" or array.shape != shape:
        raise InputError(f"{where} is {shown(value)}, expected {expected}")
    entries: Iterable[Any] = value
    for _ in shape[1:]:
        entries = chain.from_iterable(entries)
    array = array.astype(np.float64)
    if not np.isfinite(array).all() or bool in map(type, entries):  # NumPy takes true for 1
        raise InputError(f"{where} is {shown(value)}, expected {expected}")
    if np.abs(array).max(initial=0.0) > _LARGEST:
        raise InputError(f"{where} is {shown(value)}, expected {expected} of at most {_LARGEST:g}")
    return array


def whole_number(value: Any, where: str, least: int | None = None) -> int:
    """Return ``value`` as an int; floats such as 640.0 count as whole."""
    expected = "a whole number" if least is None else f"a whole number of at least {least}"
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
        raise InputError(f"{where} is {shown(value)}, expected {expected}")
    if least is not None and value < least:
        raise InputError(f"{where} is {shown(value)}, expected {expected}")
    if abs(value) >= 2**63:
        raise InputError(f"{where} is {shown(value)}, expected {expected} that 64 bits hold")
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
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can spell half of a character, which no file's name and no terminal can hold
        raise InputError(f"{where} is {shown(value)}, expected text that UTF-8 can hold") from None
    return value


def name(value: Any, where: str) -> str:
    """Return ``value``, a name of a camera, frame or split that can also serve in a file name."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise InputError(
            f"{where} is {shown(value)}, expected a name of letters, digits and the characters _ . + - "
            "that starts with a letter, a digit or _"
        )
    return value


def parse_slice(value: str, where: str) -> tuple[int | None, int | None, int]:
    """Return start, stop and step of "start:stop:step", each of which may be left out."""
    parts = value.split(":") if value else [""]
    try:
        start, stop, step = ([int(part) if part.strip() else None for part in parts] + [None, None])[:3]
    except ValueError:
        raise InputError(f"{where} is {value!r}, expected start:stop:step with whole numbers") from None
    if value and len(parts) == 1:
        this = f"{start}:{(start or 0) + 1}"
        raise InputError(f"{where} is {value!r}, expected start:stop:step, such as {this} for this one")
    if len(parts) > 3 or (step is not None and step < 1):
        raise InputError(f"{where} is {value!r}, expected start:stop:step with a step of at least 1")
    return start, stop, 1 if step is None else step


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


def parse_json(content: str | bytes, where: str) -> Any:
    """Return what JSON holds, in which every object has every key once.

    Args:
        content: the text, or its bytes in UTF-8, 16 or 32.
        where: file or file and line, for the error message.
    """

    def keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        data = dict(pairs)
        if len(data) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InputError(f"{where} has the key {twice!r} twice, expected every key once")
        return data

    try:
        return json.loads(content, object_pairs_hook=keys_once)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON ({error}), expected a JSON object") from error


def rotation_matrix(value: Any, where: str) -> np.ndarray:
    """Return a (3, 3) rotation, exactly orthonormal, from a matrix that is one within 1e-4."""
    matrix = number_array(value, (3, 3), where)
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.abs(matrix @ matrix.T - np.eye(3)).max()
        determinant = float(np.linalg.det(matrix))
    if not (error <= 1e-4 and abs(determinant - 1) <= 3e-4):
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
        turned = matrix[0, 1] == 0 and (matrix[:, 2] == (0, 0, 1)).all()
        likely = ": it looks transposed" if turned else ""
        raise InputError(
            f"{where} is {shown(matrix.tolist(), 120)}, expected [[fx, s, cx], [0, fy, cy], [0, 0, 1]]{likely}"
        )
    if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise InputError(
            f"{where} has the focal lengths {matrix[0, 0]:g} and {matrix[1, 1]:g}, expected both positive "
            "(a mirrored image is declared by the view's crop)"
        )
    return matrix


def affine_matrix(value: Any, where: str) -> np.ndarray:
    """Return a (2, 3) affine map of pixels that can be inverted."""
    matrix = number_array(value, (2, 3), where)
    with np.errstate(over="ignore", invalid="ignore"):
        determinant = abs(np.linalg.det(matrix[:, :2]))
    if not 1e-12 <= determinant < np.inf:
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
