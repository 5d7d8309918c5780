"""How far the stages are: bars on a terminal, and a line now and then where the output is a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

FIRST = 10.0
"""Time of a stage until its first line [s]; each further line comes after as long again ..."""

LONGEST = 300.0
"""... but at least after so long [s]."""

Show = Callable[[int, int | None], None]
"""Takes the steps that are done and the steps in all, 0 and None where they are not known."""


class Progress:
    """Shows how far stages are, inside its ``with`` block.

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
    def shown(self, title: str) -> Iterator[Show]:
        """Show a stage inside the block, which says now and then how far it is.

        Args:
            title: of the stage.
        """
        bar = self._bars.add_task(title, total=None, state="runs")
        began = time.monotonic()
        due = FIRST

        def show(steps: int, total: int | None) -> None:
            nonlocal due
            self._bars.update(bar, completed=steps, total=total, state=f"step {steps}" if steps else "runs")
            seconds = time.monotonic() - began
            if seconds >= due and not self.console.is_terminal:
                due = seconds + min(seconds, LONGEST)
                where = f"step {steps} of {total}" if steps else "runs"
                self.say(f"{title}: {where}, {seconds / 60:.1f} minutes")

        try:
            yield show
        finally:
            self._bars.remove_task(bar)
        if time.monotonic() - began >= FIRST:
            self.say(f"{title}: done, {(time.monotonic() - began) / 60:.1f} minutes")
