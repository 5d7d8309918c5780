"""Greatest memory that a call takes beyond what its process held before."""

import gc
import sys
from collections.abc import Callable
from pathlib import Path

from dkp.errors import InputError


def peak_memory(call: Callable[[], object]) -> int:
    """Peak of the resident memory during a call minus that before it [bytes].

    Raises:
        InputError: The system keeps no peak that can be reset (anything but Linux).
    """
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        raise InputError(f"peak memory: found {sys.platform}, expected Linux, which lets a process reset its peak")
    gc.collect()
    reset.write_text("5")
    before = _entry(status, "VmRSS")
    call()
    return max(0, _entry(status, "VmHWM") - before)


def _entry(status: Path, name: str) -> int:
    for line in status.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise InputError(f"{status}: found no {name}, expected one as Linux writes it")
