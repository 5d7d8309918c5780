"""MATLAB's files of version 5: numbers, words, cells and structures; every length is checked, and nothing is run.

SciPy's reader trusts the lengths in a file: a damaged one ends the process. The layout is that of MATLAB's document
"MAT-File Format".
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from dkp.errors import InputError

_LARGEST = 2**30  # bytes of a part of a file, once unpacked
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _PACKED = 14, 15
_CELL, _STRUCT, _CHAR, _NUMERIC = 1, 2, 4, range(6, 16)


class Opaque:
    """An object, a function or another value that is not read."""


def read_version_5(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Read variables of a file.

    Args:
        path: the file.
        names: of the variables.

    Returns:
        Name -> array of numbers as MATLAB shows it, word, list of a cell array's cells in MATLAB's order, dict of a
        structure's fields (a list of such where there are several), or `Opaque`.

    Raises:
        InputError: the file is damaged or of another kind, or a variable is missing.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}), expected a file of MATLAB") from error
    if len(content) < 128 or not content.startswith(b"MATLAB"):
        found_instead = f"{len(content)} bytes that begin with {content[:12]!r}"
        raise InputError(f"{path} cannot be read ({found_instead}), expected a file of MATLAB, of version 5 or later")
    order = ">" if content[126:128] == b"MI" else "<"
    found: dict[str, Any] = {}
    try:
        for kind, data in _elements(content[128:], order):
            for inner, part in _elements(_unpacked(data), order) if kind == _PACKED else [(kind, data)]:
                if inner == _MATRIX and (name := _head(part, order)[2]) in names:
                    found[name] = _value(part, order)
    except (ValueError, LookupError, OverflowError, RecursionError, zlib.error, struct.error) as error:
        raise InputError(f"{path} is damaged ({' '.join(str(error).split())}), expected a file of MATLAB") from error
    for name in names:
        if name not in found:
            raise InputError(f"{path} has no array {name!r}, expected {', '.join(names)}")
    return found


def _unpacked(data: bytes) -> bytes:
    unpack = zlib.decompressobj()
    found = unpack.decompress(data, _LARGEST)
    if unpack.unconsumed_tail:
        raise ValueError(f"a part unpacks to more than {_LARGEST} bytes")
    return found


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and content of the elements that lie one after the other."""
    at = 0
    while at + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        start = at + 8
        if kind >> 16:  # up to four bytes lie in the tag itself
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
            at += 8
        else:
            at = start + size + (0 if kind == _PACKED else -size % 8)
        if size > (4 if start + 4 == at else len(content) - start):
            raise ValueError(f"a part has {size} bytes, more than there are")
        yield kind, content[start : start + size]


def _head(part: bytes, order: str) -> tuple[int, tuple[int, ...], str, list[tuple[int, bytes]]]:
    """Return class, dimensions and name of a matrix, and the elements that follow."""
    (_, flags), (_, shape), (_, name), *rest = _elements(part, order)
    dimensions = tuple(np.frombuffer(shape, f"{order}i4").tolist())
    if any(n < 0 for n in dimensions):
        raise ValueError(f"an array has the dimensions {dimensions}")
    word = struct.unpack_from(f"{order}I", flags)[0]
    if word & 0x800:
        raise ValueError("an array has complex numbers")
    return word & 0xFF, dimensions, name.decode("latin-1"), rest


def _value(part: bytes, order: str) -> Any:
    if not part:  # an empty cell
        return np.zeros((0, 0))
    kind, shape, _, rest = _head(part, order)
    if kind in _NUMERIC:
        return _array(*rest[0], order).reshape(shape, order="F")
    if kind == _CHAR:
        code, data = rest[0]
        return data.decode("utf-8") if code in (1, 2, 16) else "".join(map(chr, _array(4, data, order).tolist()))
    if kind not in (_CELL, _STRUCT):
        return Opaque()
    fields = 1
    names: list[str] = []
    if kind == _STRUCT:
        length = int(np.frombuffer(rest[0][1], f"{order}i4")[0])
        text = rest[1][1]
        names = [text[i : i + length].split(b"\0")[0].decode("latin-1") for i in range(0, len(text), max(length, 1))]
        rest, fields = rest[2:], len(names)
    if prod(shape) * fields != len(rest) or any(code != _MATRIX for code, _ in rest):
        raise ValueError(f"an array of {shape} has {len(rest)} values")
    values = [_value(data, order) for _, data in rest]
    if kind == _CELL:
        return values
    structures = [dict(zip(names, values[i * fields :][:fields], strict=True)) for i in range(prod(shape))]
    return structures[0] if len(structures) == 1 else structures


def _array(code: int, data: bytes, order: str) -> np.ndarray[Any, Any]:
    kind = np.dtype(f"{order}{_NUMBERS[code]}")
    return np.frombuffer(data, kind).astype(kind.newbyteorder("="))
