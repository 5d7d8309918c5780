"""Cameras of the Panoptic Studio: ``calibration_*.json``, world to camera, centimetres, OpenCV's lens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dkp.captures.arrays import image_size, intrinsic_matrix, shown
from dkp.errors import InputError
from dkp.importers.cameras import parts
from dkp.importers.cameras.documents import read_json
from dkp.importers.cameras.parts import NamedCamera

_REQUIRED = ("name", "resolution", "K", "distCoef", "R", "t")


def read_panoptic(path: Path, metres: float) -> Iterator[NamedCamera]:
    """Read the rig of a recording of the Panoptic Studio, in the order of the file."""
    data = read_json(path, "a calibration of the Panoptic Studio")
    if "sensors" in data:
        raise InputError(
            f"{path} has sensors, as the Kinects' own kcalibration_*.json, expected the calibration_*.json of the same "
            "recording: it has their colour cameras, too (50_01 to 50_10)"
        )
    entries = data.get("cameras")
    if not isinstance(entries, list):
        raise InputError(f"{path}: cameras is {shown(entries)}, expected a list of cameras")
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
        yield parts.camera_name(entry["name"], f"{where}.name"), camera


def is_panoptic(path: Path, text: str) -> bool:
    """Whether a text is JSON with the keys of a calibration of the studio."""
    return text.startswith("{") and (('"cameras"' in text and '"distCoef"' in text) or '"M_world2sensor"' in text)
