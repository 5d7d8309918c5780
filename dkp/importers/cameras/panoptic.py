"""Cameras of the Panoptic Studio: ``calibration_*.json``, world to camera, centimetres, OpenCV's lens."""

from __future__ import annotations

from pathlib import Path

from dkp.captures.arrays import image_size, intrinsic_matrix, shown
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.importers.cameras import parts
from dkp.importers.cameras.documents import read_json

_REQUIRED = ("name", "resolution", "K", "distCoef", "R", "t")


def read_panoptic_cameras(path: str | Path, unit: str = "cm") -> dict[str, Camera]:
    """Read the rig of a recording of the Panoptic Studio.

    Args:
        path: the file.
        unit: of its translations: "m", "cm" or "mm", or how many metres one is.

    Returns:
        Name -> camera, in the order of the file: float64, no batch dimension, metres.

    Raises:
        InputError: one sentence with file and key, what was found and what was expected.
    """
    path, metres = Path(path), parts.metres(unit)
    data = read_json(path, "a calibration of the Panoptic Studio")
    if "sensors" in data:
        raise InputError(
            f"{path} has sensors, as the Kinects' own kcalibration_*.json, expected the calibration_*.json of the same "
            "recording: it has their colour cameras, too (50_01 to 50_10)"
        )
    entries = data.get("cameras")
    if not isinstance(entries, list):
        raise InputError(f"{path}: cameras is {shown(entries)}, expected a list of cameras")
    cameras: dict[str, Camera] = {}
    for index, entry in enumerate(entries):
        where = f"{path}: cameras[{index}]"
        entry = parts.required(entry, _REQUIRED, where)
        camera = parts.make_camera(
            intrinsic_matrix(entry["K"], f"{where}.K"),
            parts.rotation(entry["R"], f"{where}.R"),
            parts.vector(entry["t"], 3, f"{where}.t") * metres,
            parts.coefficients(entry["distCoef"], f"{where}.distCoef"),
            image_size(entry["resolution"], f"{where}.resolution"),
        )
        parts.add_camera(cameras, parts.camera_name(entry["name"], f"{where}.name"), camera, path)
    return parts.at_least_two(cameras, path, "in its list")


def is_panoptic(path: Path, text: str) -> bool:
    """Whether a text is JSON with the keys of a calibration of the studio."""
    return text.startswith("{") and (('"cameras"' in text and '"distCoef"' in text) or '"M_world2sensor"' in text)
