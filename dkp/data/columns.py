"""Named arrays that grow row by row, in memory or in .npy files that are mapped into memory."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike


class Column:
    """An array that grows, in memory.

    Args:
        shape: of a row.
        dtype: of its entries.

    Attributes:
        length: how many rows it has.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape, self.dtype = shape, dtype
        self.length = 0
        self._parts = [np.zeros((0, *shape), dtype)]

    def extend(self, rows: np.ndarray) -> None:
        """Put rows at the end.

        Raises:
            ValueError: they are of another shape or type.
        """
        if rows.shape[1:] != self.shape or rows.dtype != self.dtype:
            raise ValueError(f"rows of {rows.dtype} {rows.shape[1:]} where {self.dtype} {self.shape} are expected")
        self._add(rows)
        self.length += len(rows)

    def end(self) -> np.ndarray:
        """All rows as one array; nothing can be added any more."""
        whole = np.concatenate(self._parts)
        self._parts.clear()
        return whole

    def close(self) -> None:
        """Give up the column; without effect once it has ended."""
        self._parts.clear()

    def _add(self, rows: np.ndarray) -> None:
        self._parts.append(rows)


class FileColumn(Column):
    """An array that grows in a .npy file.

    Args:
        path: file to write.
        shape: of a row.
        dtype: of its entries.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        super().__init__(shape, dtype)
        self.path = path
        self._file = path.open("wb")
        self._start = self._head()

    def end(self) -> np.ndarray:
        """Bring all rows to the disk and map them into memory, read-only."""
        if self._head() != self._start:
            raise ValueError(f"{self.path}: the head of {self.length} rows is longer than that of none")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return mapped(self.path)

    def close(self) -> None:
        """Give up the file; without effect once it has ended."""
        with suppress(OSError):  # what is still to be written may not fit on the disk
            self._file.close()

    def _add(self, rows: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(rows).data)

    def _head(self) -> int:
        """Write the head, in which numpy leaves room for any number of rows, and return its length."""
        entry = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.length, *self.shape),
        }
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(self._file, entry)
        return self._file.tell()


class Columns:
    """Arrays by name.

    Args:
        folder: where each lies as NAME.npy; None = in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._growing: dict[str, Column] = {}
        self._ended: dict[str, np.ndarray] = {}

    def begin(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Begin an array without rows."""
        kind = np.dtype(dtype)
        self._growing[name] = (
            Column(shape, kind) if self.folder is None else FileColumn(self.folder / f"{name}.npy", shape, kind)
        )

    def length(self, name: str) -> int:
        """How many rows an array has."""
        return self._growing[name].length

    def append(self, name: str, row: np.ndarray | int) -> None:
        """Put one row at the end of an array."""
        self.extend(name, np.asarray(row)[None])

    def extend(self, name: str, rows: np.ndarray) -> None:
        """Put rows at the end of an array; they need its shape and type."""
        self._growing[name].extend(rows)

    def end(self) -> dict[str, np.ndarray]:
        """End the arrays that were begun, and return all."""
        for name in list(self._growing):
            self._ended[name] = self._growing[name].end()
            del self._growing[name]
        return dict(self._ended)

    def close(self) -> None:
        """Give up what has not ended."""
        for column in self._growing.values():
            column.close()


def mapped(path: Path) -> np.ndarray:
    """Return an array of a .npy file, mapped into memory and read-only.

    Raises:
        OSError, ValueError: the file is not there, is shorter than its head says, or is no such file.
    """
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return np.asarray(array)  # a plain array on the same memory: slices of a memmap are slow
