"""Cameras of DANNCE and label3d: a ``*_params.mat`` for each, or ``params`` in a ``*dannce.mat``.

MATLAB's convention, row vectors: x_camera = X r + t and [x y 1] ~ [x_n y_n 1] K, so r and K are the transposes of the
usual ones; millimetres; the first pixel's centre at 1. ``RDistort`` is k1 k2 [k3], ``TDistort`` p1 p2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dkp.captures.arrays import intrinsic_matrix, number_array, shown
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.importers.cameras import parts
from dkp.importers.cameras.parts import NamedCamera
from dkp.importers.matfile import read_cells, read_mat

_REQUIRED = ("K", "RDistort", "TDistort", "r", "t")
_ONE_EACH = re.compile(r"(.+?)_?params\.mat", re.IGNORECASE)


def read_dannce(path: Path, metres: float) -> Iterator[NamedCamera]:
    """Read the rig of a project, with the names of its files or its ``camnames``.

    Args:
        path: the folder of the ``*_params.mat`` files, or one of them; or a ``*dannce.mat``.
        metres: per unit.
    """
    found: list[tuple[str, str, Any]] = [
        (name, str(file), read_mat(file, _REQUIRED)) for name, file in _files(path).items()
    ]
    if not found:
        given, names = read_cells(path, "params"), read_cells(path, "camnames")
        if len(names) != len(given):
            raise InputError(f"{path}: camnames has {len(names)} names, expected {len(given)} as params has cameras")
        for index, (name, values) in enumerate(zip(names, given, strict=True)):
            name = parts.camera_name(name, f"{path}: camnames[{index}]")
            found.append((name, f"{path}: params[{index}]", values))
    for name, where, values in found:
        yield name, _camera(parts.required(values, _REQUIRED, where), where, metres)


def _camera(values: Mapping[str, Any], where: str, metres: float) -> Camera:
    radial, tangential = (np.ravel(values[key]).tolist() for key in ("RDistort", "TDistort"))
    if len(radial) not in (2, 3) or len(tangential) != 2:
        raise InputError(
            f"{where}: RDistort and TDistort are {shown(radial)} and {shown(tangential)}, expected k1 k2 [k3] and p1 p2"
        )
    return parts.make_camera(
        intrinsic_matrix(number_array(values["K"], (3, 3), f"{where}: K").T, f"{where}: K transposed"),
        parts.rotation(number_array(values["r"], (3, 3), f"{where}: r").T, f"{where}: r"),
        parts.vector(values["t"], 3, f"{where}: t") * metres,
        parts.coefficients([*radial[:2], *tangential, *radial[2:]], f"{where}: RDistort, TDistort"),
        shift=parts.MATLAB_TO_CENTRED,
    )


def _files(path: Path) -> dict[str, Path]:
    """Return the ``*_params.mat`` of a folder, in the order of their numbers; none for a file of another name."""
    if not path.is_dir() and not _ONE_EACH.fullmatch(path.name):
        return {}
    folder = path if path.is_dir() else path.parent
    found = {file: match[1] for file in folder.glob("*.mat") if (match := _ONE_EACH.fullmatch(file.name))}
    order = sorted(found, key=lambda file: [int(n) if n.isdigit() else n for n in re.split(r"(\d+)", file.name)])
    return {parts.camera_name(found[file], str(file)): file for file in order}


def is_dannce(path: Path, text: str) -> bool:
    """Whether a folder holds files of parameters, or a file is one of MATLAB's."""
    return path.suffix.lower() == ".mat" or (path.is_dir() and bool(_files(path)))
