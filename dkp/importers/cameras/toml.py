"""Camera files of other programs: the TOML of Anipose, Pose2Sim and caliscope.

The three differ little: a table per camera (``[cam_1]``, ``[cameras.1]``) with ``size``, ``matrix``, ``distortions``,
``rotation`` (a Rodrigues vector or a matrix) and ``translation``, world to camera. They come from OpenCV, where the
centre of the first pixel is at 0; here it is at 0.5, so half a pixel is added to the principal point.
"""

import difflib
import logging
import tomllib
import unicodedata
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dkp.captures.arrays import image_size, intrinsic_matrix, number_array, rotation_matrix, shown
from dkp.captures.rig import camera_from_arrays, metres_per_unit
from dkp.errors import InputError
from dkp.geometry import Camera

logger = logging.getLogger(__name__)

OPENCV_TO_CENTRED = 0.5  # px, what is added to an OpenCV coordinate
_REQUIRED = ("size", "matrix", "rotation", "translation")
_READ = (*_REQUIRED, "name", "distortions", "fisheye", "ignore")
_OTHER_NAMES = {"distortions": ("dist", "dist_coeffs", "distcoef", "d"), "matrix": ("k", "intrinsics", "camera_matrix")}


def read_toml_cameras(path: str | Path, unit: str) -> dict[str, Camera]:
    """Read a rig from the TOML file that Anipose, Pose2Sim or caliscope writes.

    Args:
        path: the file.
        unit: unit of its translations: "m", "cm" or "mm".

    Returns:
        Camera name -> camera, in the order of the file: float64, no batch dimension, metres. The name is the table's
        ``name`` where it has one, and the table's own name else.

    Raises:
        InputError: one sentence with file, camera and key, what was found and what was expected.
    """
    path = Path(path)
    scale = metres_per_unit(unit, "unit")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}), expected a TOML file with one table per camera") from error
    cameras: dict[str, Camera] = {}
    for key, table in _camera_tables(data, path):
        if _flag(table, "ignore", f"{path}: {key}"):
            continue
        name = _camera_name(key, table.get("name"), f"{path}: {key}: name")
        if name in cameras:
            raise InputError(f"{path} names the camera {name!r} twice, expected different names")
        cameras[name] = _read_table(table, f"{path}: {key}", scale)
        if not table.get("distortions"):
            logger.warning("%s: %s has no distortions, so its lens is taken as free of distortion", path, key)
    if len(cameras) < 2:
        raise InputError(
            f"{path} has {len(cameras)} calibrated camera(s), expected at least two tables with a 'matrix'"
        )
    return cameras


def _camera_tables(data: dict[str, Any], path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the tables that hold a camera, with their names; ``[cameras.N]`` tables take part as "N"."""
    nested = data.get("cameras")
    if isinstance(nested, dict) and all(isinstance(table, dict) for table in nested.values()):
        data = nested
    tables = []
    for key, table in data.items():
        if not isinstance(table, dict):
            continue
        _no_misspelled_key(table, f"{path}: {key}")
        if "matrix" in table or {"rotation", "translation"} & table.keys():
            tables.append((key, table))
        elif "size" in table:
            logger.warning("%s: %s has no key 'matrix', so it is not calibrated and left out", path, key)
    return tables


def _no_misspelled_key(table: dict[str, Any], where: str) -> None:
    """Refuse a key that nobody reads where one that is read is missing and nearly has its name."""
    for key in table:
        if key in _READ:
            continue
        near = [name for name, others in _OTHER_NAMES.items() if key.lower() in others]
        near += difflib.get_close_matches(key.lower(), _READ, 1, cutoff=0.75)
        if near and near[0] not in table:
            raise InputError(f"{where} has the unknown key {key!r}, expected {near[0]!r}")


def _flag(table: dict[str, Any], key: str, where: str) -> bool:
    value = table.get(key, False)
    value = {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value
    if not isinstance(value, bool | int) or value not in (0, 1):
        raise InputError(f"{where}: {key} is {shown(value)}, expected true or false")
    return bool(value)


def _camera_name(key: str, given: Any, where: str) -> str:
    if given is None:
        given = f"cam_{key}" if key.isdigit() else key
    elif isinstance(given, int) and not isinstance(given, bool):
        given = f"cam_{given}"
    if not isinstance(given, str) or not given:
        raise InputError(f"{where} is {shown(given)}, expected a name")
    allowed = [c if c.isalnum() or c in "_.+-" else "_" for c in unicodedata.normalize("NFC", given)]
    return ("" if allowed[0].isalnum() or allowed[0] == "_" else "_") + "".join(allowed)


def _read_table(table: dict[str, Any], where: str, scale: float) -> Camera:
    for key in _REQUIRED:
        if table.get(key) is None:
            raise InputError(
                f"{where} has no key {key!r}, expected size, matrix, distortions, rotation and translation"
            )
    if _flag(table, "fisheye", where):
        raise InputError(
            f"{where}: fisheye is {shown(table['fisheye'])}, expected false: only the standard lens model is read"
        )
    intrinsics = intrinsic_matrix(table["matrix"], f"{where}: matrix")
    intrinsics[:2, 2] += OPENCV_TO_CENTRED
    return camera_from_arrays(
        intrinsics,
        _rotation(table["rotation"], f"{where}: rotation"),
        number_array(table["translation"], (3,), f"{where}: translation") * scale,
        _distortion(table.get("distortions", []), f"{where}: distortions"),
        image_size(table["size"], f"{where}: size"),
    )


def _rotation(value: Any, where: str) -> np.ndarray:
    if isinstance(value, list) and len(value) == 3 and not isinstance(value[0], list):
        vector = number_array(value, (3,), where)
        if np.linalg.norm(vector) > 2 * np.pi:
            raise InputError(f"{where} is {shown(value)}, expected a Rodrigues vector in radians, of length up to 2 pi")
        return cv2.Rodrigues(vector)[0]
    return rotation_matrix(value, where)


def _distortion(value: Any, where: str) -> np.ndarray:
    expected = "4 or 5 numbers k1 k2 p1 p2 [k3]"
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]  # some versions write the 1 x 5 matrix of OpenCV
    if not isinstance(value, list) or len(value) in (1, 2, 3) or len(value) > 14:
        raise InputError(f"{where} is {shown(value)}, expected {expected}")
    numbers = number_array(value, (len(value),), where) if value else np.zeros(0)
    if np.any(numbers[5:]):
        raise InputError(f"{where} has {len(numbers)} coefficients, expected {expected}")
    return np.concatenate([numbers[:5], np.zeros(max(0, 5 - len(numbers)))])
