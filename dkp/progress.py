"""How far work is: bars on a terminal, and a line now and then where the output is a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress as Bars, TextColumn, TimeElapsedColumn

FIRST = 10.0
"""Time of a piece of work until its first line [s]; each further line comes after as long again ..."""

LONGEST = 300.0
"""... but at least after so long [s]."""

Show = Callable[[int, int | None], None]
"""Takes how many units are done and how many there are, 0 and None where that is not known."""


class Progress:
    """Shows how far pieces of work are, inside its ``with`` block.

    Args:
        console: where.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = TextColumn("{task.description:<8}"), BarColumn(), TextColumn("{task.fields[state]}")
        self._bars = Bars(*columns, TimeElapsedColumn(), console=console, refresh_per_second=1)

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._bars.stop()

    def say(self, line: str) -> None:
        """Print a line."""
        self.console.print(line, soft_wrap=True, highlight=False, markup=False)

    @contextmanager
    def shown(self, title: str, unit: str = "step", rate: bool = False) -> Iterator[Show]:
        """Show a piece of work inside the block, which says now and then how far it is and how long it still takes.

        The time left is that of what is left at the speed since the first unit that was seen.

        Args:
            title: of the work.
            unit: what is counted.
            rate: whether to say how many of them are done a second.
        """
        bar = self._bars.add_task(title, total=None, state="runs")
        began = time.monotonic()
        due = FIRST
        first: tuple[int, float] | None = None

        def show(done: int, total: int | None) -> None:
            nonlocal due, first
            seconds = time.monotonic() - began
            if done and first is None:
                first = done, seconds
            speed = 0.0 if first is None else (done - first[0]) / max(seconds - first[1], 1e-9)
            said = f", {speed:.2g} {unit}s a second" if rate and speed else ""
            said += f", about {(total - done) / speed / 60:.1f} minutes left" if speed and total else ""
            self._bars.update(bar, completed=done, total=total, state=f"{unit} {done}{said}" if done else "runs")
            if seconds >= due and not self.console.is_terminal:
                due = seconds + min(seconds, LONGEST)
                where = f"{unit} {done} of {total}" if done else "runs"
                self.say(f"{title}: {where}, {seconds / 60:.1f} minutes{said}")

        try:
            yield show
        finally:
            self._bars.remove_task(bar)
        if time.monotonic() - began >= FIRST:
            self.say(f"{title}: done, {(time.monotonic() - began) / 60:.1f} minutes")
