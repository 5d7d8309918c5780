"""Camera files of other programs: the TOML of Anipose, Pose2Sim and caliscope.

The three differ little: a table per camera (``[cam_1]``, ``[cameras.1]``) with ``size``, ``matrix``, ``distortions``,
``rotation`` (a Rodrigues vector or a matrix) and ``translation``, world to camera. They come from OpenCV, where the
centre of the first pixel is at 0; here it is at 0.5, so half a pixel is added to the principal point.
"""

import difflib
import json
import logging
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scipy.spatial.transform import Rotation

from dkp.captures.arrays import image_size, intrinsic_matrix, shown
from dkp.captures.rig import camera_arrays, camera_size
from dkp.errors import InputError
from dkp.files import write_text
from dkp.geometry import Camera
from dkp.importers.cameras import parts
from dkp.importers.cameras.documents import read_text
from dkp.importers.cameras.lens import plain_cameras
from dkp.importers.cameras.parts import NamedCamera

logger = logging.getLogger(__name__)

_REQUIRED = ("size", "matrix", "rotation", "translation")
_READ = (*_REQUIRED, "name", "distortions", "fisheye", "ignore")
_OTHER_NAMES = {"distortions": ("dist", "dist_coeffs", "distcoef", "d"), "matrix": ("k", "intrinsics", "camera_matrix")}


def read_toml(path: Path, metres: float) -> Iterator[NamedCamera]:
    """Read the rig of Anipose, Pose2Sim or caliscope, in the order of the file.

    A camera is called by its table's ``name`` where it has one, and as the table else.
    """
    content = read_text(path, "a TOML file with one table per camera")
    try:
        data = tomllib.loads(content)
    except (ValueError, RecursionError) as error:  # also for a number of thousands of digits
        raise InputError(f"{path} cannot be read ({error}), expected a TOML file with one table per camera") from error
    for key, table in _camera_tables(data, path):
        if _flag(table, "ignore", f"{path}: {key}"):
            continue
        name = _camera_name(key, table.get("name"), f"{path}: {key}: name")
        yield name, _read_table(table, f"{path}: {key}", metres)
        if not table.get("distortions"):
            logger.warning("%s: %s has no distortions, so its lens is taken as free of distortion", path, key)


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
    return parts.camera_name(given, where)


def _read_table(table: dict[str, Any], where: str, metres: float) -> Camera:
    parts.required(table, _REQUIRED, where)
    fisheye = _flag(table, "fisheye", where)
    intrinsics = intrinsic_matrix(table["matrix"], f"{where}: matrix")
    return parts.make_camera(
        intrinsics,
        parts.rotation(table["rotation"], f"{where}: rotation"),
        parts.vector(table["translation"], 3, f"{where}: translation") * metres,
        parts.coefficients(table.get("distortions", []), f"{where}: distortions", fisheye),
        image_size(table["size"], f"{where}: size"),
    )


def is_toml(path: Path, text: str) -> bool:
    """Whether a text has a table with a translation, or a file's name says that it is TOML."""
    return path.suffix.lower() == ".toml" or ("translation" in text and "[cam" in text)


def write_toml_cameras(path: str | Path, cameras: Mapping[str, Camera]) -> None:
    """Write a rig as a TOML file that Anipose, Pose2Sim, caliscope and dkp read, in metres.

    Raises:
        InputError: a lens that the format does not have, or the file cannot be written.
    """
    tables = []
    for number, (name, camera) in enumerate(plain_cameras(cameras, "TOML").items()):
        values = camera_arrays(camera)
        values["intrinsics"][:2, 2] -= parts.OPENCV_TO_CENTRED
        entries = {
            "name": name,
            "size": list(camera_size(camera)),
            "matrix": values["intrinsics"].tolist(),
            "distortions": values["distortion"].tolist(),
            "rotation": Rotation.from_matrix(values["rotation"]).as_rotvec().tolist(),
            "translation": values["translation"].tolist(),
            "fisheye": False,
        }
        lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items()]
        tables.append("\n".join([f"[cam_{number}]", *lines, ""]))
    write_text(path, "\n".join(tables))
