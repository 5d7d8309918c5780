"""Numbers in MATLAB's files, of version 5 and of 7.3 (HDF5); objects and functions are not read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from dkp.errors import InputError
from dkp.importers.hdf5 import dataset, numbers, open_hdf5

_LARGEST = 2**30  # bytes of a part of a file, once unpacked
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
    found = _version_5(path, names)
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
    found = _version_5(path, [name])[name]
    if not isinstance(found, np.ndarray) or found.dtype != object or found.dtype.names:
        raise InputError(f"{path}: {name} is {type(found).__name__}, expected a cell array")
    return [_cell(one, f"{path}: {name}") for one in found.ravel(order="F")]


def _cell(found: Any, where: str) -> Any:
    if isinstance(found, np.ndarray) and found.dtype.names and found.size == 1:
        values = {key: found.ravel()[0][key] for key in found.dtype.names}
        return {key: one for key, one in values.items() if isinstance(one, np.ndarray) and one.dtype.kind in "biuf"}
    if isinstance(found, np.ndarray) and found.dtype.kind == "U":
        return "".join(found.ravel().tolist())
    raise InputError(f"{where} has a cell of {type(found).__name__}, expected structures or words")


def _hdf5_cell(found: h5py.Group | h5py.Dataset, where: str) -> Any:
    if isinstance(found, h5py.Group):
        kept = [key for key, one in found.items() if isinstance(one, h5py.Dataset) and one.dtype.kind in "biuf"]
        return {key: numbers(found, key).T for key in kept}
    if found.dtype.kind == "u" and found.size <= _MOST_CELLS:
        return "".join(chr(code) for code in found[()].T.ravel(order="F").tolist())
    raise InputError(f"{where} has a cell of {found.dtype}, expected structures or words")


def _version_5(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Read arrays with SciPy, which makes functions and objects of a file opaque values and runs nothing."""
    try:
        _no_bomb(path)
        found = scipy.io.loadmat(path, variable_names=list(names), verify_compressed_data_integrity=True)
    except InputError:
        raise
    except Exception as error:  # a damaged file raises many kinds of error
        raise InputError(
            f"{path} cannot be read ({' '.join(str(error).split())}), expected a file of MATLAB"
        ) from error
    for name in names:
        if name not in found:
            raise InputError(f"{path} has no array {name!r}, expected {', '.join(names)}")
    return {name: found[name] for name in names}


def _no_bomb(path: Path) -> None:
    """Refuse a file of another version, or one whose packed parts unpack to more than a gigabyte each.

    The layout of version 5 is in MATLAB's document "MAT-File Format".
    """
    with path.open("rb") as file:
        head = file.read(128)
        if not head.startswith(b"MATLAB"):
            raise InputError(f"{path} begins with {head[:12]!r}, expected a file of MATLAB, of version 5 or later")
        order = ">" if head[126:128] == b"MI" else "<"
        while len(tag := file.read(8)) == 8:
            kind, size = struct.unpack(f"{order}II", tag)
            if kind != 15:  # not packed; small parts lie in their tag
                file.seek(0 if kind >> 16 else size, 1)
                continue
            unpack, total, left = zlib.decompressobj(), 0, size
            while left > 0 and (chunk := file.read(min(left, 2**16))):
                left -= len(chunk)
                while chunk:
                    total += len(unpack.decompress(chunk, 2**20))
                    chunk = unpack.unconsumed_tail
                    if total > _LARGEST:
                        raise InputError(f"{path} has a part that unpacks to more than {_LARGEST} bytes, expected less")
