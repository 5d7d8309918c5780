"""Cameras of Human3.6M: its own ``metadata.xml``, and JSON that is made of it; world to camera, millimetres.

In ``camera-parameters.json``, ``intrinsics`` has a camera's ``calibration_matrix`` and ``distortion`` (k1 k2 p1 p2 k3),
``extrinsics`` its ``R`` and ``t`` for every subject. In the XML, ``w0`` is 300 numbers: of subject s and camera c, both
from 0, three Euler angles and the camera's centre from 6 (11 c + s), with R = Rx Ry Rz from world to camera; and
fx fy cx cy k1 k2 k3 p1 p2 from 264 + 9 c. In ``Human36M_subject1_camera.json``, which pose estimators share, the
cameras "1" to "4" of one subject have ``R``, ``t``, ``f`` and ``c``, and no lens. None says how large images are, nor
where its pixels begin: they are taken as OpenCV has them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scipy.spatial.transform import Rotation

from dkp.captures.arrays import intrinsic_matrix, number_array, shown
from dkp.errors import InputError
from dkp.importers.cameras import parts
from dkp.importers.cameras.documents import read_json, read_text, read_xml
from dkp.importers.cameras.parts import NamedCamera

logger = logging.getLogger(__name__)

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
SUBJECTS = 11


def read_human36m(path: Path, metres: float, subject: str | None = None) -> Iterator[NamedCamera]:
    """Read the rig of one subject, such as "S1"; None where the file has one only."""
    if read_text(path, "cameras of Human3.6M").lstrip().startswith("<"):
        yield from _from_xml(path, metres, subject)
        return
    data: Mapping[str, Any] = read_json(path, "cameras of Human3.6M")
    if "1" in data:
        yield from _of_one_subject(data, path, metres, subject)
        return
    data = parts.required(data, ("intrinsics", "extrinsics"), str(path))
    intrinsics, poses = (parts.required(data[key], (), f"{path}: {key}") for key in ("intrinsics", "extrinsics"))
    subject = _subject(subject, [str(key) for key in poses], path)
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
        yield parts.camera_name(name, where), camera


def _of_one_subject(data: Mapping[str, Any], path: Path, metres: float, subject: str | None) -> Iterator[NamedCamera]:
    named = re.search(r"subject(\d+)", path.name)
    if subject is not None and (named is None or subject != f"S{named[1]}"):
        raise InputError(f"subject is {subject!r} but {path} has the rig of one, expected the file of that subject")
    for name, values in data.items():
        where = f"{path}: {name}"
        values = parts.required(values, ("R", "t", "f", "c"), where)
        inner = [*parts.vector(values["f"], 2, f"{where}: f"), *parts.vector(values["c"], 2, f"{where}: c")]
        camera = parts.make_camera(
            parts.focal_matrix(inner, f"{where}: f"),
            parts.rotation(values["R"], f"{where}: R"),
            parts.vector(values["t"], 3, f"{where}: t") * metres,
            parts.coefficients([], where),
        )
        yield f"ca_{name.zfill(2)}", camera
    logger.warning("%s has no lenses: images of Human3.6M have distortion, which is ignored so", path)


def _from_xml(path: Path, metres: float, subject: str | None) -> Iterator[NamedCamera]:
    found = read_xml(path, "the metadata of Human3.6M").find(".//w0")
    words = "" if found is None or found.text is None else found.text
    try:
        values = [float(value) for value in re.split(r"[\s,\[\]]+", words.strip(" []\n"))]
    except ValueError:
        raise InputError(f"{path}: w0 is {shown(words)}, expected 300 numbers") from None
    numbers = number_array(values, (300,), f"{path}: w0")
    subjects = [f"S{number + 1}" for number in range(SUBJECTS)]
    index = subjects.index(_subject(subject, subjects, path))
    for order, name in enumerate(CAMERAS):
        pose = numbers[6 * (SUBJECTS * order + index) :][:6]
        fx, fy, cx, cy, k1, k2, k3, p1, p2 = numbers[264 + 9 * order :][:9]
        rotation = Rotation.from_euler("XYZ", pose[:3]).as_matrix()
        camera = parts.make_camera(
            parts.focal_matrix([fx, fy, cx, cy], f"{path}: w0: camera {name}"),
            rotation,
            -rotation @ pose[3:] * metres,
            parts.coefficients([k1, k2, p1, p2, k3], f"{path}: w0: camera {name}"),
        )
        yield name, camera


def _subject(given: str | None, known: list[str], path: Path) -> str:
    if given is None and len(known) == 1:
        return known[0]
    if given not in known:
        found = "no subject is given" if given is None else f"subject is {given!r}"
        raise InputError(f"{path} has a rig a subject and {found}, expected one of {', '.join(known) or 'none'}")
    return given


def is_human36m(path: Path, text: str) -> bool:
    """Whether a text is one of the three kinds."""
    if text.startswith("<"):
        return "<w0>" in text
    one_subject = all(f'"{key}"' in text for key in ("1", "R", "t", "f", "c")) and text.startswith("{")
    return one_subject or ('"calibration_matrix"' in text and '"extrinsics"' in text)
