"""Tables of DeepLabCut and lightning-pose: a row a frame, columns by individual, body part and coordinate."""

from __future__ import annotations

import csv
import pickletools
from collections.abc import Sequence
from io import StringIO
from itertools import takewhile
from pathlib import Path

import h5py
import numpy as np

from dkp.captures.arrays import shown
from dkp.errors import InputError
from dkp.files import decoded
from dkp.importers.hdf5 import dataset, numbers, open_hdf5, words
from dkp.importers.keypoints.detections import Detections, collect
from dkp.importers.keypoints.openpose import number_in

_HEADS = ("scorer", "individuals", "bodyparts", "coords")


def read_csv(path: Path) -> Detections:
    """Read a CSV file whose first rows are scorer, (individuals,) bodyparts and coords.

    Raises:
        InputError: it is something else.
    """
    try:
        rows = [row for row in csv.reader(StringIO(decoded(path.read_bytes()), newline="")) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}), expected a CSV file of DeepLabCut") from error
    heads = list(takewhile(lambda row: row[0] in _HEADS, rows))
    kinds = [row[0] for row in heads]
    if kinds not in ([*_HEADS[:1], *_HEADS[2:]], list(_HEADS)) or len({len(row) for row in heads}) != 1:
        raise InputError(
            f"{path} begins with {shown(kinds)}, expected rows scorer, (individuals,) bodyparts and coords"
        )
    first = next((i for i, coord in enumerate(heads[-1]) if coord in ("x", "y", "likelihood")), len(heads[-1]))
    body = rows[len(heads) :]
    for line, row in enumerate(body, start=len(heads) + 1):
        if len(row) != len(heads[0]):
            raise InputError(f"{path}: row {line} has {len(row)} cells, expected {len(heads[0])} as the head")
    columns = list(zip(*(row[first:] for row in heads[1:]), strict=True))
    kept = [index for index, column in enumerate(columns) if column[-1] in ("x", "y", "likelihood")]
    try:
        values = [[float(row[first + index] or "nan") for index in kept] for row in body]
    except ValueError as error:
        raise InputError(f"{path}: {error}, expected a number or nothing in every cell") from None
    return _table(
        path, [columns[i] for i in kept], [row[first - 1] for row in body], np.array(values).reshape(-1, len(kept))
    )


def read_hdf5(path: Path) -> Detections:
    """Read the table in an HDF5 file, in either of the two forms in which pandas writes it.

    Raises:
        InputError: it is something else.
    """
    with open_hdf5(path) as file:
        tables = [group for group in file.values() if isinstance(group, h5py.Group) and "pandas_type" in group.attrs]
        if len(tables) != 1:
            raise InputError(f"{path} has {len(tables)} tables of pandas, expected one, as DeepLabCut writes it")
        group = tables[0]
        if "table" in group:
            rows = dataset(group, "table")[()]
            columns = _pickled_names(bytes(group["table"].attrs["values_block_0_kind"]), path)
            return _table(path, columns, rows["index"].tolist(), np.asarray(rows["values_block_0"], np.float64))
        columns = list(zip(*_levels(group, "block0_items"), strict=True))
        if "axis1" in group:
            text = group["axis1"].dtype.kind == "S"
            index = words(group, "axis1") if text else numbers(group, "axis1").tolist()
        else:
            index = _levels(group, "axis1")[-1]
        return _table(path, [column[1:] for column in columns], index, numbers(group, "block0_values"))


def _levels(group: h5py.Group, axis: str) -> list[list[str]]:
    """Return the words of every level of an axis, one an entry of the axis."""
    found = []
    for level in range(int(group.attrs[f"{axis}_nlevels"])):
        names, codes = words(group, f"{axis}_level{level}"), numbers(group, f"{axis}_label{level}")
        found.append([names[code] for code in codes])
    return found


def _pickled_names(content: bytes, path: Path) -> list[tuple[str, ...]]:
    """Return the words of the column names in a pickled list of tuples, which is read but not executed."""
    memo: dict[object, str] = {}
    found: list[tuple[str, ...]] = []
    row: list[str] = []
    last = ""
    for operation, argument, _ in pickletools.genops(content):
        if isinstance(argument, str) and "UNICODE" in operation.name:
            row.append(argument)
            last = argument
        elif operation.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo.setdefault(argument, last)
        elif operation.name == "MEMOIZE":
            memo.setdefault(len(memo), last)
        elif operation.name in ("GET", "BINGET", "LONG_BINGET"):
            row.append(memo.get(argument, ""))
        elif operation.name.startswith("TUPLE"):
            found.append(tuple(row[1:]))
            row = []
    if not found or any(len(names) not in (2, 3) for names in found):
        raise InputError(f"{path} has columns {shown(found)}, expected scorer, (individual,) body part and coordinate")
    return found


def _table(
    path: Path, columns: Sequence[tuple[str, ...]], index: Sequence[str | int], values: np.ndarray
) -> Detections:
    """Make detections of a table.

    Args:
        path: its file.
        columns: (individual,) body part and coordinate of each column.
        index: number or image of each row.
        values: (rows, columns).
    """
    if values.shape != (len(index), len(columns)) or not columns:
        raise InputError(f"{path} has values of shape {values.shape}, expected {(len(index), len(columns))}")
    where = {column: i for i, column in enumerate(columns)}
    individuals = list(dict.fromkeys(column[:-2] for column in columns))
    names = list(dict.fromkeys(column[-2] for column in columns))
    missing = np.full(len(values), np.nan)
    people = []
    for one in individuals:
        points = np.full((len(values), len(names), 3), np.nan)
        for k, name in enumerate(names):
            for c, coord in enumerate(("x", "y")):
                points[:, k, c] = values[:, where[*one, name, coord]] if (*one, name, coord) in where else missing
            sure = where.get((*one, name, "likelihood"))
            points[:, k, 2] = np.where(np.isfinite(points[:, k, 0]), 1.0, 0.0) if sure is None else values[:, sure]
        people.append(points)
    frames = (
        (
            number_in(Path(str(label)).stem, f"{path}: row {label}") if isinstance(label, str) else int(label),
            f"{path}: row {label}",
            [points[row].copy() for points in people],
        )
        for row, label in enumerate(index)
    )
    return collect(path, frames, tuple(names))
