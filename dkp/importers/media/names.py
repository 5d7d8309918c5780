"""Which file or folder belongs to which camera, by their names."""

import json
import logging
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from dkp.errors import InputError

logger = logging.getLogger(__name__)


Paths = str | Path | Sequence[str | Path] | Mapping[str, str | Path]


def match_names(
    given: Paths,
    cameras: Sequence[str],
    kind: str,
    accept: Callable[[Path], bool] = Path.exists,
) -> dict[str, Path]:
    """Find each camera's path, from the root: a worker may work in another folder.

    A file or folder belongs to a camera when their names are equal once case, separators and leading zeros of numbers
    are dropped ("Cam-01.mp4", "cam_1"); failing that, when it is the only one whose name contains the camera's
    ("cam01_json", "session_cam1.mp4"). Where that leaves a camera without a path, the names of all cameras together
    are tried in two more ways: every camera's name contains the name of one file ("int_cam01_img", "cam01.mp4"); or
    names are equal without what all of the cameras', and all of the files', have in common ("A", "vid1-camA.mp4").
    What is given for each camera is taken so, with a warning where its name is another camera's.

    Args:
        given: a folder, a list in the order of the cameras, or camera name -> path.
        cameras: camera names.
        kind: what is looked for, for messages.
        accept: which entries of the folder count.

    Raises:
        InputError: a camera has no path, or more than one.
    """
    if isinstance(given, Mapping):
        for name in cameras:
            if name not in given:
                raise InputError(f"camera {name!r} has no path, expected {kind} for every camera")
        for name in given:
            if name not in cameras:
                raise InputError(f"{name!r} is given {kind} but is no camera, expected one of {', '.join(cameras)}")
        return _doubted({name: Path(given[name]).absolute() for name in cameras}, kind)
    if not isinstance(given, str | Path):
        paths = [Path(path).absolute() for path in given]
        if len(paths) != len(cameras):
            raise InputError(f"{len(paths)} paths are given for {len(cameras)} cameras, expected {kind} for each")
        return _doubted(dict(zip(cameras, paths, strict=True)), kind)
    folder = Path(given).absolute()
    if not folder.is_dir():
        raise InputError(
            f"{folder} is {'a file' if folder.exists() else 'not there'}, expected a folder with {kind} per camera"
        )
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and accept(path))
    return match_entries(folder, cameras, kind, entries)


def _doubted(given: dict[str, Path], kind: str) -> dict[str, Path]:
    """Warn where the names of the files say another order than they are given in."""
    try:
        named = match_entries(Path(), list(given), kind, list(given.values()))
    except InputError:
        return given
    for name, path in given.items():
        if named[name] != path:
            logger.warning(
                "%s is taken for camera %r, but by the names that would be %s: is the order that of the cameras (%s)?",
                path.name, name, named[name].name, ", ".join(given),
            )  # fmt: skip
            break
    return given


def match_entries(where: Path, cameras: Sequence[str], kind: str, entries: Sequence[Path]) -> dict[str, Path]:
    """Find each camera's entry by its name, as `match_names` does.

    Args:
        where: the entries lie, for messages.
        cameras: camera names.
        kind: what is looked for, for messages.
        entries: of which each camera has one.

    Raises:
        InputError: a camera has no entry, or more than one.
    """
    try:
        return _by_own_name(where, cameras, kind, entries)
    except InputError:
        found = _by_all_names(cameras, entries)
        if found is None:
            raise
        return found


def _by_own_name(folder: Path, cameras: Sequence[str], kind: str, entries: Sequence[Path]) -> dict[str, Path]:
    words = {path: _words(_stem(path)) for path in entries}
    found: dict[str, Path] = {}
    for name in cameras:
        wanted = _words(name)
        candidates = [path for path in entries if words[path] == wanted]
        if not candidates:
            candidates = [path for path in entries if _contains(words[path], wanted)]
        if len(candidates) != 1:
            names = ", ".join(path.name for path in (candidates or entries)[:8]) or "nothing"
            raise InputError(
                f"{folder} has {names} for camera {name!r}, expected {kind} with its name, or the paths in the "
                f"order of the cameras ({', '.join(cameras[:8])}{', ...' if len(cameras) > 8 else ''}): "
                f"{_in_order(entries, cameras)}{_some(cameras, list(words.values()))}"
            )
        if candidates[0] in found.values():
            raise InputError(f"{candidates[0]} fits camera {name!r} and another one, expected {kind} for each")
        found[name] = candidates[0]
    return found


def _by_all_names(cameras: Sequence[str], entries: Sequence[Path]) -> dict[str, Path] | None:
    """Return the only assignment in which every camera's name contains a file's, or what sets them apart is equal."""
    names, stems = {name: _words(name) for name in cameras}, {path: _words(_stem(path)) for path in entries}
    inside = {name: [path for path in entries if stems[path] and _contains(names[name], stems[path])] for name in names}
    apart = _told_apart(list(cameras))
    files = _told_apart([_stem(path) for path in entries])
    equal = {
        name: [path for path, own in zip(entries, files, strict=True) if own and own == mine]
        for name, mine in zip(cameras, apart, strict=True)
    }
    for candidates in (inside, equal):
        if all(len(found) == 1 for found in candidates.values()):
            chosen = {name: found[0] for name, found in candidates.items()}
            if len(set(chosen.values())) == len(cameras):
                return chosen
    return None


def _told_apart(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the words of every name without what all of them begin and end with; numbers are not cut in two."""
    plain = [unicodedata.normalize("NFC", name).lower() for name in names]
    start = _common_start(plain)
    rest = [name[start:] for name in plain]
    end = _common_start([name[::-1] for name in rest])
    return [_words(name[: len(name) - end]) for name in rest]


def _common_start(names: Sequence[str]) -> int:
    """Return the number of characters with which all names begin, without digits at their end."""
    common = [letters[0] for letters in takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))]
    return len("".join(common).rstrip("0123456789"))


def _in_order(entries: Sequence[Path], cameras: Sequence[str]) -> str:
    """Return what to write where the names say nothing; only an example where their numbers differ."""
    shown = [path.as_posix() for path in entries] if len(entries) == len(cameras) else ["FIRST", "SECOND", "..."]
    return "'[" + ", ".join(f'"{path}"' for path in shown) + "]'"


def _some(cameras: Sequence[str], words: Sequence[tuple[str, ...]]) -> str:
    """Return how to leave out the cameras that have no entry, where others have one each."""
    have = [name for name in cameras if sum(_contains(own, _words(name)) for own in words) == 1]
    return f"; or as cameras those that have one: '{json.dumps(have, ensure_ascii=False)}'" if len(have) > 1 else ""


def _stem(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _words(name: str) -> tuple[str, ...]:
    plain = unicodedata.normalize("NFC", name).lower()
    return tuple(word.lstrip("0") or "0" for word in re.findall(r"\d+|[^\W\d_]+", plain))


def _contains(words: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    return any(words[i : i + len(wanted)] == wanted for i in range(len(words) - len(wanted) + 1))
