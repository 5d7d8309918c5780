"""Numbers in MATLAB's files, of version 5 and of 7.3 (HDF5); objects and functions are not read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dkp.errors import InputError
from dkp.importers.hdf5 import dataset, numbers, open_hdf5
from dkp.importers.mat5 import read_version_5

_MOST_CELLS = 10_000


def read_mat(path: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read arrays of numbers as MATLAB shows them.

    Raises:
        InputError: the file is damaged, or an array is missing or no array of numbers.
    """
    path = Path(path)
    if path.is_file() and h5py.is_hdf5(path):
        with open_hdf5(path) as file:
            return {name: numbers(file, name).T for name in names}
    found = read_version_5(path, names)
    for name in names:
        if not isinstance(found[name], np.ndarray) or found[name].dtype.kind not in "biuf":
            raise InputError(f"{path}: {name} is no array of numbers, expected one")
    return {name: found[name] for name in names}


def read_cells(path: str | Path, name: str) -> list[Any]:
    """Read a cell array of structures or words.

    Returns:
        For each cell its word, or a dict of its structure's arrays of numbers as MATLAB shows them.

    Raises:
        InputError: the file is damaged, or the array is missing or holds something else.
    """
    path = Path(path)
    if path.is_file() and h5py.is_hdf5(path):
        with open_hdf5(path) as file:
            links = dataset(file, name)
            if h5py.check_ref_dtype(links.dtype) is None or links.size > _MOST_CELLS:
                raise InputError(f"{path}: {name} has type {links.dtype}, expected a cell array")
            return [_hdf5_cell(file[link], f"{path}: {name}") for link in links[()].T.ravel()]
    found = read_version_5(path, [name])[name]
    if not isinstance(found, list):
        raise InputError(f"{path}: {name} is {type(found).__name__}, expected a cell array")
    return [_cell(one, f"{path}: {name}") for one in found]


def _cell(found: Any, where: str) -> Any:
    if isinstance(found, dict):
        return {key: one for key, one in found.items() if isinstance(one, np.ndarray)}
    if isinstance(found, str):
        return found
    raise InputError(f"{where} has a cell of {type(found).__name__}, expected structures or words")


def _hdf5_cell(found: h5py.Group | h5py.Dataset, where: str) -> Any:
    if isinstance(found, h5py.Group):
        kept = [key for key, one in found.items() if isinstance(one, h5py.Dataset) and one.dtype.kind in "biuf"]
        return {key: numbers(found, key).T for key in kept}
    if found.dtype.kind == "u" and found.size <= _MOST_CELLS:
        return "".join(chr(code) for code in found[()].T.ravel(order="F").tolist())
    raise InputError(f"{where} has a cell of {found.dtype}, expected structures or words")
