"""Cameras of Human3.6M: its own ``metadata.xml``, and the JSON that is made of it; world to camera, millimetres.

In the JSON, ``intrinsics`` has a camera's ``calibration_matrix`` and ``distortion`` (k1 k2 p1 p2 k3), ``extrinsics``
its ``R`` and ``t`` for every subject. In the XML, ``w0`` is 300 numbers: for subject s and camera c (both from 0) three
Euler angles and the camera's centre from 6 (11 c + s), with R = Rx Ry Rz from world to camera; and
fx fy cx cy k1 k2 k3 p1 p2 from 264 + 9 c. Neither says how large images are, nor where its pixels begin: they are taken
as OpenCV has them.
"""

from __future__ import annotations

import re
from pathlib import Path

from scipy.spatial.transform import Rotation

from dkp.captures.arrays import intrinsic_matrix, number_array, shown
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.importers.cameras import parts
from dkp.importers.cameras.documents import read_json, read_text, read_xml

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
SUBJECTS = 11


def read_human36m_cameras(path: str | Path, unit: str = "mm", subject: str | None = None) -> dict[str, Camera]:
    """Read the rig of one subject.

    Args:
        path: ``metadata.xml`` or a JSON file.
        unit: of the translations: "m", "cm" or "mm", or how many metres one is.
        subject: such as "S1"; None where the file has one only.

    Returns:
        Name -> camera: float64, no batch dimension, metres, image size zero.

    Raises:
        InputError: one sentence with file and key, what was found and what was expected.
    """
    path, metres = Path(path), parts.metres(unit)
    if read_text(path, "cameras of Human3.6M").lstrip().startswith("<"):
        return _from_xml(path, metres, subject)
    data = parts.required(read_json(path, "cameras of Human3.6M"), ("intrinsics", "extrinsics"), str(path))
    intrinsics, poses = (parts.required(data[key], (), f"{path}: {key}") for key in ("intrinsics", "extrinsics"))
    subject = _subject(subject, [str(key) for key in poses], path)
    cameras: dict[str, Camera] = {}
    for name, pose in parts.required(poses[subject], (), f"{path}: extrinsics: {subject}").items():
        where = f"{path}: extrinsics: {subject}: {name}"
        pose = parts.required(pose, ("R", "t"), where)
        inner = parts.required(intrinsics, (name,), f"{path}: intrinsics")[name]
        inner = parts.required(inner, ("calibration_matrix", "distortion"), f"{path}: intrinsics: {name}")
        key = f"{path}: intrinsics: {name}: calibration_matrix"
        camera = parts.make_camera(
            intrinsic_matrix(inner["calibration_matrix"], key),
            parts.rotation(pose["R"], f"{where}: R"),
            parts.vector(pose["t"], 3, f"{where}: t") * metres,
            parts.coefficients(inner["distortion"], f"{path}: intrinsics: {name}: distortion"),
        )
        parts.add_camera(cameras, parts.camera_name(name, where), camera, path)
    return parts.at_least_two(cameras, path, f"of {subject}")


def _from_xml(path: Path, metres: float, subject: str | None) -> dict[str, Camera]:
    found = read_xml(path, "the metadata of Human3.6M").find(".//w0")
    words = "" if found is None or found.text is None else found.text
    try:
        values = [float(value) for value in re.split(r"[\s,\[\]]+", words.strip(" []\n"))]
    except ValueError:
        raise InputError(f"{path}: w0 is {shown(words)}, expected 300 numbers") from None
    numbers = number_array(values, (300,), f"{path}: w0")
    subjects = [f"S{number + 1}" for number in range(SUBJECTS)]
    index = subjects.index(_subject(subject, subjects, path))
    cameras: dict[str, Camera] = {}
    for order, name in enumerate(CAMERAS):
        pose = numbers[6 * (SUBJECTS * order + index) :][:6]
        fx, fy, cx, cy, k1, k2, k3, p1, p2 = numbers[264 + 9 * order :][:9]
        rotation = Rotation.from_euler("XYZ", pose[:3]).as_matrix()
        cameras[name] = parts.make_camera(
            parts.focal_matrix([fx, fy, cx, cy], f"{path}: w0: camera {name}"),
            rotation,
            -rotation @ pose[3:] * metres,
            parts.coefficients([k1, k2, p1, p2, k3], f"{path}: w0: camera {name}"),
        )
    return cameras


def _subject(given: str | None, known: list[str], path: Path) -> str:
    if given is None and len(known) == 1:
        return known[0]
    if given not in known:
        found = "no subject is given" if given is None else f"subject is {given!r}"
        raise InputError(f"{path} has a rig a subject and {found}, expected one of {', '.join(known) or 'none'}")
    return given


def is_human36m(path: Path, text: str) -> bool:
    """Whether a text is one of the two kinds."""
    return ("<w0>" in text) if text.startswith("<") else '"calibration_matrix"' in text and '"extrinsics"' in text
