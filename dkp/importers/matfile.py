"""Numbers in MATLAB's files, of version 5 and of 7.3 (HDF5); objects and functions are not read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from dkp.errors import InputError
from dkp.importers.hdf5 import numbers, open_hdf5


def read_mat(path: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read arrays of numbers as MATLAB shows them.

    Raises:
        InputError: the file is damaged, or an array is missing or no array of numbers.
    """
    path = Path(path)
    if path.is_file() and h5py.is_hdf5(path):
        with open_hdf5(path) as file:
            return {name: numbers(file, name).T for name in names}
    try:
        found = scipy.io.loadmat(path, variable_names=list(names), verify_compressed_data_integrity=True)
    except Exception as error:  # a damaged file raises many kinds of error
        raise InputError(
            f"{path} cannot be read ({' '.join(str(error).split())}), expected a file of MATLAB"
        ) from error
    for name in names:
        if name not in found:
            raise InputError(f"{path} has no array {name!r}, expected {', '.join(names)}")
        if not isinstance(found[name], np.ndarray) or found[name].dtype.kind not in "biuf":
            raise InputError(f"{path}: {name} is no array of numbers, expected one")
    return {name: found[name] for name in names}
