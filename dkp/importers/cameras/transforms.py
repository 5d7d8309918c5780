"""Cameras of nerfstudio and instant-ngp: ``transforms.json``.

An entry of ``frames`` is a camera: what it lacks of ``fl_x fl_y cx cy w h k1 k2 k3 k4 p1 p2`` stands at the top of the
file. ``transform_matrix`` is from camera to world with the axes of OpenGL (y up, z backwards). Pixel centres are at
integer + 0.5, as in COLMAP, from which most such files come. The unit is whatever the program chose.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dkp.captures.arrays import image_size, number_array, shown
from dkp.captures.images import image_kind
from dkp.captures.rig import camera_arrays, camera_size
from dkp.errors import InputError
from dkp.files import write_text
from dkp.geometry import Camera
from dkp.importers.cameras import parts
from dkp.importers.cameras.documents import read_json
from dkp.importers.cameras.lens import plain_cameras
from dkp.importers.cameras.parts import NamedCamera

_AXES = np.diag([1.0, -1.0, -1.0])
_FOCAL = ("fl_x", "fl_y", "cx", "cy")
_MODELS = (None, "OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "RADIAL", "SIMPLE_RADIAL", "PERSPECTIVE")


def read_transforms(path: Path, metres: float) -> Iterator[NamedCamera]:
    """Read the rig of a ``transforms.json``, or of the one in a folder, with the names of its images."""
    path = path / "transforms.json" if path.is_dir() else path
    data = read_json(path, "a transforms.json")
    frames = data.get("frames")
    if not isinstance(frames, list):
        raise InputError(f"{path}: frames is {shown(frames)}, expected a list of cameras")
    wheres = [f"{path}: frames[{index}]" for index in range(len(frames))]
    for frame, where in zip(frames, wheres, strict=True):
        parts.required(frame, ("file_path", "transform_matrix"), where)
        if not isinstance(frame["file_path"], str):
            raise InputError(f"{where}.file_path is {shown(frame['file_path'])}, expected the path of an image")
    names = parts.image_names([frame["file_path"] for frame in frames], f"{path}: frames: file_path")
    top = {key: value for key, value in data.items() if key != "frames"}
    for name, frame, where in zip(names, frames, wheres, strict=True):
        yield name, _camera(_with_size({**top, **frame}, path.parent), where, metres)


def _with_size(values: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Add the size of the image to an entry of Blender, which gives an angle of view and says no size."""
    if "camera_angle_x" in values and not {"w", "h", "fl_x"} & values.keys():
        for ending in ("", ".png", ".jpg"):
            if (image := folder / f"{values['file_path']}{ending}").is_file():
                width, height, _ = image_kind(image)
                return {"w": width, "h": height, **values}
    return values


def _camera(values: Mapping[str, Any], where: str, metres: float) -> Camera:
    pose = parts.pose_matrix(values["transform_matrix"], f"{where}.transform_matrix")
    turn = _AXES @ pose[:3, :3].T
    model, fisheye = values.get("camera_model"), bool(values.get("is_fisheye"))
    if model == "OPENCV_FISHEYE":
        fisheye = True
    elif model not in _MODELS:
        raise InputError(f"{where}: camera_model is {shown(model)}, expected OPENCV, PINHOLE or OPENCV_FISHEYE")
    size = parts.UNKNOWN_SIZE
    if "w" in values or "h" in values:
        size = image_size([values.get("w"), values.get("h")], f"{where}: w, h")
    k1, k2, k3, k4, p1, p2 = (
        _number(values, key, where) if key in values else 0.0 for key in ("k1", "k2", "k3", "k4", "p1", "p2")
    )
    if k4 and not fisheye:
        raise InputError(f"{where}: k4 is {k4:g}, expected 0: only a fisheye has a fourth radial coefficient")
    lens = [k1, k2, k3, k4] if fisheye else [k1, k2, p1, p2, k3]
    return parts.make_camera(
        _intrinsics(values, size, where),
        turn,
        -turn @ pose[:3, 3] * metres,
        parts.coefficients(lens, where, fisheye),
        size,
        shift=0.0,
    )


def _intrinsics(values: Mapping[str, Any], size: tuple[int, int], where: str) -> np.ndarray:
    """Return (3, 3) [px]; a file of Blender has an angle of view in place of the focal length."""
    if "fl_x" not in values and "camera_angle_x" in values and size != parts.UNKNOWN_SIZE:
        focal = {}
        for axis, key in enumerate(key for key in ("camera_angle_x", "camera_angle_y") if key in values):
            angle = _number(values, key, where)
            if not 0 < angle < np.pi:
                raise InputError(f"{where}: {key} is {angle:g}, expected radians between 0 and pi")
            focal[_FOCAL[axis]] = size[axis] / 2 / np.tan(angle / 2)
        values = {**focal, "cx": size[0] / 2, "cy": size[1] / 2, **values}
    if "fl_y" not in values and "fl_x" in values:
        values = {"fl_y": values["fl_x"], **values}
    return parts.focal_matrix((_number(values, key, where) for key in _FOCAL), where)


def _number(values: Mapping[str, Any], key: str, where: str) -> float:
    if key not in values:
        raise InputError(f"{where} has no key {key!r}, expected {', '.join(_FOCAL)}, w and h, there or above frames")
    return float(number_array([values[key]], (1,), f"{where}: {key}")[0])


def is_transforms(path: Path, text: str) -> bool:
    """Whether a folder holds the file, or a text has its keys."""
    return (path / "transforms.json").is_file() or ('"frames"' in text and '"transform_matrix"' in text)


def write_transforms_cameras(path: str | Path, cameras: Mapping[str, Camera]) -> None:
    """Write a rig as a ``transforms.json``, in metres, with an image ``images/NAME.png`` for each camera.

    Raises:
        InputError: a lens or a skew that the format does not have, or the file cannot be written.
    """
    frames = []
    for name, camera in plain_cameras(cameras, "a transforms.json").items():
        values = camera_arrays(camera)
        pose = np.eye(4)
        pose[:3, :3] = values["rotation"].T @ _AXES
        pose[:3, 3] = -values["rotation"].T @ values["translation"]
        matrix, (width, height) = values["intrinsics"], camera_size(camera)
        if matrix[0, 1]:
            raise InputError(f"the camera {name!r} has the skew {matrix[0, 1]:g}, expected 0: transforms.json has none")
        lens = dict(zip(("k1", "k2", "p1", "p2", "k3"), values["distortion"].tolist(), strict=True))
        inner = {"fl_x": matrix[0, 0], "fl_y": matrix[1, 1], "cx": matrix[0, 2], "cy": matrix[1, 2]}
        frames.append(
            {"file_path": f"images/{name}.png", "w": width, "h": height, **inner, **lens}
            | {"transform_matrix": pose.tolist()}
        )
    write_text(path, json.dumps({"camera_model": "OPENCV", "frames": frames}, indent=1) + "\n")
