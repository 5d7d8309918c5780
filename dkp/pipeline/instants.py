"""Reconstructed instants, kept in files until all are there, so that an interrupted command goes on."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from dkp.files import begin_folder, cannot_write, hold, whole_file

SETTINGS = "reconstruct.json"

Instant = dict[str, Any]
"""Arrays of a `dkp.reconstruction.Reconstruction` by name, of one instant, without the axis of time."""


class KeptInstants:
    """The first instants of a list, as far as they are reconstructed; removed where its ``with`` block ends well.

    Args:
        out: what is made of them in the end; they are kept beside it, in OUT.partial.
        settings: what they depend on, plain values.
        frames: ids of all that are wanted, in the order in which they are added.

    Attributes:
        instants: those that are there.

    Raises:
        InputError: they were begun with other settings, another process works on them, or the folder cannot be written.
    """

    def __init__(self, out: str | Path, settings: Mapping[str, Any], frames: Sequence[str]) -> None:
        self.folder = Path(f"{Path(out)}.partial")
        begin_folder(self.folder, settings, SETTINGS)
        self._held = hold(self.folder)
        self.instants: list[Instant] = []
        while (found := read(self._file())) and [one["frame"] for one in found] == list(
            frames[len(self.instants) : len(self.instants) + len(found)]
        ):
            self.instants += found

    def __enter__(self) -> KeptInstants:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._held is not None:
            os.close(self._held)
        if kind is None or not self.instants:
            shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, found: list[Instant]) -> None:
        """Keep the next ones."""
        if not found:
            return
        try:
            with whole_file(self._file()) as partial, partial.open("wb") as stream:
                columns: dict[str, Any] = {name: np.stack([one[name] for one in found]) for name in found[0]}
                np.savez(stream, **columns)
        except OSError as error:
            raise cannot_write(self._file(), error) from error
        self.instants += found

    def _file(self) -> Path:
        return self.folder / f"{len(self.instants):06d}.npz"


def read(path: Path) -> list[Instant]:
    """Return the instants of a file; none where there is no sound one."""
    try:
        with np.load(path, allow_pickle=False) as data:
            columns = {name: data[name] for name in data.files}
        return [{name: values[index] for name, values in columns.items()} for index in range(len(columns["frame"]))]
    except (OSError, KeyError, ValueError, IndexError, zipfile.BadZipFile):
        return []
