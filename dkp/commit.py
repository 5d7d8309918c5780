"""Which code is running."""

import subprocess
from functools import cache
from pathlib import Path

from dkp import __version__


@cache
def commit() -> str:
    """Return the commit of the code, with "+" where files differ; dkp's version where there is no repository."""
    folder = Path(__file__).resolve().parent
    try:
        options = {"cwd": folder, "capture_output": True, "text": True, "check": True}
        tracked = subprocess.run(["git", "ls-files", Path(__file__).name], **options)  # type: ignore[call-overload]
        name = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], **options)  # type: ignore[call-overload]
        changed = subprocess.run(  # type: ignore[call-overload]
            ["git", "status", "--porcelain", "--untracked-files=no", "--", "../dkp", "../configs"], **options
        )
    except (OSError, subprocess.CalledProcessError):
        return f"dkp {__version__}"
    if not tracked.stdout.strip():
        return f"dkp {__version__}"
    return f"{name.stdout.strip()}{'+' if changed.stdout.strip() else ''}"
