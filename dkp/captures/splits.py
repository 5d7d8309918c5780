"""Which captures and splits are meant: PATH or PATH#SPLIT, one or several, also by a pattern."""

from glob import glob
from pathlib import Path

from dkp.errors import InputError

Captures = str | list[str] | None
SPLIT_MARK = "#"


def all_captures(captures: Captures) -> list[str]:
    """One capture, several or none, as a list; a pattern with * or ? stands for all folders that match, in order.

    Raises:
        InputError: Nothing matches a pattern.
    """
    found: list[str] = []
    for capture in [captures] if isinstance(captures, str) else captures or []:
        path, mark, split = capture.rpartition(SPLIT_MARK) if SPLIT_MARK in capture else (capture, "", "")
        if not {"*", "?"} & set(path):
            found.append(capture)
            continue
        matching = sorted(one for one in glob(path) if Path(one).is_dir())
        if not matching:
            raise InputError(f"no folder matches the pattern {path}, expected captures")
        found += [f"{one}{mark}{split}" for one in matching]
    return found


def split_of(capture: str, role: str) -> tuple[str, str | None]:
    """PATH or PATH#SPLIT as path and split; PATH# means all instants (None).

    Where a mark is part of a folder's name, the path is the longest one that is there.
    """
    path, mark, split = capture.partition(SPLIT_MARK)
    if capture and Path(capture).is_dir():
        return capture, role
    longest, _, last = capture.rpartition(SPLIT_MARK)
    if longest and Path(longest).is_dir():
        path, split = longest, last
    return path, (split or None) if mark else role
