"""Files of cameras that are named by a pattern, such as ``cam{camera}/frame_{frame}.png``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dkp.errors import InputError
from dkp.importers.media.names import match_entries

_FIELDS = {"camera": r"[^/]+?", "frame": r"\d+"}


def files_by_pattern(pattern: str | Path, cameras: Sequence[str]) -> dict[str, tuple[Path, dict[int, Path] | None]]:
    """Find the files of every camera.

    Args:
        pattern: a path with ``{camera}``, which stands for a camera's name as `match_names` compares it, and for images
            with ``{frame}``, the number of the frame; ``*`` stands for anything.
        cameras: camera names.

    Returns:
        Camera name -> what the pattern is for this camera, and the images by number; None where that is one file or
        folder.

    Raises:
        InputError: the pattern fits nothing, one number comes twice, or a camera has no files.
    """
    words = Path(pattern).absolute().as_posix()
    fields = re.findall(r"\{(\w*)\}", words)
    if not set(fields) <= _FIELDS.keys():
        raise InputError(f"{pattern} has {{{sorted(set(fields) - _FIELDS.keys())[0]}}}, expected {{camera}}, {{frame}}")
    found: dict[str, dict[int, Path]] = {}
    expression = _expression(words)
    start = Path(re.split(r"[{*]", words)[0]).parent
    wanted = words[len(start.as_posix()) :].lstrip("/").replace("[", "[[]")
    for path in sorted(start.glob(re.sub(r"(\{\w+\}|\*)+", "*", wanted))):
        fits = expression.fullmatch(path.as_posix())
        if fits is None:
            continue
        images = found.setdefault(fits["camera"], {})
        number = int(fits["frame"]) if "frame" in fields else 0
        if number in images:
            raise InputError(f"{pattern} fits {images[number]} and {path}, expected one file for each camera and frame")
        images[number] = path
    if not found:
        raise InputError(f"{pattern} fits no file, expected files of {', '.join(cameras)}")
    matched = match_entries(Path(pattern), cameras, "files", [Path(name) for name in found])
    result: dict[str, tuple[Path, dict[int, Path] | None]] = {}
    for name in cameras:
        images = found[matched[name].name]
        whole = Path(words.replace("{camera}", matched[name].name))
        result[name] = (whole, dict(sorted(images.items()))) if "frame" in fields else (images[0], None)
    return result


def _expression(words: str) -> re.Pattern[str]:
    """Return what matches a path, with the groups camera and frame; where one comes again, it has to be the same."""
    parts, seen = [], set()
    for part in re.split(r"(\{\w+\}|\*)", words):
        field = part[1:-1]
        if part == "*":
            parts.append("[^/]*")
        elif part.startswith("{") and field in seen:
            parts.append(f"(?P={field})")
        elif part.startswith("{"):
            parts.append(f"(?P<{field}>{_FIELDS[field]})")
            seen.add(field)
        else:
            parts.append(re.escape(part))
    return re.compile("".join(parts))
