"""The cameras of a capture's JSON files: an object of plain lists to a :class:`dkp.geometry.Camera` and back."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from dkp.captures.arrays import image_size, intrinsic_matrix, known_keys, number_array, rotation_matrix, shown
from dkp.errors import InputError
from dkp.geometry import Camera

METRES_PER_UNIT = {"m": 1.0, "cm": 0.01, "mm": 0.001}
OVERRIDE_KEYS = ("intrinsics", "distortion", "rotation", "translation")


def metres_per_unit(unit: Any, where: str) -> float:
    """Return how many metres one unit of length is.

    Args:
        unit: "m", "cm" or "mm".
        where: file and key, for the error message.
    """
    if not isinstance(unit, str) or unit not in METRES_PER_UNIT:
        raise InputError(f"{where} is {shown(unit)}, expected one of {', '.join(METRES_PER_UNIT)}")
    return METRES_PER_UNIT[unit]


def camera_from_arrays(
    intrinsics: np.ndarray, rotation: np.ndarray, translation: np.ndarray, distortion: np.ndarray, size: tuple[int, int]
) -> Camera:
    """Build a float64 camera from NumPy arrays (3, 3) [px], (3, 3), (3,) [m], (5,) and (width, height) [px]."""
    return Camera.create(
        torch.as_tensor(intrinsics, dtype=torch.float64),
        rotation=torch.as_tensor(rotation, dtype=torch.float64),
        translation=torch.as_tensor(translation, dtype=torch.float64),
        distortion=torch.as_tensor(distortion, dtype=torch.float64),
        image_size=torch.as_tensor(size, dtype=torch.float64),
    )


def read_camera(entry: Any, where: str, unit: float) -> Camera:
    """Read one entry of ``cameras`` in capture.json.

    Args:
        entry: the JSON object, without its name.
        where: file and key, for error messages.
        unit: metres per unit of the capture.

    Returns:
        The camera: float64, no batch dimension, metres.
    """
    known_keys(entry, where, ("size", "intrinsics", "rotation", "translation"), ("name", "distortion"))
    return camera_from_arrays(
        intrinsic_matrix(entry["intrinsics"], f"{where}: intrinsics"),
        rotation_matrix(entry["rotation"], f"{where}: rotation"),
        number_array(entry["translation"], (3,), f"{where}: translation") * unit,
        number_array(entry.get("distortion", [0.0] * 5), (5,), f"{where}: distortion"),
        image_size(entry["size"], f"{where}: size"),
    )


def read_override(entry: Any, where: str) -> dict[str, list]:
    """Check the ``override`` of a view: the camera fields that differ from the rig's in this one frame."""
    known_keys(entry, where, (), OVERRIDE_KEYS)
    checks: dict[str, Callable[..., np.ndarray]] = {
        "intrinsics": intrinsic_matrix,
        "rotation": rotation_matrix,
        "translation": partial(number_array, shape=(3,)),
        "distortion": partial(number_array, shape=(5,)),
    }
    return {key: check(entry[key], where=f"{where}: {key}").tolist() for key, check in checks.items() if key in entry}


def overridden(camera: Camera, override: Mapping[str, list], unit: float) -> Camera:
    """Return ``camera`` with the fields of a checked ``override`` in place of its own (``unit``: metres per unit)."""
    fields = camera_arrays(camera)
    fields.update({key: np.asarray(value, np.float64) for key, value in override.items()})
    if "translation" in override:
        fields["translation"] = fields["translation"] * unit
    return camera_from_arrays(**fields, size=camera_size(camera))


def camera_arrays(camera: Camera) -> dict[str, np.ndarray]:
    """Return the camera's intrinsics [px], distortion, rotation and translation [m] as float64 arrays."""
    return {key: getattr(camera, key).detach().cpu().numpy().astype(np.float64) for key in OVERRIDE_KEYS}


def camera_size(camera: Camera) -> tuple[int, int]:
    """Return the camera's image (width, height) [px]."""
    width, height = (round(float(v)) for v in camera.image_size.reshape(2))
    return width, height


def override_entry(camera: Camera, unit: float) -> dict[str, list]:
    """Return the JSON object of a view's ``override`` for a camera in metres."""
    fields = camera_arrays(camera)
    fields["translation"] = fields["translation"] / unit
    return {key: array.tolist() for key, array in fields.items()}
