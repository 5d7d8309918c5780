"""Files that are whole at any moment: written under another name beside their own, and then renamed."""

import codecs
import contextlib
import errno
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dkp.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def decoded(content: bytes) -> str:
    """Return text in UTF-8, or in UTF-16 with a byte order mark, as spreadsheets write it.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    return content.decode("utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")


@contextlib.contextmanager
def whole_file(path: str | Path, shared: bool = False) -> Iterator[Path]:
    """Give the path of a new file to write, which becomes `path` at the end of the block.

    Where the block fails, or its process is killed, what was at `path` is still there as it was.

    Args:
        path: the file, in a folder that is there.
        shared: whether several processes may write it at once; each then writes a file of its own, and the last to end
            counts.

    Raises:
        OSError: the file cannot be renamed.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial{f'-{secrets.token_hex(4)}' if shared else ''}")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Give the path of a new folder to fill, which becomes `path` at the end of the block; a failure leaves none.

    Raises:
        InputError: there is something at `path` already, or it cannot be written.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} exists and is not empty, expected a new folder")
    partial = path.absolute().with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield partial
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def begin_folder(folder: Path, settings: Mapping[str, Any], file: str) -> None:
    """Make a folder, or find that it was begun with the same settings.

    Args:
        folder: that is worked on, over one call or several.
        settings: what the work depends on, plain values.
        file: name of the file in it that keeps them, ending in .json.

    Raises:
        InputError: it holds something else, or was begun with other settings.
    """
    path = folder / file
    if path.is_file():
        try:
            before = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path} cannot be read ({error}), expected what {folder} was begun with") from error
        for key, value in settings.items():
            if before.get(key) != value:
                raise InputError(
                    f"{folder} was begun with {key} {before.get(key)!r} where {value!r} is given: give another --out"
                )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and has no {file}, which tells what it was begun with; give another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    write_text(path, json.dumps(settings, indent=1) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all.

    Raises:
        InputError: the disk is full or the folder cannot be written.
    """
    try:
        with whole_file(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: str | Path, error: Exception, rest: str = "") -> InputError:
    """Return the error for a file that could not be written, such as on a full disk.

    Args:
        path: the file.
        error: what was raised.
        rest: the end of the sentence.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    if isinstance(cause, OSError) and cause.errno is not None:
        reason = os.strerror(cause.errno)
        if cause.errno == errno.ENOENT:
            reason = f"{reason}: {Path(path).parent} is gone"
    else:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"{path} cannot be written ({reason}){rest}")


def hold(folder: Path, patience: float = 0.0) -> int | None:
    """Lock a folder or a file for as long as this process lives, or until what is returned is closed.

    Args:
        folder: to be locked.
        patience: how long another process may still hold it [s]; the children of a killed one end a little later.

    Returns:
        A file descriptor; None where there is no such folder, or its file system knows no locks.

    Raises:
        InputError: another process holds the folder.
    """
    if fcntl is None:
        return None
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return number
        except BlockingIOError as error:
            if patience <= 0:
                os.close(number)
                raise InputError(f"{folder} is in use by another dkp, expected it to have ended") from error
            time.sleep(0.2)
            patience -= 0.2
        except OSError:
            os.close(number)
            return None


def move_aside(path: Path) -> None:
    """Give a file or folder that is there another name: NAME.1, NAME.2, ..."""
    if path.exists():
        count = 1
        while (older := path.with_name(f"{path.name}.{count}")).exists():
            count += 1
        path.rename(older)
