"""A folder of decoded captures: one folder for each, named by what it was made from."""

import hashlib
import json
import logging
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dkp.captures import Capture
from dkp.captures.manifest import CAPTURE_FILE, VIEWS_FILE
from dkp.data.columns import Columns, mapped
from dkp.errors import InputError
from dkp.files import hold

logger = logging.getLogger("dkp.data")

FORMAT = 1
"""Of a finished folder."""

DECODING = 2
"""What decoding means: to be raised whenever the same files and options give other arrays."""

DESCRIPTION = "cache.json"

LEFT_AFTER = 24 * 3600.0
"""What is not whole and was not written to for so long [s] was left behind by a process that was killed."""


@dataclass
class Stored:
    """What is stored of a capture.

    Attributes:
        arrays: by name.
        notes: what was found on the way, as JSON has it.
        folder: where the arrays lie, or None where they are in memory only.
    """

    arrays: dict[str, np.ndarray]
    notes: dict[str, Any]
    folder: Path | None = None


class Damaged(Exception):
    """A finished folder is not what its description says."""


def cache_key(capture: Capture, options: Mapping[str, Any], files: Iterable[str]) -> str:
    """Return a name for all that decides what is decoded.

    It changes with the options, the surface, the manifest and the list of views, the name, size and time of change of
    every file, the release of OpenCV, `FORMAT` and `DECODING`; not with the path of the capture.

    Args:
        capture: an open capture.
        options: plain values.
        files: what is read, relative to the capture; files may be missing.

    Returns:
        64 hexadecimal digits.
    """
    head = {"format": FORMAT, "decoding": DECODING, "opencv": cv2.__version__, **options}
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    surface = capture.surface
    for array in (surface.vertices, surface.faces, surface.face_part, surface.corner_uv):
        digest.update(f"\n{array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    for name in (CAPTURE_FILE, VIEWS_FILE):
        with (capture.path / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    root = str(capture.path)
    for name in files:
        try:
            found = os.stat(os.path.join(root, name))
            digest.update(f"\n{name} {found.st_size} {found.st_mtime_ns}".encode())
        except OSError:
            digest.update(f"\n{name} missing".encode())
    return digest.hexdigest()


def taken_or_made(
    folder: Path, key: Callable[[], str], write: Callable[[Columns], dict[str, Any]], name: str
) -> Stored:
    """Take what a folder has under a key; where it has nothing sound, make it.

    Several processes may do so at once, and each may be killed at any time: a folder bears the key's name only when it
    is whole.

    Args:
        folder: of all keys.
        key: gives the key; once more after the writing, so that what changed meanwhile is noticed.
        write: fills columns and returns the notes.
        name: of the data, for messages.

    Raises:
        InputError: the folder cannot be written, the disk is full, or the data changed while they were read.
    """
    path = folder / key()
    how = "taken from"
    try:
        stored = take(path)
    except Damaged:
        stored = None
    if stored is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with one_at_a_time(path.with_suffix(".lock")):
                stored = take_sound(path, name)
                if stored is None:
                    how = "written to"
                    stored = make(path, key, write, name)
        except OSError as error:
            raise InputError(
                f"the cache {folder} cannot be written ({error.strerror or error}), expected a folder with room for "
                f"the decoded views of {name}"
            ) from error
    size = sum(array.nbytes for array in stored.arrays.values())
    logger.info("%s: %.1f MB of decoded views %s the cache %s", name, size / 1e6, how, path)
    return stored


def take(path: Path) -> Stored | None:
    """Return what a finished folder holds, mapped into memory; None where there is no such folder.

    Raises:
        Damaged: it is not what its description says.
    """
    if not path.is_dir():
        return None
    try:
        description = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
        for name, size in description["bytes"].items():
            found = file_of(path, name).stat().st_size
            if found != size:
                raise Damaged(f"{name}.npy has {found} bytes, expected {size}")
        arrays = {name: mapped(file_of(path, name)) for name in description["bytes"]}
        return Stored(arrays, dict(description["notes"]), path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise Damaged(str(error)) from error


def reopened(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a folder that was taken before.

    Raises:
        InputError: it is no longer there, or is damaged.
    """
    problem = "it is not there"
    try:
        stored = take(path)
        if stored is not None:
            return stored.arrays
    except Damaged as error:
        problem = str(error)
    raise InputError(f"the cache {path} cannot be opened again ({problem}), expected it to stay during a run")


def take_sound(path: Path, name: str) -> Stored | None:
    """As `take`, but a damaged folder is removed with a warning."""
    try:
        return take(path)
    except Damaged as error:
        logger.warning("%s: the cache %s is damaged (%s), so it is made anew", name, path, error)
        aside = partial_of(path)
        with suppress(FileNotFoundError):  # another process was quicker
            path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
        return None


def make(path: Path, key: Callable[[], str], write: Callable[[Columns], dict[str, Any]], name: str) -> Stored:
    """Write a folder under another name, and give it its own when it is whole.

    Raises:
        OSError: it cannot be written.
        InputError: from `write`, or the data changed meanwhile.
    """
    remove_leftovers(path.parent)
    partial = partial_of(path)
    partial.mkdir()
    columns = Columns(partial)
    try:
        notes = write(columns)
        arrays = columns.end()
        description = {"bytes": {one: file_of(partial, one).stat().st_size for one in arrays}, "notes": notes}
        with (partial / DESCRIPTION).open("w", encoding="utf-8") as file:
            json.dump(description, file)
            file.flush()
            os.fsync(file.fileno())
        if key() != path.name:
            raise InputError(f"{name} changed while it was read, expected files that stay as they are")
        try:
            partial.rename(path)
        except OSError:
            if not path.is_dir():  # otherwise another process was quicker
                raise
        stored = take(path)
    except Damaged as error:
        raise OSError(str(error)) from error
    finally:
        columns.close()
        shutil.rmtree(partial, ignore_errors=True)
    if stored is None:
        raise OSError(f"{path.name} has vanished")
    return stored


def file_of(folder: Path, name: str) -> Path:
    """Return the file of an array."""
    return folder / f"{name}.npy"


def partial_of(path: Path) -> Path:
    """Return a new name beside a folder, for what is not whole."""
    return path.with_suffix(f".partial-{secrets.token_hex(8)}")


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed have left."""
    for partial in folder.glob("*.partial-*"):
        with suppress(OSError):
            if time.time() - max(path.stat().st_mtime for path in (partial, *partial.iterdir())) > LEFT_AFTER:
                shutil.rmtree(partial)


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Wait until no other process is in here with the same path, where the file system can tell.

    It saves work and room, nothing more: without it all of them write, and the first to end is taken by the others.
    """
    path.touch()
    held = hold(path, patience=math.inf)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        if held is not None:
            os.close(held)
