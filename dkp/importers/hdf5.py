"""Numbers and names in HDF5 files; nothing is unpickled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from dkp.errors import InputError

_LARGEST_ARRAY = 2**31  # bytes once unpacked


@contextmanager
def open_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Open an HDF5 file to read; errors of the library inside the block become one sentence.

    Raises:
        InputError: the file, or what is read of it, is damaged.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # a damaged file raises many kinds of error
        raise InputError(f"{path} cannot be read ({' '.join(str(error).split())}), expected an HDF5 file") from error


def numbers(group: h5py.Group, name: str) -> np.ndarray:
    """Return a data set of numbers.

    Raises:
        InputError: it is not there, holds something else, or is too large.
    """
    found = dataset(group, name)
    if found.dtype.kind not in "biuf":
        raise InputError(f"{_where(group)}: {name} has type {found.dtype}, expected numbers")
    return np.asarray(found[()])


def words(group: h5py.Group, name: str) -> list[str]:
    """Return a list of words.

    Raises:
        InputError: it is not there, holds something else, or is too large.
    """
    found = dataset(group, name)
    if found.ndim != 1 or (found.dtype.kind != "S" and h5py.check_string_dtype(found.dtype) is None):
        raise InputError(f"{_where(group)}: {name} has type {found.dtype} and shape {found.shape}, expected words")
    return [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in found[()]]


def dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    """Return a data set.

    Raises:
        InputError: it is not there, or is too large.
    """
    found = group.get(name)
    if not isinstance(found, h5py.Dataset):
        kept = " ".join(", ".join(list(group)[:12]).split()) or "nothing"
        raise InputError(f"{_where(group)} has no data set {name!r} but {kept}, expected one")
    if found.size is None or found.size * max(found.dtype.itemsize, 1) > _LARGEST_ARRAY:
        raise InputError(f"{_where(group)}: {name} has shape {found.shape}, expected at most {_LARGEST_ARRAY} bytes")
    return found


def _where(group: h5py.Group) -> str:
    return f"{group.file.filename}{'' if group.name == '/' else ': ' + str(group.name)}"
