"""Signals that end a command: it unwinds as it does after Ctrl-C, so that what it has started ends with it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]

received: list[int] = []
"""Numbers of the ending signals that this process has received, the first one first."""


def end(number: int, frame: Any) -> None:
    """Unwind the command at the first signal; later ones of the kind find it doing so.

    Raises:
        KeyboardInterrupt: for SIGINT, every time.
        SystemExit: for another signal, the first time, with the status 128 + number.
    """
    received.append(number)
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler raises where a worker is gone; they all go now
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if len(received) == 1:
        raise SystemExit(128 + number)


def install() -> dict[int, Any]:
    """Have ending signals unwind the command, but those that are ignored (nohup), and return what was done before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in (*ENDING, signal.SIGINT)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN and (number != signal.SIGINT or handler is signal.default_int_handler):
            signal.signal(number, end)
    return before


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Inside, ending signals unwind the command."""
    received.clear()
    before = install()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ending() -> tuple[str, int] | None:
    """Return what a command says that a signal has ended, and its status; None where no signal has come."""
    if not received:
        return None
    number = received[0]
    return ("interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"), 128 + number
